//! [`EwmaWindow`] against the sum of all weights, computed anew each time.

use proptest::prelude::*;

use super::config;
use crate::window::{EwmaWindow, WeightedCounts};

const SECOND: u64 = 1_000_000_000;
const HOUR: u64 = 3_600 * SECOND;
const YEAR: u64 = 8_766 * HOUR;

/// How many steps a time constant has.
const STEPS: u64 = 16;

/// By how much a sum may be too small: a sixtieth of a call, or where there are many, 0.11 % of them.
fn error_of(calls: f64) -> f64 {
    (1.0 / 60.0_f64).max(calls * 0.0011)
}

struct Model {
    time_constant: u64,
    era: u32,
    now: u64,
    /// When, how many, and whether they failed.
    all: Vec<(u64, u32, bool)>,
    /// Those that came after a later one: each is cut once more.
    late: u32,
}

impl Model {
    fn sums(&self, age: impl Fn(u64) -> f64) -> (f64, f64) {
        let sum = |is: fn(bool) -> bool| {
            let weigh =
                |(time, times, _): &(u64, u32, bool)| f64::from(*times) * (-age(*time)).exp();
            let these = self.all.iter().filter(|(.., failed)| is(*failed));
            these.map(weigh).sum::<f64>()
        };
        (sum(|_| true), sum(|failed| failed))
    }

    /// Ages in whole steps, in time constants.
    fn stepped(&self) -> (f64, f64) {
        let step = |time| time / (self.time_constant / STEPS);
        self.sums(|time| (step(self.now) - step(time)) as f64 / STEPS as f64)
    }

    fn exact(&self) -> (f64, f64) {
        self.sums(|time| (self.now - time) as f64 / self.time_constant as f64)
    }

    fn check(&self, counts: WeightedCounts) {
        let (calls, failed) = self.stepped();
        let cut_once_more = f64::from(self.late) * (1.0 / 1024.0_f64).max(calls / 8192.0);
        let least = error_of(calls) + cut_once_more;
        let fits = |held: f64, sum: f64| (sum - least..=sum + 1e-9).contains(&held);
        assert!(fits(counts.calls(), calls), "{counts:?}, but {calls} calls");
        assert!(
            fits(counts.failed(), failed),
            "{counts:?}, but {failed} failed"
        );
        assert!(counts.failed() <= counts.calls());
        if self.all.iter().all(|(.., failed)| *failed) {
            assert_eq!(counts.failed, counts.calls, "all of them");
        }

        // What the steps do to it: each weight is wrong by less than one.
        let (exact, _) = self.exact();
        let a_step = (1.0 / STEPS as f64).exp();
        let within = exact / a_step - least..=exact * a_step + 1e-9;
        assert!(within.contains(&counts.calls()), "{counts:?}, but {exact}");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Record(u32, bool),
    /// By a thread that read the clock so many tenths of a step ago.
    RecordLate {
        tenths: u64,
        failed: bool,
    },
    /// A call of an era that is over.
    Straggle {
        back: u32,
        failed: bool,
    },
    /// In hundredths of a step.
    Advance(u64),
    Leap(u64),
    BeginEra {
        ahead: u32,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let times = prop_oneof![4 => Just(1), 2 => 1..20_u32, 1 => 1..300_u32];
    let advance = prop_oneof![
        Just(0),
        Just(100),
        1..100_u64,
        100..3_000_u64,
        100..30_000_u64
    ];
    let leap = prop_oneof![Just(HOUR), Just(YEAR), Just(3 * YEAR), HOUR..5 * YEAR];
    prop_oneof![
        20 => (times, any::<bool>()).prop_map(|(times, failed)| Step::Record(times, failed)),
        5 => (0..150_u64, any::<bool>())
            .prop_map(|(tenths, failed)| Step::RecordLate { tenths, failed }),
        4 => (1..64_u32, any::<bool>()).prop_map(|(back, failed)| Step::Straggle { back, failed }),
        20 => advance.prop_map(Step::Advance),
        1 => leap.prop_map(Step::Leap),
        2 => (1..70_000_u32).prop_map(|ahead| Step::BeginEra { ahead }),
    ]
}

/// The shortest, whole seconds, and odd ones.
fn time_constant() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(SECOND),
        (1..=600_u64).prop_map(|secs| secs * SECOND),
        SECOND..=HOUR
    ]
}

/// The moments at which steps have gone once round their circle, and a little before.
fn start(time_constant: u64) -> impl Strategy<Value = u64> {
    let circle = 1_u64 << 30;
    let steps = prop_oneof![4 => Just(0), 2 => Just(circle), 1 => Just(3 * circle)];
    (steps, 0..30_u64).prop_map(move |(steps, before)| {
        let step = time_constant / STEPS;
        step.saturating_mul(steps.saturating_sub(before))
            .min(100 * YEAR)
    })
}

