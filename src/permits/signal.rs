//! How long calls wait, to be read by others without a lock.

use crate::sync::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Written under the lock of the queue only, and only where somebody waits.
///
/// `Relaxed` throughout: each number is true by itself, and nothing is read by way of one. When the first
/// waiter is counted, by a swap that releases, all have been set for the queue that begins.
#[derive(Debug, Default)]
pub(super) struct Signal {
    is_standing: AtomicBool,
    least: AtomicU64,
    smoothed: AtomicU64,
    /// Since when the one has waited who has waited the longest.
    since: AtomicU64,
}

/// In nanoseconds; see [`QueueDelay`](crate::queue::QueueDelay).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Delay {
    pub(crate) is_standing: bool,
    pub(crate) least: u64,
    pub(crate) smoothed: u64,
    pub(crate) longest: u64,
}

impl Signal {
    /// A turn came, and the one had waited for `delay` who had waited the longest.
    pub(super) fn turn(&self, delay: u64, least: u64, is_standing: bool) {
        let smoothed = self.smoothed.load(Relaxed);
        // The first as it is and then an eighth of each, as TCP smooths round trips (RFC 6298).
        let smoothed = match smoothed {
            0 => delay,
            _ => smoothed - smoothed / 8 + delay / 8,
        };
        self.smoothed.store(smoothed, Relaxed);
        self.least.store(least, Relaxed);
        self.is_standing.store(is_standing, Relaxed);
    }

    pub(super) fn set_since(&self, since: u64) {
        self.since.store(since, Relaxed);
    }

    /// Nobody had to wait.
    pub(super) fn clear(&self) {
        self.is_standing.store(false, Relaxed);
        self.least.store(0, Relaxed);
        self.smoothed.store(0, Relaxed);
    }

    pub(super) fn read(&self, now: u64) -> Delay {
        Delay {
            is_standing: self.is_standing.load(Relaxed),
            least: self.least.load(Relaxed),
            smoothed: self.smoothed.load(Relaxed),
            longest: now.saturating_sub(self.since.load(Relaxed)),
        }
    }
}
