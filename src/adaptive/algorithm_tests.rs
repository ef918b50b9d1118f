//! The algorithms against the formulas that they are told by, and in the situations that they are for.

use std::time::Duration;

use proptest::prelude::*;

use super::{
    Aimd, Bbr, Correlated, EnvoyGradient, Gradient, Gradient2, LittlesLaw, Sampling, Vegas,
    Windows,
    jitter::Jitter,
    limit::{Limit, Sample},
};
use crate::window::tests::config;

const SEED: u64 = 7;

fn secs(secs: f64) -> Duration {
    Duration::from_secs_f64(secs)
}

/// A sample of one call.
fn sample(latency: f64, in_flight: u32) -> Sample {
    Sample {
        elapsed: secs(0.1),
        latency: Some(secs(latency)),
        min_latency: Some(secs(latency)),
        measured: 1,
        completed: 1,
        in_flight,
        ..Sample::default()
    }
}

fn dropped(in_flight: u32) -> Sample {
    Sample {
        latency: None,
        dropped: 1,
        ..sample(0.0, in_flight)
    }
}

fn samples(most: usize) -> impl Strategy<Value = Vec<Sample>> {
    let latency = prop_oneof![
        (1..400_u64).prop_map(Duration::from_millis),
        (1..3_000_u64).prop_map(Duration::from_micros),
        Just(Duration::ZERO),
        Just(Duration::from_secs(3_600)),
    ];
    let one = (
        proptest::option::weighted(0.9, latency),
        prop_oneof![4 => Just(0), 1 => 1..30_u32],
        (
            0..60_u32,
            1..60_u32,
            prop_oneof![1 => Just(0), 4 => 1..60_u32],
            any::<bool>(),
        ),
        0..400_u64,
    );
    let one = one.prop_map(
        |(latency, dropped, (in_flight, measured, completed, limited), ms)| Sample {
            latency,
            min_latency: latency,
            mean_latency: latency,
            measured,
            completed,
            dropped,
            in_flight,
            turned_away: 0,
            limited,
            elapsed: Duration::from_millis(ms),
            now: Duration::ZERO,
        },
    );
    proptest::collection::vec(one, 0..most).prop_map(|mut samples| {
        let mut now = Duration::ZERO;
        for sample in &mut samples {
            now += sample.elapsed;
            sample.now = now;
        }
        samples
    })
}

/// Plays samples to an algorithm and to its formula, within bounds as the layer has them.
fn assert_follows(
    samples: &[Sample],
    mut algorithm: impl Limit,
    mut formula: impl FnMut(f64, &Sample) -> f64,
) -> Result<(), TestCaseError> {
    let mut limit = 20.0;
    for sample in samples {
        let (next, expected) = (algorithm.next(limit, sample), formula(limit, sample));
        let is_near = (next - expected).abs() <= 1e-9 * expected.abs();
        prop_assert!(is_near, "{next} for {expected}, of {limit} and {sample:?}");
        prop_assert!(next.is_finite());
        limit = next.clamp(1.0, 1000.0);
    }
    Ok(())
}

/// Plays samples to an algorithm that does not grow while nothing is completed.
fn assert_follows_where_it_may(
    samples: &[Sample],
    algorithm: impl Limit,
    mut formula: impl FnMut(f64, &Sample) -> f64,
) -> Result<(), TestCaseError> {
    assert_follows(samples, algorithm, |limit, sample| {
        match formula(limit, sample) {
            more if more > limit && sample.completed == 0 => limit,
            next => next,
        }
    })
}

fn positive(latency: Duration) -> f64 {
    latency.as_secs_f64().max(1e-9)
}

/// Netflix's table: 1 below 100, 2 below 1000, 3 at 1000.
fn table(limit: f64) -> f64 {
    match limit as u32 {
        0..=99 => 1.0,
        100..=999 => 2.0,
        _ => 3.0,
    }
}

