//! [`Permits`] against a list of holders and a list of those who wait.
#![allow(
    clippy::disallowed_types,
    reason = "wakers are the runtime's, and outside of what loom explores"
)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::Wake,
};

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;

/// Knows whether it has been woken.
#[derive(Default)]
struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

impl Bell {
    fn has_rung(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// Somebody in the queue, with the bell that is to ring for them.
struct Waiter {
    place: Place,
    slots: u32,
    bell: Arc<Bell>,
}

/// The permits, and beside them who holds and who waits, in plain lists.
struct Pair {
    permits: Permits,
    discipline: Discipline,
    limit: usize,
    capacity: usize,
    /// How much those hold who have their slots and know it.
    holders: Vec<u32>,
    /// Those who are no longer in the queue, served or not, and do not know it yet.
    served: Vec<(Waiter, Result<(), Doomed>)>,
    /// Those who are, in the order in which they came.
    waiting: Vec<Waiter>,
}

impl Pair {
    fn new(limit: usize, capacity: usize, discipline: Discipline) -> Self {
        Self {
            permits: Permits::new(limit, capacity, discipline),
            discipline,
            limit,
            capacity,
            holders: Vec::new(),
            served: Vec::new(),
            waiting: Vec::new(),
        }
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

    fn overtakes(&self) -> bool {
        self.waiting.is_empty() || self.discipline == Discipline::Lifo
    }

    /// Gives slots that are free to those whose turn it is, for as long as the next one's are.
    fn serve(&mut self) {
        loop {
            let next = match self.discipline {
                Discipline::Fifo => 0,
                Discipline::Lifo => self.waiting.len().wrapping_sub(1),
            };
            let Some(slots) = self.waiting.get(next).map(|waiter| waiter.slots) else {
                return;
            };
            let served = if self.is_doomed(slots) {
                Err(Doomed)
            } else if self.fits(slots) {
                Ok(())
            } else {
                return;
            };
            let waiter = self.waiting.remove(next);
            self.served.push((waiter, served));
        }
    }

    fn take(&mut self, slots: u32) {
        let expected = self.fits(slots) && self.waiting.is_empty();
        assert_eq!(self.permits.try_take(slots), expected);
        self.holders.extend(expected.then_some(slots));
    }

    fn ask(&mut self, slots: u32) {
        let bell = Arc::new(Bell::default());
        let has_room = self.fits(slots) && self.overtakes();
        match self.permits.take_or_queue(slots, &bell.clone().into()) {
            Asked::Taken => {
                assert!(has_room, "taken where too few were free");
                self.holders.push(slots);
            }
            Asked::Queued(place) => {
                assert!(!has_room, "queued where there was room");
                assert!(!self.is_doomed(slots), "waits for what cannot be");
                self.waiting.push(Waiter { place, slots, bell });
                assert!(self.waiting.len() <= self.capacity, "the queue is too long");
            }
            Asked::Full => {
                assert!(!has_room, "refused where there was room");
                assert!(self.waiting.len() == self.capacity || self.is_doomed(slots));
            }
        }
    }

    fn give_back(&mut self) {
        if let Some(slots) = self.holders.pop() {
            self.permits.give_back(slots);
            self.serve();
        }
    }

    /// The `nth` of all who came to wait, served or not, gives up.
    fn leave(&mut self, nth: usize) {
        let all = self.waiting.len() + self.served.len();
        if all > 0 {
            let nth = nth % all;
            let waiter = match nth.checked_sub(self.waiting.len()) {
                None => self.waiting.remove(nth),
                Some(nth) => self.served.remove(nth).0,
            };
            self.permits.leave(waiter.place);
            self.serve();
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
        } = self.permits.load();
        assert_eq!(limit as usize, self.limit);
        assert_eq!(taken as usize, self.taken());
        assert_eq!(waiting as usize, self.waiting.len());
        let rung = |waiter: &Waiter| waiter.bell.has_rung();
        let served = |(waiter, _): &(Waiter, _)| rung(waiter);
        assert!(self.served.iter().all(served), "a turn came unheard");
        assert!(!self.waiting.iter().any(rung), "a bell rang for nothing");
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Take(slots) => self.take(slots),
            Step::Ask(slots) => self.ask(slots),
            Step::GiveBack => self.give_back(),
            Step::Leave(nth) => self.leave(nth),
            Step::Poll(nth) => self.poll(nth),
            Step::Resize(limit) => self.resize(limit),
        }
        self.check();
    }
}

#[derive(Clone, Debug)]
enum Step {
    Take(u32),
    Ask(u32),
    GiveBack,
    Leave(usize),
    Poll(usize),
    Resize(usize),
}

fn step(most: u32) -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (1..=most).prop_map(Step::Take),
        10 => (1..=most).prop_map(Step::Ask),
        6 => Just(Step::GiveBack),
        4 => (0..100_usize).prop_map(Step::Leave),
        6 => (0..100_usize).prop_map(Step::Poll),
        2 => (0..6_usize).prop_map(Step::Resize),
    ]
}

