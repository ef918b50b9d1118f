//! Windows under every interleaving of two threads.
#![allow(
    clippy::disallowed_types,
    reason = "what only holds the window together needs no exploring"
)]

mod quantile;

use std::{num::NonZeroU16, sync::Arc};

use super::{CountWindow, Counts, EwmaWindow, Outcome, RequestWindow, Requests, TimeWindow};

const MS: u64 = 1_000_000;

const GOOD: Outcome = Outcome::GOOD;
const FAILED: Outcome = Outcome::FAILED;
const SLOW: Outcome = Outcome::SLOW;

/// All ways in which the threads take turns, as far as one interrupts another so many times.
fn explore(interruptions: usize, test: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(interruptions);
    builder.check(test);
}

fn count_window(calls: u16) -> Arc<CountWindow> {
    Arc::new(CountWindow::new(NonZeroU16::new(calls).unwrap()))
}

fn counts(calls: u64, failed: u64) -> Counts {
    Counts {
        calls,
        failed,
        slow: 0,
    }
}

/// Whether the counts are those of the slots: once all slots are written anew, so are the counts.
fn assert_counts_are_those_of_the_slots(window: &CountWindow, era: u32, size: u64) {
    for outcome in [FAILED, GOOD] {
        for _ in 0..size {
            window.record(era, outcome);
        }
        let failed = if outcome.failed { size } else { 0 };
        assert_eq!(window.counts(), counts(size, failed));
    }
}

#[test]
fn two_that_record_at_once_are_both_counted() {
    explore(5, || {
        let window = count_window(3);
        window.record(0, GOOD);
        let other = window.clone();
        let other = loom::thread::spawn(move || other.record(0, FAILED).unwrap());
        let seen = window.record(0, FAILED).unwrap();
        let other_saw = other.join().unwrap();
        assert_eq!(window.counts(), counts(3, 2));
        // Who comes last sees both: a threshold that both reach together is not missed.
        assert_eq!(seen.failed.max(other_saw.failed), 2);
        assert_counts_are_those_of_the_slots(&window, 0, 3);
    });
}

#[test]
fn two_that_push_each_other_out_leave_the_counts_of_what_is_left() {
    for [first, second, third] in [
        [FAILED, FAILED, GOOD],
        [FAILED, FAILED, FAILED],
        [GOOD, FAILED, GOOD],
    ] {
        explore(3, move || {
            let window = count_window(1);
            window.record(0, first);
            let other = window.clone();
            let other = loom::thread::spawn(move || other.record(0, second));
            window.record(0, third);
            other.join().unwrap();
            assert_eq!(window.counts().calls, 1);
            assert_counts_are_those_of_the_slots(&window, 0, 1);
        });
    }
}

#[test]
fn what_is_pushed_out_before_it_is_counted_does_not_read_as_many() {
    explore(2, || {
        let window = count_window(2);
        let other = window.clone();
        let other = loom::thread::spawn(move || other.record(0, FAILED).unwrap());
        for _ in 0..2 {
            let seen = window.record(0, SLOW).unwrap();
            assert!(seen.failed <= 1, "{seen:?}");
        }
        assert!(other.join().unwrap().failed <= 1);
    });
}

#[test]
fn a_straggler_leaves_a_new_era_alone() {
    explore(3, || {
        let window = count_window(1);
        window.record(0, GOOD);
        let straggler = window.clone();
        let straggler = loom::thread::spawn(move || straggler.record(0, FAILED));
        window.begin_era(1);
        window.record(1, FAILED);
        straggler.join().unwrap();
        assert_eq!(window.counts(), counts(1, 1));
        assert_counts_are_those_of_the_slots(&window, 1, 1);
    });
}

#[test]
fn a_straggler_does_not_outlive_the_wiping_of_the_slots() {
    explore(5, || {
        let window = count_window(1);
        let straggler = window.clone();
        let straggler = loom::thread::spawn(move || straggler.record(0, FAILED));
        window.begin_era(1 << 16 | 1);
        straggler.join().unwrap();
        assert_eq!(window.counts(), counts(0, 0));
        assert_counts_are_those_of_the_slots(&window, 1 << 16 | 1, 1);
    });
}

