//! Counts by slices of time.

use crate::sync::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

/// How many slices a window has. What is counted is forgotten when it is between nine and ten slices old.
pub(super) const SLICES: u64 = 10;

/// The shortest window: its slices are a millisecond.
pub(super) const LEAST_NANOS: u64 = SLICES * 1_000_000;

/// A ring of ten slices of time, each with `N` counts of its own: a fixed size at any traffic.
///
/// A slice is emptied by who first writes to it in its new turn. Every count carries the number of
/// the turn it is for in the same word, so emptying it and adding to it are one step, and nobody can
/// add to a count that another is about to wipe.
///
/// From one era to the next the turns skip as many as the window has slices, which puts all that was
/// recorded in earlier eras out of sight at once.
#[derive(Debug)]
pub(super) struct Slices<const N: usize> {
    nanos: u64,
    ring: [[Count; N]; SLICES as usize],
}

/// Turns go round a circle of 2^36: two years of the shortest slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn(u64);

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

    /// Whether `other` is out of sight for good, and not of another thread whose clock is ahead.
    const fn has_left(self, other: Self) -> bool {
        let ahead = self.ahead_of(other);
        ahead >= SLICES && ahead < Self::MASK - Self::LAG
    }
}

/// A turn (the upper 36 bits) and a count of what happened in it (the lower 28).
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    const SHIFT: u32 = u64::BITS - Turn::BITS;
    const FULL: u64 = (1 << Self::SHIFT) - 1;

    const fn split(word: u64) -> (Turn, u64) {
        (Turn(word >> Self::SHIFT), word & Self::FULL)
    }

    pub(super) fn add_one(&self, turn: Turn) {
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

impl<const N: usize> Slices<N> {
    /// Of a window of so many nanoseconds.
    pub(super) fn new(nanos: u64) -> Self {
        Self {
            nanos: nanos / SLICES,
            ring: std::array::from_fn(|_| std::array::from_fn(|_| Count::default())),
        }
    }

    /// The number of the turn, not yet on its circle, whose length is no multiple of the slices.
    fn number(&self, era: u32, now: u64) -> u64 {
        (now / self.nanos).wrapping_add(u64::from(era) * SLICES)
    }

    /// The counts to add to at `now`, and the turn to add for and to look from.
    #[inline]
    pub(super) fn at(&self, era: u32, now: u64) -> (&[Count; N], Turn) {
        let number = self.number(era, now);
        (&self.ring[(number % SLICES) as usize], Turn::new(number))
    }

    /// What is in sight at `now`. Of each slice the first count is read last: who adds to it first is
    /// seen to have.
    #[inline]
    pub(super) fn sum(&self, now: Turn) -> [u64; N] {
        let mut sums = [0; N];
        for counts in &self.ring {
            for (sum, count) in sums.iter_mut().zip(counts).rev() {
                *sum += count.seen_at(now);
            }
        }
        sums
    }
}

/// The last turn in which something was recorded that is out of the ordinary. While it is out of sight,
/// as it always is for a healthy service, there is nothing to add up.
#[derive(Debug, Default)]
pub(super) struct Mark(Count);

impl Mark {
    #[inline]
    pub(super) fn set(&self, turn: Turn) {
        let (of, count) = Count::split(self.0.0.load(Relaxed));
        if of != turn || count == 0 {
            self.0.add_one(turn);
        }
    }

    #[inline]
    pub(super) fn is_seen_at(&self, now: Turn) -> bool {
        self.0.seen_at(now) > 0
    }

    /// Whether there is none, in sight or not: what can be known without the time.
    #[inline]
    pub(super) fn is_off(&self) -> bool {
        // Relaxed: who misses a mark that is just being made has come before it.
        self.0.0.load(Relaxed) == 0
    }

    /// Takes a mark off that is out of sight for good.
    pub(super) fn clear(&self, now: Turn) {
        let word = self.0.0.load(Relaxed);
        if now.has_left(Count::split(word).0) {
            // Where it fails there is a new one, or it is gone already; or for no reason, and then the
            // next call does it.
            let _ = self.0.0.compare_exchange_weak(word, 0, Relaxed, Relaxed);
        }
    }
}
