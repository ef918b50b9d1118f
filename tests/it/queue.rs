//! The queue of a bulkhead: in which order it serves, whom it refuses, and what it tells.

use std::{
    cell::RefCell,
    future::Future,
    pin::{Pin, pin},
    rc::Rc,
    task::Poll,
    time::Duration,
};

use futures_util::future::join_all;
use proptest::prelude::*;
use steadfast::{
    Context, Criticality, LiftLayer, Reason,
    adaptive::AdaptiveLayer,
    bulkhead::{BulkheadHandle, BulkheadLayer, QueuedBulkhead},
    queue::{Queue, QueueDelay},
};
use tokio::{
    task::LocalSet,
    time::{Instant, advance, sleep},
};
use tower::{Layer, Service, service_fn};

use crate::support::{Act, Error, Scripted, Watch, ms, poll_once, secs, send};

const ALL: [Criticality; 4] = [
    Criticality::CriticalPlus,
    Criticality::Critical,
    Criticality::SheddablePlus,
    Criticality::Sheddable,
];

type Call = Pin<Box<dyn Future<Output = Result<u32, Error>>>>;

struct Fixture {
    bulkhead: QueuedBulkhead<Scripted>,
    handle: BulkheadHandle,
    watch: Watch,
}

impl Fixture {
    fn new(max: usize, queue: Queue) -> Self {
        let layer = BulkheadLayer::builder(max).queue(queue).build();
        let (service, watch) = Scripted::new();
        Self {
            bulkhead: layer.layer(service),
            handle: layer.handle(),
            watch,
        }
    }

    /// A call within `context`, polled once: it runs, or waits.
    fn begin_in(&mut self, context: Context, act: Act) -> Call {
        let mut call: Call = Box::pin(context.scope(self.bulkhead.call(act)));
        assert!(poll_once(call.as_mut()).is_pending(), "it has ended");
        call
    }

    fn begin(&mut self, act: Act) -> Call {
        self.begin_in(Context::new(), act)
    }

    /// Whether a call, made now, is refused at once, and why.
    fn refused(&mut self, class: Criticality) -> Option<Reason> {
        let context = Context::new().with_criticality(class);
        match poll_once(pin!(context.scope(self.bulkhead.call(Act::Succeed)))) {
            Poll::Ready(Err(error)) => Some(error.rejected().reason()),
            Poll::Ready(Ok(_)) => panic!("it ran"),
            Poll::Pending => None,
        }
    }
}

fn of(class: Criticality) -> Context {
    Context::new().with_criticality(class)
}

/// Why a call was refused that has ended by now.
fn ended(call: &mut Call) -> Option<Reason> {
    match poll_once(call.as_mut()) {
        Poll::Ready(result) => Some(result.unwrap_err().rejected().reason()),
        Poll::Pending => None,
    }
}

/// Lets a queue stand: for a while, someone has waited for 10 ms whenever a turn comes. Then one runs, and
/// one has waited for 20 ms.
async fn let_stand(fixture: &mut Fixture) -> (Call, Call) {
    let mut running = fixture.begin(Act::Hang);
    let mut waiting = fixture.begin(Act::Hang);
    for _ in 0..15 {
        advance(ms(10)).await;
        drop(running);
        running = waiting;
        assert!(poll_once(running.as_mut()).is_pending(), "refused");
        waiting = fixture.begin(Act::Hang);
    }
    advance(ms(20)).await;
    (running, waiting)
}

#[tokio::test(start_paused = true)]
async fn an_adaptive_queue_serves_who_came_first_and_last_while_it_stands_and_then_first_again() {
    let order = |queue| async move {
        let mut fixture = Fixture::new(1, queue);
        let mut orders = Vec::new();
        for stands in [false, true, false] {
            let (mut running, first) = if stands {
                let_stand(&mut fixture).await
            } else {
                // Whoever need not wait ends the queue that there was.
                (fixture.begin(Act::Hang), fixture.begin(Act::Hang))
            };
            assert_eq!(fixture.handle.queue_delay().is_standing, stands);
            let mut calls = vec![(0, first)];
            calls.extend((1..4).map(|n| (n, fixture.begin(Act::Hang))));
            let mut order = Vec::new();
            for _ in 0..4 {
                let before = fixture.watch.calls();
                drop(running);
                // Polled one after the other, and yet only who is next runs.
                let is_next = |(_, call): &mut (usize, Call)| {
                    assert!(poll_once(call.as_mut()).is_pending());
                    fixture.watch.calls() > before
                };
                let at = calls.iter_mut().position(is_next).unwrap();
                let (n, call) = calls.remove(at);
                order.push(n);
                running = call;
            }
            drop(running);
            assert_eq!(fixture.handle.waiting(), 0);
            orders.push(order);
        }
        orders
    };
    let (first, last) = (vec![0, 1, 2, 3], vec![3, 2, 1, 0]);
    let adaptive = [first.clone(), last.clone(), first.clone()];
    assert_eq!(order(Queue::adaptive_lifo(9, secs(9))).await, adaptive);
    assert_eq!(
        order(Queue::fifo(9, secs(9))).await,
        [(); 3].map(|()| first.clone())
    );
    assert_eq!(
        order(Queue::lifo(9, secs(9))).await,
        [(); 3].map(|()| last.clone())
    );
}

