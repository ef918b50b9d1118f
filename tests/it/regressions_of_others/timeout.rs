//! The timeouts and time limiters of others.

use std::{cell::Cell, future::pending, io, pin::pin};

use steadfast::{
    Context, Limit, Reason, Rejected, Run, backoff::Backoff, retry::RetryLayer,
    timeout::TimeoutLayer,
};
use tokio::time::{Instant, advance};
use tower::{Layer, ServiceBuilder, ServiceExt, limit::ConcurrencyLimitLayer, service_fn};

use super::begin;
use crate::support::{Act, Error, Scripted, ms, poll_once, secs, send, send_contained};

/// resilience4j: the caller is told, and the thread works on; Failsafe 3.3.2 interrupts if asked to.
#[tokio::test(start_paused = true)]
async fn what_is_given_up_stops() {
    let (service, watch) = Scripted::new();
    let mut service = TimeoutLayer::new(secs(1)).unwrap().layer(service);
    let mut call = begin(&mut service, Act::Hang).await;
    assert_eq!(watch.in_flight(), 1);
    advance(secs(1)).await;
    assert!(poll_once(call.as_mut()).is_ready());
    assert_eq!(watch.in_flight(), 0, "before its future is dropped");
}

/// tower-resilience 0.13, detached mode: a panic 84 µs into a minute is told as `Timeout`.
#[tokio::test(start_paused = true)]
async fn a_panic_is_a_panic_and_no_timeout() {
    let service = TimeoutLayer::new(secs(60))
        .unwrap()
        .layer(Scripted::new().0);
    for act in [Act::Panic, Act::PanicInCall] {
        let mut service = service.clone();
        let task = tokio::spawn(async move { send(&mut service, act).await });
        assert!(task.await.unwrap_err().is_panic());
    }
    send_contained(&service, Act::Succeed).await.unwrap();
}

/// tower 0.5 and tower-resilience 0.13 start the clock in `call`, when the wait for the service is over.
#[tokio::test(start_paused = true)]
async fn the_wait_for_readiness_can_be_part_of_it() {
    let limited = ServiceBuilder::new()
        .layer(ConcurrencyLimitLayer::new(1))
        .service(Scripted::new().0);
    let _running = begin(&mut limited.clone(), Act::Hang).await;
    let layer = TimeoutLayer::new(secs(1)).unwrap().covering_readiness();
    let before = Instant::now();
    let late = send(&mut layer.layer(limited), Act::Succeed).await;
    assert_eq!(late.unwrap_err().timed_out().waited(), secs(1));
    assert_eq!(before.elapsed(), secs(1));
}

/// resilience4j#331, #849: with the orders that users try first a timeout ends it all and is not tried again.
#[tokio::test(start_paused = true)]
async fn an_attempt_that_times_out_is_tried_again_by_the_retry_above() {
    let (service, watch) = Scripted::new();
    let retry = RetryLayer::builder().without_budget();
    let mut service = ServiceBuilder::new()
        .layer(retry.backoff(Backoff::none()).build().unwrap())
        .layer(TimeoutLayer::new(secs(1)).unwrap())
        .service(service);
    let before = Instant::now();
    send(&mut service, Act::Hang).await.unwrap_err().timed_out();
    assert_eq!((watch.calls(), before.elapsed()), (3, secs(3)));
}

/// resilience4j#430, #1464: what blocks before it returns its future is not limited, and nothing says so.
/// Nothing can stop such code; but the time it takes is the deadline's.
#[tokio::test(start_paused = true)]
async fn the_time_of_code_that_blocks_counts_against_the_deadline() {
    let blocks = service_fn(|()| {
        let _ = poll_once(pin!(advance(secs(5))));
        pending::<Result<(), Error>>()
    });
    let service = TimeoutLayer::new(secs(60)).unwrap().layer(blocks);
    let within = Context::new().with_timeout(secs(2));
    let before = Instant::now();
    let late = within.scope(service.oneshot(())).await.unwrap_err();
    assert_eq!(before.elapsed(), secs(5), "and not longer");
    assert_eq!(late.timed_out().limit(), Limit::Deadline);
}

/// resilience4j#1639: no limit for synchronous code. It cannot be stopped, but need not be begun too late.
#[tokio::test(start_paused = true)]
async fn blocking_work_that_comes_too_late_is_not_begun() {
    let timeout = TimeoutLayer::new(secs(1)).unwrap();
    let ran = Cell::new(false);
    let work = || {
        ran.set(true);
        io::Result::Ok(7)
    };
    let late = Context::new().with_timeout(ms(0));
    let error = late.sync_scope(|| timeout.run_blocking(work)).unwrap_err();
    let reason = Rejected::find(&error).map(Rejected::reason);
    assert_eq!((reason, ran.get()), (Some(Reason::DeadlineExceeded), false));
    assert_eq!(timeout.run_blocking(work).unwrap(), 7);
}

/// tonic 0.14 `status.rs:644`: a timeout is `Cancelled`, as if the caller had gone.
#[cfg(feature = "grpc")]
#[tokio::test(start_paused = true)]
async fn to_grpc_an_expiry_is_an_exceeded_deadline() {
    let hangs = service_fn(|()| pending::<Result<(), tonic::Status>>());
    let timeout = TimeoutLayer::new(secs(1)).unwrap();
    let status = timeout.layer(hangs).oneshot(()).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
}
