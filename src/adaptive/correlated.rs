//! failsafe-go's guard: more calls in flight that get less done are too many.

use std::collections::VecDeque;

use super::{
    limit::{Limit, Sample},
    numbers::{log10, seconds},
    sampling::Sampling,
};

/// Lowers the limit where more calls in flight went with a lower throughput, or with a longer latency for
/// next to no throughput; else leaves it to another algorithm.
///
/// The guard of failsafe-go's adaptive limiter, with its settings, over the real throughput. Of the last 50
/// samples, once there are ten, where the limit was reached, and with `r` the correlation of the calls in flight
/// with the throughput, `s` that with the latency, and `v` how far the throughput varies for each part by which the
/// calls in flight do (the ratio of their coefficients of variation), the limit is lowered by
/// `max(1, ⌊log₁₀ limit⌋)` if
///
/// - `r < 0`, or
/// - `r < 0.3` and `s > 0.5`, or
/// - `v < 0.2` and `s > 0.5`.
///
/// What varies by less than 1 % is taken to be correlated with nothing. failsafe-go takes for `v` the variation of
/// the throughput alone, which holds a limit down where it is low and hardly varies itself.
///
/// **Where it is weak.** Where calls in flight and throughput vary by chance alone, so does `r`, and every other
/// time the limit is lowered for nothing; the algorithm within must raise it again by more.
#[derive(Clone, Debug)]
#[must_use]
pub struct Correlated<L> {
    inner: L,
    /// Calls in flight, throughput and latency.
    seen: VecDeque<[f64; 3]>,
}

impl<L> Correlated<L> {
    const WINDOW: usize = 50;
    const WARM_UP: usize = 10;

    /// Guards `inner`.
    pub fn new(inner: L) -> Self {
        Self {
            inner,
            seen: VecDeque::with_capacity(Self::WINDOW),
        }
    }

    fn see(&mut self, sample: &Sample) {
        let Some(latency) = sample.latency.filter(|_| !sample.elapsed.is_zero()) else {
            return;
        };
        if self.seen.len() == Self::WINDOW {
            self.seen.pop_front();
        }
        let throughput = f64::from(sample.completed) / sample.elapsed.as_secs_f64();
        let in_flight = sample.in_flight.into();
        self.seen
            .push_back([in_flight, throughput, seconds(latency)]);
    }

    fn is_too_much(&self) -> bool {
        if self.seen.len() < Self::WARM_UP {
            return false;
        }
        let [in_flight, throughput, latency] = [0, 1, 2].map(|of| Series::of(&self.seen, of));
        let gain = self.correlation(in_flight, throughput);
        let cost = self.correlation(in_flight, latency);
        gain < 0.0
            || cost > 0.5 && (gain < 0.3 || throughput.variation() < 0.2 * in_flight.variation())
    }

    fn correlation(&self, one: Series, other: Series) -> f64 {
        if one.variation() < 0.01 || other.variation() < 0.01 {
            return 0.0;
        }
        let products = self
            .seen
            .iter()
            .map(|seen| (seen[one.of] - one.mean) * (seen[other.of] - other.mean));
        let covariance = products.sum::<f64>() / self.seen.len() as f64;
        covariance / (one.deviation * other.deviation)
    }
}

impl<L: Limit> Limit for Correlated<L> {
    fn next(&mut self, limit: f64, sample: &Sample) -> f64 {
        self.see(sample);
        // Asked in any case, for what it learns.
        let next = self.inner.next(limit, sample);
        if sample.limited && self.is_too_much() {
            next.min(limit - log10(limit))
        } else {
            next
        }
    }

    /// As the algorithm within wants it, but in windows: a single call tells no throughput.
    fn sampling(&self) -> Sampling {
        match self.inner.sampling() {
            Sampling::EveryCall => Sampling::default(),
            windows => windows,
        }
    }
}

/// Mean and standard deviation of one of the three.
#[derive(Clone, Copy)]
struct Series {
    of: usize,
    mean: f64,
    deviation: f64,
}

impl Series {
    fn of(seen: &VecDeque<[f64; 3]>, of: usize) -> Self {
        let count = seen.len() as f64;
        let mean = seen.iter().map(|seen| seen[of]).sum::<f64>() / count;
        let squares = seen.iter().map(|seen| (seen[of] - mean).powi(2));
        let deviation = (squares.sum::<f64>() / count).sqrt();
        Self {
            of,
            mean,
            deviation,
        }
    }

    /// How far it varies, as a share of its mean.
    fn variation(self) -> f64 {
        if self.mean == 0.0 {
            0.0
        } else {
            self.deviation / self.mean
        }
    }
}
