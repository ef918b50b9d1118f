//! Client-side throttling.

#[cfg(feature = "grpc")]
mod end_of_body;
mod keyed;
#[cfg(feature = "http")]
mod presets;
mod rate;
mod rate_simulation;

use std::{pin::pin, thread, time::Duration};

use steadfast::{
    Context, Criticality, Reason, Rejected, Run, Verdict,
    classify::{Failure, FailureKind},
    retry::RetryLayer,
    throttle::{Mode, ThrottleBuilder, ThrottleHandle, ThrottleLayer},
    timeout::TimeoutLayer,
};
use tokio::time::advance;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

use crate::support::{
    Act, Error, Scripted, Told, ms, poll_once, secs, send, send_and_drop, send_contained,
};

const CRITICAL: Criticality = Criticality::Critical;

fn builder() -> ThrottleBuilder<Told> {
    let builder = ThrottleLayer::builder(Told).name("db");
    builder.minimum_rate(0.0).window(secs(10)).seed(1)
}

fn say(failure: Failure) -> Act {
    Act::Say(failure.into())
}

fn overloaded() -> Act {
    say(Failure::overload())
}

/// Requests and accepts.
fn counts(handle: &ThrottleHandle, criticality: Criticality) -> (u64, u64) {
    let snapshot = handle.snapshot(criticality);
    (snapshot.requests, snapshot.accepts)
}

