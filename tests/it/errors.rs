//! Errors: flat, unchanged, told apart, found again.

use std::{convert::Infallible, error::Error as StdError, io, time::Duration};

use steadfast::{
    Error, FromRejected, FromTimedOut, LiftLayer, Limit, Reason, Rejected, TimedOut,
    bulkhead::{BulkheadLayer, Queue},
    circuit_breaker::CircuitBreakerLayer,
    classify::Failure,
    load_shed::LoadShedLayer,
    retry::RetryLayer,
    throttle::ThrottleLayer,
    timeout::TimeoutLayer,
};
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt, service_fn};

use crate::support::{Act, Scripted, ms, secs, send};

/// Ten layers over `inner`.
macro_rules! ten_layers {
    ($inner:expr) => {
        ServiceBuilder::new()
            .layer(TimeoutLayer::new(secs(9)).unwrap())
            .layer(
                BulkheadLayer::builder(9)
                    .queue(Queue::fifo(9, secs(9)))
                    .build(),
            )
            .layer(TimeoutLayer::new(secs(8)).unwrap().covering_readiness())
            .layer(RetryLayer::builder().build().unwrap())
            .layer(CircuitBreakerLayer::builder().build().unwrap())
            .layer(LoadShedLayer::builder().in_flight(8).build().unwrap())
            .layer(TimeoutLayer::new(secs(7)).unwrap())
            .layer(RetryLayer::builder().max_attempts(1).build().unwrap())
            .layer(CircuitBreakerLayer::builder().build().unwrap())
            .layer(BulkheadLayer::new(7))
            .service($inner)
    };
}

fn error_of<S: Service<Req, Error = E>, Req, E>(_: &S, _: Option<Req>) -> Option<E> {
    None
}

#[tokio::test(start_paused = true)]
async fn ten_layers_have_the_error_type_of_none() {
    let (inner, _) = Scripted::new();
    let one = error_of(&inner, None::<Act>);
    let mut stack = ten_layers!(inner);
    let ten = error_of(&stack, None::<Act>);
    assert_eq!(one, ten); // compiles for one type only
    let error = send(&mut stack, Act::Fail(42)).await.unwrap_err();
    assert_eq!(error, crate::support::Error::Failed(42));
}

#[derive(Debug, thiserror::Error)]
#[error("root")]
struct Root;

