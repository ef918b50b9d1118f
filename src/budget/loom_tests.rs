//! A budget under every interleaving of those who feed it and those who drain it.

use loom::thread;

use super::*;

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

#[test]
fn of_three_who_take_the_last_retry_one_gets_it() {
    explore(3, || {
        let budget = budget(1.0, 10);
        budget.deposit();
        let take = |budget: Budget| thread::spawn(move || budget.try_take());
        let others = [take(budget.clone()), take(budget.clone())];
        let taken = u32::from(budget.try_take());
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
        assert!(budget.try_take());
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