proptest! {
    #![proptest_config(config(100))]

    #[test]
    fn aimd_follows_its_formula(samples in samples(200)) {
        assert_follows_where_it_may(&samples, Aimd::default(), |limit, sample| {
            let is_late = sample.latency.is_some_and(|latency| latency.as_secs() >= 5);
            if sample.dropped > 0 || is_late {
                (0.9 * limit).floor()
            } else if f64::from(sample.in_flight * 2) >= limit {
                limit + 1.0
            } else {
                limit
            }
        })?;
    }

    #[test]
    fn vegas_follows_its_formula(samples in samples(1_000)) {
        let mut jitter = Jitter::seeded(SEED);
        let mut factor = None;
        let (mut count, mut base) = (0, f64::INFINITY);
        assert_follows_where_it_may(&samples, Vegas::default().seed(SEED), |limit, sample| {
            let l = table(limit);
            let Some(latency) = sample.latency.map(positive) else {
                return if sample.dropped > 0 { limit - l } else { limit };
            };
            count += 1;
            let due = *factor.get_or_insert_with(|| 0.5 + jitter.uniform() / 2.0) * 30.0 * limit;
            if f64::from(count) >= due {
                (count, base) = (0, latency);
                factor = Some(0.5 + jitter.uniform() / 2.0);
                return limit;
            }
            if latency < base {
                base = latency;
                return limit;
            }
            let queue = (limit - limit * base / latency).ceil();
            let change = if sample.dropped > 0 {
                -1.0
            } else if f64::from(sample.in_flight * 2) < limit {
                0.0
            } else if queue <= l {
                6.0
            } else if queue < 3.0 * l {
                1.0
            } else if queue <= 6.0 * l {
                0.0
            } else {
                -1.0
            };
            limit + change * l
        })?;
    }

    #[test]
    fn gradient_follows_its_formula(samples in samples(300)) {
        let algorithm = Gradient::default().probe_interval(40).unwrap().seed(SEED);
        let mut jitter = Jitter::seeded(SEED);
        let mut left: Option<i64> = None;
        let mut base: Option<f64> = None;
        assert_follows_where_it_may(&samples, algorithm, |limit, sample| {
            let queue = limit.sqrt().floor().max(4.0);
            let Some(latency) = sample.latency.map(positive) else {
                let less = 0.8 * limit + 0.2 * 0.9 * limit;
                return if sample.dropped > 0 { less.max(queue) } else { limit };
            };
            let mut draw = || 40 + (40.0 * jitter.uniform()) as i64;
            let count = left.get_or_insert_with(&mut draw);
            *count -= 1;
            if *count < 0 {
                (left, base) = (Some(draw()), None);
                return queue;
            }
            let least = base.map_or(latency, |base: f64| base.min(latency));
            base = Some(least);
            let next = if sample.dropped > 0 {
                0.9 * limit
            } else if f64::from(sample.in_flight * 2) < limit {
                return limit;
            } else {
                limit * (2.0 * least / latency).clamp(0.5, 1.0) + queue
            };
            let smoothed = if next < limit { 0.8 * limit + 0.2 * next } else { next };
            smoothed.max(queue)
        })?;
    }

    #[test]
    fn gradient2_follows_its_formula(samples in samples(300)) {
        let (mut first, mut long) = (Vec::new(), 0.0);
        assert_follows_where_it_may(&samples, Gradient2::default(), |limit, sample| {
            let Some(short) = sample.latency.map(positive) else { return limit };
            if first.len() < 10 {
                first.push(short);
                long = first.iter().sum::<f64>() / first.len() as f64;
            } else {
                long = long * (599.0 / 601.0) + short * (2.0 / 601.0);
            }
            let gradient = (1.5 * long / short).clamp(0.5, 1.0);
            if long > 2.0 * short {
                long *= 0.95;
            }
            if f64::from(sample.in_flight * 2) < limit {
                return limit;
            }
            0.8 * limit + 0.2 * (gradient * limit + 4.0)
        })?;
    }

    #[test]
    fn envoy_follows_its_formula(samples in samples(300)) {
        let interval = secs(5.0);
        let algorithm = EnvoyGradient::default().interval(interval, 0.15).unwrap().seed(SEED);
        let mut jitter = Jitter::seeded(SEED);
        // The limit before, and a latency for each call; else what was measured, until when.
        let mut measuring: Option<(f64, Vec<f64>)> = None;
        let mut measured: Option<(f64, f64)> = None;
        let mut in_a_row = 0;
        assert_follows(&samples, algorithm, |limit, sample| {
            let latency = sample.latency.map(positive);
            if let Some((before, calls)) = &mut measuring {
                calls.extend(latency.into_iter().flat_map(|it| vec![it; sample.measured as usize]));
                if calls.len() < 50 {
                    return 3.0;
                }
                calls.sort_by(f64::total_cmp);
                let base = calls[(calls.len() - 1) / 2];
                let until = sample.now.as_secs_f64() + 5.0 * (1.0 + 0.15 * jitter.uniform());
                let before = *before;
                (measuring, measured, in_a_row) = (None, Some((base, until)), 0);
                return before;
            }
            let Some((base, until)) = measured else {
                measuring = Some((limit, Vec::new()));
                return 3.0;
            };
            if sample.now >= secs(until) {
                measuring = Some((limit, Vec::new()));
                return 3.0;
            }
            let Some(latency) = latency else { return limit };
            let scaled = limit * (1.25 * base / latency).clamp(0.5, 2.0);
            let next = (scaled + scaled.sqrt()).floor().max(3.0);
            in_a_row = if limit <= 3.0 && next == 3.0 { in_a_row + 1 } else { 0 };
            if in_a_row == 5 {
                measuring = Some((limit, Vec::new()));
                return 3.0;
            }
            next
        })?;
    }

    #[test]
    fn littles_law_follows_its_formula(samples in samples(200)) {
        let algorithm = LittlesLaw::target(secs(0.05)).unwrap();
        assert_follows(&samples, algorithm, |limit, sample| {
            let elapsed = sample.elapsed.as_secs_f64();
            if sample.dropped > 0 {
                0.9 * limit
            } else if sample.limited && sample.completed > 0 && elapsed > 0.0 {
                0.8 * limit + 0.2 * (f64::from(sample.completed) * 0.05 / elapsed)
            } else {
                limit
            }
        })?;
    }

    #[test]
    fn bbr_follows_its_formula(samples in samples(200)) {
        let mut seen: Vec<(Duration, f64, Option<Duration>)> = Vec::new();
        let algorithm = Bbr::when(|sample| sample.limited);
        assert_follows(&samples, algorithm, |limit, sample| {
            seen.retain(|(at, ..)| sample.now - *at <= secs(10.0));
            let elapsed = sample.elapsed.as_secs_f64();
            if elapsed > 0.0 {
                let throughput = f64::from(sample.completed) / elapsed;
                seen.push((sample.now, throughput, sample.min_latency));
            }
            if !sample.limited {
                return f64::MAX;
            }
            let throughput = seen.iter().map(|(_, throughput, _)| *throughput).fold(0.0, f64::max);
            match seen.iter().filter_map(|(.., latency)| *latency).min() {
                Some(latency) if throughput > 0.0 => {
                    (throughput * latency.as_secs_f64()).floor() + 1.0
                }
                _ => limit,
            }
        })?;
    }

    #[test]
    fn the_guard_lowers_the_limit_exactly_where_pearson_says(samples in samples(200)) {
        struct Still;
        impl Limit for Still {
            fn next(&mut self, limit: f64, _: &Sample) -> f64 {
                limit
            }
        }
        let mut seen: Vec<[f64; 3]> = Vec::new();
        assert_follows(&samples, Correlated::new(Still), |limit, sample| {
            if let (Some(latency), false) = (sample.latency, sample.elapsed.is_zero()) {
                let throughput = f64::from(sample.completed) / sample.elapsed.as_secs_f64();
                seen.push([sample.in_flight.into(), throughput, positive(latency)]);
            }
            let last = &seen[seen.len().saturating_sub(50)..];
            let count = last.len() as f64;
            let mean = |of: usize| last.iter().map(|it| it[of]).sum::<f64>() / count;
            let moment = |one: usize, other: usize| {
                let (a, b) = (mean(one), mean(other));
                last.iter().map(|it| (it[one] - a) * (it[other] - b)).sum::<f64>() / count
            };
            let spread = |of: usize| match mean(of) {
                0.0 => 0.0,
                mean => moment(of, of).sqrt() / mean,
            };
            let r = |one: usize, other: usize| {
                if spread(one) < 0.01 || spread(other) < 0.01 {
                    return 0.0;
                }
                moment(one, other) / (moment(one, one) * moment(other, other)).sqrt()
            };
            let is_too_much = last.len() >= 10
                && sample.limited
                && (r(0, 1) < 0.0
                    || r(0, 1) < 0.3 && r(0, 2) > 0.5
                    || spread(1) / spread(0) < 0.2 && r(0, 2) > 0.5);
            if is_too_much { limit - table(limit) } else { limit }
        })?;
    }
}

