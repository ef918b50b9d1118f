//! The outcomes of the last *t* seconds.

use super::{Counts, Outcome};
use crate::sync::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

/// How many slices a window has. An outcome is forgotten when it is between nine and ten slices old.
const SLICES: u64 = 10;

/// A ring of ten slices of time, each with its own counts: a fixed size at any traffic.
///
/// A slice is emptied by who first writes to it in its new turn. Every count carries the number of
/// the turn it is for in the same word, so emptying it and adding to it are one step, and nobody can
/// add to a count that another is about to wipe.
///
/// From one era to the next the turns skip as many as the window has slices, which puts all that was
/// recorded in earlier eras out of sight at once.
#[derive(Debug)]
pub(crate) struct TimeWindow {
    slice_nanos: u64,
    slices: [Slice; SLICES as usize],
    /// The last turn in which anything bad was recorded. While it is out of sight, as it always is
    /// for a healthy service, there is nothing to add up.
    bad: Count,
}

#[derive(Debug, Default)]
struct Slice {
    calls: Count,
    failed: Count,
    slow: Count,
}

/// Turns go round a circle of 2^36: two years of the shortest slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Turn(u64);

impl Turn {
    const BITS: u32 = 36;
    const MASK: u64 = (1 << Self::BITS) - 1;
    const LAG: u64 = 1 << 20;

    const fn new(turn: u64) -> Self {
        Self(turn & Self::MASK)
    }

    /// How many turns `self` is ahead of `other`; none ahead reads as almost a circle.
    const fn ahead_of(self, other: Self) -> u64 {
        self.0.wrapping_sub(other.0) & Self::MASK
    }

    /// Whether a straggler of turn `other` has been left behind by `self`. No thread lags by as much as
    /// `LAG`; what reads as further ahead is old. (By half a circle it would be taken for new for a
    /// year.)
    const fn is_after(self, other: Self) -> bool {
        let ahead = self.ahead_of(other);
        ahead != 0 && ahead < Self::LAG
    }

    const fn sees(self, earlier: Self) -> bool {
        self.ahead_of(earlier) < SLICES
    }
}

/// A turn (the upper 36 bits) and a count of what happened in it (the lower 28).
#[derive(Debug, Default)]
struct Count(AtomicU64);

impl Count {
    const SHIFT: u32 = u64::BITS - Turn::BITS;
    const FULL: u64 = (1 << Self::SHIFT) - 1;

    const fn split(word: u64) -> (Turn, u64) {
        (Turn(word >> Self::SHIFT), word & Self::FULL)
    }

    fn add_one(&self, turn: Turn) {
        let mut old = self.0.load(Relaxed);
        loop {
            let (of, count) = Self::split(old);
            let new = if of == turn {
                if count == Self::FULL {
                    return;
                }
                old + 1
            } else if count != 0 && of.is_after(turn) {
                return; // we are a straggler, and the slice has moved on
            } else {
                turn.0 << Self::SHIFT | 1
            };
            match self.0.compare_exchange_weak(old, new, Release, Relaxed) {
                Ok(_) => return,
                Err(newer) => old = newer,
            }
        }
    }

    /// The count, if it is of one of the turns in sight at `now`.
    fn seen_at(&self, now: Turn) -> u64 {
        let (of, count) = Self::split(self.0.load(Acquire));
        if now.sees(of) { count } else { 0 }
    }
}

impl TimeWindow {
    /// The shortest window: its slices are a millisecond.
    pub(crate) const LEAST_NANOS: u64 = SLICES * 1_000_000;

    pub(crate) fn new(nanos: u64) -> Self {
        Self {
            slice_nanos: nanos / SLICES,
            slices: std::array::from_fn(|_| Slice::default()),
            bad: Count::default(),
        }
    }

    /// The number of the turn, not yet on its circle, whose length is no multiple of the slices.
    fn turn(&self, era: u32, now: u64) -> u64 {
        (now / self.slice_nanos).wrapping_add(u64::from(era) * SLICES)
    }

    /// Records an outcome, at `now`, of a call of `era`. Returns the counts after it, or `None` where
    /// nothing in sight was bad.
    pub(crate) fn record(&self, era: u32, outcome: Outcome, now: u64) -> Option<Counts> {
        let turn = self.turn(era, now);
        let slice = &self.slices[(turn % SLICES) as usize];
        let turn = Turn::new(turn);
        slice.calls.add_one(turn);
        if !outcome.is_good() {
            self.add_bad(slice, turn, outcome);
        }
        (self.bad.seen_at(turn) > 0).then(|| self.sum(turn))
    }

    /// Out of line, to keep the way of good calls short.
    #[inline(never)]
    fn add_bad(&self, slice: &Slice, turn: Turn, outcome: Outcome) {
        if outcome.failed {
            slice.failed.add_one(turn);
        }
        if outcome.slow {
            slice.slow.add_one(turn);
        }
        self.bad.add_one(turn);
    }

    /// What the window of `era` holds at `now`.
    pub(crate) fn counts(&self, era: u32, now: u64) -> Counts {
        self.sum(Turn::new(self.turn(era, now)))
    }

    fn sum(&self, now: Turn) -> Counts {
        let mut counts = Counts::default();
        for slice in &self.slices {
            // The calls last, for they are written first: no failure is seen without its call.
            counts.failed += slice.failed.seen_at(now);
            counts.slow += slice.slow.seen_at(now);
            counts.calls += slice.calls.seen_at(now);
        }
        counts
    }
}
