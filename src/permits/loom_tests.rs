//! Permits under every interleaving of those who take, give back, wait, leave and resize.
#![allow(
    clippy::disallowed_types,
    reason = "what only holds the permits together needs no exploring"
)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::Wake,
    time::Duration,
};

use loom::thread;

use super::*;

/// All ways in which the threads take turns, as far as one interrupts another so many times.
fn explore(interruptions: usize, test: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(interruptions);
    builder.check(test);
}

#[derive(Default)]
struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.store(true, SeqCst);
    }
}

/// Somebody in the queue.
struct Waiter {
    place: Place,
    slots: u32,
    bell: Arc<Bell>,
}

/// Always says the same.
struct Still(u64);

impl Clock for Still {
    fn nanos(&self) -> u64 {
        self.0
    }
}

type Permits = super::Permits<Still>;

const NOW: u64 = 1_000;

fn with(limit: usize, capacity: usize, change: impl FnOnce(&mut Rules)) -> Arc<Permits> {
    let mut rules = Rules::new(Order::Fifo, capacity, Duration::MAX);
    change(&mut rules);
    Arc::new(Permits::new(limit, rules, Still(NOW)))
}

fn permits(limit: usize, capacity: usize) -> Arc<Permits> {
    with(limit, capacity, |_| {})
}

/// Asks for slots as somebody of a class who may wait until then.
fn ask_as(permits: &Permits, slots: u32, class: Criticality, last: u64) -> Result<Waiter, Asked> {
    if permits.try_take(slots) {
        return Err(Asked::Taken);
    }
    let bell = Arc::new(Bell::default());
    let now = 0;
    match permits.take_or_queue(slots, &bell.clone().into(), || {
        Some(Ask { class, now, last })
    }) {
        Asked::Queued(place) => Ok(Waiter { place, slots, bell }),
        asked => Err(asked),
    }
}

fn ask_for(permits: &Permits, slots: u32) -> Result<Waiter, Asked> {
    ask_as(permits, slots, Criticality::Critical, u64::MAX)
}

fn ask(permits: &Permits) -> Result<Waiter, Asked> {
    ask_for(permits, 1)
}

fn queue_for(permits: &Permits, slots: u32) -> Waiter {
    ask_for(permits, slots).expect("a place in the queue")
}

fn queue(permits: &Permits) -> Waiter {
    queue_for(permits, 1)
}

/// The slot has come, and the waiter has been told.
fn assert_served(permits: &Permits, waiter: Waiter) {
    let Waiter { place, slots, bell } = waiter;
    assert!(bell.0.load(SeqCst), "the bell did not ring");
    let polled = permits.poll_place(&place, Waker::noop());
    assert_eq!(polled, Poll::Ready(Ok(())), "the slots have not come");
    permits.give_back(slots);
}

/// Whoever waits knows that he waits no longer, and why.
fn assert_unserved(permits: &Permits, waiter: Waiter, why: Unserved) {
    let Waiter { place, bell, .. } = waiter;
    assert!(bell.0.load(SeqCst), "the bell did not ring");
    let polled = permits.poll_place(&place, Waker::noop());
    assert_eq!(polled, Poll::Ready(Err(why)));
}

/// All slots are there again, and no more than all.
fn assert_whole(permits: &Permits, limit: u32) {
    let Word { taken, waiting, .. } = permits.load();
    assert_eq!((taken, waiting), (0, 0));
    for _ in 0..limit {
        assert!(permits.try_take(1), "a slot is lost");
    }
    assert!(!permits.try_take(1), "there is a slot too many");
}

#[test]
fn no_more_are_inside_than_the_limit() {
    explore(3, || {
        let permits = permits(1, 0);
        let inside = Arc::new(AtomicUsize::new(0));
        let visit = {
            let permits = permits.clone();
            move || {
                if permits.try_take(1) {
                    assert_eq!(inside.fetch_add(1, SeqCst), 0, "two at once");
                    thread::yield_now();
                    inside.fetch_sub(1, SeqCst);
                    permits.give_back(1);
                }
            }
        };
        let others = [thread::spawn(visit.clone()), thread::spawn(visit.clone())];
        visit();
        for other in others {
            other.join().unwrap();
        }
        assert_whole(&permits, 1);
    });
}

