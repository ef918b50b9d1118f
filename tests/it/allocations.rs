//! A call allocates nothing, whether it is let through, fails or is refused; and what a breaker keeps
//! does not grow with the calls that it has seen.
//!
//! No recorder and no subscriber is installed, so this holds telemetry to its word too.

use std::{
    future::{Future, poll_fn, ready},
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::Duration,
};

use allocation_counter::{AllocationInfo, measure};
use steadfast::{
    Criticality, LiftLayer, Reason,
    adaptive::{
        AdaptiveLayer, Aimd, Bbr, Correlated, EnvoyGradient, Gradient2, Limit, LittlesLaw,
        Mode as AdaptiveMode, Vegas, Windows,
    },
    backoff::Backoff,
    budget::Budget,
    bulkhead::{BulkheadLayer, Queue},
    circuit_breaker::{
        CircuitBreakerBuilder, CircuitBreakerLayer, LatencyQuantile, Mode, Ramp, State, Thresholds,
    },
    classify::{AnyError, Failure},
    load_shed::{self, LoadShedLayer},
    partitions::Partitions,
    retry::RetryLayer,
    throttle::{self, ThrottleLayer, rate::AdaptiveRateLayer},
    timeout::TimeoutLayer,
};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceBuilder, service_fn};

use crate::support::{Error, secs};

/// Makes a call, and polls it by hand: an executor might allocate.
fn call<S: Service<u32>>(service: &mut S, req: u32) -> Result<S::Response, S::Error> {
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(service.poll_ready(cx).is_ready());
    let mut call = pin!(service.call(req));
    loop {
        if let Poll::Ready(result) = call.as_mut().poll(cx) {
            return result;
        }
    }
}

/// What so many calls allocate. There are timers, as within a runtime.
fn allocated_by<S: Service<u32>>(calls: u32, service: &mut S) -> AllocationInfo {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let _entered = runtime.enter();
    // The thread's pools are made by the first call, and windows and budgets fill by more.
    (0..1_000).for_each(|req| drop(call(service, req)));
    measure(|| (0..calls).for_each(|req| drop(call(service, req))))
}

fn assert_free<S: Service<u32>>(name: &str, mut service: S) {
    let allocated = allocated_by(1_000, &mut service);
    assert_eq!(allocated, AllocationInfo::default(), "{name}");
}

fn breaker() -> CircuitBreakerBuilder {
    CircuitBreakerLayer::builder()
}

