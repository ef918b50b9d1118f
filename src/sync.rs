//! The one door to atomics, locks and shared ownership: `std`'s, or loom's under
//! `--cfg steadfast_loom`.
//!
//! Not `--cfg loom`: that one also changes tokio, which we depend on.

#[cfg(not(steadfast_loom))]
mod imp {
    pub(crate) use std::sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    };
}

#[cfg(steadfast_loom)]
mod imp {
    pub(crate) use loom::sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    };

    /// Loom's atomics, with two of its gaps (as of 0.7) closed.
    ///
    /// It remembers the last access to a location only: a load that is followed by a load and a swap
    /// of another thread is forgotten, and never tried after the swap. So every access goes through a
    /// `door`, a second location that all accesses change and in which none is forgotten.
    ///
    /// Where a compare-and-swap comes before a plain store that does not know of it, loom lets a later
    /// reader find either. So a store is a swap.
    macro_rules! atomic {
        ($atomic:ident, $int:ty) => {
            #[derive(Debug, Default)]
            pub(crate) struct $atomic {
                inner: loom::sync::atomic::$atomic,
                door: loom::sync::atomic::AtomicBool,
            }

            #[allow(dead_code, reason = "not every width needs every operation")]
            impl $atomic {
                pub(crate) fn new(value: $int) -> Self {
                    let inner = loom::sync::atomic::$atomic::new(value);
                    let door = loom::sync::atomic::AtomicBool::new(false);
                    Self { inner, door }
                }

                fn enter(&self) -> &loom::sync::atomic::$atomic {
                    self.door.swap(true, Ordering::Relaxed);
                    &self.inner
                }

                pub(crate) fn load(&self, order: Ordering) -> $int {
                    self.enter().load(order)
                }

                pub(crate) fn store(&self, value: $int, order: Ordering) {
                    self.enter().swap(value, order);
                }

                pub(crate) fn fetch_add(&self, value: $int, order: Ordering) -> $int {
                    self.enter().fetch_add(value, order)
                }

                pub(crate) fn fetch_sub(&self, value: $int, order: Ordering) -> $int {
                    self.enter().fetch_sub(value, order)
                }

                pub(crate) fn fetch_max(&self, value: $int, order: Ordering) -> $int {
                    self.enter().fetch_max(value, order)
                }

                pub(crate) fn fetch_min(&self, value: $int, order: Ordering) -> $int {
                    self.enter().fetch_min(value, order)
                }

                pub(crate) fn compare_exchange_weak(
                    &self,
                    current: $int,
                    new: $int,
                    success: Ordering,
                    failure: Ordering,
                ) -> Result<$int, $int> {
                    let inner = self.enter();
                    inner.compare_exchange_weak(current, new, success, failure)
                }
            }
        };
    }
    atomic!(AtomicU32, u32);
    atomic!(AtomicU64, u64);
}

pub(crate) use imp::*;

/// Shares a value that never changes, where loom has nothing to explore. Its own `Arc` holds no `dyn`.
#[allow(clippy::disallowed_types, reason = "this is the door")]
pub(crate) use std::sync::Arc as ConstArc;

/// Made once, where loom has nothing to explore. Its own has none.
pub(crate) use std::sync::OnceLock;

/// Shared ownership, and pointers that do not own, which loom has not.
#[allow(clippy::disallowed_types, reason = "this is the door")]
pub(crate) use std::sync::{Arc as StdArc, Weak as StdWeak};

/// Locks, also after a panic elsewhere: what our locks guard is consistent between statements, and
/// a breaker or queue that panicked once must go on serving the others.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Locks if nobody else has, and never waits.
pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(std::sync::TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(std::sync::TryLockError::WouldBlock) => None,
    }
}