/// Each algorithm that raises its limit by itself, seeded.
fn climbers() -> Vec<(&'static str, Box<dyn Limit>)> {
    vec![
        ("aimd", Box::new(Aimd::default())),
        ("vegas", Box::new(Vegas::default().seed(SEED))),
        ("gradient", Box::new(Gradient::default().seed(SEED))),
        ("gradient2", Box::new(Gradient2::default())),
        ("little", Box::new(LittlesLaw::target(secs(0.1)).unwrap())),
    ]
}

#[test]
fn a_limit_that_is_not_used_does_not_grow() {
    for (name, mut algorithm) in climbers() {
        let mut limit = 20.0;
        for _ in 0..200 {
            limit = algorithm.next(limit, &sample(0.001, 1));
        }
        assert!(limit <= 20.0, "{name}: {limit}");
    }
}

#[test]
fn a_limit_that_is_used_grows_while_the_latency_is_as_it_was() {
    for (name, mut algorithm) in climbers() {
        let mut limit = 20.0_f64;
        for _ in 0..50 {
            let used = Sample {
                limited: true,
                completed: 100,
                ..sample(0.01, limit as u32)
            };
            limit = algorithm.next(limit, &used);
        }
        assert!(limit > 30.0, "{name}: {limit}");
    }
}

