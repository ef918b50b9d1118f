//! A budget under every interleaving of those who feed it and those who drain it.

use loom::thread;

use super::{places::Places, savings::Floor, throttle::Throttle, *};

/// All ways in which the threads take turns, as far as one interrupts another so many times.
fn explore(interruptions: usize, test: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(interruptions);
    builder.check(test);
}

fn budget(ratio: f64, max_balance: u32) -> Budget {
    let budget = Budget::new(ratio).unwrap().with_floor(0);
    budget.with_max_balance(max_balance).unwrap()
}

fn take(budget: &Budget) -> bool {
    budget.ticket().try_retry(FailureKind::Transient)
}

#[test]
fn of_three_who_take_the_last_retry_one_gets_it() {
    explore(3, || {
        let budget = budget(1.0, 10);
        budget.deposit();
        let spawn = |budget: Budget| thread::spawn(move || take(&budget));
        let others = [spawn(budget.clone()), spawn(budget.clone())];
        let taken = u32::from(take(&budget));
        let taken = others.map(|other| u32::from(other.join().unwrap()) + taken);
        assert!(
            taken == [1, 1] || taken == [1, 0] || taken == [0, 1],
            "{taken:?}"
        );
        assert_eq!(budget.balance(), 0.0);
    });
}

#[test]
fn what_is_fed_while_a_retry_is_taken_is_not_lost() {
    explore(5, || {
        let budget = budget(0.5, 10);
        budget.deposit();
        budget.deposit();
        let other = budget.clone();
        let other = thread::spawn(move || other.deposit());
        assert!(take(&budget));
        budget.deposit();
        other.join().unwrap();
        assert_eq!(budget.balance(), 1.0);
    });
}

#[test]
fn two_who_feed_at_once_do_not_overfill() {
    explore(5, || {
        let budget = budget(0.6, 1);
        let other = budget.clone();
        let other = thread::spawn(move || other.deposit());
        budget.deposit();
        other.join().unwrap();
        assert_eq!(budget.balance(), 1.0);
    });
}

#[test]
fn of_two_who_take_the_last_of_the_floor_one_gets_it() {
    explore(5, || {
        let floor = Arc::new(Floor::new(1));
        let other = floor.clone();
        let other = thread::spawn(move || other.try_take(5));
        let taken = floor.try_take(5);
        assert_ne!(taken, other.join().unwrap());
        assert!(!floor.try_take(5));
    });
}

#[test]
fn of_two_who_take_the_last_tokens_one_gets_them_and_what_is_given_back_is_not_lost() {
    explore(4, || {
        let budget = Budget::quota(10).unwrap().with_floor(0);
        let other = budget.clone();
        let other = thread::spawn(move || {
            let mut call = other.ticket();
            let taken = call.try_retry(FailureKind::Timeout);
            call.succeed();
            taken
        });
        let mut call = budget.ticket();
        let taken = call.try_retry(FailureKind::Timeout);
        let other_taken = other.join().unwrap();
        assert!(taken || other_taken);
        // Both took where the other had given back before; where it got none, its call succeeded all the
        // same and paid in its one.
        let left = budget.balance();
        match (taken, other_taken) {
            (true, true) => assert_eq!(left, 0.0),
            (false, true) => assert_eq!(left, 10.0),
            (true, false) => assert_eq!(left, 1.0),
            (false, false) => unreachable!(),
        }
        drop(call);
    });
}

#[test]
fn of_three_who_take_two_places_two_get_one_and_both_come_back() {
    explore(3, || {
        let places = Arc::new(Places::new(0, 2));
        let spawn = |places: Arc<Places>| thread::spawn(move || places.try_take());
        let others = [spawn(places.clone()), spawn(places.clone())];
        let mut taken = u32::from(places.try_take());
        for other in others {
            taken += u32::from(other.join().unwrap());
        }
        assert_eq!((taken, places.free()), (2, 0));
        let leave = |places: Arc<Places>| thread::spawn(move || places.leave(true, false));
        let other = leave(places.clone());
        places.leave(true, false);
        other.join().unwrap();
        assert_eq!(places.free(), 2);
    });
}

#[test]
fn no_place_is_taken_against_calls_that_have_ended() {
    explore(5, || {
        // Half of the active calls: two of them are needed for a place.
        let places = Arc::new(Places::new(500_000, 0));
        places.enter();
        places.enter();
        let other = places.clone();
        let other = thread::spawn(move || {
            other.leave(false, true);
            other.try_take()
        });
        let taken = places.try_take();
        assert!(!other.join().unwrap(), "its own call was one of the two");
        assert_eq!(places.free(), 0);
        places.leave(taken, true);
        assert_eq!(places.free(), 0);
        places.enter();
        places.enter();
        assert!(
            places.try_take() && !places.try_take(),
            "nothing is left over"
        );
    });
}

#[test]
fn each_failure_takes_its_token_of_a_throttle_and_each_success_brings_its_part() {
    explore(5, || {
        let throttle = Arc::new(Throttle::new(3, 0.5).unwrap());
        throttle.failed();
        let other = throttle.clone();
        let other = thread::spawn(move || {
            other.failed();
            other.succeeded();
        });
        throttle.succeeded();
        throttle.failed();
        other.join().unwrap();
        assert_eq!(throttle.tokens(), 3.0 - 3.0 + 2.0 * 0.5);
        assert!(!throttle.may_retry());
    });
}
