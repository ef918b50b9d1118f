//! The bulkhead as its users see it.

use std::{pin::pin, sync::Arc, task::Poll};

use futures_util::future::join_all;
use steadfast::{
    Context, Reason,
    bulkhead::{Bulkhead, BulkheadHandle, BulkheadLayer, Queue, QueuedBulkhead},
};
use tokio::{
    sync::Notify,
    time::{Instant, advance, timeout},
};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, limit::ConcurrencyLimitLayer};

use crate::support::{Act, Error, Scripted, Watch, ms, poll_once, secs, send, send_contained};

fn refusing(max: usize) -> (Bulkhead<Scripted>, BulkheadHandle, Watch) {
    let layer = BulkheadLayer::builder(max).name("db").build();
    let (service, watch) = Scripted::new();
    (layer.layer(service), layer.handle(), watch)
}

fn queued(max: usize, queue: Queue) -> (QueuedBulkhead<Scripted>, BulkheadHandle, Watch) {
    let layer = BulkheadLayer::builder(max).queue(queue).build();
    let (service, watch) = Scripted::new();
    (layer.layer(service), layer.handle(), watch)
}

fn reason(result: Result<u32, Error>) -> Reason {
    result.unwrap_err().rejected().reason()
}

#[tokio::test(start_paused = true)]
async fn at_most_so_many_run_at_once_over_all_clones_and_the_rest_is_refused_as_full() {
    let (bulkhead, handle, watch) = refusing(3);
    let results = join_all((0..10).map(|_| {
        let mut clone = bulkhead.clone();
        async move { send(&mut clone, Act::Take(secs(1))).await }
    }))
    .await;
    let (admitted, refused): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!((admitted.len(), watch.most()), (3, 3));
    for result in refused {
        let rejected = result.unwrap_err().rejected();
        assert_eq!(
            (rejected.layer(), rejected.reason()),
            ("db", Reason::BulkheadFull)
        );
    }
    assert_eq!(handle.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn zero_permits_refuse_everything_and_no_time_passes() {
    let (mut bulkhead, _, watch) = refusing(0);
    let before = Instant::now();
    assert_eq!(
        reason(send(&mut bulkhead, Act::Succeed).await),
        Reason::BulkheadFull
    );
    assert_eq!((Instant::now(), watch.calls()), (before, 0));
}

#[tokio::test(start_paused = true)]
async fn a_zero_wait_or_a_zero_queue_refuses_at_once() {
    for queue in [
        Queue::fifo(9, ms(0)),
        Queue::fifo(0, secs(9)),
        Queue::lifo(0, secs(9)),
    ] {
        let (mut bulkhead, handle, _) = queued(1, queue);
        let mut first = pin!(bulkhead.call(Act::Hang));
        assert!(poll_once(first.as_mut()).is_pending());
        let second = poll_once(pin!(bulkhead.call(Act::Succeed)));
        let Poll::Ready(second) = second else {
            panic!("waits")
        };
        assert_eq!(
            (reason(second), handle.waiting()),
            (Reason::BulkheadFull, 0)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn waiting_is_bounded_in_time_and_in_number_together() {
    let (mut bulkhead, handle, watch) = queued(1, Queue::fifo(2, ms(100)));
    let mut running = pin!(bulkhead.call(Act::Hang));
    assert!(poll_once(running.as_mut()).is_pending());
    let before = Instant::now();
    let mut waiting = pin!(join_all((0..3).map(|_| bulkhead.call(Act::Succeed))));
    assert!(poll_once(waiting.as_mut()).is_pending());
    assert_eq!((handle.in_flight(), handle.waiting()), (1, 2));

    let reasons: Vec<_> = waiting.await.into_iter().map(reason).collect();
    let (timed_out, full) = (Reason::QueueTimeout, Reason::BulkheadFull);
    assert_eq!(reasons, [timed_out, timed_out, full]);
    assert_eq!(before.elapsed(), ms(100));
    assert_eq!((handle.waiting(), watch.calls()), (0, 1));
}

/// In which order four callers, come one after the other, are served.
async fn order_of_service(queue: Queue) -> Vec<usize> {
    let (mut bulkhead, _, _) = queued(1, queue);
    let gate = Arc::new(Notify::new());
    let mut running = pin!(bulkhead.call(Act::Await(gate.clone())));
    assert!(poll_once(running.as_mut()).is_pending());
    let order = std::sync::Mutex::new(Vec::new());
    let waiters = (0..4).map(|n| {
        let call = bulkhead.call(Act::Take(ms(1)));
        let order = &order;
        async move {
            call.await.unwrap();
            order.lock().unwrap().push(n);
        }
    });
    let mut waiters = pin!(join_all(waiters));
    assert!(poll_once(waiters.as_mut()).is_pending());
    gate.notify_one();
    tokio::join!(running, waiters).0.unwrap();
    std::mem::take(&mut *order.lock().unwrap())
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_served_first_come_or_last_come_first() {
    assert_eq!(
        order_of_service(Queue::fifo(9, secs(9))).await,
        [0, 1, 2, 3]
    );
    assert_eq!(
        order_of_service(Queue::lifo(9, secs(9))).await,
        [3, 2, 1, 0]
    );
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_does_not_overtake_who_waits() {
    let (mut bulkhead, handle, _) = queued(1, Queue::fifo(9, secs(9)));
    let gate = Arc::new(Notify::new());
    let mut running = pin!(bulkhead.call(Act::Await(gate.clone())));
    assert!(poll_once(running.as_mut()).is_pending());
    let mut first = pin!(bulkhead.call(Act::Hang));
    assert!(poll_once(first.as_mut()).is_pending());
    gate.notify_one();
    assert!(poll_once(running.as_mut()).is_ready());
    // The permit is the first waiter's, who has not been polled since.
    let mut newcomer = pin!(bulkhead.call(Act::Succeed));
    assert!(poll_once(newcomer.as_mut()).is_pending());
    assert_eq!((handle.in_flight(), handle.waiting()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_wait_never_outlasts_the_deadline() {
    let (mut bulkhead, _, _) = queued(1, Queue::fifo(9, secs(9)));
    let mut running = pin!(bulkhead.call(Act::Hang));
    assert!(poll_once(running.as_mut()).is_pending());
    let before = Instant::now();
    let context = Context::new().with_timeout(ms(100));
    let result = context.scope(bulkhead.call(Act::Succeed)).await;
    assert_eq!(reason(result), Reason::DeadlineExceeded);
    assert_eq!(before.elapsed(), ms(100));
    // A deadline further off than the bound changes nothing.
    let context = Context::new().with_timeout(secs(99));
    let result = context.scope(bulkhead.call(Act::Succeed)).await;
    assert_eq!(reason(result), Reason::QueueTimeout);
}

#[tokio::test(start_paused = true)]
async fn an_endless_wait_ends_with_a_permit() {
    let (mut bulkhead, _, _) = queued(1, Queue::fifo(9, std::time::Duration::MAX));
    let (first, second) = tokio::join!(
        bulkhead.call(Act::Take(secs(3600))),
        bulkhead.call(Act::Succeed)
    );
    assert_eq!((first, second), (Ok(1), Ok(1)));
}

#[tokio::test(start_paused = true)]
async fn an_idle_ready_clone_holds_no_permit() {
    let (bulkhead, handle, _) = refusing(1);
    let mut idle: Vec<_> = (0..10).map(|_| bulkhead.clone()).collect();
    for clone in &mut idle {
        clone.ready().await.unwrap();
    }
    assert_eq!(handle.in_flight(), 0);
    assert_eq!(send(&mut bulkhead.clone(), Act::Succeed).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn a_call_in_the_queue_holds_nothing_of_the_inner_services_readiness() {
    let (service, _) = Scripted::new();
    // An inner limit of two, shared with a user who goes past the bulkhead.
    let limited = ServiceBuilder::new()
        .layer(ConcurrencyLimitLayer::new(2))
        .service(service);
    let mut direct = limited.clone();
    let layer = BulkheadLayer::builder(1)
        .queue(Queue::fifo(9, secs(9)))
        .build();
    let mut bulkhead = layer.layer(limited);
    let (mut running, mut waiting) = (
        pin!(bulkhead.call(Act::Hang)),
        pin!(bulkhead.call(Act::Hang)),
    );
    assert!(poll_once(running.as_mut()).is_pending());
    assert!(poll_once(waiting.as_mut()).is_pending());
    assert_eq!(layer.handle().waiting(), 1);
    let direct = timeout(secs(1), send(&mut direct, Act::Succeed)).await;
    assert_eq!(direct.expect("the second place is free"), Ok(1));
}

#[tokio::test(start_paused = true)]
async fn the_permit_comes_back_once_and_at_once_however_the_call_ends() {
    let (mut bulkhead, handle, _) = refusing(1);
    let mut answered = Box::pin(bulkhead.ready().await.unwrap().call(Act::Succeed));
    assert_eq!(handle.in_flight(), 1);
    assert!(poll_once(answered.as_mut()).is_ready());
    assert_eq!(handle.in_flight(), 0, "before the future is dropped");
    drop(answered);
    assert_eq!(handle.in_flight(), 0, "and not once more");

    send(&mut bulkhead, Act::Fail(1)).await.unwrap_err();
    assert_eq!(handle.in_flight(), 0);
    for act in [Act::Panic, Act::PanicInCall] {
        send_contained(&bulkhead, act).await.unwrap_err();
        assert_eq!(handle.in_flight(), 0);
    }
    drop(bulkhead.ready().await.unwrap().call(Act::Hang));
    assert_eq!(handle.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_who_leaves_takes_no_permit_with_him_even_if_it_had_just_come() {
    for polled_since in [false, true] {
        let (mut bulkhead, handle, _) = queued(1, Queue::fifo(9, secs(9)));
        let gate = Arc::new(Notify::new());
        let mut running = pin!(bulkhead.call(Act::Await(gate.clone())));
        assert!(poll_once(running.as_mut()).is_pending());
        let mut leaver = Box::pin(bulkhead.call(Act::Hang));
        let mut stayer = pin!(bulkhead.call(Act::Succeed));
        assert!(poll_once(leaver.as_mut()).is_pending());
        assert!(poll_once(stayer.as_mut()).is_pending());

        gate.notify_one();
        assert!(poll_once(running.as_mut()).is_ready());
        if polled_since {
            assert!(poll_once(leaver.as_mut()).is_pending(), "it runs");
        }
        assert_eq!((handle.in_flight(), handle.waiting()), (1, 1));
        drop(leaver);
        assert_eq!(poll_once(stayer.as_mut()), Poll::Ready(Ok(1)));
        assert_eq!((handle.in_flight(), handle.waiting()), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_permit_that_comes_at_the_very_end_of_the_wait_is_used() {
    let (mut bulkhead, handle, _) = queued(1, Queue::fifo(9, ms(100)));
    let mut running = Box::pin(bulkhead.call(Act::Hang));
    assert!(poll_once(running.as_mut()).is_pending());
    let mut waiting = pin!(bulkhead.call(Act::Succeed));
    assert!(poll_once(waiting.as_mut()).is_pending());
    advance(ms(100)).await;
    drop(running);
    assert_eq!(poll_once(waiting.as_mut()), Poll::Ready(Ok(1)));
    assert_eq!((handle.in_flight(), handle.waiting()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn it_is_resized_while_running_without_blocking_or_cutting_a_call() {
    let (mut bulkhead, handle, watch) = queued(3, Queue::fifo(9, secs(9)));
    let gate = Arc::new(Notify::new());
    let mut calls: Vec<_> = (0..6)
        .map(|_| Box::pin(bulkhead.call(Act::Await(gate.clone()))))
        .collect();
    for call in &mut calls {
        assert!(poll_once(call.as_mut()).is_pending());
    }
    assert_eq!((handle.in_flight(), handle.waiting()), (3, 3));

    handle.resize(1);
    assert_eq!(
        (handle.limit(), handle.in_flight(), handle.waiting()),
        (1, 3, 3)
    );
    for _ in 0..2 {
        drop(calls.remove(0)); // two of those that run end; nobody takes their place
        assert_eq!(handle.waiting(), 3);
    }
    assert_eq!(handle.in_flight(), 1);

    handle.resize(4);
    assert_eq!(
        (handle.in_flight(), handle.waiting()),
        (4, 0),
        "those who wait are let in at once"
    );
    gate.notify_waiters();
    drop(calls);
    assert_eq!((handle.in_flight(), watch.most() <= 4), (0, true));

    handle.resize(0);
    let refused = timeout(secs(99), bulkhead.call(Act::Succeed))
        .await
        .unwrap();
    assert_eq!(reason(refused), Reason::QueueTimeout);
}

#[tokio::test(start_paused = true)]
async fn services_of_one_layer_and_its_clones_share_the_permits() {
    let layer = BulkheadLayer::new(1);
    let mut one = layer.layer(Scripted::new().0);
    let mut other = layer.clone().layer(Scripted::new().0);
    let mut call = pin!(one.ready().await.unwrap().call(Act::Hang));
    assert!(poll_once(call.as_mut()).is_pending());
    assert_eq!(
        reason(send(&mut other, Act::Succeed).await),
        Reason::BulkheadFull
    );
}

/// A request weighs what it takes, in milliseconds.
fn weight(act: &Act) -> usize {
    match act {
        Act::Take(duration) => duration.as_millis() as usize,
        _ => 0,
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_takes_as_many_permits_as_it_weighs_and_gives_them_back() {
    let layer = BulkheadLayer::builder(5).weight(weight).build();
    let mut bulkhead = layer.layer(Scripted::new().0);
    let handle = layer.handle();
    let three = bulkhead.ready().await.unwrap().call(Act::Take(ms(3)));
    assert_eq!(handle.in_flight(), 3);
    assert_eq!(
        reason(send(&mut bulkhead, Act::Take(ms(3))).await),
        Reason::BulkheadFull
    );
    let two = bulkhead.ready().await.unwrap().call(Act::Take(ms(2)));
    assert_eq!(handle.in_flight(), 5);
    two.await.unwrap();
    assert_eq!(handle.in_flight(), 3);
    drop(three);
    assert_eq!(handle.in_flight(), 0);
    send_contained(&bulkhead, Act::Panic).await.unwrap_err();
    let weightless = bulkhead.ready().await.unwrap().call(Act::Hang);
    assert_eq!(handle.in_flight(), 1, "zero counts as one");
    drop(weightless);
    assert_eq!(handle.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_heavier_than_the_limit_is_refused_at_once_also_where_it_might_wait() {
    let layer = BulkheadLayer::builder(4)
        .weight(weight)
        .queue(Queue::fifo(9, secs(9)))
        .build();
    let (mut bulkhead, handle) = (layer.layer(Scripted::new().0), layer.handle());
    let before = Instant::now();
    let heavy = bulkhead.call(Act::Take(ms(5))).await;
    assert_eq!(reason(heavy), Reason::BulkheadFull);

    // So is one that waits, when it is next and the limit has been lowered below its weight.
    let mut running = Box::pin(bulkhead.call(Act::Take(ms(4))));
    assert!(poll_once(running.as_mut()).is_pending());
    let mut heavy = Box::pin(bulkhead.call(Act::Take(ms(3))));
    let mut light = Box::pin(bulkhead.call(Act::Succeed));
    assert!(poll_once(heavy.as_mut()).is_pending());
    assert!(poll_once(light.as_mut()).is_pending());
    handle.resize(2);
    assert_eq!(reason(heavy.await), Reason::BulkheadFull);
    assert_eq!(handle.waiting(), 1);
    drop(running);
    assert_eq!(light.await, Ok(1));
    assert_eq!((handle.in_flight(), before.elapsed()), (0, ms(0)));
}

#[tokio::test(start_paused = true)]
async fn a_heavy_call_in_front_of_the_queue_is_not_starved_by_light_ones() {
    let layer = BulkheadLayer::builder(4)
        .weight(weight)
        .queue(Queue::fifo(99, secs(9)))
        .build();
    let mut bulkhead = layer.layer(Scripted::new().0);
    let mut light: Vec<_> = (0..4).map(|_| Box::pin(bulkhead.call(Act::Hang))).collect();
    for call in &mut light {
        assert!(poll_once(call.as_mut()).is_pending());
    }
    let mut heavy = Box::pin(bulkhead.call(Act::Take(ms(4))));
    assert!(poll_once(heavy.as_mut()).is_pending());
    for running in light {
        let mut newcomer = Box::pin(bulkhead.call(Act::Succeed));
        assert!(poll_once(newcomer.as_mut()).is_pending(), "it overtakes");
        drop(running);
        assert!(poll_once(newcomer.as_mut()).is_pending(), "it overtakes");
    }
    assert_eq!(heavy.await, Ok(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn over_threads_the_limit_holds_and_nobody_is_forgotten() {
    let (service, watch) = Scripted::new();
    let layer = BulkheadLayer::builder(3)
        .queue(Queue::fifo(1000, secs(60)))
        .build();
    let bulkhead = layer.layer(service);
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let bulkhead = bulkhead.clone();
            tokio::spawn(async move {
                for call in 0..200 {
                    let mut bulkhead = bulkhead.clone();
                    let act = if (task + call) % 3 == 0 {
                        Act::Hang
                    } else {
                        Act::Succeed
                    };
                    let mut call = Box::pin(async move { send(&mut bulkhead, act).await });
                    // Some are given up in the queue or while they run.
                    for _ in 0..=task % 3 {
                        if futures_util::FutureExt::now_or_never(call.as_mut()).is_some() {
                            break;
                        }
                        tokio::task::yield_now().await;
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert!(watch.most() <= 3);
    let handle = layer.handle();
    assert_eq!((handle.in_flight(), handle.waiting()), (0, 0));
}