/// One of each layer, and the stack of the four, above `inner`. No breaker trips, and no retry waits.
fn assert_free_above<S>(inner: &S)
where
    S: Service<u32, Error = Error> + Clone,
{
    let rare = || Thresholds::failure_rate(1.0).or_slow_call_rate(1.0);
    let breakers = [
        (
            "a run of failures",
            breaker().consecutive_failures(u32::MAX),
        ),
        (
            "a count window",
            breaker().count_window(100, Thresholds::failure_rate(1.0).minimum_calls(100)),
        ),
        (
            "a time window",
            breaker().time_window(secs(60), Thresholds::slow_call_rate(1.0)),
        ),
        (
            "all rules",
            breaker()
                .consecutive_failures(u32::MAX)
                .count_window(100, rare())
                .time_window(secs(60), rare())
                .ewma_window(secs(60), Thresholds::failure_rate(1.0))
                .latency_window(secs(60), LatencyQuantile::above(0.5, secs(60)))
                .trip_when(|statistics| statistics.consecutive_failures == u32::MAX),
        ),
    ];
    let breakers = breakers.map(|(name, builder)| (name, builder.build().unwrap()));
    for (name, breaker) in &breakers {
        breaker.handle().force_closed();
        assert_free(name, breaker.layer(inner.clone()));
        breaker.handle().set_mode(Mode::Disabled);
        assert_free(name, breaker.layer(inner.clone()));
        breaker.handle().reset();
        assert_free(name, breaker.layer(inner.clone()));
        assert_free(name, breaker.back_pressure().layer(inner.clone()));
    }

    // With windows that end all the time.
    let millis = Duration::from_millis(1);
    let windows = Windows::default().length(millis, millis).least_calls(1);
    let algorithms: [(&str, Box<dyn Limit>); 6] = [
        ("vegas", Box::new(Vegas::default())),
        ("aimd", Box::new(Aimd::default())),
        ("gradient2", Box::new(Correlated::new(Gradient2::default()))),
        ("envoy", Box::new(EnvoyGradient::default())),
        ("little", Box::new(LittlesLaw::target(secs(1)).unwrap())),
        ("bbr", Box::new(Bbr::when(|_| true))),
    ];
    for (name, algorithm) in algorithms {
        let adaptive = AdaptiveLayer::builder().algorithm(algorithm);
        let adaptive = if name.len() > 4 {
            adaptive.sampling(windows)
        } else {
            adaptive
        };
        let adaptive = adaptive.build().unwrap();
        assert_free(name, adaptive.layer(inner.clone()));
        assert_free(name, adaptive.back_pressure().layer(inner.clone()));
        for mode in [AdaptiveMode::ObserveOnly, AdaptiveMode::Disabled] {
            adaptive.handle().set_mode(mode);
            assert_free(name, adaptive.layer(inner.clone()));
        }
    }

    let bulkhead = BulkheadLayer::new(8);
    let queue = Queue::fifo(8, secs(1));
    let queued = AdaptiveLayer::builder()
        .algorithm(Vegas::default())
        .queue(queue);
    assert_free(
        "queued adaptive",
        queued.build().unwrap().layer(inner.clone()),
    );
    let queued = BulkheadLayer::builder(8).queue(queue).build();
    let keyed = BulkheadLayer::builder(8).keyed(100, |req: &u32| req % 10);
    let queued_keyed = keyed.clone().queue(queue);
    let retry = RetryLayer::builder()
        .backoff(Backoff::none())
        .build()
        .unwrap();
    let timeout = TimeoutLayer::new(secs(10)).unwrap();
    assert_free("bulkhead", bulkhead.layer(inner.clone()));
    let back_pressure = bulkhead.back_pressure();
    assert_free("bulkhead that waits", back_pressure.layer(inner.clone()));
    assert_free("queued bulkhead", queued.layer(inner.clone()));
    let weighted = BulkheadLayer::builder(8).weight(|req: &u32| *req as usize % 8);
    assert_free("weights", weighted.build().layer(inner.clone()));
    let odd_and_even = Partitions::by(|req: &u32| ["even", "odd"][*req as usize % 2]);
    let odd_and_even = odd_and_even.share("even", 2).share("odd", 1);
    let divided = BulkheadLayer::builder(8).partitions(odd_and_even.clone());
    assert_free("partitions", divided.build().unwrap().layer(inner.clone()));
    let adaptive = AdaptiveLayer::builder().algorithm(Aimd::default());
    let adaptive = adaptive.partitions(odd_and_even.clone());
    let adaptive_queued = adaptive.clone().queue(queue).build().unwrap();
    assert_free(
        "adaptive partitions",
        adaptive.build().unwrap().layer(inner.clone()),
    );
    assert_free(
        "queued adaptive partitions",
        adaptive_queued.layer(inner.clone()),
    );
    let divided = BulkheadLayer::builder(8)
        .partitions(odd_and_even)
        .queue(queue);
    let divided = divided.build().unwrap();
    assert_free("queued partitions", divided.layer(inner.clone()));
    assert_free(
        "keyed bulkhead",
        keyed.build().unwrap().layer(inner.clone()),
    );
    let queued_keyed = queued_keyed.build().unwrap();
    assert_free("queued keyed bulkhead", queued_keyed.layer(inner.clone()));
    let keyed = breaker().count_window(100, rare());
    let keyed = keyed.keyed(100, |req: &u32| req % 10).build().unwrap();
    assert_free("keyed breaker", keyed.layer(inner.clone()));
    let shed = LoadShedLayer::builder()
        .in_flight(1_000_000)
        .gauge("gauge", || 0.5);
    let shed = shed.sampling_interval(Duration::from_millis(1));
    assert_free(
        "load shed",
        shed.clone().build().unwrap().layer(inner.clone()),
    );
    let shed = shed
        .cohort_by(|req: &u32| *req)
        .refuse_unready_after(secs(1));
    assert_free(
        "load shed by user",
        shed.clone().build().unwrap().layer(inner.clone()),
    );
    assert_free(
        "load shed by usage",
        shed.heaviest_first().build().unwrap().layer(inner.clone()),
    );
    assert_free("retry", retry.layer(inner.clone()));
    let throttle = || ThrottleLayer::builder(AnyError);
    assert_free("throttle", throttle().build().unwrap().layer(inner.clone()));
    let keyed = throttle().keyed(100, |req: &u32| req % 10).build().unwrap();
    assert_free("keyed throttle", keyed.layer(inner.clone()));
    let rate = AdaptiveRateLayer::new(AnyError);
    assert_free("adaptive rate", rate.layer(inner.clone()));
    let keyed = AdaptiveRateLayer::builder(AnyError).keyed(100, |req: &u32| req % 10);
    let keyed = keyed.build().unwrap();
    assert_free("keyed adaptive rate", keyed.layer(inner.clone()));
    for budget in [
        Budget::of_active(0.5).unwrap(),
        Budget::concurrent(8),
        Budget::quota(u32::MAX).unwrap(),
    ] {
        let retry = RetryLayer::builder()
            .backoff(Backoff::none())
            .budget(budget);
        assert_free(
            "retry, other budgets",
            retry.build().unwrap().layer(inner.clone()),
        );
    }
    assert_free("timeout", timeout.layer(inner.clone()));
    let ready_timeout = timeout.clone().covering_readiness();
    assert_free("ready timeout", ready_timeout.layer(inner.clone()));
    let following = TimeoutLayer::following(secs(1), secs(10)).unwrap();
    assert_free("following timeout", following.layer(inner.clone()));
    assert_free("lift", LiftLayer::new().layer(inner.clone()));

    for (name, breaker) in breakers {
        let stack = ServiceBuilder::new()
            .layer(bulkhead.clone())
            .layer(retry.clone())
            .layer(breaker)
            .layer(timeout.clone())
            .service(inner.clone());
        assert_free(name, stack);
    }
}

