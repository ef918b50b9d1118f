//! gRPC's throttle against gRFC A6, in whole thousandths.

use super::*;
use crate::rng::Rng;

/// As gRFC A6 has it. The ratio is read from its decimals, as from a service config.
struct Model {
    max: i64,
    ratio: i64,
    tokens: i64,
}

impl Model {
    fn new(max_tokens: u32, ratio: &str) -> Self {
        let (whole, decimals) = ratio.split_once('.').unwrap_or((ratio, ""));
        let decimals: String = decimals.chars().chain("000".chars()).take(3).collect();
        let max = i64::from(max_tokens) * 1000;
        Self {
            max,
            ratio: whole.parse::<i64>().unwrap() * 1000 + decimals.parse::<i64>().unwrap(),
            tokens: max,
        }
    }

    fn failed(&mut self) {
        self.tokens = (self.tokens - 1000).max(0);
    }

    fn succeeded(&mut self) {
        self.tokens = (self.tokens + self.ratio).min(self.max);
    }

    fn may_retry(&self) -> bool {
        self.tokens * 2 > self.max
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn token_for_token_it_is_what_grpc_says(
        max_tokens in 1_u32..=1000,
        ratio in "0\\.(00[1-9]|[0-9][1-9][0-9]|[1-9][0-9]{2})[0-9]{0,4}|[1-9][0-9]{0,2}\\.[0-9]{1,6}",
        failures in prop::collection::vec(prop::bool::weighted(0.5), 1..300),
    ) {
        let budget = Budget::grpc_throttle(max_tokens, ratio.parse().unwrap()).unwrap();
        let mut model = Model::new(max_tokens, &ratio);
        for failed in failures {
            if failed {
                budget.failed();
                model.failed();
            } else {
                budget.deposit();
                model.succeeded();
            }
            prop_assert_eq!(budget.balance(), model.tokens as f64 / 1000.0);
            prop_assert_eq!(take(&budget), model.may_retry());
        }
    }
}

#[test]
fn three_decimals_of_the_ratio_count_and_no_others() {
    for thousandths in 1..=10_000_u32 {
        for rest in ["", "9", "999"] {
            let ratio = format!("{}.{:03}{rest}", thousandths / 1000, thousandths % 1000);
            let budget = Budget::grpc_throttle(1000, ratio.parse().unwrap()).unwrap();
            (0..11).for_each(|_| budget.failed());
            budget.deposit();
            let expected = f64::from(1_000_000 - 11_000 + thousandths) / 1000.0;
            assert_eq!(budget.balance(), expected, "{ratio}");
        }
    }
}

#[test]
fn the_trace_of_ten_tokens_and_a_tenth() {
    let budget = Budget::grpc_throttle(10, 0.1).unwrap();
    let failed = || {
        budget.failed();
        (budget.balance(), take(&budget))
    };
    let trace = [(9.0, true), (8.0, true), (7.0, true), (6.0, true)];
    assert_eq!([failed(), failed(), failed(), failed()], trace);
    assert_eq!(failed(), (5.0, false), "half is not more than half");
    assert_eq!(failed(), (4.0, false));
    for _ in 0..10 {
        assert!(!take(&budget));
        budget.deposit();
    }
    assert_eq!(budget.balance(), 5.0);
    budget.deposit();
    assert_eq!((budget.balance(), take(&budget)), (5.1, true));
    (0..100).for_each(|_| budget.deposit());
    assert_eq!(budget.balance(), 10.0, "never more than there were");
    (0..100).for_each(|_| budget.failed());
    assert_eq!(budget.balance(), 0.0, "and never less than none");
}

#[test]
fn a_retry_takes_nothing_and_a_call_that_ends_well_after_one_pays_in() {
    let budget = Budget::grpc_throttle(10, 0.5).unwrap();
    budget.failed();
    let mut call = budget.ticket();
    assert!(call.try_retry(FailureKind::Transient));
    assert_eq!(budget.balance(), 9.0);
    call.succeed();
    assert_eq!(budget.balance(), 9.5);
    let mut call = budget.ticket();
    assert!(call.try_retry(FailureKind::Transient));
    drop(call);
    assert_eq!(budget.balance(), 9.5);
}

#[test]
fn its_floor_is_of_retries_a_second_where_it_has_none() {
    paused(async {
        let budget = Budget::grpc_throttle(2, 0.1).unwrap().with_floor(2);
        assert!((0..10).all(|_| take(&budget)), "there are tokens");
        budget.failed();
        assert_eq!((0..10).filter(|_| take(&budget)).count(), 2);
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        assert_eq!((0..10).filter(|_| take(&budget)).count(), 2);
    });
}

#[test]
fn a_throttle_that_cannot_be_one_is_refused_by_name() {
    for tokens in [0, 1001, u32::MAX] {
        let error = Budget::grpc_throttle(tokens, 0.1).unwrap_err();
        assert_eq!(error.setting(), "budget.max_tokens");
    }
    for ratio in [0.0, -1.0, 0.0009, 1000.1, f64::NAN, f64::INFINITY] {
        let error = Budget::grpc_throttle(10, ratio).unwrap_err();
        assert_eq!(error.setting(), "budget.token_ratio");
    }
    assert!(Budget::grpc_throttle(1, 0.001).is_ok());
    assert!(Budget::grpc_throttle(1000, 1000.0).is_ok());
    let shown = format!("{:?}", Budget::grpc_throttle(10, 0.1).unwrap());
    let throttle = "Throttle { max_tokens: 10, token_ratio: 0.1, floor: 0 }";
    assert_eq!(
        shown,
        format!("Budget {{ throttle: {throttle}, balance: 10.0 }}")
    );
}

/// Attempts for each call, and the share of calls that end well, where each attempt fails with the same
/// probability and a call may make four.
fn amplification(failing: f64) -> (f64, f64) {
    const CALLS: u32 = 200_000;
    let budget = Budget::grpc_throttle(10, 0.1).unwrap();
    let random = Rng::new(Some(1));
    let fails = || (random.draw() as f64) < failing * u64::MAX as f64;
    let (mut attempts, mut succeeded) = (0, 0);
    for _ in 0..CALLS {
        let mut call = budget.ticket();
        for attempt in 1..=4 {
            attempts += 1;
            if !fails() {
                succeeded += 1;
                call.succeed();
                break;
            }
            budget.failed();
            if attempt == 4 || !call.try_retry(FailureKind::Transient) {
                break;
            }
        }
    }
    let each = |number: u32| f64::from(number) / f64::from(CALLS);
    (each(attempts), each(succeeded))
}

#[test]
fn load_grows_by_as_much_as_with_grpc_and_no_more_where_too_many_fail() {
    let published = [
        (0.01, 1.010, 1.0),
        (0.05, 1.052, 0.9994),
        (0.08, 1.060, 0.976),
        (0.10, 1.020, 0.918),
        (0.12, 1.003, 0.882),
        (0.20, 1.000, 0.800),
        (0.50, 1.000, 0.500),
    ];
    for (failing, load, success) in published {
        let (measured_load, measured_success) = amplification(failing);
        assert!(
            (measured_load - load).abs() < 0.004,
            "{failing}: {measured_load}"
        );
        assert!(
            (measured_success - success).abs() < 0.006,
            "{failing}: {measured_success}"
        );
    }
}