#[test]
fn who_queues_while_a_slot_comes_back_gets_it() {
    explore(5, || {
        let permits = permits(1, 1);
        assert!(permits.try_take(1));
        let holder = permits.clone();
        let holder = thread::spawn(move || holder.give_back(1));
        let asked = ask(&permits);
        holder.join().unwrap();
        match asked {
            Ok(waiter) => assert_served(&permits, waiter),
            Err(asked) => {
                assert!(matches!(asked, Asked::Taken), "there was room to wait");
                permits.give_back(1);
            }
        }
        assert_whole(&permits, 1);
    });
}

#[test]
fn a_newcomer_overtakes_nobody() {
    explore(5, || {
        let permits = permits(1, 1);
        assert!(permits.try_take(1));
        let waiter = queue(&permits);
        let holder = permits.clone();
        let holder = thread::spawn(move || holder.give_back(1));
        assert!(!permits.try_take(1), "the slot is for who waits");
        holder.join().unwrap();
        assert_served(&permits, waiter);
        assert_whole(&permits, 1);
    });
}

#[test]
fn two_who_queue_while_two_slots_come_back_get_them() {
    explore(5, || {
        let permits = permits(2, 2);
        assert!(permits.try_take(1) && permits.try_take(1));
        let first = queue(&permits);
        let other = permits.clone();
        let other = thread::spawn(move || {
            other.give_back(1);
            other.give_back(1);
        });
        let asked = ask(&permits);
        other.join().unwrap();
        assert_served(&permits, first);
        match asked {
            Ok(waiter) => assert_served(&permits, waiter),
            Err(asked) => {
                assert!(matches!(asked, Asked::Taken));
                permits.give_back(1);
            }
        }
        assert_whole(&permits, 2);
    });
}

#[test]
fn a_slot_that_comes_to_one_who_leaves_is_not_lost() {
    explore(5, || {
        let permits = permits(1, 1);
        assert!(permits.try_take(1));
        let waiter = queue(&permits);
        let holder = permits.clone();
        let holder = thread::spawn(move || holder.give_back(1));
        permits.leave(waiter.place);
        holder.join().unwrap();
        assert_whole(&permits, 1);
    });
}

#[test]
fn a_slot_that_comes_to_one_who_leaves_goes_to_the_next() {
    explore(5, || {
        let permits = permits(1, 2);
        assert!(permits.try_take(1));
        let (first, second) = (queue(&permits), queue(&permits));
        let holder = permits.clone();
        let holder = thread::spawn(move || holder.give_back(1));
        permits.leave(first.place);
        holder.join().unwrap();
        assert_served(&permits, second);
        assert_whole(&permits, 1);
    });
}

#[test]
fn two_who_leave_while_a_slot_comes_leave_it_to_others() {
    explore(3, || {
        let permits = permits(1, 2);
        assert!(permits.try_take(1));
        let (first, second) = (queue(&permits), queue(&permits));
        let (holder, other) = (permits.clone(), permits.clone());
        let holder = thread::spawn(move || holder.give_back(1));
        let other = thread::spawn(move || other.leave(second.place));
        permits.leave(first.place);
        holder.join().unwrap();
        other.join().unwrap();
        assert_whole(&permits, 1);
    });
}

#[test]
fn the_waker_that_is_rung_is_the_last_that_was_given() {
    explore(5, || {
        let permits = permits(1, 1);
        assert!(permits.try_take(1));
        let mut waiter = queue(&permits);
        let holder = permits.clone();
        let holder = thread::spawn(move || holder.give_back(1));
        let bell = Arc::new(Bell::default());
        let polled = permits.poll_place(&waiter.place, &bell.clone().into());
        holder.join().unwrap();
        match polled {
            Poll::Ready(served) => {
                assert_eq!(served, Ok(()));
                permits.give_back(1);
            }
            Poll::Pending => {
                waiter.bell = bell;
                assert_served(&permits, waiter);
            }
        }
        assert_whole(&permits, 1);
    });
}

#[test]
fn a_higher_limit_is_not_missed_by_one_who_queues() {
    explore(5, || {
        let permits = permits(0, 1);
        let other = permits.clone();
        let other = thread::spawn(move || other.resize(1));
        let asked = ask(&permits);
        other.join().unwrap();
        match asked {
            Ok(waiter) => assert_served(&permits, waiter),
            Err(asked) => {
                assert!(matches!(asked, Asked::Taken));
                permits.give_back(1);
            }
        }
        assert_whole(&permits, 1);
    });
}