#[test]
fn a_call_that_is_answered_at_once_allocates_nothing() {
    assert_free_above(&service_fn(|req| ready(Ok(req))));
}

#[test]
fn a_call_that_is_waited_for_allocates_nothing() {
    assert_free_above(&service_fn(|req| async move {
        let mut polls = 0;
        poll_fn(|cx| {
            polls += 1;
            cx.waker().wake_by_ref();
            if polls > 2 {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
        Ok(req)
    }));
}

/// One call runs, a second waits, a third takes its place or is refused; all end.
fn queue_up<S: Service<u32>>(service: &mut S) {
    fn poll<F: Future>(call: Pin<&mut F>) -> Poll<F::Output> {
        call.poll(&mut Context::from_waker(Waker::noop()))
    }
    let [running, waiting, third] = [
        Criticality::Critical,
        Criticality::Sheddable,
        Criticality::Critical,
    ]
    .map(|class| {
        steadfast::Context::new()
            .with_criticality(class)
            .scope(service.call(0))
    });
    let mut running = pin!(running);
    assert!(poll(running.as_mut()).is_pending());
    let (mut waiting, mut third) = (pin!(waiting), pin!(third));
    assert!(poll(waiting.as_mut()).is_pending());
    let refused = poll(third.as_mut()).is_ready();
    assert!(poll(running.as_mut()).is_ready());
    if refused {
        assert!(poll(waiting.as_mut()).is_pending());
        assert!(poll(waiting.as_mut()).is_ready());
    } else {
        assert!(poll(waiting.as_mut()).is_ready(), "refused");
        assert!(poll(third.as_mut()).is_pending());
        assert!(poll(third.as_mut()).is_ready());
    }
}

#[test]
fn a_call_that_waits_in_a_queue_or_is_refused_there_allocates_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let _entered = runtime.enter();
    for queue in [
        Queue::fifo(1, secs(9)),
        Queue::codel_adaptive_lifo(1, secs(9)).by_criticality(),
    ] {
        // Is pending once.
        let inner = service_fn(|req| async move {
            let mut polls = 0;
            poll_fn(|_| {
                polls += 1;
                if polls > 1 {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
            .await;
            Ok::<u32, Error>(req)
        });
        let mut service = BulkheadLayer::builder(1).queue(queue).build().layer(inner);
        (0..10).for_each(|_| queue_up(&mut service));
        let allocated = measure(|| (0..1_000).for_each(|_| queue_up(&mut service)));
        assert_eq!(allocated, AllocationInfo::default(), "{queue:?}");
    }
}

#[test]
fn a_call_that_waits_for_its_turn_allocates_nothing() {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().unwrap();
    let overloaded = |_: Result<&u32, &Error>| Failure::overload().into();
    let rate = AdaptiveRateLayer::builder(overloaded).max_wait(secs(10));
    let mut service = rate
        .build()
        .unwrap()
        .layer(service_fn(|req| ready(Ok(req))));
    let mut wait = |calls: u32| {
        runtime.block_on(async {
            for _ in 0..calls {
                service.call(0).await.unwrap();
            }
            Instant::now()
        })
    };
    let began = wait(100);
    let mut ended = began;
    let allocated = measure(|| ended = wait(100));
    assert_eq!(allocated, AllocationInfo::default());
    assert_eq!((ended - began).as_secs(), 200, "each has waited");
}

#[test]
fn a_call_that_fails_allocates_nothing() {
    let mut calls = 0;
    // Not all of them, or breakers would trip.
    assert_free_above(&service_fn(move |req| {
        calls += 1;
        ready(if calls % 3 == 0 {
            Ok(req)
        } else {
            Err(Error::Failed(req))
        })
    }));
}

#[test]
fn a_call_that_is_refused_allocates_nothing() {
    fn assert_refused<S>(reason: Reason, mut service: S)
    where
        S: Service<u32, Response = u32, Error = Error>,
    {
        let refused = call(&mut service, 0).unwrap_err().rejected();
        assert_eq!(refused.reason(), reason);
        assert_free(reason.as_str(), service);
    }

    let inner = service_fn(|req| ready(Ok::<_, Error>(req)));
    let failing = service_fn(|req| ready(Err::<u32, _>(Error::Failed(req))));
    let hour = Backoff::constant(secs(3600));
    let open = breaker().consecutive_failures(1).open_time(hour);
    let mut open = open.build().unwrap().layer(failing);
    call(&mut open, 0).unwrap_err();
    assert_refused(Reason::CircuitOpen, open);

    // Both let pass and refused: half of the calls.
    let ramp = Ramp::steps([0.5], secs(3600));
    let ramp = breaker()
        .consecutive_failures(1)
        .half_open_probes(1)
        .ramp(ramp);
    let ramp = ramp.build().unwrap();
    let mut recovering = ramp.layer(inner);
    ramp.handle().force_open_for(Duration::ZERO);
    call(&mut recovering, 0).unwrap();
    assert_eq!(ramp.handle().state(), State::Recovering);
    assert_free("recovering", recovering);

    // Spared.
    let shadow = breaker().consecutive_failures(1).mode(Mode::ObserveOnly);
    let mut shadow = shadow.build().unwrap().layer(failing);
    call(&mut shadow, 0).unwrap_err();
    assert_free("observe only", shadow);

    let forced = breaker().build().unwrap();
    forced.handle().force_open();
    assert_refused(Reason::CircuitOpen, forced.layer(inner));

    let full = AdaptiveLayer::builder()
        .algorithm(Vegas::default())
        .max_limit(1);
    let full = full.build().unwrap().layer(inner);
    let holds_the_permit = full.clone().call(0);
    assert_refused(Reason::LimitReached, full);
    drop(holds_the_permit);
    // Both let pass and refused, and in the shadow.
    for mode in [throttle::Mode::Enabled, throttle::Mode::ObserveOnly] {
        let overloaded = |_: Result<&u32, &Error>| Failure::overload().into();
        let throttle = ThrottleLayer::builder(overloaded).mode(mode);
        let throttle = throttle.build().unwrap();
        assert_free("throttled", throttle.layer(inner));
        let snapshot = throttle.handle().snapshot(Criticality::Critical);
        assert_eq!(snapshot.reject_probability, 0.9);
        let rate = AdaptiveRateLayer::builder(overloaded).mode(mode);
        let rate = rate.build().unwrap();
        assert_free("adaptive rate", rate.layer(inner));
        assert!(rate.handle().snapshot().rate.is_some());
    }

    let full = BulkheadLayer::new(0);
    assert_refused(Reason::BulkheadFull, full.layer(inner));
    let no_queue = Queue::fifo(0, secs(1));
    let full = BulkheadLayer::builder(0).queue(no_queue).build();
    assert_refused(Reason::BulkheadFull, full.layer(inner));
    let full = BulkheadLayer::builder(0).keyed(1, |_: &u32| 1);
    assert_refused(Reason::BulkheadFull, full.build().unwrap().layer(inner));

    // Both sheds and lets pass, and samples meanwhile.
    let shed = |mode| {
        let interval = Duration::from_millis(1);
        let shed = LoadShedLayer::builder()
            .gauge("gauge", || 9.0)
            .sampling_interval(interval)
            .mode(mode);
        shed.build().unwrap()
    };
    let shed_all = shed(load_shed::Mode::Enabled);
    let mut overloaded = shed_all.layer(inner);
    while shed_all.handle().snapshot().shed_share < 1.0 {
        let _ = call(&mut overloaded, 0);
    }
    assert_free("overloaded", overloaded);
    assert_free(
        "overloaded, observed",
        shed(load_shed::Mode::ObserveOnly).layer(inner),
    );

    let expired = steadfast::Context::new().with_deadline(Instant::now());
    expired.sync_scope(|| {
        let timeout = TimeoutLayer::new(secs(10)).unwrap();
        assert_refused(Reason::DeadlineExceeded, timeout.layer(inner));
        let timeout = timeout.covering_readiness();
        assert_refused(Reason::DeadlineExceeded, timeout.layer(inner));
    });

    // Below the other layers, which have something to undo.
    let stack = ServiceBuilder::new()
        .layer(BulkheadLayer::new(8))
        .layer(RetryLayer::builder().build().unwrap())
        .layer(forced)
        .layer(TimeoutLayer::new(secs(10)).unwrap());
    assert_refused(Reason::CircuitOpen, stack.service(inner));
}

#[cfg(feature = "http")]
#[test]
fn judging_a_response_allocates_nothing_whatever_it_says() {
    use http::{HeaderMap, Response, StatusCode};
    use steadfast::{
        Verdict,
        http::{AnswerRefusalsLayer, HttpClassifier},
    };

    let heads: [&[(&'static str, &str)]; 6] = [
        &[],
        &[("retry-after", "7")],
        &[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")],
        &[
            ("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("date", "Sun Nov  6 08:49:37 1994"),
        ],
        &[(
            "ratelimit",
            r#""burst";r=0;t=3, "daily";r=900;t=50000;pk="x""#,
        )],
        &[
            ("x-ratelimit-reset", "1000000000"),
            ("x-ratelimit-remaining", "0"),
        ],
    ];
    let custom = HttpClassifier::builder().success(404).build().unwrap();
    for head in heads {
        let mut headers = HeaderMap::new();
        for (name, value) in head {
            headers.insert(*name, value.parse().unwrap());
        }
        let judge = || {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            let verdict = custom.clone().verdict(status, &headers);
            assert_eq!(verdict, HttpClassifier.verdict(status, &headers));
            #[cfg(feature = "grpc")]
            assert_ne!(
                steadfast::grpc::GrpcClassifier::new().trailers(&headers),
                Verdict::Success
            );
            assert_ne!(verdict, Verdict::Success);
        };
        judge();
        assert_eq!(measure(judge), AllocationInfo::default(), "{head:?}");
    }

    let inner = service_fn(|req: u32| ready(Ok::<_, steadfast::Error<Error>>(Response::new(req))));
    let answer = |_: &steadfast::http::Refusal| Response::new(0);
    assert_free(
        "answer refusals",
        AnswerRefusalsLayer::with(answer).layer(inner),
    );
}

#[cfg(feature = "http")]
#[test]
fn a_deadline_costs_no_allocation_to_read_and_one_for_each_header_that_is_written() {
    use http::{HeaderMap, HeaderValue, Request};
    use steadfast::deadline::{DeadlineLayer, PropagateLayer};

    /// What a call allocates that is waited for once, apart from its request.
    fn allocated<S: Service<Request<()>>>(mut service: S, headers: &HeaderMap) -> u64 {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_time().build().unwrap();
        let _entered = runtime.enter();
        let request = |_| {
            let mut request = Request::new(());
            request.headers_mut().reserve(8);
            request.headers_mut().extend(headers.clone());
            request
        };
        let make = || (0..100).map(request).collect::<Vec<_>>().into_iter();
        let mut calls = |requests: std::vec::IntoIter<Request<()>>| {
            for request in requests {
                let cx = &mut Context::from_waker(Waker::noop());
                assert!(service.poll_ready(cx).is_ready());
                let mut call = pin!(service.call(request));
                while call.as_mut().poll(cx).is_pending() {}
            }
        };
        calls(make()); // makes the thread's pools
        let requests = make();
        let total = measure(|| calls(requests)).count_total;
        assert_eq!(total % 100, 0, "{total}");
        total / 100
    }

    let inner = service_fn(|_: Request<()>| {
        let mut polls = 0;
        poll_fn(move |_| {
            polls += 1;
            if polls > 1 {
                Poll::Ready(Ok::<_, Error>(()))
            } else {
                Poll::Pending
            }
        })
    });
    let second = || DeadlineLayer::builder(secs(1));
    let plain = second().build().unwrap();
    let trusting = second().trust_headers().build().unwrap();
    // One for each, so that of those too late it lets some in from the first on.
    let counting = || {
        let layer = second().trust_headers().max_refused_share(0.2);
        layer.build().unwrap()
    };
    let propagate = PropagateLayer::new();

    let mut said = HeaderMap::new();
    let headers = [
        ("grpc-timeout", "500m"),
        ("x-request-timeout-ms", "500"),
        ("x-request-attempt", "2"),
        ("x-request-criticality", "sheddable"),
    ];
    for (name, value) in headers {
        said.insert(name, HeaderValue::from_static(value));
    }
    let mut expired = said.clone();
    expired.insert("grpc-timeout", HeaderValue::from_static("0n"));
    let mut malformed = said.clone();
    malformed.insert("grpc-timeout", HeaderValue::from_static("soon"));
    for headers in [HeaderMap::new(), said, expired, malformed] {
        assert_eq!(allocated(plain.layer(inner), &headers), 0);
        assert_eq!(allocated(trusting.layer(inner), &headers), 0);
        assert_eq!(allocated(counting().layer(inner), &headers), 0);
        assert_eq!(allocated(propagate.layer(inner), &HeaderMap::new()), 0);
    }

    let within = steadfast::Context::new().with_timeout(secs(3600));
    let both = within.sync_scope(|| {
        let none = HeaderMap::new();
        let over_http = allocated(propagate.layer(inner), &none);
        let mut grpc = HeaderMap::new();
        grpc.insert("content-type", HeaderValue::from_static("application/grpc"));
        (over_http, allocated(propagate.layer(inner), &grpc))
    });
    assert_eq!(both, (1, 1), "the http crate's own, to hold the value");
}

#[test]
fn a_window_of_time_takes_the_same_memory_however_many_calls_it_holds() {
    let minute = breaker().time_window(Duration::from_secs(60), Thresholds::failure_rate(1.0));
    let layer = minute.build().unwrap();
    let mut service = layer.layer(service_fn(|req: u32| {
        let fails = req.is_multiple_of(100);
        ready(if fails {
            Err(Error::Failed(req))
        } else {
            Ok(req)
        })
    }));
    for calls in [1_000, 1_000_000] {
        let allocated = allocated_by(calls, &mut service);
        assert_eq!(allocated, AllocationInfo::default(), "{calls} calls");
    }
    let held = layer.handle().snapshot().statistics.time_window.unwrap();
    assert!(held.calls > 1_000_000 && held.failed > 10_000, "{held:?}");
}
