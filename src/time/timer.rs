//! Timers that are used again.
//!
//! A call that is answered before its time is up, as nearly all are, needs its timer for nothing but
//! to have had one. Making it and taking it off again costs two locks of the wheel that all threads of
//! the runtime share, which is most of what a timeout costs. So a timer whose call has ended is not
//! taken off. It stays in a small pool of its thread, with nobody to wake, and the next call moves its
//! end further off: tokio does that with one compare-and-swap and no lock, and the wheel finds out when
//! the old end comes.
//!
//! What the pool holds is bounded, and goes with the thread. A timer in it may fire; that wakes
//! nobody. On a paused clock it is one more moment at which the clock stops on its way forward.

use std::{
    cell::RefCell,
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use tokio::{
    runtime::{Handle, Id},
    time::{Instant, Sleep},
};

/// For the calls of a thread to come and go by so many at a time without a timer being made.
const SPARES: usize = 256;
/// How many spares are looked at for one that ends early enough. Timeouts are seldom nested deeper.
const TRIES: usize = 4;

thread_local! {
    static POOL: RefCell<Pool> = const {
        RefCell::new(Pool {
            runtime: None,
            spares: Vec::new(),
        })
    };
}

/// The spare timers of a thread, all of one runtime: in another they would never fire.
struct Pool {
    runtime: Option<Id>,
    spares: Vec<Pin<Box<Sleep>>>,
}

impl Pool {
    /// A spare to be moved to `end`, if there is one.
    #[inline]
    fn take(&mut self, end: Instant) -> Option<Pin<Box<Sleep>>> {
        // Only the end of a timer that ends no later can be moved without a lock.
        let last = self.spares.len().checked_sub(1)?;
        let is_earlier = |index: &usize| self.spares[*index].deadline() <= end;
        let fitting = (0..=last).rev().take(TRIES).find(is_earlier);
        Some(self.spares.swap_remove(fitting.unwrap_or(last)))
    }
}

/// Runs until a moment on tokio's clock.
///
/// Making one needs a runtime with time enabled.
#[derive(Debug)]
pub(crate) struct Timer {
    sleep: Pin<Box<Sleep>>,
    runtime: Id,
}

impl Timer {
    /// A timer that ends at `end`.
    #[inline]
    pub(crate) fn until(end: Instant) -> Self {
        let runtime = Handle::current().id();
        let mut stale = Vec::new();
        let spare = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.runtime != Some(runtime) {
                pool.runtime = Some(runtime);
                stale = mem::take(&mut pool.spares); // to be dropped when the pool is free again
            }
            pool.take(end)
        });
        match spare {
            Ok(Some(mut sleep)) => {
                sleep.as_mut().reset(end);
                Self { sleep, runtime }
            }
            _ => Self::new(end, runtime),
        }
    }

    #[cold]
    fn new(end: Instant, runtime: Id) -> Self {
        #[allow(clippy::disallowed_methods, reason = "this is the door")]
        let sleep = Box::pin(tokio::time::sleep_until(end));
        Self { sleep, runtime }
    }

    pub(crate) fn end(&self) -> Instant {
        self.sleep.deadline()
    }

    /// Whether the end has come; if not, `cx` will be woken when it does.
    #[inline]
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.sleep.as_mut().poll(cx)
    }

    /// Lets another call have the timer. To be called from a running runtime, and so not from `drop`:
    /// tokio panics where a timer of a runtime that has shut down is polled.
    #[inline]
    pub(crate) fn recycle(mut self) {
        if !self.sleep.is_elapsed() {
            // The waker keeps a task in memory that may have ended, and is not to be woken.
            let nobody = &mut Context::from_waker(Waker::noop());
            let _ = self.sleep.as_mut().poll(nobody);
        }
        let mut timer = Some(self.sleep);
        let runtime = Some(self.runtime);
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.runtime == runtime && pool.spares.len() < SPARES {
                pool.spares.extend(timer.take());
            }
        });
    }
}

