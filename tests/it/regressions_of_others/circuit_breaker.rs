//! The circuit breakers of others.

use std::{
    future::ready,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    task::Poll,
    thread,
    time::Duration,
};

use allocation_counter::AllocationInfo;
use futures_util::future::join_all;
use steadfast::{
    Classify, Reason, Rejected, Verdict,
    backoff::{Backoff, Jitter},
    circuit_breaker::{
        Cause, CircuitBreaker, CircuitBreakerBuilder, CircuitBreakerHandle, CircuitBreakerLayer,
        State, Thresholds,
    },
    classify::Failure,
    timeout::TimeoutLayer,
};
use tokio::time::{Instant, advance, timeout};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

use super::{allocated_by, begin, crowd, on_threads, recorded, series};
use crate::support::{
    Act, Error, Scripted, Told, Watch, ms, poll_once, secs, send, send_and_drop, send_contained,
};

type Breaker<C> = CircuitBreaker<Scripted, C>;

fn builder() -> CircuitBreakerBuilder {
    CircuitBreakerLayer::builder()
}

/// Opens after three failures in a row, for exactly a second, then lets one probe pass.
fn simple() -> CircuitBreakerBuilder {
    builder()
        .consecutive_failures(3)
        .open_time(Backoff::constant(secs(1)).with_jitter(Jitter::None))
        .half_open_probes(1)
}

/// Judges at once, and opens for exactly a second.
fn hasty(thresholds: Thresholds) -> CircuitBreakerBuilder {
    simple()
        .consecutive_failures(1_000)
        .count_window(10, thresholds.minimum_calls(1))
}

fn build<C: Clone>(builder: CircuitBreakerBuilder<C>) -> (Breaker<C>, CircuitBreakerHandle, Watch) {
    let layer = builder.build().unwrap();
    let (service, watch) = Scripted::new();
    (layer.layer(service), layer.handle(), watch)
}

/// Calls that are let through and fail.
async fn fail(service: &mut impl Service<Act, Response = u32, Error = Error>, calls: usize) {
    for _ in 0..calls {
        assert_eq!(send(service, Act::Fail(1)).await, Err(Error::Failed(1)));
    }
}

/// Calls that are let through and succeed.
async fn succeed(service: &mut impl Service<Act, Response = u32, Error = Error>, calls: usize) {
    for _ in 0..calls {
        assert_eq!(send(service, Act::Succeed).await, Ok(1));
    }
}

async fn refused(service: &mut impl Service<Act, Response = u32, Error = Error>) -> Rejected {
    let error = send(service, Act::Succeed).await.unwrap_err();
    error.rejected()
}

/// Three failures have opened it, and its second is over: the next call is a probe.
async fn about_to_probe<C>(
    builder: CircuitBreakerBuilder<C>,
) -> (Breaker<C>, CircuitBreakerHandle, Watch)
where
    C: Classify<u32, Error> + Clone,
{
    let (mut breaker, handle, watch) = build(builder);
    fail(&mut breaker, 3).await;
    assert_eq!(handle.state(), State::Open);
    advance(secs(1)).await;
    (breaker, handle, watch)
}

// What it counts.

/// tower-resilience 0.13 `circuit.rs:230`, `:320`: nothing leaves the "sliding" window, so that after
/// 10,000 successes it took 10,000 failures to open.
#[tokio::test(start_paused = true)]
async fn however_long_it_was_well_half_a_window_of_failures_opens_it() {
    let half = Thresholds::failure_rate(0.5);
    let (mut breaker, handle, _) = build(builder().count_window(100, half));
    succeed(&mut breaker, 10_000).await;
    fail(&mut breaker, 49).await;
    assert_eq!(handle.state(), State::Closed);
    fail(&mut breaker, 1).await;
    assert_eq!(handle.state(), State::Open);
}