#[test]
fn two_that_enter_a_new_slice_lose_nothing() {
    explore(2, || {
        let window = Arc::new(TimeWindow::new(10 * MS));
        window.record(0, FAILED, 0);
        let other = window.clone();
        let other = loom::thread::spawn(move || other.record(0, FAILED, 10 * MS).is_some());
        assert!(window.record(0, FAILED, 10 * MS).is_some());
        assert!(other.join().unwrap());
        assert_eq!(window.counts(0, 10 * MS), counts(2, 2));
    });
}

#[test]
fn who_lags_a_whole_window_behind_takes_nothing_from_a_new_slice() {
    explore(3, || {
        let window = Arc::new(TimeWindow::new(10 * MS));
        let straggler = window.clone();
        let straggler = loom::thread::spawn(move || straggler.record(0, FAILED, 0));
        window.record(0, FAILED, 10 * MS);
        straggler.join().unwrap();
        assert_eq!(window.counts(0, 10 * MS), counts(1, 1));
    });
}

#[test]
fn no_failure_is_seen_without_its_call() {
    explore(3, || {
        let window = Arc::new(TimeWindow::new(10 * MS));
        let other = window.clone();
        let other = loom::thread::spawn(move || other.record(0, FAILED, 0));
        let Counts { calls, failed, .. } = window.counts(0, 0);
        assert!(failed <= calls, "{failed} of {calls}");
        other.join().unwrap();
    });
}

#[test]
fn a_refusal_is_counted_and_known_while_an_old_one_is_forgotten() {
    explore(3, || {
        let window = Arc::new(RequestWindow::new(10 * MS));
        window.at(0).refuse();
        let other = window.clone();
        let other = loom::thread::spawn(move || other.at(10 * MS).refuse());
        let seen = window.at(10 * MS).unless_clear();
        let one = Requests {
            accepted: 0,
            refused: 1,
        };
        assert!(seen.is_none_or(|seen| seen == one), "{seen:?}");
        other.join().unwrap();
        assert!(!window.is_clear());
        assert_eq!(window.at(10 * MS).unless_clear(), Some(one));
    });
}

#[test]
fn requests_that_end_at_once_are_all_counted() {
    explore(3, || {
        let window = Arc::new(RequestWindow::new(10 * MS));
        window.at(0).accept();
        let other = window.clone();
        let other = loom::thread::spawn(move || {
            other.at(10 * MS).accept();
            other.at(10 * MS).refuse();
        });
        window.at(10 * MS).refuse();
        window.at(10 * MS).accept();
        other.join().unwrap();
        let all = Requests {
            accepted: 2,
            refused: 2,
        };
        assert_eq!(window.at(10 * MS).unless_clear(), Some(all));
    });
}

#[test]
fn two_that_enter_a_new_step_of_weights_are_both_counted_whole() {
    explore(3, || {
        let window = Arc::new(EwmaWindow::new(16_000 * MS));
        window.record(0, false, 0);
        let other = window.clone();
        let other = loom::thread::spawn(move || other.record(0, true, 1_000 * MS).unwrap());
        let seen = window.record(0, true, 1_000 * MS).unwrap();
        let other_saw = other.join().unwrap();
        let held = window.counts(0, 1_000 * MS);
        assert_eq!(held.failed(), 2.0);
        assert!((2.93..2.94).contains(&held.calls()), "{held:?}");
        // Who comes last sees both.
        assert!(seen == held || other_saw == held);
    });
}

#[test]
fn a_straggler_of_an_earlier_era_weighs_nothing() {
    explore(3, || {
        let window = Arc::new(EwmaWindow::new(16_000 * MS));
        window.record(0, false, 0);
        let straggler = window.clone();
        let straggler = loom::thread::spawn(move || straggler.record(0, true, 0));
        window.record(1, false, 0);
        straggler.join().unwrap();
        let held = window.counts(1, 0);
        assert_eq!((held.calls(), held.failed()), (1.0, 0.0));
    });
}