#[tokio::test(start_paused = true)]
async fn while_its_queue_stands_codel_refuses_who_has_waited_too_long_and_says_when_to_come_back() {
    for queue in [
        Queue::codel(9, secs(9)),
        Queue::codel_adaptive_lifo(9, secs(9)),
    ] {
        let mut fixture = Fixture::new(1, queue);
        let (running, mut old) = let_stand(&mut fixture).await;
        assert!(fixture.handle.queue_delay().is_standing);
        let mut young = fixture.begin(Act::Hang);
        drop(running);
        let Poll::Ready(Err(error)) = poll_once(old.as_mut()) else {
            panic!("served after 20 ms");
        };
        let rejected = error.rejected();
        assert_eq!(rejected.reason(), Reason::Overloaded);
        assert_eq!(rejected.retry_after(), Some(ms(100)));
        let calls = fixture.watch.calls();
        assert!(poll_once(young.as_mut()).is_pending());
        assert_eq!(fixture.watch.calls(), calls + 1);
        assert_eq!(
            (fixture.handle.in_flight(), fixture.handle.waiting()),
            (1, 0)
        );
    }
}

/// What became of an open loop of calls.
#[derive(Debug, Default)]
struct Outcome {
    /// How many were served, by class.
    served: [usize; 4],
    refused: [Vec<Reason>; 4],
}

/// A generator of our own, so that no release of another changes the load.
struct Random(u64);

impl Random {
    /// In 0..1, uniformly: SplitMix64.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// The time to the next arrival of a Poisson process.
    fn gap(&mut self, per_second: f64) -> f64 {
        -(1.0 - self.next()).ln() / per_second
    }
}

/// The milliseconds, from the first on, in which calls arrive.
fn arrivals(random: &mut Random, per_second: f64, seconds: f64) -> Vec<u64> {
    let gaps = std::iter::repeat_with(|| random.gap(per_second));
    let times = gaps.scan(0.0, |now, gap| {
        *now += gap;
        Some(*now)
    });
    let times = times.take_while(|at| *at < seconds);
    times.map(|at| (at * 1_000.0) as u64).collect()
}

/// Twenty calls at a time, of 20 ms: 1,000 a second. What comes is of a class by `class`.
async fn load(queue: Queue, arrivals: &[u64], mut class: impl FnMut() -> Criticality) -> Outcome {
    let layer = BulkheadLayer::builder(20).queue(queue).build();
    let outcome = Rc::new(RefCell::new(Outcome::default()));
    let begun = Instant::now();
    let served = outcome.clone();
    let service = service_fn(move |class: usize| {
        served.borrow_mut().served[class] += 1;
        async {
            sleep(ms(20)).await;
            Ok::<_, std::convert::Infallible>(0)
        }
    });
    let bulkhead = layer.layer(LiftLayer::new().layer(service));
    let calls = LocalSet::new();
    calls
        .run_until(async {
            for &at in arrivals {
                tokio::time::sleep_until(begun + ms(at)).await;
                let (mut bulkhead, outcome, class) = (bulkhead.clone(), outcome.clone(), class());
                tokio::task::spawn_local(of(class).scope(async move {
                    if let Err(error) = bulkhead.call(class as usize).await {
                        let reason = error.rejected().unwrap().reason();
                        outcome.borrow_mut().refused[class as usize].push(reason);
                    }
                }));
            }
        })
        .await;
    calls.await;
    drop(bulkhead);
    outcome.take()
}

