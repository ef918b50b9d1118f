//! The bulkhead in the form in which readiness is the reservation, and the streams that it slows down.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
};

use futures_util::{Stream, StreamExt, stream};
use proptest::prelude::*;
use steadfast::{
    Reason,
    bulkhead::{BackPressureBulkhead, BulkheadHandle, BulkheadLayer},
};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::support::{Act, CountingWaker, Error, Scripted, Watch, ms, poll_once, send};

type Held = BackPressureBulkhead<Scripted>;

fn build(max: usize) -> (Held, BulkheadHandle, Watch) {
    let layer = BulkheadLayer::new(max).back_pressure();
    let (service, watch) = Scripted::new();
    (layer.layer(service), layer.handle(), watch)
}

fn is_ready_for<S: Service<Act, Error = Error>>(service: &mut S, waker: &Waker) -> bool {
    match service.poll_ready(&mut Context::from_waker(waker)) {
        Poll::Ready(ready) => {
            ready.unwrap();
            true
        }
        Poll::Pending => false,
    }
}

fn is_ready<S: Service<Act, Error = Error>>(service: &mut S) -> bool {
    is_ready_for(service, Waker::noop())
}

#[test]
fn two_clones_are_never_both_ready_for_one_permit() {
    let (mut one, handle, _watch) = build(1);
    let mut other = one.clone();
    assert!(is_ready(&mut one));
    assert!(!is_ready(&mut other));
    assert!(is_ready(&mut one), "it still is");
    assert!(!is_ready(&mut one.clone()), "its clones are not");
    assert_eq!((handle.in_flight(), handle.waiting()), (1, 1));
    let call = one.call(Act::Hang);
    assert!(!is_ready(&mut other) && !is_ready(&mut one));
    assert_eq!((handle.in_flight(), handle.waiting()), (1, 2));
    drop(call);
    assert!(is_ready(&mut other) && !is_ready(&mut one));
}

#[test]
fn of_ten_clones_as_many_are_ready_as_there_are_permits() {
    let (service, _handle, _watch) = build(3);
    let mut clones = vec![service; 10];
    let ready = |clones: &mut [Held]| {
        clones
            .iter_mut()
            .filter_map(|it| is_ready(it).then_some(()))
            .count()
    };
    assert_eq!(ready(&mut clones), 3);
    clones.drain(..2);
    assert_eq!(ready(&mut clones), 3);
}

#[test]
fn nobody_is_overtaken_and_each_is_woken_once_in_turn() {
    let layer = BulkheadLayer::new(1);
    let (service, _watch) = Scripted::new();
    let first = layer.back_pressure().layer(service.clone());
    let mut ordinary = layer.layer(service);
    let mut clones = vec![first; 4];
    let wakers = [(); 4].map(|()| CountingWaker::new());
    let woken = || [0, 1, 2, 3].map(|n| wakers[n].0.woken());
    for (clone, (_, waker)) in clones.iter_mut().zip(&wakers) {
        is_ready_for(clone, waker);
        is_ready_for(clone, waker);
    }
    let mut done = [0; 4];
    for n in 0..3 {
        drop(clones[n].call(Act::Hang));
        done[n + 1] = 1;
        assert_eq!(woken(), done);
        // Not even by him who has just had it, nor in the ordinary form.
        assert!(!is_ready(&mut clones[n]));
        assert!(is_ready(&mut ordinary));
        let refused = poll_once(pin!(ordinary.call(Act::Succeed)));
        let Poll::Ready(Err(error)) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(error.rejected().reason(), Reason::BulkheadFull);
        assert!(is_ready_for(&mut clones[n + 1], &wakers[n + 1].1));
    }
    assert_eq!(layer.handle().waiting(), 3);
}

#[test]
fn who_is_dropped_gives_back_his_permit_or_his_place() {
    let (one, handle, _watch) = build(1);
    let [mut ready, mut next, mut last] = [(); 3].map(|()| one.clone());
    let (counter, waker) = CountingWaker::new();
    assert!(is_ready(&mut ready));
    assert!(!is_ready(&mut next) && !is_ready_for(&mut last, &waker));
    drop((ready.clone(), next.clone()));
    assert_eq!(
        (handle.in_flight(), handle.waiting()),
        (1, 2),
        "clones hold nothing"
    );
    drop(next);
    assert_eq!((counter.woken(), handle.waiting()), (0, 1));
    drop(ready);
    assert_eq!((counter.woken(), handle.waiting()), (1, 0));
    // It has come, though nobody has looked.
    assert_eq!(handle.in_flight(), 1);
    drop(last);
    assert_eq!(handle.in_flight(), 0);
}