#[test]
fn a_higher_limit_and_one_who_leaves_let_the_next_in() {
    explore(5, || {
        let permits = permits(0, 2);
        let (first, second) = (queue(&permits), queue(&permits));
        let other = permits.clone();
        let other = thread::spawn(move || other.resize(1));
        permits.leave(first.place);
        other.join().unwrap();
        assert_served(&permits, second);
        assert_whole(&permits, 1);
    });
}

#[test]
fn a_higher_limit_and_a_slot_that_comes_back_let_two_in() {
    explore(4, || {
        let permits = permits(1, 2);
        assert!(permits.try_take(1));
        let (first, second) = (queue(&permits), queue(&permits));
        let other = permits.clone();
        let other = thread::spawn(move || other.resize(2));
        permits.give_back(1);
        other.join().unwrap();
        assert_eq!(permits.load().taken, 2);
        assert_served(&permits, first);
        assert_served(&permits, second);
        assert_whole(&permits, 2);
    });
}

#[test]
fn a_lower_limit_holds_for_all_who_come_after() {
    explore(5, || {
        let permits = permits(2, 1);
        assert!(permits.try_take(1));
        let other = permits.clone();
        let other = thread::spawn(move || {
            other.resize(1);
            assert!(
                !other.try_take(1),
                "one was inside when the limit became one"
            );
        });
        let taken = permits.try_take(1);
        other.join().unwrap();
        permits.give_back(1);
        if taken {
            assert!(!permits.try_take(1), "there still is one inside");
            permits.give_back(1);
        }
        assert_whole(&permits, 1);
    });
}

#[test]
fn several_slots_are_taken_all_or_none() {
    explore(4, || {
        let permits = permits(3, 0);
        let other = permits.clone();
        let other = thread::spawn(move || {
            let taken = other.try_take(2);
            if taken {
                other.give_back(2);
            }
        });
        if permits.try_take(2) {
            assert!(!permits.try_take(2), "one is left");
            permits.give_back(2);
        }
        other.join().unwrap();
        assert_whole(&permits, 3);
    });
}

#[test]
fn who_waits_for_two_gets_them_from_two_who_give_back_one_each() {
    explore(4, || {
        let permits = permits(2, 1);
        assert!(permits.try_take(1) && permits.try_take(1));
        let holders = [(); 2].map(|()| {
            let holder = permits.clone();
            thread::spawn(move || holder.give_back(1))
        });
        let asked = ask_for(&permits, 2);
        for holder in holders {
            holder.join().unwrap();
        }
        match asked {
            Ok(waiter) => assert_served(&permits, waiter),
            Err(asked) => {
                assert!(matches!(asked, Asked::Taken));
                permits.give_back(2);
            }
        }
        assert_whole(&permits, 2);
    });
}

#[test]
fn one_for_two_who_leaves_while_slots_come_loses_none_and_blocks_nobody() {
    explore(5, || {
        let permits = permits(2, 2);
        assert!(permits.try_take(1) && permits.try_take(1));
        let (first, second) = (queue_for(&permits, 2), queue(&permits));
        let holder = permits.clone();
        let holder = thread::spawn(move || {
            holder.give_back(1);
            holder.give_back(1);
        });
        permits.leave(first.place);
        holder.join().unwrap();
        assert_served(&permits, second);
        assert_whole(&permits, 2);
    });
}

#[test]
fn one_for_two_who_leaves_while_one_is_free_lets_the_next_in_though_others_leave_too() {
    explore(4, || {
        let permits = permits(2, 3);
        assert!(permits.try_take(1));
        let (first, second) = (queue_for(&permits, 2), queue_for(&permits, 2));
        let third = queue(&permits);
        let other = permits.clone();
        let other = thread::spawn(move || other.leave(second.place));
        permits.leave(first.place);
        other.join().unwrap();
        assert_served(&permits, third);
        permits.give_back(1);
        assert_whole(&permits, 2);
    });
}

#[test]
fn one_for_two_is_served_or_told_that_the_limit_is_now_one_but_not_forgotten() {
    explore(5, || {
        let permits = permits(2, 2);
        assert!(permits.try_take(2));
        let (first, second) = (queue_for(&permits, 2), queue(&permits));
        let other = permits.clone();
        let other = thread::spawn(move || other.resize(1));
        permits.give_back(2);
        other.join().unwrap();
        assert!(first.bell.0.load(SeqCst), "the bell did not ring");
        match permits.poll_place(&first.place, Waker::noop()) {
            Poll::Ready(Ok(())) => permits.give_back(2),
            Poll::Ready(Err(why)) => assert_eq!(why, Unserved::Doomed),
            Poll::Pending => panic!("neither served nor told"),
        }
        assert_served(&permits, second);
        assert_whole(&permits, 1);
    });
}

