//! Calls that run on.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::Poll,
    time::Duration,
};

use steadfast::{
    Context, Criticality, Limit, Reason,
    backoff::Backoff,
    bulkhead::BulkheadLayer,
    circuit_breaker::{CircuitBreakerLayer, State},
    timeout::{Detachable, DetachedTimeoutHandle, Timeout, TimeoutLayer},
};
use tokio::{sync::Notify, time::sleep};
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::support::{Act, Error, Scripted, Watch, ms, poll_once, secs, send, send_contained};

const LIMIT: Duration = ms(100);

fn detached(max: usize) -> (Timeout<Detachable<Scripted>>, DetachedTimeoutHandle, Watch) {
    let layer = TimeoutLayer::builder(LIMIT)
        .unwrap()
        .name("payment")
        .build();
    let layer = layer.detached(max);
    let (service, watch) = Scripted::new();
    (layer.layer(service), layer.handle(), watch)
}

/// Takes a while and counts what came to its end.
fn counting(
    takes: Duration,
) -> (
    impl Service<(), Response = (), Error = Error, Future: Send + 'static> + Clone,
    Arc<AtomicUsize>,
) {
    let done = Arc::new(AtomicUsize::new(0));
    let counter = done.clone();
    let service = service_fn(move |()| {
        let counter = counter.clone();
        async move {
            sleep(takes).await;
            counter.fetch_add(1, SeqCst);
            Ok(())
        }
    });
    (service, done)
}

