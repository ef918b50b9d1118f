//! The outcomes of the last *t* seconds.

use super::{
    Counts, Outcome,
    slices::{Count, LEAST_NANOS, Mark, Slices, Turn},
};

/// Calls, and those of them that failed or were slow, in [slices](Slices) of time.
#[derive(Debug)]
pub(crate) struct TimeWindow {
    /// Calls, failed ones, slow ones.
    slices: Slices<3>,
    /// Anything bad.
    bad: Mark,
}

impl TimeWindow {
    /// The shortest window.
    pub(crate) const LEAST_NANOS: u64 = LEAST_NANOS;

    pub(crate) fn new(nanos: u64) -> Self {
        Self {
            slices: Slices::new(nanos),
            bad: Mark::default(),
        }
    }

    /// Records an outcome, at `now`, of a call of `era`. Returns the counts after it, or `None` where
    /// nothing in sight was bad.
    pub(crate) fn record(&self, era: u32, outcome: Outcome, now: u64) -> Option<Counts> {
        let (slice, turn) = self.slices.at(era, now);
        slice[0].add_one(turn);
        if !outcome.is_good() {
            self.add_bad(slice, turn, outcome);
        }
        self.bad.is_seen_at(turn).then(|| self.sum(turn))
    }

    /// Out of line, to keep the way of good calls short.
    #[inline(never)]
    fn add_bad(&self, [_, failed, slow]: &[Count; 3], turn: Turn, outcome: Outcome) {
        if outcome.failed {
            failed.add_one(turn);
        }
        if outcome.slow {
            slow.add_one(turn);
        }
        self.bad.set(turn);
    }

    /// What the window of `era` holds at `now`.
    pub(crate) fn counts(&self, era: u32, now: u64) -> Counts {
        self.sum(self.slices.at(era, now).1)
    }

    fn sum(&self, now: Turn) -> Counts {
        // The calls are read last, for they are written first: no failure is seen without its call.
        let [calls, failed, slow] = self.slices.sum(now);
        Counts {
            calls,
            failed,
            slow,
        }
    }
}
