//! A limiter under every interleaving of those who begin, end, and change the limit.

use std::sync::Arc;

use loom::thread;

use super::{
    limit::{Limit, Sample},
    limiter::{Bounded, Limiter, Told},
    sampling::{Sampling, Windows},
};
use crate::{
    queue::Queue,
    sync::{AtomicU32, Ordering::Relaxed},
};

fn explore(test: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(test);
}

/// What all samples together have told.
#[derive(Debug, Default)]
struct Sums {
    completed: AtomicU32,
    dropped: AtomicU32,
    decreases: AtomicU32,
}

/// One less at a drop.
struct Decrease(Arc<Sums>);

impl Limit for Decrease {
    fn next(&mut self, limit: f64, sample: &Sample) -> f64 {
        let sums = &self.0;
        sums.completed.fetch_add(sample.completed, Relaxed);
        sums.dropped.fetch_add(sample.dropped, Relaxed);
        if sample.dropped == 0 {
            return limit;
        }
        sums.decreases.fetch_add(1, Relaxed);
        limit - 1.0
    }
}

fn limiter(limit: u32, sampling: Sampling) -> (Arc<Limiter>, Arc<Sums>) {
    let sums = Arc::new(Sums::default());
    let bounded = Bounded {
        min: 1,
        max: 9,
        limit: limit.into(),
    };
    let algorithm = Box::new(Decrease(sums.clone()));
    let permits = Queue::NONE.permits(limit as usize);
    let limiter = Limiter::new(permits, bounded, sampling.check().unwrap(), algorithm);
    (Arc::new(limiter), sums)
}

fn windows() -> Sampling {
    let ms = std::time::Duration::from_millis(1);
    Windows::default().length(ms, ms).least_calls(1).into()
}

/// Later than the end of any window.
const LATE: u64 = u64::MAX / 2;

fn begin(limiter: &Limiter) -> Option<u32> {
    let is_taken = limiter.permits().try_take(1);
    is_taken.then(|| limiter.generation())
}

fn end(limiter: &Limiter, generation: u32, told: Told, now: u64) {
    limiter.give_back(1);
    limiter.ended(generation, told, 2_000, now, |_| ());
}

#[test]
fn drops_of_one_generation_lower_the_limit_once_and_that_once_is_not_lost() {
    for sampling in [Sampling::EveryCall, windows()] {
        explore(move || {
            let (limiter, sums) = limiter(5, sampling);
            let [one, other] = [(); 2].map(|()| begin(&limiter).unwrap());
            let there = limiter.clone();
            let there = thread::spawn(move || end(&there, other, Told::Overloaded, LATE));
            end(&limiter, one, Told::Overloaded, LATE);
            there.join().unwrap();
            // What the lock kept from being told is told with the next.
            let next = begin(&limiter).unwrap();
            end(&limiter, next, Told::Completed, u64::MAX - 1);
            assert_eq!(sums.decreases.load(Relaxed), 1);
            assert_eq!(limiter.permits().load().limit, 4);
            assert_eq!(limiter.permits().load().taken, 0);
        });
    }
}

#[test]
fn what_is_completed_is_told_once() {
    for sampling in [Sampling::EveryCall, windows()] {
        explore(move || {
            let (limiter, sums) = limiter(5, sampling);
            let [one, other] = [(); 2].map(|()| begin(&limiter).unwrap());
            let there = limiter.clone();
            let there = thread::spawn(move || end(&there, other, Told::Completed, LATE));
            end(&limiter, one, Told::Completed, LATE);
            there.join().unwrap();
            let next = begin(&limiter).unwrap();
            end(&limiter, next, Told::Completed, u64::MAX - 1);
            assert_eq!(sums.completed.load(Relaxed), 3);
        });
    }
}

#[test]
fn no_more_are_in_flight_than_the_limit_while_it_changes_by_itself_and_by_hand() {
    explore(|| {
        let (limiter, _) = limiter(2, Sampling::EveryCall);
        let [one, other] = [(); 2].map(|()| begin(&limiter).unwrap());
        assert_eq!(begin(&limiter), None);
        let there = limiter.clone();
        let there = thread::spawn(move || {
            end(&there, other, Told::Overloaded, 1); // one less
            let admitted = begin(&there);
            let word = there.permits().load();
            assert!(word.taken <= 2, "{word:?}");
            admitted.is_some()
        });
        limiter.intervene(1, |bounded| bounded.set(1.0));
        assert_eq!(begin(&limiter), None, "one is in flight");
        let admitted = there.join().unwrap();
        end(&limiter, one, Told::Completed, 2);
        let word = limiter.permits().load();
        assert_eq!((word.limit, word.taken), (1, u32::from(admitted)));
    });
}

#[test]
fn a_call_that_ends_while_the_limit_is_set_is_not_held_against_it() {
    explore(|| {
        let (limiter, sums) = limiter(5, Sampling::EveryCall);
        let early = begin(&limiter).unwrap();
        let there = limiter.clone();
        let there = thread::spawn(move || end(&there, early, Told::Overloaded, 1));
        limiter.intervene(1, |bounded| bounded.set(4.0));
        let after = begin(&limiter).unwrap();
        end(&limiter, after, Told::Completed, 2);
        there.join().unwrap();
        let next = begin(&limiter).unwrap();
        end(&limiter, next, Told::Completed, 3);
        // Either it was told before the limit was set, which went on from there, or never.
        let limit = limiter.permits().load().limit;
        assert!(sums.dropped.load(Relaxed) <= 1);
        assert_eq!(limit, 4);
    });
}
