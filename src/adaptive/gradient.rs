//! Netflix's first gradient: the shortest latency over the present one.

use std::time::Duration;

use super::{
    jitter::Jitter,
    limit::{Limit, Sample},
    numbers::{earned, factor, seconds, share},
    sampling::Sampling,
};
use crate::error::InvalidSetting;

/// Multiplies the limit by how far the latency is above the shortest, and adds room for a queue.
///
/// Netflix's `GradientLimit`, with its settings. Every call is a sample. With `base` the shortest latency seen
/// since the last probe, `queue = max(4, ⌊√limit⌋)` and `gradient = 2 · base / latency` within 0.5..=1:
///
/// | | limit |
/// |---|---|
/// | a probe is due: `base` is forgotten | `queue` |
/// | anything dropped | `0.9 · limit` |
/// | `2 · in_flight < limit` | as it is |
/// | else | `gradient · limit + queue` |
///
/// of which a decrease is made by a fifth, and an increase at once; never below `queue`. A probe is due every
/// 1,000 to 2,000 samples.
///
/// **Where it is weak.** A probe cuts the limit to its queue, whatever the load, and refuses calls for it. Up
/// to twice the shortest latency nothing restrains the growth. Netflix replaced it by
/// [`Gradient2`](super::Gradient2).
#[derive(Clone, Debug)]
#[must_use]
pub struct Gradient {
    tolerance: f64,
    smoothing: f64,
    probe_interval: u32,
    jitter: Jitter,
    /// Samples until the next probe.
    until_probe: Option<u32>,
    base: Option<Duration>,
}

impl Default for Gradient {
    fn default() -> Self {
        Self {
            tolerance: 2.0,
            smoothing: 0.2,
            probe_interval: 1000,
            jitter: Jitter::default(),
            until_probe: None,
            base: None,
        }
    }
}

impl Gradient {
    /// Up to how many times the shortest latency the limit is not decreased. Default: 2.
    ///
    /// # Errors
    ///
    /// If it is not in 1..=1000.
    pub fn tolerance(mut self, tolerance: f64) -> Result<Self, InvalidSetting> {
        self.tolerance = factor("tolerance", tolerance)?;
        Ok(self)
    }

    /// How much of each decrease is made. Default: 0.2.
    ///
    /// # Errors
    ///
    /// If it is not above 0 and at most 1.
    pub fn smoothing(mut self, smoothing: f64) -> Result<Self, InvalidSetting> {
        self.smoothing = share("smoothing", smoothing)?;
        Ok(self)
    }

    /// After how many samples the base is forgotten, at least; twice as many at most. Default: 1,000.
    ///
    /// # Errors
    ///
    /// If it is zero.
    pub fn probe_interval(mut self, samples: u32) -> Result<Self, InvalidSetting> {
        if samples == 0 {
            return Err(InvalidSetting::new("probe_interval", samples, "at least 1"));
        }
        self.probe_interval = samples;
        Ok(self)
    }

    /// Seeds the jitter, for probes that come at the same samples every time. Default: seeded by the
    /// operating system.
    pub const fn seed(mut self, seed: u64) -> Self {
        self.jitter = Jitter::seeded(seed);
        self
    }

    /// Whether the base is to be forgotten.
    fn probes(&mut self) -> bool {
        let (interval, jitter) = (self.probe_interval, &mut self.jitter);
        let mut draw = || interval.saturating_add((f64::from(interval) * jitter.uniform()) as u32);
        let left = self.until_probe.get_or_insert_with(&mut draw);
        match left.checked_sub(1) {
            Some(fewer) => *left = fewer,
            None => {
                *left = draw();
                return true;
            }
        }
        false
    }
}

impl Limit for Gradient {
    fn next(&mut self, limit: f64, sample: &Sample) -> f64 {
        let queue = limit.sqrt().floor().max(4.0);
        let mut gradient = 1.0;
        if let Some(latency) = sample.latency {
            if self.probes() {
                self.base = None;
                return queue;
            }
            let base = self.base.map_or(latency, |base| base.min(latency));
            self.base = Some(base);
            gradient = (self.tolerance * seconds(base) / seconds(latency)).clamp(0.5, 1.0);
        }
        let next = if sample.dropped > 0 {
            limit * 0.9
        } else if 2.0 * f64::from(sample.in_flight) < limit || sample.latency.is_none() {
            return limit;
        } else {
            limit * gradient + queue
        };
        let next = if next < limit {
            limit + self.smoothing * (next - limit)
        } else {
            next
        };
        earned(next, limit, sample).max(queue)
    }

    fn sampling(&self) -> Sampling {
        Sampling::EveryCall
    }
}
