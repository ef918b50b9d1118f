//! What a budget lets through, and what a call holds of it.

use std::{
    pin::pin,
    sync::Arc,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
};

use futures_util::future::join_all;
use steadfast::{
    Verdict,
    backoff::Backoff,
    budget::Budget,
    classify::{Failure, Hint},
    retry::{RetryBuilder, RetryLayer},
};
use tokio::time::advance;
use tower::{Layer, Service, ServiceExt, service_fn};

use super::{build, never_sent::try_again, plain};
use crate::support::{Act, Error, Scripted, Told, ms, poll_once, secs, send, send_contained};

/// How many tokens a call of failed attempts takes of gRPC's throttle, and how many attempts it makes.
async fn tokens_taken(builder: RetryBuilder, failures: &[Failure]) -> (f64, usize) {
    let budget = Budget::grpc_throttle(100, 0.001).unwrap();
    let failures = failures.iter().copied();
    let (seen, result) = try_again(builder.budget(budget.clone()), failures).await;
    let paid_in = if result.is_ok() { 0.001 } else { 0.0 };
    (100.0 + paid_in - budget.balance(), seen.calls())
}

#[tokio::test(start_paused = true)]
async fn of_grpcs_throttle_each_failure_takes_a_token_that_may_be_tried_again() {
    let (failed, never) = (
        Failure::transient(),
        Failure::overload().with_hint(Hint::Never),
    );
    let patient = || plain().max_attempts(4);
    assert_eq!(
        tokens_taken(patient(), &[failed; 9]).await,
        (4.0, 4),
        "the last one too"
    );
    assert_eq!(
        tokens_taken(patient().max_attempts(1), &[failed]).await,
        (1.0, 1)
    );
    assert_eq!(
        tokens_taken(patient(), &[never]).await,
        (1.0, 1),
        "pushback not to"
    );
    assert_eq!(
        tokens_taken(patient(), &[Failure::permanent()]).await,
        (0.0, 1)
    );
    let not_this_code = Failure::timeout().non_retryable();
    assert_eq!(tokens_taken(patient(), &[not_this_code]).await, (0.0, 1));
    let not_sent = [Failure::never_sent(); 2];
    assert_eq!(
        tokens_taken(patient(), &not_sent).await,
        (1.0, 3),
        "but for the first"
    );
    let no_copy = patient().clone_request(|_: &()| None);
    let budget = Budget::grpc_throttle(100, 0.1).unwrap();
    try_again(no_copy.budget(budget.clone()), [failed])
        .await
        .1
        .unwrap_err();
    assert_eq!(budget.balance(), 99.0);
}

#[tokio::test(start_paused = true)]
async fn under_grpcs_throttle_a_call_makes_five_attempts_at_most() {
    let failures = [Failure::transient(); 99];
    assert_eq!(
        tokens_taken(plain().max_attempts(99), &failures).await,
        (5.0, 5)
    );
    assert_eq!(
        tokens_taken(plain().max_attempts(4), &failures).await,
        (4.0, 4)
    );
    let budget = Budget::grpc_throttle(100, 0.001).unwrap();
    let (service, watch) = Scripted::new();
    let wanted = |_: &Act| std::num::NonZeroU32::new(99);
    let layer = plain().budget(budget).max_attempts_per_request(wanted);
    let mut retry = layer.build().unwrap().layer(service);
    send(&mut retry, Act::Fail(1)).await.unwrap_err();
    assert_eq!(watch.calls(), 5, "whatever the request wants");
}

#[tokio::test(start_paused = true)]
async fn grpcs_throttle_ends_retrying_at_half_and_successes_bring_it_back() {
    let budget = Budget::grpc_throttle(10, 0.1).unwrap();
    let (mut retry, watch) = build(plain().max_attempts(4).budget(budget.clone()));
    send(&mut retry, Act::Fail(1)).await.unwrap_err();
    assert_eq!((watch.calls(), budget.balance()), (4, 6.0));
    send(&mut retry, Act::Fail(1)).await.unwrap_err();
    assert_eq!((watch.calls(), budget.balance()), (5, 5.0), "half");
    for _ in 0..21 {
        send(&mut retry, Act::Succeed).await.unwrap();
    }
    assert_eq!(budget.balance(), 7.1);
    let before = watch.calls();
    send(&mut retry, Act::Fail(1)).await.unwrap_err();
    assert_eq!(watch.calls() - before, 3, "6.1 and 5.1, then 4.1");
}

