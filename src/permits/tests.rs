//! [`Permits`] against a list of holders, a list of those who wait, and a log of all turns.
#![allow(
    clippy::disallowed_types,
    reason = "wakers are the runtime's, and outside of what loom explores"
)]

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::Wake,
    time::Duration,
};

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;

/// Waits for ever.
const EVER: Ask = Ask {
    class: Criticality::Critical,
    now: 0,
    last: u64::MAX,
};

/// Knows whether it has been woken.
#[derive(Default)]
pub(super) struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

impl Bell {
    pub(super) fn has_rung(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// Stands still unless it is told.
#[derive(Clone, Default)]
pub(super) struct Manual(pub(super) Arc<AtomicU64>);

impl Clock for Manual {
    fn nanos(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Somebody in the queue, with the bell that is to ring for them.
struct Waiter {
    place: Place,
    slots: u32,
    class: Criticality,
    since: u64,
    last: u64,
    bell: Arc<Bell>,
}

/// When a turn came, how long those had waited then who had waited the longest of their classes, if it
/// can be told, and of which class one was refused.
struct Turn {
    at: u64,
    delays: [Option<u64>; 4],
    refused: Option<Criticality>,
}

/// The permits, and beside them who holds and who waits, in plain lists.
struct Pair {
    permits: Permits<Manual>,
    clock: Manual,
    rules: Rules,
    /// All are of this partition, if of any.
    part: Option<Part>,
    limit: usize,
    /// How much those hold who have their slots and know it.
    holders: Vec<u32>,
    /// Those who are no longer in the queue, served or not, and do not know it yet.
    served: Vec<(Waiter, Result<(), Unserved>)>,
    /// Those who are, in the order in which they came.
    waiting: Vec<Waiter>,
    /// All turns since the queue was last another, interval by interval.
    intervals: Vec<Vec<Turn>>,
    smoothed: u64,
    had_room: bool,
}

const ALL: [Criticality; 4] = [
    Criticality::CriticalPlus,
    Criticality::Critical,
    Criticality::SheddablePlus,
    Criticality::Sheddable,
];

pub(super) fn rules(order: Order, capacity: usize) -> Rules {
    Rules::new(order, capacity, Duration::MAX)
}

impl Pair {
    fn new(limit: usize, capacity: usize, order: Order) -> Self {
        Self::with(limit, rules(order, capacity))
    }

    fn with(limit: usize, rules: Rules) -> Self {
        let clock = Manual::default();
        Self {
            permits: Permits::new(limit, rules, clock.clone()),
            clock,
            rules,
            part: None,
            limit,
            holders: Vec::new(),
            served: Vec::new(),
            waiting: Vec::new(),
            intervals: Vec::new(),
            smoothed: 0,
            had_room: false,
        }
    }

    /// With a limit that is all of one partition.
    fn of_one_partition(limit: usize, rules: Rules) -> Self {
        let mut pair = Self::with(limit, rules);
        pair.permits = pair.permits.divided(&Division {
            weights: vec![7],
            lend_after: 100,
        });
        pair.part = Some(0);
        pair
    }

    const fn of(&self, slots: u32) -> Demand {
        Demand {
            slots,
            part: self.part,
        }
    }

    fn now(&self) -> u64 {
        self.clock.nanos()
    }

    fn tick(&self, by: i64) {
        let now = self.now().saturating_add_signed(by);
        self.clock.0.store(now, Relaxed);
    }

    fn taken(&self) -> usize {
        let came = self.served.iter().filter(|(_, served)| served.is_ok());
        let came = came.map(|(waiter, _)| waiter.slots);
        came.chain(self.holders.iter().copied()).sum::<u32>() as usize
    }

    fn fits(&self, slots: u32) -> bool {
        self.taken() + slots as usize <= self.limit
    }

    fn is_doomed(&self, slots: u32) -> bool {
        self.limit > 0 && slots as usize > self.limit
    }

    /// Since when the one of a class has waited who came first, if there is one.
    fn since(&self, class: Criticality) -> Option<u64> {
        let mut waiters = self.waiting.iter();
        let waiter = waiters.find(|waiter| self.class(waiter.class) == class)?;
        Some(waiter.since)
    }

    fn ago(&self, since: u64) -> u64 {
        self.now().saturating_sub(since)
    }

    /// How long the one has waited who has waited the longest.
    fn longest(&self) -> u64 {
        let since = ALL.into_iter().filter_map(|class| self.since(class)).min();
        self.ago(since.expect("somebody waits"))
    }

    /// A turn comes. Returns who has waited too long, least critical first.
    fn turn(&mut self) -> Option<usize> {
        let delay = self.longest();
        self.smoothed = match self.smoothed {
            0 => delay,
            smoothed => smoothed - smoothed / 8 + delay / 8,
        };
        let nobody_before = |class| {
            ALL.into_iter()
                .all(|it| it > class || self.since(it).is_none())
        };
        let delays = ALL.map(|class| match self.since(class) {
            Some(since) => Some(self.ago(since)),
            None if nobody_before(class) => Some(0),
            None => None,
        });
        let turn = Turn {
            at: self.now(),
            delays,
            refused: None,
        };
        let is_over = |it: &Vec<Turn>| turn.at.saturating_sub(it[0].at) > self.rules.interval;
        if self.intervals.last().is_none_or(is_over) {
            self.intervals.push(vec![turn]);
            return None;
        }
        let running = self.intervals.last_mut().unwrap();
        running.push(turn);
        let mut classes = ALL.into_iter().rev();
        let class = classes.find(|class| {
            let since = self.since(*class);
            let is_long = since.is_some_and(|since| self.ago(since) > 2 * self.rules.target);
            is_long && self.rules.is_controlled && self.stands(*class)
        })?;
        let turn = self.intervals.last_mut().and_then(|it| it.last_mut());
        turn.unwrap().refused = Some(class);
        let mut waiters = self.waiting.iter();
        waiters.position(|waiter| self.class(waiter.class) == class)
    }

    /// For each interval that is over in which there was one, the least delay of a class, and whether one
    /// was refused.
    fn past(&self, class: Criticality) -> Vec<(u64, bool)> {
        let over = self
            .intervals
            .split_last()
            .map_or(&[][..], |(_, over)| over);
        let of_interval = |turns: &Vec<Turn>| {
            let delays = turns.iter().filter_map(|turn| turn.delays[class as usize]);
            let mut turns = turns.iter();
            Some((delays.min()?, turns.any(|turn| turn.refused == Some(class))))
        };
        over.iter().filter_map(of_interval).collect()
    }

    fn least(&self, class: Criticality) -> u64 {
        self.past(class).last().map_or(0, |(least, _)| *least)
    }

    fn stands(&self, class: Criticality) -> bool {
        let past = self.past(class);
        past.into_iter().fold(false, |stands, (least, refused)| {
            least > self.rules.target || stands && refused
        })
    }

    fn is_lifo(&self, class: Criticality) -> bool {
        match self.rules.order {
            Order::Fifo => false,
            Order::Lifo => true,
            Order::AdaptiveLifo => self.stands(self.class(class)),
        }
    }

    fn class(&self, class: Criticality) -> Criticality {
        let tells_apart = self.rules.by_criticality;
        if tells_apart { class } else { ALL[0] }
    }

    /// In which order those of these classes would be served, who came one after the other.
    fn order(&self, classes: &[Criticality]) -> Vec<usize> {
        let mut order: Vec<_> = (0..classes.len()).collect();
        order.sort_by_key(|&n| {
            let place = if self.is_lifo(classes[n]) {
                classes.len() - n
            } else {
                n
            };
            (self.class(classes[n]), place)
        });
        order
    }

    fn classes(&self) -> Vec<Criticality> {
        self.waiting.iter().map(|waiter| waiter.class).collect()
    }

    fn end(&mut self, nth: usize, how: Result<(), Unserved>) {
        let waiter = self.waiting.remove(nth);
        self.served.push((waiter, how));
    }

    /// Gives slots that are free to those whose turn it is, for as long as the next one's are.
    fn serve(&mut self) {
        while let Some(&next) = self.order(&self.classes()).first() {
            let Waiter { slots, last, .. } = self.waiting[next];
            if last < self.now() {
                self.end(next, Err(Unserved::Late));
            } else if self.is_doomed(slots) {
                self.end(next, Err(Unserved::Doomed));
            } else if !self.fits(slots) {
                return;
            } else {
                match self.turn() {
                    Some(stale) => self.end(stale, Err(Unserved::Stale)),
                    None => self.end(next, Ok(())),
                }
            }
        }
    }

    fn take(&mut self, slots: u32) {
        let expected = self.fits(slots) && self.waiting.is_empty();
        assert_eq!(self.permits.try_take(self.of(slots)), expected);
        self.holders.extend(expected.then_some(slots));
        self.had_room |= expected;
    }

    fn ask(&mut self, slots: u32) {
        self.ask_as(slots, Criticality::Critical, Some(u64::MAX));
    }

    /// Asks, to wait for so long, or not at all.
    fn ask_as(&mut self, slots: u32, class: Criticality, wait: Option<u64>) {
        let bell = Arc::new(Bell::default());
        let has_room = self.fits(slots);
        if self.permits.try_take(self.of(slots)) {
            assert!(has_room && self.waiting.is_empty(), "taken past others");
            self.had_room = true;
            self.holders.push(slots);
            return;
        }
        let mut was_asked = false;
        let now = self.now();
        let ask = || {
            was_asked = true;
            let last = now.saturating_add(wait?);
            Some(Ask { class, now, last })
        };
        let asked = (self.permits).take_or_queue(self.of(slots), &bell.clone().into(), ask);
        let mut classes = self.classes();
        let order = self.order(&classes);
        let worst = order.last().filter(|n| {
            let worst = self.class(self.waiting[**n].class);
            worst > self.class(class)
        });
        classes.push(class);
        let is_next = self.order(&classes)[0] == self.waiting.len();
        let is_full = self.waiting.len() >= self.rules.capacity;
        match asked {
            Asked::Taken => {
                assert!(has_room && is_next, "taken where too few were free");
                self.holders.push(slots);
            }
            Asked::Queued(place) => {
                assert!(!(has_room && is_next), "queued where there was room");
                assert!(!self.is_doomed(slots), "waits for what cannot be");
                if is_full {
                    let worst = *worst.expect("there is somebody to be evicted");
                    self.end(worst, Err(Unserved::Evicted));
                } else if self.waiting.is_empty() {
                    let last = self.intervals.iter().flatten().last();
                    let ago = now.saturating_sub(last.map_or(0, |turn| turn.at));
                    let stands = ALL.into_iter().any(|class| self.stands(class));
                    let drained = self.had_room && !(stands && self.rules.is_controlled);
                    if drained || ago >= self.rules.interval {
                        self.intervals.clear();
                        self.smoothed = 0;
                    } else if let (true, Some(running)) = (self.had_room, self.intervals.last_mut())
                    {
                        let at = running.last().unwrap().at;
                        running.push(Turn {
                            at,
                            delays: [Some(0); 4],
                            refused: None,
                        });
                    }
                }
                self.had_room = false;
                let (since, last) = (now, now.saturating_add(wait.unwrap()));
                self.waiting.push(Waiter {
                    place,
                    slots,
                    class,
                    since,
                    last,
                    bell,
                });
            }
            Asked::Full => {
                assert!(!(has_room && is_next), "refused where there was room");
                assert!(is_full && worst.is_none() || self.is_doomed(slots));
            }
            Asked::Late => {
                assert!(wait.is_none() && !self.is_doomed(slots));
                assert!(!is_full || has_room || self.rules.by_criticality);
            }
        }
        assert!(self.waiting.len() <= self.rules.capacity, "it is too long");
        assert!(was_asked || has_room || is_full || self.is_doomed(slots));
    }

    fn give_back(&mut self) {
        if let Some(slots) = self.holders.pop() {
            self.permits.give_back(self.of(slots));
            self.serve();
        }
    }

    /// The `nth` of all who came to wait, served or not, gives up.
    fn leave(&mut self, nth: usize) {
        let all = self.waiting.len() + self.served.len();
        if all > 0 {
            let nth = nth % all;
            let (waiter, leaves_room) = match nth.checked_sub(self.waiting.len()) {
                None => (self.waiting.remove(nth), true),
                Some(nth) => {
                    let (waiter, how) = self.served.remove(nth);
                    (waiter, how.is_ok())
                }
            };
            self.permits.leave(waiter.place);
            if leaves_room {
                self.serve();
            }
        }
    }

    /// The `nth` of all who came to wait looks how it stands, with another waker than before.
    fn poll(&mut self, nth: usize) {
        let all = self.waiting.len() + self.served.len();
        if all > 0 {
            let nth = nth % all;
            let bell = Arc::new(Bell::default());
            let waker = bell.clone().into();
            match nth.checked_sub(self.waiting.len()) {
                None => {
                    let waiter = &mut self.waiting[nth];
                    assert!(self.permits.poll_place(&waiter.place, &waker).is_pending());
                    waiter.bell = bell;
                }
                Some(nth) => {
                    let (waiter, served) = self.served.remove(nth);
                    let polled = self.permits.poll_place(&waiter.place, &waker);
                    assert_eq!(polled, Poll::Ready(served));
                    self.holders.extend(served.ok().map(|()| waiter.slots));
                }
            }
        }
    }

    fn resize(&mut self, limit: usize) {
        self.limit = limit;
        self.permits.resize(limit);
        self.serve();
    }

    fn check(&self) {
        let Word {
            limit,
            taken,
            waiting,
            ..
        } = self.permits.load();
        assert_eq!(limit as usize, self.limit);
        assert_eq!(taken as usize, self.taken());
        assert_eq!(waiting as usize, self.waiting.len());
        if let Some(part) = self.part {
            let state = PartitionState {
                share: limit,
                taken,
                waiting,
            };
            assert_eq!(self.permits.partition(part), Some(state));
        }
        let rung = |waiter: &Waiter| waiter.bell.has_rung();
        let served = |(waiter, _): &(Waiter, _)| rung(waiter);
        assert!(self.served.iter().all(served), "a turn came unheard");
        assert!(!self.waiting.iter().any(rung), "a bell rang for nothing");
        assert_eq!(self.permits.delay(), self.delay());
    }

    fn delay(&self) -> Delay {
        if self.waiting.is_empty() {
            return Delay::default();
        }
        Delay {
            is_standing: ALL.into_iter().any(|class| self.stands(class)),
            least: ALL
                .map(|class| self.least(class))
                .into_iter()
                .max()
                .unwrap(),
            smoothed: self.smoothed,
            longest: self.longest(),
        }
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Take(slots) => self.take(slots),
            Step::Ask(slots, class, wait) => self.ask_as(slots, class, wait),
            Step::GiveBack => self.give_back(),
            Step::Leave(nth) => self.leave(nth),
            Step::Poll(nth) => self.poll(nth),
            Step::Resize(limit) => self.resize(limit),
            Step::Tick(by) => self.tick(by),
        }
        self.check();
    }
}

#[derive(Clone, Debug)]
enum Step {
    Take(u32),
    Ask(u32, Criticality, Option<u64>),
    GiveBack,
    Leave(usize),
    Poll(usize),
    Resize(usize),
    Tick(i64),
}

fn step(most: u32) -> impl Strategy<Value = Step> {
    let class = proptest::sample::select(&ALL[..]);
    let wait = prop_oneof![
        6 => Just(Some(u64::MAX)),
        3 => (0..200_u64).prop_map(Some),
        1 => Just(None),
    ];
    let by = prop_oneof![20 => 0..20_i64, 4 => 0..200_i64, 1 => -200..1_000_000_i64];
    prop_oneof![
        2 => (1..=most).prop_map(Step::Take),
        10 => (1..=most, class, wait).prop_map(|(slots, class, wait)| Step::Ask(slots, class, wait)),
        6 => Just(Step::GiveBack),
        2 => (0..100_usize).prop_map(Step::Leave),
        6 => (0..100_usize).prop_map(Step::Poll),
        1 => (0..6_usize).prop_map(Step::Resize),
        6 => by.prop_map(Step::Tick),
    ]
}

/// So many steps, of which none asks for more than so many slots.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    (1..=7_u32).prop_flat_map(|most| proptest::collection::vec(step(most), 0..300))
}

fn any_rules() -> impl Strategy<Value = Rules> {
    let order = prop_oneof![
        Just(Order::Fifo),
        Just(Order::Lifo),
        Just(Order::AdaptiveLifo),
    ];
    let times = (1..20_u64, 1..80_u64);
    (order, 0..10_usize, any::<bool>(), any::<bool>(), times).prop_map(
        |(order, capacity, is_controlled, by_criticality, (target, more))| Rules {
            is_controlled,
            by_criticality,
            target,
            interval: target + more,
            ..rules(order, capacity)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig {
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::with_cases(800)
    })]

    #[test]
    fn newcomers_are_refused_early_as_often_as_the_queue_is_full_beyond_where_that_begins(
        (capacity, from) in (1..40_usize).prop_flat_map(|capacity| (Just(capacity), 0..capacity)),
        arrivals in proptest::collection::vec(proptest::bool::weighted(0.7), 0..400),
    ) {
        let mut rules = rules(Order::Fifo, capacity);
        rules.refuses_from = from;
        let permits = Permits::new(1, rules, Manual::default());
        prop_assert!(permits.try_take(1));
        let waker = Waker::noop();
        let mut places = VecDeque::new();
        let (mut expected, mut refused) = (0.0, 0.0);
        for arrives in arrivals {
            if !arrives {
                if let Some(place) = places.pop_front() {
                    permits.give_back(1);
                    prop_assert!(permits.poll_place(&place, waker).is_ready());
                }
                continue;
            }
            let waiting = places.len();
            let share = waiting.saturating_sub(from) as f64 / (capacity - from) as f64;
            match permits.take_or_queue(1, waker, || Some(EVER)) {
                Asked::Queued(place) => places.push_back(place),
                Asked::Full if waiting == capacity => continue,
                asked => {
                    prop_assert!(matches!(asked, Asked::Full) && waiting > from);
                    refused += 1.0;
                }
            }
            expected += share;
            prop_assert!((-1e-6..1.0 + 1e-6).contains(&(expected - refused)));
        }
    }

    #[test]
    fn slots_and_queue_are_those_of_the_lists(
        limit in 0..6_usize,
        rules in any_rules(),
        is_divided in any::<bool>(),
        steps in steps(),
    ) {
        let mut pair = if is_divided {
            Pair::of_one_partition(limit, rules)
        } else {
            Pair::with(limit, rules)
        };
        pair.check();
        for step in &steps {
            let before = pair.taken();
            pair.run(step);
            prop_assert!(pair.taken() <= pair.limit.max(before), "more are in flight than allowed");
        }
        // All go home; not a slot is lost, not one too many came back.
        while pair.taken() + pair.waiting.len() + pair.served.len() > 0 {
            pair.run(&Step::Leave(0));
            pair.run(&Step::GiveBack);
        }
        for _ in 0..pair.limit {
            prop_assert!(pair.permits.try_take(pair.of(1)));
        }
        prop_assert!(!pair.permits.try_take(pair.of(1)));
    }
}

fn full(capacity: usize, order: Order, waiters: usize) -> Pair {
    let mut pair = Pair::new(1, capacity, order);
    for _ in 0..=waiters {
        pair.ask(1);
    }
    pair.check();
    pair
}

#[test]
fn who_came_first_is_served_first_and_in_a_stack_last() {
    for stack in [false, true] {
        let discipline = if stack { Order::Lifo } else { Order::Fifo };
        let mut pair = full(3, discipline, 3);
        let bells: Vec<_> = pair.waiting.iter().map(|it| it.bell.clone()).collect();
        let mut order = Vec::new();
        for _ in 0..3 {
            pair.give_back();
            let next = (0..3).find(|n| bells[*n].has_rung() && !order.contains(n));
            order.push(next.unwrap());
            pair.poll(pair.waiting.len());
        }
        assert_eq!(order, if stack { [2, 1, 0] } else { [0, 1, 2] });
    }
}

#[test]
fn a_newcomer_overtakes_nobody() {
    let mut pair = full(2, Order::Fifo, 1);
    pair.give_back();
    assert!(!pair.permits.try_take(1), "the slot has gone to who waited");
    assert!(pair.served[0].0.bell.has_rung());
}

#[test]
fn one_who_waits_for_many_is_not_overtaken_by_those_who_ask_for_few() {
    let mut pair = Pair::new(4, 9, Order::Fifo);
    for slots in [1, 1, 4, 1] {
        pair.ask(slots);
    }
    assert!(!pair.permits.try_take(1), "two are free, and spoken for");
    assert_eq!(pair.waiting.len(), 2);
    pair.give_back();
    pair.check();
    assert_eq!(pair.taken(), 1, "three are not enough");
    pair.give_back();
    pair.check();
    assert_eq!((pair.taken(), pair.waiting.len()), (4, 1));
}

#[test]
fn in_a_stack_the_last_to_come_is_served_past_one_who_waits_for_many() {
    let mut pair = Pair::new(4, 1, Order::Lifo);
    for slots in [2, 4, 1] {
        pair.ask(slots);
    }
    pair.check();
    assert_eq!((pair.taken(), pair.waiting.len()), (3, 1));
}

#[test]
fn when_one_who_waits_for_many_leaves_those_behind_find_what_is_free() {
    let mut pair = Pair::new(4, 9, Order::Fifo);
    for slots in [2, 3, 1, 1, 1] {
        pair.ask(slots);
    }
    pair.leave(0);
    pair.check();
    assert_eq!((pair.taken(), pair.waiting.len()), (4, 1));
}

#[test]
fn more_than_the_limit_is_refused_at_once_and_by_a_lower_limit_when_its_turn_comes() {
    let mut pair = Pair::new(4, 9, Order::Fifo);
    pair.ask(5);
    assert_eq!(pair.waiting.len(), 0);
    for slots in [4, 1, 3, 1] {
        pair.ask(slots);
    }
    pair.resize(2);
    assert_eq!(pair.waiting.len(), 3, "there is one before it");
    pair.give_back();
    pair.check();
    assert_eq!(pair.served.len(), 3);
    let told: Vec<_> = pair.served.iter().map(|(_, served)| *served).collect();
    assert_eq!(told, [Ok(()), Err(Unserved::Doomed), Ok(())]);
    assert_eq!(pair.taken(), 2);
}

#[test]
fn a_limit_of_zero_is_a_pause_also_for_those_who_ask_for_many() {
    let mut pair = Pair::new(0, 2, Order::Fifo);
    pair.ask(3);
    pair.ask(2);
    assert_eq!(pair.waiting.len(), 2);
    pair.resize(2);
    pair.check();
    assert_eq!((pair.taken(), pair.served.len()), (2, 2));
}

#[test]
fn a_lower_limit_takes_effect_as_calls_end() {
    let mut pair = Pair::new(3, 1, Order::Fifo);
    for _ in 0..4 {
        pair.ask(1);
    }
    pair.resize(1);
    for taken in [2, 1] {
        pair.give_back();
        pair.check();
        assert_eq!(pair.taken(), taken);
        assert_eq!(
            pair.waiting.len(),
            1,
            "there is no room before all but one have ended"
        );
    }
    pair.give_back();
    assert_eq!((pair.taken(), pair.waiting.len()), (1, 0));
}

#[test]
fn a_higher_limit_lets_in_those_who_wait_at_once() {
    let mut pair = full(5, Order::Fifo, 5);
    pair.resize(4);
    pair.check();
    assert_eq!((pair.taken(), pair.waiting.len()), (4, 2));
    pair.resize(100);
    pair.check();
    assert_eq!((pair.taken(), pair.waiting.len()), (6, 0));
}

#[test]
fn a_limit_of_zero_lets_nobody_in_until_it_is_raised() {
    let mut pair = Pair::new(0, 1, Order::Fifo);
    pair.take(1);
    pair.ask(1);
    pair.ask(1);
    assert_eq!((pair.taken(), pair.waiting.len()), (0, 1));
    pair.resize(1);
    pair.check();
    assert_eq!((pair.taken(), pair.waiting.len()), (1, 0));
}

#[test]
fn limits_beyond_what_the_word_holds_count_as_its_most() {
    for limit in [Permits::MAX, Permits::MAX + 1, usize::MAX] {
        let permits = Permits::new(limit, rules(Order::Fifo, usize::MAX), Manual::default());
        assert_eq!(permits.load().limit as usize, Permits::MAX);
        let most = Permits::MAX as u32;
        assert!(!permits.try_take(most + 1));
        assert!(permits.try_take(most));
        assert!(!permits.try_take(1));
        permits.give_back(most);
        assert!(permits.try_take(1));
        permits.resize(0);
        permits.resize(limit);
        let Word { limit, taken, .. } = permits.load();
        assert_eq!((limit as usize, taken), (Permits::MAX, 1));
    }
}

/// A waker whose last reference holds a task, and the task a place in the same queue: so it is with an
/// executor whose tasks live in their wakers.
struct Task {
    permits: Arc<Permits<Manual>>,
    place: std::sync::Mutex<Option<Place>>,
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(place) = self.place.get_mut().unwrap().take() {
            self.permits.leave(place);
        }
    }
}

#[test]
fn a_waker_that_is_dropped_may_itself_leave_the_queue() {
    let permits = Arc::new(Permits::new(0, rules(Order::Fifo, 10), Manual::default()));
    let queue = |waker: &Waker| match permits.take_or_queue(1, waker, || Some(EVER)) {
        Asked::Queued(place) => place,
        asked => panic!("{asked:?}"),
    };
    let task = || {
        let task = Task {
            permits: permits.clone(),
            place: std::sync::Mutex::new(Some(queue(Waker::noop()))),
        };
        Waker::from(Arc::new(task))
    };
    let place = queue(&task());
    // The waker is replaced, and with it goes the first task.
    assert!(permits.poll_place(&place, &task()).is_pending());
    assert_eq!(permits.load().waiting, 2);
    // The waker leaves with its place, and with it goes the second.
    permits.leave(place);
    assert_eq!(permits.load().waiting, 0);
}

#[test]
fn of_partitions_none_is_refused_early_that_has_fewer_than_its_part_of_the_places() {
    let mut rules = rules(Order::Fifo, 8);
    rules.refuses_from = 0;
    let weights = vec![1, 1];
    let lend_after = 1;
    let permits = Permits::new(1, rules, Manual::default());
    let permits = permits.divided(&Division {
        weights,
        lend_after,
    });
    let of = |part| Demand {
        slots: 1,
        part: Some(part),
    };
    let ask = |part| permits.take_or_queue(of(part), Waker::noop(), || Some(EVER));
    assert!(permits.try_take(of(0)));
    let flood: Vec<_> = (0..12).map(|_| ask(0)).collect();
    let refused = flood.iter().filter(|it| matches!(it, Asked::Full)).count();
    assert!((3..12).contains(&refused) && permits.load().waiting < 8);
    for _ in 0..4 {
        assert!(matches!(ask(1), Asked::Queued(_)));
    }
}
