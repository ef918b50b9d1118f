//! The bulkheads and concurrency limits of others.

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::join_all;
use steadfast::{
    Reason, TimedOut,
    bulkhead::{BulkheadLayer, Queue},
};
use tokio::{sync::Notify, time::Instant, time::advance};
use tower::{
    BoxError, Layer, Service, ServiceBuilder, ServiceExt, limit::ConcurrencyLimitLayer,
    load_shed::LoadShed, service_fn,
};

use super::{begin, crowd, queued, recorded, series};
use crate::support::{Act, CountingWaker, Error, Scripted, ms, poll_once, secs, send};

fn reason(result: Result<u32, Error>) -> Reason {
    result.unwrap_err().rejected().reason()
}

// Refusals.

/// tower-resilience 0.13: `reject_when_full()` gives `BulkheadError::Timeout`, and its own
/// `is_timeout()` says so; `BulkheadFull` is made nowhere.
#[tokio::test(start_paused = true)]
async fn full_is_not_a_timeout() {
    let refuses = BulkheadLayer::new(0);
    let full = send(&mut refuses.layer(Scripted::new().0), Act::Succeed).await;
    assert_eq!(reason(full), Reason::BulkheadFull);
    let inner = service_fn(|()| async { Ok::<_, BoxError>(()) });
    let error = refuses.layer(inner).oneshot(()).await.unwrap_err();
    assert!(TimedOut::find(&*error).is_none());
}

/// tower-resilience 0.13 waits for ever by default, as do tower's and tonic's limits (tower#793,
/// grpc-rust#2189, quickwit#4859).
#[tokio::test(start_paused = true)]
async fn by_default_who_finds_it_full_is_refused_at_once() {
    let mut bulkhead = BulkheadLayer::new(1).layer(Scripted::new().0);
    let _running = begin(&mut bulkhead, Act::Hang).await;
    let second = pin!(bulkhead.ready().await.unwrap().call(Act::Succeed));
    let Poll::Ready(refused) = poll_once(second) else {
        panic!("waits");
    };
    assert_eq!(reason(refused), Reason::BulkheadFull);
}

/// tower-resilience 0.13 bounds the wait in time only, Failsafe 3.3.2 too (failsafe#328), Finagle's pool not
/// even so (`maxWaiters` has no end).
#[tokio::test(start_paused = true)]
async fn a_queue_has_an_end_in_number_and_in_time() {
    let queue = Queue::fifo(2, ms(100));
    let layer = BulkheadLayer::builder(1).queue(queue).build();
    let mut bulkhead = layer.layer(Scripted::new().0);
    let _running = begin(&mut bulkhead, Act::Hang).await;
    let before = Instant::now();
    let waiting = join_all((0..3).map(|_| bulkhead.call(Act::Succeed)));
    let reasons: Vec<_> = waiting.await.into_iter().map(reason).collect();
    let (late, full) = (Reason::QueueTimeout, Reason::BulkheadFull);
    assert_eq!(
        (reasons, before.elapsed()),
        (vec![late, late, full], ms(100))
    );
}

// Who holds what.

/// tower 0.5 `ConcurrencyLimit` and the back-pressure mode of tower-resilience 0.13: ready clones that do
/// nothing hold all permits, and a `LoadShed` above sheds (vector#26457, hyper#3559, hyper-util#297,
/// linkerd2-proxy#751, tower#434).
#[tokio::test(start_paused = true)]
async fn ready_clones_that_do_nothing_hold_no_permit() {
    let inner = service_fn(|()| async { Ok::<_, BoxError>(7) });
    let service = LoadShed::new(BulkheadLayer::new(2).layer(inner));
    let mut idle = [service.clone(), service.clone()];
    for clone in &mut idle {
        clone.ready().await.unwrap();
    }
    assert_eq!(service.oneshot(()).await.unwrap(), 7);
}

/// tower-resilience 0.13 makes the inner service ready and then waits: who queues keeps its readiness from
/// those who go past the bulkhead.
#[tokio::test(start_paused = true)]
async fn who_waits_for_a_permit_holds_nothing_of_the_service() {
    let limited = ServiceBuilder::new()
        .layer(ConcurrencyLimitLayer::new(2))
        .service(Scripted::new().0);
    let mut bulkhead = queued(1).layer(limited.clone());
    let _running = begin(&mut bulkhead, Act::Hang).await;
    let _waiting = begin(&mut bulkhead, Act::Hang).await;
    let mut past = limited;
    let past = tokio::time::timeout(secs(1), send(&mut past, Act::Succeed));
    assert_eq!(past.await, Ok(Ok(1)));
}

/// tower-resilience 0.13: a layer applied twice makes two bulkheads.
#[tokio::test(start_paused = true)]
async fn all_services_of_a_layer_and_all_their_clones_share_its_permits() {
    let layer = BulkheadLayer::new(1);
    let one = layer.layer(Scripted::new().0);
    let other = layer.clone().layer(Scripted::new().0);
    let _running = begin(&mut one.clone(), Act::Hang).await;
    for mut route in [one, other] {
        let refused = send(&mut route, Act::Succeed).await;
        assert_eq!(reason(refused), Reason::BulkheadFull);
    }
}

