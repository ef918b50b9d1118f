//! What every layer owes to the service below it and to the caller above it.
//!
//! One suite, run over every layer: a new layer is one line at the end.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

#[cfg(feature = "http")]
use steadfast::deadline::{DeadlineLayer, PropagateLayer};
use steadfast::{
    budget::Budget,
    bulkhead::{BulkheadLayer, Queue},
    circuit_breaker::{CircuitBreakerLayer, LatencyQuantile, Mode, Thresholds},
    load_shed::LoadShedLayer,
    retry::RetryLayer,
    timeout::TimeoutLayer,
};
use tokio::sync::Notify;
use tower::{Layer, Service};

use crate::support::{Act, CountingWaker, Error, Scripted, Watch, ms, poll_once, secs};

/// What a layer's readiness says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Readiness {
    /// That the inner service is ready.
    Inner,
    /// Nothing: the layer waits for the inner service after it was called.
    Always,
}

trait Svc: Service<Act, Response = u32, Error = Error> + Clone {}
impl<S: Service<Act, Response = u32, Error = Error> + Clone> Svc for S {}

fn apply<L>(layer: L) -> (L::Service, Watch)
where
    L: Layer<Scripted>,
{
    let (service, watch) = Scripted::new();
    (layer.layer(service), watch)
}

fn make_ready(service: &mut impl Svc) {
    let ready = service.poll_ready(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(ready, Poll::Ready(Ok(()))));
}

/// Readiness is the inner service's, or is always there; and while the inner service is not ready, the
/// caller is woken when it is.
fn readiness_is_told_as_it_is(mut service: impl Svc, watch: &Watch, readiness: Readiness) {
    let (counter, waker) = CountingWaker::new();
    watch.be_unready(1);
    let ready = service.poll_ready(&mut Context::from_waker(&waker));
    match readiness {
        Readiness::Inner => {
            assert!(ready.is_pending());
            assert_eq!(
                counter.woken(),
                1,
                "the inner service's waker is the caller's"
            );
        }
        Readiness::Always => {
            assert!(ready.is_ready());
            let mut call = pin!(service.call(Act::Succeed));
            let mut cx = Context::from_waker(&waker);
            assert!(call.as_mut().poll(&mut cx).is_pending());
            assert_eq!(
                counter.woken(),
                1,
                "the inner service's waker is the caller's"
            );
            assert_eq!(call.poll(&mut cx), Poll::Ready(Ok(1)));
        }
    }
}

/// The service that was made ready is the one that is called, whatever its clones do. The inner service
/// panics where that is not so.
fn only_a_readied_service_is_called(mut service: impl Svc, watch: &Watch) {
    for calls in 1..=3 {
        make_ready(&mut service);
        let mut clone = service.clone();
        assert_eq!(
            poll_once(pin!(service.call(Act::Succeed))),
            Poll::Ready(Ok(1))
        );
        make_ready(&mut clone);
        assert_eq!(
            poll_once(pin!(clone.call(Act::Succeed))),
            Poll::Ready(Ok(1))
        );
        assert_eq!(watch.calls(), 2 * calls);
    }
}

/// However a call ends, nothing of it is left: each way is gone through more often than any layer here
/// has room for calls.
fn nothing_is_kept_of_a_call_that_ends(mut service: impl Svc, watch: &Watch) {
    for _ in 0..20 {
        // Dropped before it is polled.
        make_ready(&mut service);
        drop(service.call(Act::Hang));
        assert_eq!(watch.in_flight(), 0);
        // Dropped while it waits.
        make_ready(&mut service);
        {
            let mut call = pin!(service.call(Act::Hang));
            assert!(poll_once(call.as_mut()).is_pending());
            assert_eq!(watch.in_flight(), 1);
        }
        assert_eq!(watch.in_flight(), 0);
        // Panics, in the future and in the call.
        for act in [Act::Panic, Act::PanicInCall] {
            make_ready(&mut service);
            let panicked = catch_unwind(AssertUnwindSafe(|| {
                let _ = poll_once(pin!(service.call(act)));
            }));
            assert!(panicked.is_err(), "a panic is the caller's to see");
            assert_eq!(watch.in_flight(), 0);
        }
    }
    make_ready(&mut service);
    assert_eq!(
        poll_once(pin!(service.call(Act::Succeed))),
        Poll::Ready(Ok(1))
    );
}

