//! Requests that come back in the error.

use std::{
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use steadfast::{
    Context, Rejected, Verdict,
    budget::Budget,
    bulkhead::BulkheadLayer,
    classify::{AnyError, Failure},
    retry::{CloneRequest, Decide, RetryBuilder},
};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

use super::{Seen, plain};

/// A request that is not `Clone`.
#[derive(Debug, PartialEq, Eq)]
struct Parcel(u32);

#[derive(Debug, Default, PartialEq, Eq)]
struct Failed {
    returned: Option<Parcel>,
    was_rejected: bool,
}

impl From<Rejected> for Failed {
    fn from(_: Rejected) -> Self {
        let (returned, was_rejected) = (None, true);
        Self {
            returned,
            was_rejected,
        }
    }
}

/// Hands every parcel back, until the attempt with this number.
fn post_office(
    seen: &Seen,
    succeeds_at: u32,
) -> impl Service<Parcel, Response = Parcel, Error = Failed> + Clone {
    let seen = seen.clone();
    service_fn(move |parcel| {
        seen.note();
        let is_taken = Context::current().attempt().get() >= succeeds_at;
        ready(if is_taken {
            Ok(parcel)
        } else {
            let returned = Some(parcel);
            Err(Failed {
                returned,
                ..Failed::default()
            })
        })
    })
}

fn peek(error: &Failed) -> Option<&Parcel> {
    error.returned.as_ref()
}

fn take(error: &mut Failed) -> Option<Parcel> {
    error.returned.take()
}

/// Copies nothing. Only parcels with an even number may arrive twice.
#[derive(Clone, Copy)]
struct Never;

impl CloneRequest<Parcel> for Never {
    fn clone_request(&self, _: &Parcel) -> Option<Parcel> {
        None
    }

    fn may_repeat(&self, parcel: &Parcel) -> bool {
        parcel.0.is_multiple_of(2)
    }
}

trait Says: Decide<Parcel, Parcel, Failed> + Clone {}
impl<D: Decide<Parcel, Parcel, Failed> + Clone> Says for D {}

fn builder() -> RetryBuilder<AnyError, Never, impl Says> {
    plain().clone_request(Never).restore_request(peek, take)
}

#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_be_cloned_but_comes_back_is_tried_again() {
    let seen = Seen::default();
    let retry = builder().build().unwrap().layer(post_office(&seen, 3));
    assert_eq!(retry.oneshot(Parcel(8)).await, Ok(Parcel(8)));
    assert_eq!(seen.attempts(), [1, 2, 3]);
    assert_eq!(seen.delays(), [10, 10]);
}

#[tokio::test(start_paused = true)]
async fn an_error_that_is_returned_keeps_its_request() {
    let returned = |number| {
        Err(Failed {
            returned: Some(Parcel(number)),
            ..Failed::default()
        })
    };
    // The attempts are over.
    let seen = Seen::default();
    let layer = builder().build().unwrap();
    let retry = layer.layer(post_office(&seen, 99));
    assert_eq!(retry.oneshot(Parcel(8)).await, returned(8));
    assert_eq!(seen.calls(), 3);
    // The budget is spent.
    let budget = Budget::concurrent(0);
    let layer = builder().budget(budget).build().unwrap();
    let retry = layer.layer(post_office(&seen, 99));
    assert_eq!(retry.oneshot(Parcel(8)).await, returned(8));
    // The deadline is too near.
    let layer = builder().build().unwrap();
    let retry = layer.layer(post_office(&seen, 99));
    let context = Context::new().with_timeout(crate::support::ms(10));
    assert_eq!(context.scope(retry.oneshot(Parcel(8))).await, returned(8));
    assert_eq!(seen.calls(), 5);
}

