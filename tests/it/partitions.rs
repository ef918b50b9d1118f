//! Shares of one limit as their users see them.

use std::{future::Future, pin::pin};

use steadfast::{
    Context, Criticality, InvalidSetting, Reason,
    adaptive::{AdaptiveBuilder, AdaptiveHandle, AdaptiveLayer, Limit, Mode, Sample},
    bulkhead::{BulkheadHandle, BulkheadLayer, Queue},
    partitions::{PartitionSnapshot, Partitions},
};
use tokio::{
    task::JoinHandle,
    time::{Duration, Instant, advance, sleep},
};
use tower::{Layer, Service, ServiceExt, util::MapRequest};

use crate::support::{Act, Error, Scripted, ms, poll_once, secs};

/// The name of the partition, and what the service is to do.
#[derive(Debug)]
struct Req(&'static str, Act);

type Inner = MapRequest<Scripted, fn(Req) -> Act>;

fn inner() -> Inner {
    Scripted::new().0.map_request(|Req(_, act)| act)
}

type By = fn(&Req) -> &str;

fn by_name() -> Partitions<By> {
    Partitions::by((|Req(name, _)| name) as By)
}

fn live_and_batch() -> Partitions<By> {
    by_name().share("live", 90).share("batch", 10)
}

/// Something that takes requests, and shows its partitions.
trait Divided:
    Service<Req, Response = u32, Error = Error, Future: Send> + Clone + Send + 'static
{
}
impl<S> Divided for S where
    S: Service<Req, Response = u32, Error = Error, Future: Send> + Clone + Send + 'static
{
}

fn refusing(max: usize, partitions: Partitions<By>) -> (impl Divided, BulkheadHandle) {
    let layer = BulkheadLayer::builder(max).partitions(partitions).build();
    let layer = layer.unwrap();
    (layer.layer(inner()), layer.handle())
}

fn queued(max: usize, partitions: Partitions<By>, queue: Queue) -> (impl Divided, BulkheadHandle) {
    let layer = BulkheadLayer::builder(max).queue(queue);
    let layer = layer.partitions(partitions).build().unwrap();
    (layer.layer(inner()), layer.handle())
}

fn of(handle: &impl Shows, name: &str) -> PartitionSnapshot {
    let all = handle.partitions();
    *all.iter().find(|partition| partition.name == name).unwrap()
}

fn in_flight(handle: &impl Shows, name: &str) -> usize {
    of(handle, name).in_flight
}

/// What shows the partitions of a layer.
trait Shows {
    fn limit(&self) -> usize;
    fn in_flight(&self) -> usize;
    fn partitions(&self) -> Vec<PartitionSnapshot>;
}

macro_rules! shows {
    ($($handle:ty)*) => {
        $(impl Shows for $handle {
            fn limit(&self) -> usize {
                self.limit()
            }

            fn in_flight(&self) -> usize {
                self.in_flight()
            }

            fn partitions(&self) -> Vec<PartitionSnapshot> {
                self.partitions()
            }
        })*
    };
}
shows!(BulkheadHandle AdaptiveHandle);

/// Says the limit once, if any.
struct Once(Option<f64>);

impl Limit for Once {
    fn next(&mut self, limit: f64, _: &Sample) -> f64 {
        self.0.take().unwrap_or(limit)
    }
}

/// A limit that adapts to this with the first window.
fn adaptive(from: usize, to: Option<f64>) -> AdaptiveBuilder<Once> {
    AdaptiveLayer::builder()
        .algorithm(Once(to))
        .initial_limit(from)
}

fn refusing_adaptive(limit: usize, by: Partitions<By>) -> (impl Divided, AdaptiveHandle) {
    let layer = adaptive(limit, None).partitions(by).build().unwrap();
    (layer.layer(inner()), layer.handle())
}

fn queued_adaptive(
    limit: usize,
    by: Partitions<By>,
    queue: Queue,
) -> (impl Divided, AdaptiveHandle) {
    let layer = adaptive(limit, None).partitions(by).queue(queue);
    let layer = layer.build().unwrap();
    (layer.layer(inner()), layer.handle())
}

/// So many who call one after the other, and a while later again where they are refused.
fn callers(
    svc: &impl Divided,
    name: &'static str,
    number: usize,
    act: &Act,
    pause: Duration,
) -> Vec<JoinHandle<()>> {
    let caller = |_| {
        let (mut svc, act) = (svc.clone(), act.clone());
        tokio::spawn(async move {
            loop {
                let result = svc
                    .ready()
                    .await
                    .unwrap()
                    .call(Req(name, act.clone()))
                    .await;
                if result.is_err() {
                    sleep(pause).await;
                }
            }
        })
    };
    (0..number).map(caller).collect()
}

async fn call(svc: &impl Divided, name: &'static str, act: Act) -> Result<u32, Error> {
    let mut svc = svc.clone();
    svc.ready().await?.call(Req(name, act)).await
}

/// Begins so many calls that hang.
fn hang<S: Divided>(svc: &S, name: &'static str, number: usize) -> Vec<impl Future> {
    let one = |_| {
        let mut call = Box::pin(svc.clone().oneshot(Req(name, Act::Hang)));
        assert!(poll_once(call.as_mut()).is_pending());
        call
    };
    (0..number).map(one).collect()
}

async fn is_refused(svc: &impl Divided, name: &'static str) -> bool {
    match call(svc, name, Act::Succeed).await {
        Ok(_) => false,
        Err(error) => {
            let reason = error.rejected().reason();
            assert!(matches!(
                reason,
                Reason::BulkheadFull | Reason::LimitReached
            ));
            true
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_alone_has_the_whole_limit_and_no_more() {
    let queue = Queue::fifo(4, secs(1));
    let (svc, handle) = refusing(10, live_and_batch());
    let held = hang(&svc, "batch", 10);
    assert_eq!(
        (in_flight(&handle, "batch"), of(&handle, "batch").share),
        (10, 1)
    );
    assert!(is_refused(&svc, "batch").await && is_refused(&svc, "live").await);
    drop(held);
    assert_eq!(handle.in_flight(), 0);

    let (svc, handle) = queued(10, live_and_batch(), queue);
    let held = hang(&svc, "batch", 10 + 4);
    assert_eq!(in_flight(&handle, "batch"), 10);
    assert_eq!(of(&handle, "batch").waiting, 4);
    drop(held);
    assert_eq!((handle.in_flight(), of(&handle, "batch").waiting), (0, 0));
}

/// The mean number in flight of these partitions, over a while.
async fn means(handle: &impl Shows, names: &[&str]) -> Vec<f64> {
    const MILLIS: u32 = 500;
    let mut sums = vec![0; names.len()];
    for _ in 0..MILLIS {
        sleep(ms(1)).await;
        assert!(handle.in_flight() <= handle.limit());
        for (sum, name) in sums.iter_mut().zip(names) {
            *sum += in_flight(handle, name);
        }
    }
    let mean = |sum| sum as f64 / f64::from(MILLIS);
    sums.into_iter().map(mean).collect()
}

async fn assert_shares(svc: impl Divided, handle: impl Shows, numbers: [usize; 3]) {
    let names = ["live", "batch", "other"];
    let mut calling = Vec::new();
    for (name, number) in names.into_iter().zip(numbers) {
        // Not in step with one another.
        calling.extend(callers(&svc, name, number, &Act::Take(ms(9)), ms(2)));
        calling.extend(callers(&svc, name, number, &Act::Take(ms(23)), ms(3)));
    }
    sleep(ms(200)).await;
    let means = means(&handle, &names).await;
    calling.iter().for_each(JoinHandle::abort);
    for (mean, name) in means.iter().zip(names) {
        let share = of(&handle, name).share as f64;
        let near = (0.03 * share).max(0.1);
        assert!((mean - share).abs() <= near, "{numbers:?}: {means:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn when_all_ask_for_more_each_has_its_share_however_much_more_one_asks() {
    for numbers in [[30, 15, 15], [30, 150, 15], [300, 15, 15], [30, 15, 150]] {
        let partitions = || by_name().share("live", 60).share("batch", 30).other(10);
        let (svc, handle) = refusing(40, partitions());
        assert_shares(svc, handle, numbers).await;
        for queue in [Queue::fifo(40, secs(1)), Queue::lifo(900, secs(1))] {
            let (svc, handle) = queued(40, partitions(), queue);
            assert_shares(svc, handle, numbers).await;
        }
        if numbers[1] == 150 {
            let (svc, handle) = refusing_adaptive(40, partitions());
            assert_shares(svc, handle, numbers).await;
            let (svc, handle) = queued_adaptive(40, partitions(), Queue::fifo(40, secs(1)));
            assert_shares(svc, handle, numbers).await;
        }
    }
}

/// How long an owner whose calls come after each other waits for its share, while another who had it all
/// asks for all that comes back.
async fn time_to_share(svc: impl Divided, handle: impl Shows) -> Duration {
    callers(&svc, "batch", 50, &Act::Take(ms(100)), ms(1));
    sleep(ms(250)).await;
    assert_eq!(in_flight(&handle, "batch"), 20);
    let before = Instant::now();
    callers(&svc, "live", 18, &Act::Take(ms(100)), ms(1));
    while in_flight(&handle, "live") < 18 {
        sleep(ms(1)).await;
    }
    before.elapsed()
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_comes_back_has_its_share_after_the_time_of_one_call() {
    let (svc, handle) = refusing(20, live_and_batch());
    let took = time_to_share(svc, handle).await;
    assert!(took <= ms(102), "{took:?}");
    for places in [20, 500] {
        let queue = Queue::fifo(places, secs(10));
        let (svc, handle) = queued(20, live_and_batch(), queue);
        let took = time_to_share(svc, handle).await;
        assert!(took <= ms(102), "{places}: {took:?}");
    }
    let (svc, handle) = refusing_adaptive(20, live_and_batch());
    let took = time_to_share(svc, handle).await;
    assert!(took <= ms(102), "{took:?}");
    let queue = Queue::fifo(20, secs(10));
    let (svc, handle) = queued_adaptive(20, live_and_batch(), queue);
    let took = time_to_share(svc, handle).await;
    assert!(took <= ms(102), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_calls_now_and_then_is_refused_once_and_costs_the_borrower_one_permit() {
    let (svc, handle) = refusing(20, live_and_batch());
    callers(&svc, "batch", 40, &Act::Take(ms(20)), ms(10));
    sleep(ms(100)).await;
    assert!(is_refused(&svc, "live").await);
    for _ in 0..20 {
        sleep(ms(300)).await;
        assert_eq!(in_flight(&handle, "batch"), 19);
        assert!(!is_refused(&svc, "live").await);
    }
    // It stays away, and the permit is lent.
    sleep(secs(3)).await;
    assert_eq!(in_flight(&handle, "batch"), 20);
}

#[tokio::test(start_paused = true)]
async fn permits_that_are_kept_are_lent_when_they_have_been_idle_for_so_long() {
    let (svc, handle) = refusing(2, live_and_batch().lend_after(ms(500)));
    let mut held = hang(&svc, "batch", 2);
    assert!(is_refused(&svc, "live").await);
    advance(secs(100)).await; // it was not idle
    held.pop();
    assert!(
        is_refused(&svc, "batch").await,
        "seen to be idle from now on"
    );
    advance(ms(500) - Duration::from_nanos(1)).await;
    assert!(is_refused(&svc, "batch").await);
    advance(Duration::from_nanos(1)).await;
    held.extend(hang(&svc, "batch", 1));
    assert_eq!(in_flight(&handle, "batch"), 2);
}

#[tokio::test(start_paused = true)]
async fn shares_follow_the_limit_and_are_at_least_one() {
    let (svc, handle) = refusing(100, live_and_batch().other(1));
    let shares = |handle: &BulkheadHandle| {
        let shares: Vec<_> = handle.partitions().iter().map(|it| it.share).collect();
        shares
    };
    assert_eq!(shares(&handle), [89, 10, 1]);
    for (limit, expected) in [
        (20, [17, 2, 1]),
        (3, [1, 1, 1]),
        (1, [1, 0, 0]),
        (0, [0; 3]),
    ] {
        handle.resize(limit);
        assert_eq!(shares(&handle), expected, "{limit}");
    }
    handle.resize(20);
    let held = hang(&svc, "batch", 20);
    assert!(is_refused(&svc, "live").await && is_refused(&svc, "other").await);
    handle.resize(22);
    assert_eq!(in_flight(&handle, "live"), 0);
    assert!(is_refused(&svc, "batch").await, "both are kept");
    assert!(!is_refused(&svc, "live").await && !is_refused(&svc, "other").await);
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn a_name_without_a_share_is_in_the_partition_other_and_lives_from_what_is_lent() {
    let (svc, handle) = refusing(10, live_and_batch());
    let mut others = hang(&svc, "who?", 5);
    others.extend(hang(&svc, "", 5));
    assert_eq!(
        (in_flight(&handle, "other"), of(&handle, "other").share),
        (10, 0)
    );
    assert!(is_refused(&svc, "what?").await);
    assert!(is_refused(&svc, "live").await);
    drop(others.pop());
    assert!(is_refused(&svc, "who?").await, "it is kept");
    assert!(!is_refused(&svc, "live").await);
    let all = handle.partitions();
    let names: Vec<_> = all.iter().map(|it| (it.name, it.rejected)).collect();
    assert_eq!(names, [("live", 1), ("batch", 0), ("other", 2)]);
}

#[test]
fn settings_that_cannot_work_are_refused_when_the_layer_is_built() {
    let build = |partitions: Partitions<By>| {
        let built = BulkheadLayer::builder(10).partitions(partitions).build();
        built.map(drop).map_err(|error| error.to_string())
    };
    let many = |number: usize| {
        let names = [
            "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16",
        ];
        let names = names.into_iter().take(number);
        names.fold(by_name(), |partitions, name| partitions.share(name, 1))
    };
    let of = |result: Result<(), String>| result.unwrap_err();
    assert_eq!(
        of(build(by_name().other(1))),
        "invalid `share`: [] is not the share of 1 to 15 names"
    );
    assert!(of(build(many(16))).ends_with("is not the share of 1 to 15 names"));
    build(many(15).other(1)).unwrap();
    assert_eq!(
        of(build(live_and_batch().share("live", 1))),
        "invalid `share`: \"live\" is not a name that no other partition has"
    );
    assert!(of(build(by_name().share("other", 1))).contains("\"other\""));
    assert_eq!(
        of(build(by_name().share("live", 0))),
        "invalid `share`: [0, 0] is not such that some are more than 0"
    );
    assert_eq!(
        of(build(live_and_batch().lend_after(ms(0)))),
        "invalid `lend_after`: 0ns is not longer than zero"
    );
    build(live_and_batch().lend_after(Duration::MAX)).unwrap();
    let queued = |places| -> Result<(), InvalidSetting> {
        let builder = BulkheadLayer::builder(10).queue(Queue::fifo(places, secs(1)));
        builder.partitions(live_and_batch()).build().map(drop)
    };
    let error = queued(1).unwrap_err();
    assert_eq!(error.setting(), "queue");
    assert_eq!(
        error.allowed(),
        "0, or at least 2: a place for each partition"
    );
    queued(2).unwrap();
    queued(0).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_queue_without_places_keeps_permits_as_a_layer_that_refuses() {
    let (svc, handle) = queued(2, live_and_batch(), Queue::fifo(0, secs(1)));
    let mut held = hang(&svc, "batch", 2);
    assert!(is_refused(&svc, "live").await);
    held.pop();
    assert!(is_refused(&svc, "batch").await);
    held.extend(hang(&svc, "live", 1));
    assert_eq!(handle.in_flight(), 2);
}

#[tokio::test]
async fn a_function_that_panics_harms_its_caller_alone() {
    let by = |Req(name, _): &Req| -> &'static str { if name.is_empty() { panic!() } else { name } };
    let partitions = || Partitions::by(by as fn(&Req) -> &str).share("live", 1);
    let layer = BulkheadLayer::builder(1).partitions(partitions());
    let layer = layer.build().unwrap();
    let queue = Queue::fifo(1, secs(1));
    let queued = BulkheadLayer::builder(1)
        .queue(queue)
        .partitions(partitions());
    let queued = queued.build().unwrap();
    let panics = tokio::spawn(layer.layer(inner()).oneshot(Req("", Act::Succeed)));
    assert!(panics.await.unwrap_err().is_panic());
    let panics = tokio::spawn(queued.layer(inner()).oneshot(Req("", Act::Succeed)));
    assert!(panics.await.unwrap_err().is_panic());
    for handle in [layer.handle(), queued.handle()] {
        assert_eq!((handle.in_flight(), handle.waiting()), (0, 0));
        assert!(
            handle
                .partitions()
                .iter()
                .all(|it| it.in_flight + it.waiting == 0)
        );
    }
    assert!(!is_refused(&layer.layer(inner()), "live").await);
    assert!(!is_refused(&queued.layer(inner()), "live").await);
}

#[tokio::test(start_paused = true)]
async fn what_a_call_held_of_its_share_comes_back_however_it_ends() {
    let queue = Queue::fifo(4, ms(10));
    let (svc, handle) = queued(2, live_and_batch(), queue);
    for act in [Act::Succeed, Act::Fail(1), Act::Panic, Act::PanicInCall] {
        let call = svc.clone().oneshot(Req("batch", act));
        let _ = tokio::spawn(call).await;
        assert!(handle.partitions().iter().all(|it| it.in_flight == 0));
    }
    let held = hang(&svc, "batch", 2);
    // One waits for too long, one gives up, and one is served and does not know it.
    call(&svc, "live", Act::Succeed).await.unwrap_err();
    drop(hang(&svc, "live", 1));
    let served = hang(&svc, "live", 1);
    assert_eq!(of(&handle, "live").waiting, 1);
    drop(held);
    assert_eq!(
        (in_flight(&handle, "live"), in_flight(&handle, "batch")),
        (1, 0)
    );
    drop(served);
    assert_eq!(in_flight(&handle, "live") + of(&handle, "live").waiting, 0);

    // And one is served in time, and sleeps until its deadline.
    let held = hang(&svc, "batch", 2);
    let context = Context::new().with_timeout(ms(5));
    let mut late = Box::pin(context.scope(svc.clone().oneshot(Req("live", Act::Succeed))));
    assert!(poll_once(late.as_mut()).is_pending());
    drop(held);
    assert_eq!(in_flight(&handle, "live"), 1);
    advance(ms(5)).await;
    let rejected = late.await.unwrap_err().rejected();
    assert_eq!(rejected.reason(), Reason::DeadlineExceeded);
    assert_eq!(in_flight(&handle, "live"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_of_several_permits_is_within_its_share_if_all_are() {
    let partitions = Partitions::by(|(name, _): &(&'static str, usize)| *name);
    let layer = BulkheadLayer::builder(10)
        .weight(|(_, weight): &(&'static str, usize)| *weight)
        .partitions(partitions.share("live", 60).share("batch", 40))
        .build()
        .unwrap();
    let (handle, svc) = (layer.handle(), Scripted::new().0);
    let svc = layer.layer(svc.map_request(|_| Act::Hang));
    let call = |name, weight| {
        let mut call = Box::pin(svc.clone().oneshot((name, weight)));
        poll_once(call.as_mut()).is_pending().then_some(call)
    };
    let batch = call("batch", 7).unwrap();
    let three = call("batch", 3).unwrap();
    assert!(call("live", 6).is_none());
    drop(three);
    assert!(call("batch", 1).is_none(), "the three are kept");
    assert!(call("live", 6).is_none(), "and are not enough");
    assert!(call("live", 7).is_none(), "more than the share");
    drop(batch);
    let live = call("live", 6).unwrap();
    assert!(call("batch", 5).is_none());
    let batch = call("batch", 4).unwrap();
    assert_eq!(
        (in_flight(&handle, "live"), in_flight(&handle, "batch")),
        (6, 4)
    );
    drop((live, batch));
}

#[tokio::test(start_paused = true)]
async fn each_partition_stands_in_the_queue_for_itself() {
    let queue = Queue::codel(1_000, secs(10));
    let partitions = by_name().share("live", 50).share("batch", 50);
    let (svc, handle) = queued(10, partitions, queue);
    callers(&svc, "batch", 100, &Act::Take(ms(10)), ms(1));
    // Fewer than its share, which wait for no longer than until one ends.
    let live = callers(&svc, "live", 4, &Act::Take(ms(7)), ms(1));
    sleep(secs(2)).await;
    assert!(
        of(&handle, "batch").rejected > 500,
        "{:?}",
        handle.partitions()
    );
    assert_eq!(of(&handle, "live").rejected, 0);
    drop(live);
}

#[tokio::test(start_paused = true)]
async fn in_a_queue_each_partition_has_its_criticalities_among_itself() {
    let queue = Queue::fifo(4, secs(1)).by_criticality();
    let partitions = by_name().share("live", 50).share("batch", 50);
    let (svc, handle) = queued(1, partitions, queue);
    let running = hang(&svc, "live", 1);
    let of_class = |name, class| {
        let context = Context::new().with_criticality(class);
        let mut call = Box::pin(context.scope(svc.clone().oneshot(Req(name, Act::Succeed))));
        assert!(poll_once(call.as_mut()).is_pending());
        call
    };
    let mut low = of_class("live", Criticality::Sheddable);
    let mut high = of_class("live", Criticality::CriticalPlus);
    let mut batch = of_class("batch", Criticality::Sheddable);
    drop(running);
    assert!(poll_once(low.as_mut()).is_pending() && poll_once(batch.as_mut()).is_pending());
    assert!(poll_once(high.as_mut()).is_ready());
    // Now the turn is the other's, who is no more critical.
    assert!(poll_once(low.as_mut()).is_pending());
    assert!(poll_once(batch.as_mut()).is_ready());
    assert!(poll_once(low.as_mut()).is_ready());
    assert_eq!(handle.in_flight(), 0);
}

#[tokio::test]
async fn partitions_by_criticality_are_those_of_the_context() {
    let partitions = Partitions::by_criticality()
        .share("critical_plus", 25)
        .share("critical", 50)
        .other(25);
    let layer = BulkheadLayer::builder(4)
        .partitions(partitions)
        .build()
        .unwrap();
    let (mut svc, handle) = (layer.layer(Scripted::new().0), layer.handle());
    for (class, name) in [
        (Criticality::CriticalPlus, "critical_plus"),
        (Criticality::Critical, "critical"),
        (Criticality::SheddablePlus, "other"),
        (Criticality::Sheddable, "other"),
    ] {
        let context = Context::new().with_criticality(class);
        let ready = svc.ready().await.unwrap();
        let call = context.sync_scope(|| ready.call(Act::Hang));
        let mut call = pin!(call);
        assert!(poll_once(call.as_mut()).is_pending());
        assert_eq!(in_flight(&handle, name), 1, "{class:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn shares_follow_a_limit_that_adapts() {
    let queue = Queue::fifo(3, secs(1));
    let partitions = || by_name().share("live", 75).share("batch", 25);
    for is_queued in [false, true] {
        let builder = adaptive(4, Some(40.0)).partitions(partitions());
        let (call, handle): (Box<dyn Fn() -> JoinHandle<_>>, _) = if is_queued {
            let layer = builder.queue(queue).build().unwrap();
            let svc = layer.layer(inner());
            let call = move || tokio::spawn(svc.clone().oneshot(Req("live", Act::Succeed)));
            (Box::new(call), layer.handle())
        } else {
            let layer = builder.build().unwrap();
            let svc = layer.layer(inner());
            let call = move || tokio::spawn(svc.clone().oneshot(Req("live", Act::Succeed)));
            (Box::new(call), layer.handle())
        };
        let shares = || {
            handle
                .partitions()
                .iter()
                .map(|it| it.share)
                .collect::<Vec<_>>()
        };
        assert_eq!(shares(), [3, 1, 0]);
        while handle.limit() == 4 {
            call().await.unwrap().unwrap();
            advance(ms(10)).await;
        }
        assert_eq!(shares(), [30, 10, 0]);
        handle.set_limit(8);
        assert_eq!(shares(), [6, 2, 0]);
        assert!(handle.partitions().iter().all(|it| it.in_flight == 0));
    }
}

#[tokio::test(start_paused = true)]
async fn an_adaptive_layer_that_only_observes_or_is_disabled_refuses_nobody() {
    let (svc, handle) = refusing_adaptive(2, live_and_batch());
    let held = hang(&svc, "batch", 2);
    assert!(is_refused(&svc, "live").await);
    handle.set_mode(Mode::ObserveOnly);
    let spared = hang(&svc, "live", 1);
    assert_eq!((handle.in_flight(), in_flight(&handle, "live")), (2, 0));
    handle.set_mode(Mode::Disabled);
    let unwatched = hang(&svc, "live", 1);
    drop((held, spared, unwatched));
    assert!(handle.partitions().iter().all(|it| it.in_flight == 0));
    assert_eq!(of(&handle, "live").rejected, 1);
}

#[test]
fn an_adaptive_limit_refuses_partitions_that_cannot_work() {
    let error = adaptive(9, None).partitions(by_name()).build();
    assert_eq!(error.unwrap_err().setting(), "share");
    let queue = Queue::fifo(1, secs(1));
    let error = adaptive(9, None).partitions(live_and_batch()).queue(queue);
    assert_eq!(error.build().unwrap_err().setting(), "queue");
}
