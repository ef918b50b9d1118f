//! Envoy's gradient controller: a shortest latency that is measured from time to time.

use std::time::Duration;

use super::{
    jitter::Jitter,
    limit::{Limit, Sample},
    numbers::{factor, seconds, share},
    sampling::{Sampling, Windows},
};
use crate::error::{InvalidSetting, not_zero};

/// Measures the latency at a very low limit from time to time, and multiplies the limit by how far the
/// latency is above that.
///
/// The gradient controller of Envoy's adaptive concurrency filter, with its defaults, or where it has none
/// those of its example: windows of 100 ms, of which one call is enough. With `base` the latency as measured,
/// and `gradient = 1.25 · base / latency` within 0.5..=2:
///
/// | | limit |
/// |---|---|
/// | while it measures, until 50 calls | 3 |
/// | when it has measured | as it was before |
/// | else | `⌊gradient · limit + √(gradient · limit)⌋`, at least 3 |
///
/// It measures every 60 s, and up to 15 % later by chance; at the first sample; and where the limit has been 3 for
/// five updates in a row. Envoy takes the quantile of the 50 calls, and this one that of their windows'
/// quantiles, each as heavy as it has calls.
///
/// **Where it is weak.** While it measures it refuses what is beyond three calls, on a healthy service, too.
/// It does not heed drops. It has no guard against growth that is not used: below saturation the limit runs
/// to its greatest.
#[derive(Clone, Debug)]
#[must_use]
pub struct EnvoyGradient {
    buffer: f64,
    min_concurrency: f64,
    interval: Duration,
    interval_jitter: f64,
    requests: u32,
    jitter: Jitter,
    state: State,
    /// Latencies of windows while it measures, in seconds, and how many calls each stands for. Kept for
    /// the next time, so that it need not allocate again.
    seen: Vec<(f64, u32)>,
}

#[derive(Clone, Debug)]
enum State {
    /// Nothing is known.
    New,
    /// With the limit to return to.
    Measuring(f64),
    Measured {
        /// In seconds.
        base: f64,
        /// When it is to be measured again.
        until: Duration,
        /// How often in a row the limit has been at its least.
        at_least: u32,
    },
}

impl Default for EnvoyGradient {
    fn default() -> Self {
        Self {
            buffer: 0.25,
            min_concurrency: 3.0,
            interval: Duration::from_secs(60),
            interval_jitter: 0.15,
            requests: 50,
            jitter: Jitter::default(),
            state: State::New,
            seen: Vec::with_capacity(50),
        }
    }
}

impl EnvoyGradient {
    /// By which share the latency may be above the measured one before the limit is decreased. Default:
    /// 0.25.
    ///
    /// # Errors
    ///
    /// If it is not above 0 and at most 1.
    pub fn buffer(mut self, buffer: f64) -> Result<Self, InvalidSetting> {
        self.buffer = share("buffer", buffer)?;
        Ok(self)
    }

    /// The limit while it measures, and the least at other times. Default: 3.
    ///
    /// # Errors
    ///
    /// If it is not in 1..=1000.
    pub fn min_concurrency(mut self, calls: u32) -> Result<Self, InvalidSetting> {
        self.min_concurrency = factor("min_concurrency", calls.into())?;
        Ok(self)
    }

    /// How often it measures, and by which share of that later, at most, by chance. Default: 60 s and 0.15.
    ///
    /// # Errors
    ///
    /// If the interval is zero, or the share is not in 0..=1.
    pub fn interval(mut self, interval: Duration, jitter: f64) -> Result<Self, InvalidSetting> {
        if !(0.0..=1.0).contains(&jitter) {
            return Err(InvalidSetting::new("interval_jitter", jitter, "in 0..=1"));
        }
        self.interval = not_zero("interval", interval)?;
        self.interval_jitter = jitter;
        Ok(self)
    }

    /// By how many calls it measures. Default: 50.
    ///
    /// # Errors
    ///
    /// If it is zero.
    pub fn requests(mut self, requests: u32) -> Result<Self, InvalidSetting> {
        if requests == 0 {
            return Err(InvalidSetting::new("requests", requests, "at least 1"));
        }
        self.requests = requests;
        self.seen.reserve(requests.min(1024) as usize);
        Ok(self)
    }

    /// Seeds the jitter, for measurements that come at the same times every time. Default: seeded by the
    /// operating system.
    pub const fn seed(mut self, seed: u64) -> Self {
        self.jitter = Jitter::seeded(seed);
        self
    }

    /// After how many updates at the least limit in a row it measures again.
    const PATIENCE: u32 = 5;

    fn measure(&mut self, limit: f64) -> f64 {
        self.seen.clear();
        self.state = State::Measuring(limit);
        self.min_concurrency
    }

    fn measured(&mut self, base: f64, now: Duration) {
        let stretch = 1.0 + self.interval_jitter * self.jitter.uniform();
        let seconds = self.interval.as_secs_f64() * stretch;
        let interval = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        self.state = State::Measured {
            base,
            until: now.saturating_add(interval),
            at_least: 0,
        };
    }
}

impl Limit for EnvoyGradient {
    fn next(&mut self, limit: f64, sample: &Sample) -> f64 {
        let least = self.min_concurrency;
        let latency = sample.latency.map(seconds);
        match &mut self.state {
            State::New => self.measure(limit),
            State::Measuring(before) => {
                let (before, seen) = (*before, &mut self.seen);
                seen.extend(latency.map(|latency| (latency, sample.measured)));
                let calls: u64 = seen.iter().map(|(_, calls)| u64::from(*calls)).sum();
                if calls < self.requests.into() {
                    return least;
                }
                let base = weighted_median(seen);
                self.measured(base, sample.now);
                before
            }
            State::Measured { until, .. } if *until <= sample.now => self.measure(limit),
            State::Measured { base, at_least, .. } => {
                let Some(latency) = latency else {
                    return limit;
                };
                let gradient = (*base * (1.0 + self.buffer) / latency).clamp(0.5, 2.0);
                let scaled = limit * gradient;
                let next = (scaled + scaled.sqrt()).floor().max(least);
                let is_at_least = limit <= least && next <= least;
                *at_least = if is_at_least { *at_least + 1 } else { 0 };
                if *at_least >= Self::PATIENCE {
                    return self.measure(limit);
                }
                next
            }
        }
    }

    fn sampling(&self) -> Sampling {
        let ms = Duration::from_millis(100);
        Windows::default().length(ms, ms).least_calls(1).into()
    }
}

/// The least of them that, with all that are less, stands for half of the calls.
fn weighted_median(seen: &mut [(f64, u32)]) -> f64 {
    seen.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    let all: u64 = seen.iter().map(|(_, calls)| u64::from(*calls)).sum();
    let mut passed = 0;
    for (latency, calls) in &*seen {
        passed += u64::from(*calls);
        if 2 * passed >= all {
            return *latency;
        }
    }
    unreachable!("there were calls")
}