/// tower-resilience 0.13 `circuit.rs:197`: a record is kept of every call in a time window, and all are
/// looked through at every call. That time does not grow either is bounded by `overhead`: "breaker-time
/// holding a million <= 110 % of holding a thousand".
#[test]
fn a_time_window_takes_no_more_room_for_more_calls() {
    let all = Thresholds::failure_rate(1.0);
    let layer = builder().time_window(secs(3600), all).build().unwrap();
    let mut service = layer.layer(service_fn(|req: u32| {
        let fails = req.is_multiple_of(100);
        ready(if fails {
            Err(Error::Failed(req))
        } else {
            Ok(req)
        })
    }));
    let none = AllocationInfo::default();
    assert_eq!(allocated_by(100_000, &mut service), none);
    let held = layer.handle().snapshot().statistics.time_window.unwrap();
    assert_eq!((held.calls, held.failed), (101_000, 1_010));
}

/// seatbelt 0.11, and any window of time alone: 100,000 successes within it take 100,000 failures to
/// reach 50 %.
#[tokio::test(start_paused = true)]
async fn a_count_window_beside_a_full_window_of_time_opens_it_all_the_same() {
    let half = Thresholds::failure_rate(0.5);
    let both = builder()
        .time_window(secs(60), half)
        .count_window(100, half);
    let (mut breaker, handle, _) = build(both);
    succeed(&mut breaker, 100_000).await;
    fail(&mut breaker, 50).await;
    assert_eq!(handle.snapshot().cause, Some(Cause::CountFailureRate));
}

/// recloser 1.4 `ring_buffer.rs`, and the count window of tower-resilience 0.13: no rate before the
/// window is full, whatever the minimum.
#[tokio::test(start_paused = true)]
async fn a_window_is_judged_at_the_minimum_and_not_only_when_it_is_full() {
    let half = Thresholds::failure_rate(0.5).minimum_calls(5);
    let (mut breaker, handle, _) = build(builder().count_window(1_000, half));
    fail(&mut breaker, 4).await;
    assert_eq!(handle.state(), State::Closed);
    fail(&mut breaker, 1).await;
    assert_eq!(handle.state(), State::Open);
}

/// Hystrix: health is looked at every 500 ms, so that calls pass on until the next look.
#[tokio::test(start_paused = true)]
async fn the_call_that_reaches_the_threshold_is_the_last_that_passes() {
    let (mut breaker, _, watch) =
        build(builder().time_window(secs(10), Thresholds::failure_rate(0.5).minimum_calls(20)));
    let before = Instant::now();
    fail(&mut breaker, 20).await;
    refused(&mut breaker).await;
    assert_eq!((watch.calls(), before.elapsed()), (20, ms(0)));
}

/// go-zero#5011: calls are counted when they end, and where they hang for longer than the window none
/// of the others is in it any more.
#[tokio::test(start_paused = true)]
async fn calls_that_hang_for_longer_than_its_window_open_it() {
    let window = Thresholds::failure_rate(0.5).minimum_calls(10);
    let breaker = builder().time_window(secs(1), window).build().unwrap();
    let service = ServiceBuilder::new()
        .layer(breaker.clone())
        .layer(TimeoutLayer::new(secs(10)).unwrap())
        .service(Scripted::new().0);
    // A caller a tenth of a second, so that there are ten in a second when they end, too.
    let calls = (0..10).map(|n| {
        let mut service = service.clone();
        async move {
            tokio::time::sleep(ms(90 * n)).await;
            send(&mut service, Act::Hang).await.unwrap_err().timed_out()
        }
    });
    join_all(calls).await;
    assert_eq!(breaker.handle().state(), State::Open);
}

/// Sentinel 1.8.9 clips the times that it is told of to 5,000 ms.
#[tokio::test(start_paused = true)]
async fn what_is_slow_may_be_minutes() {
    let slow = Thresholds::slow_call_rate(1.0);
    let (mut breaker, handle, _) = build(hasty(slow).slow_call_duration(secs(60)));
    send(&mut breaker, Act::Take(secs(60))).await.unwrap();
    assert_eq!(handle.state(), State::Closed);
    handle.reset();
    send(&mut breaker, Act::Take(secs(61))).await.unwrap();
    assert_eq!(handle.state(), State::Open);
}

