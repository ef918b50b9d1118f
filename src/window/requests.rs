//! The requests of the last *t* seconds.

use super::slices::{Count, LEAST_NANOS, Mark, SLICES, Slices, Turn};
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

    /// The window at `now`. To find the slice is a division, which is better made once.
    #[inline]
    pub(crate) fn at(&self, now: u64) -> RequestsAt<'_> {
        // Relaxed: who counts for an era that is just over counts for what is no longer seen.
        let era = self.era.load(Relaxed);
        let (slice, turn) = self.slices.at(era, now);
        RequestsAt {
            window: self,
            slice,
            turn,
        }
    }

    /// Forgets all.
    pub(crate) fn forget(&self) {
        self.era.fetch_add(1, Relaxed);
    }
}

/// A [`RequestWindow`] at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestsAt<'a> {
    window: &'a RequestWindow,
    slice: &'a [Count; 2],
    turn: Turn,
}

impl RequestsAt<'_> {
    #[inline]
    pub(crate) fn accept(self) {
        self.slice[0].add_one(self.turn);
    }

    #[inline]
    pub(crate) fn refuse(self) {
        self.slice[1].add_one(self.turn);
        self.window.refused.set(self.turn);
    }

    /// Has the window not be [clear](RequestWindow::is_clear) for as long as it is.
    pub(crate) fn mark(self) {
        self.window.refused.set(self.turn);
    }

    /// What the window holds.
    #[inline]
    pub(crate) fn requests(self) -> Requests {
        let [accepted, refused] = self.window.slices.sum(self.turn);
        Requests { accepted, refused }
    }

    /// What the window holds; `None` where nothing of it was refused, after which it is
    /// [clear](RequestWindow::is_clear).
    #[inline]
    pub(crate) fn unless_clear(self) -> Option<Requests> {
        let refused = &self.window.refused;
        if refused.is_seen_at(self.turn) {
            return Some(self.requests());
        }
        refused.clear(self.turn);
        None
    }
}
