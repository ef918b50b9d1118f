//! [`CountWindow`] against a queue from which the oldest falls out.

use std::collections::VecDeque;
use std::num::NonZeroU16;

use proptest::prelude::*;

use super::{FAILED, GOOD, config, count, outcome};
use crate::window::{CountWindow, Counts, Outcome, Ratio};

fn window(calls: u16) -> CountWindow {
    CountWindow::new(NonZeroU16::new(calls).unwrap())
}

struct Model {
    size: usize,
    era: u32,
    last: VecDeque<Outcome>,
}

impl Model {
    fn begin_era(&mut self, era: u32) {
        self.era = era;
        self.last.clear();
    }

    fn record(&mut self, era: u32, outcome: Outcome) -> Option<Counts> {
        if era != self.era {
            return None;
        }
        self.last.push_back(outcome);
        if self.last.len() > self.size {
            self.last.pop_front();
        }
        Some(self.counts())
    }

    fn counts(&self) -> Counts {
        count(&self.last)
    }
}

#[derive(Clone, Debug)]
enum Step {
    Record(Outcome),
    /// Enough good ones to fill the window, so that the next are not written.
    FillWithGood(usize),
    /// A call of an era that is over.
    Straggle {
        back: u32,
        outcome: Outcome,
    },
    /// The breaker has changed its state so many times since.
    BeginEra {
        ahead: u32,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let ahead = prop_oneof![
        6 => 1..=3_u32,
        1 => 65_534..=65_538_u32,
        1 => 131_070..=131_074_u32,
        1 => 1..=200_000_u32,
    ];
    prop_oneof![
        20 => outcome().prop_map(Step::Record),
        2 => (0..20_usize).prop_map(Step::FillWithGood),
        3 => (1..65_536_u32, outcome()).prop_map(|(back, outcome)| Step::Straggle { back, outcome }),
        2 => (1..4_u32, outcome()).prop_map(|(back, outcome)| Step::Straggle { back, outcome }),
        2 => ahead.prop_map(|ahead| Step::BeginEra { ahead }),
    ]
}

proptest! {
    #![proptest_config(config(1_000))]

    #[test]
    fn it_holds_the_last_outcomes_of_its_era_and_nothing_else(
        size in 1..=12_u16,
        first_era in prop_oneof![Just(0), Just(65_530), Just(u32::MAX - 100_000), any::<u32>()],
        steps in proptest::collection::vec(step(), 0..200),
    ) {
        let window = window(size);
        let mut model = Model { size: size.into(), era: 0, last: VecDeque::new() };
        window.begin_era(first_era);
        model.begin_era(first_era);
        for step in steps {
            match step {
                Step::Record(outcome) => {
                    let (era, full) = (model.era, window.is_full_of_good());
                    let before = window.counts();
                    prop_assert_eq!(window.record(era, outcome), model.record(era, outcome));
                    if full && outcome.is_good() {
                        prop_assert_eq!(window.counts(), before);
                    }
                }
                Step::FillWithGood(extra) => {
                    for _ in 0..usize::from(size) + extra {
                        let counts = window.record(model.era, GOOD);
                        prop_assert_eq!(counts, model.record(model.era, GOOD));
                    }
                    prop_assert!(window.is_full_of_good());
                }
                Step::Straggle { back, outcome } => {
                    let era = model.era.wrapping_sub(back);
                    prop_assert_eq!(window.record(era, outcome), None);
                }
                Step::BeginEra { ahead } => {
                    let era = model.era.wrapping_add(ahead);
                    window.begin_era(era);
                    model.begin_era(era);
                }
            }
            prop_assert_eq!(window.counts(), model.counts());
            let full = model.last.len() == model.size;
            let only_good = full && model.last.iter().all(|outcome| outcome.is_good());
            prop_assert_eq!(window.is_full_of_good(), only_good);
        }
    }
}

#[test]
fn half_of_a_hundred_is_reached_at_the_fiftieth_failure_after_a_million_successes() {
    let window = window(100);
    let half = Ratio::new("share", 0.5).unwrap();
    for _ in 0..1_000_000 {
        window.record(0, GOOD);
    }
    for failure in 1..=100 {
        let counts = window.record(0, FAILED).unwrap();
        let reached = half.is_reached(counts.failed, counts.calls);
        assert_eq!(reached, failure >= 50, "failure {failure}: {counts:?}");
    }
}

#[test]
fn what_was_written_65_536_eras_ago_does_not_look_new() {
    let window = window(3);
    window.begin_era(1);
    for _ in 0..3 {
        window.record(1, FAILED);
    }
    window.begin_era(1 + 65_536);
    for calls in [1, 2, 3, 3] {
        let counts = window.record(1 + 65_536, GOOD).unwrap();
        assert_eq!((counts.calls, counts.failed), (calls, 0));
    }
}

#[test]
fn the_largest_window_counts_to_its_brim() {
    let window = window(u16::MAX);
    let both = Outcome {
        failed: true,
        slow: true,
        tail: false,
    };
    for call in 1..=2 * u64::from(u16::MAX) {
        let counts = window.record(0, both).unwrap();
        let held = call.min(u16::MAX.into());
        let Counts {
            calls,
            failed,
            slow,
        } = counts;
        assert_eq!((calls, failed, slow), (held, held, held));
    }
    for call in 1..=u64::from(u16::MAX) {
        let counts = window.record(0, GOOD).unwrap();
        assert_eq!(counts.failed, u64::from(u16::MAX) - call);
    }
    assert!(window.is_full_of_good());
}
