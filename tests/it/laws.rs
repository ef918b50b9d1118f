//! The laws that a layer owes to the service below it and to the caller above it, run over every layer. The
//! laws themselves are in `src/sim/laws`; a new layer is one line at the end.

#[cfg(feature = "http")]
use steadfast::deadline::{DeadlineLayer, PropagateLayer};
use steadfast::{
    adaptive::{AdaptiveLayer, Aimd, Gradient2},
    budget::Budget,
    bulkhead::{BulkheadLayer, Queue},
    circuit_breaker::{CircuitBreakerLayer, LatencyQuantile, Mode, Thresholds},
    load_shed::LoadShedLayer,
    partitions::Partitions,
    retry::RetryLayer,
    sim::laws::{self, Lawful, Readiness},
    throttle::{Mode as ThrottleMode, ThrottleLayer, rate::AdaptiveRateLayer},
    timeout::TimeoutLayer,
};
use tower::{Layer, Service};

use crate::support::{Act, Error, Scripted, Told, ms, secs};

/// Runs every law over a layer. `$layer` is an expression so that each law has a layer of its own.
macro_rules! laws {
    ($($(#[$meta:meta])* $name:ident: $readiness:ident, $layer:expr;)*) => {
        $($(#[$meta])* mod $name {
            use super::*;

            #[test]
            fn readiness_is_told_as_it_is() {
                laws::readiness_is_told_as_it_is(Readiness::$readiness, || $layer);
            }

            #[test]
            fn only_a_readied_service_is_called() {
                laws::only_a_readied_service_is_called(Readiness::$readiness, || $layer);
            }

            #[test]
            fn nothing_is_kept_of_a_call_that_ends() {
                laws::nothing_is_kept_of_a_call_that_ends(Readiness::$readiness, || $layer);
            }

            #[test]
            fn an_answered_call_holds_nothing() {
                laws::an_answered_call_holds_nothing(Readiness::$readiness, || $layer);
            }

            #[test]
            fn wakers_are_neither_lost_nor_wasted() {
                laws::wakers_are_neither_lost_nor_wasted(Readiness::$readiness, || $layer);
            }

            #[test]
            fn errors_pass_unchanged() {
                laws::errors_pass_unchanged(Readiness::$readiness, || $layer);
            }
        })*
    };
}

/// All are of one of two partitions.
fn half() -> Partitions<fn(&Act) -> &str> {
    let by: fn(&Act) -> &str = |_| "one";
    Partitions::by(by).share("one", 50).other(50)
}

/// A layer for requests of HTTP's, around a service for those of the script.
#[cfg(feature = "http")]
fn over_http<L>(layer: L) -> impl Layer<Scripted, Service: Lawful>
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
    use steadfast::http::{AnswerRefusals, AnswerRefusalsLayer, Refusal};
    use tower::{
        ServiceBuilder,
        util::{MapResponse, MapResponseLayer},
    };

    use super::*;

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
    adaptive: Inner, AdaptiveLayer::builder().algorithm(Gradient2::default()).build().unwrap();
    // At its least, however often a call fails.
    adaptive_with_one_permit: Inner, AdaptiveLayer::builder().algorithm(Aimd::default())
        .max_limit(1)
        .build()
        .unwrap();
    queued_adaptive: Always, AdaptiveLayer::builder().algorithm(Aimd::default())
        .max_limit(2)
        .queue(Queue::fifo(2, secs(1)))
        .build()
        .unwrap();
    divided_adaptive: Inner, AdaptiveLayer::builder().partitions(half()).build().unwrap();
    queued_divided_adaptive: Always, AdaptiveLayer::builder().algorithm(Aimd::default())
        .max_limit(2)
        .partitions(half())
        .queue(Queue::fifo(2, secs(1)))
        .build()
        .unwrap();
    back_pressure_adaptive: Inner, AdaptiveLayer::builder().algorithm(Aimd::default())
        .max_limit(2)
        .build()
        .unwrap()
        .back_pressure();
    disabled_adaptive: Inner, AdaptiveLayer::builder().algorithm(Aimd::default())
        .mode(steadfast::adaptive::Mode::Disabled)
        .build()
        .unwrap();
    bulkhead: Inner, BulkheadLayer::new(2);
    back_pressure_bulkhead: Inner, BulkheadLayer::new(2).back_pressure();
    queued_bulkhead: Always, BulkheadLayer::builder(2).queue(Queue::fifo(2, secs(1))).build();
    controlled_bulkhead: Always, BulkheadLayer::builder(2)
        .queue(Queue::codel_adaptive_lifo(2, secs(1)).by_criticality())
        .build();
    weighted_bulkhead: Inner, BulkheadLayer::builder(6).weight(|_: &Act| 3).build();
    divided_bulkhead: Inner, BulkheadLayer::builder(2).partitions(half()).build().unwrap();
    queued_divided_bulkhead: Always, BulkheadLayer::builder(2)
        .partitions(half())
        .queue(Queue::fifo(2, secs(1)))
        .build()
        .unwrap();
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
    load_shed_of_the_heaviest: Inner, LoadShedLayer::builder()
        .in_flight(1000)
        .cohort_by(|_: &Act| "user")
        .heaviest_first()
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
    throttle: Inner, ThrottleLayer::new(Told);
    keyed_throttle: Inner, ThrottleLayer::builder(Told).keyed(2, |_: &Act| "key").build().unwrap();
    disabled_throttle: Inner, ThrottleLayer::builder(Told)
        .mode(ThrottleMode::Disabled)
        .build()
        .unwrap();
    adaptive_rate: Always, AdaptiveRateLayer::builder(Told).max_wait(secs(1)).build().unwrap();
    keyed_adaptive_rate: Always, AdaptiveRateLayer::builder(Told)
        .keyed(2, |_: &Act| "key")
        .build()
        .unwrap();
    disabled_adaptive_rate: Always, AdaptiveRateLayer::builder(Told)
        .mode(ThrottleMode::Disabled)
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
        throttle::{
            UncountedCall, UncountedKeyedCall,
            rate::{UntoldCall, UntoldKeyedCall},
        },
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
        adaptive: Inner, http!(
            AdaptiveLayer::builder().algorithm(Aimd::default()).until(EndOfBody).build().unwrap(),
            GuardedBody<Full<Bytes>, steadfast::adaptive::HeldPermit>
        );
        queued_adaptive: Always, http!(
            AdaptiveLayer::builder().algorithm(Aimd::default())
                .max_limit(2)
                .queue(Queue::fifo(2, secs(1)))
                .until(EndOfBody)
                .build()
                .unwrap(),
            GuardedBody<Full<Bytes>, steadfast::adaptive::HeldPermit>
        );
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
        throttle: Inner, http!(
            ThrottleLayer::builder(HttpClassifier).until(EndOfBody).build().unwrap(),
            GuardedBody<Full<Bytes>, UncountedCall, HttpClassifier>
        );
        keyed_throttle: Inner, http!(
            ThrottleLayer::builder(HttpClassifier)
                .until(EndOfBody)
                .keyed(2, |_: &Act| "key")
                .build()
                .unwrap(),
            GuardedBody<Full<Bytes>, UncountedKeyedCall, HttpClassifier>
        );
        adaptive_rate: Always, http!(
            AdaptiveRateLayer::builder(HttpClassifier).until(EndOfBody).build().unwrap(),
            GuardedBody<Full<Bytes>, UntoldCall, HttpClassifier>
        );
        keyed_adaptive_rate: Always, http!(
            AdaptiveRateLayer::builder(HttpClassifier)
                .until(EndOfBody)
                .keyed(2, |_: &Act| "key")
                .build()
                .unwrap(),
            GuardedBody<Full<Bytes>, UntoldKeyedCall, HttpClassifier>
        );
        body_timeout: Inner, http!(
            BodyTimeoutLayer::builder().idle(secs(1)).total(secs(2)).build().unwrap(),
            TimeoutBody<Full<Bytes>>
        );
    }
}