#[test]
fn whoever_polled_last_is_woken() {
    let (mut one, _handle, _watch) = build(1);
    let mut other = one.clone();
    let [(first, old), (second, new)] = [(); 2].map(|()| CountingWaker::new());
    assert!(is_ready(&mut one));
    assert!(!is_ready_for(&mut other, &old) && !is_ready_for(&mut other, &new));
    drop(one);
    assert_eq!((first.woken(), second.woken()), (0, 1));
}

#[test]
fn while_the_inner_service_is_not_ready_no_permit_and_no_place_is_held() {
    let (mut one, handle, watch) = build(1);
    watch.be_unready(1);
    assert!(!is_ready(&mut one));
    assert_eq!((handle.in_flight(), handle.waiting()), (0, 0));

    // It has been ready, and is so no more when it is asked again.
    let (mut other, mut third) = (one.clone(), one.clone());
    assert!(is_ready(&mut one) && !is_ready(&mut other) && !is_ready(&mut third));
    watch.be_unready(1);
    assert!(!is_ready(&mut one));
    assert_eq!(
        (handle.in_flight(), handle.waiting()),
        (1, 1),
        "it is the next one's"
    );
    // Nor does the next keep it.
    watch.be_unready(1);
    assert!(!is_ready(&mut other));
    assert!(is_ready(&mut third));
    assert_eq!((handle.in_flight(), handle.waiting()), (1, 0));
}

#[test]
fn what_fails_to_get_ready_holds_nothing() {
    /// Its readiness fails when it is told to.
    #[derive(Clone)]
    struct Breaks(Arc<AtomicUsize>);
    impl Service<Act> for Breaks {
        type Response = u32;
        type Error = Error;
        type Future = std::future::Pending<Result<u32, Error>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
            Poll::Ready(match self.0.load(SeqCst) {
                0 => Ok(()),
                _ => Err(Error::Failed(9)),
            })
        }
        fn call(&mut self, _: Act) -> Self::Future {
            std::future::pending()
        }
    }
    let layer = BulkheadLayer::new(1).back_pressure();
    let breaks = Arc::new(AtomicUsize::new(0));
    let mut service = layer.layer(Breaks(breaks.clone()));
    assert!(is_ready(&mut service));
    breaks.store(1, SeqCst);
    let failed = service.poll_ready(&mut Context::from_waker(Waker::noop()));
    assert_eq!(failed, Poll::Ready(Err(Error::Failed(9))));
    assert_eq!(layer.handle().in_flight(), 0);
}

#[test]
fn a_call_that_panics_gives_its_permit_to_the_next() {
    let (mut one, handle, _watch) = build(1);
    let mut other = one.clone();
    for act in [Act::Panic, Act::PanicInCall] {
        assert!(is_ready(&mut one) && !is_ready(&mut other));
        let panicked = catch_unwind(AssertUnwindSafe(|| _ = poll_once(pin!(one.call(act)))));
        assert!(panicked.is_err());
        assert!(is_ready(&mut other));
        std::mem::swap(&mut one, &mut other);
        other = one.clone();
    }
    drop(one);
    assert_eq!(handle.in_flight(), 0);
}

#[test]
fn a_service_that_was_not_asked_is_refused_where_there_is_no_permit() {
    let layer = BulkheadLayer::new(1).back_pressure();
    let mut one = layer.layer(service_fn(async |_: ()| Ok::<_, Error>(())));
    let mut other = one.clone();
    let first = one.call(());
    let refused = poll_once(pin!(other.call(())));
    let Poll::Ready(Err(error)) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(error.rejected().reason(), Reason::BulkheadFull);
    // With a place in the line it is refused, too, and has left it.
    assert!(poll_once(pin!(other.ready())).is_pending());
    assert!(matches!(
        poll_once(pin!(other.call(()))),
        Poll::Ready(Err(_))
    ));
    drop(first);
    assert_eq!(
        (layer.handle().in_flight(), layer.handle().waiting()),
        (0, 0)
    );
    assert_eq!(poll_once(pin!(other.call(()))), Poll::Ready(Ok(())));
}

