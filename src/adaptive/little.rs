//! A latency to aim at, by Little's law.

use std::time::Duration;

use super::{
    limit::{Limit, Sample},
    numbers::share,
};
use crate::error::{InvalidSetting, not_zero};

/// Lets so many calls be in flight that they take as long as they are meant to.
///
/// By Little's law (J. D. C. Little, "A Proof for the Queuing Formula: L = λW", 1961) the number of calls in
/// flight is their throughput times their latency. Where the limit is reached the throughput is what the
/// service can do at that limit, so the number that would give the latency that is aimed at is known:
///
/// | | limit |
/// |---|---|
/// | anything dropped | `0.9 · limit` |
/// | the limit was reached | `limit + 0.2 · (throughput · target − limit)` |
/// | else | as it is |
///
/// A service that takes less time than the target at any limit so has its limit raised until a queue makes up for
/// the rest: aim at what callers can bear.
///
/// Needs windows: a single call tells no throughput.
///
/// **Where it is weak.** The target is yours to know. A service that has become slower than it for good, however
/// few call it, is given the least limit.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct LittlesLaw {
    target: Duration,
    smoothing: f64,
}

impl LittlesLaw {
    /// Aims at this latency, in the mean of all calls.
    ///
    /// # Errors
    ///
    /// If it is zero.
    pub fn target(latency: Duration) -> Result<Self, InvalidSetting> {
        Ok(Self {
            target: not_zero("target", latency)?,
            smoothing: 0.2,
        })
    }

    /// How much of each change is made. Default: 0.2.
    ///
    /// # Errors
    ///
    /// If it is not above 0 and at most 1.
    pub fn smoothing(mut self, smoothing: f64) -> Result<Self, InvalidSetting> {
        self.smoothing = share("smoothing", smoothing)?;
        Ok(self)
    }
}

impl Limit for LittlesLaw {
    fn next(&mut self, limit: f64, sample: &Sample) -> f64 {
        if sample.dropped > 0 {
            return limit * 0.9;
        }
        let is_known = sample.limited && sample.completed > 0 && !sample.elapsed.is_zero();
        if !is_known {
            return limit;
        }
        let throughput = f64::from(sample.completed) / sample.elapsed.as_secs_f64();
        let meant = throughput * self.target.as_secs_f64();
        limit + self.smoothing * (meant - limit)
    }
}
