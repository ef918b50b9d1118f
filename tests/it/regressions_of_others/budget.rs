//! The retry budgets of others, and what happens without one.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use futures_util::future::join_all;
use steadfast::{
    backoff::{Backoff, Jitter},
    budget::Budget,
    classify::FailureKind,
    retry::{Retry, RetryBuilder, RetryLayer},
};
use tokio::time::advance;
use tower::Layer;

use super::{on_threads, recorded, series};
use crate::support::{Act, Error, Scripted, Watch, ms, poll_once, secs, send};

/// Tries again at once, as often as the budget allows.
fn eager() -> RetryBuilder {
    RetryLayer::builder().backoff(Backoff::none())
}

fn build(builder: RetryBuilder) -> (Retry<Scripted>, Watch) {
    let (service, watch) = Scripted::new();
    (builder.build().unwrap().layer(service), watch)
}

/// Holds this many retries, and gets no more.
fn holding(retries: u32) -> Budget {
    let budget = Budget::new(1.0).unwrap().with_floor(0);
    (0..retries).for_each(|_| budget.deposit());
    budget
}

/// tower-resilience 0.13: a success pays for a whole retry, so at 50 % failures 10,000 requests were 20,000
/// attempts. resilience4j and Polly have no budget (Polly#2348, dotnet/extensions#7686); the AWS SDK for
/// Rust had one that nothing asked (aws-sdk-rust#1234). This one is that of the builder.
#[tokio::test(start_paused = true)]
async fn out_of_the_box_retries_add_a_tenth_where_half_of_all_calls_fail() {
    let (mut retry, watch) = build(eager());
    for _ in 0..5_000 {
        send(&mut retry, Act::Succeed).await.unwrap();
        send(&mut retry, Act::Fail(1)).await.unwrap_err();
    }
    // Five hundred for five thousand successes, and the second's floor of one.
    assert_eq!(watch.calls(), 10_000 + 500 + 1);
}

/// Finagle 24.5 `RetryBudget` and tower 0.5 `TpsBudget` as used there: what feeds the budget is requests, so
/// that a service which fails altogether goes on getting its share more.
#[tokio::test(start_paused = true)]
async fn where_all_fails_retrying_ends_but_for_the_floor() {
    let (mut retry, watch) = build(eager());
    for _ in 0..10 {
        for _ in 0..1_000 {
            send(&mut retry, Act::Fail(1)).await.unwrap_err();
        }
        advance(secs(1)).await;
    }
    assert_eq!(watch.calls(), 10_000 + 10);
}

fn take(budget: &Budget) -> bool {
    budget.ticket().try_retry(FailureKind::Transient)
}

/// failsafe-go 0.9.7 looks and then adds: those who look at once all get one.
#[tokio::test(start_paused = true)]
async fn of_threads_that_take_at_once_no_more_get_one_than_there_are() {
    let retries = 10_000;
    let budget = Budget::new(1.0).unwrap().with_floor(0);
    let budget = budget.with_max_balance(retries).unwrap();
    (0..retries).for_each(|_| budget.deposit());
    let taken = AtomicU32::new(0);
    on_threads(4, || {
        while take(&budget) {
            taken.fetch_add(1, SeqCst);
        }
    });
    assert_eq!(taken.into_inner(), retries);
}

/// tower-resilience#368, #370: budgets that load and then store lose one of two updates made at once.
#[tokio::test(start_paused = true)]
async fn nothing_that_is_fed_by_many_threads_is_lost() {
    let budget = Budget::new(0.001).unwrap().with_floor(0);
    on_threads(4, || (0..1_000).for_each(|_| budget.deposit()));
    assert_eq!(budget.balance(), 4.0);
}

/// failsafe-go 0.9.7 asks after the delay, when the crowd has gathered; Envoy counts a retry as long as it
/// waits out its backoff (envoy#30205, #30738).
#[tokio::test(start_paused = true)]
async fn a_retry_is_taken_once_before_its_delay() {
    let budget = holding(3);
    let second = Backoff::constant(secs(1)).with_jitter(Jitter::None);
    let layer = eager().max_attempts(2).backoff(second);
    let (retry, watch) = build(layer.budget(budget.clone()));
    let calls = (0..10).map(|_| {
        let mut retry = retry.clone();
        async move { send(&mut retry, Act::Fail(1)).await }
    });
    let mut calls = Box::pin(join_all(calls));
    assert!(poll_once(calls.as_mut()).is_pending());
    assert_eq!((budget.balance(), watch.calls()), (0.0, 10));
    budget.deposit(); // another's success, which is another's retry
    calls.await;
    assert_eq!((watch.calls(), budget.balance()), (13, 1.0));
}

/// The AWS SDKs and gRPC: tokens come back with successes only, so what is empty may stay so
/// (aws-sdk-go-v2#3189, eksctl#7877, cockroach#151748); failsafe-go#139: a floor that nobody looked at.
/// tower-resilience 0.13 refills by std's `Instant`; this clock is paused.
#[tokio::test(start_paused = true)]
async fn what_is_spent_comes_back_with_time() {
    let budget = Budget::default().with_floor(2);
    let takes = || (0..100).filter(|_| take(&budget)).count();
    assert_eq!((takes(), takes()), (2, 0));
    advance(ms(500)).await;
    assert_eq!(takes(), 1);
    advance(secs(3600)).await;
    assert_eq!(takes(), 2, "and an hour's are not saved up");
}

/// gRPC's and AWS's balances have no end in time (cockroach#151748); this one has in number, so that a day
/// of successes pays for no storm.
#[tokio::test(start_paused = true)]
async fn a_day_of_successes_saves_up_no_more_than_the_balance() {
    let (mut retry, watch) = build(eager().budget(Budget::default().with_floor(0)));
    for _ in 0..100_000 {
        send(&mut retry, Act::Succeed).await.unwrap();
    }
    for _ in 0..1_000 {
        send(&mut retry, Act::Fail(1)).await.unwrap_err();
    }
    let retries = watch.calls() - 101_000;
    assert_eq!(retries, Budget::DEFAULT_MAX_BALANCE as usize);
}

/// The AWS SDK for Go: one bucket for every service that is called, so that one that fails takes the
/// retries of the others (aws-sdk-go-base#915).
#[tokio::test(start_paused = true)]
async fn what_one_dependency_spends_another_keeps() {
    let (mut bad, _) = build(eager());
    let (mut good, _) = build(eager());
    for _ in 0..100 {
        send(&mut bad, Act::Fail(1)).await.unwrap_err();
    }
    assert_eq!(send(&mut good, Act::FailTimes(1)).await, Ok(2));
}

/// aws-sdk-go-v2#1665, lakeFS#6621, #6645: that the client's own budget is spent takes the place of the
/// service's error, and is taken for one.
#[tokio::test(start_paused = true)]
async fn an_empty_budget_is_told_beside_the_services_own_error() {
    let layer = || eager().budget(holding(0)).build().unwrap();
    let (layer, metrics) = recorded(layer);
    let mut retry = layer.layer(Scripted::new().0);
    let failed = send(&mut retry, Act::Fail(7)).await;
    assert_eq!(failed, Err(Error::Failed(7)));
    let stopped = series(&metrics, "steadfast_retry_stopped_total");
    assert_eq!(stopped, [("budget".to_owned(), 1.0)]);
}
