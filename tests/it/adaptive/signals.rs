//! What calls tell, and what they do not.

use std::{panic::AssertUnwindSafe, pin::pin, sync::Arc};

use futures_util::future::join_all;
use steadfast::{
    Context, Reason, Verdict,
    adaptive::{AdaptiveLayer, Aimd, Gradient2, Vegas},
    bulkhead::BulkheadLayer,
    classify::{Failure, FailureKind},
    timeout::TimeoutLayer,
};
use tokio::{sync::Notify, time::advance};
use tower::{Layer, Service, ServiceBuilder, ServiceExt};

use super::*;
use crate::support::{Act, Error, poll_once, secs, send, send_and_drop, send_contained};

fn failure(kind: FailureKind) -> Verdict {
    let failure = match kind {
        FailureKind::Transient => Failure::transient(),
        FailureKind::Overload => Failure::overload(),
        FailureKind::Timeout => Failure::timeout(),
        FailureKind::Permanent => Failure::permanent(),
        FailureKind::NeverSent => Failure::never_sent(),
        _ => unreachable!(),
    };
    failure.into()
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_answered_tells_how_long_it_took() {
    let (spy, mut service, ..) = spied(20);
    advance(secs(2)).await;
    send(&mut service, Act::Take(ms(30))).await.unwrap();
    let sample = spy.told_one();
    assert_eq!(sample.latency, Some(ms(30)));
    assert_eq!(sample.min_latency, Some(ms(30)));
    assert_eq!((sample.now, sample.elapsed), (ms(2_030), ms(2_030)));
    let counts = (sample.measured, sample.completed, sample.dropped);
    assert_eq!((counts, sample.in_flight), ((1, 1, 0), 1));
    assert!(!sample.limited);
}

#[tokio::test(start_paused = true)]
async fn overload_and_timeouts_are_drops_and_what_says_nothing_of_the_load_is_ignored() {
    let (spy, mut service, ..) = spied(20);
    let says = [
        (failure(FailureKind::Overload), Some(1)),
        (failure(FailureKind::Timeout), Some(1)),
        (failure(FailureKind::Transient), None),
        (failure(FailureKind::Permanent), None),
        (failure(FailureKind::NeverSent), None),
        (Verdict::Ignored, None),
    ];
    for (verdict, dropped) in says {
        send(&mut service, Act::Say(verdict)).await.unwrap_err();
        let told: Vec<_> = spy.told().iter().map(|sample| sample.dropped).collect();
        assert_eq!(told, Vec::from_iter(dropped), "{verdict:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_fails_fast_is_not_taken_for_fast() {
    let (spy, mut service, ..) = spied(20);
    send(&mut service, Act::Take(ms(30))).await.unwrap();
    send(&mut service, Act::Fail(1)).await.unwrap_err();
    send(&mut service, Act::FailAfter(ms(50)))
        .await
        .unwrap_err();
    let told = spy.told();
    let latencies: Vec<_> = told.iter().map(|sample| sample.latency).collect();
    assert_eq!(latencies, [Some(ms(30)), Some(ms(50))]);
    assert_eq!(told[1].min_latency, None);
    assert_eq!(told[1].completed, 2, "the service has had the work of both");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_its_caller_drops_tells_that_it_would_have_taken_longer() {
    let (spy, mut service, handle, _) = spied(20);
    send(&mut service, Act::Take(ms(30))).await.unwrap();
    spy.told();
    for (waited, latency) in [(ms(10), None), (ms(30), None), (ms(70), Some(ms(70)))] {
        let mut call = Box::pin(service.ready().await.unwrap().call(Act::Hang));
        assert!(poll_once(call.as_mut()).is_pending());
        advance(waited).await;
        drop(call);
        let told = spy.told();
        let latencies: Vec<_> = told.iter().filter_map(|sample| sample.latency).collect();
        assert_eq!(latencies, Vec::from_iter(latency), "{waited:?}");
        let nothing = |it: &Sample| (it.completed, it.dropped, it.min_latency) == (0, 0, None);
        assert!(told.iter().all(nothing));
    }
    assert_eq!(handle.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn hangs_that_their_callers_give_up_raise_no_limit() {
    let algorithms: [(&str, Box<dyn Limit>); 3] = [
        ("aimd", Box::new(Aimd::default())),
        ("vegas", Box::new(Vegas::default().seed(1))),
        ("gradient2", Box::new(Gradient2::default())),
    ];
    for (name, algorithm) in algorithms {
        let (mut service, handle, _) = of(algorithm, |builder| builder);
        for _ in 0..20 {
            send(&mut service, Act::Take(ms(30))).await.unwrap();
        }
        let before = handle.limit();
        for waited in [10, 40, 20, 100].repeat(10) {
            let mut calls = Vec::new();
            while handle.in_flight() < handle.limit() {
                calls.push(Box::pin(service.ready().await.unwrap().call(Act::Hang)));
            }
            advance(ms(waited)).await;
            drop(calls);
        }
        assert!(handle.limit() <= before, "{name}: {}", handle.limit());
    }
}

#[tokio::test(start_paused = true)]
async fn in_a_window_of_hangs_that_were_given_up_the_latency_is_not_that_of_the_few_that_were_fast()
{
    let spy = Spy::default();
    let (mut service, ..) = of(spy.clone(), |builder| builder.sampling(short_windows()));
    for _ in 0..4 {
        send(&mut service, Act::Take(ms(1))).await.unwrap();
        for _ in 0..2 {
            let mut call = Box::pin(service.ready().await.unwrap().call(Act::Hang));
            assert!(poll_once(call.as_mut()).is_pending());
            advance(ms(40)).await;
        }
    }
    let sample = spy.told()[0];
    let latency = sample.latency.unwrap();
    assert!(latency > ms(30), "{latency:?}");
    assert_eq!(sample.min_latency, Some(ms(1)));
}

#[tokio::test(start_paused = true)]
async fn a_timeout_of_ours_below_or_above_is_a_drop() {
    // Below: it comes back as an error.
    let spy = Spy::default();
    let layer = AdaptiveLayer::builder()
        .algorithm(spy.clone())
        .build()
        .unwrap();
    let timeout = TimeoutLayer::new(ms(50)).unwrap();
    let mut below = (&layer, &timeout).layer(Scripted::new().0);
    send(&mut below, Act::Take(ms(80)))
        .await
        .unwrap_err()
        .timed_out();
    assert_eq!(spy.told_one().dropped, 1);

    // Above: the call is dropped.
    let mut above = (&timeout, &layer).layer(Scripted::new().0);
    send(&mut above, Act::Take(ms(80)))
        .await
        .unwrap_err()
        .timed_out();
    assert_eq!(spy.told_one().dropped, 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_after_its_deadline_is_a_drop_and_before_it_is_not() {
    for (waited, dropped) in [(ms(49), 0), (ms(50), 1)] {
        let (spy, mut service, ..) = spied(20);
        let deadline = tokio::time::Instant::now() + ms(50);
        let mut call = Box::pin(
            Context::default()
                .with_deadline(deadline)
                .scope(async move {
                    let _ = send(&mut service, Act::Hang).await;
                }),
        );
        assert!(poll_once(call.as_mut()).is_pending());
        advance(waited).await;
        drop(call);
        let told = spy.told().iter().map(|sample| sample.dropped).sum::<u32>();
        assert_eq!(told, dropped, "{waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_before_it_is_polled_gives_its_permit_back() {
    let (spy, mut service, handle, _) = spied(1);
    for _ in 0..3 {
        let call = service.ready().await.unwrap().call(Act::Hang);
        assert_eq!(handle.in_flight(), 1);
        drop(call);
        assert_eq!(handle.in_flight(), 0);
    }
    assert!(spy.told().iter().all(|sample| sample.dropped == 0));
}

#[tokio::test(start_paused = true)]
async fn a_panic_gives_the_permit_back_and_is_not_taken_for_fast() {
    let (spy, mut service, handle, _) = spied(2);
    send(&mut service, Act::Take(ms(30))).await.unwrap();
    for act in [Act::Panic, Act::PanicInCall] {
        send_contained(&service, act).await.unwrap_err();
    }
    assert_eq!(handle.in_flight(), 0);
    assert_eq!(spy.told_one().latency, Some(ms(30)));
}

#[tokio::test(start_paused = true)]
async fn what_a_layer_below_refused_tells_nothing() {
    let spy = Spy::default();
    let layer = AdaptiveLayer::builder()
        .algorithm(spy.clone())
        .build()
        .unwrap();
    let mut service = (&layer, BulkheadLayer::new(0)).layer(Scripted::new().0);
    let rejected = send(&mut service, Act::Succeed)
        .await
        .unwrap_err()
        .rejected();
    assert_eq!(rejected.reason(), Reason::BulkheadFull);
    assert_eq!(spy.told(), []);
}

#[tokio::test(start_paused = true)]
async fn ten_drops_in_one_round_trip_lower_the_limit_once() {
    let (service, handle, _) = of(Aimd::default(), |builder| builder.initial_limit(100));
    let overload = Act::Say(failure(FailureKind::Overload));
    let round = || {
        let call = |_| {
            let mut service = service.clone();
            assert!(poll_once(pin!(service.ready())).is_ready());
            service.call(overload.clone())
        };
        (0..10).map(call).collect::<Vec<_>>()
    };
    for limit in [90, 81, 72] {
        // All ten are in flight before the first of them is told of.
        let calls = round();
        assert_eq!(handle.in_flight(), 10);
        assert!(join_all(calls).await.iter().all(Result::is_err));
        assert_eq!(handle.limit(), limit);
    }
}

#[tokio::test(start_paused = true)]
async fn calls_that_began_before_the_last_change_do_not_judge_the_limit_after_it() {
    let (spy, mut service, handle, _) = spied(20);
    let gate = Arc::new(Notify::new());
    let mut early = Box::pin(
        service
            .ready()
            .await
            .unwrap()
            .call(Act::Await(gate.clone())),
    );
    assert!(poll_once(early.as_mut()).is_pending());
    spy.say(19.0);
    send(&mut service, Act::Take(ms(30))).await.unwrap();
    assert_eq!((handle.limit(), spy.told().len()), (19, 1));

    gate.notify_one();
    early.await.unwrap();
    assert_eq!(spy.told(), []);
    // It is done, though, and that is told.
    send(&mut service, Act::Take(ms(10))).await.unwrap();
    let sample = spy.told_one();
    assert_eq!((sample.completed, sample.measured), (2, 1));
    assert_eq!(sample.latency, Some(ms(10)));
}

#[tokio::test(start_paused = true)]
async fn a_window_lasts_a_round_trip_however_long_it_is() {
    let spy = Spy::default();
    let (mut service, handle, _) = of(spy.clone(), |builder| builder.sampling(short_windows()));
    let mut early = Box::pin(service.ready().await.unwrap().call(Act::Take(secs(20))));
    assert!(poll_once(early.as_mut()).is_pending());
    handle.set_limit(19);
    let mut late = Box::pin(service.ready().await.unwrap().call(Act::Take(secs(30))));
    assert!(poll_once(late.as_mut()).is_pending());
    early.await.unwrap();
    assert_eq!(
        spy.told(),
        [],
        "what began before the change ends no window"
    );
    late.await.unwrap();
    let sample = spy.told_one();
    assert_eq!((sample.measured, sample.completed), (1, 2));
    assert_eq!(sample.min_latency, Some(secs(30)));
}

#[tokio::test(start_paused = true)]
async fn requests_that_are_not_sampled_hold_a_permit_and_tell_nothing() {
    let spy = Spy::default();
    let layer = AdaptiveLayer::builder()
        .algorithm(spy.clone())
        .initial_limit(1)
        .classifier(Told)
        .sample_if(|act: &Act| !matches!(act, Act::Hang | Act::Say(_)))
        .build()
        .unwrap();
    let mut service = layer.layer(Scripted::new().0);
    let mut poll = Box::pin(service.ready().await.unwrap().call(Act::Hang));
    assert!(poll_once(poll.as_mut()).is_pending());
    assert_eq!(layer.handle().in_flight(), 1);
    let refused = send(&mut service, Act::Succeed).await.unwrap_err();
    assert_eq!(refused.rejected().reason(), Reason::LimitReached);
    drop(poll);
    let overload = Act::Say(failure(FailureKind::Overload));
    send(&mut service, overload).await.unwrap_err();
    assert_eq!((layer.handle().in_flight(), spy.told()), (0, vec![]));
    send(&mut service, Act::Succeed).await.unwrap();
    assert_eq!(spy.told().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_window_tells_its_quantile_when_it_has_lasted_long_enough_and_seen_enough_calls() {
    let spy = Spy::default();
    let windows = short_windows()
        .length(ms(100), ms(1_000))
        .least_calls(10)
        .quantile(0.9);
    let (mut service, ..) = of(spy.clone(), |builder| builder.sampling(windows));
    for call in 1..=20 {
        send(&mut service, Act::Take(ms(call))).await.unwrap();
        // 1 ms, 3 ms, 6 ms …: the 14th ends at 105 ms.
        assert_eq!(
            spy.told.lock().unwrap().len(),
            usize::from(call >= 14),
            "{call}"
        );
    }
    let sample = spy.told_one();
    assert_eq!((sample.elapsed, sample.measured), (ms(105), 14));
    let latency = sample.latency.unwrap();
    assert!(latency.abs_diff(ms(13)) < ms(13) / 31, "{latency:?}");

    // Too few are waited for, up to a second after the first.
    let (mut service, ..) = of(spy.clone(), |builder| builder.sampling(windows));
    for call in 1..=5 {
        send(&mut service, Act::Take(ms(250))).await.unwrap();
        assert_eq!(spy.told.lock().unwrap().len(), usize::from(call == 5));
    }
    assert_eq!(spy.told_one().measured, 5);
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_panics_harms_neither_the_call_nor_the_layer() {
    struct Panics;
    impl Limit for Panics {
        fn next(&mut self, _: f64, _: &Sample) -> f64 {
            std::panic::resume_unwind(Box::new("as told"));
        }
        fn sampling(&self) -> Sampling {
            Sampling::EveryCall
        }
    }
    let (mut service, handle, _) = of(Panics, |builder| builder);
    for _ in 0..3 {
        assert_eq!(send(&mut service, Act::Succeed).await, Ok(1));
        send_and_drop(&mut service, Act::Hang).await;
        // Here it panics while the call unwinds.
        send_contained(&service, Act::Panic).await.unwrap_err();
    }
    assert_eq!((handle.limit(), handle.in_flight()), (20, 0));
}

#[tokio::test(start_paused = true)]
async fn a_classifier_or_a_choice_of_samples_that_panics_leaves_no_permit_behind() {
    let layer = AdaptiveLayer::builder()
        .algorithm(Spy::default())
        .classifier(|_: Result<&u32, &Error>| -> Verdict { panic!("as told") })
        .build()
        .unwrap();
    let service = layer.layer(Scripted::new().0);
    send_contained(&service, Act::Succeed).await.unwrap_err();
    assert_eq!(layer.handle().in_flight(), 0);

    let layer = AdaptiveLayer::builder()
        .algorithm(Spy::default())
        .sample_if(|_: &Act| -> bool { panic!("as told") })
        .build()
        .unwrap();
    let mut service = ServiceBuilder::new()
        .layer(&layer)
        .service(Scripted::new().0);
    service.ready().await.unwrap();
    let call = AssertUnwindSafe(|| drop(service.call(Act::Succeed)));
    assert!(std::panic::catch_unwind(call).is_err());
    assert_eq!(layer.handle().in_flight(), 0);
}
