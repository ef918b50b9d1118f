//! Settings, modes, and the handle.

use std::pin::pin;

use futures_util::future::join_all;
use steadfast::{
    InvalidSetting, Reason,
    adaptive::{Mode, Vegas},
    queue::Queue,
};
use tokio::time::{Instant, advance};
use tower::{Service, ServiceExt};

use super::*;
use crate::support::{Act, Error, poll_once, secs, send};

fn refused(
    set: impl FnOnce(AdaptiveBuilder<Vegas>) -> AdaptiveBuilder<Vegas>,
) -> (&'static str, String) {
    let result = set(AdaptiveLayer::builder().algorithm(Vegas::default())).build();
    let error: InvalidSetting = result.map(drop).unwrap_err();
    (error.setting(), error.allowed().to_owned())
}

#[test]
fn limits_that_cannot_be_are_refused_when_the_layer_is_built() {
    let (name, allowed) = refused(|builder| builder.min_limit(0));
    assert_eq!((name, &*allowed), ("min_limit", "in 1..=1000"));
    let (name, allowed) = refused(|builder| builder.min_limit(9).max_limit(8));
    assert_eq!((name, &*allowed), ("min_limit", "in 1..=8"));
    for max in [0, 2_097_152, usize::MAX] {
        let (name, allowed) = refused(|builder| builder.max_limit(max));
        assert_eq!((name, &*allowed), ("max_limit", "in 1..=2097151"));
    }
    for initial in [0, 4, 31] {
        let (name, allowed) = refused(|builder| {
            let builder = builder.min_limit(5).max_limit(30);
            builder.initial_limit(initial)
        });
        assert_eq!((name, &*allowed), ("initial_limit", "in 5..=30"));
    }
    let (name, _) = refused(|builder| builder.sampling(Windows::default().least_calls(0)));
    assert_eq!(name, "least_calls");
}

#[test]
fn the_limit_begins_at_twenty_or_at_the_bound_that_is_nearest() {
    let initial = |min, max| {
        let builder = AdaptiveLayer::builder().algorithm(Vegas::default());
        let layer = builder.min_limit(min).max_limit(max).build().unwrap();
        layer.handle().limit()
    };
    assert_eq!(initial(1, 1000), 20);
    assert_eq!(initial(1, 8), 8);
    assert_eq!(initial(50, 80), 50);
}

/// How many of so many at once are admitted.
async fn admitted(service: &Svc, calls: usize) -> usize {
    let results = join_all((0..calls).map(|_| {
        let mut service = service.clone();
        async move { send(&mut service, Act::Take(ms(10))).await }
    }))
    .await;
    for error in results.iter().filter_map(|result| result.err()) {
        let rejected = error.rejected();
        let why = (rejected.layer(), rejected.reason());
        assert_eq!(why, ("db", Reason::LimitReached));
    }
    results.iter().filter(|result| result.is_ok()).count()
}

#[tokio::test(start_paused = true)]
async fn as_many_run_at_once_as_the_limit_and_the_rest_is_refused_at_once() {
    let (spy, service, handle, watch) = spied(3);
    assert_eq!(admitted(&service, 10).await, 3);
    assert_eq!((watch.most(), watch.calls()), (3, 3));
    let last = *spy.told().last().unwrap();
    assert_eq!(
        (last.in_flight, last.limited),
        (1, false),
        "the last was alone"
    );
    assert_eq!(handle.in_flight(), 0);
    spy.say(5.7);
    admitted(&service, 1).await;
    assert_eq!(admitted(&service, 10).await, 5);
}

#[tokio::test(start_paused = true)]
async fn a_sample_tells_whether_the_limit_was_reached_and_how_many_were_in_flight() {
    let (spy, service, ..) = spied(3);
    for (calls, in_flight, limited) in [(2, 2, false), (3, 3, true), (9, 3, true)] {
        admitted(&service, calls).await;
        let first = spy.told()[0];
        assert_eq!((first.in_flight, first.limited), (in_flight, limited));
    }
}

