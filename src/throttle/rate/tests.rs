//! The rate against botocore's formulas, line by line; the turns against a bucket.

use proptest::{prelude::*, test_runner::RngSeed};

use super::{
    learner::{Asked, Bounds, Learner},
    pace::{Gap, Pace},
};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::with_cases(cases)
    }
}

const BOUNDS: Bounds = Bounds {
    min_rate: 0.5,
    burst: SECOND,
    max_wait: 0,
    forget_after: u64::MAX,
};

/// `CubicCalculator`, `RateClocker` and `ClientRateLimiter` of botocore, in seconds.
struct Botocore {
    w_max: f64,
    k: f64,
    last_fail: f64,
    max_rate: f64,
    is_enabled: bool,
    measured_rate: f64,
    last_bucket: f64,
    count: f64,
}

impl Botocore {
    const fn new() -> Self {
        Self {
            w_max: 0.0,
            k: 0.0,
            last_fail: 0.0,
            max_rate: 1.0,
            is_enabled: false,
            measured_rate: 0.0,
            last_bucket: 0.0,
            count: 0.0,
        }
    }

    fn record(&mut self, t: f64) -> f64 {
        let bucket = (t * 2.0).floor() / 2.0;
        self.count += 1.0;
        if bucket > self.last_bucket {
            let current_rate = self.count / (bucket - self.last_bucket);
            self.measured_rate = current_rate * 0.8 + self.measured_rate * (1.0 - 0.8);
            self.count = 0.0;
            self.last_bucket = bucket;
        }
        // Ours: there it would be zero.
        if self.measured_rate == 0.0 {
            return self.count / 0.5;
        }
        self.measured_rate
    }

    fn receive(&mut self, is_throttled: bool, t: f64) {
        let measured_rate = self.record(t);
        let new_rate = if is_throttled {
            let rate_to_use = if self.is_enabled {
                measured_rate.min(self.max_rate)
            } else {
                measured_rate
            };
            self.w_max = rate_to_use;
            self.k = (self.w_max * (1.0 - 0.7) / 0.4).powf(1.0 / 3.0);
            self.last_fail = t;
            self.is_enabled = true;
            rate_to_use * 0.7
        } else {
            let dt = t - self.last_fail;
            0.4 * (dt - self.k).powf(3.0) + self.w_max
        };
        self.max_rate = new_rate.min(2.0 * measured_rate);
        // What its bucket makes of it.
        self.max_rate = self.max_rate.max(0.5);
    }
}

/// How long it is from one answer to the next.
fn later() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0..5 * MS,
        4 => 0..200 * MS,
        1 => 0..3 * SECOND,
        1 => Just(SECOND / 2),
    ]
}

proptest! {
    #![proptest_config(config(500))]

    /// Of calls that are made one after the other, so that each throttling answer counts.
    #[test]
    fn the_rate_is_that_of_botocore(
        answers in prop::collection::vec((later(), prop::bool::weighted(0.1)), 1..400),
    ) {
        let (learner, mut model) = (Learner::new(BOUNDS), Botocore::new());
        let mut now = 0;
        for (later, is_throttled) in answers {
            now += later;
            model.receive(is_throttled, now as f64 / 1e9);
            if is_throttled {
                prop_assert!(learner.throttled(learner.phase(), now));
            } else {
                learner.accepted(now);
            }
            let expected = model.is_enabled.then_some(model.max_rate);
            match (learner.limit(), expected) {
                (Some(rate), Some(expected)) => {
                    prop_assert!((rate / expected - 1.0).abs() < 1e-6, "{rate}, not {expected}");
                }
                (rate, expected) => prop_assert_eq!(rate, expected),
            }
            if model.measured_rate > 0.0 {
                let ratio = learner.measured_rate() / model.measured_rate;
                prop_assert!((ratio - 1.0).abs() < 1e-9);
            }
        }
    }

    /// A bucket that holds what may go early and one call more, and may be owed to.
    #[test]
    fn turns_are_those_of_a_bucket(
        gap in 1..100 * MS,
        burst in prop_oneof![Just(0), 0..SECOND],
        steps in prop::collection::vec((0..4_u32, 0..30 * MS, 0..300 * MS), 1..200),
    ) {
        let gap = Gap { nanos: gap, early: burst };
        let capacity = i128::from(gap.nanos + gap.early);
        let (pace, mut now, mut saved) = (Pace::new(), 10 * SECOND, capacity);
        let mut to_give_back = Vec::new();
        for (act, later, most) in steps {
            now += later;
            saved = capacity.min(saved + i128::from(later));
            if act == 0 {
                // Those that are to come are still the layer's to take back.
                if let Some(turn) = to_give_back.pop() {
                    pace.give_back(turn);
                    saved = capacity.min(saved + i128::from(gap.nanos));
                }
                continue;
            }
            let wait = (i128::from(gap.nanos) - saved).max(0) as u64;
            let asked = pace.take(gap, now, now + most);
            if wait > most {
                prop_assert_eq!(asked, Err(now + wait));
                continue;
            }
            let turn = asked.unwrap();
            prop_assert_eq!(turn.at.saturating_sub(now), wait);
            saved -= i128::from(gap.nanos);
            to_give_back.push(turn);
        }
    }

    /// Whoever gives his turn back, and when: another has it later.
    #[test]
    fn in_no_time_more_calls_go_than_have_turns(
        gap in MS..100 * MS,
        burst in prop_oneof![Just(0), 0..SECOND],
        steps in prop::collection::vec((0..60 * MS, any::<bool>(), any::<prop::sample::Index>()), 1..200),
    ) {
        let gap = Gap { nanos: gap, early: burst };
        let (pace, mut now) = (Pace::new(), 10 * SECOND);
        let (mut gone, mut back) = (Vec::new(), Vec::new());
        for (later, gives_back, which) in steps {
            now += later;
            gone.extend(pace.take(gap, now, now + SECOND).map(|turn| (turn.at.max(now), turn)));
            let waiting: Vec<_> = (0..gone.len()).filter(|&n| gone[n].0 > now).collect();
            if gives_back && !waiting.is_empty() {
                let (at, turn) = gone.swap_remove(waiting[which.index(waiting.len())]);
                pace.give_back(turn);
                back.push(at);
            }
        }
        let mut gone: Vec<_> = gone.into_iter().map(|(at, _)| at).collect();
        gone.sort_unstable();
        for (n, first) in gone.iter().enumerate() {
            for (more, last) in gone[n..].iter().enumerate() {
                let back = back.iter().filter(|at| *at <= last).count() as u64;
                let most = (gap.early + (last - first)) / gap.nanos + back;
                prop_assert!(more as u64 <= most, "{more} of {most}");
            }
        }
    }
}