#[tokio::test(start_paused = true)]
async fn below_its_capacity_codel_refuses_nothing() {
    let arrivals = arrivals(&mut Random(2), 800.0, 20.0);
    for queue in [
        Queue::codel(10_000, secs(60)),
        Queue::codel_adaptive_lifo(10_000, secs(60)).by_criticality(),
    ] {
        let mut classes = ALL.iter().copied().cycle();
        let class = || classes.next().unwrap();
        let outcome = load(queue, &arrivals, class).await;
        assert_eq!(outcome.refused.concat(), []);
    }
}

#[tokio::test(start_paused = true)]
async fn under_overload_the_critical_are_all_served_and_the_rest_share_what_is_left() {
    let arrivals = arrivals(&mut Random(3), 3_000.0, 5.0);
    for queue in [
        Queue::fifo(50, secs(1)),
        Queue::lifo(50, secs(1)),
        Queue::adaptive_lifo(50, secs(1)),
        Queue::codel(50, secs(1)),
        Queue::codel_adaptive_lifo(50, secs(1)),
    ] {
        let mut random = Random(4);
        let class = || match random.next() {
            at if at < 0.1 => Criticality::CriticalPlus,
            at if at < 0.25 => Criticality::Critical,
            at if at < 0.5 => Criticality::SheddablePlus,
            _ => Criticality::Sheddable,
        };
        let outcome = load(queue.by_criticality(), &arrivals, class).await;
        let share = |class: Criticality| {
            let class = class as usize;
            let served = outcome.served[class] as f64;
            served / (served + outcome.refused[class].len() as f64)
        };
        let shares = ALL.map(share);
        // 300, 450 and 750 a second, and what is left of 1,000 is 250 for the third and nothing for the
        // last, but for moments.
        let what = format!("{queue:?} {shares:?}");
        assert_eq!(shares[..2], [1.0, 1.0], "{what}");
        assert!((0.25..0.45).contains(&shares[2]), "{what}");
        assert!(shares[3] < 0.05, "{what}");
        assert!(outcome.served.iter().sum::<usize>() >= 4_950, "{what}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        rng_seed: proptest::test_runner::RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::with_cases(100)
    })]

    /// Bursts that come one after the other, each of which a hundred calls at a time can end within an
    /// interval. Nobody is refused, whatever each has waited.
    #[test]
    fn bursts_that_are_over_within_an_interval_are_served_to_the_last(
        is_adaptive in any::<bool>(),
        bursts in prop::collection::vec((1..400_usize, 0..150_u64), 1..6),
    ) {
        let queue = if is_adaptive {
            Queue::codel_adaptive_lifo(1_000, secs(9))
        } else {
            Queue::codel(1_000, secs(9))
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        // Twenty each 20 ms: a burst of a hundred takes 100 ms, and the last wait 80.
        let mut at = 1;
        let mut arrivals = Vec::new();
        for (size, pause) in bursts {
            let size = size % 100 + 1;
            arrivals.extend(std::iter::repeat_n(at, size));
            at += 101 + pause;
        }
        let outcome = runtime.block_on(load(queue, &arrivals, Criticality::default));
        prop_assert_eq!(outcome.refused.concat(), []);
    }
}

