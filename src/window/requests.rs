//! The requests of the last *t* seconds.

use super::slices::{LEAST_NANOS, Mark, SLICES, Slices};
use crate::sync::{AtomicU32, Ordering::Relaxed};

/// Requests that were accepted, and those that were not, in [slices](Slices) of time.
#[derive(Debug)]
pub(crate) struct RequestWindow {
    /// Accepted ones, and others.
    slices: Slices<2>,
    /// A request that was not accepted.
    refused: Mark,
    era: AtomicU32,
}

/// What a [`RequestWindow`] holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Requests {
    pub(crate) accepted: u64,
    pub(crate) refused: u64,
}

impl Requests {
    pub(crate) const fn total(self) -> u64 {
        self.accepted + self.refused
    }
}

impl RequestWindow {
    /// The shortest window.
    pub(crate) const LEAST_NANOS: u64 = LEAST_NANOS;
    /// The longest: a slice holds 2^28 requests of a kind, which 700,000 a second fill in six minutes.
    pub(crate) const MOST_NANOS: u64 = 3_600_000_000_000;
    pub(crate) const SLICES: u64 = SLICES;

    pub(crate) fn new(nanos: u64) -> Self {
        Self {
            slices: Slices::new(nanos),
            refused: Mark::default(),
            era: AtomicU32::new(0),
        }
    }

    /// Whether it is known without the time that nothing was refused of late.
    #[inline]
    pub(crate) fn is_clear(&self) -> bool {
        self.refused.is_off()
    }

    fn era(&self) -> u32 {
        // Relaxed: who counts for an era that is just over counts for what is no longer seen.
        self.era.load(Relaxed)
    }

    #[inline]
    pub(crate) fn accept(&self, now: u64) {
        let ([accepted, _], turn) = self.slices.at(self.era(), now);
        accepted.add_one(turn);
    }

    pub(crate) fn refuse(&self, now: u64) {
        let ([_, refused], turn) = self.slices.at(self.era(), now);
        refused.add_one(turn);
        self.refused.set(turn);
    }

    /// What it holds at `now`; `None` where nothing of it was refused, after which it is [clear](Self::is_clear).
    #[inline]
    pub(crate) fn unless_clear(&self, now: u64) -> Option<Requests> {
        let turn = self.slices.turn(self.era(), now);
        if self.refused.is_seen_at(turn) {
            let [accepted, refused] = self.slices.sum(turn);
            return Some(Requests { accepted, refused });
        }
        self.refused.clear(turn);
        None
    }

    /// What it holds at `now`.
    pub(crate) fn requests(&self, now: u64) -> Requests {
        let [accepted, refused] = self.slices.sum(self.slices.turn(self.era(), now));
        Requests { accepted, refused }
    }

    /// Forgets all.
    pub(crate) fn forget(&self) {
        self.era.fetch_add(1, Relaxed);
    }
}
