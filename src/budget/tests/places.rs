//! Places against a list of the calls that are active and whether they hold one.

use std::panic::{AssertUnwindSafe, catch_unwind};

use proptest::prelude::*;

use super::{KINDS, config};
use crate::{
    budget::{Budget, Ticket},
    classify::FailureKind,
};

#[derive(Clone, Debug)]
enum Step {
    Begin(usize),
    /// Of the call with this number, modulo how many there are.
    Retry(usize, FailureKind),
    Succeed(usize),
    Fail(usize),
    Panic(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let kind = proptest::sample::select(&KINDS);
    let nth = any::<usize>;
    prop_oneof![
        3 => (1..8_usize).prop_map(Step::Begin),
        8 => (nth(), kind).prop_map(|(call, kind)| Step::Retry(call, kind)),
        2 => nth().prop_map(Step::Succeed),
        2 => nth().prop_map(Step::Fail),
        1 => nth().prop_map(Step::Panic),
    ]
}

/// A budget, and how many places it has by the number of active calls.
fn budget() -> impl Strategy<Value = (Budget, u64, u32)> {
    let share = prop_oneof![1..=1_000_000_u32, Just(200_000), Just(1_000_000)];
    let of_active = (share, 0..6_u32).prop_map(|(share, floor)| {
        let budget = Budget::of_active(f64::from(share) / 1e6).unwrap();
        (budget.with_floor(floor), share.into(), floor)
    });
    prop_oneof![
        3 => of_active,
        1 => (0..6_u32).prop_map(|max| (Budget::concurrent(max), 0, max)),
    ]
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_retry_gets_a_place_if_fewer_are_taken_than_there_are(
        (budget, share, floor) in budget(),
        steps in proptest::collection::vec(step(), 0..200),
    ) {
        // Whether each active call holds a place.
        let mut calls = Vec::<(Ticket, bool)>::new();
        let budget = budget.clone();
        let places = |active: usize| u64::from(floor).max(share * active as u64 / 1_000_000);
        for step in steps {
            let there_are = calls.len();
            let nth = |call: usize| call.checked_rem(there_are);
            match step {
                Step::Begin(times) => for _ in 0..times {
                    calls.push((budget.ticket(), false));
                },
                Step::Retry(call, kind) => if let Some(call) = nth(call) {
                    calls[call].1 = false;
                    let taken = calls.iter().filter(|(_, holds)| *holds).count() as u64;
                    let may = taken < places(there_are);
                    let (ticket, holds) = &mut calls[call];
                    prop_assert_eq!(ticket.try_retry(kind), may);
                    *holds = may;
                },
                Step::Succeed(call) => if let Some(call) = nth(call) {
                    calls.swap_remove(call).0.succeed();
                },
                Step::Fail(call) => if let Some(call) = nth(call) {
                    drop(calls.swap_remove(call));
                },
                Step::Panic(call) => if let Some(call) = nth(call) {
                    let call = calls.swap_remove(call);
                    let panicked = catch_unwind(AssertUnwindSafe(move || {
                        let _call = call;
                        std::panic::resume_unwind(Box::new(()));
                    }));
                    prop_assert!(panicked.is_err());
                },
            }
            let taken = calls.iter().filter(|(_, holds)| *holds).count() as u64;
            let free = places(calls.len()).saturating_sub(taken);
            prop_assert_eq!(budget.balance(), free as f64);
        }
        drop(calls);
        prop_assert_eq!(budget.balance(), places(0) as f64, "all has come back");
    }
}

#[test]
fn a_fifth_of_twenty_active_calls_are_four_and_fewer_than_three_are_three() {
    let budget = Budget::of_active(0.2).unwrap();
    let retries_of = |active: usize| {
        let mut calls: Vec<_> = (0..active).map(|_| budget.ticket()).collect();
        let retries = calls
            .iter_mut()
            .map(|call| call.try_retry(FailureKind::Transient));
        retries.filter(|taken| *taken).count()
    };
    for (active, retries) in [
        (1, 1),
        (4, 3),
        (19, 3),
        (20, 4),
        (24, 4),
        (25, 5),
        (1_000, 200),
    ] {
        assert_eq!(retries_of(active), retries, "{active} calls");
    }
}

#[test]
fn a_budget_of_no_places_allows_no_retry() {
    assert!(!super::take(&Budget::concurrent(0)));
    let tiny = Budget::of_active(0.000_001).unwrap().with_floor(0);
    assert!(!super::take(&tiny));
}

#[test]
fn places_cannot_run_over_into_the_count_of_calls() {
    let budget = Budget::concurrent(u32::MAX);
    assert_eq!(budget.balance(), f64::from(u32::MAX));
    let mut call = budget.ticket();
    assert!(call.try_retry(FailureKind::Timeout));
    assert_eq!(budget.balance(), f64::from(u32::MAX) - 1.0);
    drop(call);
    assert_eq!(budget.balance(), f64::from(u32::MAX));
}

#[test]
fn nobody_feeds_a_budget_of_places() {
    let budget = Budget::concurrent(1);
    (0..100).for_each(|_| budget.deposit());
    assert_eq!(budget.balance(), 1.0);
}
