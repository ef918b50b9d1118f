//! A quantile of the durations of the last *t* seconds.

use std::{collections::VecDeque, num::NonZeroU64};

use super::{Estimate, Histogram, Ratio, Sample, Tally};
use crate::sync::{AtomicU64, Mutex, Ordering::Relaxed, try_lock};

/// How many slices a window has.
const SLICES: u64 = 6;

/// A slice of time has begun.
#[derive(Debug)]
struct Begun {
    slice: u64,
    /// All that had been recorded before.
    before: Tally,
}

/// A quantile of the durations of the last six slices of time, each a sixth of the window.
///
/// It is computed when a slice is over, by who first records in the next, and stands until that one is
/// over: a duration comes in within a sixth of the window, and is forgotten when it is between six and
/// seven sixths old. Off by no more than a 32nd (3.1 %) of the true one, from 1 µs to an hour. 32 KiB, at
/// any traffic.
#[derive(Debug)]
pub(crate) struct RollingQuantile {
    /// The share of durations that are longer.
    tail: f64,
    minimum: u64,
    slice_nanos: u64,
    /// When the present slice is over.
    turns_at: AtomicU64,
    /// What was computed last; zero for nothing.
    value: AtomicU64,
    counts: Histogram,
    /// The present slice, last, and those before it that are in the window and in which anything was
    /// recorded.
    begun: Mutex<VecDeque<Begun>>,
}

impl RollingQuantile {
    /// The shortest window.
    pub(crate) const LEAST_NANOS: u64 = 100_000_000;

    /// Says nothing while fewer than `minimum` durations in the window are exact.
    pub(crate) fn new(quantile: Ratio, nanos: u64, minimum: u32) -> Self {
        let slice_nanos = nanos / SLICES;
        let mut begun = VecDeque::with_capacity(SLICES as usize + 1);
        begun.push_back(Begun {
            slice: 0,
            before: Tally::EMPTY,
        });
        Self {
            tail: quantile.tail(),
            minimum: minimum.into(),
            slice_nanos,
            turns_at: AtomicU64::new(slice_nanos),
            value: AtomicU64::new(0),
            counts: Histogram::new(),
            begun: Mutex::new(begun),
        }
    }

    /// The quantile in nanoseconds as computed last, if there was enough to tell by.
    #[inline]
    pub(crate) fn get(&self) -> Option<u64> {
        // Relaxed: the value is all there is to it.
        NonZeroU64::new(self.value.load(Relaxed)).map(NonZeroU64::get)
    }

    /// Records at `now`. Returns whether the quantile was computed anew.
    #[inline]
    pub(crate) fn record(&self, sample: Sample, now: u64) -> bool {
        // Relaxed: who still sees the old end of the slice finds out in `turn`, or counts into the
        // slice that was.
        let turned = now >= self.turns_at.load(Relaxed) && self.turn(now);
        self.counts.add(sample);
        turned
    }

    /// Records what took next to no time, in the slice that was the present one when the clock was last
    /// looked at.
    #[inline]
    pub(crate) fn record_at_once(&self) {
        self.counts.add(Sample::Exact(0));
    }

    /// Begins the slice of `now`.
    #[cold]
    #[inline(never)]
    fn turn(&self, now: u64) -> bool {
        // Nobody waits: whoever finds another at it leaves it to the other.
        let Some(mut begun) = try_lock(&self.begun) else {
            return false;
        };
        let slice = now / self.slice_nanos;
        if begun.back().is_some_and(|present| present.slice >= slice) {
            return false; // another was faster
        }
        while begun.front().is_some_and(|b| slice - b.slice > SLICES) {
            begun.pop_front();
        }
        let before = self.counts.read();
        let value = begun
            .front()
            .and_then(|oldest| self.estimate(&before.since(&oldest.before)));
        begun.push_back(Begun { slice, before });
        // Relaxed, and in any order: each is right by itself.
        self.value.store(value.unwrap_or(0), Relaxed);
        let end = (slice + 1).saturating_mul(self.slice_nanos);
        self.turns_at.store(end, Relaxed);
        true
    }

    /// The quantile of what a window holds.
    fn estimate(&self, held: &Tally) -> Option<u64> {
        if held.exact() < self.minimum {
            return None;
        }
        match held.quantile(self.tail) {
            Estimate::At(nanos) => Some(nanos),
            // It has not become shorter by that so many were cut; and where it was not known, it still is
            // not.
            Estimate::Beyond(longest) => self.get().map(|last| last.max(longest)),
        }
    }
}