/// How many calls `requests` requests cause where each attempt fails with probability one half.
async fn calls_at_half_failing(builder: RetryBuilder, requests: usize) -> usize {
    let calls = Arc::new(AtomicUsize::new(0));
    let service = service_fn({
        let calls = calls.clone();
        move |()| {
            // Every second call fails, however it came to be.
            let fails = calls.fetch_add(1, SeqCst).is_multiple_of(2);
            async move {
                if fails {
                    Err(Error::Failed(1))
                } else {
                    Ok(1_u32)
                }
            }
        }
    });
    let mut retry = builder.build().unwrap().layer(service);
    for _ in 0..requests {
        let _ = retry.ready().await.unwrap().call(()).await;
    }
    calls.load(SeqCst)
}

#[tokio::test(start_paused = true)]
async fn a_budget_bounds_what_retries_add() {
    let at_once = || RetryLayer::builder().backoff(Backoff::none());
    let fifth = Budget::new(0.2).unwrap().with_floor(0);
    let calls = calls_at_half_failing(at_once().budget(fifth), 10_000).await;
    assert!((10_900..=12_000).contains(&calls), "{calls}");
    let by_default = calls_at_half_failing(at_once(), 10_000).await;
    assert!((10_400..=11_100).contains(&by_default), "{by_default}");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_fails_altogether_gets_only_the_floor_of_retries() {
    let (mut retry, watch) = build(RetryLayer::builder().backoff(Backoff::none()));
    for _ in 0..10_000 {
        send(&mut retry, Act::Succeed).await.unwrap();
    }
    let before = watch.calls();
    // Ten seconds of a hundred failures each: fifty saved up, and one a second.
    for _ in 0..10 {
        for _ in 0..100 {
            send(&mut retry, Act::Fail(1)).await.unwrap_err();
        }
        advance(secs(1)).await;
    }
    let retries = watch.calls() - before - 1000;
    assert_eq!(retries, 50 + 10);
}

#[tokio::test(start_paused = true)]
async fn a_new_client_has_its_floor_to_begin_with_and_no_more() {
    let (mut retry, watch) = build(RetryLayer::builder().backoff(Backoff::none()));
    for _ in 0..100 {
        send(&mut retry, Act::Fail(1)).await.unwrap_err();
    }
    assert_eq!(watch.calls(), 101);
}

#[tokio::test(start_paused = true)]
async fn one_budget_may_serve_many_layers() {
    let budget = Budget::new(1.0)
        .unwrap()
        .with_max_balance(5)
        .unwrap()
        .with_floor(0);
    let layer = || {
        RetryLayer::builder()
            .backoff(Backoff::none())
            .budget(budget.clone())
    };
    let (mut feeds, _) = build(layer());
    let (mut spends, watch) = build(layer());
    for _ in 0..100 {
        send(&mut feeds, Act::Succeed).await.unwrap();
    }
    for _ in 0..100 {
        send(&mut spends, Act::Fail(1)).await.unwrap_err();
    }
    assert_eq!(watch.calls(), 105);
}

#[tokio::test(start_paused = true)]
async fn a_retry_is_taken_from_the_budget_before_its_delay_and_once() {
    let budget = Budget::new(1.0).unwrap().with_floor(0);
    for _ in 0..3 {
        budget.deposit();
    }
    let layer = plain()
        .max_attempts(2)
        .budget(budget.clone())
        .build()
        .unwrap();
    let (service, watch) = Scripted::new();
    let retry = layer.layer(service);
    let mut clones: Vec<_> = (0..10).map(|_| retry.clone()).collect();
    let mut calls = pin!(join_all(
        clones.iter_mut().map(|retry| send(retry, Act::Fail(1)))
    ));
    assert!(poll_once(calls.as_mut()).is_pending());
    assert_eq!(budget.balance(), 0.0, "three wait, and hold nothing more");
    calls.await;
    assert_eq!(watch.calls(), 13);
}

#[tokio::test(start_paused = true)]
async fn a_retry_holds_its_place_through_delay_and_attempt_and_gives_it_back_however_it_ends() {
    let budget = Budget::concurrent(1);
    let (mut retry, watch) = build(plain().max_attempts(2).budget(budget.clone()));

    // In its delay, and dropped there.
    let mut call = Box::pin(retry.ready().await.unwrap().call(Act::Fail(1)));
    assert!(poll_once(call.as_mut()).is_pending());
    assert_eq!(budget.balance(), 0.0);
    let before = watch.calls();
    send(&mut retry, Act::Fail(1)).await.unwrap_err();
    assert_eq!(watch.calls() - before, 1, "the one place is taken");
    drop(call);
    assert_eq!(budget.balance(), 1.0);

    // In its attempt, and dropped there.
    let mut call = Box::pin(retry.ready().await.unwrap().call(Act::FailThenHang));
    assert!(poll_once(call.as_mut()).is_pending());
    advance(ms(11)).await;
    assert!(poll_once(call.as_mut()).is_pending());
    assert_eq!((watch.in_flight(), budget.balance()), (1, 0.0));
    drop(call);
    assert_eq!(budget.balance(), 1.0);

    // Answered, well or not, though the future is still there.
    for (act, is_well) in [(Act::FailTimes(1), true), (Act::Fail(1), false)] {
        let mut call = Box::pin(retry.ready().await.unwrap().call(act));
        assert_eq!(call.as_mut().await.is_ok(), is_well);
        assert_eq!(budget.balance(), 1.0);
    }

    // In a panic.
    let before = watch.calls();
    send_contained(&retry, Act::FailThenPanic)
        .await
        .unwrap_err();
    assert_eq!((watch.calls() - before, budget.balance()), (2, 1.0));
}

#[tokio::test(start_paused = true)]
async fn of_twenty_active_calls_that_fail_a_fifth_is_tried_again() {
    let budget = Budget::of_active(0.2).unwrap();
    let (retry, watch) = build(plain().max_attempts(2).budget(budget.clone()));
    let mut clones = vec![retry; 20];
    let calls = clones.iter_mut();
    join_all(calls.map(|retry| send(retry, Act::FailAfter(ms(5))))).await;
    assert_eq!(watch.calls(), 20 + 4);
    assert_eq!(
        budget.balance(),
        3.0,
        "no call is active: the least there is"
    );

    // By five layers of the same budget, four calls each.
    let services: Vec<_> = (0..5)
        .map(|_| build(plain().max_attempts(2).budget(budget.clone())))
        .collect();
    let calls = services
        .iter()
        .flat_map(|(retry, _)| vec![retry.clone(); 4]);
    join_all(calls.map(|mut retry| async move { send(&mut retry, Act::FailAfter(ms(5))).await }))
        .await;
    let calls: usize = services.iter().map(|(_, watch)| watch.calls()).sum();
    assert_eq!(calls, 20 + 4);
}

#[tokio::test(start_paused = true)]
async fn a_call_is_active_until_it_ends_in_any_way() {
    let budget = Budget::of_active(1.0).unwrap().with_floor(0);
    let (retry, _) = build(plain().budget(budget.clone()));
    let active = || budget.balance();
    let mut hangs = Box::pin(retry.clone().oneshot(Act::Hang));
    assert!(poll_once(hangs.as_mut()).is_pending());
    assert_eq!(active(), 1.0);
    send(&mut retry.clone(), Act::Succeed).await.unwrap();
    send(&mut retry.clone(), Act::Fail(1)).await.unwrap_err();
    send_contained(&retry, Act::Panic).await.unwrap_err();
    send_contained(&retry, Act::PanicInCall).await.unwrap_err();
    assert_eq!(active(), 1.0);
    drop(hangs);
    assert_eq!(active(), 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_quota_is_spent_by_the_kind_of_failure_and_given_back_by_the_retry_that_succeeds() {
    let budget = Budget::quota(500).unwrap().with_floor(0);
    let (service, watch) = Scripted::new();
    let layer = plain().max_attempts(2).budget(budget.clone());
    let mut retry = layer.classifier(Told).build().unwrap().layer(service);
    let mut say = async |failure: Failure| {
        let before = budget.balance();
        let act = Act::Say(Verdict::Failure(failure));
        send(&mut retry, act).await.unwrap_err();
        before - budget.balance()
    };
    assert_eq!(say(Failure::transient()).await, 5.0);
    assert_eq!(say(Failure::overload()).await, 5.0);
    assert_eq!(say(Failure::timeout()).await, 10.0);
    assert_eq!(say(Failure::permanent()).await, 0.0);
    assert_eq!(budget.balance(), 480.0);
    send(&mut retry, Act::FailTimes(1)).await.unwrap();
    assert_eq!(budget.balance(), 480.0, "taken and given back");
    send(&mut retry, Act::Succeed).await.unwrap();
    assert_eq!(budget.balance(), 481.0);

    let before = watch.calls();
    for _ in 0..200 {
        send(&mut retry, Act::Fail(1)).await.unwrap_err();
    }
    assert_eq!(watch.calls() - before, 200 + 481 / 5);
}