#[derive(Debug, thiserror::Error)]
#[error("middle")]
struct Middle(#[source] Root);

#[derive(Debug, thiserror::Error)]
#[error("outer")]
struct Outer(#[source] io::Error);

fn chain_ends_in_root(error: &(dyn StdError + 'static)) -> bool {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.is::<Root>()
}

#[tokio::test(start_paused = true)]
async fn the_inner_error_comes_back_as_it_was_and_its_source_is_the_root() {
    let failing = service_fn(|()| async { Err::<(), BoxError>(Middle(Root).into()) });
    let error = ten_layers!(failing).oneshot(()).await.unwrap_err();
    assert!(error.is::<Middle>());
    assert!(chain_ends_in_root(&*error));

    let failing = service_fn(|()| async { Err::<(), _>(Middle(Root)) });
    let lifted = LiftLayer::new().layer(failing);
    let error = ten_layers!(lifted).oneshot(()).await.unwrap_err();
    assert_eq!(error.to_string(), "middle");
    assert!(chain_ends_in_root(&error));
    assert!(matches!(error.into_inner(), Ok(Middle(Root))));
}

#[derive(Debug)]
#[allow(dead_code, reason = "what it holds is shown by its type alone")]
enum Own {
    Rejected(Rejected),
    TimedOut(TimedOut),
}

impl From<Rejected> for Own {
    fn from(rejected: Rejected) -> Self {
        Self::Rejected(rejected)
    }
}

impl From<TimedOut> for Own {
    fn from(timed_out: TimedOut) -> Self {
        Self::TimedOut(timed_out)
    }
}

#[test]
fn common_error_types_take_both_at_once_and_a_users_own_with_one_from_impl_each() {
    fn takes_both<E: FromRejected + FromTimedOut>() {}
    takes_both::<BoxError>();
    takes_both::<io::Error>();
    takes_both::<Own>();
    takes_both::<Error<Infallible>>();
    takes_both::<Error<Root>>();
    #[cfg(feature = "grpc")]
    takes_both::<tonic::Status>();
}

#[tokio::test(start_paused = true)]
async fn refused_and_timed_out_are_different_types_found_in_any_chain() {
    let hangs = service_fn(|()| std::future::pending::<Result<(), BoxError>>());
    let error = TimeoutLayer::new(ms(1))
        .unwrap()
        .layer(hangs)
        .oneshot(())
        .await
        .unwrap_err();
    assert!(TimedOut::find(&*error).is_some() && Rejected::find(&*error).is_none());
    let error = BulkheadLayer::new(0)
        .layer(hangs)
        .oneshot(())
        .await
        .unwrap_err();
    assert!(TimedOut::find(&*error).is_none() && Rejected::find(&*error).is_some());

    let rejected = Rejected::new("db", Reason::Overloaded).with_retry_after(secs(3));
    let in_io = io::Error::from(rejected);
    assert_eq!(in_io.kind(), io::ErrorKind::ResourceBusy);
    assert_eq!(Rejected::find(&in_io), Some(&rejected));
    let deeper = io::Error::other(Outer(in_io));
    assert_eq!(Rejected::find(&deeper), Some(&rejected));
    let timed_out = TimedOut::new("db", Limit::Deadline, secs(3));
    assert_eq!(
        TimedOut::find(&io::Error::from(timed_out)),
        Some(&timed_out)
    );
    assert_eq!(Rejected::find(&Root), None);
    let boxed = BoxError::from(Error::<io::Error>::from(rejected));
    assert_eq!(Rejected::find(&*boxed), Some(&rejected));
    let boxed = BoxError::from(Error::<io::Error>::from(timed_out));
    assert_eq!(TimedOut::find(&*boxed), Some(&timed_out));
}

#[test]
fn a_refusal_says_who_why_and_when_to_come_back() {
    let rejected = Rejected::new("db", Reason::CircuitOpen).with_retry_after(secs(3));
    assert_eq!(rejected.layer(), "db");
    assert_eq!(rejected.reason(), Reason::CircuitOpen);
    assert_eq!(rejected.retry_after(), Some(secs(3)));
    assert_eq!(
        rejected.to_string(),
        "rejected by `db`: circuit breaker is open"
    );
    let endless = Rejected::new("db", Reason::RateLimited).with_retry_after(Duration::MAX);
    assert!(endless.retry_after().unwrap() >= secs(1_000_000_000));
}

#[tokio::test(start_paused = true)]
async fn every_refusal_carries_the_name_of_its_layer() {
    let (service, _) = Scripted::new();
    let breaker = CircuitBreakerLayer::builder()
        .name("a breaker")
        .build()
        .unwrap();
    breaker.handle().force_open();
    let bulkhead = BulkheadLayer::builder(0).name("a bulkhead").build();
    let queued = BulkheadLayer::builder(0)
        .name("a queue")
        .queue(Queue::fifo(1, ms(1)))
        .build();
    let timeout = TimeoutLayer::builder(secs(1))
        .unwrap()
        .name("a timeout")
        .build();

    let overloaded = |_: Result<&u32, &crate::support::Error>| Failure::overload().into();
    let throttle = ThrottleLayer::builder(overloaded).name("a throttle");
    let throttle = throttle.minimum_rate(0.0).build().unwrap();
    let mut throttled = throttle.layer(service.clone());

    let layer = |error: crate::support::Error| error.rejected().layer();
    let refused = loop {
        if let Err(error) = send(&mut throttled, Act::Succeed).await {
            break error;
        }
    };
    assert_eq!(layer(refused), "a throttle");
    let call = breaker.layer(service.clone()).oneshot(Act::Succeed);
    assert_eq!(layer(call.await.unwrap_err()), "a breaker");
    let call = bulkhead.layer(service.clone()).oneshot(Act::Succeed);
    assert_eq!(layer(call.await.unwrap_err()), "a bulkhead");
    let call = queued.layer(service.clone()).oneshot(Act::Succeed);
    assert_eq!(layer(call.await.unwrap_err()), "a queue");
    let too_late = steadfast::Context::new().with_timeout(ms(0));
    let call = too_late.scope(timeout.clone().layer(service.clone()).oneshot(Act::Succeed));
    assert_eq!(layer(call.await.unwrap_err()), "a timeout");
    let call = timeout.layer(service).oneshot(Act::Hang);
    assert_eq!(call.await.unwrap_err().timed_out().layer(), "a timeout");
}

#[test]
fn a_missing_bound_is_a_compile_error_that_names_the_cure() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/*.rs");
}
