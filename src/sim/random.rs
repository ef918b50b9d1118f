//! Numbers that are drawn, and times that are.

use std::{fmt, time::Duration};

use super::maths;
use crate::{rng::Rng, sync::ConstArc};

/// A stream of random numbers: with the same seed the same, on any machine.
///
/// [`random`](super::random) makes one from the seed of the run.
#[derive(Debug)]
pub struct Random(Rng);

impl Random {
    /// The stream of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Rng::new(Some(seed)))
    }

    /// A whole number, uniform over all of `u64`.
    pub fn draw(&self) -> u64 {
        self.0.draw()
    }

    /// A number in `0..1`, uniform.
    pub fn unit(&self) -> f64 {
        (self.draw() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A whole number in `0..end`, uniform. Zero where `end` is zero.
    pub fn below(&self, end: u64) -> u64 {
        ((u128::from(self.draw()) * u128::from(end)) >> 64) as u64
    }

    /// True in this share of the cases.
    pub fn chance(&self, share: f64) -> bool {
        self.unit() < share
    }

    /// A number from the exponential distribution of mean one.
    pub fn exponential(&self) -> f64 {
        -maths::ln(1.0 - self.unit())
    }

    /// A number from the normal distribution of mean zero and standard deviation one.
    pub fn normal(&self) -> f64 {
        // Marsaglia's polar method; the second number that it gives is let go.
        loop {
            let (x, y) = (2.0 * self.unit() - 1.0, 2.0 * self.unit() - 1.0);
            let square = x * x + y * y;
            if square > 0.0 && square < 1.0 {
                return x * (-2.0 * maths::ln(square) / square).sqrt();
            }
        }
    }
}

/// How long something takes: a distribution that durations are drawn from.
#[derive(Clone, Debug)]
#[must_use]
pub struct Times(Kind);

#[derive(Clone)]
enum Kind {
    Constant(Duration),
    Exponential { mean: f64 },
    Normal { mean: f64, deviation: f64 },
    LogNormal { mu: f64, sigma: f64 },
    Or(f64, ConstArc<(Times, Times)>),
    Custom(ConstArc<dyn Fn(&Random) -> Duration + Send + Sync>),
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant(time) => write!(f, "{time:?}"),
            Self::Exponential { mean } => write!(f, "exponential({mean} s)"),
            Self::Normal { mean, deviation } => write!(f, "normal({mean} s, {deviation} s)"),
            Self::LogNormal { mu, sigma } => write!(f, "lognormal({mu}, {sigma})"),
            Self::Or(share, pair) => write!(f, "{:?}, or {share} of {:?}", pair.0, pair.1),
            Self::Custom(_) => f.write_str("custom"),
        }
    }
}

impl Times {
    /// Always the same. [`Duration::MAX`] for what never ends.
    pub const fn constant(time: Duration) -> Self {
        Self(Kind::Constant(time))
    }

    /// Exponential.
    pub const fn exponential(mean: Duration) -> Self {
        let mean = mean.as_secs_f64();
        Self(Kind::Exponential { mean })
    }

    /// Normal, and its amount where that is negative.
    pub const fn normal(mean: Duration, deviation: Duration) -> Self {
        let (mean, deviation) = (mean.as_secs_f64(), deviation.as_secs_f64());
        Self(Kind::Normal { mean, deviation })
    }

    /// Lognormal, with this mean and this standard deviation.
    pub fn lognormal(mean: Duration, deviation: Duration) -> Self {
        let mean = mean.as_secs_f64().max(f64::MIN_POSITIVE);
        let ratio = deviation.as_secs_f64() / mean;
        let variance = maths::ln(1.0 + ratio * ratio);
        let (mu, sigma) = (maths::ln(mean) - variance / 2.0, variance.sqrt());
        Self(Kind::LogNormal { mu, sigma })
    }

    /// Drawn by a function.
    pub fn from_fn(draw: impl Fn(&Random) -> Duration + Send + Sync + 'static) -> Self {
        Self(Kind::Custom(ConstArc::new(draw)))
    }

    /// In this share of the cases `other` instead: of two peaks, or with stragglers.
    pub fn or(self, share: f64, other: Self) -> Self {
        Self(Kind::Or(share, ConstArc::new((self, other))))
    }

    /// Draws one.
    #[must_use]
    pub fn draw(&self, random: &Random) -> Duration {
        let secs = match &self.0 {
            Kind::Constant(time) => return *time,
            Kind::Exponential { mean } => mean * random.exponential(),
            Kind::Normal { mean, deviation } => (mean + deviation * random.normal()).abs(),
            Kind::LogNormal { mu, sigma } => maths::exp(mu + sigma * random.normal()),
            Kind::Or(share, pair) if random.chance(*share) => return pair.1.draw(random),
            Kind::Or(_, pair) => return pair.0.draw(random),
            Kind::Custom(draw) => return draw(random),
        };
        Duration::try_from_secs_f64(secs).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Mean and standard deviation of many, in milliseconds.
    fn moments(times: &Times) -> (f64, f64) {
        let random = Random::new(7);
        let drawn = || 1e3 * times.draw(&random).as_secs_f64();
        let drawn: Vec<_> = std::iter::repeat_with(drawn).take(100_000).collect();
        let mean = drawn.iter().sum::<f64>() / 1e5;
        let variance = drawn.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 1e5;
        (mean, variance.sqrt())
    }

    #[test]
    fn each_distribution_has_the_mean_and_the_deviation_that_it_was_told() {
        let stragglers = Times::constant(10 * MS).or(0.1, Times::constant(110 * MS));
        let told = [
            (Times::constant(3 * MS), 3.0, 0.0),
            (Times::exponential(20 * MS), 20.0, 20.0),
            (Times::normal(20 * MS, 2 * MS), 20.0, 2.0),
            (Times::lognormal(20 * MS, 10 * MS), 20.0, 10.0),
            (stragglers, 20.0, 30.0),
            (
                Times::from_fn(|random| MS * random.below(3) as u32),
                1.0,
                0.816,
            ),
        ];
        for (times, mean, deviation) in told {
            let (its_mean, its_deviation) = moments(&times);
            assert!((its_mean - mean).abs() < 0.4, "{times:?}: mean {its_mean}");
            let error = (its_deviation - deviation).abs();
            assert!(error < 0.4, "{times:?}: deviation {its_deviation}");
        }
    }

    #[test]
    fn what_never_ends_is_drawn_as_it_is() {
        let random = Random::new(1);
        let times = Times::constant(MS).or(1.0, Times::constant(Duration::MAX));
        assert_eq!(times.draw(&random), Duration::MAX);
    }
}
