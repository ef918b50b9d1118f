//! The circuit breaker in the form in which readiness is the reservation.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use steadfast::{
    Reason,
    backoff::{Backoff, Jitter},
    circuit_breaker::{
        BackPressureCircuitBreaker, BackPressureCircuitBreakerLayer, Cause, CircuitBreakerBuilder,
        CircuitBreakerHandle, CircuitBreakerLayer, Mode, Ramp, State,
    },
};
use tokio::time::{Instant, advance};
use tower::{Layer, Service, ServiceExt, balance::p2c::Balance, discover::ServiceList};

use crate::support::{Act, CountingWaker, Error, Scripted, Watch, ms, poll_once, secs, send};

type Breaker = BackPressureCircuitBreaker<Scripted>;

/// Opens after a failure for exactly one second, then lets one probe pass, which may take five.
fn brittle() -> CircuitBreakerBuilder {
    CircuitBreakerLayer::builder()
        .name("db")
        .consecutive_failures(1)
        .open_time(Backoff::constant(secs(1)).with_jitter(Jitter::None))
        .half_open_probes(1)
        .half_open_timeout(secs(5))
}

fn build(builder: CircuitBreakerBuilder) -> (Breaker, CircuitBreakerHandle, Watch) {
    let layer = builder.build().unwrap().back_pressure();
    let (service, watch) = Scripted::new();
    (layer.layer(service), layer.handle(), watch)
}

/// One that a failure has just opened.
async fn opened(builder: CircuitBreakerBuilder) -> (Breaker, CircuitBreakerHandle, Watch) {
    let (mut breaker, handle, watch) = build(builder);
    send(&mut breaker, Act::Fail(1)).await.unwrap_err();
    assert_eq!(handle.state(), State::Open);
    (breaker, handle, watch)
}

/// Half-open: its open time is over, and nobody has asked yet.
async fn due(builder: CircuitBreakerBuilder) -> (Breaker, CircuitBreakerHandle, Watch) {
    let opened = opened(builder).await;
    advance(secs(1)).await;
    opened
}

fn is_ready_for<S: Service<Act, Error = Error>>(service: &mut S, waker: &Waker) -> bool {
    match service.poll_ready(&mut Context::from_waker(waker)) {
        Poll::Ready(ready) => {
            ready.unwrap();
            true
        }
        Poll::Pending => false,
    }
}

fn is_ready<S: Service<Act, Error = Error>>(service: &mut S) -> bool {
    is_ready_for(service, Waker::noop())
}

/// A service that was made ready, called; and the call, polled once.
fn begin(
    breaker: &mut Breaker,
    act: Act,
) -> Pin<Box<impl Future<Output = Result<u32, Error>> + use<>>> {
    let mut call = Box::pin(breaker.call(act));
    assert!(poll_once(call.as_mut()).is_pending());
    call
}

#[tokio::test(start_paused = true)]
async fn it_is_not_ready_until_the_open_time_is_over_and_then_at_once() {
    let (mut breaker, handle, watch) = opened(brittle()).await;
    let before = Instant::now();
    breaker.ready().await.unwrap();
    assert_eq!(before.elapsed(), secs(1));
    assert_eq!(handle.state(), State::HalfOpen);
    assert_eq!(breaker.call(Act::Succeed).await, Ok(1));
    assert_eq!((handle.state(), watch.calls()), (State::Closed, 2));
}

#[tokio::test(start_paused = true)]
async fn while_it_is_open_the_inner_service_is_left_alone() {
    let (mut breaker, _, watch) = opened(brittle()).await;
    watch.be_unready(1);
    let (counter, waker) = CountingWaker::new();
    assert!(!is_ready_for(&mut breaker, &waker));
    assert_eq!(counter.woken(), 0, "the inner service would have woken it");
}

#[tokio::test(start_paused = true)]
async fn two_clones_are_never_both_ready_for_one_probe() {
    let (mut one, _, watch) = due(brittle()).await;
    let mut other = one.clone();
    assert!(is_ready(&mut one));
    assert!(!is_ready(&mut other));
    assert!(is_ready(&mut one), "it still is");
    assert!(!is_ready(&mut one.clone()), "its clones are not");
    let probe = begin(&mut one, Act::Hang);
    assert!(!is_ready(&mut other) && !is_ready(&mut one));
    assert_eq!(watch.in_flight(), 1);
    drop(probe);
}

