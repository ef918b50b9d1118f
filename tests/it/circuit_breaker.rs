//! The circuit breaker as its users see it.

mod rules;

use std::{pin::pin, task::Poll};

use futures_util::future::join_all;
use steadfast::{
    Context, Reason, Verdict,
    backoff::{Backoff, Jitter},
    bulkhead::BulkheadLayer,
    circuit_breaker::{
        Cause, CircuitBreaker, CircuitBreakerBuilder, CircuitBreakerHandle, CircuitBreakerLayer,
        State, Thresholds,
    },
    classify::{Failure, Hint},
    timeout::TimeoutLayer,
};
use tokio::time::{Instant, advance, timeout};
use tower::{Layer, Service, ServiceBuilder, ServiceExt};

use crate::support::{
    Act, Error, Scripted, Told, Watch, ms, poll_once, secs, send, send_and_drop, send_contained,
};

type Breaker = CircuitBreaker<Scripted>;

fn build(builder: CircuitBreakerBuilder) -> (Breaker, CircuitBreakerHandle, Watch) {
    let layer = builder.build().unwrap();
    let (service, watch) = Scripted::new();
    (layer.layer(service), layer.handle(), watch)
}

/// Opens after three failures in a row for exactly one second, then lets one probe pass.
fn simple() -> CircuitBreakerBuilder {
    CircuitBreakerLayer::builder()
        .name("db")
        .consecutive_failures(3)
        .open_time(Backoff::constant(secs(1)).with_jitter(Jitter::None))
        .half_open_probes(1)
}

async fn send_all(breaker: &mut Breaker, acts: impl IntoIterator<Item = Act>) {
    for act in acts {
        let _ = send(breaker, act).await;
    }
}

fn times(n: usize, act: Act) -> impl Iterator<Item = Act> {
    std::iter::repeat_n(act, n)
}

#[tokio::test(start_paused = true)]
async fn it_opens_refuses_probes_and_closes() {
    let (mut breaker, handle, watch) = build(simple());
    send_all(&mut breaker, times(3, Act::Fail(1))).await;
    assert_eq!(handle.state(), State::Open);
    assert_eq!(handle.snapshot().cause, Some(Cause::ConsecutiveFailures));

    let rejected = send(&mut breaker, Act::Succeed)
        .await
        .unwrap_err()
        .rejected();
    assert_eq!(
        (rejected.layer(), rejected.reason()),
        ("db", Reason::CircuitOpen)
    );
    assert_eq!(rejected.retry_after(), Some(secs(1)));
    assert_eq!(watch.calls(), 3, "the inner service is not called");

    advance(rejected.retry_after().unwrap()).await;
    assert_eq!(send(&mut breaker, Act::Succeed).await, Ok(1));
    assert_eq!(handle.state(), State::Closed);
    assert_eq!(handle.snapshot().cause, Some(Cause::ProbesSucceeded));
}

#[tokio::test(start_paused = true)]
async fn the_open_time_is_over_at_its_end_and_not_before() {
    let (mut breaker, _, watch) = build(simple());
    send_all(&mut breaker, times(3, Act::Fail(1))).await;
    advance(secs(1) - std::time::Duration::from_nanos(1)).await;
    send(&mut breaker, Act::Succeed)
        .await
        .unwrap_err()
        .rejected();
    advance(std::time::Duration::from_nanos(1)).await;
    send(&mut breaker, Act::Succeed).await.unwrap();
    assert_eq!(watch.calls(), 4);
}

#[tokio::test(start_paused = true)]
async fn it_stays_open_for_as_long_as_the_service_asked_where_it_is_told_to_listen() {
    let busy = |hint| Act::Say(Failure::overload().with_hint(hint).into());
    let open_for = async |builder: CircuitBreakerBuilder, acts: [Act; 3]| {
        let (service, _) = Scripted::new();
        let layer = builder.classifier(Told).build().unwrap();
        let mut breaker = layer.layer(service);
        for act in acts {
            send(&mut breaker, act).await.unwrap_err();
        }
        let refused = send(&mut breaker, Act::Succeed).await.unwrap_err();
        refused.rejected().retry_after().unwrap()
    };
    let listening = || simple().open_time_from_hint(secs(60));
    let (none, never) = (|| Act::Fail(1), || busy(Hint::Never));
    let after = |delay| busy(Hint::After(delay));
    let long = || [none(), none(), after(secs(20))];
    assert_eq!(open_for(listening(), long()).await, secs(20));
    assert_eq!(open_for(simple(), long()).await, secs(1), "off by default");
    let earlier = [after(secs(20)), none(), none()];
    assert_eq!(
        open_for(listening(), earlier).await,
        secs(1),
        "the one that trips it"
    );
    assert_eq!(
        open_for(listening(), [none(), none(), never()]).await,
        secs(1)
    );
    let short = [none(), none(), after(ms(1))];
    assert_eq!(open_for(listening(), short).await, secs(1), "never shorter");
    let endless = [none(), none(), after(std::time::Duration::MAX)];
    assert_eq!(open_for(listening(), endless).await, secs(60), "the cap");
}

