//! Vegas: keeps a queue of a few calls at the service.

use super::{
    jitter::Jitter,
    limit::{Limit, Sample},
    numbers::{earned, factor, log10, seconds, share},
    sampling::Sampling,
};
use crate::error::InvalidSetting;

/// Estimates from the latency how many calls queue at the service, and keeps them few.
///
/// TCP Vegas (L. Brakmo, S. O'Malley, L. Peterson, SIGCOMM 1994) as Netflix's `VegasLimit` has it, with its
/// settings. Every call is a sample. With `l = max(1, ⌊log₁₀ limit⌋)`, `base` the shortest latency seen since the
/// last probe, and `queue = ⌈limit · (1 − base / latency)⌉`:
///
/// | | limit |
/// |---|---|
/// | a probe is due: `base` becomes this latency | as it is |
/// | the latency is shorter than `base`, which it becomes | as it is |
/// | anything dropped | `limit − l` |
/// | `2 · in_flight < limit` | as it is |
/// | `queue ≤ l` | `limit + 6 l` |
/// | `queue < 3 l` | `limit + l` |
/// | `queue > 6 l` | `limit − l` |
///
/// A probe is due every `jitter · 30 · limit` samples, with `jitter` drawn anew from 0.5..1 each time: so a
/// service that has become slower for good is found to be so.
///
/// **Where it is weak.** A probe in the midst of an overload takes the queue for the service itself, and the
/// limit grows by it. The limit is never still: under full load it swings, and refuses some 5 % of what
/// the service could have taken.
#[derive(Clone, Debug)]
#[must_use]
pub struct Vegas {
    smoothing: f64,
    probe_multiplier: f64,
    jitter: Jitter,
    /// That until the next probe, and how many samples there have been since the last.
    factor: Option<f64>,
    samples: u64,
    /// In seconds.
    base: Option<f64>,
}

impl Default for Vegas {
    fn default() -> Self {
        Self {
            smoothing: 1.0,
            probe_multiplier: 30.0,
            jitter: Jitter::default(),
            factor: None,
            samples: 0,
            base: None,
        }
    }
}

impl Vegas {
    /// How much of each change is made. Default: 1, all of it.
    ///
    /// # Errors
    ///
    /// If it is not above 0 and at most 1.
    pub fn smoothing(mut self, smoothing: f64) -> Result<Self, InvalidSetting> {
        self.smoothing = share("smoothing", smoothing)?;
        Ok(self)
    }

    /// After how many times the limit of samples the base is probed anew, at most. Default: 30.
    ///
    /// # Errors
    ///
    /// If it is not in 1..=1000.
    pub fn probe_multiplier(mut self, multiplier: f64) -> Result<Self, InvalidSetting> {
        self.probe_multiplier = factor("probe_multiplier", multiplier)?;
        Ok(self)
    }

    /// Seeds the jitter, for probes that come at the same samples every time. Default: seeded by the
    /// operating system.
    pub const fn seed(mut self, seed: u64) -> Self {
        self.jitter = Jitter::seeded(seed);
        self
    }

    /// Whether the base is to be forgotten.
    fn probes(&mut self, limit: f64) -> bool {
        self.samples += 1;
        let jitter = &mut self.jitter;
        let mut draw = || 0.5 + 0.5 * jitter.uniform();
        let factor = *self.factor.get_or_insert_with(&mut draw);
        let is_due = factor * self.probe_multiplier * limit <= self.samples as f64;
        if is_due {
            self.factor = Some(draw());
            self.samples = 0;
        }
        is_due
    }
}

impl Limit for Vegas {
    fn next(&mut self, limit: f64, sample: &Sample) -> f64 {
        let step = log10(limit);
        let next = match (sample.latency.map(seconds), self.base) {
            (Some(latency), _) if self.probes(limit) => {
                self.base = Some(latency);
                return limit;
            }
            (Some(latency), None) => {
                self.base = Some(latency);
                return limit;
            }
            (Some(latency), Some(base)) if latency < base => {
                self.base = Some(latency);
                return limit;
            }
            _ if sample.dropped > 0 => limit - step,
            _ if 2.0 * f64::from(sample.in_flight) < limit => return limit,
            (Some(latency), Some(base)) => {
                let queue = (limit * (1.0 - base / latency)).ceil();
                if queue <= step {
                    limit + 6.0 * step
                } else if queue < 3.0 * step {
                    limit + step
                } else if queue > 6.0 * step {
                    limit - step
                } else {
                    return limit;
                }
            }
            _ => return limit,
        };
        earned(limit + self.smoothing * (next - limit), limit, sample)
    }

    fn sampling(&self) -> Sampling {
        Sampling::EveryCall
    }
}