#[tokio::test(start_paused = true)]
async fn of_ten_clones_as_many_are_ready_as_there_are_probes() {
    let (breaker, handle, watch) = due(brittle().half_open_probes(3)).await;
    let mut clones = vec![breaker; 10];
    let mut ready: Vec<_> = clones
        .iter_mut()
        .filter_map(|it| is_ready(it).then_some(it))
        .collect();
    assert_eq!(ready.len(), 3);
    for clone in &mut ready {
        clone.call(Act::Succeed).await.unwrap();
    }
    assert_eq!((handle.state(), watch.calls()), (State::Closed, 4));
}

#[tokio::test(start_paused = true)]
async fn the_ordinary_form_of_the_same_breaker_is_refused_a_place_that_is_reserved() {
    let layer = brittle().build().unwrap();
    let mut waiting = layer.back_pressure().layer(Scripted::new().0);
    let mut refusing = layer.layer(Scripted::new().0);
    send(&mut refusing, Act::Fail(1)).await.unwrap_err();
    advance(secs(1)).await;
    assert!(is_ready(&mut waiting));
    let refused = send(&mut refusing, Act::Succeed)
        .await
        .unwrap_err()
        .rejected();
    assert_eq!(refused.reason(), Reason::CircuitOpen);
    waiting.call(Act::Succeed).await.unwrap();
    assert_eq!(layer.handle().state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_ready_clone_that_is_dropped_gives_its_place_back_and_wakes_who_waits() {
    let (mut one, handle, _) = due(brittle()).await;
    let mut other = one.clone();
    let (counter, waker) = CountingWaker::new();
    assert!(is_ready(&mut one));
    assert!(!is_ready_for(&mut other, &waker));
    drop(one.clone());
    assert_eq!(counter.woken(), 0, "a clone of it holds nothing");
    drop(one);
    assert_eq!(counter.woken(), 1);
    assert!(is_ready_for(&mut other, &waker));
    other.call(Act::Succeed).await.unwrap();
    assert_eq!(handle.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_ready_clone_that_is_asked_again_keeps_its_place() {
    let (mut first, _handle, _watch) = due(brittle()).await;
    let mut second = first.clone();
    assert!(is_ready(&mut first));
    let (counter, waker) = CountingWaker::new();
    assert!(!is_ready_for(&mut second, &waker));
    assert!(is_ready(&mut first));
    assert_eq!(counter.woken(), 0, "no place has come free");
    send(&mut first, Act::Succeed).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_says_nothing_wakes_who_waits_for_its_place() {
    let (mut one, _, _) = due(brittle()).await;
    let mut other = one.clone();
    let (counter, waker) = CountingWaker::new();
    assert!(is_ready(&mut one));
    let probe = begin(&mut one, Act::Hang);
    assert!(!is_ready_for(&mut other, &waker));
    drop(probe);
    assert_eq!(counter.woken(), 1);
    assert!(is_ready(&mut other));
}

#[tokio::test(start_paused = true)]
async fn a_change_of_state_or_of_mode_wakes_all_who_wait_once() {
    let (mut one, handle, _) = due(brittle()).await;
    let mut waiting = vec![one.clone(); 5];
    let (counter, waker) = CountingWaker::new();
    let all_wait = |waiting: &mut Vec<Breaker>| {
        waiting
            .iter_mut()
            .all(|it| !is_ready_for(it, &waker) && !is_ready_for(it, &waker))
    };
    assert!(is_ready(&mut one) && all_wait(&mut waiting));
    one.call(Act::Succeed).await.unwrap();
    assert_eq!(counter.woken(), 5, "it closed");
    assert!(waiting.iter_mut().all(is_ready));

    handle.force_open();
    assert!(all_wait(&mut waiting), "what was ready is not any more");
    assert_eq!(counter.woken(), 5);
    handle.set_mode(Mode::Disabled);
    assert_eq!(counter.woken(), 10);

    send(&mut one, Act::Fail(1)).await.unwrap_err();
    handle.reset();
    send(&mut one, Act::Fail(1)).await.unwrap_err();
    assert!(all_wait(&mut waiting));
    handle.set_mode(Mode::ObserveOnly);
    assert_eq!(counter.woken(), 15);
    assert!(waiting.iter_mut().all(is_ready));
}

#[tokio::test(start_paused = true)]
async fn whoever_polled_last_is_woken_and_who_is_gone_is_not() {
    let (mut one, handle, _) = opened(brittle()).await;
    let mut gone = one.clone();
    let (first, waker) = CountingWaker::new();
    assert!(!is_ready_for(&mut one, &waker));
    assert!(!is_ready_for(&mut gone, &waker));
    let (second, waker) = CountingWaker::new();
    assert!(!is_ready_for(&mut one, &waker));
    drop(gone);
    handle.reset();
    assert_eq!((first.woken(), second.woken()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn nobody_wakes_himself_while_there_is_nothing_to_do() {
    let (mut one, _, _) = due(brittle()).await;
    let mut other = one.clone();
    assert!(is_ready(&mut one));
    let _probe = begin(&mut one, Act::Hang);
    let (counter, waker) = CountingWaker::new();
    assert!(!is_ready_for(&mut other, &waker));
    advance(secs(5) - ms(1)).await;
    tokio::task::yield_now().await;
    assert_eq!(counter.woken(), 0);
    advance(ms(2)).await;
    assert_eq!(counter.woken(), 1, "the probe is late");
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_hangs_is_found_out_by_who_waits() {
    let (mut one, handle, _) = due(brittle()).await;
    let mut other = one.clone();
    assert!(is_ready(&mut one));
    let _probe = begin(&mut one, Act::Hang);
    let before = Instant::now();
    other.ready().await.unwrap();
    assert_eq!(
        before.elapsed(),
        secs(6),
        "until it was late, and the open time after"
    );
    assert_eq!(other.call(Act::Succeed).await, Ok(1));
    assert_eq!(handle.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_place_that_nobody_uses_lapses_and_says_nothing_of_the_service() {
    let (mut idle, handle, _) = due(brittle()).await;
    let mut other = idle.clone();
    assert!(is_ready(&mut idle));
    let before = Instant::now();
    other.ready().await.unwrap();
    assert_eq!(before.elapsed(), secs(5));
    assert_eq!(handle.state(), State::HalfOpen, "it has not failed");
    // The one that is ready no more is told so, or refused.
    let refused = idle.call(Act::Succeed).await.unwrap_err().rejected();
    assert_eq!(refused.reason(), Reason::CircuitOpen);
    assert!(!is_ready(&mut idle));
    drop(idle);
    assert_eq!(other.call(Act::Succeed).await, Ok(1));
    assert_eq!(handle.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_place_that_nobody_uses_lapses_for_calls_of_the_ordinary_form_too() {
    let layer = brittle().build().unwrap();
    let mut idle = layer.back_pressure().layer(Scripted::new().0);
    let mut refusing = layer.layer(Scripted::new().0);
    send(&mut refusing, Act::Fail(1)).await.unwrap_err();
    advance(secs(1)).await;
    assert!(is_ready(&mut idle));
    advance(secs(5)).await;
    let mut probe = pin!(refusing.ready().await.unwrap().call(Act::Take(ms(1))));
    assert!(poll_once(probe.as_mut()).is_pending());
    assert!(!is_ready(&mut idle), "its place is another's");
    assert_eq!(probe.await, Ok(1));
    assert_eq!(layer.handle().state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_probe_is_late_by_when_it_began_and_not_by_when_its_place_was_reserved() {
    let (mut idle, handle, _) = due(brittle()).await;
    let mut other = idle.clone();
    assert!(is_ready(&mut idle));
    advance(secs(4)).await;
    let probe = begin(&mut idle, Act::Take(secs(4)));
    advance(secs(3)).await;
    assert!(!is_ready(&mut other));
    assert_eq!(handle.state(), State::HalfOpen);
    assert_eq!(probe.await, Ok(1));
    assert_eq!(handle.snapshot().cause, Some(Cause::ProbesSucceeded));
}

#[tokio::test(start_paused = true)]
async fn a_reservation_of_a_state_that_has_changed_is_asked_for_anew() {
    // In `call`: refused where the new state refuses, or one of its calls.
    let (mut breaker, handle, watch) = due(brittle()).await;
    assert!(is_ready(&mut breaker));
    handle.force_open_for(secs(9));
    let refused = breaker.call(Act::Succeed).await.unwrap_err().rejected();
    assert_eq!((refused.retry_after(), watch.calls()), (Some(secs(9)), 1));

    handle.set_mode(Mode::Enabled);
    assert!(is_ready(&mut breaker));
    handle.reset();
    assert_eq!(breaker.call(Act::Fail(7)).await, Err(Error::Failed(7)));
    assert_eq!(
        handle.snapshot().cause,
        Some(Cause::ConsecutiveFailures),
        "as a call"
    );

    // In `poll_ready`: ready for the one is not ready for the other.
    advance(secs(1)).await;
    assert!(is_ready(&mut breaker));
    handle.force_open();
    assert!(!is_ready(&mut breaker));
    handle.set_mode(Mode::Enabled);
    let mut other = breaker.clone();
    assert!(is_ready(&mut other));
    assert!(
        !is_ready(&mut breaker),
        "the place that it had is of another round"
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_ready_before_it_opened_is_refused_with_the_time_to_come_back() {
    let (mut one, _, watch) = build(brittle());
    let mut other = one.clone();
    assert!(
        is_ready(&mut one) && is_ready(&mut other),
        "closed, it reserves nothing"
    );
    one.call(Act::Fail(1)).await.unwrap_err();
    let refused = other.call(Act::Succeed).await.unwrap_err().rejected();
    assert_eq!((refused.retry_after(), watch.calls()), (Some(secs(1)), 1));
}

#[tokio::test(start_paused = true)]
async fn a_place_is_kept_while_the_inner_service_gets_ready_and_given_back_if_that_fails() {
    let (mut breaker, _, watch) = due(brittle()).await;
    let mut other = breaker.clone();
    watch.be_unready(1);
    assert!(!is_ready(&mut breaker), "the inner service is not");
    assert!(!is_ready(&mut other));
    assert!(is_ready(&mut breaker));
    drop((breaker, other));

    /// Its readiness fails.
    #[derive(Clone)]
    struct Broken;
    impl Service<Act> for Broken {
        type Response = u32;
        type Error = Error;
        type Future = std::future::Pending<Result<u32, Error>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
            Poll::Ready(Err(Error::Failed(9)))
        }
        fn call(&mut self, _: Act) -> Self::Future {
            unreachable!("it is never ready")
        }
    }
    let layer = brittle().build().unwrap();
    layer.handle().force_open_for(Duration::ZERO);
    let mut broken = layer.back_pressure().layer(Broken);
    let mut whole = layer.back_pressure().layer(Scripted::new().0);
    assert_eq!(broken.ready().await.err(), Some(Error::Failed(9)));
    assert!(is_ready(&mut whole));
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_panics_leaves_no_place_taken() {
    let (breaker, handle, _) = due(brittle()).await;
    for act in [Act::Panic, Act::PanicInCall] {
        let mut clone = breaker.clone();
        assert!(is_ready(&mut clone));
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _ = poll_once(pin!(clone.call(act)));
        }));
        assert!(panicked.is_err());
        assert_eq!(handle.snapshot().cause, Some(Cause::ProbesFailed));
        advance(secs(1)).await;
    }
    assert!(is_ready(&mut breaker.clone()));
}

#[tokio::test(start_paused = true)]
async fn in_a_ramp_it_is_ready_for_the_share_of_the_time() {
    let (mut breaker, handle, _) = due(brittle().ramp(Ramp::steps([0.1, 0.5], secs(10)))).await;
    breaker
        .ready()
        .await
        .unwrap()
        .call(Act::Succeed)
        .await
        .unwrap();
    assert_eq!(handle.state(), State::Recovering);
    // As fast as it can be, a call takes ten milliseconds.
    let began = Instant::now();
    let mut by_step = [0, 0];
    loop {
        breaker.ready().await.unwrap();
        if handle.state() == State::Closed {
            break;
        }
        by_step[(began.elapsed() >= secs(10)) as usize] += 1;
        breaker.call(Act::Take(ms(10))).await.unwrap();
    }
    assert_eq!(began.elapsed(), secs(20));
    assert_eq!(by_step, [100, 500]);
}

#[tokio::test(start_paused = true)]
async fn what_a_ramp_lets_in_is_woken_no_more_and_is_let_in_to_that_ramp_only() {
    let (mut breaker, handle, _) = due(brittle().ramp(Ramp::steps([0.1], secs(10)))).await;
    send(&mut breaker, Act::Succeed).await.unwrap();
    advance(ms(500)).await;
    let (counter, waker) = CountingWaker::new();
    assert!(!is_ready_for(&mut breaker, &waker));
    advance(ms(501)).await;
    assert_eq!(counter.woken(), 1);
    assert!(is_ready_for(&mut breaker, &waker));
    advance(ms(500)).await;
    assert!(is_ready_for(&mut breaker, &waker), "it was promised");
    handle.force_open();
    assert_eq!(counter.woken(), 1);
    assert!(!is_ready_for(&mut breaker, &waker));
}

#[tokio::test(start_paused = true)]
async fn ten_tasks_that_wait_for_an_outage_to_end_are_all_served() {
    let (breaker, handle, watch) = opened(brittle()).await;
    let tasks = (0..10).map(|_| {
        let mut breaker = breaker.clone();
        tokio::spawn(async move { send(&mut breaker, Act::Take(ms(10))).await })
    });
    for task in tasks.collect::<Vec<_>>() {
        assert_eq!(task.await.unwrap(), Ok(1));
    }
    assert_eq!((handle.state(), watch.calls()), (State::Closed, 11));
}

#[tokio::test(start_paused = true)]
async fn a_balancer_turns_to_the_endpoint_whose_breaker_is_closed_and_back_again() {
    let endpoint = |layer: &BackPressureCircuitBreakerLayer| {
        let (service, watch) = Scripted::new();
        (layer.layer(service), watch)
    };
    let layers = [(); 2].map(|()| brittle().build().unwrap().back_pressure());
    let [(one, first), (other, second)] = [endpoint(&layers[0]), endpoint(&layers[1])];
    let loaded = |it: Breaker| {
        let boxing = it.map_err(|error| format!("{error:?}"));
        tower::load::Constant::new(boxing, 0)
    };
    let mut balance = Balance::new(ServiceList::new(vec![loaded(one), loaded(other)]));

    let mut calls = async |calls: usize| {
        for _ in 0..calls {
            balance
                .ready()
                .await
                .unwrap()
                .call(Act::Succeed)
                .await
                .unwrap();
        }
    };
    calls(100).await;
    assert!(first.calls() > 0 && second.calls() > 0);

    layers[0].handle().force_open_for(secs(5));
    let before = (first.calls(), second.calls());
    calls(100).await;
    assert_eq!((first.calls(), second.calls()), (before.0, before.1 + 100));

    tokio::time::sleep(secs(6)).await;
    calls(100).await;
    assert!(first.calls() > before.0, "its probe, and more");
    assert_eq!(layers[0].handle().state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_buffer_holds_its_requests_back_while_it_is_open() {
    let (breaker, handle, watch) = build(brittle());
    let boxed = breaker.map_err(|error| format!("{error:?}"));
    let buffer = tower::buffer::Buffer::new(boxed, 10);
    let mut clone = buffer.clone();
    clone
        .ready()
        .await
        .unwrap()
        .call(Act::Fail(1))
        .await
        .unwrap_err();
    let began = Instant::now();
    let calls = (0..5).map(|_| buffer.clone().oneshot(Act::Succeed));
    for result in futures_util::future::join_all(calls).await {
        assert_eq!(result.unwrap(), 1);
    }
    assert_eq!(began.elapsed(), secs(1));
    assert_eq!((handle.state(), watch.calls()), (State::Closed, 6));
}

#[test]
fn no_place_is_lost_among_threads_that_reserve_drop_and_call() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        // However slow the machine is, nothing is late.
        let builder = brittle().half_open_probes(2).half_open_timeout(secs(3600));
        let layer = builder.slow_call_duration(secs(3600)).build().unwrap();
        layer.handle().force_open_for(Duration::ZERO);
        let breaker = layer.back_pressure().layer(Scripted::new().0);
        let in_flight = Arc::new(std::sync::atomic::AtomicI64::new(0));
        let tasks: Vec<_> = (0..8)
            .map(|task| {
                let (breaker, in_flight) = (breaker.clone(), in_flight.clone());
                tokio::spawn(async move {
                    for turn in 0..200 {
                        let mut clone = breaker.clone();
                        clone.ready().await.unwrap();
                        let held = in_flight.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        assert!(held < 2, "{held} places were taken");
                        tokio::task::yield_now().await;
                        let call = ((task + turn) % 2 == 0).then(|| clone.call(Act::Hang));
                        tokio::task::yield_now().await;
                        in_flight.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        drop((call, clone));
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(layer.handle().state(), State::HalfOpen);
        let mut ready = vec![breaker; 4];
        assert_eq!(
            ready
                .iter_mut()
                .filter_map(|it| is_ready(it).then_some(()))
                .count(),
            2
        );
    });
}