/// failsafe 1.3 and recloser 1.4 take an `Err` for a failure and nothing else, so a 503 is a success.
#[tokio::test(start_paused = true)]
async fn an_answer_can_be_a_failure_and_an_error_none() {
    let classifier = |result: Result<&u32, &Error>| match result {
        Ok(_) => Failure::overload().into(),
        Err(_) => Verdict::Success,
    };
    let (mut breaker, handle, _) = build(simple().classifier(classifier));
    fail(&mut breaker, 10).await;
    assert_eq!(handle.state(), State::Closed);
    succeed(&mut breaker, 3).await;
    assert_eq!(handle.state(), State::Open);
}

/// resilience4j#2151, #2241, #2334: windows behind a lock, then one without that broke under load.
/// Every order of a few threads is gone through by loom (`src/window/loom_tests.rs`); that two threads make
/// at least the calls of one is a bound of `overhead`, which seatbelt 0.11 with its mutex does not keep.
#[tokio::test(start_paused = true)]
async fn of_what_many_threads_count_nothing_is_lost() {
    let never = Thresholds::failure_rate(1.0);
    let both = builder()
        .count_window(1_000, never)
        .time_window(secs(60), never);
    let (mut breaker, handle, _) = build(both);
    succeed(&mut breaker, 1).await; // so that the rate is never 1
    on_threads(4, || {
        let mut breaker = breaker.clone();
        for call in 0..200 {
            let act = if call % 2 == 0 {
                Act::Fail(1)
            } else {
                Act::Succeed
            };
            assert!(poll_once(pin!(breaker.ready())).is_ready());
            assert!(poll_once(pin!(breaker.call(act))).is_ready());
        }
    });
    let statistics = handle.snapshot().statistics;
    for counts in [statistics.count_window, statistics.time_window] {
        let counts = counts.unwrap();
        assert_eq!((counts.calls, counts.failed), (801, 400));
    }
}

// Calls without a result.

/// tower-resilience 0.13 never records a call that is cut from outside: 50 hung ones left it closed. So in
/// the stack of its own README, whose timeout stands outside the breaker.
#[tokio::test(start_paused = true)]
async fn calls_that_are_cut_by_a_timeout_outside_open_it() {
    let (breaker, handle, _) = build(simple());
    for _ in 0..3 {
        let mut breaker = breaker.clone();
        let foreign = timeout(secs(2), send(&mut breaker, Act::Hang));
        foreign.await.unwrap_err();
    }
    assert_eq!(handle.state(), State::Open);

    handle.reset();
    let mut ours = TimeoutLayer::new(ms(1)).unwrap().layer(breaker);
    for _ in 0..3 {
        send(&mut ours, Act::Hang).await.unwrap_err().timed_out();
    }
    assert_eq!(handle.state(), State::Open);
}

/// seatbelt 0.11: dropped calls count only while there is nothing else in the window; after one success
/// 200,000 of them did not open it.
#[tokio::test(start_paused = true)]
async fn calls_that_are_cut_open_it_although_others_succeed() {
    let half = Thresholds::failure_rate(0.5).minimum_calls(4);
    let layer = builder().time_window(secs(60), half).build().unwrap();
    let mut service = ServiceBuilder::new()
        .layer(TimeoutLayer::new(ms(10)).unwrap())
        .layer(layer.clone())
        .service(Scripted::new().0);
    succeed(&mut service, 2).await;
    for _ in 0..2 {
        send(&mut service, Act::Hang).await.unwrap_err().timed_out();
    }
    assert_eq!(layer.handle().state(), State::Open);
}

/// tower-resilience 0.13: 50 panics are 50 calls that it never heard of.
#[tokio::test(start_paused = true)]
async fn calls_that_panic_open_it() {
    let (breaker, handle, _) = build(simple());
    for act in [Act::Panic, Act::PanicInCall, Act::Panic] {
        send_contained(&breaker, act).await.unwrap_err();
    }
    assert_eq!(handle.state(), State::Open);
}

// Half-open: who passes.