#[derive(Clone, Debug)]
enum Step {
    Poll(usize),
    /// If it was ready.
    Call(usize),
    End(usize),
    Renew(usize),
    Resize(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..6_usize).prop_map(Step::Poll),
        4 => (0..6_usize).prop_map(Step::Call),
        4 => (0..6_usize).prop_map(Step::End),
        1 => (0..6_usize).prop_map(Step::Renew),
        1 => (0..4_usize).prop_map(Step::Resize),
    ];
    proptest::collection::vec(step, 0..200)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Has {
    Nothing,
    Place,
    Permit,
}

/// A list of who waits, and a number.
struct Model {
    limit: usize,
    taken: usize,
    line: VecDeque<usize>,
    has: [Has; 6],
}

impl Model {
    fn serve(&mut self) {
        while self.taken < self.limit
            && let Some(next) = self.line.pop_front()
        {
            self.taken += 1;
            self.has[next] = Has::Permit;
        }
    }

    fn poll(&mut self, nth: usize) -> bool {
        if self.has[nth] == Has::Nothing {
            self.has[nth] = Has::Place;
            self.line.push_back(nth);
            self.serve();
        }
        self.has[nth] == Has::Permit
    }

    fn renew(&mut self, nth: usize) {
        self.line.retain(|other| *other != nth);
        if std::mem::replace(&mut self.has[nth], Has::Nothing) == Has::Permit {
            self.taken -= 1;
        }
        self.serve();
    }
}

proptest! {
    #[test]
    fn permits_and_line_are_those_of_a_list(limit in 0..4_usize, steps in steps()) {
        let (service, handle, _watch) = build(limit);
        let mut clones = vec![service.clone(); 6];
        let mut model = Model { limit, taken: 0, line: VecDeque::new(), has: [Has::Nothing; 6] };
        let mut calls = VecDeque::new();
        for step in steps {
            match step {
                Step::Poll(nth) => prop_assert_eq!(is_ready(&mut clones[nth]), model.poll(nth)),
                Step::Call(nth) => {
                    if model.has[nth] == Has::Permit && is_ready(&mut clones[nth]) {
                        calls.push_back(clones[nth].call(Act::Hang));
                        model.has[nth] = Has::Nothing;
                    }
                }
                Step::End(nth) => {
                    if let Some(call) = calls.remove(nth) {
                        drop(call);
                        model.taken -= 1;
                        model.serve();
                    }
                }
                Step::Renew(nth) => {
                    clones[nth] = service.clone();
                    model.renew(nth);
                }
                Step::Resize(limit) => {
                    handle.resize(limit);
                    model.limit = limit;
                    model.serve();
                }
            }
            prop_assert_eq!(handle.in_flight(), model.taken);
            prop_assert_eq!(handle.waiting(), model.line.len());
        }
        drop((clones, calls));
        prop_assert_eq!((handle.in_flight(), handle.waiting()), (0, 0));
    }
}