#[test]
fn one_for_two_who_leaves_while_told_that_the_limit_is_now_one_takes_nothing_along() {
    explore(5, || {
        let permits = permits(2, 1);
        assert!(permits.try_take(1));
        let waiter = queue_for(&permits, 2);
        let other = permits.clone();
        let other = thread::spawn(move || other.resize(1));
        permits.leave(waiter.place);
        other.join().unwrap();
        permits.give_back(1);
        assert_whole(&permits, 1);
    });
}

#[test]
fn one_whose_time_is_up_gets_no_slot_and_the_next_does_whoever_is_faster() {
    for leaves in [false, true] {
        explore(4, move || {
            let permits = permits(1, 2);
            assert!(permits.try_take(1));
            let late = ask_as(&permits, 1, Criticality::Critical, NOW - 1).unwrap();
            let next = queue(&permits);
            let holder = permits.clone();
            let holder = thread::spawn(move || holder.give_back(1));
            if leaves {
                // His own timer tells him so.
                permits.leave(late.place);
                holder.join().unwrap();
            } else {
                holder.join().unwrap();
                assert_unserved(&permits, late, Unserved::Late);
            }
            assert_served(&permits, next);
            assert_whole(&permits, 1);
        });
    }
}

#[test]
fn a_more_critical_newcomer_and_a_slot_that_comes_back_leave_each_with_one_end() {
    explore(4, || {
        let permits = with(1, 1, |rules| rules.by_criticality = true);
        assert!(permits.try_take(1));
        let waiter = ask_as(&permits, 1, Criticality::Sheddable, u64::MAX).unwrap();
        let holder = permits.clone();
        let holder = thread::spawn(move || holder.give_back(1));
        let newcomer = ask_as(&permits, 1, Criticality::Critical, u64::MAX);
        holder.join().unwrap();
        match newcomer {
            // The slot had come back, and was for who is next.
            Err(asked) => {
                assert!(matches!(asked, Asked::Taken), "there is a place to be had");
                permits.give_back(1);
                assert_served(&permits, waiter);
            }
            Ok(newcomer) => {
                assert!(waiter.bell.0.load(SeqCst), "the bell did not ring");
                match permits.poll_place(&waiter.place, Waker::noop()) {
                    Poll::Ready(Ok(())) => permits.give_back(1),
                    Poll::Ready(Err(why)) => assert_eq!(why, Unserved::Evicted),
                    Poll::Pending => panic!("neither served nor evicted"),
                }
                assert_served(&permits, newcomer);
            }
        }
        assert_whole(&permits, 1);
    });
}

#[test]
fn one_who_leaves_while_a_more_critical_newcomer_takes_the_place_takes_nothing_along() {
    explore(4, || {
        let permits = with(1, 1, |rules| rules.by_criticality = true);
        assert!(permits.try_take(1));
        let waiter = ask_as(&permits, 1, Criticality::Sheddable, u64::MAX).unwrap();
        let other = permits.clone();
        let other = thread::spawn(move || other.leave(waiter.place));
        let newcomer = ask_as(&permits, 1, Criticality::Critical, u64::MAX);
        other.join().unwrap();
        let newcomer = newcomer.expect("there is a place, or one to be had");
        permits.give_back(1);
        assert_served(&permits, newcomer);
        assert_whole(&permits, 1);
    });
}

#[test]
fn two_more_critical_newcomers_evict_two_and_no_more() {
    explore(3, || {
        let permits = with(1, 2, |rules| rules.by_criticality = true);
        assert!(permits.try_take(1));
        let of = |permits: &Permits, class| ask_as(permits, 1, class, u64::MAX);
        let waiters = [(); 2].map(|()| of(&permits, Criticality::Sheddable).unwrap());
        let other = permits.clone();
        let other = thread::spawn(move || of(&other, Criticality::Critical).unwrap());
        let newcomers = [
            of(&permits, Criticality::Critical).unwrap(),
            other.join().unwrap(),
        ];
        assert_eq!(permits.load().waiting, 2);
        for waiter in waiters {
            assert_unserved(&permits, waiter, Unserved::Evicted);
        }
        permits.give_back(1);
        for newcomer in newcomers {
            // In whichever order they came: one gives back what the other gets.
            if newcomer.bell.0.load(SeqCst) {
                assert_served(&permits, newcomer);
            } else {
                permits.leave(newcomer.place);
            }
        }
        assert_whole(&permits, 1);
    });
}

