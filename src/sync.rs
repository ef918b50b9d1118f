//! The one door to atomics, locks and shared ownership: `std`'s, or loom's under
//! `--cfg steadfast_loom`.
//!
//! Not `--cfg loom`: that one also changes tokio, which we depend on.

#[cfg(not(steadfast_loom))]
mod imp {
    pub(crate) use std::sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU32, AtomicU64, Ordering},
    };
}

#[cfg(steadfast_loom)]
mod imp {
    pub(crate) use loom::sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU32, AtomicU64, Ordering},
    };
}

pub(crate) use imp::*;

/// Locks, also after a panic elsewhere: what our locks guard is consistent between statements, and
/// a breaker or queue that panicked once must go on serving the others.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
