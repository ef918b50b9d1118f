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

fn permits(limit: usize, capacity: usize) -> Arc<Permits> {
    Arc::new(Permits::new(limit, capacity, Discipline::Fifo))
}

fn ask_for(permits: &Permits, slots: u32) -> Result<Waiter, Asked> {
    let bell = Arc::new(Bell::default());
    match permits.take_or_queue(slots, &bell.clone().into()) {
        Asked::Queued(place) => Ok(Waiter { place, slots, bell }),
        asked => Err(asked),
    }
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
            Poll::Ready(Err(Doomed)) => {}
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