/// failsafe 1.3 `state_machine.rs`, recloser 1.4 `recloser.rs`: half-open, everyone passes (so did
/// Polly#216, tower-resilience#382); seatbelt 0.11: no bound from the second step of its ramp on.
#[tokio::test(start_paused = true)]
async fn half_open_lets_no_more_calls_pass_than_it_has_probes() {
    let (breaker, _, watch) = about_to_probe(simple().half_open_probes(3)).await;
    let calls = (0..1_000).map(|_| {
        let mut breaker = breaker.clone();
        async move { send(&mut breaker, Act::Take(ms(10))).await.is_ok() }
    });
    let passed = join_all(calls).await.into_iter().filter(|passed| *passed);
    assert_eq!((passed.count(), watch.most()), (3, 3));
}

/// resilience4j#1432: of those who found the open time over at once, the losers passed uncounted.
#[tokio::test(start_paused = true)]
async fn of_threads_that_race_to_probe_no_more_pass_than_there_are_probes() {
    for _ in 0..10 {
        let (breaker, _, watch) = about_to_probe(simple().half_open_probes(2)).await;
        crowd(&breaker);
        assert_eq!(watch.most(), 2);
    }
}

/// tower-resilience 0.13, back-pressure mode: two clones are told that they are ready, and there is one
/// probe. Here readiness is the inner service's alone, as the docs say, and holds no probe.
#[tokio::test(start_paused = true)]
async fn a_ready_clone_that_is_not_called_keeps_the_probe_from_nobody() {
    let (mut breaker, handle, _) = about_to_probe(simple()).await;
    let mut idle = breaker.clone();
    idle.ready().await.unwrap();
    succeed(&mut breaker, 1).await;
    assert_eq!(handle.state(), State::Closed);
    assert_eq!(idle.call(Act::Succeed).await, Ok(1));
}

// Half-open: places come back.

/// resilience4j#903, #935, #994: half-open for good, because a permit that is neither used nor released is
/// gone. Polly 8 takes a cancelled probe for a success, and closes.
#[tokio::test(start_paused = true)]
async fn a_probe_that_is_cancelled_decides_nothing_and_makes_room() {
    let (mut breaker, handle, _) = about_to_probe(simple()).await;
    for _ in 0..10 {
        drop(breaker.ready().await.unwrap().call(Act::Hang));
        send_and_drop(&mut breaker, Act::Hang).await;
        assert_eq!(handle.state(), State::HalfOpen);
    }
    succeed(&mut breaker, 1).await;
    assert_eq!(handle.state(), State::Closed);
}

/// resilience4j#544: an ignored error did not give the permit back; Polly#311, #717: one that is not
/// handled has everyone refused for another break.
#[tokio::test(start_paused = true)]
async fn a_probe_that_is_ignored_decides_nothing_and_makes_room() {
    let (mut breaker, handle, _) = about_to_probe(simple().classifier(Told)).await;
    for _ in 0..10 {
        let ignored = Act::Say(Verdict::Ignored);
        send(&mut breaker, ignored).await.unwrap_err();
        assert_eq!(handle.state(), State::HalfOpen);
    }
    succeed(&mut breaker, 1).await;
    assert_eq!(handle.state(), State::Closed);
}

/// Sentinel#1638, #2136, sentinel-golang#196: a probe that a later rule blocks, a second breaker say, leaves
/// the first one half-open for ever.
#[tokio::test(start_paused = true)]
async fn a_probe_that_a_layer_below_refuses_decides_nothing_and_makes_room() {
    let first = simple().build().unwrap();
    let second = simple().name("second").build().unwrap();
    let mut service = ServiceBuilder::new()
        .layer(first.clone())
        .layer(second.clone())
        .service(Scripted::new().0);
    fail(&mut service, 3).await;
    second.handle().force_open_for(secs(2));
    advance(secs(1)).await;
    for _ in 0..10 {
        assert_eq!(refused(&mut service).await.layer(), "second");
        assert_eq!(first.handle().state(), State::HalfOpen);
    }
    advance(secs(1)).await;
    succeed(&mut service, 1).await;
    let both = (first.handle().state(), second.handle().state());
    assert_eq!(both, (State::Closed, State::Closed));
}

