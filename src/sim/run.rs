//! A run: one thread, one clock, one seed.

use std::{future::Future, time::Duration};

use super::Random;
use crate::{
    rng::{self, Dealing, Use},
    time::{
        self, Instant, Timer,
        simulated::{self, Simulating},
    },
};

/// Runs `future` on a clock that does not tick but leaps: to the next timer, when nothing else is left to
/// do. An hour of a service that is mostly idle takes as long as the work that is done in it.
///
/// See the [module docs](super) for what makes two runs the same, and for an example.
///
/// # Panics
///
/// Within a runtime of tokio's, so within another run.
pub fn run<F: Future>(seed: u64, future: F) -> F::Output {
    let _dealing = Dealing::from_seed(seed);
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime of this thread alone asks nothing of the system");
    runtime.block_on(async {
        let _simulating = Simulating::since(time::now());
        future.await
    })
}

fn began() -> Instant {
    simulated::began().expect("within a `sim::run`, and on its thread")
}

/// The time since the run began.
///
/// # Panics
///
/// Outside of a [`run`].
#[must_use]
pub fn elapsed() -> Duration {
    time::now().saturating_duration_since(began())
}

/// A stream of random numbers of its own, from the seed of the run. The first one that is asked for in a
/// run is always the same, and so is the second.
///
/// # Panics
///
/// Outside of a [`run`].
#[must_use]
pub fn random() -> Random {
    random_for(Use::Other)
}

pub(super) fn random_for(what_for: Use) -> Random {
    Random::new(rng::dealt(what_for).expect("within a `sim::run`, and on its thread"))
}

/// Does `what` when the run has gone on for `offset`: breaks something, or mends it.
///
/// At once where that is past. Not at all if the run ends before.
///
/// # Panics
///
/// Outside of a [`run`].
pub fn at(offset: Duration, what: impl FnOnce() + Send + 'static) {
    let end = began() + offset;
    tokio::spawn(async move {
        sleep_until(end).await;
        what();
    });
}

pub(super) async fn sleep_until(end: Instant) {
    let mut timer = None;
    if end > time::now() {
        std::future::poll_fn(|cx| timer.get_or_insert_with(|| Timer::until(end)).poll(cx)).await;
    }
    if let Some(timer) = timer {
        timer.recycle();
    }
}

pub(super) async fn sleep(duration: Duration) {
    match time::now().checked_add(duration) {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_leaps_from_one_thing_to_do_to_the_next() {
        let mut happened = Vec::new();
        let order = run(1, async {
            let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
            for secs in [3, 1, 2_000_000] {
                let tell = tell.clone();
                at(Duration::from_secs(secs), move || {
                    tell.send(elapsed()).unwrap();
                });
            }
            drop(tell);
            while let Some(when) = told.recv().await {
                happened.push(when.as_secs());
            }
            elapsed()
        });
        assert_eq!(happened, [1, 3, 2_000_000]);
        assert_eq!(order, Duration::from_secs(2_000_000));
    }

    #[test]
    fn the_streams_of_a_run_are_the_same_in_each_run_and_differ_from_one_another() {
        let draws = |seed| run(seed, async { [random().draw(), random().draw()] });
        let [first, second] = draws(1);
        assert_ne!(first, second);
        assert_eq!(draws(1), [first, second]);
        assert_ne!(draws(2), [first, second]);
    }

    #[test]
    fn the_clock_on_the_wall_begins_at_zero_and_leaps_with_the_other() {
        run(1, async {
            assert_eq!(time::since_unix_epoch(), Duration::ZERO);
            sleep(Duration::from_secs(7200)).await;
            assert_eq!(time::since_unix_epoch(), Duration::from_secs(7200));
        });
        assert!(time::since_unix_epoch() > Duration::from_secs(7200));
    }

    #[test]
    fn a_run_that_panics_leaves_nothing_behind() {
        let ran = std::panic::catch_unwind(|| run(1, async { panic!("as told") }));
        assert!(ran.is_err());
        assert!(rng::dealt(Use::Other).is_none());
        assert!(simulated::began().is_none());
    }
}