/// Sends until so many were refused.
async fn be_refused<S>(service: &mut S, times: usize) -> Rejected
where
    S: Service<Act, Response = u32, Error = Error>,
{
    let mut last = None;
    let mut refused = 0;
    while refused < times {
        if let Err(Error::Rejected(rejected)) = send(service, overloaded()).await {
            refused += 1;
            last = Some(rejected);
        }
    }
    last.unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_never_sent_and_is_a_request_all_the_same() {
    let layer = builder().build().unwrap();
    let (service, watch) = Scripted::new();
    let mut throttle = layer.layer(service);
    send(&mut throttle, Act::Succeed).await.unwrap();
    let rejected = be_refused(&mut throttle, 100).await;
    assert_eq!(
        (rejected.layer(), rejected.reason()),
        ("db", Reason::Throttled)
    );
    assert_eq!(rejected.retry_after(), None);
    let snapshot = layer.handle().snapshot(CRITICAL);
    assert_eq!(snapshot.requests, watch.calls() as u64 + 100);
    assert_eq!(snapshot.accepts, 1);
    // (requests - 2 accepts) / (requests + 1), up to the cap.
    assert_eq!(snapshot.reject_probability, 0.9);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_refused_while_one_in_k_is_accepted() {
    let layer = builder().multiplier(4.0).build().unwrap();
    let (service, watch) = Scripted::new();
    let mut throttle = layer.layer(service);
    for calls in 1..=1_000 {
        let act = if calls % 4 == 1 {
            Act::Succeed
        } else {
            overloaded()
        };
        let _ = send(&mut throttle, act).await;
    }
    assert_eq!(watch.calls(), 1_000);
    assert_eq!(counts(&layer.handle(), CRITICAL), (1_000, 250));
}

#[tokio::test(start_paused = true)]
async fn the_formula_stands_in_the_snapshot() {
    let layer = builder().build().unwrap();
    let mut throttle = layer.layer(Scripted::new().0);
    send(&mut throttle, Act::Succeed).await.unwrap();
    let mut probabilities = Vec::new();
    let handle = layer.handle();
    while probabilities.len() < 6 {
        let _ = send(&mut throttle, overloaded()).await;
        let snapshot = handle.snapshot(CRITICAL);
        assert_eq!(snapshot.requests, probabilities.len() as u64 + 2);
        probabilities.push(snapshot.reject_probability);
    }
    let expected = [0.0, 1.0 / 4.0, 2.0 / 5.0, 3.0 / 6.0, 4.0 / 7.0, 5.0 / 8.0];
    assert_eq!(probabilities, expected);
}

#[tokio::test(start_paused = true)]
async fn a_criticality_pays_for_its_own_requests_alone() {
    let layer = builder().build().unwrap();
    let (service, watch) = Scripted::new();
    let mut throttle = layer.layer(service);
    let handle = layer.handle();
    // A service that has room for the critical ones.
    let (critical, sheddable) = (
        Context::new(),
        Context::new().with_criticality(Criticality::Sheddable),
    );
    for _ in 0..200 {
        let sent = critical.scope(send(&mut throttle, Act::Succeed)).await;
        sent.unwrap();
        let _ = sheddable.scope(send(&mut throttle, overloaded())).await;
    }
    assert_eq!(counts(&handle, CRITICAL), (200, 200));
    assert_eq!(counts(&handle, Criticality::Sheddable), (200, 0));
    assert_eq!(counts(&handle, Criticality::SheddablePlus), (0, 0));
    assert_eq!(counts(&handle, Criticality::CriticalPlus), (0, 0));
    assert!(watch.calls() < 200 + 60, "{}", watch.calls());
    let probability = |criticality| handle.snapshot(criticality).reject_probability;
    assert_eq!(probability(CRITICAL), 0.0);
    assert_eq!(probability(Criticality::Sheddable), 0.9);
}

#[tokio::test(start_paused = true)]
async fn criticalities_may_be_counted_together() {
    let layer = builder().by_criticality(false).build().unwrap();
    let mut throttle = layer.layer(Scripted::new().0);
    let sheddable = Context::new().with_criticality(Criticality::Sheddable);
    sheddable.scope(be_refused(&mut throttle, 10)).await;
    let snapshot = layer.handle().snapshot(CRITICAL);
    assert_eq!(snapshot, layer.handle().snapshot(Criticality::Sheddable));
    assert!(snapshot.requests > 10);
    be_refused(&mut throttle, 1).await;
}

#[tokio::test(start_paused = true)]
async fn only_overload_is_not_accepted_and_what_says_nothing_is_no_request() {
    let layer = builder().build().unwrap();
    let inner = ServiceBuilder::new()
        .layer(layer.clone())
        .layer(TimeoutLayer::new(secs(1)).unwrap());
    let mut throttle = inner.service(Scripted::new().0);
    let accepted = [
        Act::Succeed,
        Act::Fail(1),
        say(Failure::permanent()),
        say(Failure::timeout()),
        Act::Hang, // until the timeout below
    ];
    for act in accepted {
        let _ = send(&mut throttle, act).await;
    }
    assert_eq!(counts(&layer.handle(), CRITICAL), (5, 5));

    let _ = send(&mut throttle, say(Failure::never_sent())).await;
    let _ = send(&mut throttle, Act::Say(Verdict::Ignored)).await;
    send_and_drop(&mut throttle, Act::Hang).await;
    drop(throttle.ready().await.unwrap().call(Act::Hang)); // before it was polled
    send_contained(&throttle, Act::Panic).await.unwrap_err();
    send_contained(&throttle, Act::PanicInCall)
        .await
        .unwrap_err();
    let late = Context::new().with_timeout(ms(0));
    let below = late.scope(send(&mut throttle, Act::Succeed)).await;
    below.unwrap_err().rejected();
    assert_eq!(counts(&layer.handle(), CRITICAL), (5, 5));

    let _ = send(&mut throttle, overloaded()).await;
    assert_eq!(counts(&layer.handle(), CRITICAL), (6, 5));
}

#[tokio::test(start_paused = true)]
async fn timeouts_and_what_was_never_sent_may_be_told_not_to_be_accepted() {
    let kinds = [FailureKind::Timeout, FailureKind::NeverSent];
    let layer = builder().not_accepted(kinds).multiplier(100.0);
    let layer = layer.build().unwrap();
    let mut service = layer.layer(Scripted::new().0);
    let handle = layer.handle();
    send(&mut service, Act::Succeed).await.unwrap();
    send(&mut service, overloaded()).await.unwrap_err();
    assert_eq!(counts(&handle, CRITICAL), (2, 2));
    let _ = send(&mut service, say(Failure::never_sent())).await;
    let _ = send(&mut service, say(Failure::timeout())).await;
    assert_eq!(counts(&handle, CRITICAL), (4, 2));

    // Given up early; after its deadline; by a timeout of ours.
    send_and_drop(&mut service, Act::Hang).await;
    assert_eq!(counts(&handle, CRITICAL), (4, 2));
    {
        let call = service.ready().await.unwrap().call(Act::Hang);
        let mut call = pin!(Context::new().with_timeout(ms(10)).scope(call));
        assert!(poll_once(call.as_mut()).is_pending());
        advance(ms(10)).await;
    }
    assert_eq!(counts(&handle, CRITICAL), (5, 2));
    let mut limited = TimeoutLayer::new(ms(10)).unwrap().layer(service);
    send(&mut limited, Act::Hang).await.unwrap_err().timed_out();
    assert_eq!(counts(&handle, CRITICAL), (6, 2));
    // What panics is not late.
    let late = Context::new().with_timeout(ms(1)).scope(async {
        send_contained(&limited, Act::Panic).await.unwrap_err();
    });
    late.await;
    assert_eq!(counts(&handle, CRITICAL), (6, 2));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_refused_below_the_least_rate() {
    // Nine tenths of ten seconds.
    let layer = builder().minimum_rate(10.0).build().unwrap();
    let (service, watch) = Scripted::new();
    let mut throttle = layer.layer(service);
    for _ in 0..90 {
        send(&mut throttle, overloaded()).await.unwrap_err();
    }
    assert_eq!(watch.calls(), 90);
    be_refused(&mut throttle, 1).await;
    // At half the rate it never is.
    advance(secs(10)).await;
    let calls = watch.calls();
    for _ in 0..200 {
        advance(ms(200)).await;
        send(&mut throttle, overloaded()).await.unwrap_err();
    }
    assert_eq!(watch.calls(), calls + 200);
}

#[tokio::test(start_paused = true)]
async fn however_bad_it_is_the_cap_lets_some_pass() {
    let layer = builder().max_probability(0.7).build().unwrap();
    let (service, watch) = Scripted::new();
    let mut throttle = layer.layer(service);
    for _ in 0..10_000 {
        send(&mut throttle, overloaded()).await.unwrap_err();
    }
    // Five standard deviations.
    assert!(watch.calls().abs_diff(3_000) < 230, "{}", watch.calls());
}

#[tokio::test(start_paused = true)]
async fn requests_are_forgotten_after_the_window() {
    let layer = builder().build().unwrap();
    let mut throttle = layer.layer(Scripted::new().0);
    be_refused(&mut throttle, 10).await;
    advance(secs(9)).await;
    assert!(counts(&layer.handle(), CRITICAL).0 > 10);
    advance(secs(1)).await;
    assert_eq!(counts(&layer.handle(), CRITICAL), (0, 0));
    send(&mut throttle, Act::Succeed).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_throttle_that_only_observes_counts_what_it_would_refuse_and_refuses_nothing() {
    let acts = |calls: u32| match calls % 10 {
        0 => Act::Succeed,
        _ => overloaded(),
    };
    let run = async |mode: Mode| {
        let layer = builder().mode(mode).build().unwrap();
        let (service, watch) = Scripted::new();
        let mut throttle = layer.layer(service);
        let mut refused = 0_u64;
        for calls in 0..1_000 {
            let result = send(&mut throttle, acts(calls)).await;
            refused += u64::from(matches!(result, Err(Error::Rejected(_))));
        }
        (layer.handle().snapshot(CRITICAL), watch.calls(), refused)
    };
    let (enabled, _, refused) = run(Mode::Enabled).await;
    let (observes, calls, spared) = run(Mode::ObserveOnly).await;
    assert!(refused > 500);
    assert_eq!((calls, spared), (1_000, 0));
    assert_eq!(observes, enabled, "the shadow knows what it would know");
}

#[tokio::test(start_paused = true)]
async fn the_mode_is_switched_while_it_runs() {
    let layer = builder().build().unwrap();
    let (service, watch) = Scripted::new();
    let mut throttle = layer.layer(service);
    let handle = layer.handle();
    assert_eq!((handle.mode(), handle.name()), (Mode::Enabled, "db"));
    be_refused(&mut throttle, 100).await;
    let before = handle.snapshot(CRITICAL);

    for mode in [Mode::Disabled, Mode::ObserveOnly] {
        handle.set_mode(mode);
        assert_eq!(handle.mode(), mode);
        let calls = watch.calls();
        for _ in 0..100 {
            let error = send(&mut throttle, overloaded()).await.unwrap_err();
            assert!(matches!(error, Error::Said(_)));
        }
        assert_eq!(watch.calls(), calls + 100);
        if mode == Mode::Disabled {
            assert_eq!(handle.snapshot(CRITICAL), before, "nothing is counted");
        }
    }
    assert_eq!(handle.snapshot(CRITICAL).requests, before.requests + 100);
    handle.set_mode(Mode::Enabled);
    be_refused(&mut throttle, 1).await;

    handle.reset();
    assert_eq!(counts(&handle, CRITICAL), (0, 0));
    for _ in 0..100 {
        send(&mut throttle, Act::Succeed).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_began_under_a_mode_ends_under_it() {
    let layer = builder().mode(Mode::Disabled).build().unwrap();
    let mut throttle = layer.layer(Scripted::new().0);
    let call = throttle.ready().await.unwrap().call(Act::Take(ms(1)));
    layer.handle().set_mode(Mode::Enabled);
    call.await.unwrap();
    assert_eq!(counts(&layer.handle(), CRITICAL), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn all_services_of_a_layer_and_what_it_runs_share_the_throttle() {
    let all_overloaded = |_: Result<&u32, &Error>| Failure::overload().into();
    let layer = ThrottleLayer::builder(all_overloaded).minimum_rate(0.0);
    let layer = layer.build().unwrap();
    let mut one = layer.clone().layer(Scripted::new().0);
    let _ = send(&mut one, Act::Succeed).await;
    let mut other = layer.layer(one.get_ref().clone());
    let _ = send(&mut other, Act::Succeed).await;
    let mut refused = 0;
    for _ in 0..100 {
        let ran = layer.run(async { Ok::<_, Error>(1) }).await;
        refused += u32::from(ran.is_err());
    }
    assert_eq!(counts(&layer.handle(), CRITICAL), (102, 0));
    assert!(refused > 50, "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_seed_repeats_what_is_refused() {
    let run = async |seed| {
        let layer = builder().seed(seed).build().unwrap();
        let mut throttle = layer.layer(Scripted::new().0);
        let mut refused = Vec::new();
        for _ in 0..100 {
            let result = send(&mut throttle, overloaded()).await;
            refused.push(matches!(result, Err(Error::Rejected(_))));
        }
        refused
    };
    assert_eq!(run(1).await, run(1).await);
    assert_ne!(run(1).await, run(2).await);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_not_tried_again_against_the_same_service() {
    let layer = builder().build().unwrap();
    let (service, watch) = Scripted::new();
    be_refused(&mut layer.layer(service.clone()), 100).await;
    let before = (counts(&layer.handle(), CRITICAL).0, watch.calls());
    let retry = RetryLayer::builder().max_attempts(3).build().unwrap();
    let mut retry = (retry, layer.clone()).layer(service);
    let mut refused = 0;
    for _ in 0..100 {
        let result = send(&mut retry, Act::Succeed).await;
        refused += u64::from(matches!(result, Err(Error::Rejected(_))));
    }
    assert!(refused > 50);
    let after = (counts(&layer.handle(), CRITICAL).0, watch.calls());
    assert_eq!(after, (before.0 + 100, before.1 + 100 - refused as usize));
}

#[test]
fn threads_lose_no_request() {
    const CALLS: u64 = 20_000;
    let layer = builder().window(secs(3600)).multiplier(1.01).build();
    let layer = layer.unwrap();
    let inner = service_fn(|call: u64| {
        let verdict = Failure::overload().into();
        let accepted = call.is_multiple_of(2);
        std::future::ready(if accepted {
            Ok(1)
        } else {
            Err(Error::Said(verdict))
        })
    });
    let work = || {
        let mut throttle = layer.layer(inner);
        let (mut accepted, mut others) = (0, 0);
        for call in 0..CALLS {
            match poll_once(pin!(throttle.call(call))) {
                std::task::Poll::Ready(Ok(_)) => accepted += 1,
                _ => others += 1,
            }
        }
        (accepted, others)
    };
    let counted: Vec<(u64, u64)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        let joined = workers.into_iter().map(|worker| worker.join().unwrap());
        joined.collect()
    });
    let accepted = counted.iter().map(|(accepted, _)| accepted).sum();
    assert_eq!(counts(&layer.handle(), CRITICAL), (4 * CALLS, accepted));
}

#[test]
fn a_setting_that_cannot_work_is_refused_by_name() {
    #[track_caller]
    fn assert_refused(builder: ThrottleBuilder<Told>, setting: &str, value: &str, allowed: &str) {
        let error = builder.build().unwrap_err();
        assert_eq!(
            (error.setting(), error.value(), error.allowed()),
            (setting, value, allowed)
        );
    }
    for k in [
        1.0,
        1.009,
        0.0,
        -2.0,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
    ] {
        let allowed = "a finite number of at least 1.01";
        assert_refused(
            builder().multiplier(k),
            "multiplier",
            &format!("{k:?}"),
            allowed,
        );
    }
    for cap in [0.0, 0.009, 0.991, 1.0, f64::NAN, -0.5, f64::INFINITY] {
        let value = format!("{cap:?}");
        let capped = builder().max_probability(cap);
        assert_refused(capped, "max_probability", &value, "in 0.01..=0.99");
    }
    for rate in [-1.0, f64::NAN, f64::INFINITY] {
        let allowed = "a finite number of at least 0";
        let value = format!("{rate:?}");
        assert_refused(
            builder().minimum_rate(rate),
            "minimum_rate",
            &value,
            allowed,
        );
    }
    let too_long = secs(3600) + Duration::from_nanos(1);
    for window in [
        Duration::ZERO,
        ms(10) - Duration::from_nanos(1),
        too_long,
        Duration::MAX,
    ] {
        let value = format!("{window:?}");
        assert_refused(builder().window(window), "window", &value, "in 10ms..=1h");
    }
    assert_refused(
        builder().not_accepted([]),
        "not_accepted",
        "[]",
        "at least one kind",
    );

    let at_the_bounds = [
        builder()
            .multiplier(1.01)
            .max_probability(0.01)
            .window(ms(10)),
        builder()
            .multiplier(f64::MAX)
            .max_probability(0.99)
            .window(secs(3600)),
        builder().minimum_rate(f64::MAX),
    ];
    for builder in at_the_bounds {
        assert!(builder.build().is_ok());
    }
    let defaults = ThrottleLayer::new(Told).handle();
    assert_eq!(
        (defaults.name(), defaults.mode()),
        ("throttle", Mode::Enabled)
    );
}

#[tokio::test(start_paused = true)]
async fn a_classifier_that_panics_harms_no_count() {
    let panics = |_: Result<&u32, &Error>| panic!("as told");
    let layer = ThrottleLayer::new(panics);
    let throttle = layer.layer(Scripted::new().0);
    send_contained(&throttle, Act::Succeed).await.unwrap_err();
    assert_eq!(counts(&layer.handle(), CRITICAL), (0, 0));
}
