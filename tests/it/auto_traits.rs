//! What every public type is, beside what it does.

use std::{
    convert::Infallible,
    fmt::Debug,
    future::{Future, Ready},
    rc::Rc,
};

use steadfast::{
    Context, Criticality, Error, InvalidSetting, LiftLayer, Rejected, TimedOut, Verdict,
    backoff::{Backoff, Delays, Jitter},
    budget::{Budget, Ticket},
    bulkhead::*,
    circuit_breaker::*,
    classify::{AnyError, Failure, FailureKind, Hint},
    context::Scope,
    error::{Lift, LiftFuture},
    keyed::ByRef,
    load_shed::{
        AtRandom, ByUsage, ByUser, FromContext, HeldCall, LoadShed, LoadShedBuilder,
        LoadShedFuture, LoadShedHandle, LoadShedLayer, LoadShedSnapshot, NoneExempt, Priorities,
        SignalLoad,
    },
    queue::QueueDelay,
    retry::*,
    throttle::{
        KeyedThrottle, KeyedThrottleBuilder, KeyedThrottleFuture, KeyedThrottleHandle,
        KeyedThrottleLayer, Throttle, ThrottleBuilder, ThrottleFuture, ThrottleHandle,
        ThrottleLayer, ThrottleSnapshot, UncountedCall, UncountedKeyedCall,
    },
    timeout::*,
};
use tower::Layer;

fn send_sync_debug<T: Send + Sync + Debug>() {}
fn small<T>(bytes: usize) {
    let size = size_of::<T>();
    assert!(
        size <= bytes,
        "{} is {size} bytes",
        std::any::type_name::<T>()
    );
}

type Svc = tower::util::BoxCloneSyncService<(), (), Error<Infallible>>;
type Fut = Ready<Result<(), Error<Infallible>>>;

