//! Rolling counts of outcomes, by number of calls, by time, and by weights that fade with time; of requests
//! that are accepted or refused, by time; and a rolling quantile of durations, with the histogram behind it.
//!
//! All are pure (they take `now`), lock-free, of fixed size, and cost the same per call whatever they
//! hold. In a single thread the first two, and that of requests, are exact. Among threads every outcome is counted once; what
//! one thread reads may lack an outcome that another is just recording.

mod count;
mod ewma;
mod histogram;
#[cfg(all(test, steadfast_loom))]
mod loom_tests;
mod quantile;
mod ratio;
mod requests;
mod slices;
#[cfg(all(test, not(steadfast_loom)))]
pub(crate) mod tests;
mod time;

pub(crate) use count::CountWindow;
pub(crate) use ewma::EwmaWindow;
pub(crate) use histogram::{Estimate, Histogram, Sample, Tally};
pub(crate) use quantile::RollingQuantile;
pub(crate) use ratio::Ratio;
pub(crate) use requests::{RequestWindow, Requests};
pub(crate) use time::TimeWindow;

/// What a window remembers of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) failed: bool,
    pub(crate) slow: bool,
    /// Longer than the bound of a rule for a quantile of the latency, whose window alone is told.
    pub(crate) tail: bool,
}

#[cfg(test)]
impl Outcome {
    pub(crate) const GOOD: Self = Self::untimed(false);
    pub(crate) const FAILED: Self = Self::untimed(true);
    pub(crate) const SLOW: Self = Self {
        slow: true,
        ..Self::GOOD
    };
}

impl Outcome {
    /// Of a call that was given up: as bad as can be.
    pub(crate) const HUNG: Self = Self {
        failed: true,
        slow: true,
        tail: true,
    };

    /// Of a call of which no rule asks how long it took.
    pub(crate) const fn untimed(failed: bool) -> Self {
        Self {
            failed,
            slow: false,
            tail: false,
        }
    }

    pub(crate) const fn is_good(self) -> bool {
        !self.failed && !self.slow
    }
}

/// What a window holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Calls that were judged.
    pub calls: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// Those of them that were slow; a call can be both.
    pub slow: u64,
}

/// What a window holds in which a call weighs less the older it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WeightedCounts {
    /// Both in units of which [`CALL`](Self::CALL) are a call that has just been made.
    pub(crate) calls: u32,
    pub(crate) failed: u32,
}

impl WeightedCounts {
    pub(crate) const CALL: u32 = 1 << 10;

    /// Calls that were judged, each as much as it weighs.
    #[must_use]
    pub fn calls(&self) -> f64 {
        f64::from(self.calls) / f64::from(Self::CALL)
    }

    /// Those of them that failed.
    #[must_use]
    pub fn failed(&self) -> f64 {
        f64::from(self.failed) / f64::from(Self::CALL)
    }
}
