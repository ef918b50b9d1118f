//! Every budget against a slow and obvious model of it.

mod places;
mod quota;
mod successes;
mod throttle;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;

const SECOND: u64 = 1_000_000_000;

fn config() -> ProptestConfig {
    ProptestConfig {
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::with_cases(400)
    }
}

/// Runs on a clock that stands still unless it is advanced.
fn paused<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(test)
}

/// Takes a retry of a call that ends at once.
fn take(budget: &Budget) -> bool {
    budget.ticket().try_retry(FailureKind::Transient)
}

const KINDS: [FailureKind; FailureKind::COUNT] = [
    FailureKind::Transient,
    FailureKind::Overload,
    FailureKind::Timeout,
    FailureKind::Permanent,
    FailureKind::NeverSent,
];

#[test]
fn settings_that_cannot_work_are_refused_by_name() {
    for share in [0.0, 1.5, -0.1, f64::NAN, f64::INFINITY] {
        assert_eq!(Budget::new(share).unwrap_err().setting(), "budget.ratio");
        let error = Budget::of_active(share).unwrap_err();
        assert_eq!(error.setting(), "budget.share");
    }
    assert_eq!(Budget::quota(0).unwrap_err().setting(), "budget.quota");
    let all = || {
        let (ratio, quota) = (Budget::default(), Budget::quota(5).unwrap());
        let active = Budget::of_active(0.2).unwrap();
        let throttle = Budget::grpc_throttle(10, 0.1).unwrap();
        [ratio, quota, active, Budget::concurrent(3), throttle]
    };
    for (nth, budget) in all().into_iter().enumerate() {
        let set = [0, 5].map(|n| budget.clone().with_max_balance(n));
        let [zero, five] = set.map(|set| set.map_err(|error| error.setting()).err());
        assert_eq!(zero, Some("budget.max_balance"));
        assert_eq!(five.is_none(), nth == 0, "{budget:?}");
    }
    for (nth, budget) in all().into_iter().enumerate() {
        let set = [0, 5].map(|n| budget.clone().with_cost(FailureKind::Overload, n));
        let [zero, five] = set.map(|set| set.map_err(|error| error.setting()).err());
        assert_eq!(zero, Some("budget.cost"));
        assert_eq!(five.is_none(), nth == 1, "{budget:?}");
    }
}

#[test]
fn a_budget_shows_what_it_was_told_and_what_there_is() {
    let shown = format!("{:?}", Budget::of_active(0.2).unwrap());
    let places = "Places { share: 0.2, active: 0, floor: 3, taken: 0 }";
    assert_eq!(
        shown,
        format!("Budget {{ places: {places}, balance: 3.0 }}")
    );
    let shown = format!("{:?}", Budget::quota(7).unwrap());
    let terms = "Quota { tokens: 7, costs: [5, 5, 10, 5, 5], floor: 1 }";
    assert_eq!(shown, format!("Budget {{ terms: {terms}, balance: 7.0 }}"));
    let shown = format!("{:?}", Budget::default());
    let terms = "Ratio { ratio: 0.1, max_balance: 50, floor: 1 }";
    assert_eq!(shown, format!("Budget {{ terms: {terms}, balance: 0.0 }}"));
}