#[test]
fn what_heeds_drops_lowers_its_limit_by_them() {
    for (name, mut algorithm) in climbers() {
        algorithm.next(20.0, &sample(0.01, 20));
        let next = algorithm.next(20.0, &dropped(20));
        assert_eq!(next < 20.0, name != "gradient2", "{name}: {next}");
    }
}

#[test]
fn a_service_that_has_become_slower_for_good_is_not_kept_at_the_least_limit() {
    for (name, mut algorithm) in climbers() {
        let mut limit = 50.0_f64;
        for _ in 0..100 {
            limit = algorithm.next(limit, &sample(0.001, limit as u32)).max(1.0);
        }
        for _ in 0..2_000 {
            let in_flight = limit as u32;
            let throughput = Sample {
                limited: true,
                completed: 10 * in_flight, // ten milliseconds each, a tenth of a second
                ..sample(0.01, in_flight)
            };
            limit = algorithm.next(limit, &throughput).clamp(1.0, 1000.0);
        }
        assert!(limit > 20.0, "{name}: {limit}");
    }
}

#[test]
fn envoy_measures_at_three_and_returns_to_where_it_was() {
    let mut algorithm = EnvoyGradient::default().seed(SEED);
    let of = |measured, latency, in_flight| Sample {
        measured,
        ..sample(latency, in_flight)
    };
    assert_eq!(algorithm.next(20.0, &of(25, 0.05, 20)), 3.0);
    assert_eq!(algorithm.next(3.0, &of(49, 0.01, 3)), 3.0, "one is wanting");
    assert_eq!(algorithm.next(3.0, &of(1, 0.01, 3)), 20.0);
    assert_eq!(
        algorithm.next(20.0, &of(25, 0.0125, 20)),
        24.0,
        "twenty and its root"
    );
    assert_eq!(
        algorithm.next(20.0, &of(25, 1.0, 20)),
        13.0,
        "a half, and its root"
    );
    let late = Sample {
        now: secs(69.0),
        ..of(25, 0.01, 20)
    };
    assert_eq!(algorithm.next(20.0, &late), 3.0, "it is measured anew");
}