#[tokio::test(start_paused = true)]
async fn a_permit_goes_past_one_whose_time_is_up_though_his_task_sleeps() {
    for (left, reason, late) in [
        (ms(200), Reason::QueueTimeout, ms(101)),
        (ms(50), Reason::DeadlineExceeded, ms(50)),
        // Of two ends at once the deadline is the harder.
        (ms(100), Reason::DeadlineExceeded, ms(100)),
    ] {
        let context = Context::new().with_timeout(left);
        let mut fixture = Fixture::new(1, Queue::fifo(9, ms(100)));
        let running = fixture.begin(Act::Hang);
        let mut sleeping = fixture.begin_in(context, Act::Succeed);
        advance(late).await;
        let mut next = fixture.begin(Act::Hang);
        drop(running);
        assert_eq!(
            (fixture.handle.in_flight(), fixture.handle.waiting()),
            (1, 0)
        );
        assert!(poll_once(next.as_mut()).is_pending());
        assert_eq!(fixture.watch.calls(), 2, "the next has the permit");
        assert_eq!(ended(&mut sleeping), Some(reason));
        assert_eq!(fixture.watch.calls(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_permit_that_comes_a_moment_before_the_end_is_used() {
    for left in [secs(1), ms(101)] {
        let context = Context::new().with_timeout(left);
        let mut fixture = Fixture::new(1, Queue::fifo(9, ms(100)));
        let running = fixture.begin(Act::Hang);
        let mut waiting = fixture.begin_in(context, Act::Succeed);
        advance(ms(100)).await;
        drop(running);
        assert_eq!(poll_once(waiting.as_mut()), Poll::Ready(Ok(1)));
    }
}

#[tokio::test(start_paused = true)]
async fn one_who_sleeps_through_his_deadline_with_the_permit_in_hand_is_not_run_and_gives_it_back()
{
    let mut fixture = Fixture::new(1, Queue::fifo(9, ms(100)));
    let running = fixture.begin(Act::Hang);
    let mut sleeping = fixture.begin_in(Context::new().with_timeout(ms(50)), Act::Succeed);
    drop(running);
    assert_eq!(fixture.handle.in_flight(), 1, "it came in time");
    advance(ms(50)).await;
    assert_eq!(ended(&mut sleeping), Some(Reason::DeadlineExceeded));
    assert_eq!((fixture.handle.in_flight(), fixture.watch.calls()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn one_who_is_too_late_to_wait_is_refused_at_once_and_takes_no_place() {
    let queue = Queue::fifo(1, secs(1)).by_criticality();
    let mut fixture = Fixture::new(1, queue);
    let _running = fixture.begin(Act::Hang);
    let mut waiting = fixture.begin_in(of(Criticality::Sheddable), Act::Hang);
    let late = of(Criticality::CriticalPlus).with_deadline(Instant::now());
    let call = late.scope(fixture.bulkhead.call(Act::Succeed));
    let Poll::Ready(Err(error)) = poll_once(pin!(call)) else {
        panic!("it waits, or runs");
    };
    assert_eq!(error.rejected().reason(), Reason::DeadlineExceeded);
    assert_eq!(ended(&mut waiting), None, "nobody left for it");
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_takes_the_more_critical_for_the_last_of_the_least_critical() {
    use Criticality::{Critical, CriticalPlus, Sheddable, SheddablePlus};
    for (queue, evicted) in [
        (Queue::fifo(3, secs(9)), [2, 1]),
        (Queue::lifo(3, secs(9)), [1, 2]),
        (Queue::codel(3, secs(9)), [2, 1]),
        (Queue::adaptive_lifo(3, secs(9)), [2, 1]),
    ] {
        let mut fixture = Fixture::new(1, queue.by_criticality());
        let running = fixture.begin(Act::Hang);
        let classes = [SheddablePlus, Sheddable, Sheddable];
        let mut calls = classes.map(|class| fixture.begin_in(of(class), Act::Hang));
        assert_eq!(fixture.refused(Sheddable), Some(Reason::BulkheadFull));

        for evicted in evicted {
            calls[evicted] = {
                let newcomer = fixture.begin_in(of(Critical), Act::Hang);
                assert_eq!(ended(&mut calls[evicted]), Some(Reason::BulkheadFull));
                newcomer
            };
            assert_eq!(fixture.handle.waiting(), 3);
        }
        // The last of those who are less critical, and then there is none.
        assert_eq!(fixture.refused(SheddablePlus), Some(Reason::BulkheadFull));
        let _most = fixture.begin_in(of(CriticalPlus), Act::Hang);
        assert_eq!(ended(&mut calls[0]), Some(Reason::BulkheadFull));
        assert_eq!(fixture.refused(Critical), Some(Reason::BulkheadFull));
        assert_eq!((fixture.handle.waiting(), fixture.watch.calls()), (3, 1));
        drop(running);
    }
}

#[tokio::test(start_paused = true)]
async fn newcomers_are_refused_by_and_by_and_none_for_those_who_are_less_critical() {
    let queue = Queue::fifo(10, secs(9)).refuse_from(5).unwrap();
    let mut fixture = Fixture::new(1, queue.by_criticality());
    let _running = fixture.begin(Act::Hang);
    let sheddable = of(Criticality::Sheddable);
    let mut calls = Vec::new();
    // A fifth of those who come while six wait, two fifths while seven do, and so on.
    let mut came_at = Vec::new();
    for came in 0.. {
        if fixture.handle.waiting() == 10 {
            break;
        }
        let mut call: Call = Box::pin(sheddable.scope(fixture.bulkhead.call(Act::Hang)));
        if poll_once(call.as_mut()).is_pending() {
            came_at.push(came);
            calls.push(call);
        }
    }
    assert_eq!(came_at, [0, 1, 2, 3, 4, 5, 6, 7, 9, 14]);

    for _ in 0..5 {
        calls.push(fixture.begin_in(of(Criticality::Critical), Act::Hang));
    }
}

#[tokio::test(start_paused = true)]
async fn an_adaptive_limit_refuses_by_and_by_with_its_reason() {
    let layer = AdaptiveLayer::builder()
        .initial_limit(1)
        .queue(Queue::fifo(4, secs(9)).refuse_from(0).unwrap())
        .build()
        .unwrap();
    let mut limited = layer.layer(Scripted::new().0);
    let mut calls: Vec<Call> = Vec::new();
    let mut reasons = Vec::new();
    for _ in 0..5 {
        let mut call: Call = Box::pin(limited.call(Act::Hang));
        match poll_once(call.as_mut()) {
            Poll::Ready(result) => reasons.push(result.unwrap_err().rejected().reason()),
            Poll::Pending => calls.push(call),
        }
    }
    assert_eq!((calls.len(), reasons), (4, vec![Reason::LimitReached]));
    assert_eq!(layer.handle().waiting(), 3);
}

#[tokio::test(start_paused = true)]
async fn without_it_criticality_decides_nothing() {
    let mut fixture = Fixture::new(1, Queue::fifo(1, secs(9)));
    let _running = fixture.begin(Act::Hang);
    let mut waiting = fixture.begin_in(of(Criticality::Sheddable), Act::Hang);
    let refused = fixture.refused(Criticality::CriticalPlus);
    assert_eq!(refused, Some(Reason::BulkheadFull));
    assert_eq!(ended(&mut waiting), None);
}

#[tokio::test(start_paused = true)]
async fn the_delay_is_known_while_somebody_waits_and_zero_while_nobody_does() {
    let mut fixture = Fixture::new(1, Queue::fifo(9, secs(9)).target(ms(10), ms(30)).unwrap());
    let delay = |fixture: &Fixture| {
        let QueueDelay {
            least,
            smoothed,
            longest,
            is_standing,
            ..
        } = fixture.handle.queue_delay();
        ([least, smoothed, longest], is_standing)
    };
    let nothing = ([ms(0); 3], false);
    assert_eq!(delay(&fixture), nothing);
    let mut running = fixture.begin(Act::Hang);
    assert_eq!(delay(&fixture), nothing);
    let mut waiting = fixture.begin(Act::Hang);
    advance(ms(40)).await;
    assert_eq!(
        delay(&fixture),
        ([ms(0), ms(0), ms(40)], false),
        "none has come"
    );

    // Turns come after 40, 20, 20 and 20 ms; those of the first 30 ms are the first two.
    for (least, smoothed) in [(0, 40), (0, 37_500), (20, 0), (20, 0)] {
        let next = fixture.begin(Act::Hang);
        drop(std::mem::replace(&mut running, waiting));
        assert!(poll_once(running.as_mut()).is_pending());
        waiting = next;
        let ([now, smooth, longest], is_standing) = delay(&fixture);
        assert_eq!((now, longest, is_standing), (ms(least), ms(0), least > 10));
        match smoothed {
            0 => assert!(ms(20) < smooth && smooth < ms(40)),
            40 => assert_eq!(smooth, ms(40)),
            micros => assert_eq!(smooth, Duration::from_micros(micros)),
        }
        advance(ms(20)).await;
    }
    drop(waiting);
    assert_eq!(delay(&fixture), nothing, "nobody waits");
    drop(running);
    let _running = fixture.begin(Act::Hang);
    let _waiting = fixture.begin(Act::Hang);
    assert_eq!(delay(&fixture), nothing, "it is another queue");
}

#[test]
fn a_setting_that_cannot_work_is_refused() {
    let queue = Queue::codel(9, secs(1));
    for (target, interval, setting) in [
        (ms(0), ms(100), "target"),
        (ms(5), ms(5), "interval"),
        (ms(5), ms(0), "interval"),
        (Duration::MAX, Duration::MAX, "interval"),
    ] {
        let error = queue.target(target, interval).unwrap_err();
        assert_eq!(error.setting(), setting, "{error}");
    }
    let error = queue.target(ms(7), ms(6)).unwrap_err().to_string();
    assert_eq!(
        error,
        "invalid `interval`: 6ms is not longer than the target, 7ms"
    );
    let default = queue.target(ms(5), ms(100)).unwrap();
    assert_eq!(default, queue);

    let error = queue.refuse_from(9).unwrap_err().to_string();
    assert_eq!(
        error,
        "invalid `refuse_from`: 9 is not less than the capacity, 9"
    );
    let _ = queue.refuse_from(8).unwrap();
}

#[tokio::test(start_paused = true)]
async fn times_beyond_all_measure_and_a_clock_that_stands_still_stop_nobody() {
    for queue in [
        Queue::codel(1_000, Duration::MAX),
        Queue::codel(1_000, Duration::MAX)
            .target(ms(1), Duration::MAX)
            .unwrap(),
        Queue::codel_adaptive_lifo(usize::MAX, Duration::MAX).by_criticality(),
    ] {
        let fixture = Fixture::new(2, queue);
        let before = Instant::now();
        let results = join_all((0..500).map(|_| {
            let mut clone = fixture.bulkhead.clone();
            async move { send(&mut clone, Act::Succeed).await }
        }));
        assert!(results.await.iter().all(Result::is_ok));
        assert_eq!(before, Instant::now());

        let results = join_all((0..500).map(|_| {
            let mut clone = fixture.bulkhead.clone();
            async move { send(&mut clone, Act::Take(secs(3600))).await }
        }));
        // The first of an interval is served whatever it has waited.
        assert!(results.await.iter().filter(|it| it.is_ok()).count() >= 4);
        assert_eq!(
            (fixture.handle.in_flight(), fixture.handle.waiting()),
            (0, 0)
        );
    }
}

#[test]
fn outside_of_a_runtime_a_call_that_would_have_to_wait_panics_and_keeps_no_place() {
    let mut fixture = Fixture::new(1, Queue::fifo(9, secs(9)));
    let running = fixture.begin(Act::Hang);
    let mut call = pin!(fixture.bulkhead.call(Act::Hang));
    let poll = std::panic::AssertUnwindSafe(|| poll_once(call.as_mut()));
    assert!(std::panic::catch_unwind(poll).is_err());
    assert_eq!(
        (fixture.handle.in_flight(), fixture.handle.waiting()),
        (1, 0)
    );
    drop(running);
    assert_eq!(fixture.handle.in_flight(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn over_threads_every_call_has_one_end_and_no_more_run_than_may() {
    let target = |queue: Queue| queue.target(Duration::from_nanos(1), Duration::from_micros(20));
    for queue in [
        target(Queue::codel(8, ms(5))).unwrap(),
        target(Queue::adaptive_lifo(8, ms(5)))
            .unwrap()
            .by_criticality(),
        target(Queue::codel_adaptive_lifo(8, ms(5)))
            .unwrap()
            .by_criticality(),
    ] {
        let layer = BulkheadLayer::builder(3).queue(queue).build();
        let (service, watch) = Scripted::new();
        let bulkhead = layer.layer(service);
        let handle = layer.handle();
        let tasks: Vec<_> = (0..16)
            .map(|task| {
                let (bulkhead, handle) = (bulkhead.clone(), handle.clone());
                tokio::spawn(async move {
                    let mut ended = 0;
                    for call in 0..200_usize {
                        let mut bulkhead = bulkhead.clone();
                        let context = of(ALL[(task + call) % 4]).with_timeout(ms(1));
                        let mut call = Box::pin(context.scope(async move {
                            let gate = std::sync::Arc::new(tokio::sync::Notify::new());
                            gate.notify_one();
                            send(&mut bulkhead, Act::Await(gate)).await
                        }));
                        if task % 3 == 0 {
                            // Given up in the queue or while it runs, or not yet begun.
                            for _ in 0..ended % 3 {
                                if futures_util::FutureExt::now_or_never(call.as_mut()).is_some() {
                                    break;
                                }
                                tokio::task::yield_now().await;
                            }
                        } else {
                            match call.await {
                                Ok(_) => {}
                                Err(error) => drop(error.rejected()),
                            }
                        }
                        ended += 1;
                        assert!(handle.queue_delay().longest < secs(60));
                        tokio::task::yield_now().await;
                    }
                    ended
                })
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await.unwrap(), 200);
        }
        assert!(watch.most() <= 3);
        assert_eq!(
            (handle.in_flight(), handle.waiting(), watch.in_flight()),
            (0, 0, 0)
        );
    }
}