#[cfg(all(test, not(steadfast_loom)))]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicU32, Ordering},
        },
        task::Wake,
        time::Duration,
    };

    use proptest::prelude::*;
    use tokio::{runtime::Runtime, time::advance};

    use super::*;
    use crate::time;

    const MS: Duration = Duration::from_millis(1);

    fn paused_runtime() -> Runtime {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().start_paused(true).build().unwrap()
    }

    fn spares() -> usize {
        POOL.with_borrow(|pool| pool.spares.len())
    }

    /// Counts how often it wakes.
    #[derive(Default)]
    struct Woken(AtomicU32);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn poll_once(timer: &mut Timer) -> Poll<()> {
        timer.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_recycled_timer_wakes_nobody_and_keeps_no_waker() {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let mut timer = Timer::until(time::now() + MS);
        assert!(timer.poll(&mut Context::from_waker(&waker)).is_pending());
        drop(waker);
        timer.recycle();
        assert_eq!(spares(), 1);
        assert_eq!(Arc::strong_count(&woken), 1);
        advance(2 * MS).await;
        assert_eq!(woken.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_spare_of_one_runtime_is_not_used_in_another() {
        let first = paused_runtime();
        first.block_on(async { Timer::until(time::now() + MS).recycle() });
        assert_eq!(spares(), 1);
        drop(first);
        paused_runtime().block_on(async {
            let mut timer = Timer::until(time::now() + MS);
            assert_eq!(spares(), 0);
            std::future::poll_fn(|cx| timer.poll(cx)).await; // or it would hang, or panic
        });
    }

    #[test]
    fn a_timer_that_outlives_its_runtime_can_be_dropped_and_recycled() {
        let runtime = paused_runtime();
        let [one, other] = runtime.block_on(async {
            [MS, 2 * MS].map(|left| {
                let mut timer = Timer::until(time::now() + left);
                assert!(poll_once(&mut timer).is_pending());
                timer
            })
        });
        drop(runtime);
        drop(one);
        other.recycle();
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_thread_keeps_is_bounded() {
        let timers = || Timer::until(time::now() + MS);
        let timers: Vec<_> = std::iter::repeat_with(timers).take(2 * SPARES).collect();
        timers.into_iter().for_each(Timer::recycle);
        assert_eq!(spares(), SPARES);
    }

    #[tokio::test(start_paused = true)]
    async fn nested_timeouts_take_the_spare_that_ends_early_enough() {
        let now = time::now();
        let nested = [MS, 10 * MS, 100 * MS];
        for _ in 0..3 {
            // As futures do: the innermost is first to begin and first to end.
            let timers = nested.map(|limit| Timer::until(now + limit));
            timers.into_iter().for_each(Timer::recycle);
        }
        let mut pool = POOL.take();
        for limit in nested {
            assert_eq!(pool.take(now + limit).unwrap().deadline(), now + limit);
        }
        assert!(pool.take(now).is_none());
    }

    impl Default for Pool {
        fn default() -> Self {
            let (runtime, spares) = (None, Vec::new());
            Self { runtime, spares }
        }
    }

    proptest! {
        /// Whatever a timer was used for before, it fires at its end: not before, and not after.
        #[test]
        fn every_timer_fires_at_its_end(
            calls in prop::collection::vec((1..500_u32, 0..600_u32, any::<bool>()), 1..100),
        ) {
            paused_runtime().block_on(async {
                for (limit, wait, is_recycled) in calls {
                    let mut timer = Timer::until(time::now() + limit * MS);
                    let _ = poll_once(&mut timer);
                    advance(wait * MS).await;
                    assert_eq!(poll_once(&mut timer).is_ready(), wait >= limit, "{limit} {wait}");
                    if is_recycled {
                        timer.recycle();
                    }
                }
            });
        }
    }
}