#[test]
fn envoy_measures_again_when_it_has_been_at_its_least_five_times() {
    let mut algorithm = EnvoyGradient::default().requests(1).unwrap().seed(SEED);
    algorithm.next(20.0, &sample(0.01, 1));
    let mut limit = algorithm.next(3.0, &sample(0.01, 1));
    let mut limits = Vec::new();
    for _ in 0..20 {
        limit = algorithm.next(limit, &sample(0.1, 3));
        limits.push(limit);
    }
    let least = limits.iter().skip_while(|limit| **limit > 3.0);
    let at_least = least.take_while(|limit| **limit == 3.0).count();
    // One comes down to it, five stay there, and one is what is measured.
    assert_eq!(at_least, 7, "{limits:?}");
    assert!(limit > 3.0, "what the service takes is the base now");
}

#[test]
fn settings_out_of_their_range_are_refused_by_name() {
    let zero = Duration::ZERO;
    let refused = [
        Aimd::default().backoff_ratio(0.4).unwrap_err(),
        Aimd::default().backoff_ratio(1.0).unwrap_err(),
        Aimd::default().backoff_ratio(f64::NAN).unwrap_err(),
        Aimd::default().max_latency(zero).unwrap_err(),
        Vegas::default().smoothing(0.0).unwrap_err(),
        Vegas::default().smoothing(f64::NAN).unwrap_err(),
        Vegas::default().probe_multiplier(0.9).unwrap_err(),
        Gradient::default().tolerance(f64::INFINITY).unwrap_err(),
        Gradient::default().smoothing(1.1).unwrap_err(),
        Gradient::default().probe_interval(0).unwrap_err(),
        Gradient2::default().tolerance(0.0).unwrap_err(),
        Gradient2::default().smoothing(-1.0).unwrap_err(),
        Gradient2::default().long_window(0).unwrap_err(),
        EnvoyGradient::default().buffer(0.0).unwrap_err(),
        EnvoyGradient::default().min_concurrency(0).unwrap_err(),
        EnvoyGradient::default().interval(zero, 0.0).unwrap_err(),
        EnvoyGradient::default()
            .interval(secs(1.0), f64::NAN)
            .unwrap_err(),
        EnvoyGradient::default().requests(0).unwrap_err(),
        LittlesLaw::target(zero).unwrap_err(),
        LittlesLaw::target(secs(1.0))
            .unwrap()
            .smoothing(2.0)
            .unwrap_err(),
    ];
    let names = refused.map(|error| error.setting());
    let expected = [
        "backoff_ratio",
        "backoff_ratio",
        "backoff_ratio",
        "max_latency",
        "smoothing",
        "smoothing",
        "probe_multiplier",
        "tolerance",
        "smoothing",
        "probe_interval",
        "tolerance",
        "smoothing",
        "long_window",
        "buffer",
        "min_concurrency",
        "interval",
        "interval_jitter",
        "requests",
        "target",
        "smoothing",
    ];
    assert_eq!(names, expected);
}

#[test]
fn windows_that_cannot_work_are_refused_by_name() {
    let ms = Duration::from_millis;
    let windows = Windows::default;
    let refused = [
        ("length", windows().length(ms(0), ms(1))),
        ("length", windows().length(ms(2), ms(1))),
        ("least_calls", windows().least_calls(0)),
        ("quantile", windows().quantile(0.0)),
        ("quantile", windows().quantile(1.1)),
        ("quantile", windows().quantile(f64::NAN)),
    ];
    for (name, windows) in refused {
        assert_eq!(Sampling::from(windows).check().unwrap_err().setting(), name);
    }
    assert!(
        Sampling::from(windows().length(ms(1), ms(1)))
            .check()
            .is_ok()
    );
}

#[test]
fn chance_is_the_same_for_the_same_seed_and_uniform() {
    let draw = |seed| {
        let mut jitter = Jitter::seeded(seed);
        (0..10_000).map(|_| jitter.uniform()).collect::<Vec<_>>()
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
    for part in 0..10 {
        let bounds = f64::from(part) / 10.0..f64::from(part + 1) / 10.0;
        let hits = draw(3).into_iter().filter(|it| bounds.contains(it)).count();
        assert!(hits.abs_diff(1_000) < 150, "{part}: {hits}");
    }
}
