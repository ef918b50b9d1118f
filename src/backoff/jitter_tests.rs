//! What a jitter makes of many draws: bounds, means and medians as the published formulas have them, and
//! that no caller's delays tell anything about another's.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;
use crate::rng::Rng;

const DRAWS: u32 = 100_000;
const JITTERS: [Jitter; 4] = [
    Jitter::Full,
    Jitter::Equal,
    Jitter::Decorrelated,
    Jitter::SmoothDecorrelated,
];

/// Doubling from a second, with a cap that none of the first delays comes near.
fn doubling(jitter: Jitter) -> Backoff {
    let (base, cap) = (Duration::from_secs(1), Duration::from_secs(1_000_000));
    Backoff::exponential(base, cap).unwrap().with_jitter(jitter)
}

/// The delays before the first `N` retries of so many callers, in seconds, retry by retry.
fn drawn<const N: usize>(backoff: &Backoff, seed: u64) -> [Vec<f64>; N] {
    let rng = Rng::new(Some(seed));
    let mut all = [const { Vec::new() }; N];
    for _ in 0..DRAWS {
        let mut delays = backoff.delays();
        for drawn in &mut all {
            drawn.push(delays.next(rng.draw()).as_secs_f64());
        }
    }
    all
}

fn mean(draws: &[f64]) -> f64 {
    draws.iter().sum::<f64>() / draws.len() as f64
}

fn deviation(draws: &[f64]) -> f64 {
    let mean = mean(draws);
    let squares: Vec<_> = draws.iter().map(|draw| (draw - mean).powi(2)).collect();
    self::mean(&squares).sqrt()
}

fn median(mut draws: Vec<f64>) -> f64 {
    draws.sort_by(f64::total_cmp);
    draws[draws.len() / 2]
}

/// Of two columns of draws, between -1 and 1.
fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let (mean_a, mean_b) = (mean(a), mean(b));
    let products: Vec<_> = a
        .iter()
        .zip(b)
        .map(|(a, b)| (a - mean_a) * (b - mean_b))
        .collect();
    mean(&products) / deviation(a) / deviation(b)
}

/// Five standard errors of the mean.
fn tolerance(draws: &[f64]) -> f64 {
    5.0 * deviation(draws) / f64::from(DRAWS).sqrt()
}

/// Polly's curve, by `sinh` and `cosh` and a power.
fn curve(t: f64) -> f64 {
    let root = 2.0 * t.sqrt();
    2_f64.powf(t) * root.sinh() / root.cosh()
}

/// The mean of `f` over `0..1`, by the midpoints of many parts.
fn over_unit(f: impl Fn(f64) -> f64) -> f64 {
    const PARTS: u32 = 20_000;
    let midpoints = (0..PARTS).map(|part| (f64::from(part) + 0.5) / f64::from(PARTS));
    midpoints.map(f).sum::<f64>() / f64::from(PARTS)
}

#[test]
fn the_mean_of_each_retry_is_that_of_its_published_formula() {
    for jitter in JITTERS {
        let draws = drawn::<5>(&doubling(jitter), 42);
        let mut before = None;
        for (retry, draws) in (0..).zip(&draws) {
            let expo = 2_f64.powi(retry);
            let published = match jitter {
                Jitter::Full => expo / 2.0,
                Jitter::Equal => expo * 0.75,
                // A number between the base and three times the one before, which starts at the base.
                Jitter::Decorrelated => (1.0 + 3.0 * before.unwrap_or(1.0)) / 2.0,
                _ => {
                    let of = |retry| over_unit(|u| curve(f64::from(retry) + u));
                    let grown_before = if retry == 0 { 0.0 } else { of(retry - 1) };
                    (of(retry) - grown_before) / 1.4
                }
            };
            let (mean, tolerance) = (mean(draws), tolerance(draws));
            let is_near = (mean - published).abs() < tolerance;
            assert!(
                is_near,
                "{jitter:?}, retry {retry}: {mean} is not {published}"
            );
            before = Some(published);
        }
    }
}

