//! The rules by which a closed breaker trips and a half-open one judges its probes.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::SeqCst},
};

use steadfast::circuit_breaker::{LatencyQuantile, Statistics};

use super::*;

/// Open for exactly one second.
fn rules() -> CircuitBreakerBuilder {
    CircuitBreakerLayer::builder()
        .name("db")
        .open_time(Backoff::constant(secs(1)).with_jitter(Jitter::None))
}

fn take(millis: u64) -> Act {
    Act::Take(ms(millis))
}

#[tokio::test(start_paused = true)]
async fn so_many_failures_of_the_last_calls_open_it_whatever_their_share() {
    let (mut breaker, handle, _) = build(rules().count_window(100, Thresholds::failures(3)));
    for _ in 0..2 {
        send_all(&mut breaker, times(1, Act::Fail(1))).await;
        send_all(&mut breaker, times(49, Act::Succeed)).await;
    }
    // The hundred-and-first call pushes the first failure out.
    send_all(&mut breaker, [Act::Fail(1)]).await;
    assert_eq!(handle.state(), State::Closed, "two of the last hundred");
    send_all(&mut breaker, times(48, Act::Succeed)).await;
    send_all(&mut breaker, [Act::Fail(1)]).await;
    assert_eq!(handle.snapshot().cause, Some(Cause::CountFailures));
}

#[tokio::test(start_paused = true)]
async fn so_many_failures_within_a_period_open_it_without_a_minimum_of_calls() {
    let (mut breaker, handle, _) = build(rules().time_window(secs(10), Thresholds::failures(3)));
    send_all(&mut breaker, times(2, Act::Fail(1))).await;
    advance(secs(10)).await;
    send_all(&mut breaker, times(2, Act::Fail(1))).await;
    assert_eq!(handle.state(), State::Closed, "the first two are forgotten");
    advance(secs(8)).await;
    send_all(&mut breaker, [Act::Fail(1)]).await;
    assert_eq!(handle.snapshot().cause, Some(Cause::TimeFailures));
}

#[tokio::test(start_paused = true)]
async fn a_number_of_failures_stands_beside_a_rate() {
    let both = Thresholds::failures(5)
        .or_failure_rate(0.5)
        .minimum_calls(4);
    let (mut breaker, handle, _) = build(rules().count_window(100, both));
    send_all(&mut breaker, times(2, Act::Succeed)).await;
    send_all(&mut breaker, times(2, Act::Fail(1))).await;
    assert_eq!(handle.snapshot().cause, Some(Cause::CountFailureRate));

    let (mut breaker, handle, _) = build(rules().count_window(100, both));
    send_all(&mut breaker, times(20, Act::Succeed)).await;
    send_all(&mut breaker, times(5, Act::Fail(1))).await;
    assert_eq!(handle.snapshot().cause, Some(Cause::CountFailures));
}

#[tokio::test(start_paused = true)]
async fn probes_are_judged_by_a_number_of_failures_cut_to_their_round() {
    for (number, fails_at) in [(1, 1), (2, 2), (50, 3)] {
        let window = Thresholds::failures(number);
        let (mut breaker, handle, _) = build(rules().count_window(100, window).half_open_probes(3));
        send_all(&mut breaker, times(number as usize, Act::Fail(1))).await;
        advance(secs(1)).await;
        send_all(&mut breaker, times(fails_at - 1, Act::Fail(1))).await;
        if fails_at > 1 {
            assert_eq!(handle.state(), State::HalfOpen, "{number}");
        }
        send_all(&mut breaker, [Act::Fail(1)]).await;
        assert_eq!(handle.snapshot().cause, Some(Cause::ProbesFailed));
    }
}

#[tokio::test(start_paused = true)]
async fn a_p90_is_too_long_once_more_than_one_call_in_ten_is_and_not_at_the_bound() {
    let p90 = LatencyQuantile::above(0.9, ms(500)).minimum_calls(20);
    let (mut breaker, handle, _) = build(rules().latency_window(secs(600), p90));
    send_all(&mut breaker, times(10, take(500))).await;
    send_all(&mut breaker, times(8, Act::Succeed)).await;
    send_all(&mut breaker, times(2, take(501))).await;
    // In order: 18 of at most 500 ms, of which the 18th is the p90, and two that took longer.
    let held = handle.snapshot().statistics.latency_window.unwrap();
    assert_eq!((held.calls, held.failed, held.slow), (20, 0, 2));
    assert_eq!(handle.state(), State::Closed);
    send_all(&mut breaker, times(1, take(501))).await;
    assert_eq!(handle.snapshot().cause, Some(Cause::LatencyQuantile));
}

