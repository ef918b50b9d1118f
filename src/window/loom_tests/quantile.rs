//! The rolling quantile: slices that turn while others record.

use std::sync::Arc;

use super::explore;
use crate::window::{Ratio, RollingQuantile, Sample};

const SLICE: u64 = 1_000;
const SHORT: Sample = Sample::Exact(1_024);
const LONG: Sample = Sample::Exact(2_048);

/// The longest of what a window holds that has held at least so many.
fn longest_of(minimum: u32) -> Arc<RollingQuantile> {
    let longest = Ratio::new("quantile", 1.0).unwrap();
    Arc::new(RollingQuantile::new(longest, 6 * SLICE, minimum))
}

fn is_long(quantile: Option<u64>) -> bool {
    quantile.is_some_and(|nanos| nanos >= 2_048)
}

#[test]
fn what_is_recorded_while_a_slice_turns_is_counted_once_in_this_slice_or_the_last() {
    // Were it counted twice or not at all, three would not be three.
    for (minimum, is_enough) in [(2, true), (3, true), (4, false)] {
        explore(3, move || {
            let window = longest_of(minimum);
            window.record(SHORT, 0);
            let other = window.clone();
            let other = loom::thread::spawn(move || other.record(LONG, SLICE - 1));
            window.record(SHORT, SLICE);
            other.join().unwrap();
            window.record(SHORT, 2 * SLICE);
            assert_eq!(is_long(window.get()), is_enough);
        });
    }
}

#[test]
fn of_two_that_turn_a_slice_one_does_and_neither_waits_or_loses_anything() {
    explore(3, || {
        let window = longest_of(3);
        window.record(SHORT, 0);
        let other = window.clone();
        let other = loom::thread::spawn(move || other.record(LONG, SLICE));
        let turned = window.record(SHORT, SLICE);
        assert!(turned ^ other.join().unwrap());
        assert!(window.record(SHORT, 2 * SLICE));
        assert!(is_long(window.get()));
    });
}

#[test]
fn who_lags_behind_does_not_turn_a_slice_back() {
    explore(3, || {
        let window = longest_of(1);
        window.record(LONG, 0);
        let straggler = window.clone();
        let straggler = loom::thread::spawn(move || straggler.record(SHORT, SLICE));
        window.record(SHORT, 7 * SLICE);
        straggler.join().unwrap();
        for slice in [8, 9] {
            window.record(SHORT, slice * SLICE);
            assert!(
                !is_long(window.get()),
                "what was recorded first is forgotten"
            );
        }
        assert!(window.get().is_some());
    });
}
