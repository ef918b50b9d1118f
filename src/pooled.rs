//! An `Arc` whose clones cost nothing on the thread that made them.
//!
//! Every call must hold on to its layer's state: a future is `'static` and may outlive the service
//! that made it. A plain `Arc` would make each call write the one reference count that all calls of
//! all threads share: 9 ns alone, and more than twice that when two threads do it. That is more than the
//! rest of a closed circuit breaker. So a dropped clone is not given back to the count. It stays in
//! a small pool of the thread that dropped it, and the next call on that thread takes it from there.
//! In the steady state no call writes a line that another thread reads.
//!
//! What the pool holds is bounded (`SETS` times `WAYS` for each type and thread) and goes with the
//! thread. Until then a state that nobody uses any more may stay in memory; its layer's gauges and
//! counters do not depend on it.

use std::{cell::Cell, fmt, ops::Deref};

use crate::sync::Arc;

const SETS: usize = 8;
const WAYS: usize = 4;

/// The spare clones of one thread: a small set-associative cache, keyed by address.
pub(crate) struct Pool<T>([[Cell<Option<Arc<T>>>; WAYS]; SETS]);

impl<T> Pool<T> {
    pub(crate) const fn new() -> Self {
        Self([const { [const { Cell::new(None) }; WAYS] }; SETS])
    }

    fn ways(&self, arc: &Arc<T>) -> &[Cell<Option<Arc<T>>>; WAYS] {
        // States are larger than a cache line; the bits below tell none from another.
        &self.0[(Arc::as_ptr(arc).addr() >> 7) % SETS]
    }

    /// A spare clone of `wanted`, if there is one in the first place to look.
    #[inline]
    fn take_first(&self, wanted: &Arc<T>) -> Option<Arc<T>> {
        Self::take_if(&self.ways(wanted)[0], wanted)
    }

    fn take_any(&self, wanted: &Arc<T>) -> Option<Arc<T>> {
        let mut ways = self.ways(wanted).iter();
        ways.find_map(|way| Self::take_if(way, wanted))
    }

    #[inline]
    fn take_if(way: &Cell<Option<Arc<T>>>, wanted: &Arc<T>) -> Option<Arc<T>> {
        match way.take() {
            Some(spare) if Arc::ptr_eq(&spare, wanted) => Some(spare),
            other => {
                way.set(other);
                None
            }
        }
    }

    /// Keeps what `spare` holds, in the first place to look; leaves in it what finds no room.
    #[inline]
    fn put(&self, spare: &mut Option<Arc<T>>) {
        let Some(arc) = spare else { return };
        let [first, rest @ ..] = self.ways(arc);
        *spare = first.replace(spare.take());
        if spare.is_some() {
            Self::move_up(rest, spare);
        }
    }

    /// Makes room: each takes the place of the next, so that the one not in use the longest goes.
    #[inline(never)]
    fn move_up(ways: &[Cell<Option<Arc<T>>>], spare: &mut Option<Arc<T>>) {
        for way in ways {
            *spare = way.replace(spare.take());
            if spare.is_none() {
                return;
            }
        }
    }
}

/// A type of state that has a pool on every thread. Implemented by [`pooled!`].
pub(crate) trait Pooled: Sized + 'static {
    /// `None` while the thread is being torn down.
    fn pool<R>(f: impl FnOnce(&Pool<Self>) -> R) -> Option<R>;
}

/// Gives a type its pool.
macro_rules! pooled {
    ($state:ty) => {
        impl $crate::pooled::Pooled for $state {
            #[inline]
            fn pool<R>(f: impl FnOnce(&$crate::pooled::Pool<Self>) -> R) -> Option<R> {
                thread_local! {
                    static POOL: $crate::pooled::Pool<$state> =
                        const { $crate::pooled::Pool::new() };
                }
                POOL.try_with(f).ok()
            }
        }
    };
}

/// A shared state, cheap to clone and to drop.
pub(crate) struct PooledArc<T: Pooled>(Option<Arc<T>>);

impl<T: Pooled> PooledArc<T> {
    pub(crate) fn new(state: T) -> Self {
        Self(Some(Arc::new(state)))
    }

    fn arc(&self) -> &Arc<T> {
        // Empty only inside `drop`, which nobody sees.
        self.0.as_ref().expect("a live `PooledArc` holds its state")
    }
}

impl<T: Pooled> Clone for PooledArc<T> {
    #[inline]
    fn clone(&self) -> Self {
        let arc = self.arc();
        let spare = T::pool(|pool| pool.take_first(arc)).flatten();
        Self(Some(spare.unwrap_or_else(|| clone_elsewhere(arc))))
    }
}

/// Out of line, so that the way that is nearly always taken is short enough to be inlined.
#[inline(never)]
fn clone_elsewhere<T: Pooled>(arc: &Arc<T>) -> Arc<T> {
    let spare = T::pool(|pool| pool.take_any(arc)).flatten();
    spare.unwrap_or_else(|| Arc::clone(arc))
}

impl<T: Pooled> Drop for PooledArc<T> {
    #[inline]
    fn drop(&mut self) {
        // What is left in the field is dropped with it: what finds no room, or, where the thread has
        // no pool any more, all.
        let _ = T::pool(|pool| pool.put(&mut self.0));
    }
}

impl<T: Pooled> Deref for PooledArc<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.arc()
    }
}

impl<T: Pooled + fmt::Debug> fmt::Debug for PooledArc<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.arc().fmt(f)
    }
}

#[cfg(all(test, not(steadfast_loom)))]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct State(#[allow(dead_code, reason = "counts the states that are alive")] Arc<()>);
    pooled!(State);

    fn count(arc: &PooledArc<State>) -> usize {
        Arc::strong_count(arc.arc())
    }

    #[test]
    fn the_second_clone_on_a_thread_leaves_the_shared_count_alone() {
        let state = PooledArc::new(State(Arc::new(())));
        drop(state.clone());
        let after_first = count(&state);
        for _ in 0..1000 {
            let clone = state.clone();
            assert_eq!(count(&clone), after_first);
        }
        assert_eq!(count(&state), after_first);
    }

    #[test]
    fn a_thread_that_ends_lets_go_of_what_it_pooled() {
        let alive = Arc::new(());
        let state = PooledArc::new(State(alive.clone()));
        std::thread::spawn(move || drop((state.clone(), state)))
            .join()
            .unwrap();
        assert_eq!(Arc::strong_count(&alive), 1);
    }

    #[test]
    fn what_a_thread_pools_is_bounded() {
        let alive = Arc::new(());
        std::thread::spawn({
            let alive = alive.clone();
            move || {
                for _ in 0..10_000 {
                    drop(PooledArc::new(State(alive.clone())));
                }
                assert!(Arc::strong_count(&alive) <= 2 + SETS * WAYS);
            }
        })
        .join()
        .unwrap();
        assert_eq!(Arc::strong_count(&alive), 1);
    }

    #[test]
    fn many_states_at_once_do_not_get_mixed_up() {
        let states: Vec<_> = (0..100)
            .map(|_| PooledArc::new(State(Arc::new(()))))
            .collect();
        for _ in 0..3 {
            let clones = states.to_vec();
            for (state, clone) in states.iter().zip(&clones) {
                assert!(Arc::ptr_eq(state.arc(), clone.arc()));
            }
        }
    }
}