#[tokio::test(start_paused = true)]
async fn what_only_observes_refuses_nothing_and_says_what_it_would_have_refused() {
    let spy = Spy::default();
    let (service, handle, watch) = of(spy.clone(), |builder| {
        builder.initial_limit(3).mode(Mode::ObserveOnly)
    });
    assert_eq!(admitted(&service, 10).await, 10);
    assert_eq!(watch.most(), 10);
    let told = spy.told();
    assert_eq!(told.len(), 3, "the others have no say");
    assert!(told[0].limited);
    assert_eq!(handle.in_flight(), 0);
    handle.set_mode(Mode::Enabled);
    assert_eq!(admitted(&service, 10).await, 3);
}

#[tokio::test(start_paused = true)]
async fn what_is_disabled_refuses_nothing_and_is_told_nothing() {
    let (spy, service, handle, _) = spied(3);
    handle.set_mode(Mode::Disabled);
    assert_eq!(handle.mode(), Mode::Disabled);
    assert_eq!(admitted(&service, 10).await, 10);
    assert_eq!((spy.told().len(), handle.in_flight()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn calls_in_flight_go_on_as_they_began_when_the_mode_changes() {
    let (spy, mut service, handle, _) = spied(1);
    let mut early = Box::pin(service.ready().await.unwrap().call(Act::Hang));
    assert!(poll_once(early.as_mut()).is_pending());
    handle.set_mode(Mode::Disabled);
    let mut unseen = Box::pin(service.ready().await.unwrap().call(Act::Hang));
    assert!(poll_once(unseen.as_mut()).is_pending());
    assert_eq!(handle.in_flight(), 1);
    handle.set_mode(Mode::Enabled);
    drop(unseen);
    assert_eq!(handle.in_flight(), 1, "it held none");
    drop(early);
    assert_eq!((handle.in_flight(), spy.told().len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_handle_sets_the_limit_within_its_bounds_and_the_algorithm_goes_on_from_there() {
    let (spy, service, handle, _) = spied(20);
    for (wanted, limit) in [(5, 5), (0, 1), (usize::MAX, 1000)] {
        handle.set_limit(wanted);
        assert_eq!(handle.limit(), limit);
    }
    handle.set_bounds(2, 4).unwrap();
    assert_eq!(handle.limit(), 4);
    assert_eq!(admitted(&service, 9).await, 4);
    spy.say(100.0);
    admitted(&service, 1).await;
    assert_eq!(handle.limit(), 4);
    handle.set_bounds(7, 7).unwrap(); // fixed
    for says in [1.0, 100.0] {
        spy.say(says);
        assert_eq!(admitted(&service, 9).await, 7);
    }
    assert_eq!(handle.set_bounds(0, 4).unwrap_err().setting(), "min_limit");
    assert_eq!(handle.set_bounds(5, 4).unwrap_err().setting(), "min_limit");
    assert_eq!(handle.limit(), 7, "nothing was changed by that");
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_shows_all_there_is_to_see() {
    let (spy, mut service, handle, _) = spied(20);
    assert_eq!(handle.name(), "db");
    assert_eq!(handle.snapshot().sample, None);
    spy.say(10.5);
    send(&mut service, Act::Take(ms(30))).await.unwrap();
    let mut hangs = Box::pin(service.ready().await.unwrap().call(Act::Hang));
    assert!(poll_once(hangs.as_mut()).is_pending());
    let snapshot = handle.snapshot();
    assert_eq!((snapshot.limit, handle.limit()), (10.5, 10));
    assert_eq!((snapshot.min_limit, snapshot.max_limit), (1, 1000));
    assert_eq!((snapshot.in_flight, snapshot.waiting), (1, 0));
    assert_eq!(snapshot.mode, Mode::Enabled);
    assert_eq!(snapshot.sample, Some(spy.told_one()));
    advance(ms(1)).await;
}

#[tokio::test(start_paused = true)]
async fn all_services_of_a_layer_and_of_its_clones_share_one_limit() {
    let layer = AdaptiveLayer::builder()
        .algorithm(Spy::default())
        .initial_limit(1);
    let layer = layer.build().unwrap();
    let mut one = layer.layer(Scripted::new().0);
    let mut other = layer.clone().layer(Scripted::new().0);
    let mut hangs = Box::pin(one.ready().await.unwrap().call(Act::Hang));
    assert!(poll_once(hangs.as_mut()).is_pending());
    send(&mut other, Act::Succeed).await.unwrap_err().rejected();
    send(&mut one.clone(), Act::Succeed)
        .await
        .unwrap_err()
        .rejected();
}

#[tokio::test(start_paused = true)]
async fn with_a_queue_calls_wait_for_their_turn_and_the_wait_is_no_part_of_the_latency() {
    let spy = Spy::default();
    let queue = Queue::fifo(2, ms(100));
    let builder = AdaptiveLayer::builder()
        .algorithm(spy.clone())
        .name("db")
        .initial_limit(1);
    let layer = builder.queue(queue).build().unwrap();
    let handle = layer.handle();
    let mut service = layer.layer(Scripted::new().0);
    let before = Instant::now();
    let calls: Vec<_> = (0..4).map(|_| service.call(Act::Take(ms(70)))).collect();
    let mut calls = pin!(join_all(calls));
    assert!(poll_once(calls.as_mut()).is_pending());
    assert_eq!((handle.in_flight(), handle.waiting()), (1, 2));
    let results = calls.await;
    let why = |result: Result<u32, Error>| result.map_err(|error| error.rejected().reason());
    let results: Vec<_> = results.into_iter().map(why).collect();
    let (full, late) = (Reason::LimitReached, Reason::QueueTimeout);
    assert_eq!(results, [Ok(1), Ok(1), Err(late), Err(full)]);
    assert_eq!(before.elapsed(), ms(140));
    let told = spy.told();
    let latencies: Vec<_> = told.iter().map(|sample| sample.latency).collect();
    assert_eq!(latencies, [Some(ms(70)); 2]);
    assert!(told[0].limited);
    assert_eq!((handle.in_flight(), handle.waiting()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_higher_limit_lets_in_those_who_wait() {
    let spy = Spy::default();
    let queue = Queue::fifo(9, secs(1));
    let layer = AdaptiveLayer::builder()
        .algorithm(spy.clone())
        .initial_limit(1);
    let layer = layer.queue(queue).build().unwrap();
    let handle = layer.handle();
    let mut service = layer.layer(Scripted::new().0);
    let first = tokio::spawn(service.call(Act::Take(ms(10))));
    tokio::task::yield_now().await;
    let calls: Vec<_> = (0..5)
        .map(|_| tokio::spawn(service.call(Act::Hang)))
        .collect();
    tokio::task::yield_now().await;
    assert_eq!((handle.in_flight(), handle.waiting()), (1, 5));
    // By the algorithm, when a call is answered.
    spy.say(3.0);
    first.await.unwrap().unwrap();
    tokio::task::yield_now().await;
    assert_eq!((handle.in_flight(), handle.waiting()), (3, 2));
    // And by hand.
    handle.set_limit(4);
    assert_eq!((handle.in_flight(), handle.waiting()), (4, 1));
    for call in calls {
        call.abort();
    }
    while handle.in_flight() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_only_observes_or_is_disabled_makes_nobody_wait() {
    for mode in [Mode::ObserveOnly, Mode::Disabled] {
        let layer = AdaptiveLayer::builder()
            .algorithm(Spy::default())
            .initial_limit(1);
        let layer = layer.mode(mode).queue(Queue::fifo(9, secs(9)));
        let layer = layer.build().unwrap();
        let mut service = layer.layer(Scripted::new().0);
        let before = Instant::now();
        let calls: Vec<_> = (0..4).map(|_| service.call(Act::Take(ms(10)))).collect();
        assert!(join_all(calls).await.iter().all(Result::is_ok));
        assert_eq!(before.elapsed(), ms(10), "{mode:?}");
        assert_eq!(layer.handle().in_flight(), 0);
    }
}
