//! A ratio of successes against a balance in whole millionths and a bucket that fills as time goes by;
//! and the bounds that it promises.

use std::time::Duration;

use proptest::prelude::*;
use tokio::time::advance;

use super::{SECOND, config, paused, take};
use crate::{budget::Budget, classify::FailureKind, rng::Rng};

struct Model {
    deposit: u64,
    max: u64,
    balance: u64,
    per_second: u64,
    /// What the floor has left, in nanoseconds: a second at most.
    credit: u64,
}

impl Model {
    fn new(millionths: u32, max_balance: u32, floor: u32) -> Self {
        Self {
            deposit: millionths.into(),
            max: u64::from(max_balance) * 1_000_000,
            balance: 0,
            per_second: floor.into(),
            credit: SECOND,
        }
    }

    fn deposit(&mut self) {
        self.balance = self.max.min(self.balance + self.deposit);
    }

    fn advance(&mut self, nanos: u64) {
        self.credit = SECOND.min(self.credit + nanos);
    }

    fn take(&mut self) -> bool {
        if self.balance >= 1_000_000 {
            self.balance -= 1_000_000;
            return true;
        }
        let price = SECOND.checked_div(self.per_second);
        let paid = price.and_then(|price| self.credit.checked_sub(price));
        if let Some(left) = paid {
            self.credit = left;
        }
        paid.is_some()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Deposit(u32),
    Take(u32),
    Advance(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let nanos = prop_oneof![0..SECOND, Just(0), Just(SECOND), 0..100 * SECOND];
    prop_oneof![
        (1..40_u32).prop_map(Step::Deposit),
        (1..8_u32).prop_map(Step::Take),
        nanos.prop_map(Step::Advance),
    ]
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn it_gives_what_successes_fed_it_and_its_floor_and_never_more(
        millionths in prop_oneof![1..=1_000_000_u32, Just(100_000), Just(1_000_000)],
        max_balance in 1..10_u32,
        floor in prop_oneof![Just(0), Just(1), 0..20_u32, Just(1_000)],
        steps in proptest::collection::vec(step(), 0..120),
    ) {
        paused(async {
            let ratio = f64::from(millionths) / 1e6;
            let budget = Budget::new(ratio)
                .and_then(|budget| budget.with_max_balance(max_balance))
                .unwrap()
                .with_floor(floor);
            let clone = budget.clone();
            let mut model = Model::new(millionths, max_balance, floor);
            let (mut successes, mut retries, mut nanos) = (0_u64, 0_u64, 0_u64);
            for step in steps {
                match step {
                    Step::Deposit(times) => for _ in 0..times {
                        budget.deposit();
                        model.deposit();
                        successes += 1;
                    },
                    Step::Take(times) => for _ in 0..times {
                        let taken = take(&clone);
                        prop_assert_eq!(taken, model.take());
                        retries += u64::from(taken);
                    },
                    Step::Advance(by) => {
                        advance(Duration::from_nanos(by)).await;
                        model.advance(by);
                        nanos += by;
                    }
                }
                prop_assert_eq!(budget.balance(), model.balance as f64 / 1e6);
                let fed = u64::from(millionths) * successes / 1_000_000;
                // The first second's worth is there at once.
                let floor = u64::from(floor) + u64::from(floor) * nanos / SECOND;
                prop_assert!(retries <= fed + floor, "{retries} retries of {fed} and {floor}");
            }
            Ok(())
        })?;
    }
}

/// So many requests, each of up to four attempts, of which each fails by half.
fn attempts(requests: u32, budget: &Budget) -> u32 {
    let rng = Rng::new(Some(5));
    let mut attempts = 0;
    for _ in 0..requests {
        for attempt in 1..=4 {
            attempts += 1;
            if rng.draw() & 1 == 0 {
                budget.deposit();
                break;
            }
            if attempt == 4 || !take(budget) {
                break;
            }
        }
    }
    attempts
}

#[test]
fn at_half_failures_a_fifth_of_the_successes_is_all_that_is_added() {
    let budget = Budget::new(0.2).unwrap().with_floor(0);
    let attempts = attempts(10_000, &budget);
    // Not even 10,000 requests all succeed, so the retries stay below a fifth of them. Some are made.
    assert!((10_500..=12_000).contains(&attempts), "{attempts}");
}

#[tokio::test(start_paused = true)]
async fn where_all_fails_retrying_ends_but_for_the_floor() {
    let budget = Budget::new(0.5).unwrap().with_floor(3);
    for _ in 0..1_000 {
        budget.deposit();
    }
    let take_all = || (0..10_000).take_while(|_| take(&budget)).count();
    let most = Budget::DEFAULT_MAX_BALANCE as usize;
    assert_eq!(
        take_all(),
        most + 3,
        "what was saved up, and a second's worth"
    );
    let mut retries = 0;
    for _ in 0..60 {
        advance(Duration::from_secs(1)).await;
        retries += take_all();
    }
    assert_eq!(retries, 3 * 60);
}

#[tokio::test(start_paused = true)]
async fn the_floor_does_not_add_up() {
    let budget = Budget::new(0.1).unwrap().with_floor(2);
    advance(Duration::from_secs(3_600)).await;
    let taken = (0..100).filter(|_| take(&budget)).count();
    assert_eq!(taken, 2);
    advance(Duration::from_millis(499)).await;
    assert!(!take(&budget));
    advance(Duration::from_millis(1)).await;
    assert!(take(&budget), "half a second is worth one of two");
    assert!(!take(&budget));
}

#[test]
fn the_floor_is_left_alone_while_there_is_a_balance() {
    let budget = Budget::new(1.0).unwrap().with_floor(1);
    budget.deposit();
    assert!(take(&budget), "the balance");
    assert!(take(&budget), "the floor");
}

#[test]
fn a_success_is_worth_its_share_to_the_millionth() {
    let budget = Budget::new(0.1).unwrap().with_floor(0);
    for success in 1..=10 {
        assert!(!take(&budget), "after {} successes", success - 1);
        budget.deposit();
    }
    assert!(take(&budget), "ten tenths are one");
    assert!(!take(&budget));
}

#[test]
fn a_call_that_succeeds_after_retries_is_worth_no_more_than_another() {
    let budget = Budget::new(0.5).unwrap().with_floor(0);
    for _ in 0..4 {
        budget.ticket().succeed();
    }
    let mut retried = budget.ticket();
    assert!(retried.try_retry(FailureKind::Transient));
    assert_eq!(budget.balance(), 1.0);
    retried.succeed();
    assert_eq!(budget.balance(), 1.5);
}

#[test]
fn clones_share_what_is_saved_up() {
    let budget = Budget::new(1.0).unwrap().with_floor(0);
    let clone = budget.clone();
    budget.deposit();
    assert!(take(&clone));
    assert!(!take(&budget));
}

#[test]
fn another_setting_makes_a_new_budget_that_is_empty() {
    let budget = Budget::new(1.0).unwrap().with_floor(0);
    budget.deposit();
    assert_eq!(budget.clone().with_floor(1).balance(), 0.0);
    let smaller = budget.clone().with_max_balance(1).unwrap();
    assert_eq!(smaller.balance(), 0.0);
    assert!(!take(&smaller), "its floor is the one it was made from");
    assert_eq!(budget.balance(), 1.0);
}
