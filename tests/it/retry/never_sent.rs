//! Requests known never to have been sent.

use std::{
    future::ready,
    sync::{Arc, Mutex},
};

use steadfast::{
    Context, Verdict,
    budget::Budget,
    circuit_breaker::{CircuitBreakerLayer, State},
    classify::{Failure, Hint},
    retry::{CloneRequest, RetryBuilder},
};
use tower::{Layer, ServiceExt, service_fn};

use super::{Seen, plain};
use crate::support::{Act, Error, Scripted, Told, ms, secs, send};

const NEVER_SENT: Failure = Failure::never_sent();
const FAILED: Failure = Failure::transient();

/// Calls a service that fails like this, one after the other, and then succeeds.
pub(super) async fn try_again<Q>(
    builder: RetryBuilder<steadfast::classify::AnyError, Q>,
    fails: impl IntoIterator<Item = Failure>,
) -> (Seen, Result<(), Error>)
where
    Q: CloneRequest<()> + Clone,
{
    let seen = Seen::default();
    let fails = Arc::new(Mutex::new(
        fails.into_iter().collect::<Vec<_>>().into_iter(),
    ));
    let service = service_fn(|()| {
        seen.note();
        ready(match fails.lock().unwrap().next() {
            Some(failure) => Err(Error::Said(Verdict::Failure(failure))),
            None => Ok(()),
        })
    });
    let layer = builder.classifier(Told).build().unwrap();
    let result = layer.layer(service).oneshot(()).await;
    (seen.clone(), result)
}

#[tokio::test(start_paused = true)]
async fn it_is_sent_again_at_once_and_counts_neither_as_an_attempt_nor_against_the_budget() {
    let budget = Budget::new(1.0).unwrap().with_floor(0);
    budget.deposit();
    let builder = || plain().max_attempts(2).budget(budget.clone());
    let (seen, result) = try_again(builder(), [NEVER_SENT, FAILED]).await;
    assert_eq!(result, Ok(()));
    assert_eq!(
        seen.attempts(),
        [1, 1, 2],
        "one retry of two attempts, and one of its one"
    );
    assert_eq!(seen.delays(), [0, 10]);
    assert_eq!(budget.balance(), 1.0, "one taken, one paid in");

    let (seen, result) = try_again(builder().budget(Budget::concurrent(0)), [NEVER_SENT]).await;
    assert_eq!(
        (result, seen.attempts()),
        (Ok(()), vec![1, 1]),
        "without any budget"
    );
}

#[tokio::test(start_paused = true)]
async fn that_it_was_not_sent_counts_as_success_at_the_first_try() {
    let budget = Budget::quota(10).unwrap().with_floor(0);
    assert!(
        budget
            .ticket()
            .try_retry(steadfast::classify::FailureKind::Transient)
    );
    let (_, result) = try_again(plain().budget(budget.clone()), [NEVER_SENT]).await;
    assert_eq!((result, budget.balance()), (Ok(()), 6.0));
}

#[tokio::test(start_paused = true)]
async fn it_is_so_once_in_a_call_and_from_then_on_an_ordinary_failure() {
    let budget = Budget::quota(500).unwrap().with_floor(0);
    let builder = plain().budget(budget.clone());
    let (seen, result) = try_again(builder, [NEVER_SENT; 9]).await;
    assert!(result.is_err());
    assert_eq!(seen.attempts(), [1, 1, 2, 3]);
    assert_eq!(seen.delays(), [0, 10, 10]);
    assert_eq!(budget.balance(), 490.0);
    // Nor does a failure of another kind in between make it new.
    let (seen, _) = try_again(plain(), [NEVER_SENT, FAILED, NEVER_SENT, FAILED]).await;
    assert_eq!(seen.attempts(), [1, 1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn no_time_is_left_for_it_past_the_deadline() {
    for (deadline, calls) in [(ms(5), 1), (ms(6), 2)] {
        let context = Context::new().with_timeout(deadline);
        let builder = plain().max_attempts(2).attempt_needs(ms(5));
        let (seen, _) = context.scope(try_again(builder, [NEVER_SENT; 9])).await;
        assert_eq!(seen.calls(), calls);
    }
}

#[tokio::test(start_paused = true)]
async fn a_single_attempt_is_a_single_attempt() {
    let (seen, _) = try_again(plain().max_attempts(1), [NEVER_SENT]).await;
    assert_eq!(seen.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_the_service_said_holds_for_it_too() {
    let later = NEVER_SENT.with_hint(Hint::After(secs(2)));
    let (seen, _) = try_again(plain(), [later]).await;
    assert_eq!((seen.attempts(), seen.delays()), (vec![1, 2], vec![2_000]));
    let (seen, _) = try_again(plain(), [NEVER_SENT.with_hint(Hint::Never)]).await;
    assert_eq!(seen.calls(), 1);
}

/// Copies everything, and says of nothing that it may be repeated.
#[derive(Clone, Copy)]
struct Unsafe;

impl CloneRequest<()> for Unsafe {
    fn clone_request(&self, (): &()) -> Option<()> {
        Some(())
    }

    fn may_repeat(&self, (): &()) -> bool {
        false
    }
}

#[tokio::test(start_paused = true)]
async fn what_must_not_arrive_twice_is_sent_again_as_long_as_it_did_not_arrive() {
    let builder = || plain().clone_request(Unsafe).max_attempts(4);
    let (seen, result) = try_again(builder(), [NEVER_SENT; 3]).await;
    assert_eq!((result, seen.attempts()), (Ok(()), vec![1, 1, 2, 3]));
    let (seen, result) = try_again(builder(), [NEVER_SENT, FAILED]).await;
    assert_eq!((seen.calls(), result.is_err()), (2, true));
    for seen_by_the_service in [FAILED, Failure::overload(), Failure::timeout()] {
        let (seen, result) = try_again(builder(), [seen_by_the_service]).await;
        assert_eq!((seen.calls(), result.is_err()), (1, true));
    }
    // Also through the attempts per request, which stand around it.
    let builder = builder().max_attempts_per_request(|(): &()| None);
    let (seen, _) = try_again(builder, [FAILED]).await;
    assert_eq!(seen.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn to_a_breaker_it_is_a_failure_like_any_other() {
    let breaker = CircuitBreakerLayer::builder()
        .consecutive_failures(2)
        .classifier(Told)
        .build()
        .unwrap();
    let handle = breaker.handle();
    let (service, watch) = Scripted::new();
    let layer = plain().max_attempts(5).classifier(Told).build().unwrap();
    let mut retry = layer.layer(breaker.layer(service));
    let act = Act::Say(NEVER_SENT.into());
    send(&mut retry, act).await.unwrap_err().rejected();
    assert_eq!((handle.state(), watch.calls()), (State::Open, 2));
}