#[tokio::test(start_paused = true)]
async fn a_call_that_takes_too_long_is_given_up_and_runs_on_to_its_end() {
    let layer = TimeoutLayer::new(LIMIT).unwrap().detached(2);
    let (service, done) = counting(secs(1));
    let error = layer.layer(service).oneshot(()).await.unwrap_err();
    let timed_out = error.timed_out();
    assert_eq!(
        (timed_out.limit(), timed_out.waited()),
        (Limit::Timeout, LIMIT)
    );
    assert_eq!((layer.handle().detached(), done.load(SeqCst)), (1, 0));
    sleep(ms(901)).await;
    assert_eq!((layer.handle().detached(), done.load(SeqCst)), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_its_caller_drops_runs_on_to_its_end() {
    let layer = TimeoutLayer::new(LIMIT).unwrap().detached(2);
    let (service, done) = counting(secs(1));
    let mut call = Box::pin(layer.layer(service).oneshot(()));
    assert!(poll_once(call.as_mut()).is_pending());
    drop(call);
    assert_eq!(layer.handle().detached(), 1);
    sleep(ms(1_001)).await;
    assert_eq!((layer.handle().detached(), done.load(SeqCst)), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_never_polled_is_dropped() {
    let (mut service, handle, watch) = detached(2);
    drop(service.ready().await.unwrap().call(Act::Hang));
    assert_eq!((handle.detached(), watch.in_flight()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_answered_does_not_run_on() {
    let (mut service, handle, watch) = detached(2);
    assert_eq!(send(&mut service, Act::Take(ms(99))).await, Ok(1));
    assert_eq!(
        send(&mut service, Act::FailAfter(ms(99))).await,
        Err(Error::Failed(0))
    );
    assert_eq!((handle.detached(), watch.in_flight()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn where_as_many_run_on_as_may_the_next_is_cut_until_one_has_ended() {
    let (mut service, handle, watch) = detached(2);
    assert_eq!((handle.name(), handle.max()), ("payment", 2));
    let stop = Arc::new(Notify::new());
    for _ in 0..2 {
        let act = Act::Await(stop.clone());
        send(&mut service, act).await.unwrap_err().timed_out();
    }
    assert_eq!((handle.detached(), watch.in_flight()), (2, 2));
    send(&mut service, Act::Hang).await.unwrap_err().timed_out();
    assert_eq!((handle.detached(), watch.in_flight()), (2, 2));

    stop.notify_one();
    tokio::task::yield_now().await;
    assert_eq!((handle.detached(), watch.in_flight()), (1, 1));
    send(&mut service, Act::Hang).await.unwrap_err().timed_out();
    assert_eq!((handle.detached(), watch.in_flight()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn with_a_bulkhead_below_no_call_is_ever_cut_and_the_next_is_refused() {
    let layer = TimeoutLayer::new(LIMIT).unwrap().detached(2);
    let (service, watch) = Scripted::new();
    let mut service = (layer.clone(), BulkheadLayer::new(2)).layer(service);
    for _ in 0..2 {
        send(&mut service, Act::Hang).await.unwrap_err().timed_out();
    }
    let rejected = send(&mut service, Act::Hang).await.unwrap_err().rejected();
    assert_eq!(rejected.reason(), Reason::BulkheadFull);
    assert_eq!((layer.handle().detached(), watch.in_flight()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn all_services_of_a_layer_share_the_bound() {
    let layer = TimeoutLayer::new(LIMIT).unwrap().detached(1);
    let (service, watch) = Scripted::new();
    for _ in 0..3 {
        let mut service = layer.clone().layer(service.clone());
        send(&mut service, Act::Hang).await.unwrap_err().timed_out();
    }
    assert_eq!(watch.in_flight(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_the_callers_to_see_while_it_waits() {
    let (service, handle, watch) = detached(2);
    let mut waiting = service.clone();
    let panicked = tokio::spawn(async move { send(&mut waiting, Act::Panic).await });
    let payload = panicked.await.unwrap_err().into_panic();
    assert_eq!(payload.downcast_ref(), Some(&"as told"));
    assert_eq!((handle.detached(), watch.in_flight()), (0, 0));
    send_contained(&service, Act::PanicInCall)
        .await
        .unwrap_err();
    assert_eq!((handle.detached(), watch.in_flight()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_panic_that_nobody_waits_for_gives_its_place_back() {
    let layer = TimeoutLayer::new(LIMIT).unwrap().detached(1);
    let mut service = layer.layer(service_fn(|()| async {
        sleep(secs(1)).await;
        assert!(tokio::time::Instant::now() == tokio::time::Instant::now() + secs(1));
        Ok::<_, Error>(())
    }));
    for _ in 0..3 {
        service.ready().await.unwrap().call(()).await.unwrap_err();
        assert_eq!(layer.handle().detached(), 1);
        sleep(secs(1)).await;
        assert_eq!(layer.handle().detached(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn its_context_goes_with_it() {
    let (seen, mut contexts) = tokio::sync::mpsc::unbounded_channel();
    let layer = TimeoutLayer::new(LIMIT).unwrap().detached(1);
    let service = layer.layer(service_fn(move |()| {
        let seen = seen.clone();
        async move {
            sleep(secs(1)).await;
            seen.send(Context::current()).unwrap();
            Ok::<_, Error>(())
        }
    }));
    let context = Context::new()
        .with_timeout(secs(9))
        .with_criticality(Criticality::CriticalPlus);
    context.scope(service.oneshot(())).await.unwrap_err();
    assert_eq!(contexts.recv().await, Some(context));
}

#[tokio::test(start_paused = true)]
async fn the_deadline_ends_the_wait_and_not_the_call() {
    let (mut service, handle, watch) = detached(1);
    let context = Context::new().with_timeout(ms(30));
    let error = context.scope(send(&mut service, Act::Take(ms(60)))).await;
    assert_eq!(error.unwrap_err().timed_out().limit(), Limit::Deadline);
    assert_eq!((handle.detached(), watch.in_flight()), (1, 1));
    sleep(ms(31)).await;
    assert_eq!((handle.detached(), watch.in_flight()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_breaker_below_sees_how_it_ends_and_not_that_it_was_given_up() {
    let breaker = CircuitBreakerLayer::builder()
        .consecutive_failures(1)
        .open_time(Backoff::constant(secs(60)))
        .build()
        .unwrap();
    let handle = breaker.handle();
    let layer = TimeoutLayer::new(LIMIT).unwrap().detached(1);
    let mut service = (layer, breaker).layer(Scripted::new().0);
    let failing = Act::FailAfter(ms(500));
    send(&mut service, failing).await.unwrap_err().timed_out();
    assert_eq!(handle.state(), State::Closed);
    sleep(ms(401)).await;
    assert_eq!(handle.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_for_readiness_has_not_begun_and_is_dropped() {
    let layer = TimeoutLayer::new(LIMIT).unwrap().covering_readiness();
    let layer = layer.detached(4);
    let (service, watch) = Scripted::new();
    let busy = tower::limit::ConcurrencyLimitLayer::new(1).layer(service);
    let mut service = layer.layer(busy);
    send(&mut service, Act::Hang).await.unwrap_err().timed_out();
    assert_eq!((layer.handle().detached(), watch.calls()), (1, 1));
    // It holds the only permit.
    send(&mut service, Act::Hang).await.unwrap_err().timed_out();
    assert_eq!((layer.handle().detached(), watch.calls()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_follows_may_be_detached_too() {
    let layer = TimeoutLayer::following(ms(10), LIMIT).unwrap().detached(1);
    let (service, watch) = Scripted::new();
    let mut service = layer.layer(service);
    send(&mut service, Act::Hang).await.unwrap_err().timed_out();
    assert_eq!((layer.handle().detached(), watch.in_flight()), (1, 1));
}

#[test]
fn it_ends_with_its_runtime_and_outside_of_any_it_is_cut() {
    let (mut service, handle, watch) = detached(2);
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().start_paused(true).build().unwrap()
    };
    let first = runtime();
    let error = first.block_on(send(&mut service, Act::Hang)).unwrap_err();
    error.timed_out();
    assert_eq!((handle.detached(), watch.in_flight()), (1, 1));
    // One that its runtime drops has no place to go either.
    let mut waiting = service.clone();
    first.spawn(async move { send(&mut waiting, Act::Hang).await });
    first.block_on(tokio::task::yield_now());
    assert_eq!((handle.detached(), watch.in_flight()), (1, 2));
    drop(first);
    assert_eq!((handle.detached(), watch.in_flight()), (0, 0));

    let second = runtime();
    let mut call = Box::pin(second.block_on(service.ready()).unwrap().call(Act::Hang));
    second.block_on(async { assert_eq!(poll_once(call.as_mut()), Poll::Pending) });
    drop(call);
    assert_eq!((handle.detached(), watch.in_flight()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn it_is_woken_as_the_task_that_it_is_now() {
    let (mut service, handle, _) = detached(1);
    let notify = Arc::new(Notify::new());
    {
        let call = service.ready().await.unwrap();
        let mut call = pin!(call.call(Act::Await(notify.clone())));
        assert!(poll_once(call.as_mut()).is_pending());
    }
    tokio::task::yield_now().await;
    notify.notify_one();
    tokio::task::yield_now().await;
    assert_eq!(handle.detached(), 0);
}