/// A call that has answered holds nothing, though its future is still there.
fn an_answered_call_holds_nothing(mut service: impl Svc, watch: &Watch) {
    let mut answered = Vec::new();
    for _ in 0..20 {
        make_ready(&mut service);
        let mut call = Box::pin(service.call(Act::Succeed));
        assert_eq!(poll_once(call.as_mut()), Poll::Ready(Ok(1)));
        answered.push(call);
    }
    assert_eq!(watch.in_flight(), 0);
}

/// A pending call wakes whoever polled it last, when there is something to do, and not before.
async fn wakers_are_neither_lost_nor_wasted(mut service: impl Svc) {
    let notify = Arc::new(Notify::new());
    make_ready(&mut service);
    let mut call = pin!(service.call(Act::Await(notify.clone())));

    let (first, waker) = CountingWaker::new();
    assert!(
        call.as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
    );
    let (second, waker) = CountingWaker::new();
    let mut cx = Context::from_waker(&waker);
    assert!(call.as_mut().poll(&mut cx).is_pending());
    tokio::task::yield_now().await;
    assert_eq!((first.woken(), second.woken()), (0, 0), "woken for nothing");

    notify.notify_one();
    assert_eq!((first.woken(), second.woken()), (0, 1));
    assert_eq!(call.poll(&mut cx), Poll::Ready(Ok(1)));
}

/// The inner service's error comes back as it was.
fn errors_pass_unchanged(mut service: impl Svc) {
    make_ready(&mut service);
    let result = poll_once(pin!(service.call(Act::Fail(42))));
    assert_eq!(result, Poll::Ready(Err(Error::Failed(42))));
}