#[tokio::test(start_paused = true)]
async fn a_failed_probe_opens_it_again() {
    let (mut breaker, handle, _) = build(simple());
    send_all(&mut breaker, times(3, Act::Fail(1))).await;
    advance(secs(1)).await;
    assert_eq!(
        send(&mut breaker, Act::Fail(7)).await,
        Err(Error::Failed(7))
    );
    assert_eq!(handle.state(), State::Open);
    assert_eq!(handle.snapshot().cause, Some(Cause::ProbesFailed));
}

#[tokio::test(start_paused = true)]
async fn a_success_ends_a_run_of_failures_and_an_ignored_call_does_not() {
    let layer = simple().classifier(Told).build().unwrap();
    let mut breaker = layer.layer(Scripted::new().0);
    let ignored = Act::Say(Verdict::Ignored);
    for act in [
        Act::Fail(1),
        Act::Fail(1),
        Act::Succeed,
        Act::Fail(1),
        Act::Fail(1),
        ignored,
    ] {
        let _ = send(&mut breaker, act).await;
    }
    assert_eq!(layer.handle().snapshot().statistics.consecutive_failures, 2);
    send(&mut breaker, Act::Fail(1)).await.unwrap_err();
    assert_eq!(layer.handle().state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn after_a_million_successes_a_count_window_opens_on_exactly_the_fiftieth_failure() {
    let window = Thresholds::failure_rate(0.5);
    let (mut breaker, handle, _) = build(CircuitBreakerLayer::builder().count_window(100, window));
    for _ in 0..1_000_000 {
        send(&mut breaker, Act::Succeed).await.unwrap();
    }
    send_all(&mut breaker, times(49, Act::Fail(1))).await;
    assert_eq!(handle.state(), State::Closed);
    send_all(&mut breaker, times(1, Act::Fail(1))).await;
    assert_eq!(handle.state(), State::Open);
    assert_eq!(handle.snapshot().cause, Some(Cause::CountFailureRate));
}

#[tokio::test(start_paused = true)]
async fn a_count_window_forgets_a_failure_after_as_many_calls_as_it_holds() {
    let window = Thresholds::failure_rate(0.5).minimum_calls(10);
    let (mut breaker, handle, _) = build(CircuitBreakerLayer::builder().count_window(10, window));
    send_all(&mut breaker, times(4, Act::Fail(1))).await;
    send_all(&mut breaker, times(10, Act::Succeed)).await;
    assert_eq!(handle.snapshot().statistics.count_window.unwrap().failed, 0);
    send_all(&mut breaker, times(4, Act::Fail(1))).await;
    assert_eq!(handle.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn no_rate_is_judged_before_the_minimum_and_it_is_judged_at_it() {
    let window = Thresholds::failure_rate(0.5).minimum_calls(10);
    let (mut breaker, handle, _) = build(CircuitBreakerLayer::builder().count_window(100, window));
    send_all(&mut breaker, times(9, Act::Fail(1))).await;
    assert_eq!(handle.state(), State::Closed);
    // The tenth counted call is judged whatever it is: nine failures of ten.
    send_all(&mut breaker, times(1, Act::Succeed)).await;
    assert_eq!(handle.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_time_window_opens_at_its_rate_and_forgets_with_time() {
    let window = Thresholds::failure_rate(0.5).minimum_calls(10);
    let rule = || CircuitBreakerLayer::builder().time_window(secs(10), window);

    let (mut breaker, handle, _) = build(rule());
    send_all(&mut breaker, times(5, Act::Succeed)).await;
    send_all(&mut breaker, times(4, Act::Fail(1))).await;
    assert_eq!(handle.state(), State::Closed);
    send_all(&mut breaker, times(1, Act::Fail(1))).await;
    assert_eq!(handle.state(), State::Open);
    assert_eq!(handle.snapshot().cause, Some(Cause::TimeFailureRate));

    let (mut breaker, handle, _) = build(rule());
    send_all(&mut breaker, times(9, Act::Fail(1))).await;
    advance(secs(10)).await;
    send_all(&mut breaker, times(9, Act::Fail(1))).await;
    assert_eq!(handle.snapshot().statistics.time_window.unwrap().calls, 9);
    assert_eq!(handle.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn slow_calls_open_it_though_they_succeed_and_slow_is_strictly_longer() {
    let window = Thresholds::slow_call_rate(1.0).minimum_calls(3);
    let (mut breaker, handle, _) = build(
        CircuitBreakerLayer::builder()
            .count_window(3, window)
            .slow_call_duration(ms(100)),
    );
    send_all(&mut breaker, times(3, Act::Take(ms(100)))).await;
    assert_eq!(handle.snapshot().statistics.count_window.unwrap().slow, 0);
    send_all(&mut breaker, times(3, Act::Take(ms(101)))).await;
    assert_eq!(handle.state(), State::Open);
    assert_eq!(handle.snapshot().cause, Some(Cause::CountSlowCallRate));
}

#[tokio::test(start_paused = true)]
async fn a_slow_call_that_fails_counts_once_in_each_rate() {
    let window = Thresholds::slow_call_rate(1.0).or_failure_rate(1.0);
    let (mut breaker, handle, _) = build(
        CircuitBreakerLayer::builder()
            .count_window(100, window)
            .time_window(secs(60), window)
            .slow_call_duration(ms(100)),
    );
    send_all(&mut breaker, [Act::FailAfter(ms(200)), Act::Succeed]).await;
    let snapshot = handle.snapshot();
    for counts in [
        snapshot.statistics.count_window.unwrap(),
        snapshot.statistics.time_window.unwrap(),
    ] {
        assert_eq!((counts.calls, counts.failed, counts.slow), (2, 1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn of_several_rules_any_one_trips() {
    let all = || {
        CircuitBreakerLayer::builder()
            .consecutive_failures(4)
            .count_window(10, Thresholds::failure_rate(0.5))
            .time_window(secs(10), Thresholds::slow_call_rate(0.9).minimum_calls(5))
            .slow_call_duration(ms(10))
    };
    let alternating = || {
        (0..10).map(|i| {
            if i % 2 == 0 {
                Act::Succeed
            } else {
                Act::Fail(1)
            }
        })
    };
    let cases = [
        (
            times(4, Act::Fail(1)).collect::<Vec<_>>(),
            Cause::ConsecutiveFailures,
        ),
        (alternating().collect(), Cause::CountFailureRate),
        (
            times(5, Act::Take(ms(11))).collect(),
            Cause::TimeSlowCallRate,
        ),
    ];
    for (acts, cause) in cases {
        let (mut breaker, handle, _) = build(all());
        send_all(&mut breaker, acts).await;
        assert_eq!(handle.state(), State::Open, "{cause:?}");
        assert_eq!(handle.snapshot().cause, Some(cause));
    }
}

#[tokio::test(start_paused = true)]
async fn open_time_grows_up_to_its_cap_and_starts_over_after_a_lasting_close() {
    let open_time = Backoff::exponential(secs(1), secs(4))
        .unwrap()
        .with_jitter(Jitter::None);
    let (mut breaker, handle, _) = build(simple().open_time(open_time).lasting_close(secs(60)));
    let mut open_times = Vec::new();
    send_all(&mut breaker, times(3, Act::Fail(1))).await;
    for _ in 0..4 {
        let open_time = handle.snapshot().ends_in.unwrap();
        open_times.push(open_time);
        advance(open_time).await;
        send(&mut breaker, Act::Fail(1)).await.unwrap_err();
    }
    assert_eq!(open_times, [secs(1), secs(2), secs(4), secs(4)]);

    // Closed for a moment only: it goes on where it was.
    advance(secs(4)).await;
    send(&mut breaker, Act::Succeed).await.unwrap();
    advance(secs(59)).await;
    send_all(&mut breaker, times(3, Act::Fail(1))).await;
    assert_eq!(handle.snapshot().ends_in, Some(secs(4)));

    advance(secs(4)).await;
    send(&mut breaker, Act::Succeed).await.unwrap();
    advance(secs(60)).await;
    send_all(&mut breaker, times(3, Act::Fail(1))).await;
    assert_eq!(handle.snapshot().ends_in, Some(secs(1)));
}

#[tokio::test(start_paused = true)]
async fn open_time_is_jittered_unless_told_otherwise_and_a_seed_repeats_it() {
    let open_time = |seed: Option<u64>| {
        let mut builder = CircuitBreakerLayer::builder().consecutive_failures(1);
        if let Some(seed) = seed {
            builder = builder.seed(seed);
        }
        let layer = builder.build().unwrap();
        let mut breaker = layer.layer(Scripted::new().0);
        async move {
            send(&mut breaker, Act::Fail(1)).await.unwrap_err();
            layer.handle().snapshot().ends_in.unwrap()
        }
    };
    let drawn = join_all((0..50).map(|_| open_time(None))).await;
    assert!(drawn.iter().any(|one| *one != drawn[0]));
    assert!(drawn.iter().all(|one| (ms(2500)..=secs(5)).contains(one)));
    assert_eq!(open_time(Some(7)).await, open_time(Some(7)).await);
    assert_ne!(open_time(Some(7)).await, open_time(Some(8)).await);
}

#[tokio::test(start_paused = true)]
async fn half_open_admits_as_many_probes_as_it_may_and_refuses_the_rest() {
    let (mut breaker, handle, watch) = build(simple().half_open_probes(3));
    send_all(&mut breaker, times(3, Act::Fail(1))).await;
    advance(secs(1)).await;

    let calls = watch.calls();
    let results = join_all((0..10).map(|_| {
        let mut clone = breaker.clone();
        async move { send(&mut clone, Act::Take(ms(10))).await }
    }))
    .await;
    let admitted = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!((admitted, watch.calls() - calls), (3, 3));
    assert_eq!(handle.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn half_open_is_decided_by_rate_and_as_soon_as_it_can_be() {
    let rule = || {
        CircuitBreakerLayer::builder()
            .count_window(10, Thresholds::failure_rate(0.5).minimum_calls(1))
            .open_time(Backoff::constant(secs(1)).with_jitter(Jitter::None))
            .half_open_probes(4)
    };
    // Two of four failures reach the rate; three successes put it out of reach.
    let cases: [(&[bool], State); 6] = [
        (&[false], State::HalfOpen),
        (&[false, true, false], State::Open),
        (&[false, false], State::Open),
        (&[true, true], State::HalfOpen),
        (&[true, true, true], State::Closed),
        (&[true, false, true, true], State::Closed),
    ];
    for (probes, state) in cases {
        let (mut breaker, handle, _) = build(rule());
        send(&mut breaker, Act::Fail(1)).await.unwrap_err();
        advance(secs(1)).await;
        for good in probes {
            let act = if *good { Act::Succeed } else { Act::Fail(1) };
            let _ = send(&mut breaker, act).await;
        }
        assert_eq!(handle.state(), state, "{probes:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn probes_that_come_far_apart_still_decide() {
    let (mut breaker, handle, _) = build(
        CircuitBreakerLayer::builder()
            .time_window(secs(10), Thresholds::failure_rate(0.5).minimum_calls(1))
            .half_open_probes(3),
    );
    send(&mut breaker, Act::Fail(1)).await.unwrap_err();
    for _ in 0..2 {
        advance(secs(3600)).await;
        send(&mut breaker, Act::Succeed).await.unwrap();
    }
    assert_eq!(handle.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_hung_probe_counts_as_failed_once_it_is_late() {
    let (mut breaker, handle, watch) = build(simple().half_open_timeout(secs(5)));
    send_all(&mut breaker, times(3, Act::Fail(1))).await;
    advance(secs(1)).await;
    let mut hung = pin!(breaker.ready().await.unwrap().call(Act::Hang));
    assert!(poll_once(hung.as_mut()).is_pending());

    advance(secs(5) - ms(1)).await;
    send(&mut breaker, Act::Succeed)
        .await
        .unwrap_err()
        .rejected();
    assert_eq!(handle.state(), State::HalfOpen);

    advance(ms(1)).await;
    send(&mut breaker, Act::Succeed)
        .await
        .unwrap_err()
        .rejected();
    assert_eq!((handle.state(), watch.calls()), (State::Open, 4));
    advance(secs(1)).await;
    send(&mut breaker, Act::Succeed).await.unwrap();
    assert_eq!(handle.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_succeeds_too_late_has_failed() {
    let (mut breaker, handle, _) = build(simple().half_open_timeout(secs(5)));
    send_all(&mut breaker, times(3, Act::Fail(1))).await;
    advance(secs(1)).await;
    send(&mut breaker, Act::Take(secs(5))).await.unwrap();
    assert_eq!(handle.snapshot().cause, Some(Cause::ProbesFailed));
}

#[tokio::test(start_paused = true)]
async fn a_late_probe_has_failed_also_if_it_is_dropped_or_says_nothing() {
    let late = simple()
        .half_open_timeout(secs(5))
        .slow_call_duration(secs(1000));
    let classifier = |result: Result<&u32, &Error>| match result {
        Ok(_) => Verdict::Ignored,
        Err(_) => Failure::transient().into(),
    };
    let layer = late.classifier(classifier).build().unwrap();
    let mut breaker = layer.layer(Scripted::new().0);
    let open = async |breaker: &mut CircuitBreaker<Scripted, _>| {
        for _ in 0..3 {
            let _ = send(breaker, Act::Fail(1)).await;
        }
        advance(secs(1)).await;
    };
    open(&mut breaker).await;
    let mut probe = Box::pin(breaker.ready().await.unwrap().call(Act::Hang));
    assert!(poll_once(probe.as_mut()).is_pending());
    advance(secs(5)).await;
    drop(probe);
    assert_eq!(layer.handle().snapshot().cause, Some(Cause::ProbesFailed));

    layer.handle().reset();
    open(&mut breaker).await;
    send(&mut breaker, Act::Take(secs(5))).await.unwrap();
    assert_eq!(layer.handle().snapshot().cause, Some(Cause::ProbesFailed));
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_says_nothing_gives_its_place_back_and_decides_nothing() {
    let layer = simple().classifier(Told).build().unwrap();
    let handle = layer.handle();
    // Refused below: a bulkhead with no room.
    let full = ServiceBuilder::new()
        .layer(layer.clone())
        .layer(BulkheadLayer::new(0))
        .service(Scripted::new().0);
    let mut breaker = layer.layer(Scripted::new().0);
    for _ in 0..3 {
        let _ = send(&mut breaker, Act::Fail(1)).await;
    }
    advance(secs(1)).await;

    let dropped_early = breaker.ready().await.unwrap().call(Act::Hang);
    drop(dropped_early);
    assert_eq!(handle.state(), State::HalfOpen);
    send_and_drop(&mut breaker, Act::Hang).await;
    assert_eq!(handle.state(), State::HalfOpen);
    send(&mut breaker, Act::Say(Verdict::Ignored))
        .await
        .unwrap_err();
    assert_eq!(handle.state(), State::HalfOpen);
    let rejected = full.oneshot(Act::Succeed).await.unwrap_err().rejected();
    assert_eq!(rejected.reason(), Reason::BulkheadFull);
    assert_eq!(handle.state(), State::HalfOpen);

    send(&mut breaker, Act::Succeed).await.unwrap();
    assert_eq!(handle.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_late_result_decides_nothing_in_another_state() {
    let (mut breaker, handle, _) = build(simple());
    let mut late: Vec<_> = Vec::new();
    for act in [
        Act::Take(ms(1500)),
        Act::FailAfter(ms(1500)),
        Act::FailAfter(ms(2500)),
    ] {
        late.push(Box::pin(breaker.ready().await.unwrap().call(act)));
    }
    let mut late = join_all(late);
    assert!(poll_once(pin!(&mut late)).is_pending());
    send_all(&mut breaker, times(3, Act::Fail(1))).await;

    // Half-open, its probe under way, when the first two come back: neither closes nor opens it.
    advance(secs(1)).await;
    let mut probe = pin!(breaker.ready().await.unwrap().call(Act::Take(secs(1))));
    assert!(poll_once(probe.as_mut()).is_pending());
    advance(ms(600)).await;
    assert!(poll_once(pin!(&mut late)).is_pending());
    assert_eq!(handle.state(), State::HalfOpen);
    assert_eq!(probe.await, Ok(1));
    assert_eq!(handle.state(), State::Closed);

    // Closed again when the third comes back: a failure of a generation that is over.
    late.await;
    assert_eq!(handle.snapshot().statistics.consecutive_failures, 0);
}

#[tokio::test(start_paused = true)]
async fn a_late_probe_of_an_earlier_round_decides_nothing_in_a_later_one() {
    let (mut breaker, handle, _) = build(simple().half_open_timeout(secs(5)));
    send_all(&mut breaker, times(3, Act::Fail(1))).await;
    advance(secs(1)).await;
    let mut first = pin!(breaker.ready().await.unwrap().call(Act::Take(secs(8))));
    assert!(poll_once(first.as_mut()).is_pending());
    advance(secs(5)).await;
    send(&mut breaker, Act::Succeed)
        .await
        .unwrap_err()
        .rejected(); // writes the first one off
    advance(secs(1)).await;
    let mut second = pin!(breaker.ready().await.unwrap().call(Act::Hang));
    assert!(poll_once(second.as_mut()).is_pending());
    assert_eq!(first.await, Ok(1));
    assert_eq!(handle.state(), State::HalfOpen);
    send(&mut breaker, Act::Succeed)
        .await
        .unwrap_err()
        .rejected(); // its place is still taken
}

#[tokio::test(start_paused = true)]
async fn a_late_probe_of_an_earlier_round_frees_no_place_in_a_later_one() {
    let (mut breaker, handle, _) = build(
        simple()
            .half_open_timeout(secs(5))
            .slow_call_duration(secs(1000)),
    );
    send_all(&mut breaker, times(3, Act::Fail(1))).await;
    advance(secs(1)).await;
    let mut first = Box::pin(breaker.ready().await.unwrap().call(Act::Hang));
    assert!(poll_once(first.as_mut()).is_pending());
    advance(secs(5)).await;
    let written_off = send(&mut breaker, Act::Succeed).await;
    written_off.unwrap_err().rejected();
    advance(secs(1)).await;
    let mut second = pin!(breaker.ready().await.unwrap().call(Act::Hang));
    assert!(poll_once(second.as_mut()).is_pending());

    drop(first); // says nothing, and gives back a place that is long gone
    assert_eq!(handle.state(), State::HalfOpen);
    let refused = send(&mut breaker, Act::Succeed).await;
    refused.unwrap_err().rejected();
}

#[tokio::test(start_paused = true)]
async fn fifty_hung_calls_cut_by_an_outer_timeout_open_it() {
    let window = Thresholds::failure_rate(0.5).minimum_calls(50);
    let (breaker, handle, _) = build(
        CircuitBreakerLayer::builder()
            .count_window(100, window)
            .slow_call_duration(ms(500)),
    );
    for n in 1..=50 {
        let mut breaker = breaker.clone();
        timeout(secs(1), send(&mut breaker, Act::Hang))
            .await
            .unwrap_err();
        assert_eq!(handle.state() == State::Open, n == 50, "after {n}");
    }
}

#[tokio::test(start_paused = true)]
async fn calls_cut_by_our_own_outer_timeout_count_however_short_it_is() {
    let layer = simple().build().unwrap();
    let mut service = ServiceBuilder::new()
        .layer(TimeoutLayer::new(ms(10)).unwrap())
        .layer(layer.clone())
        .service(Scripted::new().0);
    for _ in 0..3 {
        send(&mut service, Act::Hang).await.unwrap_err().timed_out();
    }
    assert_eq!(layer.handle().state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_is_judged_by_how_long_it_ran() {
    let (breaker, handle, _) = build(simple().slow_call_duration(secs(1)));
    let failures = || handle.snapshot().statistics.consecutive_failures;
    let cut_after = |after| {
        let mut breaker = breaker.clone();
        async move { drop(timeout(after, send(&mut breaker, Act::Hang)).await) }
    };
    cut_after(ms(999)).await;
    assert_eq!(
        failures(),
        0,
        "the caller went away early: that says nothing"
    );
    cut_after(ms(1001)).await;
    assert_eq!(failures(), 1, "longer than a call may run");
    Context::new()
        .with_timeout(ms(100))
        .scope(cut_after(ms(99)))
        .await;
    assert_eq!(failures(), 1);
    Context::new()
        .with_timeout(ms(100))
        .scope(cut_after(ms(100)))
        .await;
    assert_eq!(failures(), 2, "at its deadline");
}

#[tokio::test(start_paused = true)]
async fn fifty_panics_open_it() {
    for act in [Act::Panic, Act::PanicInCall] {
        let window = Thresholds::failure_rate(0.5).minimum_calls(50);
        let (breaker, handle, watch) =
            build(CircuitBreakerLayer::builder().count_window(100, window));
        for n in 1..=50 {
            send_contained(&breaker, act.clone()).await.unwrap_err();
            assert_eq!(handle.state() == State::Open, n == 50, "after {n}");
        }
        assert_eq!(watch.in_flight(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_panics_gives_its_place_back() {
    let (mut breaker, handle, _) = build(simple());
    send_all(&mut breaker, times(3, Act::Fail(1))).await;
    for _ in 0..3 {
        advance(secs(1)).await;
        send_contained(&breaker, Act::Panic).await.unwrap_err();
        assert_eq!(handle.snapshot().cause, Some(Cause::ProbesFailed));
    }
    advance(secs(1)).await;
    send(&mut breaker, Act::Succeed).await.unwrap();
    assert_eq!(handle.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn verdicts_rule_an_answer_can_be_a_failure_and_an_error_a_success_or_nothing() {
    // Answers above one are failures; the error 404 is a success; 499 says nothing.
    let classifier = |result: Result<&u32, &Error>| match result {
        Ok(2..) | Err(Error::Failed(500)) => Failure::transient().into(),
        Err(Error::Failed(499)) => Verdict::Ignored,
        _ => Verdict::Success,
    };
    let layer = CircuitBreakerLayer::builder()
        .count_window(100, Thresholds::failure_rate(1.0))
        .classifier(classifier)
        .build()
        .unwrap();
    let mut breaker = layer.layer(Scripted::new().0);
    let as_attempt = |n: u32| Context::new().with_attempt(n.try_into().unwrap());
    let counts = || {
        let counts = layer.handle().snapshot().statistics.count_window.unwrap();
        (counts.calls, counts.failed)
    };
    as_attempt(2)
        .scope(send(&mut breaker, Act::Succeed))
        .await
        .unwrap();
    assert_eq!(counts(), (1, 1));
    send(&mut breaker, Act::Fail(404)).await.unwrap_err();
    assert_eq!(counts(), (2, 1));
    send(&mut breaker, Act::Fail(499)).await.unwrap_err();
    assert_eq!(counts(), (2, 1));
    send(&mut breaker, Act::Fail(500)).await.unwrap_err();
    assert_eq!(counts(), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn what_a_layer_below_refused_is_not_held_against_the_service() {
    let layer = simple().build().unwrap();
    let mut service = ServiceBuilder::new()
        .layer(layer.clone())
        .layer(BulkheadLayer::new(0))
        .service(Scripted::new().0);
    for _ in 0..10 {
        send(&mut service, Act::Succeed)
            .await
            .unwrap_err()
            .rejected();
    }
    assert_eq!(layer.handle().snapshot().statistics.consecutive_failures, 0);
    assert_eq!(layer.handle().state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn it_is_forced_until_told_otherwise_or_for_a_time() {
    let (mut breaker, handle, watch) = build(simple());
    handle.force_open();
    advance(secs(1_000_000)).await;
    let rejected = send(&mut breaker, Act::Succeed)
        .await
        .unwrap_err()
        .rejected();
    assert_eq!((rejected.retry_after(), watch.calls()), (None, 0));

    handle.reset();
    assert_eq!(send(&mut breaker, Act::Succeed).await, Ok(1));

    handle.force_open_for(secs(5));
    let rejected = send(&mut breaker, Act::Succeed)
        .await
        .unwrap_err()
        .rejected();
    assert_eq!(rejected.retry_after(), Some(secs(5)));
    advance(secs(5)).await;
    send(&mut breaker, Act::Fail(1)).await.unwrap_err();
    assert_eq!(
        handle.snapshot().cause,
        Some(Cause::ProbesFailed),
        "it probes after"
    );

    handle.force_closed();
    send_all(&mut breaker, times(100, Act::Fail(1))).await;
    assert_eq!(handle.state(), State::ForcedClosed);

    handle.force_closed_for(secs(5));
    send_all(&mut breaker, times(100, Act::Fail(1))).await;
    advance(secs(5)).await;
    send_all(&mut breaker, times(2, Act::Fail(1))).await;
    assert_eq!(
        handle.state(),
        State::Closed,
        "what was let pass by force is forgotten"
    );
    send_all(&mut breaker, times(1, Act::Fail(1))).await;
    assert_eq!(handle.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn it_is_forced_until_a_moment() {
    let (mut breaker, handle, _) = build(simple());
    handle.force_open_until(Instant::now() + secs(5));
    let rejected = send(&mut breaker, Act::Succeed)
        .await
        .unwrap_err()
        .rejected();
    assert_eq!(rejected.retry_after(), Some(secs(5)));
    handle.force_closed_until(Instant::now() + secs(7));
    assert_eq!(handle.snapshot().ends_in, Some(secs(7)));
    handle.force_open_until(Instant::now() - secs(1)); // over already: the next call is a probe
    assert_eq!(send(&mut breaker, Act::Succeed).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn a_reset_forgets_the_counts_and_how_far_the_open_time_has_grown() {
    let open_time = Backoff::exponential(secs(1), secs(60))
        .unwrap()
        .with_jitter(Jitter::None);
    let (mut breaker, handle, _) = build(simple().open_time(open_time));
    for _ in 0..2 {
        send_all(&mut breaker, times(3, Act::Fail(1))).await;
        advance(secs(60)).await;
    }
    handle.reset();
    send_all(&mut breaker, times(2, Act::Fail(1))).await;
    handle.reset();
    send_all(&mut breaker, times(2, Act::Fail(1))).await;
    assert_eq!(handle.state(), State::Closed);
    send_all(&mut breaker, times(1, Act::Fail(1))).await;
    assert_eq!(handle.snapshot().ends_in, Some(secs(1)));
}

#[tokio::test(start_paused = true)]
async fn looking_takes_no_probe() {
    let (mut breaker, handle, _) = build(simple());
    send_all(&mut breaker, times(3, Act::Fail(1))).await;
    assert_eq!(handle.snapshot().ends_in, Some(secs(1)));
    advance(secs(2)).await;
    for _ in 0..100 {
        let snapshot = handle.clone().snapshot();
        assert_eq!(
            (snapshot.state, snapshot.ends_in),
            (State::Open, Some(ms(0)))
        );
    }
    assert_eq!(send(&mut breaker, Act::Succeed).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn services_of_one_layer_and_its_clones_share_one_breaker() {
    let layer = simple().build().unwrap();
    let mut one = layer.layer(Scripted::new().0);
    let mut other = layer.clone().layer(Scripted::new().0);
    for _ in 0..3 {
        let _ = send(&mut one, Act::Fail(1)).await;
    }
    send(&mut other, Act::Succeed).await.unwrap_err().rejected();
}

#[tokio::test(start_paused = true)]
async fn a_refusal_touches_no_timer_and_comes_at_once() {
    let (mut breaker, handle, _) = build(simple());
    handle.force_open_for(secs(1));
    let before = Instant::now();
    let call = breaker.ready().await.unwrap().call(Act::Succeed);
    assert!(matches!(
        poll_once(pin!(call)),
        Poll::Ready(Err(Error::Rejected(_)))
    ));
    assert_eq!(Instant::now(), before);
}

#[tokio::test(start_paused = true)]
async fn a_leap_of_the_clock_or_an_endless_setting_breaks_nothing() {
    let forever = std::time::Duration::MAX;
    let (mut breaker, handle, _) = build(
        CircuitBreakerLayer::builder()
            .consecutive_failures(1)
            .time_window(forever, Thresholds::slow_call_rate(1.0))
            .slow_call_duration(forever)
            .open_time(Backoff::constant(forever).with_jitter(Jitter::None))
            .lasting_close(forever)
            .half_open_timeout(forever),
    );
    advance(secs(3600)).await;
    send_all(
        &mut breaker,
        [Act::Succeed, Act::Take(secs(3600)), Act::Fail(1)],
    )
    .await;
    assert_eq!(handle.state(), State::Open);
    advance(secs(3600 * 24 * 365)).await;
    send(&mut breaker, Act::Succeed)
        .await
        .unwrap_err()
        .rejected();
    handle.force_open_for(forever);
    handle.force_closed_for(forever);
    assert_eq!(send(&mut breaker, Act::Succeed).await, Ok(1));
}

#[test]
fn every_wrong_setting_is_refused_by_name_with_what_is_allowed() {
    let builder = CircuitBreakerLayer::builder;
    let rate = Thresholds::failure_rate;
    let zero = ms(0);
    let cases = [
        (
            builder().consecutive_failures(0),
            "consecutive_failures",
            "at least 1",
        ),
        (
            builder().count_window(0, rate(0.5)),
            "count_window",
            "in 1..=65535",
        ),
        (
            builder().count_window(65_536, rate(0.5)),
            "count_window",
            "in 1..=65535",
        ),
        (
            builder().count_window(9, rate(0.0)),
            "failure_rate",
            "in 0.000001..=1",
        ),
        (
            builder().count_window(9, rate(1.1)),
            "failure_rate",
            "in 0.000001..=1",
        ),
        (
            builder().count_window(9, rate(f64::NAN)),
            "failure_rate",
            "in 0.000001..=1",
        ),
        (
            builder().time_window(secs(9), Thresholds::slow_call_rate(-1.0)),
            "slow_call_rate",
            "in 0.000001..=1",
        ),
        (
            builder().count_window(9, rate(0.5).minimum_calls(10)),
            "minimum_calls",
            "at least 1 and at most as many as the window can hold",
        ),
        (
            builder().time_window(secs(9), rate(0.5).minimum_calls(0)),
            "minimum_calls",
            "at least 1 and at most as many as the window can hold",
        ),
        (
            builder().time_window(ms(9), rate(0.5)),
            "time_window",
            "at least 10 ms",
        ),
        (
            builder().slow_call_duration(zero),
            "slow_call_duration",
            "longer than zero",
        ),
        (
            builder().open_time(Backoff::none()),
            "open_time",
            "longer than zero",
        ),
        (
            builder().open_time_from_hint(zero),
            "open_time_from_hint",
            "longer than zero",
        ),
        (
            builder().half_open_probes(0),
            "half_open_probes",
            "in 1..=254",
        ),
        (
            builder().half_open_probes(255),
            "half_open_probes",
            "in 1..=254",
        ),
        (
            builder().half_open_timeout(zero),
            "half_open_timeout",
            "longer than zero",
        ),
    ];
    for (builder, setting, allowed) in cases {
        let error = builder.build().unwrap_err();
        assert_eq!((error.setting(), error.allowed()), (setting, allowed));
        let text = error.to_string();
        assert!(text.contains(setting) && text.contains(allowed), "{text}");
    }
}