#[test]
fn the_retries_of_the_smooth_one_come_near_one_two_four_and_eight_in_the_median() {
    let mut elapsed = vec![0.0; DRAWS as usize];
    for (retry, delays) in (0..).zip(drawn::<6>(&doubling(Jitter::SmoothDecorrelated), 7)) {
        elapsed
            .iter_mut()
            .zip(delays)
            .for_each(|(elapsed, delay)| *elapsed += delay);
        let drawn = median(elapsed.clone());
        let published = curve(f64::from(retry) + 0.5) / 1.4;
        assert!(
            (drawn / published - 1.0).abs() < 0.02,
            "{drawn} is not {published}"
        );
        let whole = 2_f64.powi(retry);
        assert!(
            (drawn / whole - 1.0).abs() < 0.11,
            "{drawn} is far from {whole}"
        );
    }
}

#[test]
fn no_delay_tells_anything_about_that_of_another_caller() {
    // Five standard deviations of a correlation of independent columns.
    let tolerance = 5.0 / f64::from(DRAWS).sqrt();
    for jitter in JITTERS {
        let backoff = doubling(jitter);
        let (mut one, mut other) = ([const { Vec::new() }; 3], [const { Vec::new() }; 3]);
        // Callers of one layer, who draw in turns.
        let rng = Rng::new(Some(3));
        for _ in 0..DRAWS {
            let (mut ours, mut theirs) = (backoff.delays(), backoff.delays());
            for retry in 0..3 {
                one[retry].push(ours.next(rng.draw()).as_secs_f64());
                other[retry].push(theirs.next(rng.draw()).as_secs_f64());
            }
        }
        // And a caller of a layer with the next seed.
        let elsewhere = drawn::<3>(&backoff, 4);
        for retry in 0..3 {
            for other in [&other[retry], &elsewhere[retry]] {
                let found = correlation(&one[retry], other);
                assert!(
                    found.abs() < tolerance,
                    "{jitter:?}, retry {retry}: {found}"
                );
            }
        }
    }
}

#[test]
fn what_one_retry_waits_tells_about_the_next_only_where_that_is_the_point() {
    let tolerance = 5.0 / f64::from(DRAWS).sqrt();
    for jitter in JITTERS {
        let [first, second] = drawn::<2>(&doubling(jitter), 11);
        let found = correlation(&first, &second);
        match jitter {
            Jitter::Decorrelated => assert!(found > 0.3, "it grows from the delay before: {found}"),
            // Together they are what the curve has grown to, whatever the first had.
            Jitter::SmoothDecorrelated => assert!(found < -0.3, "{found}"),
            _ => assert!(found.abs() < tolerance, "{jitter:?}: {found}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::with_cases(500)
    })]

    #[test]
    fn the_smooth_one_is_what_polly_published_and_stays_within_its_bounds(
        base in 1_000..10_u64.pow(12),
        cap in prop_oneof![Just(u64::MAX), 10_u64.pow(12)..10_u64.pow(15)],
        randoms in proptest::collection::vec(any::<u64>(), 1..40),
    ) {
        let ns = Duration::from_nanos;
        let backoff = Backoff::exponential(ns(base), ns(cap)).unwrap();
        let backoff = backoff.with_jitter(Jitter::SmoothDecorrelated);
        let mut delays = backoff.delays();
        let mut before = 0.0;
        for (attempt, random) in (0_u32..).zip(randoms) {
            let attempt = f64::from(attempt);
            let grown = curve(attempt + random as f64 / 2_f64.powi(64));
            let published = |now: f64| ((now - before) * base as f64 / 1.4).min(cap as f64);
            let delay = nanos(delays.next(random)) as f64;
            let (least, most) = (published(curve(attempt)), published(curve(attempt + 1.0)));
            let slack = 2.0 + grown * base as f64 * 1e-12;
            prop_assert!((delay - published(grown)).abs() <= slack, "{delay}, retry {attempt}");
            prop_assert!(least - slack <= delay && delay <= most + slack);
            prop_assert!(delay <= cap as f64);
            before = grown;
        }
    }
}

#[test]
fn the_smooth_one_stays_at_its_cap_once_its_curve_is_infinite() {
    let cap = Duration::from_secs(60);
    let backoff = Backoff::exponential(Duration::from_millis(1), cap).unwrap();
    let backoff = backoff.with_jitter(Jitter::SmoothDecorrelated);
    let mut delays = backoff.delays();
    let all: Vec<_> = (0..3_000).map(|_| delays.next(u64::MAX / 2)).collect();
    assert!(
        all[20..].iter().all(|delay| *delay == cap),
        "beyond 2^1024 too"
    );
    assert!(all[..5].iter().all(|delay| *delay < cap));
}
