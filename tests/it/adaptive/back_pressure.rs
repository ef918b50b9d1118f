//! The adaptive limit in the form in which readiness is the reservation, and the queues that it slows down.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
};

use futures_util::{StreamExt, stream};
use steadfast::{
    Reason,
    adaptive::{AdaptiveLayer, Aimd, BackPressureAdaptive, Mode},
};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::support::{Act, CountingWaker, Error, Scripted, Watch, ms, poll_once, send};

/// A limit of one, whatever happens.
fn one_at_a_time() -> AdaptiveLayer {
    let builder = AdaptiveLayer::builder().algorithm(Aimd::default());
    builder.max_limit(1).build().unwrap()
}

fn build(layer: &AdaptiveLayer) -> (BackPressureAdaptive<Scripted>, Watch) {
    let (service, watch) = Scripted::new();
    (layer.back_pressure().layer(service), watch)
}

fn is_ready_for(service: &mut impl Service<Act, Error = Error>, waker: &Waker) -> bool {
    match service.poll_ready(&mut Context::from_waker(waker)) {
        Poll::Ready(ready) => {
            ready.unwrap();
            true
        }
        Poll::Pending => false,
    }
}

fn is_ready(service: &mut impl Service<Act, Error = Error>) -> bool {
    is_ready_for(service, Waker::noop())
}

#[tokio::test(start_paused = true)]
async fn two_clones_are_never_both_ready_for_one_permit_and_are_so_in_turn() {
    let layer = one_at_a_time();
    let (mut one, watch) = build(&layer);
    let mut other = one.clone();
    let mut ordinary = layer.layer(Scripted::new().0);
    let (counter, waker) = CountingWaker::new();
    assert!(is_ready(&mut one) && !is_ready_for(&mut other, &waker));
    assert!(!is_ready(&mut one.clone()), "its clones are not");
    let refused = send(&mut ordinary, Act::Succeed).await.unwrap_err();
    assert_eq!(refused.rejected().reason(), Reason::LimitReached);

    let call = one.call(Act::Hang);
    assert!(!is_ready(&mut one));
    assert_eq!((counter.woken(), watch.in_flight()), (0, 1));
    drop(call);
    assert_eq!((counter.woken(), layer.handle().waiting()), (1, 1));
    assert!(is_ready(&mut other) && !is_ready(&mut one));
    drop(other);
    assert!(is_ready(&mut one));
    drop(one);
    assert_eq!(layer.handle().in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn while_the_inner_service_is_not_ready_no_permit_is_held() {
    let layer = one_at_a_time();
    let (mut one, watch) = build(&layer);
    let mut other = one.clone();
    assert!(is_ready(&mut one) && !is_ready(&mut other));
    watch.be_unready(1);
    assert!(!is_ready(&mut one));
    assert!(is_ready(&mut other), "it has gone to the next");
    assert_eq!(other.call(Act::Succeed).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn one_that_is_not_enabled_is_ready_and_who_waits_is_told_when_the_mode_changes() {
    for mode in [Mode::ObserveOnly, Mode::Disabled] {
        let layer = one_at_a_time();
        let handle = layer.handle();
        let (mut one, _watch) = build(&layer);
        let [mut other, mut third] = [one.clone(), one.clone()];
        let (counter, waker) = CountingWaker::new();
        assert!(is_ready(&mut one) && !is_ready_for(&mut other, &waker));
        handle.set_mode(mode);
        assert_eq!((counter.woken(), handle.waiting()), (1, 1));
        assert!(is_ready(&mut other) && is_ready(&mut third));
        assert_eq!((handle.in_flight(), handle.waiting()), (1, 0), "{mode:?}");
        assert!(is_ready(&mut one));
        assert_eq!(handle.in_flight(), 0, "there is nothing to reserve");
        let calls = [&mut one, &mut other].map(|it| it.call(Act::Hang));

        // Ready before it was enabled: a call like another.
        handle.set_mode(Mode::Enabled);
        let third = third.call(Act::Succeed).await;
        assert_eq!(third.is_err(), mode == Mode::ObserveOnly, "{third:?}");
        drop(calls);
        assert_eq!(handle.in_flight(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_was_not_asked_is_refused_where_there_is_no_permit() {
    let layer = one_at_a_time();
    let mut one = layer
        .back_pressure()
        .layer(service_fn(async |_: ()| Ok::<_, Error>(())));
    let mut other = one.clone();
    let first = one.call(());
    let error = other.call(()).await.unwrap_err();
    assert_eq!(error.rejected().reason(), Reason::LimitReached);
    assert!(poll_once(pin!(other.ready())).is_pending());
    other.call(()).await.unwrap_err();
    drop(first);
    assert_eq!(
        (layer.handle().in_flight(), layer.handle().waiting()),
        (0, 0)
    );
}

/// Eight workers of 10 ms: 800 messages a second.
#[tokio::test(start_paused = true)]
async fn a_consumer_takes_from_a_queue_as_much_as_the_service_can_do_and_no_more() {
    let workers = Arc::new(tokio::sync::Semaphore::new(8));
    let service = service_fn(move |message: usize| {
        let workers = workers.clone();
        async move {
            let _worker = workers.acquire().await.unwrap();
            tokio::time::sleep(ms(10)).await;
            Ok::<_, Error>(message)
        }
    });
    let layer = AdaptiveLayer::builder().initial_limit(1).build().unwrap();
    let handle = layer.handle();
    let taken = Arc::new(AtomicUsize::new(0));
    let count = taken.clone();
    let messages = stream::iter(0..16_000).inspect(move |_| _ = count.fetch_add(1, SeqCst));
    let mut answers = layer
        .back_pressure()
        .layer(service)
        .call_all(messages)
        .unordered();
    let began = Instant::now();
    let (mut done, mut most, mut greatest) = (0, 0, 0);
    while let Some(answer) = answers.next().await {
        answer.unwrap();
        done += 1;
        most = most.max(taken.load(SeqCst) - done);
        greatest = greatest.max(handle.limit());
    }
    assert_eq!(done, 16_000);
    assert!(
        most <= greatest + 1,
        "{most} in hand, with a limit of {greatest}"
    );
    assert!(greatest <= 40, "{greatest}");
    let took = began.elapsed().as_secs_f64();
    assert!(took < 20.0 * 1.1, "{took}");
}
