//! Delays against their published formulas, in floating point and in numbers that do not overflow.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;
use crate::rng::Rng;

const MS: Duration = Duration::from_millis(1);
const JITTERS: [Jitter; 5] = [
    Jitter::None,
    Jitter::Full,
    Jitter::Equal,
    Jitter::Decorrelated,
    Jitter::SmoothDecorrelated,
];

fn config() -> ProptestConfig {
    ProptestConfig {
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::with_cases(1_000)
    }
}

/// How the delay before jitter grows, in whole numbers without bounds.
#[derive(Clone, Copy, Debug)]
enum Model {
    Constant,
    Linear,
    Exponential(u32),
    /// A function that leaps, shrinks, and exceeds the cap.
    Custom,
}

const MODELS: [Model; 6] = [
    Model::Constant,
    Model::Linear,
    Model::Exponential(1),
    Model::Exponential(2),
    Model::Exponential(3),
    Model::Custom,
];

fn custom(retry: u32) -> u64 {
    u64::from(retry).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (retry % 64)
}

impl Model {
    fn recipe(self, base: u64, cap: u64) -> Backoff {
        let (base, cap) = (Duration::from_nanos(base), Duration::from_nanos(cap));
        match self {
            Self::Constant => Backoff::constant(base),
            Self::Linear => Backoff::linear(base, cap).unwrap(),
            Self::Exponential(factor) => Backoff::exponential(base, cap)
                .and_then(|backoff| backoff.with_factor(factor.into()))
                .unwrap(),
            Self::Custom => Backoff::from_fn(cap, |n| Duration::from_nanos(custom(n))),
        }
    }

    /// The delay before the `retry`-th retry, cap applied.
    fn expo(self, base: u64, cap: u64, retry: u32) -> u64 {
        let (base, cap) = (u128::from(base), u128::from(cap));
        let delay = match self {
            Self::Constant => return base as u64,
            Self::Linear => base * u128::from(retry),
            Self::Exponential(factor) => {
                let mut delay = base;
                for _ in 1..retry {
                    delay = (delay * u128::from(factor)).min(cap);
                }
                delay
            }
            Self::Custom => custom(retry).into(),
        };
        delay.min(cap) as u64
    }

    fn cap(self, base: u64, cap: u64) -> u64 {
        if let Self::Constant = self { base } else { cap }
    }
}

fn models() -> impl Strategy<Value = Model> {
    proptest::sample::select(&MODELS)
}

/// A base, and a cap at least as long: both of any order of magnitude.
fn base_and_cap() -> impl Strategy<Value = (u64, u64)> {
    let length = || (0..53_u32, any::<u64>()).prop_map(|(bits, n)| 1 + (n & ((1 << bits) - 1)));
    (length(), length()).prop_map(|(a, b)| (a.min(b), a.max(b)))
}

