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
    bell: Arc<Bell>,
}

/// The permits, and beside them who holds and who waits, in plain lists.
struct Pair {
    permits: Permits,
    discipline: Discipline,
    limit: usize,
    capacity: usize,
    /// Those who have their slot and know it.
    holders: usize,
    /// Those whose slot has come.
    granted: Vec<Waiter>,
    /// Those whose slot has not, in the order in which they came.
    waiting: Vec<Waiter>,
}

impl Pair {
    fn new(limit: usize, capacity: usize, discipline: Discipline) -> Self {
        Self {
            permits: Permits::new(limit, capacity, discipline),
            discipline,
            limit,
            capacity,
            holders: 0,
            granted: Vec::new(),
            waiting: Vec::new(),
        }
    }

    fn taken(&self) -> usize {
        self.holders + self.granted.len()
    }

    fn has_room(&self) -> bool {
        self.taken() < self.limit && self.waiting.is_empty()
    }

    /// Gives slots that are free to those whose turn it is.
    fn serve(&mut self) {
        while self.taken() < self.limit && !self.waiting.is_empty() {
            let next = match self.discipline {
                Discipline::Fifo => self.waiting.remove(0),
                Discipline::Lifo => self.waiting.pop().unwrap(),
            };
            self.granted.push(next);
        }
    }

    fn take(&mut self) {
        let expected = self.has_room();
        assert_eq!(self.permits.try_take(), expected);
        self.holders += usize::from(expected);
    }

    fn ask(&mut self) {
        let bell = Arc::new(Bell::default());
        match self.permits.take_or_queue(&bell.clone().into()) {
            Asked::Taken => {
                assert!(self.has_room(), "taken where none was free");
                self.holders += 1;
            }
            Asked::Queued(place) => {
                assert!(!self.has_room(), "queued where one was free");
                self.waiting.push(Waiter { place, bell });
                assert!(self.waiting.len() <= self.capacity, "the queue is too long");
            }
            Asked::Full => {
                assert!(!self.has_room(), "refused where one was free");
                assert_eq!(self.waiting.len(), self.capacity);
            }
        }
    }

    fn give_back(&mut self) {
        if self.holders > 0 {
            self.holders -= 1;
            self.permits.give_back();
            self.serve();
        }
    }

    /// The `nth` of all who wait, slot come or not, gives up.
    fn leave(&mut self, nth: usize) {
        let all = self.waiting.len() + self.granted.len();
        if all > 0 {
            let nth = nth % all;
            let waiter = match nth.checked_sub(self.waiting.len()) {
                None => self.waiting.remove(nth),
                Some(nth) => self.granted.remove(nth),
            };
            self.permits.leave(waiter.place);
            self.serve();
        }
    }

    /// The `nth` of all who wait looks whether the slot has come, with another waker than before.
    fn poll(&mut self, nth: usize) {
        let all = self.waiting.len() + self.granted.len();
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
                    let waiter = self.granted.remove(nth);
                    assert!(self.permits.poll_place(&waiter.place, &waker).is_ready());
                    self.holders += 1;
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
        assert!(
            waiting == 0 || taken >= limit,
            "one waits beside a free slot"
        );
        let rung = |waiter: &Waiter| waiter.bell.has_rung();
        assert!(self.granted.iter().all(rung), "a slot came unheard");
        assert!(!self.waiting.iter().any(rung), "a bell rang for nothing");
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Take => self.take(),
            Step::Ask => self.ask(),
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
    Take,
    Ask,
    GiveBack,
    Leave(usize),
    Poll(usize),
    Resize(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Take),
        10 => Just(Step::Ask),
        6 => Just(Step::GiveBack),
        4 => (0..100_usize).prop_map(Step::Leave),
        6 => (0..100_usize).prop_map(Step::Poll),
        2 => (0..6_usize).prop_map(Step::Resize),
    ]
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
        steps in proptest::collection::vec(step(), 0..200),
    ) {
        let mut pair = Pair::new(limit, capacity, discipline);
        pair.check();
        for step in &steps {
            let before = pair.taken();
            pair.run(step);
            prop_assert!(pair.taken() <= pair.limit.max(before), "more are in flight than allowed");
        }
        // All go home; not a slot is lost, not one too many came back.
        while pair.taken() + pair.waiting.len() > 0 {
            pair.run(&Step::Leave(0));
            pair.run(&Step::GiveBack);
        }
        for _ in 0..pair.limit {
            prop_assert!(pair.permits.try_take());
        }
        prop_assert!(!pair.permits.try_take());
    }
}

fn full(capacity: usize, discipline: Discipline, waiters: usize) -> Pair {
    let mut pair = Pair::new(1, capacity, discipline);
    for _ in 0..=waiters {
        pair.ask();
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
    assert!(!pair.permits.try_take(), "the slot has gone to who waited");
    assert!(pair.granted[0].bell.has_rung());
}

#[test]
fn a_lower_limit_takes_effect_as_calls_end() {
    let mut pair = Pair::new(3, 1, Discipline::Fifo);
    for _ in 0..4 {
        pair.ask();
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
    pair.take();
    pair.ask();
    pair.ask();
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
        assert!(permits.try_take());
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
    let queue = |waker: &Waker| match permits.take_or_queue(waker) {
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