proptest! {
    #![proptest_config(config(800))]

    #[test]
    fn it_holds_the_calls_of_its_era_each_by_its_age_and_nothing_else(
        (time_constant, start) in
            time_constant().prop_flat_map(|length| (Just(length), start(length))),
        first_era in prop_oneof![Just(0), Just(1), 0..=u32::MAX / 2],
        all_fail in prop_oneof![4 => Just(false), 1 => Just(true)],
        steps in proptest::collection::vec(step(), 0..120),
    ) {
        let window = EwmaWindow::new(time_constant);
        let mut model =
            Model { time_constant, era: first_era, now: start, all: Vec::new(), late: 0 };
        for step in steps {
            match step {
                Step::Record(times, failed) => {
                    let failed = failed || all_fail;
                    model.all.push((model.now, times, failed));
                    for nth in 1..=times {
                        let counts = window.record(model.era, failed, model.now).unwrap();
                        if nth == times {
                            prop_assert_eq!(counts, window.counts(model.era, model.now));
                        }
                    }
                }
                Step::RecordLate { tenths, failed } => {
                    let failed = failed || all_fail;
                    let then = model.now.saturating_sub(time_constant / STEPS / 10 * tenths);
                    prop_assert!(window.record(model.era, failed, then).is_some());
                    model.all.push((then, 1, failed));
                    model.late += 1;
                }
                Step::Straggle { back, failed } => {
                    if let Some(era) = model.era.checked_sub(back) {
                        window.record(era, failed, model.now);
                    }
                }
                Step::Advance(hundredths) => {
                    model.now += time_constant / STEPS / 100 * hundredths;
                }
                Step::Leap(nanos) => model.now += nanos,
                Step::BeginEra { ahead } => {
                    model.era += ahead;
                    model.all.clear();
                    model.late = 0;
                }
            }
            model.check(window.counts(model.era, model.now));
        }
    }
}

#[test]
fn while_the_clock_stands_it_counts_whole_calls_to_its_brim() {
    let window = EwmaWindow::new(SECOND);
    for call in 1..=32_767_u32 {
        let counts = window.record(0, call % 2 == 0, 0).unwrap();
        let expected = (f64::from(call), f64::from(call / 2));
        assert_eq!((counts.calls(), counts.failed()), expected);
    }
}

#[test]
fn a_time_constant_later_a_call_weighs_0_37() {
    let window = EwmaWindow::new(10 * SECOND);
    for _ in 0..1_000 {
        window.record(0, true, 0);
    }
    for (time_constants, weight) in [(1, 0.3679), (2, 0.1353), (3, 0.0498)] {
        let calls = window.counts(0, time_constants * 10 * SECOND).calls();
        assert!((calls / 1_000.0 - weight).abs() < 0.001, "{calls}");
    }
    assert_eq!(window.counts(0, HOUR).calls(), 0.0);
}

#[test]
fn a_constant_rate_adds_up_to_the_calls_of_a_time_constant() {
    let window = EwmaWindow::new(10 * SECOND);
    // 100 calls a second, of which every tenth fails, for two minutes.
    for call in 0..12_000 {
        window.record(0, call % 10 == 0, call * SECOND / 100);
    }
    let counts = window.counts(0, 120 * SECOND - 1);
    assert!((counts.calls() / 1_000.0 - 1.0).abs() < 0.04, "{counts:?}");
    assert!((counts.failed() / counts.calls() - 0.1).abs() < 0.002);
}

#[test]
fn more_than_it_can_hold_makes_it_forget_by_number_and_keeps_the_rate() {
    let window = EwmaWindow::new(HOUR);
    for call in 0..1_000_000 {
        let counts = window.record(0, call % 5 == 0, call).unwrap();
        if call > 40_000 {
            assert!(
                (16_384.0..=32_767.0).contains(&counts.calls()),
                "{counts:?}"
            );
            let rate = counts.failed() / counts.calls();
            assert!((rate - 0.2).abs() < 0.001, "{rate}");
        }
    }
    // All fail from now on: half of what it holds is reached when as many have come as it holds.
    let halfway = (1..).find(|call| {
        let counts = window.record(0, true, 1_000_000 + call).unwrap();
        counts.failed() >= 0.5 * counts.calls()
    });
    assert!(halfway.unwrap() < 32_768);
}

#[test]
fn an_endless_time_constant_forgets_nothing() {
    let window = EwmaWindow::new(u64::MAX);
    for year in 0..100 {
        let counts = window.record(0, true, year * YEAR).unwrap();
        assert!(counts.calls() > 0.8 * (year + 1) as f64, "{counts:?}");
    }
}

#[test]
fn a_window_at_any_time_counts_its_first_failure() {
    // The last is three steps short of a circle, from where the first step looks like the next.
    let circle = (1 << 30) * (SECOND / STEPS);
    let short = circle - 3 * (SECOND / STEPS);
    for age in [0, HOUR, YEAR, 2 * YEAR, 3 * YEAR, 50 * YEAR, short] {
        let window = EwmaWindow::new(SECOND);
        let counts = window.record(0, true, age).unwrap();
        assert_eq!((counts.calls(), counts.failed()), (1.0, 1.0), "{age}");
    }
}

#[test]
fn what_fades_from_many_calls_to_one_is_told_as_finely_as_if_there_had_been_but_few() {
    let window = EwmaWindow::new(SECOND);
    for _ in 0..20_000 {
        window.record(0, true, 0).unwrap();
    }
    let left = 20_000.0 * (-10.0_f64).exp();
    let counts = window.counts(0, 10 * SECOND);
    assert!((counts.calls() - left).abs() < 1.0 / 60.0, "{counts:?}");
}

#[test]
fn of_many_calls_a_step_later_as_many_are_left_as_have_not_faded() {
    let window = EwmaWindow::new(SECOND);
    for _ in 0..20_000 {
        window.record(0, true, 0).unwrap();
    }
    let left = 20_000.0 * (-1.0 / STEPS as f64).exp() + 1.0;
    let step = SECOND / STEPS;
    window.record(0, true, step).unwrap();
    let counts = window.counts(0, step);
    assert!((counts.calls() - left).abs() < error_of(left), "{counts:?}");
}

#[test]
fn who_reads_an_older_clock_sees_what_the_others_have_recorded() {
    let window = EwmaWindow::new(SECOND);
    window.record(0, true, 10 * SECOND).unwrap();
    let counts = window.counts(0, 9 * SECOND);
    assert_eq!((counts.calls(), counts.failed()), (1.0, 1.0));
}
