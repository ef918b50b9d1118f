//! [`TimeWindow`] against a list of all outcomes and their times.

use proptest::prelude::*;

use super::{FAILED, GOOD, config, count, outcome};
use crate::window::{Counts, Outcome, TimeWindow};

const MS: u64 = 1_000_000;
const HOUR: u64 = 3_600_000 * MS;
const YEAR: u64 = 8_766 * HOUR;

struct Model {
    slice: u64,
    era: u32,
    now: u64,
    all: Vec<(u64, Outcome)>,
}

impl Model {
    /// What was recorded in this slice of time and the nine before it.
    fn counts(&self) -> Counts {
        let now = self.now / self.slice;
        let is_seen = |time: u64| now - time / self.slice < 10;
        let seen = self.all.iter().filter(|(time, _)| is_seen(*time));
        count(seen.map(|(_, outcome)| outcome))
    }

    fn younger_than(&self, age: u64) -> Counts {
        let seen = self.all.iter().filter(|(time, _)| self.now - time < age);
        count(seen.map(|(_, outcome)| outcome))
    }
}

fn is_good(counts: Counts) -> bool {
    counts.failed == 0 && counts.slow == 0
}

/// Whether `a` has no more than `b` of anything.
fn is_within(a: Counts, b: Counts) -> bool {
    a.calls <= b.calls && a.failed <= b.failed && a.slow <= b.slow
}

#[derive(Clone, Debug)]
enum Step {
    Record(Outcome),
    /// By a thread that read the clock so many tenths of a slice ago.
    RecordLate {
        tenths: u64,
        outcome: Outcome,
    },
    /// A call of an era that is over.
    Straggle {
        back: u32,
        outcome: Outcome,
    },
    /// In hundredths of a slice.
    Advance(u64),
    Leap(u64),
    BeginEra {
        ahead: u32,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let advance = prop_oneof![
        Just(0),
        1..100_u64,
        100..1_500_u64,
        Just(100),
        Just(900),
        Just(1_000)
    ];
    let leap = prop_oneof![Just(HOUR), Just(YEAR), Just(3 * YEAR), HOUR..5 * YEAR];
    prop_oneof![
        20 => outcome().prop_map(Step::Record),
        4 => (0..150_u64, outcome())
            .prop_map(|(tenths, outcome)| Step::RecordLate { tenths, outcome }),
        4 => (1..70_000_u32, outcome()).prop_map(|(back, outcome)| Step::Straggle { back, outcome }),
        12 => advance.prop_map(Step::Advance),
        1 => leap.prop_map(Step::Leap),
        2 => (1..70_000_u32).prop_map(|ahead| Step::BeginEra { ahead }),
    ]
}

/// Lengths of a slice: the shortest, whole numbers of them, and odd ones.
fn slice() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(MS),
        (1..=600_u64).prop_map(|ms| ms * MS),
        MS..=360_000 * MS
    ]
}

/// The moments at which turns have gone once or half round their circle, and a little before.
fn start(slice: u64) -> impl Strategy<Value = u64> {
    let circle = 1_u64 << 36;
    let turn = prop_oneof![
        4 => Just(0),
        1 => Just(circle / 2),
        2 => Just(circle),
        1 => Just(3 * circle),
    ];
    (turn, 0..30_u64).prop_map(move |(turn, before)| {
        slice
            .saturating_mul(turn.saturating_sub(before))
            .min(100 * YEAR)
    })
}

proptest! {
    #![proptest_config(config(800))]

    #[test]
    fn it_holds_the_last_ten_slices_of_its_era_and_nothing_else(
        (slice, start) in slice().prop_flat_map(|slice| (Just(slice), start(slice))),
        first_era in prop_oneof![Just(0), Just(1), 0..=u32::MAX / 2],
        steps in proptest::collection::vec(step(), 0..150),
    ) {
        let window = TimeWindow::new(10 * slice);
        let mut model = Model { slice, era: first_era, now: start, all: Vec::new() };
        for step in steps {
            match step {
                Step::Record(outcome) => {
                    let counts = window.record(model.era, outcome, model.now);
                    model.all.push((model.now, outcome));
                    let expected = model.counts();
                    prop_assert_eq!(counts, (!is_good(expected)).then_some(expected));
                }
                Step::RecordLate { tenths, outcome } => {
                    let then = model.now.saturating_sub(slice / 10 * tenths);
                    window.record(model.era, outcome, then);
                    model.all.push((then, outcome));
                }
                Step::Straggle { back, outcome } => {
                    if let Some(era) = model.era.checked_sub(back) {
                        window.record(era, outcome, model.now);
                    }
                }
                Step::Advance(hundredths) => model.now += slice / 100 * hundredths,
                Step::Leap(nanos) => model.now += nanos,
                Step::BeginEra { ahead } => {
                    model.era += ahead;
                    model.all.clear();
                }
            }
            let counts = window.counts(model.era, model.now);
            prop_assert_eq!(counts, model.counts());
            prop_assert!(is_within(counts, model.younger_than(10 * slice)), "too old");
            prop_assert!(is_within(model.younger_than(9 * slice), counts), "too young");
        }
    }
}

#[test]
fn an_outcome_is_forgotten_between_nine_and_ten_tenths_of_the_window() {
    // Recorded in the first and in the last instant of a slice.
    for (recorded, forgotten) in [(20 * MS, 30 * MS), (21 * MS - 1, 30 * MS)] {
        let window = TimeWindow::new(10 * MS);
        window.record(0, FAILED, recorded);
        assert_eq!(window.counts(0, forgotten - 1).failed, 1);
        assert_eq!(window.counts(0, forgotten).failed, 0);
    }
}

#[test]
fn it_says_nothing_while_nothing_bad_is_in_sight() {
    let window = TimeWindow::new(10 * MS);
    assert_eq!(window.record(0, GOOD, 0), None);
    assert!(window.record(0, FAILED, 0).is_some());
    assert!(window.record(0, GOOD, 10 * MS - 1).is_some());
    assert_eq!(window.record(0, GOOD, 10 * MS), None);
}

#[test]
fn a_slice_at_any_time_counts_its_first_failure() {
    // The first failure of a service that was healthy for so long.
    for age in [0, HOUR, YEAR, YEAR * 3 / 2, 2 * YEAR, 3 * YEAR, 50 * YEAR] {
        let window = TimeWindow::new(10 * MS);
        assert_eq!(window.record(0, FAILED, age).unwrap().failed, 1, "{age}");
    }
}
