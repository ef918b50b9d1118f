//! For how long the inner service has not been ready. Pure.

use crate::sync::{AtomicU64, Ordering::Relaxed};

/// Since when an inner service is not ready, by what all services of a layer were told. Times are nanoseconds.
#[derive(Debug)]
pub(super) struct Unready {
    /// How long it may last.
    bound: u64,
    /// Since when; zero while it is ready.
    since: AtomicU64,
    /// When it was last found so.
    last: AtomicU64,
}

// Relaxed everywhere: who reads a value that is just being replaced waits, or fails, as it would have a
// moment before.
impl Unready {
    pub(super) fn new(bound: u64) -> Self {
        Self {
            bound,
            since: AtomicU64::new(0),
            last: AtomicU64::new(0),
        }
    }

    /// One of them is ready.
    #[inline]
    pub(super) fn is_ready(&self) {
        if self.since.load(Relaxed) != 0 {
            self.since.store(0, Relaxed);
        }
    }

    /// One of them is not ready at `now`. Returns until when that may last; nothing once it has been for as
    /// long as it may.
    ///
    /// What nobody has looked at for longer than that may have been ready in between, and begins anew.
    pub(super) fn is_pending(&self, now: u64) -> Option<u64> {
        let now = now.max(1);
        let (since, last) = (self.since.load(Relaxed), self.last.load(Relaxed));
        let is_new = since == 0 || now.saturating_sub(last) > self.bound;
        let since = if is_new { now } else { since };
        if is_new {
            self.since.store(since, Relaxed);
        }
        self.last.store(now, Relaxed);
        let end = since.saturating_add(self.bound);
        (now < end).then_some(end)
    }
}