#[tokio::test(start_paused = true)]
async fn what_must_not_arrive_twice_is_tried_again_only_if_it_was_never_sent() {
    let never_sent = |result: Result<&Parcel, &Failed>| match result {
        Ok(_) => Verdict::Success,
        Err(_) => Failure::never_sent().into(),
    };
    let seen = Seen::default();
    let retry = builder().build().unwrap().layer(post_office(&seen, 99));
    retry.oneshot(Parcel(7)).await.unwrap_err();
    assert_eq!(seen.calls(), 1);

    let seen = Seen::default();
    let layer = builder().classifier(never_sent).build().unwrap();
    layer
        .layer(post_office(&seen, 3))
        .oneshot(Parcel(7))
        .await
        .unwrap();
    assert_eq!(seen.attempts(), [1, 1, 2, 3], "at once, and then as ever");
}

#[tokio::test(start_paused = true)]
async fn the_decision_sees_the_request_that_comes_back_whichever_was_set_first() {
    async fn calls(builder: RetryBuilder<AnyError, Never, impl Says>, number: u32) -> usize {
        let seen = Seen::default();
        let retry = builder.build().unwrap().layer(post_office(&seen, 2));
        let result = retry.oneshot(Parcel(number)).await;
        assert_eq!(result.is_ok(), seen.calls() == 2);
        seen.calls()
    }
    let below_20 = |parcel: &Parcel, _: Result<&Parcel, &Failed>| parcel.0 < 20;
    for (number, expected) in [(8, 2), (30, 1)] {
        let builder = plain().clone_request(Never);
        let after = builder
            .clone()
            .restore_request(peek, take)
            .retry_if(below_20);
        assert_eq!(calls(after, number).await, expected);
        let before = builder.retry_if(below_20).restore_request(peek, take);
        assert_eq!(calls(before, number).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_shown_and_not_given_is_not_tried_again_and_costs_no_retry() {
    let budget = Budget::new(1.0).unwrap().with_floor(0);
    budget.deposit();
    let seen = Seen::default();
    let layer = plain()
        .clone_request(Never)
        .restore_request(peek, |_: &mut Failed| None::<Parcel>)
        .budget(budget.clone())
        .build()
        .unwrap();
    layer
        .layer(post_office(&seen, 2))
        .oneshot(Parcel(8))
        .await
        .unwrap_err();
    assert_eq!((seen.calls(), budget.balance()), (1, 1.0));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_and_an_error_without_a_request_come_back_as_they_are() {
    let seen = Seen::default();
    let layer = builder().build().unwrap();
    let refused = ServiceBuilder::new()
        .layer(layer.clone())
        .layer(BulkheadLayer::new(0))
        .service(post_office(&seen, 1));
    assert!(refused.oneshot(Parcel(8)).await.unwrap_err().was_rejected);

    let calls = AtomicUsize::new(0);
    let loses = service_fn(|_: Parcel| {
        calls.fetch_add(1, SeqCst);
        ready(Err::<Parcel, _>(Failed::default()))
    });
    layer.layer(loses).oneshot(Parcel(8)).await.unwrap_err();
    assert_eq!((seen.calls(), calls.load(SeqCst)), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_copy_is_used_before_what_the_error_holds() {
    #[derive(Clone, Debug)]
    struct Letter(Arc<AtomicUsize>);
    #[derive(Debug)]
    struct Returned(Option<Letter>);

    let taken = Arc::new(AtomicUsize::new(0));
    let service = service_fn(|letter: Letter| {
        letter.0.fetch_add(1, SeqCst);
        ready(Err::<(), _>(Returned(Some(letter))))
    });
    let layer = plain()
        .restore_request(
            |error: &Returned| error.0.as_ref(),
            |error: &mut Returned| {
                taken.fetch_add(1, SeqCst);
                error.0.take()
            },
        )
        .build()
        .unwrap();
    let letter = Letter(Arc::default());
    let error = layer.layer(service).oneshot(letter).await.unwrap_err();
    let sent = error.0.unwrap().0.load(SeqCst);
    assert_eq!((sent, taken.load(SeqCst)), (3, 0));
}
