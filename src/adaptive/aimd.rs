//! Additive increase, multiplicative decrease.

use std::time::Duration;

use super::{
    limit::{Limit, Sample},
    numbers::earned,
    sampling::Sampling,
};
use crate::error::{InvalidSetting, not_zero};

/// One more where at least half of the limit is in use, a tenth less at a drop or a latency that is too long.
///
/// Additive increase and multiplicative decrease, as congestion control has it (D.-M. Chiu, R. Jain,
/// "Analysis of the Increase and Decrease Algorithms for Congestion Avoidance", 1989), with the settings of
/// Netflix's `AIMDLimit`. Every call is a sample; since only calls that began after the last change are,
/// the limit grows by one in a round trip, and falls once.
///
/// | | limit |
/// |---|---|
/// | anything dropped, or a latency above the bound | `⌊backoff_ratio · limit⌋` |
/// | `2 · in_flight ≥ limit` | `limit + 1` |
/// | else | as it is |
///
/// **Where it is weak.** It knows no latency short of its bound: it fills every queue below it until
/// something is dropped, and then swings about that point.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Aimd {
    backoff_ratio: f64,
    max_latency: Duration,
}

impl Default for Aimd {
    fn default() -> Self {
        Self {
            backoff_ratio: 0.9,
            max_latency: Duration::from_secs(5),
        }
    }
}

impl Aimd {
    /// By what the limit is multiplied at a drop. Default: 0.9.
    ///
    /// # Errors
    ///
    /// If it is not in 0.5..1.
    pub fn backoff_ratio(mut self, ratio: f64) -> Result<Self, InvalidSetting> {
        if !(0.5..1.0).contains(&ratio) {
            return Err(InvalidSetting::new("backoff_ratio", ratio, "in 0.5..1"));
        }
        self.backoff_ratio = ratio;
        Ok(self)
    }

    /// The latency above which a call counts as dropped. Default: 5 s.
    ///
    /// # Errors
    ///
    /// If it is zero.
    pub fn max_latency(mut self, latency: Duration) -> Result<Self, InvalidSetting> {
        self.max_latency = not_zero("max_latency", latency)?;
        Ok(self)
    }
}

impl Limit for Aimd {
    fn next(&mut self, limit: f64, sample: &Sample) -> f64 {
        if sample.dropped > 0 || sample.latency > Some(self.max_latency) {
            (limit * self.backoff_ratio).floor()
        } else if 2.0 * f64::from(sample.in_flight) >= limit {
            earned(limit + 1.0, limit, sample)
        } else {
            limit
        }
    }

    fn sampling(&self) -> Sampling {
        Sampling::EveryCall
    }
}
