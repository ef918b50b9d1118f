//! A quota of tokens against a sum and a list of what each call took.

use std::time::Duration;

use proptest::prelude::*;
use tokio::time::advance;

use super::{KINDS, config, paused};
use crate::{
    budget::{Budget, Ticket},
    classify::FailureKind,
};

/// As the AWS SDKs have it, with nothing by the second.
fn aws() -> Budget {
    Budget::quota(500).unwrap().with_floor(0)
}

#[derive(Clone, Debug)]
enum Step {
    Begin,
    /// Of the call with this number, modulo how many there are.
    Retry(usize, FailureKind),
    Succeed(usize),
    Fail(usize),
    Deposit,
}

fn step() -> impl Strategy<Value = Step> {
    let kind = proptest::sample::select(&KINDS);
    prop_oneof![
        3 => Just(Step::Begin),
        6 => (any::<usize>(), kind).prop_map(|(call, kind)| Step::Retry(call, kind)),
        2 => any::<usize>().prop_map(Step::Succeed),
        2 => any::<usize>().prop_map(Step::Fail),
        1 => Just(Step::Deposit),
    ]
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn it_is_spent_by_kind_given_back_by_success_and_never_more_than_full(
        tokens in 1..60_u32,
        costs in proptest::array::uniform5(1..20_u32),
        steps in proptest::collection::vec(step(), 0..200),
    ) {
        let mut budget = Budget::quota(tokens).unwrap().with_floor(0);
        for (kind, cost) in KINDS.into_iter().zip(costs) {
            budget = budget.with_cost(kind, cost).unwrap();
        }
        // What is there, and what the last retry of each call took.
        let (mut left, mut calls) = (tokens, Vec::<(Ticket, Option<u32>)>::new());
        for step in steps {
            let there_are = calls.len();
            let nth = |call: usize| call.checked_rem(there_are);
            match step {
                Step::Begin => calls.push((budget.ticket(), None)),
                Step::Retry(call, kind) => if let Some(call) = nth(call) {
                    let (ticket, last) = &mut calls[call];
                    let cost = costs[kind as usize];
                    let paid = left.checked_sub(cost);
                    prop_assert_eq!(ticket.try_retry(kind), paid.is_some());
                    if let Some(rest) = paid {
                        (left, *last) = (rest, Some(cost));
                    }
                },
                Step::Succeed(call) => if let Some(call) = nth(call) {
                    let (ticket, last) = calls.swap_remove(call);
                    ticket.succeed();
                    left = tokens.min(left + last.unwrap_or(1));
                },
                Step::Fail(call) => if let Some(call) = nth(call) {
                    drop(calls.swap_remove(call));
                },
                Step::Deposit => {
                    budget.deposit();
                    left = tokens.min(left + 1);
                },
            }
            prop_assert_eq!(budget.balance(), f64::from(left));
        }
    }
}

#[test]
fn the_figures_are_those_of_the_aws_sdks() {
    let all = |kind| {
        let budget = aws();
        (0..1_000)
            .filter(|_| budget.ticket().try_retry(kind))
            .count()
    };
    assert_eq!(all(FailureKind::Transient), 500 / 5);
    assert_eq!(all(FailureKind::Overload), 500 / 5);
    assert_eq!(all(FailureKind::NeverSent), 500 / 5);
    assert_eq!(all(FailureKind::Timeout), 500 / 10);
}

#[test]
fn a_retry_that_succeeds_costs_nothing_and_one_that_fails_what_its_failure_costs() {
    let budget = aws();
    for _ in 0..1_000 {
        let mut call = budget.ticket();
        assert!(call.try_retry(FailureKind::Timeout));
        call.succeed();
    }
    assert_eq!(budget.balance(), 500.0);
    let mut call = budget.ticket();
    assert!(call.try_retry(FailureKind::Timeout));
    assert!(call.try_retry(FailureKind::Transient));
    drop(call);
    assert_eq!(budget.balance(), 485.0);
}

#[test]
fn five_first_tries_that_succeed_are_worth_a_retry() {
    let budget = aws();
    while budget.ticket().try_retry(FailureKind::Transient) {}
    for success in 1..=5 {
        assert!(!super::take(&budget), "after {} successes", success - 1);
        budget.ticket().succeed();
    }
    assert!(super::take(&budget));
    assert!(!super::take(&budget));
}

#[test]
fn the_floor_gives_what_an_empty_quota_does_not_and_gets_nothing_back() {
    paused(async {
        let budget = Budget::quota(4).unwrap().with_floor(2);
        let mut calls = [(); 3].map(|()| budget.ticket());
        let taken = calls
            .each_mut()
            .map(|call| call.try_retry(FailureKind::Transient));
        assert_eq!(
            taken,
            [true, true, false],
            "4 tokens are too few, so by the second"
        );
        calls.into_iter().for_each(Ticket::succeed);
        assert_eq!(budget.balance(), 4.0, "the third's token finds it full");
        advance(Duration::from_millis(500)).await;
        assert!(super::take(&budget) && !super::take(&budget));
    });
}

#[test]
fn what_the_floor_gave_is_not_given_back_as_tokens() {
    paused(async {
        let budget = Budget::quota(5).unwrap().with_floor(1);
        assert!(super::take(&budget));
        let mut call = budget.ticket();
        assert!(call.try_retry(FailureKind::Transient), "the floor's");
        call.succeed();
        assert_eq!(budget.balance(), 0.0);
    });
}