#[test]
fn one_who_has_waited_too_long_is_told_so_once_and_the_slot_goes_on() {
    explore(4, || {
        let permits = with(1, 3, |rules| {
            rules.is_controlled = true;
            (rules.target, rules.interval) = (1, 2);
        });
        // After an interval in which all waited for long, its first turn has come.
        {
            let mut queue = lock(&permits.queue);
            queue.codel(0).turn(NOW - 3, [Some(9); 4], &permits.rules);
            queue.codel(0).turn(NOW, [Some(9); 4], &permits.rules);
        }
        assert!(permits.try_take(1));
        permits.update(|word| {
            Some(Word {
                had_room: false,
                ..word
            })
        });
        let waiters = [(); 2].map(|()| queue_since(&permits, NOW - 9));
        let next = queue_since(&permits, NOW);
        let holder = permits.clone();
        let holder = thread::spawn(move || holder.give_back(1));
        let [first, second] = waiters;
        permits.leave(second.place);
        holder.join().unwrap();
        assert_unserved(&permits, first, Unserved::Stale);
        assert_served(&permits, next);
        assert_whole(&permits, 1);
    });
}

/// Queues as one who came a while ago.
fn queue_since(permits: &Permits, now: u64) -> Waiter {
    let bell = Arc::new(Bell::default());
    let ask = Ask {
        class: Criticality::Critical,
        now,
        last: u64::MAX,
    };
    match permits.take_or_queue(1, &bell.clone().into(), || Some(ask)) {
        Asked::Queued(place) => Waiter {
            place,
            slots: 1,
            bell,
        },
        asked => panic!("{asked:?}"),
    }
}

/// The limit is of two partitions, half each.
fn halves(limit: usize, capacity: usize) -> Arc<Permits> {
    let rules = Rules::new(Order::Fifo, capacity, Duration::MAX);
    let division = Division {
        weights: vec![1, 1],
        lend_after: 1_000_000,
    };
    Arc::new(Permits::new(limit, rules, Still(NOW)).divided(&division))
}

const fn of(part: Part) -> Demand {
    let part = Some(part);
    Demand { slots: 1, part }
}

fn queue_of(permits: &Permits, part: Part) -> Waiter {
    let bell = Arc::new(Bell::default());
    let ask = Ask {
        class: Criticality::Critical,
        now: NOW,
        last: u64::MAX,
    };
    match permits.take_or_queue(of(part), &bell.clone().into(), || Some(ask)) {
        Asked::Queued(place) => Waiter {
            place,
            slots: 1,
            bell,
        },
        asked => panic!("{asked:?}"),
    }
}

/// All are there again, and both may take what is theirs.
fn assert_whole_halves(permits: &Permits, half: usize) {
    for part in [0, 1] {
        let state = permits.partition(part).unwrap();
        assert_eq!((state.taken, state.waiting), (0, 0));
    }
    for part in [0, 1] {
        for _ in 0..half {
            assert!(permits.try_take(of(part)), "a slot is lost");
        }
    }
    for part in [0, 1] {
        assert!(!permits.try_take(of(part)), "there is a slot too many");
    }
}

#[test]
fn no_more_are_inside_than_the_limit_though_all_is_lent() {
    explore(3, || {
        let permits = halves(2, 0);
        let inside = Arc::new(AtomicUsize::new(0));
        let visit = |part: Part, times| {
            let (permits, inside) = (permits.clone(), inside.clone());
            move || {
                let taken = (0..times).filter(|_| permits.try_take(of(part))).count();
                assert!(
                    inside.fetch_add(taken, SeqCst) + taken <= 2,
                    "three at once"
                );
                thread::yield_now();
                inside.fetch_sub(taken, SeqCst);
                (0..taken).for_each(|_| permits.give_back(of(part)));
            }
        };
        let other = thread::spawn(visit(0, 2));
        visit(1, 2)();
        other.join().unwrap();
        assert_whole_halves(&permits, 1);
    });
}

