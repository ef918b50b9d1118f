//! Rolling counts of outcomes, by number of calls and by time, and a rolling quantile of durations.
//!
//! All are pure (they take `now`), lock-free, of fixed size, and cost the same per call whatever
//! they hold. In a single thread they are exact. Among threads every outcome is counted once; what
//! one thread reads may lack an outcome that another is just recording.

mod count;
#[cfg(all(test, steadfast_loom))]
mod loom_tests;
mod quantile;
mod ratio;
#[cfg(all(test, not(steadfast_loom)))]
mod tests;
mod time;

pub(crate) use count::CountWindow;
pub(crate) use quantile::{RollingQuantile, Sample};
pub(crate) use ratio::Ratio;
pub(crate) use time::TimeWindow;

/// What a window remembers of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) failed: bool,
    pub(crate) slow: bool,
}

impl Outcome {
    #[cfg(test)]
    pub(crate) const GOOD: Self = Self {
        failed: false,
        slow: false,
    };
    pub(crate) const FAILED: Self = Self {
        failed: true,
        slow: false,
    };
    #[cfg(test)]
    pub(crate) const SLOW: Self = Self {
        failed: false,
        slow: true,
    };

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
