//! Netflix's second gradient: a long average of the latency over the present one.

use std::time::Duration;

use super::{
    limit::{Limit, Sample},
    numbers::{earned, factor, seconds, share},
    sampling::{Sampling, Windows},
};
use crate::error::InvalidSetting;

/// Multiplies the limit by how far the latency is above its own long average, and adds room for a queue.
///
/// Netflix's `Gradient2Limit`, with its settings, behind its `WindowedLimit`: windows of 1 s with at least 10
/// calls. With `long` the exponential average of 600 samples, this one included:
///
/// | | limit |
/// |---|---|
/// | `2 · in_flight < limit` | as it is |
/// | else | `0.8 · limit + 0.2 · (gradient · limit + 4)`, with `gradient = 1.5 · long / latency` within 0.5..=1 |
///
/// Where `long` is more than twice the latency it is shortened by 5 % for the next sample, so that the time after
/// an overload is not measured by it. Netflix bounds the limit by 20 and 200; here its bounds are the
/// layer's.
///
/// **Where it is weak.** It does not heed drops. Under an overload that lasts, `long` follows the latency, the
/// gradient goes to 1, and the limit drifts upwards to its greatest; so it does where every call ends at the
/// same timeout of its caller.
#[derive(Clone, Debug)]
#[must_use]
pub struct Gradient2 {
    tolerance: f64,
    smoothing: f64,
    queue: f64,
    long_window: u32,
    long: Average,
}

impl Default for Gradient2 {
    fn default() -> Self {
        Self {
            tolerance: 1.5,
            smoothing: 0.2,
            queue: 4.0,
            long_window: 600,
            long: Average::default(),
        }
    }
}

impl Gradient2 {
    /// Up to how many times the long average of the latency the limit is not decreased. Default: 1.5.
    ///
    /// # Errors
    ///
    /// If it is not in 1..=1000.
    pub fn tolerance(mut self, tolerance: f64) -> Result<Self, InvalidSetting> {
        self.tolerance = factor("tolerance", tolerance)?;
        Ok(self)
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

    /// How many calls may queue at the service. Default: 4. With 0 the limit never grows.
    pub fn queue(mut self, calls: u32) -> Self {
        self.queue = calls.into();
        self
    }

    /// Over how many samples the long average is taken. Default: 600.
    ///
    /// # Errors
    ///
    /// If it is zero.
    pub fn long_window(mut self, samples: u32) -> Result<Self, InvalidSetting> {
        if samples == 0 {
            return Err(InvalidSetting::new("long_window", samples, "at least 1"));
        }
        self.long_window = samples;
        Ok(self)
    }
}

impl Limit for Gradient2 {
    fn next(&mut self, limit: f64, sample: &Sample) -> f64 {
        let Some(latency) = sample.latency.map(seconds) else {
            return limit;
        };
        let long = self.long.add(latency, self.long_window);
        if long / latency > 2.0 {
            self.long.value *= 0.95;
        }
        if 2.0 * f64::from(sample.in_flight) < limit {
            return limit;
        }
        let gradient = (self.tolerance * long / latency).clamp(0.5, 1.0);
        let next = limit * gradient + self.queue;
        earned(limit + self.smoothing * (next - limit), limit, sample)
    }

    fn sampling(&self) -> Sampling {
        let second = Duration::from_secs(1);
        Windows::default()
            .length(second, second)
            .least_calls(10)
            .into()
    }
}

/// An exponential average, that begins as a plain one.
#[derive(Clone, Copy, Debug, Default)]
struct Average {
    value: f64,
    sum: f64,
    count: u32,
}

impl Average {
    /// How many values make the plain one.
    const WARM_UP: u32 = 10;

    /// The average of about so many values, with this one.
    fn add(&mut self, value: f64, window: u32) -> f64 {
        if self.count < Self::WARM_UP {
            self.count += 1;
            self.sum += value;
            self.value = self.sum / f64::from(self.count);
        } else {
            let weight = 2.0 / (f64::from(window) + 1.0);
            self.value += weight * (value - self.value);
        }
        self.value
    }
}