#[test]
fn no_permit_is_lost_among_threads_that_reserve_drop_and_call() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .build()
        .unwrap();
    runtime.block_on(async {
        let (service, handle, _watch) = build(2);
        let held = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = (0..8)
            .map(|task| {
                let (service, held) = (service.clone(), held.clone());
                tokio::spawn(async move {
                    for turn in 0..200 {
                        let mut clone = service.clone();
                        clone.ready().await.unwrap();
                        assert!(held.fetch_add(1, SeqCst) < 2);
                        tokio::task::yield_now().await;
                        let call = ((task + turn) % 2 == 0).then(|| clone.call(Act::Hang));
                        tokio::task::yield_now().await;
                        held.fetch_sub(1, SeqCst);
                        drop((call, clone));
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!((handle.in_flight(), handle.waiting()), (0, 0));
    });
}

/// Items, and how many of them have been taken.
fn counted<T>(items: impl IntoIterator<Item = T>) -> (impl Stream<Item = T>, Arc<AtomicUsize>) {
    let taken = Arc::new(AtomicUsize::new(0));
    let count = taken.clone();
    let items = stream::iter(items).inspect(move |_| _ = count.fetch_add(1, SeqCst));
    (items, taken)
}

#[tokio::test(start_paused = true)]
async fn of_a_stream_no_more_is_taken_than_there_is_room_for_and_one() {
    let (service, handle, watch) = build(3);
    let (items, taken) = counted(vec![Act::Take(ms(10)); 100]);
    let began = Instant::now();
    let mut answers = service.call_all(items).unordered();
    let mut done = 0;
    while let Some(answer) = answers.next().await {
        answer.unwrap();
        done += 1;
        let taken = taken.load(SeqCst);
        assert!(taken <= done + 3 + 1, "{taken} of {done}");
    }
    assert_eq!((done, watch.calls(), watch.most()), (100, 100, 3));
    assert_eq!(began.elapsed(), ms(340));
    drop(answers);
    assert_eq!(handle.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn while_there_is_no_room_a_stream_is_left_alone() {
    let (service, handle, watch) = build(2);
    let (items, taken) = counted(vec![Act::Hang; 100]);
    let mut answers = pin!(service.call_all(items).unordered());
    for _ in 0..10 {
        assert!(poll_once(pin!(answers.next())).is_pending());
        assert_eq!((taken.load(SeqCst), watch.in_flight()), (3, 2));
    }
    // More room, by somebody else's doing, wakes it and is used.
    let (counter, waker) = CountingWaker::new();
    let cx = &mut Context::from_waker(&waker);
    assert!(answers.as_mut().poll_next(cx).is_pending());
    handle.resize(4);
    assert_eq!(counter.woken(), 1);
    assert!(answers.as_mut().poll_next(cx).is_pending());
    assert_eq!((taken.load(SeqCst), watch.in_flight()), (5, 4));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_not_ready_further_in_leaves_the_stream_alone_too() {
    let inner = BulkheadLayer::new(1).back_pressure();
    let outer = BulkheadLayer::new(5).back_pressure();
    let (service, watch) = Scripted::new();
    let service = outer.layer(inner.layer(service));
    let (items, taken) = counted(vec![Act::Hang; 100]);
    let mut answers = pin!(service.call_all(items).unordered());
    assert!(poll_once(pin!(answers.next())).is_pending());
    assert_eq!((taken.load(SeqCst), watch.in_flight()), (2, 1));
    assert_eq!(outer.handle().in_flight(), 1, "the others are for others");
}

#[tokio::test(start_paused = true)]
async fn an_error_is_an_answer_like_another() {
    let (service, handle, _watch) = build(2);
    let acts = (0..20).map(|n| match n {
        5 => Act::Fail(5),
        _ => Act::Take(ms(n)),
    });
    let (items, taken) = counted(acts);
    let answers: Vec<_> = service.call_all(items).unordered().collect().await;
    let failed = answers
        .iter()
        .filter(|answer| **answer == Err(Error::Failed(5)));
    assert_eq!(
        (failed.count(), answers.len(), taken.load(SeqCst)),
        (1, 20, 20)
    );
    assert_eq!(handle.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn of_two_streams_neither_waits_for_the_other_to_end() {
    let (service, _handle, watch) = build(4);
    let consume = |service: Held| async move {
        let (items, taken) = counted(vec![Act::Take(ms(10)); 50]);
        let mut answers = service.call_all(items).unordered();
        let mut ended = Vec::new();
        while let Some(answer) = answers.next().await {
            answer.unwrap();
            ended.push(Instant::now());
        }
        assert_eq!(taken.load(SeqCst), 50);
        ended
    };
    let (one, other) = tokio::join!(consume(service.clone()), consume(service));
    assert_eq!((watch.calls(), watch.most()), (100, 4));
    // Each has a place in the line at a time, so at least a call of four in every ten milliseconds.
    let first_end = one[49].min(other[49]);
    for ended in [one, other] {
        let meanwhile = ended.iter().filter(|at| **at <= first_end).count();
        assert!(meanwhile >= 12, "{meanwhile}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_ordinary_form_of_the_same_bulkhead_is_refused_a_permit_that_is_reserved() {
    let layer = BulkheadLayer::new(1);
    let mut waiting = layer.back_pressure().layer(Scripted::new().0);
    let mut refusing = layer.layer(Scripted::new().0);
    assert!(is_ready(&mut waiting));
    let refused = send(&mut refusing, Act::Succeed).await.unwrap_err();
    assert_eq!(refused.rejected().reason(), Reason::BulkheadFull);
    assert_eq!(waiting.call(Act::Succeed).await, Ok(1));
    assert_eq!(send(&mut refusing, Act::Succeed).await, Ok(1));
}