fn randoms() -> impl Strategy<Value = Vec<u64>> {
    let random = prop_oneof![8 => any::<u64>(), 1 => Just(0), 1 => Just(u64::MAX)];
    proptest::collection::vec(random, 1..80)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn without_jitter_a_delay_is_what_its_formula_says(
        model in models(), (base, cap) in base_and_cap(), retries in 1..200_u32,
    ) {
        let backoff = model.recipe(base, cap).with_jitter(Jitter::None);
        let mut delays = backoff.delays();
        for retry in 1..=retries {
            let expo = model.expo(base, cap, retry);
            prop_assert_eq!(delays.next(7), Duration::from_nanos(expo), "retry {}", retry);
        }
    }

    #[test]
    fn no_delay_leaves_the_bounds_of_its_jitter(
        model in models(), (base, cap) in base_and_cap(), randoms in randoms(),
    ) {
        let cap_of_all = model.cap(base, cap);
        for jitter in JITTERS {
            let backoff = model.recipe(base, cap).with_jitter(jitter);
            prop_assert_eq!(backoff.cap(), Duration::from_nanos(cap_of_all));
            let mut delays = backoff.delays();
            let first = model.expo(base, cap, 1);
            let mut previous = first;
            for (retry, &random) in (1..).zip(&randoms) {
                let delay = nanos(delays.next(random));
                let expo = model.expo(base, cap, retry);
                let (least, most) = match jitter {
                    Jitter::None => (expo, expo),
                    Jitter::Full => (0, expo),
                    Jitter::Equal => (expo / 2, expo),
                    Jitter::Decorrelated => (
                        first.min(cap_of_all),
                        previous.max(first).saturating_mul(3).min(cap_of_all),
                    ),
                    // What it is within these, `jitter_tests` has.
                    Jitter::SmoothDecorrelated => (0, cap_of_all),
                };
                prop_assert!((least..=most).contains(&delay), "{jitter:?}: {delay}");
                previous = delay;
            }
        }
    }

    #[test]
    fn the_jitters_are_those_that_aws_published(
        (base, cap) in base_and_cap(), randoms in randoms(),
    ) {
        let recipe = Model::Exponential(2).recipe(base, cap);
        let (base, cap) = (base as f64, cap as f64);
        let between = |low: f64, high: f64, random: u64| {
            low + (high - low) * (random as f64 / 2_f64.powi(64))
        };
        // Whole nanoseconds, and halves of odd numbers of them.
        let is_near = |delay: Duration, published: f64| {
            (nanos(delay) as f64 - published).abs() <= 3.0 + published * 1e-9
        };

        let full = recipe.clone().with_jitter(Jitter::Full);
        let equal = recipe.clone().with_jitter(Jitter::Equal);
        let decorrelated = recipe.with_jitter(Jitter::Decorrelated);
        let mut delays = (full.delays(), equal.delays(), decorrelated.delays());
        let mut sleep = base;
        for (attempt, &random) in randoms.iter().enumerate() {
            // sleep = random_between(0, min(cap, base * 2 ** attempt))
            let temp = cap.min(base * 2_f64.powi(attempt as i32));
            prop_assert!(is_near(delays.0.next(random), between(0.0, temp, random)));
            // sleep = temp / 2 + random_between(0, temp / 2)
            let published = temp / 2.0 + between(0.0, temp / 2.0, random);
            prop_assert!(is_near(delays.1.next(random), published));
            // sleep = min(cap, random_between(base, sleep * 3))
            let published = cap.min(between(base, sleep * 3.0, random));
            let delay = delays.2.next(random);
            prop_assert!(is_near(delay, published));
            sleep = nanos(delay) as f64;
        }
    }

    #[test]
    fn a_fraction_as_a_factor_grows_as_in_floating_point(
        factor in 1.0..20.0_f64, (base, cap) in base_and_cap(), retry in 1..60_u32,
    ) {
        let backoff = Model::Exponential(2).recipe(base, cap).with_factor(factor).unwrap();
        let mut position = Position { retry: retry - 1, previous: 0 };
        let delay = nanos(backoff.with_jitter(Jitter::None).next(&mut position, 0)) as f64;
        let expo = (base as f64 * factor.powf(f64::from(retry - 1))).min(cap as f64);
        prop_assert!((delay - expo).abs() <= 1.0 + expo * 1e-12, "{delay} is not {expo}");
    }
}

#[test]
fn callers_that_failed_together_do_not_come_back_together() {
    let backoff = Backoff::exponential(100 * MS, 10_000 * MS).unwrap();
    let rng = Rng::new(Some(7));
    let mut first: Vec<_> = (0..50).map(|_| backoff.delays().next(rng.draw())).collect();
    first.sort();
    first.dedup();
    assert_eq!(first.len(), 50, "two of 50 callers wait alike");
    // They are spread over the whole width, not crowded in a part of it.
    for tenth in 0..10 {
        let part = 10 * MS * tenth..10 * MS * (tenth + 1);
        assert!(first.iter().any(|delay| part.contains(delay)), "{tenth}");
    }
}

#[test]
fn each_delay_of_a_sequence_is_drawn_anew() {
    let backoff = Backoff::constant(1000 * MS);
    let rng = Rng::new(Some(7));
    let mut delays = backoff.delays();
    let mut drawn: Vec<_> = (0..50).map(|_| delays.next(rng.draw())).collect();
    drawn.sort();
    drawn.dedup();
    assert_eq!(drawn.len(), 50);
}

