//! Which call goes when. Pure.

use crate::sync::{AtomicU64, Ordering::Relaxed};

/// Gives calls their turns at a rate: the generic cell rate algorithm of ATM (ITU-T I.371), of which all
/// there is to know is one moment.
#[derive(Debug)]
pub(super) struct Pace {
    /// When the next call would be due if none went early on what was saved up. Nanoseconds.
    next: AtomicU64,
}

/// How far apart calls are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gap {
    /// Nanoseconds from one call to the next.
    pub(super) nanos: u64,
    /// By how many nanoseconds calls may go early that came late.
    pub(super) early: u64,
}

impl Gap {
    /// At so many calls a second, of which as many may be saved up as go in `burst` nanoseconds.
    pub(super) fn new(per_second: f64, burst: u64) -> Self {
        let nanos = (1e9 / per_second) as u64;
        Self {
            nanos,
            early: burst.saturating_sub(nanos),
        }
    }
}

/// A turn that has been taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    /// When it is: no later than now for a call that goes at once.
    pub(super) at: u64,
    /// The gap after it.
    nanos: u64,
}

// Relaxed: nothing else is read by what the word says.
impl Pace {
    pub(super) fn new() -> Self {
        Self {
            next: AtomicU64::new(0),
        }
    }

    /// From `now` on there is nothing saved up.
    pub(super) fn begin(&self, gap: Gap, now: u64) {
        self.next.fetch_max(now.saturating_add(gap.early), Relaxed);
    }

    /// Takes a turn, unless that would be after `last`.
    ///
    /// # Errors
    ///
    /// When it would have been.
    pub(super) fn take(&self, gap: Gap, now: u64, last: u64) -> Result<Turn, u64> {
        let mut old = self.next.load(Relaxed);
        loop {
            let due = old.max(now);
            let at = due.saturating_sub(gap.early);
            if at > last {
                return Err(at);
            }
            let new = due.saturating_add(gap.nanos);
            match self.next.compare_exchange_weak(old, new, Relaxed, Relaxed) {
                Ok(_) => {
                    let nanos = gap.nanos;
                    return Ok(Turn { at, nanos });
                }
                Err(newer) => old = newer,
            }
        }
    }

    /// Takes a turn back that was not used: who comes next comes so much earlier. Those who have theirs
    /// keep it, so that by any moment no more have gone than might have.
    pub(super) fn give_back(&self, turn: Turn) {
        let mut old = self.next.load(Relaxed);
        loop {
            let new = old.saturating_sub(turn.nanos);
            match self.next.compare_exchange_weak(old, new, Relaxed, Relaxed) {
                Ok(_) => return,
                Err(newer) => old = newer,
            }
        }
    }
}
