//! gRPC: refusals as `tonic::Status`.

use std::{convert::Infallible, error::Error as _, io, time::Duration};

use proptest::prelude::*;
use steadfast::{
    Error, Limit, Reason, Rejected, TimedOut,
    bulkhead::{BulkheadLayer, Queue},
    circuit_breaker::CircuitBreakerLayer,
    retry::RetryLayer,
    timeout::TimeoutLayer,
};
use tonic::{Code, Status};
use tower::{ServiceBuilder, ServiceExt, service_fn};

#[test]
fn every_refusal_has_its_code() {
    let table = [
        (Reason::CircuitOpen, Code::Unavailable),
        (Reason::BulkheadFull, Code::Unavailable),
        (Reason::QueueTimeout, Code::Unavailable),
        (Reason::LimitReached, Code::Unavailable),
        (Reason::RateLimited, Code::ResourceExhausted),
        (Reason::Overloaded, Code::Unavailable),
        (Reason::Throttled, Code::Unavailable),
        (Reason::DeadlineExceeded, Code::DeadlineExceeded),
        (Reason::InvalidRequest, Code::InvalidArgument),
    ];
    for (reason, code) in table {
        let rejected = Rejected::new("door", reason);
        let status = Status::from(rejected);
        assert_eq!(status.code(), code, "{reason:?}");
        assert_eq!(status.message(), rejected.to_string());
        assert!(status.metadata().is_empty(), "no delay is known");
    }
}

#[test]
fn an_expiry_is_an_exceeded_deadline() {
    for limit in [Limit::Timeout, Limit::Deadline] {
        let timed_out = TimedOut::new("patience", limit, Duration::from_secs(1));
        let status = Status::from(timed_out);
        assert_eq!(status.code(), Code::DeadlineExceeded);
        assert_eq!(status.message(), timed_out.to_string());
    }
}

#[test]
fn the_refusal_is_found_again_behind_the_status() {
    let rejected = Rejected::new("door", Reason::Throttled);
    let status = Status::from(rejected);
    assert_eq!(Rejected::find(&status), Some(&rejected));
    assert_eq!(TimedOut::find(&status), None);

    let timed_out = TimedOut::new("patience", Limit::Timeout, Duration::ZERO);
    let status = Status::from(timed_out);
    assert_eq!(TimedOut::find(&status), Some(&timed_out));
    assert_eq!(Rejected::find(&status), None);
}

fn pushback(delay: Duration) -> Option<String> {
    let rejected = Rejected::new("door", Reason::CircuitOpen).with_retry_after(delay);
    let status = Status::from(rejected);
    let value = status.metadata().get("grpc-retry-pushback-ms")?;
    Some(value.to_str().unwrap().to_owned())
}

#[test]
fn pushback_is_in_milliseconds_rounded_up_and_fits_32_bits() {
    let nanos = Duration::from_nanos;
    assert_eq!(pushback(nanos(0)), None, "at once is no hint");
    assert_eq!(pushback(nanos(1)).unwrap(), "1");
    assert_eq!(pushback(nanos(1_000_000)).unwrap(), "1");
    assert_eq!(pushback(nanos(1_000_001)).unwrap(), "2");
    assert_eq!(
        pushback(Duration::from_millis(2_147_483_647)).unwrap(),
        "2147483647"
    );
    assert_eq!(
        pushback(Duration::from_millis(2_147_483_648)).unwrap(),
        "2147483647"
    );
    assert_eq!(pushback(Duration::MAX).unwrap(), "2147483647");
}

proptest! {
    #[test]
    fn pushback_never_shortens_the_delay(nanos in 1..=i32::MAX as u64 * 1_000_000) {
        let delay = Duration::from_nanos(nanos);
        let written: i32 = pushback(delay).unwrap().parse().unwrap();
        let written = Duration::from_millis(written.try_into().unwrap());
        prop_assert!(written >= delay && written - delay < Duration::from_millis(1));
    }
}

#[test]
fn a_lifted_error_becomes_the_status_of_what_it_holds() {
    let rejected = Rejected::new("door", Reason::RateLimited);
    let status = Status::from(Error::<Infallible>::from(rejected));
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(Rejected::find(&status), Some(&rejected));

    let timed_out = TimedOut::new("patience", Limit::Deadline, Duration::ZERO);
    let status = Status::from(Error::<Infallible>::from(timed_out));
    assert_eq!(status.code(), Code::DeadlineExceeded);

    let status = Status::from(Error::Inner(Status::not_found("no such greeting")));
    assert_eq!(status.code(), Code::NotFound);
    let status = Status::from(Error::Inner(io::Error::other("cable cut")));
    assert_eq!(status.code(), Code::Unknown);
    assert_eq!(status.source().unwrap().to_string(), "cable cut");
}

#[tokio::test(start_paused = true)]
async fn a_service_whose_error_is_a_status_takes_every_layer_as_it_is() {
    let bulkhead = BulkheadLayer::builder(1).queue(Queue::fifo(1, Duration::from_secs(1)));
    let breaker = CircuitBreakerLayer::builder().consecutive_failures(1);
    let svc = ServiceBuilder::new()
        .layer(bulkhead.build())
        .layer(BulkheadLayer::new(1))
        .layer(RetryLayer::builder().build().unwrap())
        .layer(breaker.build().unwrap())
        .layer(TimeoutLayer::new(Duration::from_secs(1)).unwrap())
        .service(service_fn(|takes: Duration| async move {
            tokio::time::sleep(takes).await;
            Ok::<_, Status>("hello")
        }));
    assert_eq!(svc.clone().oneshot(Duration::ZERO).await.unwrap(), "hello");

    // The timeout trips the breaker, which refuses the retry; the caller learns of the refusal.
    let status = svc.oneshot(Duration::from_secs(9)).await.unwrap_err();
    let rejected = Rejected::find(&status).unwrap();
    assert_eq!(rejected.reason(), Reason::CircuitOpen);
    assert_eq!(status.code(), Code::Unavailable);
    let pushback = status.metadata().get("grpc-retry-pushback-ms").unwrap();
    let millis: u128 = pushback.to_str().unwrap().parse().unwrap();
    assert_eq!(
        millis,
        rejected
            .retry_after()
            .unwrap()
            .as_nanos()
            .div_ceil(1_000_000)
    );
}