#[test]
fn what_comes_back_is_for_an_owner_who_was_refused_and_not_for_the_borrower() {
    explore(4, || {
        let permits = halves(2, 0);
        assert!(permits.try_take(of(0)) && permits.try_take(of(0)));
        assert!(!permits.try_take(of(1)));
        let borrower = permits.clone();
        let borrower = thread::spawn(move || {
            borrower.give_back(of(0));
            borrower.try_take(of(0))
        });
        let owns = permits.try_take(of(1));
        assert!(!borrower.join().unwrap(), "taken from the owner");
        assert!(owns || permits.try_take(of(1)));
        permits.give_back(of(0));
        permits.give_back(of(1));
        assert_whole_halves(&permits, 1);
    });
}

#[test]
fn a_slot_that_an_owner_takes_up_or_gives_back_is_not_the_borrowers() {
    for gives_back in [false, true] {
        explore(4, move || {
            let permits = halves(2, 0);
            assert!(permits.try_take(of(0)) && permits.try_take(of(0)));
            assert!(!permits.try_take(of(1)));
            permits.give_back(of(0));
            if gives_back {
                assert!(permits.try_take(of(1)));
            }
            let borrower = permits.clone();
            let borrower = thread::spawn(move || borrower.try_take(of(0)));
            if gives_back {
                permits.give_back(of(1));
            } else {
                assert!(permits.try_take(of(1)), "it is kept");
            }
            assert!(!borrower.join().unwrap(), "it was kept");
            assert_eq!(permits.partition(0).unwrap().taken, 1);
        });
    }
}

#[test]
fn an_owner_who_is_refused_while_a_slot_comes_back_finds_it_kept_or_the_next() {
    explore(4, || {
        let permits = halves(2, 0);
        assert!(permits.try_take(of(0)) && permits.try_take(of(0)));
        let borrower = permits.clone();
        let borrower = thread::spawn(move || {
            borrower.give_back(of(0));
            borrower.try_take(of(0))
        });
        let owns = permits.try_take(of(1));
        if borrower.join().unwrap() {
            // He was faster than the refusal, once.
            permits.give_back(of(0));
            assert!(!permits.try_take(of(0)));
        }
        assert!(
            owns || permits.try_take(of(1)),
            "neither this one nor the next"
        );
        permits.give_back(of(0));
        permits.give_back(of(1));
        assert_whole_halves(&permits, 1);
    });
}

#[test]
fn in_a_queue_the_slot_goes_to_the_owner_though_others_wait_longer() {
    explore(4, || {
        let permits = halves(2, 2);
        assert!(permits.try_take(of(0)) && permits.try_take(of(0)));
        let (lent, own) = (queue_of(&permits, 0), queue_of(&permits, 1));
        let other = permits.clone();
        let other = thread::spawn(move || other.try_take(of(1)));
        permits.give_back(of(0));
        assert!(!other.join().unwrap(), "somebody waits");
        assert!(own.bell.0.load(SeqCst) && !lent.bell.0.load(SeqCst));
        assert_eq!(permits.partition(1).unwrap().taken, 1);
        assert!(permits.poll_place(&own.place, Waker::noop()).is_ready());
        permits.give_back(of(0));
        assert!(permits.poll_place(&lent.place, Waker::noop()).is_ready());
        permits.give_back(of(1));
        permits.give_back(of(0));
        assert_whole_halves(&permits, 1);
    });
}

#[test]
fn shares_are_those_of_the_last_limit_whoever_changes_it() {
    explore(4, || {
        let permits = halves(2, 0);
        let other = permits.clone();
        let other = thread::spawn(move || other.resize(4));
        permits.resize(6);
        other.join().unwrap();
        let limit = permits.load().limit;
        assert_eq!(permits.partition(0).unwrap().share, limit / 2);
    });
}

#[test]
fn a_newcomer_counts_once_for_those_who_are_refused_early_however_often_he_tries() {
    explore(3, || {
        let permits = with(2, 2, |rules| rules.refuses_from = 0);
        assert!(permits.try_take(2));
        let first = queue_for(&permits, 2);
        let other = permits.clone();
        // One comes back, which is too few for the first.
        let other = thread::spawn(move || other.give_back(1));
        // Every other is refused while one of two places is taken, and he is the first of them.
        let second = ask(&permits);
        other.join().unwrap();
        let second = second.expect("a place in the queue");
        permits.leave(second.place);
        permits.leave(first.place);
        permits.give_back(1);
    });
}
