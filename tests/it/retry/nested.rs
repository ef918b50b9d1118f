//! Retries inside retries.

use std::{
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use steadfast::{
    Context,
    backoff::Backoff,
    budget::Budget,
    retry::{Retry, RetryBuilder, RetryLayer},
};
use tokio::time::advance;
use tower::{Layer, Service, ServiceExt, service_fn};

use super::{Seen, plain};
use crate::support::{Error, ms};

type Nested<S> = Retry<Retry<Retry<Retry<Retry<S>>>>>;

/// Five layers, one inside the other.
fn nest<S>(builder: impl Fn() -> RetryBuilder, service: S) -> Nested<S> {
    let layer = || builder().build().unwrap();
    let service = layer().layer(layer().layer(service));
    layer().layer(layer().layer(layer().layer(service)))
}

/// Fails so many of a hundred calls.
fn fails(percent: u64, seen: &Seen) -> impl Service<(), Response = (), Error = Error> + Clone {
    let (seen, state) = (seen.clone(), Arc::new(AtomicU64::new(1)));
    service_fn(move |()| {
        seen.note();
        // Knuth's generator, of which the upper bits are good.
        let step = |x: u64| x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let random = step(
            state
                .fetch_update(SeqCst, SeqCst, |x| Some(step(x)))
                .unwrap(),
        );
        let is_failure = (random >> 33) % 100 < percent;
        ready(if is_failure {
            Err(Error::Failed(1))
        } else {
            Ok(())
        })
    })
}

/// Calls at the bottom of five layers for each at their top, one every 10 ms.
async fn calls_at_the_bottom(builder: impl Fn() -> RetryBuilder, percent: u64) -> f64 {
    const REQUESTS: u32 = 10_000;
    let seen = Seen::default();
    let nested = nest(builder, fails(percent, &seen));
    for _ in 0..REQUESTS {
        let _ = nested.clone().oneshot(()).await;
        advance(ms(10)).await;
    }
    seen.calls() as f64 / f64::from(REQUESTS)
}

#[tokio::test(start_paused = true)]
async fn five_layers_by_three_tries_cost_no_more_than_a_tenth_at_the_bottom() {
    for percent in [100, 50] {
        let at_the_bottom = calls_at_the_bottom(RetryLayer::builder, percent).await;
        let some = 1.0 + 0.005;
        assert!(
            (some..=1.1).contains(&at_the_bottom),
            "{percent} %: {at_the_bottom}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn without_budgets_they_are_as_many_as_one_layer_would_make() {
    let at_once = || plain().backoff(Backoff::none());
    assert_eq!(calls_at_the_bottom(at_once, 100).await, 3.0);
    let half = calls_at_the_bottom(at_once, 50).await;
    assert!(
        (half - 1.75).abs() < 0.03,
        "one, a half, and a quarter: {half}"
    );
}

/// Two layers over a service that fails: how many calls there are, and with which numbers.
async fn attempts_of(outer: RetryBuilder, inner: RetryBuilder) -> Vec<u32> {
    let seen = Seen::default();
    let inner = inner.build().unwrap().layer(fails(100, &seen));
    outer
        .build()
        .unwrap()
        .layer(inner)
        .oneshot(())
        .await
        .unwrap_err();
    seen.attempts()
}

#[tokio::test(start_paused = true)]
async fn the_outer_one_retries_and_the_number_of_the_attempt_is_its_own() {
    assert_eq!(attempts_of(plain(), plain()).await, [1, 2, 3]);
    assert_eq!(
        attempts_of(plain().max_attempts(2), plain().max_attempts(9)).await,
        [1, 2]
    );
}

#[tokio::test(start_paused = true)]
async fn where_the_outer_one_makes_a_single_attempt_the_inner_one_retries() {
    assert_eq!(
        attempts_of(plain().max_attempts(1), plain()).await,
        [1, 2, 3]
    );
    // And where it has no copy of the request.
    let seen = Seen::default();
    let inner = plain().build().unwrap().layer(fails(100, &seen));
    let outer = plain().clone_request(|(): &()| None).build().unwrap();
    outer.layer(inner).oneshot(()).await.unwrap_err();
    assert_eq!(seen.attempts(), [1, 2, 3]);
    // But not where an error might hand it back.
    let seen = Seen::default();
    let inner = plain().build().unwrap().layer(fails(100, &seen));
    let outer = plain()
        .clone_request(|(): &()| None)
        .restore_request(|_: &Error| Some(&()), |_: &mut Error| Some(()));
    outer
        .build()
        .unwrap()
        .layer(inner)
        .oneshot(())
        .await
        .unwrap_err();
    assert_eq!(seen.attempts(), [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_told_to_retries_all_the_same() {
    let inner = plain().retry_when_nested();
    let attempts = attempts_of(plain(), inner).await;
    assert_eq!(attempts, [1, 2, 3, 1, 2, 3, 1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_part_of_a_composite_can_be_left_to_its_own_retry() {
    let (charged, recommended) = (Seen::default(), Seen::default());
    let charge = plain().build().unwrap().layer(fails(0, &charged));
    let recommend = plain().build().unwrap().layer(fails(100, &recommended));
    let composite = service_fn(|is_apart: bool| {
        let (charge, recommend) = (charge.clone(), recommend.clone());
        async move {
            assert!(Context::current().is_retried_above());
            charge.oneshot(()).await?;
            let context = Context::current().with_retried_above(!is_apart);
            context.scope(recommend.oneshot(())).await
        }
    });
    let outer = plain().max_attempts(2).build().unwrap();
    outer.layer(composite).oneshot(false).await.unwrap_err();
    assert_eq!((charged.calls(), recommended.calls()), (2, 2));
    outer.layer(composite).oneshot(true).await.unwrap_err();
    assert_eq!((charged.calls(), recommended.calls()), (4, 2 + 6));
}

#[tokio::test(start_paused = true)]
async fn whoever_says_that_a_retry_above_has_the_say_is_believed() {
    let seen = Seen::default();
    let layer = plain().build().unwrap();
    let retry = || layer.layer(fails(100, &seen)).oneshot(());
    let context = Context::new().with_retried_above(true);
    context.scope(retry()).await.unwrap_err();
    assert_eq!(seen.calls(), 1);
    retry().await.unwrap_err();
    assert_eq!(seen.calls(), 1 + 3);
    assert!(!Context::current().is_retried_above(), "left with the call");
}

#[tokio::test(start_paused = true)]
async fn one_that_stands_back_feeds_its_budget_all_the_same() {
    let budget = Budget::new(1.0).unwrap();
    let inner = plain().budget(budget.clone()).build().unwrap();
    let seen = Seen::default();
    let service = inner.layer(fails(0, &seen));
    plain()
        .build()
        .unwrap()
        .layer(service)
        .oneshot(())
        .await
        .unwrap();
    assert_eq!(budget.balance(), 1.0);
}