/// failsafe-go 0.9.7: where the function panics, what would return the permit is skipped (Failsafe 3.3.2
/// has the same shape).
#[tokio::test(start_paused = true)]
async fn a_probe_that_panics_has_failed_and_its_place_is_there_in_the_next_round() {
    let (mut breaker, handle, _) = about_to_probe(simple()).await;
    for _ in 0..10 {
        send_contained(&breaker, Act::Panic).await.unwrap_err();
        assert_eq!(handle.state(), State::Open);
        advance(secs(1)).await;
    }
    succeed(&mut breaker, 1).await;
    assert_eq!(handle.state(), State::Closed);
}

/// tower-resilience 0.13, Polly 8 (`CircuitStateController.cs`), gobreaker, and resilience4j by default
/// (#2172): half-open has no end in time, and a probe that never ends has everyone refused for ever.
#[tokio::test(start_paused = true)]
async fn a_probe_that_never_ends_does_not_hold_it_half_open_for_ever() {
    let (mut breaker, handle, _) = about_to_probe(simple()).await;
    let _hung = begin(&mut breaker, Act::Hang).await;
    advance(secs(10)).await; // the default
    refused(&mut breaker).await;
    assert_eq!(handle.state(), State::Open, "the probe has failed");
    advance(secs(1)).await;
    succeed(&mut breaker, 1).await;
    assert_eq!(handle.state(), State::Closed);
}

/// resilience4j#858: whoever asked by `tryAcquirePermission` whether it was open took a permit.
#[tokio::test(start_paused = true)]
async fn to_look_at_it_takes_no_probe() {
    let (mut breaker, handle, _) = about_to_probe(simple()).await;
    for _ in 0..10 {
        assert_eq!(handle.snapshot().ends_in, Some(ms(0)));
        breaker.ready().await.unwrap();
    }
    succeed(&mut breaker, 1).await;
    assert_eq!(handle.state(), State::Closed);
}

// Half-open: what decides.

/// tower-resilience 0.13: probes are counted in the window of time, so that of those further apart than
/// it the first is forgotten before the second comes; it stayed half-open and refused 178 of 178.
#[tokio::test(start_paused = true)]
async fn probes_further_apart_than_the_window_of_time_close_it() {
    let half = Thresholds::failure_rate(0.5).minimum_calls(1);
    let rule = simple().time_window(secs(1), half).half_open_probes(2);
    let (mut breaker, handle, _) = build(rule);
    fail(&mut breaker, 1).await;
    for _ in 0..2 {
        advance(secs(100)).await;
        succeed(&mut breaker, 1).await;
    }
    assert_eq!(handle.state(), State::Closed);
}

/// tower-resilience 0.13, resilience4j, Polly (#217: known and left), Failsafe, and linkerd2 in its
/// probation: a result is one of whatever state is current. In failsafe-go a late one even adds a permit.
#[tokio::test(start_paused = true)]
async fn a_result_of_a_call_from_before_it_opened_decides_nothing_and_frees_nothing() {
    for late in [Act::Take(secs(2)), Act::FailAfter(secs(2))] {
        let (mut breaker, handle, _) = build(simple());
        let late = begin(&mut breaker, late).await;
        fail(&mut breaker, 3).await;
        advance(secs(1)).await;
        let probe = begin(&mut breaker, Act::Take(secs(9))).await;
        let _ = late.await;
        assert_eq!(handle.state(), State::HalfOpen);
        refused(&mut breaker).await;
        assert_eq!(probe.await, Ok(1));
        assert_eq!(handle.state(), State::Closed);
    }
}

/// tower-resilience 0.13 closes on slow probes, and trips on slow calls again.
#[tokio::test(start_paused = true)]
async fn a_probe_that_succeeds_slowly_opens_it_again() {
    let slow = Thresholds::slow_call_rate(1.0);
    let (mut breaker, handle, _) = build(hasty(slow).slow_call_duration(ms(100)));
    send(&mut breaker, Act::Take(ms(101))).await.unwrap();
    advance(secs(1)).await;
    send(&mut breaker, Act::Take(ms(101))).await.unwrap();
    assert_eq!(handle.snapshot().cause, Some(Cause::ProbesFailed));
}