#[test]
fn the_shortest_and_the_longest_delay_can_be_drawn() {
    let ns = Duration::from_nanos;
    let first = |jitter, random| {
        let backoff = Backoff::constant(ns(10)).with_jitter(jitter);
        backoff.delays().next(random)
    };
    assert_eq!(first(Jitter::Full, 0), ns(0));
    assert_eq!(first(Jitter::Full, u64::MAX), ns(10));
    assert_eq!(first(Jitter::Equal, 0), ns(5));
    assert_eq!(first(Jitter::Equal, u64::MAX), ns(10));
    let backoff = Backoff::exponential(ns(10), ns(100)).unwrap();
    let backoff = backoff.with_jitter(Jitter::Decorrelated);
    assert_eq!(backoff.delays().next(0), ns(10));
    assert_eq!(backoff.delays().next(u64::MAX), ns(30));
}

#[test]
fn a_function_is_asked_for_each_retry_from_the_first_and_is_capped() {
    let backoff = Backoff::from_fn(35 * MS, |retry| 10 * MS * retry);
    let mut delays = backoff.delays();
    let first: Vec<_> = (0..5).map(|_| delays.next(u64::MAX)).collect();
    assert_eq!(first, [10 * MS, 20 * MS, 30 * MS, 35 * MS, 35 * MS]);
}

#[test]
fn nothing_overflows_however_long_it_goes_on() {
    let recipes = [
        Backoff::constant(Duration::MAX),
        Backoff::linear(MS, Duration::MAX).unwrap(),
        Backoff::exponential(MS, Duration::MAX).unwrap(),
        Backoff::from_fn(Duration::MAX, |_| Duration::MAX),
    ];
    for recipe in recipes {
        for jitter in JITTERS {
            let recipe = recipe.clone().with_jitter(jitter);
            for retry in [0, 1, 1023, 1024, u32::MAX - 1, u32::MAX] {
                let previous = u64::MAX;
                let _ = recipe.next(&mut Position { retry, previous }, u64::MAX);
            }
        }
    }
}

#[test]
fn a_huge_number_of_retries_stays_at_the_cap() {
    let cap = 250 * MS;
    let recipes = [
        Backoff::linear(MS, cap).unwrap(),
        Backoff::exponential(MS, cap).unwrap(),
        Backoff::exponential(MS, cap)
            .unwrap()
            .with_factor(1000.0)
            .unwrap(),
    ];
    for recipe in recipes {
        let recipe = recipe.with_jitter(Jitter::None);
        for retry in [300, 1023, 1024, 1_000_000, u32::MAX - 1, u32::MAX] {
            let mut position = Position { retry, previous: 0 };
            assert_eq!(recipe.next(&mut position, 0), cap, "{recipe:?} at {retry}");
        }
    }
}

#[test]
fn no_backoff_is_no_delay() {
    let backoff = Backoff::none();
    let mut delays = backoff.delays();
    assert!((0..100).all(|_| delays.next(u64::MAX).is_zero()));
}

#[test]
fn settings_that_cannot_work_are_refused_by_name() {
    let error = Backoff::exponential(Duration::ZERO, MS).unwrap_err();
    assert_eq!(error.setting(), "backoff.base");
    let error = Backoff::linear(Duration::ZERO, MS).unwrap_err();
    assert_eq!(error.setting(), "backoff.step");
    let error = Backoff::exponential(2 * MS, MS).unwrap_err();
    assert_eq!(error.setting(), "backoff.cap");
    for factor in [0.5, f64::NAN, f64::INFINITY] {
        let backoff = Backoff::exponential(MS, MS).unwrap();
        let error = backoff.with_factor(factor).unwrap_err();
        assert_eq!(error.setting(), "backoff.factor");
        assert_eq!(error.allowed(), "in 1..=1000");
    }
    let error = Backoff::constant(MS).with_factor(2.0).unwrap_err();
    assert_eq!(error.setting(), "backoff.factor");
}