/// tower-resilience 0.13: the gauge of calls in flight is not told of one that is dropped.
#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_leaves_the_gauge() {
    let (layer, metrics) = recorded(|| BulkheadLayer::new(2));
    let mut bulkhead = layer.layer(Scripted::new().0);
    // A gauge that is only moved starts from zero at each look.
    let moved = || series(&metrics, "steadfast_bulkhead_in_flight");
    let running = begin(&mut bulkhead, Act::Hang).await;
    assert_eq!(moved(), [(String::new(), 1.0)]);
    drop(running);
    assert_eq!(moved(), [(String::new(), -1.0)]);
}

// The count.

/// Failsafe 3.3.2, failsafe#393: a waiter who gives up after his time takes a permit with him for ever.
#[tokio::test(start_paused = true)]
async fn a_waiter_who_gives_up_takes_no_permit_with_him() {
    let queue = Queue::fifo(9, ms(100));
    let layer = BulkheadLayer::builder(1).queue(queue).build();
    let (mut bulkhead, handle) = (layer.layer(Scripted::new().0), layer.handle());
    for _ in 0..10 {
        let running = begin(&mut bulkhead, Act::Hang).await;
        let late = bulkhead.call(Act::Succeed).await;
        assert_eq!(reason(late), Reason::QueueTimeout);
        let leaves = begin(&mut bulkhead, Act::Succeed).await;
        drop(running); // the permit is the waiter's, who goes without having looked
        drop(leaves);
        assert_eq!((handle.in_flight(), handle.waiting()), (0, 0));
    }
    assert_eq!(send(&mut bulkhead, Act::Succeed).await, Ok(1));
}

/// failsafe#365: permits were miscounted as waiters took them over, and of three the third was never called.
#[tokio::test(start_paused = true)]
async fn all_who_wait_are_served_to_the_last() {
    let layer = queued(1);
    let bulkhead = layer.layer(Scripted::new().0);
    let calls = (0..5).map(|_| bulkhead.clone().call(Act::Take(ms(1))));
    assert_eq!(join_all(calls).await, [Ok(1); 5]);
    assert_eq!(
        (layer.handle().in_flight(), layer.handle().waiting()),
        (0, 0)
    );
}

/// concurrency-limits#140, #234 (fixed for one of its limiters in #233), and Envoy's concurrency filter: look
/// first and count after, and threads that look at once are all let in. Every order of a few is gone
/// through by loom (`src/permits/loom_tests.rs`).
#[tokio::test(start_paused = true)]
async fn of_threads_that_ask_at_once_no_more_are_let_in_than_the_limit() {
    for _ in 0..10 {
        let (service, watch) = Scripted::new();
        let layer = BulkheadLayer::new(2);
        crowd(&layer.layer(service));
        assert_eq!((watch.most(), layer.handle().in_flight()), (2, 0));
    }
}

/// concurrency-limits#78: `>` for `>=`, and one more is let in than the limit.
#[tokio::test(start_paused = true)]
async fn the_limit_itself_is_let_in_and_not_one_more() {
    for limit in 0..5 {
        let (service, watch) = Scripted::new();
        let bulkhead = BulkheadLayer::new(limit).layer(service);
        let calls = (0..9).map(|_| {
            let mut bulkhead = bulkhead.clone();
            async move { send(&mut bulkhead, Act::Take(ms(1))).await }
        });
        join_all(calls).await;
        assert_eq!((watch.calls(), watch.most()), (limit, limit));
    }
}

/// concurrency-limits, `BlockingLimiter`: every permit that comes back wakes all who wait, and whoever is
/// quickest has it.
#[tokio::test(start_paused = true)]
async fn a_permit_that_comes_back_wakes_one_waiter_and_he_was_the_first() {
    let mut bulkhead = queued(1).layer(Scripted::new().0);
    let gate = Arc::new(Notify::new());
    let mut running = begin(&mut bulkhead, Act::Await(gate.clone())).await;
    let mut waiting: Vec<_> = (0..5)
        .map(|_| (Box::pin(bulkhead.call(Act::Succeed)), CountingWaker::new()))
        .collect();
    for (call, (_, waker)) in &mut waiting {
        let polled = call.as_mut().poll(&mut Context::from_waker(waker));
        assert!(polled.is_pending());
    }
    gate.notify_one();
    assert!(poll_once(running.as_mut()).is_ready());
    let woken: Vec<_> = waiting
        .iter()
        .map(|(_, (count, _))| count.woken())
        .collect();
    assert_eq!(woken, [1, 0, 0, 0, 0]);
    assert!(poll_once(waiting[1].0.as_mut()).is_pending());
    assert_eq!(poll_once(waiting[0].0.as_mut()), Poll::Ready(Ok(1)));
}

/// resilience4j's `changeConfig` lowers a limit by taking the permits, and waits for those in use.
#[tokio::test(start_paused = true)]
async fn to_lower_the_limit_waits_for_nobody() {
    let layer = BulkheadLayer::new(3);
    let (mut bulkhead, handle) = (layer.layer(Scripted::new().0), layer.handle());
    let mut running = Vec::new();
    for _ in 0..3 {
        running.push(begin(&mut bulkhead, Act::Take(secs(1))).await);
    }
    handle.resize(1); // on the thread of those who run, who would never end
    assert_eq!((handle.limit(), handle.in_flight()), (1, 3));
    advance(secs(1)).await;
    for call in running {
        assert_eq!(call.await, Ok(1), "and nobody is cut");
    }
    let _running = begin(&mut bulkhead, Act::Hang).await;
    let refused = send(&mut bulkhead, Act::Succeed).await;
    assert_eq!(reason(refused), Reason::BulkheadFull);
}