/// Answers, one every so many nanoseconds, for some seconds.
fn answers(learner: &Learner, from: u64, gap: u64, seconds: u64) -> u64 {
    let end = from + seconds * SECOND;
    let mut now = from;
    while now < end {
        now += gap;
        learner.accepted(now);
    }
    now
}

#[test]
fn of_the_calls_of_one_phase_the_first_that_is_throttled_lowers_the_rate() {
    let learner = Learner::new(BOUNDS);
    let now = answers(&learner, 0, 10 * MS, 5);
    let before = learner.phase();
    assert!(!before.is_limited());
    assert_eq!(learner.limit(), None);
    assert!(learner.throttled(before, now));
    let lowered = learner.limit().unwrap();
    assert!((69.0..71.0).contains(&lowered), "{lowered}");
    for _ in 0..10 {
        assert!(!learner.throttled(before, now));
    }
    assert_eq!(learner.limit(), Some(lowered));
    let since = learner.phase();
    assert!(since != before && since.is_limited());
    assert!(learner.throttled(since, now));
    assert!((learner.limit().unwrap() / lowered - 0.7).abs() < 1e-9);
}

/// At which rates calls that are answered go, so many seconds after one was throttled at 100 a second.
#[test]
fn the_curve_is_that_of_cubic() {
    let table = [
        (0.0, 70.0),
        (4.217, 100.0),
        // As far beyond the plateau as before it.
        (8.434, 130.0),
        // Twice of what was too much.
        (4.217 + 6.300, 200.0),
    ];
    for (seconds, expected) in table {
        let curve = super::cubic::Cubic::throttled(100.0, SECOND);
        let rate = curve.rate_at(SECOND + (seconds * 1e9) as u64);
        assert!((rate - expected).abs() < 0.1, "{seconds}: {rate}");
    }
}

#[test]
fn nothing_is_saved_up_when_the_limit_begins() {
    let learner = Learner::new(BOUNDS);
    let now = answers(&learner, 0, 10 * MS, 5);
    learner.throttled(learner.phase(), now);
    let goes = |now| matches!(learner.ask(now, u64::MAX), Asked::Turn(_));
    assert!(goes(now));
    assert!(!goes(now));
    // Then so many are that go in a second.
    let later = now + 10 * SECOND;
    let at_once = (0..1_000).filter(|_| goes(later)).count();
    assert_eq!(at_once, learner.limit().unwrap() as usize);
}

#[test]
fn a_limit_is_forgotten_when_nothing_was_throttled_for_long() {
    let learner = Learner::new(Bounds {
        forget_after: 10 * SECOND,
        ..BOUNDS
    });
    learner.throttled(learner.phase(), SECOND);
    let limited = learner.phase();
    let last = 11 * SECOND - 1;
    assert!(matches!(learner.ask(last, u64::MAX), Asked::Turn(_)));
    assert_eq!(learner.phase(), limited);
    assert_eq!(learner.ask(last + 1, u64::MAX), Asked::Free);
    let free = learner.phase();
    assert!(!free.is_limited());
    // A straggler of then tells nothing of now.
    assert!(!learner.throttled(limited, last + 2));
    assert_eq!(learner.limit(), None);
    assert!(learner.throttled(free, last + 2));
    assert!(learner.phase().is_limited());
}

#[test]
fn every_phase_is_another() {
    let learner = Learner::new(BOUNDS);
    let mut phases = vec![learner.phase()];
    for n in 0..100_u64 {
        if n % 3 == 0 {
            learner.forget();
        } else {
            learner.throttled(learner.phase(), n);
        }
        if learner.phase() != *phases.last().unwrap() {
            assert!(!phases.contains(&learner.phase()));
            phases.push(learner.phase());
        }
    }
    assert!(phases.iter().filter(|phase| phase.is_limited()).count() > 60);
}