/// Polly#239, #254, #2381, sentinel-golang#151, #411: one probe, and its one result, is too little to go
/// by; in failsafe 1.3 one success of any number closes.
#[tokio::test(start_paused = true)]
async fn of_several_probes_neither_one_failure_nor_one_success_decides() {
    let half = || hasty(Thresholds::failure_rate(0.5)).half_open_probes(4);
    for (first, then, end) in [(false, true, State::Closed), (true, false, State::Open)] {
        let (mut breaker, handle, _) = build(half());
        fail(&mut breaker, 1).await;
        advance(secs(1)).await;
        let mut probe = async |good| {
            let act = if good { Act::Succeed } else { Act::Fail(1) };
            let _ = send(&mut breaker, act).await;
            handle.state()
        };
        assert_eq!(probe(first).await, State::HalfOpen);
        while probe(then).await == State::HalfOpen {}
        assert_eq!(handle.state(), end);
    }
}

// Refusals.

/// tower-resilience 0.13: `OpenCircuit` is a unit variant, and `Rejected` in failsafe 1.3 says no more;
/// resilience4j does not tell for how long.
#[tokio::test(start_paused = true)]
async fn a_refusal_says_whose_it_is_why_and_when_to_come_back() {
    let (mut breaker, _, watch) = build(simple().name("users-db"));
    fail(&mut breaker, 3).await;
    advance(ms(300)).await;
    let rejected = refused(&mut breaker).await;
    let told = (rejected.layer(), rejected.reason(), rejected.retry_after());
    assert_eq!(told, ("users-db", Reason::CircuitOpen, Some(ms(700))));
    assert_eq!(watch.calls(), 3);
}

/// tower-resilience 0.13 `lib.rs:452`: where several ask an open breaker at once, all but one sleep a
/// millisecond before they are refused. The threads here could not even make a timer. Its cost is bounded
/// by `overhead`: "an open breaker rejects in <= 1 clock read + 10 ns".
#[tokio::test(start_paused = true)]
async fn however_many_ask_an_open_breaker_each_is_refused_at_its_first_poll() {
    let (breaker, handle, _) = build(builder());
    handle.force_open_for(secs(3600));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut breaker = breaker.clone();
                for _ in 0..1_000 {
                    assert!(poll_once(pin!(breaker.ready())).is_ready());
                    let polled = poll_once(pin!(breaker.call(Act::Succeed)));
                    assert!(matches!(polled, Poll::Ready(Err(Error::Rejected(_)))));
                }
            });
        }
    });
}

// The state, and who shares it.

/// tower-resilience 0.13: a layer applied twice makes two breakers, so that on an axum router each route
/// has its own.
#[tokio::test(start_paused = true)]
async fn all_services_of_a_layer_and_all_their_clones_are_one_breaker() {
    let layer = simple().build().unwrap();
    let routes: Vec<_> = (0..3)
        .map(|_| layer.clone().layer(Scripted::new().0))
        .collect();
    for route in &routes {
        fail(&mut route.clone(), 1).await;
    }
    for route in &routes {
        refused(&mut route.clone()).await;
    }
}

/// tower-resilience 0.13: the gauge of the new state is set to 1 and that of the old one left so.
#[tokio::test(start_paused = true)]
async fn of_the_gauges_of_its_states_one_is_set() {
    // To look sets the recorder's gauges to zero, so there is one look at each breaker.
    let states = ["closed", "open", "half_open", "closed"];
    for (changes, state) in states.into_iter().enumerate() {
        let (layer, metrics) = recorded(|| simple().build().unwrap());
        let mut breaker = layer.layer(Scripted::new().0);
        let mut probe = None;
        for change in 0..changes {
            match change {
                0 => fail(&mut breaker, 3).await,
                1 => {
                    advance(secs(1)).await;
                    probe = Some(begin(&mut breaker, Act::Take(ms(1))).await);
                }
                _ => assert_eq!(probe.take().unwrap().await, Ok(1)),
            }
        }
        let set = series(&metrics, "steadfast_circuit_breaker_state");
        assert_eq!(set, [(state.to_owned(), 1.0)]);
    }
}

