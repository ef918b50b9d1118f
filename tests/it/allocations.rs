//! A call allocates nothing, whether it is let through, fails or is refused; and what a breaker keeps
//! does not grow with the calls that it has seen.
//!
//! No recorder and no subscriber is installed, so this holds telemetry to its word too.

use std::{
    future::{poll_fn, ready},
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use allocation_counter::{AllocationInfo, measure};
use steadfast::{
    LiftLayer, Reason,
    backoff::Backoff,
    bulkhead::{BulkheadLayer, Queue},
    circuit_breaker::{CircuitBreakerBuilder, CircuitBreakerLayer, Mode, Ramp, State, Thresholds},
    retry::RetryLayer,
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
                .time_window(secs(60), rare()),
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

    let bulkhead = BulkheadLayer::new(8);
    let queue = Queue::fifo(8, secs(1));
    let queued = BulkheadLayer::builder(8).queue(queue).build();
    let retry = RetryLayer::builder()
        .backoff(Backoff::none())
        .build()
        .unwrap();
    let timeout = TimeoutLayer::new(secs(10)).unwrap();
    assert_free("bulkhead", bulkhead.layer(inner.clone()));
    assert_free("queued bulkhead", queued.layer(inner.clone()));
    assert_free("retry", retry.layer(inner.clone()));
    assert_free("timeout", timeout.layer(inner.clone()));
    let ready_timeout = timeout.clone().covering_readiness();
    assert_free("ready timeout", ready_timeout.layer(inner.clone()));
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

    let full = BulkheadLayer::new(0);
    assert_refused(Reason::BulkheadFull, full.layer(inner));
    let no_queue = Queue::fifo(0, secs(1));
    let full = BulkheadLayer::builder(0).queue(no_queue).build();
    assert_refused(Reason::BulkheadFull, full.layer(inner));

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