/// So many steps, of which none asks for more than so many slots.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    (1..=7_u32).prop_flat_map(|most| proptest::collection::vec(step(most), 0..200))
}

fn discipline() -> impl Strategy<Value = Discipline> {
    prop_oneof![Just(Discipline::Fifo), Just(Discipline::Lifo)]
}

proptest! {
    #![proptest_config(ProptestConfig {
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::with_cases(1_000)
    })]

    #[test]
    fn slots_and_queue_are_those_of_the_lists(
        limit in 0..6_usize,
        capacity in 0..10_usize,
        discipline in discipline(),
        steps in steps(),
    ) {
        let mut pair = Pair::new(limit, capacity, discipline);
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
            prop_assert!(pair.permits.try_take(1));
        }
        prop_assert!(!pair.permits.try_take(1));
    }
}

fn full(capacity: usize, discipline: Discipline, waiters: usize) -> Pair {
    let mut pair = Pair::new(1, capacity, discipline);
    for _ in 0..=waiters {
        pair.ask(1);
    }
    pair.check();
    pair
}

#[test]
fn who_came_first_is_served_first_and_in_a_stack_last() {
    for discipline in [Discipline::Fifo, Discipline::Lifo] {
        let mut pair = full(3, discipline, 3);
        let bells: Vec<_> = pair.waiting.iter().map(|it| it.bell.clone()).collect();
        let mut order = Vec::new();
        for _ in 0..3 {
            pair.give_back();
            let next = (0..3).find(|n| bells[*n].has_rung() && !order.contains(n));
            order.push(next.unwrap());
            pair.poll(pair.waiting.len());
        }
        match discipline {
            Discipline::Fifo => assert_eq!(order, [0, 1, 2]),
            Discipline::Lifo => assert_eq!(order, [2, 1, 0]),
        }
    }
}

#[test]
fn a_newcomer_overtakes_nobody() {
    let mut pair = full(2, Discipline::Fifo, 1);
    pair.give_back();
    assert!(!pair.permits.try_take(1), "the slot has gone to who waited");
    assert!(pair.served[0].0.bell.has_rung());
}

#[test]
fn one_who_waits_for_many_is_not_overtaken_by_those_who_ask_for_few() {
    let mut pair = Pair::new(4, 9, Discipline::Fifo);
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
    let mut pair = Pair::new(4, 1, Discipline::Lifo);
    for slots in [2, 4, 1] {
        pair.ask(slots);
    }
    pair.check();
    assert_eq!((pair.taken(), pair.waiting.len()), (3, 1));
}

#[test]
fn when_one_who_waits_for_many_leaves_those_behind_find_what_is_free() {
    let mut pair = Pair::new(4, 9, Discipline::Fifo);
    for slots in [2, 3, 1, 1, 1] {
        pair.ask(slots);
    }
    pair.leave(0);
    pair.check();
    assert_eq!((pair.taken(), pair.waiting.len()), (4, 1));
}

#[test]
fn more_than_the_limit_is_refused_at_once_and_by_a_lower_limit_when_its_turn_comes() {
    let mut pair = Pair::new(4, 9, Discipline::Fifo);
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
    assert_eq!(told, [Ok(()), Err(Doomed), Ok(())]);
    assert_eq!(pair.taken(), 2);
}

#[test]
fn a_limit_of_zero_is_a_pause_also_for_those_who_ask_for_many() {
    let mut pair = Pair::new(0, 2, Discipline::Fifo);
    pair.ask(3);
    pair.ask(2);
    assert_eq!(pair.waiting.len(), 2);
    pair.resize(2);
    pair.check();
    assert_eq!((pair.taken(), pair.served.len()), (2, 2));
}

#[test]
fn a_lower_limit_takes_effect_as_calls_end() {
    let mut pair = Pair::new(3, 1, Discipline::Fifo);
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
    let mut pair = full(5, Discipline::Fifo, 5);
    pair.resize(4);
    pair.check();
    assert_eq!((pair.taken(), pair.waiting.len()), (4, 2));
    pair.resize(100);
    pair.check();
    assert_eq!((pair.taken(), pair.waiting.len()), (6, 0));
}

#[test]
fn a_limit_of_zero_lets_nobody_in_until_it_is_raised() {
    let mut pair = Pair::new(0, 1, Discipline::Fifo);
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
        let permits = Permits::new(limit, usize::MAX, Discipline::Fifo);
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
    permits: Arc<Permits>,
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
    let permits = Arc::new(Permits::new(0, 10, Discipline::Fifo));
    let queue = |waker: &Waker| match permits.take_or_queue(1, waker) {
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