#[tokio::test(start_paused = true)]
async fn one_call_alone_does_not_make_a_p99_too_long_unless_so_wished() {
    let p99 = LatencyQuantile::above(0.99, ms(500));
    let (mut breaker, handle, _) = build(rules().latency_window(secs(600), p99));
    send_all(&mut breaker, times(1, take(600))).await;
    send_all(&mut breaker, times(98, Act::Succeed)).await;
    assert_eq!(
        handle.state(),
        State::Closed,
        "99 calls are too few to judge"
    );
    send_all(&mut breaker, times(1, Act::Succeed)).await;
    assert_eq!(
        handle.state(),
        State::Closed,
        "one in a hundred is not more"
    );
    send_all(&mut breaker, times(1, take(600))).await;
    assert_eq!(handle.state(), State::Open);

    let (mut breaker, handle, _) = build(rules().latency_window(secs(600), p99.minimum_calls(1)));
    send_all(&mut breaker, times(1, take(600))).await;
    assert_eq!(handle.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn the_latency_of_failed_and_of_hung_calls_counts_too() {
    let median = LatencyQuantile::above(0.5, ms(500)).minimum_calls(4);
    let quantile = || rules().latency_window(secs(600), median);
    let (mut breaker, handle, _) = build(quantile());
    send_all(&mut breaker, times(1, Act::Succeed)).await;
    send_all(&mut breaker, times(3, Act::FailAfter(ms(501)))).await;
    assert_eq!(handle.snapshot().cause, Some(Cause::LatencyQuantile));

    let (mut breaker, handle, _) = build(quantile());
    send_all(&mut breaker, times(1, Act::Succeed)).await;
    for _ in 0..3 {
        let hung = timeout(secs(2), send(&mut breaker, Act::Hang));
        hung.await.unwrap_err();
    }
    assert_eq!(handle.snapshot().cause, Some(Cause::LatencyQuantile));
}

#[tokio::test(start_paused = true)]
async fn the_bound_of_a_quantile_stands_beside_that_of_slow_calls() {
    let rates = Thresholds::slow_call_rate(1.0).minimum_calls(100);
    let quantile = LatencyQuantile::above(1.0, ms(500)).minimum_calls(100);
    let (mut breaker, handle, _) = build(
        rules()
            .count_window(100, rates)
            .slow_call_duration(ms(100))
            .latency_window(secs(600), quantile),
    );
    send_all(&mut breaker, [take(50), take(200), take(600)]).await;
    let Statistics {
        count_window,
        latency_window,
        ..
    } = handle.snapshot().statistics;
    assert_eq!(count_window.unwrap().slow, 2);
    assert_eq!(latency_window.unwrap().slow, 1);
}

#[tokio::test(start_paused = true)]
async fn a_probe_beyond_the_bound_of_a_quantile_counts_against_closing() {
    let p99 = LatencyQuantile::above(0.99, ms(500));
    for (probe, state) in [(take(500), State::Closed), (take(501), State::Open)] {
        let (mut breaker, handle, _) = build(
            rules()
                .latency_window(secs(60), p99)
                .slow_call_duration(secs(5))
                .half_open_probes(2),
        );
        handle.force_open_for(ms(0));
        send_all(&mut breaker, [Act::Succeed, probe]).await;
        assert_eq!(handle.state(), state);
    }
}

#[tokio::test(start_paused = true)]
async fn slow_probes_count_against_closing_where_a_rule_looks_at_slow_calls() {
    let slow = Thresholds::slow_call_rate(0.5);
    let cases = [
        (
            rules().count_window(10, slow),
            [take(101), take(101)],
            State::Open,
        ),
        (
            rules().time_window(secs(10), slow),
            [take(101), take(101)],
            State::Open,
        ),
        (
            rules().count_window(10, slow),
            [take(100), take(100)],
            State::Closed,
        ),
        (
            rules().consecutive_failures(1),
            [take(101), take(101)],
            State::HalfOpen,
        ),
    ];
    for (rules, probes, state) in cases {
        let (mut breaker, handle, _) = build(rules.slow_call_duration(ms(100)).half_open_probes(3));
        handle.force_open_for(ms(0));
        send_all(&mut breaker, probes).await;
        assert_eq!(handle.state(), state, "{:?}", handle.snapshot());
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_late_counts_against_closing_also_where_only_slow_calls_do() {
    let slow = Thresholds::slow_call_rate(1.0);
    let (mut breaker, handle, _) = build(
        rules()
            .count_window(10, slow)
            .slow_call_duration(secs(60))
            .half_open_probes(1)
            .half_open_timeout(secs(5)),
    );
    handle.force_open_for(ms(0));
    send(&mut breaker, Act::Take(secs(5))).await.unwrap();
    assert_eq!(handle.snapshot().cause, Some(Cause::ProbesFailed));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_probe_counts_neither_for_closing_nor_against_it() {
    let half = Thresholds::failure_rate(0.5);
    // Of three probes two must fail. Were the cancelled ones failures, the first would open it again;
    // were they successes, the second would close.
    for (before, after, state) in [
        (Act::Fail(1), Act::Succeed, State::Closed),
        (Act::Succeed, Act::Fail(1), State::Open),
    ] {
        let (mut breaker, handle, _) = build(rules().count_window(10, half).half_open_probes(3));
        handle.force_open_for(ms(0));
        send_all(&mut breaker, [before]).await;
        for _ in 0..10 {
            send_and_drop(&mut breaker, Act::Hang).await;
            drop(breaker.ready().await.unwrap().call(Act::Hang));
        }
        assert_eq!(handle.state(), State::HalfOpen);
        send_all(&mut breaker, times(2, after)).await;
        assert_eq!(handle.state(), state);
    }
}

#[tokio::test(start_paused = true)]
async fn a_weighted_rate_opens_it_and_forgets_with_its_time_constant() {
    let half = Thresholds::failure_rate(0.5).minimum_calls(10);
    let (mut breaker, handle, _) = build(rules().ewma_window(secs(10), half));
    send_all(&mut breaker, times(9, Act::Fail(1))).await;
    let held = handle.snapshot().statistics.ewma_window.unwrap();
    assert_eq!((held.calls(), held.failed()), (9.0, 9.0));
    // They weigh 3.3 when ten good ones come.
    advance(secs(10)).await;
    send_all(&mut breaker, times(10, Act::Succeed)).await;
    assert_eq!(handle.state(), State::Closed);
    send_all(&mut breaker, times(6, Act::Fail(1))).await;
    assert_eq!(handle.state(), State::Closed, "9.3 of 19.3");
    send_all(&mut breaker, times(1, Act::Fail(1))).await;
    assert_eq!(handle.snapshot().cause, Some(Cause::EwmaFailureRate));
    advance(secs(1)).await;
    send_all(&mut breaker, times(2, Act::Succeed)).await;
    let held = handle.snapshot().statistics.ewma_window.unwrap();
    assert_eq!((handle.state(), held.calls()), (State::Closed, 0.0));
}

#[tokio::test(start_paused = true)]
async fn a_rule_of_ones_own_decides_from_the_windows_it_is_given() {
    // More than twice as many failures in the last second as successes in the last ten calls.
    let rule = |statistics: &Statistics| {
        let (Some(last), Some(lately)) = (statistics.count_window, statistics.time_window) else {
            return false;
        };
        lately.failed > 2 * (last.calls - last.failed)
    };
    let watched = Thresholds::watch_only();
    let (mut breaker, handle, _) = build(
        rules()
            .count_window(10, watched)
            .time_window(secs(1), watched)
            .trip_when(rule),
    );
    send_all(&mut breaker, times(2, Act::Succeed)).await;
    send_all(&mut breaker, times(4, Act::Fail(1))).await;
    assert_eq!(handle.state(), State::Closed);
    send_all(&mut breaker, times(1, Act::Fail(1))).await;
    assert_eq!(handle.snapshot().cause, Some(Cause::TripWhen));
}

#[tokio::test(start_paused = true)]
async fn a_rule_of_ones_own_sees_every_window_that_is_configured_and_no_other() {
    let has = |handle: &CircuitBreakerHandle| {
        let it = handle.snapshot().statistics;
        [
            it.count_window.is_some(),
            it.time_window.is_some(),
            it.ewma_window.is_some(),
            it.latency_window.is_some(),
        ]
    };
    let watched = Thresholds::watch_only();
    let quantile = LatencyQuantile::above(1.0, secs(1));
    let own = || rules().trip_when(|_| false);
    let last = [true, false, false, false];
    assert_eq!(
        has(&build(own()).1),
        last,
        "the last 100 calls if nothing else"
    );
    assert_eq!(has(&build(own().count_window(5, watched)).1), last);
    let cases = [
        (own().consecutive_failures(5), [false; 4]),
        (
            own().time_window(secs(1), watched),
            [false, true, false, false],
        ),
        (
            own().ewma_window(secs(1), watched),
            [false, false, true, false],
        ),
        (
            own().latency_window(secs(1), quantile),
            [false, false, false, true],
        ),
    ];
    for (builder, expected) in cases {
        assert_eq!(has(&build(builder).1), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_rule_of_ones_own_is_asked_for_every_counted_outcome_and_no_other() {
    let asked = Arc::new(AtomicU32::new(0));
    let count = asked.clone();
    let rule: Box<dyn Fn(&Statistics) -> bool + Send + Sync> = Box::new(move |statistics| {
        count.fetch_add(1, SeqCst);
        statistics.count_window.unwrap().failed >= 2
    });
    let layer = rules().trip_when(rule).classifier(Told).build().unwrap();
    let mut breaker = layer.layer(Scripted::new().0);
    for _ in 0..200 {
        send(&mut breaker, Act::Succeed).await.unwrap();
    }
    assert_eq!(
        asked.load(SeqCst),
        200,
        "also where a success changes nothing"
    );
    let ignored = Act::Say(Verdict::Ignored);
    send(&mut breaker, ignored).await.unwrap_err();
    send_and_drop(&mut breaker, Act::Hang).await;
    assert_eq!(asked.load(SeqCst), 200);

    for _ in 0..2 {
        send(&mut breaker, Act::Fail(1)).await.unwrap_err();
    }
    assert_eq!(layer.handle().snapshot().cause, Some(Cause::TripWhen));
    let refused = send(&mut breaker, Act::Succeed).await;
    refused.unwrap_err().rejected();
    advance(secs(1)).await;
    send(&mut breaker, Act::Succeed).await.unwrap();
    assert_eq!(asked.load(SeqCst), 202, "probes are not put to it");
}

#[tokio::test(start_paused = true)]
async fn where_only_a_rule_of_ones_own_stands_half_of_the_probes_decide() {
    for (probes, state) in [
        ([Act::Fail(1), Act::Fail(1)], State::Open),
        ([Act::Fail(1), Act::Succeed], State::HalfOpen),
        ([Act::Succeed, Act::Succeed], State::Closed),
    ] {
        let (mut breaker, handle, _) = build(rules().trip_when(|_| false).half_open_probes(3));
        handle.force_open_for(ms(0));
        send_all(&mut breaker, probes).await;
        assert_eq!(handle.state(), state);
    }
}

#[tokio::test(start_paused = true)]
async fn a_breaker_that_only_watches_never_trips() {
    let watched = Thresholds::watch_only();
    let (mut breaker, handle, _) = build(rules().count_window(10, watched));
    send_all(&mut breaker, times(100, Act::Fail(1))).await;
    assert_eq!(handle.state(), State::Closed);
    assert_eq!(
        handle.snapshot().statistics.count_window.unwrap().failed,
        10
    );
}

/// Panics, with what panics when it is dropped, while the window holds an odd number of failures; else
/// trips at four.
fn panicking(statistics: &Statistics) -> bool {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in the payload");
        }
    }
    let failed = statistics.count_window.unwrap().failed;
    if failed % 2 == 1 {
        std::panic::panic_any(Bomb);
    }
    failed >= 4
}

#[tokio::test(start_paused = true)]
async fn a_rule_of_ones_own_that_panics_says_no_and_the_call_ends_as_it_did() {
    let (mut breaker, handle, watch) = build(rules().trip_when(panicking));
    for number in 1..=4 {
        assert_eq!(handle.state(), State::Closed);
        let result = send(&mut breaker, Act::Fail(number)).await;
        assert_eq!(result, Err(Error::Failed(number)));
    }
    assert_eq!(handle.snapshot().cause, Some(Cause::TripWhen));
    assert_eq!(watch.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_rule_of_ones_own_is_asked_also_of_panics_and_may_panic_then_too() {
    for act in [Act::Panic, Act::PanicInCall] {
        let (breaker, handle, watch) = build(rules().trip_when(panicking));
        for _ in 0..4 {
            assert_eq!(handle.state(), State::Closed);
            send_contained(&breaker, act.clone()).await.unwrap_err();
        }
        assert_eq!(handle.snapshot().cause, Some(Cause::TripWhen));
        assert_eq!(watch.in_flight(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_rule_of_ones_own_may_look_at_and_steer_its_breaker() {
    let layer = rules().build().unwrap();
    let other = layer.handle();
    let (mut breaker, handle, _) = build(rules().trip_when(move |_| {
        other.reset();
        other.snapshot().state == State::Closed
    }));
    send_all(&mut breaker, [Act::Succeed]).await;
    assert_eq!(handle.state(), State::Open);
}

#[test]
fn every_wrong_setting_of_a_rule_is_refused_by_name_with_what_is_allowed() {
    let fits = "at least 1 and at most as many as the window can hold";
    let minute = secs(60);
    let quantile = |quantile| LatencyQuantile::above(quantile, secs(1));
    let cases = [
        (
            rules().count_window(9, Thresholds::failures(0)),
            "failures",
            fits,
        ),
        (
            rules().count_window(9, Thresholds::failures(10)),
            "failures",
            fits,
        ),
        (
            rules().time_window(minute, Thresholds::failures(0)),
            "failures",
            fits,
        ),
        (
            rules().ewma_window(minute, Thresholds::failures(16_385)),
            "failures",
            fits,
        ),
        (
            rules().ewma_window(minute, Thresholds::failure_rate(0.5).minimum_calls(16_385)),
            "minimum_calls",
            fits,
        ),
        (
            rules().count_window(9, Thresholds::failures(5).minimum_calls(5)),
            "minimum_calls",
            "to be given where no rate is",
        ),
        (
            rules().ewma_window(ms(999), Thresholds::failure_rate(0.5)),
            "ewma_window",
            "at least 1 s",
        ),
        (
            rules().ewma_window(minute, Thresholds::failure_rate(0.5).or_slow_call_rate(0.5)),
            "slow_call_rate",
            "for an `ewma_window`, which counts failures only",
        ),
        (
            rules().latency_window(ms(9), quantile(0.5)),
            "latency_window",
            "at least 10 ms",
        ),
        (
            rules().latency_window(minute, quantile(0.0)),
            "latency_quantile",
            "in 0.000001..=1",
        ),
        (
            rules().latency_window(minute, quantile(1.1)),
            "latency_quantile",
            "in 0.000001..=1",
        ),
        (
            rules().latency_window(minute, quantile(f64::NAN)),
            "latency_quantile",
            "in 0.000001..=1",
        ),
        (
            rules().latency_window(minute, LatencyQuantile::above(0.5, ms(0))),
            "latency_bound",
            "longer than zero",
        ),
        (
            rules().latency_window(minute, quantile(0.5).minimum_calls(0)),
            "minimum_calls",
            "at least 1",
        ),
    ];
    for (builder, setting, allowed) in cases {
        let error = builder.build().unwrap_err();
        assert_eq!((error.setting(), error.allowed()), (setting, allowed));
    }
    let most = Thresholds::failures(16_384)
        .or_failure_rate(1.0)
        .minimum_calls(16_384);
    build(rules().ewma_window(minute, most));
    build(rules().count_window(9, Thresholds::failures(9)));
}

#[tokio::test(start_paused = true)]
async fn endless_settings_of_rules_and_leaps_of_the_clock_break_nothing() {
    let forever = std::time::Duration::MAX;
    let rate = Thresholds::failure_rate(1.0).minimum_calls(3);
    let (mut breaker, handle, _) = build(
        rules()
            .ewma_window(forever, rate)
            .latency_window(forever, LatencyQuantile::above(1.0, forever)),
    );
    for _ in 0..2 {
        send_all(&mut breaker, [Act::FailAfter(secs(3600))]).await;
        advance(secs(3600 * 24 * 365)).await;
    }
    assert_eq!(handle.state(), State::Closed);
    send_all(&mut breaker, [Act::Fail(1)]).await;
    assert_eq!(handle.snapshot().cause, Some(Cause::EwmaFailureRate));
}
