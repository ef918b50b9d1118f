//! Layers that keep a state for each key.

use std::{
    future::{Future, ready},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
};

use allocation_counter::{AllocationInfo, measure};
use futures_util::future::join_all;
use steadfast::{
    Criticality, Reason,
    backoff::{Backoff, Jitter},
    bulkhead::{BulkheadLayer, KeyedBulkhead, KeyedBulkheadHandle, Queue},
    circuit_breaker::{CircuitBreakerBuilder, CircuitBreakerLayer, Mode, State, Thresholds},
    keyed::by_ref,
};
use tokio::{
    sync::Notify,
    time::{advance, timeout},
};
use tower::{Layer, Service, service_fn};

use crate::support::{Act, Error, Scripted, Watch, ms, poll_once, secs, send};

/// A request to a host.
#[derive(Clone, Debug)]
struct To(&'static str, Act);

fn host(to: &To) -> &str {
    to.0
}

/// Takes the act out of a request for a scripted service.
fn acting(service: Scripted) -> impl Service<To, Response = u32, Error = Error> + Clone {
    tower::ServiceExt::map_request(service, |To(_, act)| act)
}

macro_rules! keyed {
    ($builder:expr) => {{
        let layer = $builder.build().unwrap();
        let (service, watch) = Scripted::new();
        (layer.layer(acting(service)), layer.handle(), watch)
    }};
}

async fn call<S>(service: &mut S, to: &'static str, act: Act) -> Result<u32, Error>
where
    S: Service<To, Response = u32, Error = Error>,
{
    tower::ServiceExt::ready(service)
        .await?
        .call(To(to, act))
        .await
}

fn reason(result: Result<u32, Error>) -> Reason {
    result.unwrap_err().rejected().reason()
}

#[tokio::test(start_paused = true)]
async fn each_key_has_a_limit_of_its_own() {
    let builder = BulkheadLayer::builder(2).name("hosts");
    let (bulkhead, handle, watch) = keyed!(builder.keyed(10, by_ref(host)));
    let calls = ["a", "a", "a", "b", "b", "c"].map(|host| {
        let mut clone = bulkhead.clone();
        async move { call(&mut clone, host, Act::Take(secs(1))).await }
    });
    let mut calls = pin!(join_all(calls));
    assert!(poll_once(calls.as_mut()).is_pending());
    let in_flight = |host: &str| handle.get(host).unwrap().in_flight;
    assert_eq!((in_flight("a"), in_flight("b"), in_flight("c")), (2, 2, 1));
    assert!(handle.get("d").is_none());
    let mut keys = handle.keys();
    keys.sort_unstable();
    assert_eq!(
        (keys, handle.key_count()),
        (vec!["a".into(), "b".into(), "c".into()], 3)
    );

    let results = calls.await;
    let refused: Vec<_> = results.into_iter().filter_map(Result::err).collect();
    let [refused] = refused[..] else {
        panic!("one is too many")
    };
    let rejected = refused.rejected();
    assert_eq!(
        (rejected.layer(), rejected.reason()),
        ("hosts", Reason::BulkheadFull)
    );
    assert_eq!((in_flight("a"), watch.most(), watch.calls()), (0, 5, 5));
}

#[tokio::test(start_paused = true)]
async fn each_key_has_a_queue_of_its_own() {
    let builder = BulkheadLayer::builder(1).queue(Queue::fifo(1, ms(100)));
    let (mut bulkhead, handle, watch) = keyed!(builder.keyed(10, by_ref(host)));
    let hosts = ["a", "a", "a", "b", "b"];
    let calls = hosts.map(|host| bulkhead.call(To(host, Act::Hang)));
    let mut calls = calls.map(Box::pin);
    let mut full = Vec::new();
    for (host, call) in hosts.iter().zip(&mut calls) {
        if let Poll::Ready(result) = poll_once(call.as_mut()) {
            full.push((*host, reason(result)));
        }
    }
    assert_eq!(full, [("a", Reason::BulkheadFull)]);
    let of = |host: &str| handle.get(host).map(|it| (it.in_flight, it.waiting));
    assert_eq!((of("a"), of("b")), (Some((1, 1)), Some((1, 1))));

    let [first, second, _, _, other] = calls;
    assert_eq!(reason(other.await), Reason::QueueTimeout);
    drop(first);
    assert!(poll_once(pin!(second)).is_pending(), "it runs");
    assert_eq!((of("b"), watch.calls()), (Some((1, 0)), 3));
}

#[tokio::test(start_paused = true)]
async fn the_queue_of_one_key_stands_and_is_ordered_by_itself() {
    let queue = Queue::codel(9, secs(9)).target(ms(1), ms(2)).unwrap();
    let builder = BulkheadLayer::builder(1).queue(queue.by_criticality());
    let (mut bulkhead, handle, watch) = keyed!(builder.keyed(10, by_ref(host)));
    let mut begin = |host, class| {
        let context = steadfast::Context::new().with_criticality(class);
        let mut call = Box::pin(context.scope(bulkhead.call(To(host, Act::Hang))));
        assert!(poll_once(call.as_mut()).is_pending());
        call
    };
    let (sheddable, critical) = (Criticality::Sheddable, Criticality::Critical);
    let (mut running, mut waiting) = (begin("a", critical), begin("a", critical));
    for _ in 0..2 {
        advance(ms(3)).await;
        drop(running);
        (running, waiting) = (waiting, begin("a", critical));
        assert!(poll_once(running.as_mut()).is_pending());
    }
    let (one, mut first, mut second) = (
        begin("b", critical),
        begin("b", sheddable),
        begin("b", critical),
    );
    advance(ms(1)).await;
    let delay = |host| handle.get(host).unwrap().queue_delay;
    assert!(delay("a").is_standing && !delay("b").is_standing);
    assert_eq!((delay("a").least, delay("b").least), (ms(3), ms(0)));
    assert_eq!((delay("a").longest, delay("b").longest), (ms(1), ms(1)));

    drop(one);
    let calls = watch.calls();
    assert!(poll_once(first.as_mut()).is_pending());
    assert_eq!(watch.calls(), calls, "it came first and matters less");
    assert!(poll_once(second.as_mut()).is_pending());
    assert_eq!(watch.calls(), calls + 1);
    drop((running, waiting));
}

#[tokio::test(start_paused = true)]
async fn a_key_may_be_a_value_or_a_part_of_the_request() {
    let by_value = |to: &To| to.0.len();
    let (mut bulkhead, handle, _) = keyed!(BulkheadLayer::builder(1).keyed(10, by_value));
    call(&mut bulkhead, "a", Act::Succeed).await.unwrap();
    call(&mut bulkhead, "b", Act::Succeed).await.unwrap();
    assert_eq!(handle.keys(), [1]);
}

#[tokio::test(start_paused = true)]
async fn the_bound_holds_keys_in_use_stay_and_a_key_without_room_is_refused() {
    let (mut bulkhead, handle, watch) = keyed!(BulkheadLayer::builder(1).keyed(2, by_ref(host)));
    let mut first = Box::pin(bulkhead.call_ready("a", Act::Hang));
    for host in ["b", "c", "d"] {
        assert_eq!(call(&mut bulkhead, host, Act::Succeed).await, Ok(1));
        assert_eq!(handle.key_count(), 2);
    }
    let second = Box::pin(bulkhead.call_ready("e", Act::Hang));
    assert!(poll_once(first.as_mut()).is_pending());
    assert_eq!(
        reason(call(&mut bulkhead, "f", Act::Succeed).await),
        Reason::BulkheadFull
    );
    assert_eq!(
        reason(call(&mut bulkhead, "a", Act::Succeed).await),
        Reason::BulkheadFull
    );
    assert_eq!(watch.calls(), 5);
    drop(second);
    assert_eq!(call(&mut bulkhead, "f", Act::Succeed).await, Ok(1));
    assert!(handle.get("e").is_none() && handle.get("a").is_some());
}

trait CallReady {
    type Future;
    fn call_ready(&mut self, to: &'static str, act: Act) -> Self::Future;
}

impl<S: Service<To>> CallReady for S {
    type Future = S::Future;

    fn call_ready(&mut self, to: &'static str, act: Act) -> S::Future {
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(self.poll_ready(cx).is_ready());
        self.call(To(to, act))
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_in_the_queue_keeps_its_key_in_use() {
    let builder = BulkheadLayer::builder(0).queue(Queue::fifo(9, secs(99)));
    let (mut bulkhead, handle, _) = keyed!(builder.keyed(1, by_ref(host)));
    let mut waiting = Box::pin(bulkhead.call(To("a", Act::Succeed)));
    assert!(poll_once(waiting.as_mut()).is_pending());
    let refused = timeout(secs(1), bulkhead.call(To("b", Act::Succeed))).await;
    assert_eq!(reason(refused.unwrap()), Reason::BulkheadFull);
    handle.resize(1);
    assert_eq!(poll_once(waiting.as_mut()), Poll::Ready(Ok(1)));
}

#[tokio::test(start_paused = true)]
async fn keys_not_in_use_are_forgotten_after_the_idle_time_though_there_is_room() {
    let builder = BulkheadLayer::builder(1).keyed(1_000, by_ref(host));
    let (mut bulkhead, handle, _) = keyed!(builder.idle_time(secs(10)));
    let running = bulkhead.call_ready("busy", Act::Hang);
    call(&mut bulkhead, "idle", Act::Succeed).await.unwrap();
    advance(secs(10) - ms(1)).await;
    for host in ["b", "c", "d"] {
        call(&mut bulkhead, host, Act::Succeed).await.unwrap();
    }
    assert!(handle.get("idle").is_some());
    advance(ms(1)).await;
    for host in ["e", "f", "g", "h", "i"] {
        call(&mut bulkhead, host, Act::Succeed).await.unwrap();
    }
    assert!(handle.get("idle").is_none() && handle.get("busy").is_some());
    drop(running);
}

#[tokio::test(start_paused = true)]
async fn resizing_is_for_the_keys_there_are_and_for_those_to_come() {
    let builder = BulkheadLayer::builder(1).queue(Queue::fifo(9, secs(9)));
    let (mut bulkhead, handle, watch) = keyed!(builder.keyed(10, by_ref(host)));
    let gate = Arc::new(Notify::new());
    let acts = || Act::Await(gate.clone());
    let calls = ["a", "a", "b", "b"].map(|host| Box::pin(bulkhead.call(To(host, acts()))));
    let mut calls = Vec::from(calls);
    fn poll_all<F: Future>(calls: &mut Vec<Pin<Box<F>>>) {
        calls.retain_mut(|call| poll_once(call.as_mut()).is_pending());
    }
    poll_all(&mut calls);
    assert_eq!((watch.in_flight(), handle.limit()), (2, 1));
    handle.resize(2);
    poll_all(&mut calls);
    assert_eq!((watch.in_flight(), handle.limit()), (4, 2));
    calls.extend(["c", "c", "c"].map(|host| Box::pin(bulkhead.call(To(host, acts())))));
    poll_all(&mut calls);
    assert_eq!(
        handle
            .get("c")
            .map(|it| (it.limit, it.in_flight, it.waiting)),
        Some((2, 2, 1))
    );
}

#[test]
fn a_bound_of_no_key_is_refused_when_the_layer_is_built() {
    let error = BulkheadLayer::builder(1).keyed(0, by_ref(host)).build();
    let error = error.err().unwrap();
    assert_eq!((error.setting(), error.value()), ("max_keys", "0"));
    let queued = BulkheadLayer::builder(1).queue(Queue::fifo(1, secs(1)));
    assert!(queued.keyed(0, by_ref(host)).build().is_err());
}

/// Trips at the first failure, for a second.
fn touchy() -> CircuitBreakerBuilder {
    CircuitBreakerLayer::builder()
        .name("hosts")
        .consecutive_failures(1)
        .half_open_probes(1)
        .open_time(Backoff::constant(secs(1)).with_jitter(Jitter::None))
}

#[tokio::test(start_paused = true)]
async fn each_key_has_a_breaker_of_its_own() {
    let (mut breaker, handle, watch) = keyed!(touchy().keyed(10, by_ref(host)));
    call(&mut breaker, "a", Act::Fail(1)).await.unwrap_err();
    let rejected = call(&mut breaker, "a", Act::Succeed).await.unwrap_err();
    let rejected = rejected.rejected();
    assert_eq!(rejected.layer(), "hosts");
    assert_eq!(rejected.reason(), Reason::CircuitOpen);
    assert_eq!(rejected.retry_after(), Some(secs(1)));
    call(&mut breaker, "b", Act::Succeed).await.unwrap();
    assert_eq!(watch.calls(), 2);
    let state = |host: &str| handle.get(host).map(|breaker| breaker.state());
    assert_eq!(state("a"), Some(State::Open));
    assert_eq!(state("b"), Some(State::Closed));
    assert_eq!(state("c"), None);

    advance(secs(1)).await;
    call(&mut breaker, "a", Act::Succeed).await.unwrap();
    assert_eq!(state("a"), Some(State::Closed));
}

#[tokio::test(start_paused = true)]
async fn the_breaker_of_one_key_is_steered_and_no_other_also_before_its_first_call() {
    let (mut breaker, handle, _) = keyed!(touchy().keyed(3, by_ref(host)));
    handle.get_or_insert("a").unwrap().force_open();
    assert_eq!(
        reason(call(&mut breaker, "a", Act::Succeed).await),
        Reason::CircuitOpen
    );
    call(&mut breaker, "b", Act::Fail(1)).await.unwrap_err();
    handle.get_or_insert("b").unwrap().reset();
    call(&mut breaker, "b", Act::Succeed).await.unwrap();
    handle.get("a").unwrap().force_closed_for(secs(9));
    call(&mut breaker, "a", Act::Fail(1)).await.unwrap_err();
    assert_eq!(handle.get("a").unwrap().state(), State::ForcedClosed);
    assert_eq!(handle.keys().len(), 2);

    // A handle keeps its key.
    let pinned = ["c", "a", "b"].map(|host| handle.get_or_insert(host).unwrap());
    assert!(handle.get_or_insert("d").is_none());
    drop(pinned);
    assert!(handle.get_or_insert("d").is_some());
}

#[tokio::test(start_paused = true)]
async fn a_breaker_that_is_not_closed_is_forgotten_after_all_that_are() {
    let builder = touchy().keyed(4, by_ref(host)).idle_time(secs(1));
    let (mut breaker, handle, _) = keyed!(builder);
    handle.get_or_insert("forced").unwrap().force_open();
    call(&mut breaker, "open", Act::Fail(1)).await.unwrap_err();
    // Neither for room nor because they are idle, however many come.
    for host in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        advance(secs(60)).await;
        call(&mut breaker, host, Act::Succeed).await.unwrap();
    }
    assert!(handle.get("open").is_some() && handle.get("forced").is_some());
    // Where all the others are not closed either, it is the one not used the longest that goes.
    for host in ["a", "b", "c"] {
        advance(secs(60)).await;
        call(&mut breaker, host, Act::Fail(1)).await.unwrap_err();
        let refused = call(&mut breaker, "open", Act::Fail(1)).await;
        refused.unwrap_err();
    }
    assert!(handle.get("open").is_some() && handle.get("forced").is_none());
    assert_eq!(handle.key_count(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_mode_that_was_set_for_a_key_is_worth_keeping_and_that_in_which_all_begin_is_not() {
    let builder = touchy().mode(Mode::Disabled).keyed(2, by_ref(host));
    let (mut breaker, handle, _) = keyed!(builder.idle_time(secs(1)));
    let mode = |host: &str| handle.get(host).map(|breaker| breaker.mode());
    handle
        .get_or_insert("a")
        .unwrap()
        .set_mode(Mode::ObserveOnly);
    for host in ["b", "c", "d"] {
        advance(secs(60)).await;
        call(&mut breaker, host, Act::Succeed).await.unwrap();
        assert_eq!(mode(host), Some(Mode::Disabled));
    }
    assert_eq!(
        (mode("a"), handle.key_count()),
        (Some(Mode::ObserveOnly), 2)
    );
}

#[tokio::test(start_paused = true)]
async fn listeners_are_told_of_the_changes_of_all_breakers() {
    let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let told = count.clone();
    let builder = touchy().on_state_change(move |change| {
        assert_eq!((change.name, change.to), ("hosts", State::Open));
        told.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    });
    let (mut breaker, _, _) = keyed!(builder.keyed(10, by_ref(host)));
    for host in ["a", "b", "a", "c"] {
        call(&mut breaker, host, Act::Fail(1)).await.unwrap_err();
    }
    assert_eq!(count.load(std::sync::atomic::Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn a_call_for_whose_key_there_is_no_room_passes_and_nothing_is_kept_of_it() {
    let (mut breaker, handle, watch) = keyed!(touchy().keyed(1, by_ref(host)));
    let running = breaker.call_ready("a", Act::Hang);
    for _ in 0..3 {
        let failed = call(&mut breaker, "b", Act::Fail(1)).await;
        assert_eq!(failed, Err(Error::Failed(1)), "nobody remembers");
    }
    assert_eq!((watch.calls(), handle.keys()), (4, vec!["a".to_owned()]));
    drop(running);
    call(&mut breaker, "b", Act::Fail(1)).await.unwrap_err();
    assert_eq!(
        reason(call(&mut breaker, "b", Act::Succeed).await),
        Reason::CircuitOpen
    );
}

#[tokio::test(start_paused = true)]
async fn a_result_that_comes_late_is_for_the_breaker_that_let_the_call_pass() {
    let (mut breaker, handle, _) = keyed!(touchy().keyed(1, by_ref(host)));
    let mut slow = Box::pin(breaker.call_ready("a", Act::FailAfter(secs(60))));
    assert!(poll_once(slow.as_mut()).is_pending());
    for host in ["b", "c"] {
        call(&mut breaker, host, Act::Succeed).await.unwrap();
    }
    slow.await.unwrap_err();
    assert_eq!(handle.get("a").unwrap().state(), State::Open);
}

#[test]
fn what_is_wrong_with_a_breaker_is_wrong_with_one_for_each_key() {
    let no_key = touchy().keyed(0, by_ref(host)).build();
    assert_eq!(no_key.err().unwrap().setting(), "max_keys");
    let no_probe = touchy().half_open_probes(0).keyed(1, by_ref(host)).build();
    assert_eq!(no_probe.err().unwrap().setting(), "half_open_probes");
    let no_time = touchy().slow_call_duration(ms(0));
    let no_time = no_time.keyed(1, by_ref(host)).build();
    assert_eq!(no_time.err().unwrap().setting(), "slow_call_duration");
}

#[test]
fn memory_is_flat_also_where_each_key_has_a_window() {
    let layer = CircuitBreakerLayer::builder()
        .count_window(1_000, Thresholds::failure_rate(0.5))
        .keyed(100, |number: &u64| *number)
        .build()
        .unwrap();
    let mut service = layer.layer(service_fn(|number: u64| ready(Ok::<_, Error>(number))));
    call_all(&mut service, 0..1_000);
    let kept = measure(|| call_all(&mut service, 1_000..11_000));
    // Of 10,000 keys with 4,000 bytes each.
    assert!(kept.bytes_current.abs() < 100_000, "{kept:?}");
}

type Handle = KeyedBulkheadHandle<u64>;

/// A bulkhead by number, of so many numbers, that answers at once.
fn numbers(max_keys: usize) -> (impl Service<u64>, Handle) {
    let layer = BulkheadLayer::builder(8).keyed(max_keys, |number: &u64| *number);
    let layer = layer.build().unwrap();
    let service = service_fn(|number: u64| ready(Ok::<_, Error>(number)));
    (layer.layer(service), layer.handle())
}

fn call_all(service: &mut impl Service<u64>, numbers: impl Iterator<Item = u64>) {
    let cx = &mut Context::from_waker(Waker::noop());
    for number in numbers {
        assert!(service.poll_ready(cx).is_ready());
        assert!(pin!(service.call(number)).poll(cx).is_ready());
    }
}

/// What so many new keys leave in memory, once there were ten times as many as the bound.
fn kept_of(keys: u64, max_keys: usize) -> (AllocationInfo, Handle) {
    let (mut service, handle) = numbers(max_keys);
    let first = 10 * max_keys as u64;
    call_all(&mut service, 0..first);
    assert_eq!(handle.key_count(), max_keys);
    let kept = measure(|| call_all(&mut service, first..first + keys));
    assert_eq!(handle.key_count(), max_keys);
    (kept, handle)
}

#[test]
fn memory_is_flat_once_the_bound_is_reached() {
    let (kept, _handle) = kept_of(50_000, 500);
    // The map forgets in batches, and is now and then built anew at the same size.
    assert!(kept.bytes_current.abs() < 100_000, "{kept:?}");
}

/// `cargo test --release --all-features --test it -- --ignored a_million_keys --nocapture`
#[test]
#[ignore = "takes its time without optimisation"]
fn a_million_keys_take_no_more_memory_than_ten_thousand() {
    let (kept, _handle) = kept_of(1_000_000, 10_000);
    println!("{kept:?}");
    assert!(kept.bytes_current.abs() < 1_000_000, "{kept:?}");
    assert!(kept.bytes_max < 4_000_000, "{kept:?}");
}

#[test]
fn a_call_of_a_known_key_that_is_borrowed_from_the_request_allocates_nothing() {
    let layer = BulkheadLayer::builder(8).keyed(100, by_ref(|host: &String| host.as_str()));
    let layer = layer.build().unwrap();
    let inner = service_fn(|_: String| ready(Ok::<_, Error>(())));
    let mut service: KeyedBulkhead<_, String, _> = layer.layer(inner);
    let cx = &mut Context::from_waker(Waker::noop());
    let mut call = |host: String| {
        assert!(service.poll_ready(cx).is_ready());
        assert!(pin!(service.call(host)).poll(cx).is_ready());
    };
    call("a.example".to_owned());
    let again = "a.example".to_owned();
    let allocated = measure(|| call(again));
    assert_eq!(allocated.count_total, 0, "{allocated:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn over_threads_the_limit_of_each_key_holds_while_keys_come_and_go() {
    const KEYS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
    let watches = KEYS.map(|_| Scripted::new());
    let route = {
        let services = watches.clone().map(|(service, _)| service);
        service_fn(move |To(host, act): To| {
            let at = KEYS.iter().position(|key| *key == host).unwrap();
            let mut service = services[at].clone();
            async move { send(&mut service, act).await }
        })
    };
    let layer = BulkheadLayer::builder(2)
        .keyed(3, by_ref(host))
        .build()
        .unwrap();
    let bulkhead = layer.layer(route);
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let mut bulkhead = bulkhead.clone();
            tokio::spawn(async move {
                for n in 0..500 {
                    let host = KEYS[(task * 5 + n) % KEYS.len()];
                    let mut call = Box::pin(bulkhead.call_ready(host, Act::Hang));
                    for _ in 0..=n % 3 {
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
    let most = watches.map(|(_, watch): (_, Watch)| watch.most());
    assert!(most.iter().all(|most| *most <= 2), "{most:?}");
    assert!(layer.handle().key_count() <= 3);
}