/// Runs every law over a layer. `$layer` is an expression so that each law has a layer of its own.
macro_rules! laws {
    ($($(#[$meta:meta])* $name:ident: $readiness:ident, $layer:expr;)*) => {
        $($(#[$meta])* mod $name {
            use super::*;

            #[tokio::test(start_paused = true)]
            async fn readiness_is_told_as_it_is() {
                let (service, watch) = apply($layer);
                super::readiness_is_told_as_it_is(service, &watch, Readiness::$readiness);
            }

            #[tokio::test(start_paused = true)]
            async fn only_a_readied_service_is_called() {
                let (service, watch) = apply($layer);
                super::only_a_readied_service_is_called(service, &watch);
            }

            #[tokio::test(start_paused = true)]
            async fn nothing_is_kept_of_a_call_that_ends() {
                let (service, watch) = apply($layer);
                super::nothing_is_kept_of_a_call_that_ends(service, &watch);
            }

            #[tokio::test(start_paused = true)]
            async fn an_answered_call_holds_nothing() {
                let (service, watch) = apply($layer);
                super::an_answered_call_holds_nothing(service, &watch);
            }

            #[tokio::test(start_paused = true)]
            async fn wakers_are_neither_lost_nor_wasted() {
                super::wakers_are_neither_lost_nor_wasted(apply($layer).0).await;
            }

            #[tokio::test(start_paused = true)]
            async fn errors_pass_unchanged() {
                super::errors_pass_unchanged(apply($layer).0);
            }
        })*
    };
}

/// A layer for requests of HTTP's, around a service for those of the script.
#[cfg(feature = "http")]
fn over_http<L>(layer: L) -> impl Layer<Scripted, Service: Svc>
where
    L: Layer<tower::util::MapRequest<Scripted, fn(http::Request<Act>) -> Act>>,
    L::Service: Service<http::Request<Act>, Response = u32, Error = Error> + Clone,
{
    let wrap: fn(Act) -> http::Request<Act> = http::Request::new;
    let unwrap: fn(http::Request<Act>) -> Act = http::Request::into_body;
    (
        tower::util::MapRequestLayer::new(wrap),
        layer,
        tower::util::MapRequestLayer::new(unwrap),
    )
}

#[cfg(feature = "http")]
mod of_http {
    use http::Response;
    use steadfast::http::{AnswerRefusals, AnswerRefusalsLayer, IntoRefusal, Refusal};
    use tower::{
        ServiceBuilder,
        util::{MapResponse, MapResponseLayer},
    };

    use super::*;

    impl IntoRefusal for Error {
        type Other = Self;

        fn into_refusal(self) -> Result<Refusal, Self> {
            match self {
                Self::Rejected(rejected) => Ok(rejected.into()),
                Self::TimedOut(timed_out) => Ok(timed_out.into()),
                other => Err(other),
            }
        }
    }

    type Answered = MapResponse<
        AnswerRefusals<
            MapResponse<Scripted, fn(u32) -> Response<u32>>,
            fn(&Refusal) -> Response<u32>,
        >,
        fn(Response<u32>) -> u32,
    >;

    /// Around the layer, what gives it responses of HTTP, and takes them off again.
    pub(super) fn answer_refusals() -> impl Layer<Scripted, Service = Answered> {
        let answer: fn(&Refusal) -> _ = |refusal| panic!("nothing refuses: {refusal}");
        let wrap: fn(u32) -> _ = Response::new;
        let unwrap: fn(Response<u32>) -> _ = Response::into_body;
        ServiceBuilder::new()
            .layer(MapResponseLayer::new(unwrap))
            .layer(AnswerRefusalsLayer::with(answer))
            .layer(MapResponseLayer::new(wrap))
            .into_inner()
    }
}

#[cfg(feature = "http")]
laws! {
    answer_refusals: Inner, of_http::answer_refusals();
}

laws! {
    bulkhead: Inner, BulkheadLayer::new(2);
    queued_bulkhead: Always, BulkheadLayer::builder(2).queue(Queue::fifo(2, secs(1))).build();
    weighted_bulkhead: Inner, BulkheadLayer::builder(6).weight(|_: &Act| 3).build();
    keyed_bulkhead: Inner, BulkheadLayer::builder(2).keyed(3, |_: &Act| "key").build().unwrap();
    queued_keyed_bulkhead: Always, BulkheadLayer::builder(2)
        .keyed(3, |_: &Act| "key")
        .queue(Queue::fifo(2, secs(1)))
        .build()
        .unwrap();
    circuit_breaker: Inner, CircuitBreakerLayer::builder()
        .consecutive_failures(1000)
        .time_window(secs(60), Thresholds::slow_call_rate(1.0))
        .latency_window(secs(60), LatencyQuantile::above(0.5, secs(60)))
        .trip_when(|statistics| statistics.consecutive_failures == 1000)
        .build()
        .unwrap();
    back_pressure_circuit_breaker: Inner, CircuitBreakerLayer::builder()
        .consecutive_failures(1000)
        .build()
        .unwrap()
        .back_pressure();
    keyed_circuit_breaker: Inner, CircuitBreakerLayer::builder()
        .consecutive_failures(1000)
        .keyed(2, |_: &Act| "key")
        .build()
        .unwrap();
    disabled_circuit_breaker: Inner, CircuitBreakerLayer::builder()
        .mode(Mode::Disabled)
        .build()
        .unwrap();
    load_shed: Inner, LoadShedLayer::builder()
        .in_flight(1000)
        .runtime_lag(secs(1))
        .gauge("gauge", || 1.0)
        .build()
        .unwrap();
    load_shed_with_all_of_a_request: Inner, LoadShedLayer::builder()
        .in_flight(1000)
        .criticality(|_: &Act| steadfast::Criticality::Sheddable)
        .cohort_by(|_: &Act| "user")
        .exempt(|act: &Act| matches!(act, Act::Fail(_)))
        .build()
        .unwrap();
    load_shed_of_what_is_not_ready: Inner, LoadShedLayer::builder()
        .refuse_unready_after(secs(1))
        .build()
        .unwrap();
    retry: Inner, RetryLayer::builder().max_attempts(1).build().unwrap();
    retry_with_places: Inner, RetryLayer::builder()
        .budget(Budget::of_active(0.2).unwrap())
        .max_attempts(1)
        .build()
        .unwrap();
    retry_that_decides_itself: Inner, RetryLayer::builder()
        .retry_if(|_: &Act, _: Result<&u32, &Error>| false)
        .restore_request(|_: &Error| None::<&Act>, |_: &mut Error| None::<Act>)
        .build()
        .unwrap();
    retry_with_attempts_left: Inner, RetryLayer::builder()
        .classifier(|_: Result<&u32, &Error>| steadfast::Verdict::Ignored)
        .build()
        .unwrap();
    timeout: Inner, TimeoutLayer::new(secs(1)).unwrap();
    timeout_that_follows: Inner, TimeoutLayer::following(ms(10), secs(1)).unwrap();
    // With room for none, for a call that runs on is not given up.
    detached_timeout: Inner, TimeoutLayer::new(secs(1)).unwrap().detached(0);
    ready_timeout: Always, TimeoutLayer::new(secs(1)).unwrap().covering_readiness();
    #[cfg(feature = "http")]
    deadline: Inner, over_http(DeadlineLayer::new(secs(1)).unwrap());
    #[cfg(feature = "http")]
    propagate: Inner, over_http(PropagateLayer::builder().root_timeout(secs(1)).build().unwrap());
    stack: Inner, (
        BulkheadLayer::new(2),
        RetryLayer::builder().max_attempts(1).build().unwrap(),
        CircuitBreakerLayer::builder().consecutive_failures(1000).build().unwrap(),
        TimeoutLayer::new(ms(500)).unwrap(),
    );
}

/// Layers that see a call through to the end of a response body, between two that make responses of HTTP
/// of those of the suite, and back.
#[cfg(feature = "http")]
mod until_the_end_of_a_body {
    use ::http::Response;
    use bytes::Bytes;
    use http_body_util::Full;
    use steadfast::{
        bulkhead::{HeldKeyedPermit, HeldPermit},
        circuit_breaker::{UnsettledCall, UnsettledKeyedCall},
        http::{self, BodyTimeoutLayer, EndOfBody, GuardedBody, HttpClassifier, TimeoutBody},
        load_shed::HeldCall,
    };
    use tower::util::MapResponseLayer;

    use super::*;

    type Inner = Response<Full<Bytes>>;

    fn to_http(attempt: u32) -> Inner {
        Response::builder()
            .extension(attempt)
            .body("all".into())
            .unwrap()
    }

    fn from_http<B>(response: Response<B>) -> u32 {
        response.into_parts().0.extensions.remove().unwrap()
    }

    /// `$body` is the layer's own, of an inner one.
    macro_rules! http {
        ($layer:expr, $body:ty) => {
            (
                MapResponseLayer::new(from_http::<$body> as fn(Response<$body>) -> u32),
                $layer,
                MapResponseLayer::new(to_http as fn(u32) -> Inner),
            )
        };
    }

    laws! {
        bulkhead: Inner, http!(http::bulkhead(2).build(), GuardedBody<Full<Bytes>, HeldPermit>);
        queued_bulkhead: Always, http!(
            http::bulkhead(2).queue(Queue::fifo(2, secs(1))).build(),
            GuardedBody<Full<Bytes>, HeldPermit>
        );
        keyed_bulkhead: Inner, http!(
            http::bulkhead(2).keyed(3, |_: &Act| "key").build().unwrap(),
            GuardedBody<Full<Bytes>, HeldKeyedPermit>
        );
        queued_keyed_bulkhead: Always, http!(
            http::bulkhead(2)
                .keyed(3, |_: &Act| "key")
                .queue(Queue::fifo(2, secs(1)))
                .build()
                .unwrap(),
            GuardedBody<Full<Bytes>, HeldKeyedPermit>
        );
        circuit_breaker: Inner, http!(
            http::circuit_breaker().consecutive_failures(1000).build().unwrap(),
            GuardedBody<Full<Bytes>, UnsettledCall, HttpClassifier>
        );
        keyed_circuit_breaker: Inner, http!(
            http::circuit_breaker()
                .consecutive_failures(1000)
                .keyed(2, |_: &Act| "key")
                .build()
                .unwrap(),
            GuardedBody<Full<Bytes>, UnsettledKeyedCall, HttpClassifier>
        );
        load_shed: Inner, http!(
            LoadShedLayer::builder().in_flight(1000).until(EndOfBody).build().unwrap(),
            GuardedBody<Full<Bytes>, HeldCall>
        );
        load_report: Inner, http!(
            http::LoadReportLayer::new(
                LoadShedLayer::builder().in_flight(1).build().unwrap().handle()
            ),
            Full<Bytes>
        );
        body_timeout: Inner, http!(
            BodyTimeoutLayer::builder().idle(secs(1)).total(secs(2)).build().unwrap(),
            TimeoutBody<Full<Bytes>>
        );
    }
}