/// tower-resilience 0.13 takes std's `Instant`, failsafe-go the wall clock (`UnixNano`), and resilience4j's
/// lock-free window the system's whatever clock it is given (`CircuitBreakerMetrics.java:197`).
#[tokio::test(start_paused = true)]
async fn its_open_time_its_window_and_its_bound_for_probes_pass_on_a_paused_clock() {
    let half = Thresholds::failure_rate(0.5).minimum_calls(2);
    let rule = simple()
        .time_window(secs(10), half)
        .open_time(Backoff::constant(secs(3600)).with_jitter(Jitter::None));
    let (mut breaker, handle, _) = build(rule.half_open_timeout(secs(60)));
    fail(&mut breaker, 1).await;
    advance(secs(10)).await;
    fail(&mut breaker, 1).await;
    assert_eq!(handle.state(), State::Closed, "the window has moved on");
    fail(&mut breaker, 1).await;
    assert_eq!(refused(&mut breaker).await.retry_after(), Some(secs(3600)));
    advance(secs(3600)).await;
    let _hung = begin(&mut breaker, Act::Hang).await;
    advance(secs(60)).await;
    refused(&mut breaker).await;
    assert_eq!(handle.snapshot().cause, Some(Cause::ProbesFailed));
}

// What users give it.

/// seatbelt 0.11 panics when it is built with a threshold of 1.0 or an open time of zero.
#[test]
fn all_of_the_calls_is_a_threshold_and_no_open_time_an_error_that_says_so() {
    let all = Thresholds::failure_rate(1.0);
    assert!(builder().count_window(9, all).build().is_ok());
    let error = builder().open_time(Backoff::none()).build().unwrap_err();
    assert_eq!(error.setting(), "open_time");
}

/// resilience4j `CircuitBreakerStateMachine.java:622`: a user's verdict that makes the change of state throw
/// leaves it closed by name and refusing by deed.
#[tokio::test(start_paused = true)]
async fn a_classifier_that_panics_leaves_it_as_after_any_failure() {
    let panics = |result: Result<&u32, &Error>| match result {
        Err(Error::Failed(2)) => panic!("as told"),
        Err(_) => Failure::transient().into(),
        Ok(_) => Verdict::Success,
    };
    let (mut breaker, handle, _) = about_to_probe(simple().classifier(panics)).await;
    send_contained(&breaker, Act::Fail(2)).await.unwrap_err();
    assert_eq!(handle.state(), State::Open);
    advance(secs(1)).await;
    succeed(&mut breaker, 1).await;
    for _ in 0..3 {
        assert_eq!(handle.state(), State::Closed);
        send_contained(&breaker, Act::Fail(2)).await.unwrap_err();
    }
    assert_eq!(handle.state(), State::Open);
}

/// The same place: nor may a user's open time that panics, be it under a call that is itself unwinding.
#[tokio::test(start_paused = true)]
async fn an_open_time_that_panics_opens_it_for_as_long_as_its_cap() {
    static PANICS: AtomicBool = AtomicBool::new(true);
    let open_time = Backoff::from_fn(secs(9), |_| {
        assert!(!PANICS.load(SeqCst), "as told");
        Duration::ZERO
    });
    for act in [Act::Fail(1), Act::Panic] {
        let (mut breaker, handle, _) = build(simple().open_time(open_time.clone()));
        fail(&mut breaker, 2).await;
        breaker.ready().await.unwrap();
        let _ = catch_unwind(AssertUnwindSafe(|| poll_once(pin!(breaker.call(act)))));
        assert_eq!(handle.state(), State::Open);
        assert_eq!(refused(&mut breaker).await.retry_after(), Some(secs(9)));
        advance(secs(9)).await;
        succeed(&mut breaker, 1).await;
        assert_eq!(handle.state(), State::Closed);
    }
}