#[test]
fn every_public_type_is_send_sync_and_debug_where_what_it_wraps_is() {
    send_sync_debug::<(
        Rejected,
        TimedOut,
        Error<Infallible>,
        InvalidSetting,
        Verdict,
    )>();
    send_sync_debug::<(
        Context,
        Criticality,
        Scope<Fut>,
        AnyError,
        Failure,
        FailureKind,
        Hint,
    )>();
    send_sync_debug::<(Backoff, Delays<'_>, Jitter, Budget, Ticket)>();
    send_sync_debug::<(LiftLayer, Lift<Svc>, LiftFuture<Fut>)>();
    send_sync_debug::<(
        BulkheadLayer,
        QueuedBulkheadLayer,
        BulkheadBuilder,
        BulkheadHandle,
        Queue,
        QueueDelay,
    )>();
    send_sync_debug::<(Bulkhead<Svc>, QueuedBulkhead<Svc>, BulkheadFuture<Fut>)>();
    send_sync_debug::<(BackPressureBulkheadLayer, BackPressureBulkhead<Svc>)>();
    {
        use steadfast::{adaptive, partitions::*, until::Answered};
        type By = fn(&()) -> &str;
        send_sync_debug::<(Partitions<By>, PartitionSnapshot, ByCriticality)>();
        send_sync_debug::<(Whole, Divided<By>, Numbered, OfPartition)>();
        send_sync_debug::<(
            BulkheadBuilder<Queue, One, Partitions<By>>,
            BulkheadLayer<Partitioned<By>>,
            Bulkhead<Svc, Partitioned<By>>,
            BulkheadFuture<Fut, OfPartition>,
            adaptive::Adaptive<Svc, AnyError, adaptive::All, Answered, Divided<By>>,
            adaptive::AdaptiveFuture<Fut, AnyError, Answered, Numbered>,
        )>();
    }
    type ByHost = ByRef<fn(&()) -> &str>;
    send_sync_debug::<(
        KeyedBulkheadLayer<String, ByHost>,
        QueuedKeyedBulkheadLayer<String, ByHost>,
        BulkheadBuilder<Queue, One, Keyed<String, ByHost>>,
        KeyedBulkheadHandle<String>,
        BulkheadSnapshot,
        One,
        Several,
    )>();
    send_sync_debug::<(
        KeyedBulkhead<Svc, String, ByHost>,
        QueuedKeyedBulkhead<Svc, String, ByHost>,
        KeyedBulkheadFuture<Fut>,
        BulkheadFuture<Fut, Several>,
    )>();
    send_sync_debug::<(
        KeyedCircuitBreakerLayer<String, ByHost>,
        KeyedCircuitBreakerBuilder<String, ByHost>,
        KeyedCircuitBreakerHandle<String>,
        KeyedCircuitBreaker<Svc, String, ByHost>,
        KeyedCircuitBreakerFuture<Fut, AnyError>,
    )>();
    send_sync_debug::<(
        CircuitBreakerLayer,
        CircuitBreakerBuilder,
        CircuitBreakerHandle,
    )>();
    send_sync_debug::<(CircuitBreaker<Svc>, CircuitBreakerFuture<Fut, AnyError>)>();
    send_sync_debug::<(Snapshot, Counts, Cause, Mode, Ramp, State, Thresholds)>();
    send_sync_debug::<(Statistics, WeightedCounts, LatencyQuantile)>();
    send_sync_debug::<(StateChange, StateChanges, MissedChanges)>();
    send_sync_debug::<(
        BackPressureCircuitBreakerLayer,
        BackPressureCircuitBreaker<Svc>,
    )>();
    send_sync_debug::<(LoadShedLayer, LoadShedBuilder, LoadShedHandle, HeldCall)>();
    send_sync_debug::<(
        LoadShed<Svc>,
        LoadShedFuture<Fut>,
        LoadShedSnapshot,
        SignalLoad,
    )>();
    send_sync_debug::<(
        Priorities<FromContext, ByUser<ByHost>>,
        ByUsage<ByHost>,
        AtRandom,
        NoneExempt,
    )>();
    send_sync_debug::<(RetryLayer, RetryBuilder, Retry<Svc>, Cloned, ByVerdict)>();
    send_sync_debug::<(
        TimeoutLayer,
        ReadyTimeoutLayer,
        TimeoutBuilder<Fixed>,
        Fixed,
    )>();
    send_sync_debug::<(Timeout<Svc>, ReadyTimeout<Svc>, TimeoutFuture<Fut>)>();
    send_sync_debug::<(
        FollowingTimeoutLayer,
        FollowingTimeoutBuilder,
        FollowingTimeoutHandle,
    )>();
    send_sync_debug::<(FollowingTimeout<Svc>, FollowingTimeoutFuture<Fut, AnyError>)>();
    send_sync_debug::<(
        DetachedTimeoutLayer,
        DetachedTimeoutHandle,
        Detachable<Svc>,
        DetachableFuture<Fut>,
    )>();
    send_sync_debug::<(
        ThrottleLayer<AnyError>,
        ThrottleBuilder<AnyError>,
        ThrottleHandle,
        ThrottleSnapshot,
        steadfast::throttle::Heeding<AnyError, ()>,
        steadfast::throttle::ReportedLoad,
        steadfast::throttle::Mode,
        Throttle<Svc, AnyError>,
        ThrottleFuture<Fut, AnyError>,
        UncountedCall,
        UncountedKeyedCall,
    )>();
    send_sync_debug::<(
        KeyedThrottleLayer<String, ByHost, AnyError>,
        KeyedThrottleBuilder<String, ByHost, AnyError>,
        KeyedThrottleHandle<String>,
        KeyedThrottle<Svc, String, ByHost, AnyError>,
        KeyedThrottleFuture<Fut, AnyError>,
    )>();
    fn debug<T: Debug>() {}
    debug::<(QueuedBulkheadFuture<Svc, ()>, ReadyTimeoutFuture<Svc, ()>)>();
    debug::<QueuedKeyedBulkheadFuture<Svc, ()>>();
    debug::<RetryFuture<Svc, (), AnyError, Cloned>>();
}

#[test]
fn so_is_every_public_type_of_adaptive_limits() {
    use steadfast::adaptive::*;

    send_sync_debug::<(AdaptiveLayer, QueuedAdaptiveLayer, AdaptiveBuilder<Vegas>)>();
    send_sync_debug::<(AdaptiveHandle, AdaptiveSnapshot, HeldPermit, All, Mode)>();
    send_sync_debug::<(
        Adaptive<Svc>,
        QueuedAdaptive<Svc>,
        Sample,
        Sampling,
        Windows,
    )>();
    send_sync_debug::<AdaptiveFuture<Fut, AnyError>>();
    send_sync_debug::<(Aimd, Vegas, Gradient, Gradient2, EnvoyGradient, LittlesLaw)>();
    send_sync_debug::<Correlated<Gradient2>>();
    fn debug<T: Debug>() {}
    debug::<(QueuedAdaptiveFuture<Svc, ()>, Bbr)>();
}

#[test]
fn so_is_every_public_type_of_adaptive_rates() {
    use steadfast::throttle::rate::*;

    send_sync_debug::<(AdaptiveRateLayer<AnyError>, AdaptiveRateBuilder<AnyError>)>();
    send_sync_debug::<(AdaptiveRateHandle, AdaptiveRateSnapshot, Mode, UntoldCall)>();
    send_sync_debug::<AdaptiveRate<Svc, AnyError>>();
    fn debug<T: Debug>() {}
    debug::<AdaptiveRateFuture<Svc, (), AnyError>>();
    type ByHost = ByRef<fn(&()) -> &str>;
    send_sync_debug::<(
        KeyedAdaptiveRateLayer<String, ByHost, AnyError>,
        KeyedAdaptiveRateBuilder<String, ByHost, AnyError>,
        KeyedAdaptiveRateHandle<String>,
        KeyedAdaptiveRate<Svc, String, ByHost, AnyError>,
        UntoldKeyedCall,
    )>();
    debug::<KeyedAdaptiveRateFuture<Svc, (), AnyError>>();
}

#[test]
fn so_is_every_public_type_of_simulations() {
    use steadfast::sim::{laws, *};

    send_sync_debug::<(Load, Clients, Arrival, Call, Outcome, Random, Times)>();
    send_sync_debug::<(Report, Part<'_>, Work)>();
    send_sync_debug::<(Server, ServerFuture, Answer, Fault)>();
    send_sync_debug::<(Link, Linked<Svc>, LinkedFuture<(), Error<Infallible>>)>();
    send_sync_debug::<(laws::Act, laws::Error, laws::Readiness, laws::Told)>();
    send_sync_debug::<(laws::Scripted, laws::ScriptedFuture, laws::Watch)>();
    send_sync_debug::<laws::CountingWaker>();
}

#[cfg(feature = "http")]
#[test]
fn so_is_every_public_type_of_http() {
    use steadfast::http::*;

    send_sync_debug::<(HttpClassifier, CustomHttpClassifier, HttpClassifierBuilder)>();
    send_sync_debug::<(HttpClientClassifier, StatusRange, Refusal, ProblemDetails)>();
    send_sync_debug::<(AnswerRefusalsLayer, AnswerRefusals<Svc>)>();
    send_sync_debug::<AnswerRefusalsFuture<Fut>>();
    send_sync_debug::<(LoadReportLayer, LoadReport<Svc>, LoadReportFuture<Fut>)>();
    send_sync_debug::<(HttpLoadClassifier, HealthChecks, EndpointLoadMetrics)>();
    assert_eq!(
        size_of::<(HttpClassifier, HttpLoadClassifier, HealthChecks)>(),
        0
    );
    small::<CustomHttpClassifier>(size_of::<usize>());
    // A refusal is as large as two of them.
    small::<AnswerRefusalsFuture<Fut>>(size_of::<Refusal>() + 8);
}

#[cfg(feature = "grpc")]
#[test]
fn so_is_every_public_type_of_grpc() {
    use steadfast::{grpc::*, http::AnswerRefusals};

    send_sync_debug::<(
        GrpcClassifier,
        AnswerRefusalsLayer,
        StatusAnswer,
        HealthChecks,
    )>();
    send_sync_debug::<AnswerRefusals<Svc, StatusAnswer>>();
    small::<GrpcClassifier>(17);
}

#[cfg(feature = "http")]
#[test]
fn what_carries_deadlines_is_so_too() {
    use steadfast::deadline::*;
    send_sync_debug::<(
        DeadlineLayer,
        DeadlineLayer<Everybody>,
        DeadlineBuilder,
        Nobody,
    )>();
    send_sync_debug::<(
        PropagateLayer,
        PropagateBuilder,
        Protocol,
        HeaderNames,
        CallTimeout,
    )>();
    send_sync_debug::<(Deadline<Svc>, Propagate<Svc>)>();
    send_sync_debug::<(DeadlineFuture<Fut>, PropagateFuture<Fut>)>();

    let bare = size_of::<Fut>();
    small::<DeadlineFuture<Fut>>(bare + 88);
    small::<PropagateFuture<Fut>>(bare + 88);
}

#[test]
fn a_future_adds_no_more_than_it_needs() {
    let bare = size_of::<Fut>();
    {
        use steadfast::adaptive::*;
        small::<AdaptiveFuture<Fut, AnyError>>(bare + 64);
    }
    small::<BulkheadFuture<Fut>>(bare + 24);
    small::<KeyedBulkheadFuture<Fut>>(bare + 24);
    // A partition stands beside where the call does.
    small::<BulkheadFuture<Fut, OfPartition>>(bare + 24);
    small::<CircuitBreakerFuture<Fut, AnyError>>(bare + 64);
    small::<ThrottleFuture<Fut, AnyError>>(bare + 40);
    small::<LoadShedFuture<Fut>>(bare + 24);
    // A timer or an attempt, what another takes, and where the call stands.
    let again = size_of::<(Svc, Option<()>)>();
    small::<RetryFuture<Svc, (), AnyError, Cloned>>(bare + again + 88);
    // What a refusal would take is most of it; tokio's timer lies elsewhere, and is used again.
    small::<TimeoutFuture<Fut>>(bare + 88);
    small::<FollowingTimeoutFuture<Fut, AnyError>>(size_of::<TimeoutFuture<Fut>>() + 24);
}

#[test]
fn a_service_that_is_neither_send_nor_static_is_not_asked_to_be() {
    let local = Rc::new(1);
    let inner = tower::service_fn(|n: u32| {
        let local = Rc::clone(&local);
        async move { Ok::<_, Error<Infallible>>(*local + n) }
    });
    fn answers(mut service: impl tower::Service<u32, Response = u32>) {
        let waker = std::task::Waker::noop();
        let mut cx = std::task::Context::from_waker(waker);
        assert!(service.poll_ready(&mut cx).is_ready());
        let call = std::pin::pin!(service.call(1));
        assert!(matches!(call.poll(&mut cx), std::task::Poll::Ready(Ok(2))));
    }
    let second = std::time::Duration::from_secs(1);
    #[cfg(feature = "http")]
    {
        use steadfast::deadline::{DeadlineLayer, PropagateLayer};
        let wrap = tower::util::MapRequestLayer::new(http::Request::<u32>::new);
        let unwrap = tower::util::MapRequestLayer::new(http::Request::<u32>::into_body);
        answers((&wrap, DeadlineLayer::new(second).unwrap(), &unwrap).layer(inner));
        answers((&wrap, PropagateLayer::new(), &unwrap).layer(inner));
    }
    let timeout = || TimeoutLayer::new(second).unwrap();
    {
        use steadfast::adaptive::*;
        let adaptive = AdaptiveLayer::builder().algorithm(Vegas::default());
        answers(adaptive.clone().build().unwrap().layer(inner));
        let back_pressure = adaptive.clone().build().unwrap().back_pressure();
        answers(back_pressure.layer(inner));
        send_sync_debug::<(BackPressureAdaptiveLayer, BackPressureAdaptive<Svc>)>();
        let queue = Queue::fifo(1, second);
        answers(adaptive.queue(queue).build().unwrap().layer(inner));
    }
    answers(BulkheadLayer::new(1).layer(inner));
    answers(BulkheadLayer::new(1).back_pressure().layer(inner));
    let queue = Queue::fifo(1, second);
    answers(BulkheadLayer::builder(1).queue(queue).build().layer(inner));
    let local_key = |_: &u32| Rc::clone(&local);
    let keyed = BulkheadLayer::builder(1).keyed(1, local_key);
    answers(keyed.clone().build().unwrap().layer(inner));
    answers(keyed.queue(queue).build().unwrap().layer(inner));
    let breaker = CircuitBreakerLayer::builder().build().unwrap();
    answers(breaker.layer(inner));
    answers(breaker.back_pressure().layer(inner));
    let keyed = CircuitBreakerLayer::builder().keyed(1, local_key);
    answers(keyed.build().unwrap().layer(inner));
    let load_shed = LoadShedLayer::builder().in_flight(1);
    answers(load_shed.clone().build().unwrap().layer(inner));
    let read = load_shed.cohort_by(local_key).exempt(|_: &u32| *local == 2);
    answers(read.clone().build().unwrap().layer(inner));
    answers(read.heaviest_first().build().unwrap().layer(inner));
    answers(RetryLayer::builder().build().unwrap().layer(inner));
    let throttle = || ThrottleLayer::builder(AnyError);
    answers(throttle().build().unwrap().layer(inner));
    answers(throttle().keyed(1, local_key).build().unwrap().layer(inner));
    answers(timeout().layer(inner));
    answers(timeout().covering_readiness().layer(inner));
    answers(
        TimeoutLayer::following(second, second)
            .unwrap()
            .layer(inner),
    );
}
