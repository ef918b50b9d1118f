//! [`RequestWindow`] against a list of all requests and their times.

use proptest::prelude::*;

use super::config;
use crate::window::{RequestWindow, Requests};

const MS: u64 = 1_000_000;
const HOUR: u64 = 3_600_000 * MS;

#[derive(Clone, Debug)]
enum Step {
    Accept,
    Refuse,
    /// By a thread that read the clock so many tenths of a slice ago.
    Late {
        tenths: u64,
        accept: bool,
    },
    /// In hundredths of a slice.
    Advance(u64),
    Leap(u64),
    Forget,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => Just(Step::Accept),
        6 => Just(Step::Refuse),
        2 => (0..150_u64, any::<bool>()).prop_map(|(tenths, accept)| Step::Late { tenths, accept }),
        8 => prop_oneof![1..100_u64, 100..1_500_u64, Just(100), Just(900), Just(1_000)]
            .prop_map(Step::Advance),
        1 => (HOUR..40_000 * HOUR).prop_map(Step::Leap),
        1 => Just(Step::Forget),
    ]
}

/// What was recorded in the slice of `now` and the nine before it.
fn count(all: &[(u64, bool)], slice: u64, now: u64) -> Requests {
    let seen = all
        .iter()
        .filter(|(time, _)| now / slice - time / slice < 10);
    seen.fold(Requests::default(), |mut requests, (_, accepted)| {
        if *accepted {
            requests.accepted += 1;
        } else {
            requests.refused += 1;
        }
        requests
    })
}

proptest! {
    #![proptest_config(config(800))]

    #[test]
    fn it_holds_the_requests_of_ten_slices_and_is_clear_only_of_refused_ones(
        slice in MS..=360_000 * MS,
        steps in proptest::collection::vec(step(), 0..150),
    ) {
        let window = RequestWindow::new(10 * slice);
        let (mut now, mut all) = (0, Vec::new());
        for step in steps {
            let mut record = |now, accept| {
                                if accept { window.at(now).accept() } else { window.at(now).refuse() }
                all.push((now, accept));
            };
            match step {
                Step::Accept => record(now, true),
                Step::Refuse => record(now, false),
                Step::Late { tenths, accept } => {
                    record(now.saturating_sub(slice / 10 * tenths), accept);
                }
                Step::Advance(hundredths) => now += slice / 100 * hundredths,
                Step::Leap(nanos) => now += nanos,
                Step::Forget => {
                    window.forget();
                    all.clear();
                }
            }
            let expected = count(&all, slice, now);
            prop_assert_eq!(window.at(now).requests(), expected);
            prop_assert!(expected.refused == 0 || !window.is_clear());
            let seen = window.at(now).unless_clear();
            prop_assert_eq!(seen, (expected.refused > 0).then_some(expected));
            prop_assert_eq!(window.is_clear(), seen.is_none());
        }
    }
}

#[test]
fn who_reads_an_older_clock_does_not_take_a_refusal_for_forgotten() {
    let window = RequestWindow::new(10 * MS);
    window.at(5 * MS).refuse();
    assert_eq!(window.at(4 * MS).unless_clear(), None);
    assert!(!window.is_clear());
    assert_eq!(window.at(5 * MS).unless_clear().unwrap().refused, 1);
}
