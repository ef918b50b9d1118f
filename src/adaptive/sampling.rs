//! How calls become samples.

use std::time::Duration;

use crate::{error::InvalidSetting, time::nanos, window::Ratio};

/// How calls become the [samples](super::Sample) of an algorithm. Default: [`Windows::default`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Sampling {
    /// Each call that ends is a sample, if it began since the limit last changed.
    ///
    /// Costs each call a lock, for which nobody waits: of two calls that end at the same moment one may be
    /// left out, but never a drop, which the next sample then tells of.
    EveryCall,
    /// All calls that end in a window of time are one.
    Windows(Windows),
}

impl Default for Sampling {
    fn default() -> Self {
        Windows::default().into()
    }
}

impl From<Windows> for Sampling {
    fn from(windows: Windows) -> Self {
        Self::Windows(windows)
    }
}

/// Windows of time, of which each becomes a sample.
///
/// A window is over with the first call that ends when it has lasted its least length and has seen enough
/// calls, or when its greatest has passed since the first of them. Only calls that began after the limit last
/// changed tell of latency and drops, so a window that follows a change lasts at least one round trip,
/// however long that is.
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use]
pub struct Windows {
    least: Duration,
    greatest: Duration,
    least_calls: u32,
    quantile: f64,
}

impl Default for Windows {
    /// 100 ms to 1 s, 25 calls, the median.
    fn default() -> Self {
        Self {
            least: Duration::from_millis(100),
            greatest: Duration::from_secs(1),
            least_calls: 25,
            quantile: 0.5,
        }
    }
}

impl Windows {
    /// How long a window lasts: at least `least`, of 1 ms or more; and, with however few calls, no longer
    /// than `greatest` after the first call that tells anything, unless no call ends then. Default: 100 ms
    /// and 1 s.
    ///
    /// A shorter one reacts sooner; a longer one holds more calls, and so less noise.
    pub const fn length(mut self, least: Duration, greatest: Duration) -> Self {
        self.least = least;
        self.greatest = greatest;
        self
    }

    /// How many calls a window that is not yet at its greatest length must have seen: such as tell of a
    /// latency, or were dropped. At least 1. Default: 25.
    ///
    /// Of 25 calls whose latencies scatter by a third (in standard deviations) the median scatters by a
    /// twelfth.
    pub const fn least_calls(mut self, calls: u32) -> Self {
        self.least_calls = calls;
        self
    }

    /// Which quantile of the latency a sample tells, in 0.000001..=1; 0.9 for the p90. Default: 0.5.
    pub const fn quantile(mut self, quantile: f64) -> Self {
        self.quantile = quantile;
        self
    }
}

/// How calls become samples, as checked.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    EveryCall,
    Windows {
        /// In nanoseconds, as the next.
        least: u64,
        greatest: u64,
        least_calls: u64,
        /// The share of calls beyond the quantile.
        tail: f64,
    },
}

impl Sampling {
    /// # Errors
    ///
    /// If a setting is outside its range.
    pub(super) fn check(self) -> Result<Pace, InvalidSetting> {
        let windows = match self {
            Self::EveryCall => return Ok(Pace::EveryCall),
            Self::Windows(windows) => windows,
        };
        let Windows {
            least,
            greatest,
            least_calls,
            quantile,
        } = windows;
        if least < Duration::from_millis(1) || least > greatest {
            let allowed = format!("in 1ms..={greatest:?}");
            return Err(InvalidSetting::new("length", least, allowed));
        }
        if least_calls == 0 {
            return Err(InvalidSetting::new(
                "least_calls",
                least_calls,
                "at least 1",
            ));
        }
        Ok(Pace::Windows {
            least: nanos(least),
            greatest: nanos(greatest),
            least_calls: least_calls.into(),
            tail: Ratio::new("quantile", quantile)?.tail(),
        })
    }
}
