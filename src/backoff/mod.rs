//! How long to wait before the next try.
//!
//! A [`Backoff`] is a recipe for a sequence of delays. [`RetryLayer`](crate::retry::RetryLayer) waits
//! them out between attempts, and [`CircuitBreakerLayer`](crate::circuit_breaker::CircuitBreakerLayer)
//! between being open and probing.
//!
//! Every recipe has a cap, and no delay exceeds it, jitter included. Jitter is on unless turned off:
//! without it, callers that failed together come back together (M. Brooker, "Exponential Backoff And
//! Jitter", AWS Architecture Blog, 2015, whose three jitters these are; the fourth is Polly's).
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use steadfast::backoff::{Backoff, Jitter};
//!
//! # fn main() -> Result<(), steadfast::InvalidSetting> {
//! let ms = Duration::from_millis;
//! let backoff = Backoff::exponential(ms(25), ms(300))?.with_jitter(Jitter::None);
//!
//! // Without jitter the delays need no randomness, so any number will do.
//! let mut delays = backoff.delays();
//! let first: Vec<_> = (0..5).map(|_| delays.next(0)).collect();
//! assert_eq!(first, [ms(25), ms(50), ms(100), ms(200), ms(300)]);
//!
//! assert!(Backoff::exponential(ms(300), ms(25)).is_err()); // the cap lies below the base
//! # Ok(())
//! # }
//! ```

#[cfg(all(test, not(steadfast_loom)))]
mod jitter_tests;
#[cfg(all(test, not(steadfast_loom)))]
mod tests;

use std::{fmt, time::Duration};

use crate::{
    error::{InvalidSetting, not_zero},
    sync::ConstArc,
    time::nanos,
};

/// A recipe for delays that grow, as a rule, and never exceed a cap.
///
/// Delays are computed in whole nanoseconds; one longer than 584 years counts as 584 years.
#[derive(Clone, Debug)]
pub struct Backoff {
    growth: Growth,
    cap: u64,
    jitter: Jitter,
}

/// How a computed delay is scattered. Formulas and names are AWS's, but for the last, which is Polly's;
/// `expo` is the delay before jitter, cap applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Jitter {
    /// Not at all.
    None,
    /// Uniform in `0..=expo`. The default: of AWS's three it causes the least work.
    #[default]
    Full,
    /// `expo / 2` plus uniform in `0..=expo / 2`: never less than half.
    Equal,
    /// Uniform in `base..=3 * previous`, cap applied after. Each delay depends on the one before, not
    /// on the growth; the first is drawn as if the one before had been `base`.
    Decorrelated,
    /// Polly's decorrelated jitter, version 2 (G. Polevoy, in Polly.Contrib.WaitAndRetry): with `t` the
    /// number of the retry, from zero, plus a uniform number below one, `base / 1.4` times what
    /// `2^t * tanh(√(4 t))` has grown since the retry before; cap applied after.
    ///
    /// So the retries come, in the median, near `base`, twice `base`, four times `base` … after the first
    /// failure, and those of many callers together without the peaks that a fixed band for each retry
    /// leaves. Here too the growth is the formula's own, whatever the recipe's.
    SmoothDecorrelated,
}

#[derive(Clone)]
enum Growth {
    Constant(u64),
    Linear(u64),
    Exponential { base: u64, factor: f64 },
    Custom(ConstArc<dyn Fn(u32) -> Duration + Send + Sync>),
}

impl fmt::Debug for Growth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ns = Duration::from_nanos;
        match self {
            Self::Constant(delay) => f.debug_tuple("Constant").field(&ns(*delay)).finish(),
            Self::Linear(step) => f.debug_tuple("Linear").field(&ns(*step)).finish(),
            Self::Exponential { base, factor } => f
                .debug_struct("Exponential")
                .field("base", &ns(*base))
                .field("factor", factor)
                .finish(),
            Self::Custom(_) => f.write_str("Custom"),
        }
    }
}

impl Backoff {
    /// No delay at all: the next try is made at once, and no timer is touched.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            growth: Growth::Constant(0),
            cap: 0,
            jitter: Jitter::None,
        }
    }

    /// Always the same delay, before jitter.
    #[must_use]
    pub const fn constant(delay: Duration) -> Self {
        let delay = nanos(delay);
        Self {
            growth: Growth::Constant(delay),
            cap: delay,
            jitter: Jitter::Full,
        }
    }

    /// `step`, twice `step`, three times `step` … up to `cap`, before jitter.
    ///
    /// # Errors
    ///
    /// If `step` is zero or longer than `cap`.
    pub fn linear(step: Duration, cap: Duration) -> Result<Self, InvalidSetting> {
        let step = nanos(not_zero("backoff.step", step)?);
        Self::capped(Growth::Linear(step), step, cap)
    }

    /// `base`, twice `base`, four times `base` … up to `cap`, before jitter.
    ///
    /// # Errors
    ///
    /// If `base` is zero or longer than `cap`.
    pub fn exponential(base: Duration, cap: Duration) -> Result<Self, InvalidSetting> {
        let base = nanos(not_zero("backoff.base", base)?);
        Self::capped(Growth::Exponential { base, factor: 2.0 }, base, cap)
    }

    /// `delay(1)` before the first retry, `delay(2)` before the second …, each cut to `cap`, before
    /// jitter. Here the jitter is off unless set.
    #[must_use]
    pub fn from_fn(cap: Duration, delay: impl Fn(u32) -> Duration + Send + Sync + 'static) -> Self {
        Self {
            growth: Growth::Custom(ConstArc::new(delay)),
            cap: nanos(cap),
            jitter: Jitter::None,
        }
    }

    fn capped(growth: Growth, base: u64, cap: Duration) -> Result<Self, InvalidSetting> {
        if nanos(cap) < base {
            let allowed = "at least as long as the first delay";
            return Err(InvalidSetting::new("backoff.cap", cap, allowed));
        }
        Ok(Self {
            growth,
            cap: nanos(cap),
            jitter: Jitter::Full,
        })
    }

    /// Sets the factor by which an exponential backoff grows. Default: 2.
    ///
    /// # Errors
    ///
    /// If `factor` is not a number in 1..=1000, or the backoff is not exponential.
    pub fn with_factor(mut self, new: f64) -> Result<Self, InvalidSetting> {
        match &mut self.growth {
            Growth::Exponential { factor, .. } if (1.0..=1000.0).contains(&new) => *factor = new,
            Growth::Exponential { .. } => {
                return Err(InvalidSetting::new("backoff.factor", new, "in 1..=1000"));
            }
            _ => {
                let allowed = "for an exponential backoff";
                return Err(InvalidSetting::new("backoff.factor", new, allowed));
            }
        }
        Ok(self)
    }

    /// Sets the jitter. Default: [`Jitter::Full`].
    #[must_use]
    pub const fn with_jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// No delay exceeds this.
    #[must_use]
    pub const fn cap(&self) -> Duration {
        Duration::from_nanos(self.cap)
    }

    /// The sequence of delays, from its start.
    #[must_use]
    pub const fn delays(&self) -> Delays<'_> {
        Delays {
            backoff: self,
            position: Position::START,
        }
    }

    /// The delay at `position`, which moves on by one.
    pub(crate) fn next(&self, position: &mut Position, random: u64) -> Duration {
        position.retry = position.retry.saturating_add(1);
        let expo = self.before_jitter(position.retry);
        let delay = match self.jitter {
            Jitter::None => expo,
            Jitter::Full => uniform(0, expo, random),
            Jitter::Equal => expo / 2 + uniform(0, expo - expo / 2, random),
            Jitter::Decorrelated => {
                let base = self.before_jitter(1);
                let longest = position.previous.max(base).saturating_mul(3);
                position.previous = uniform(base, longest, random).min(self.cap);
                position.previous
            }
            Jitter::SmoothDecorrelated => {
                let t = f64::from(position.retry - 1) + fraction(random);
                let now = smooth(t);
                let before =
                    f64::from_bits(std::mem::replace(&mut position.previous, now.to_bits()));
                // From 2^1024 on there is only infinity, and between two of them no difference.
                let grown = if now.is_finite() { now - before } else { now };
                // A float too large for the integer becomes its maximum.
                ((grown / 1.4 * self.before_jitter(1) as f64) as u64).min(self.cap)
            }
        };
        Duration::from_nanos(delay)
    }

    fn before_jitter(&self, retry: u32) -> u64 {
        let delay = match &self.growth {
            Growth::Constant(delay) => *delay,
            Growth::Linear(step) => step.saturating_mul(retry.into()),
            // A float too large for the integer, infinity included, becomes its maximum.
            Growth::Exponential { base, factor } => {
                let exponent = i32::try_from(retry - 1).unwrap_or(i32::MAX);
                (*base as f64 * factor.powi(exponent)) as u64
            }
            Growth::Custom(delay) => nanos(delay(retry)),
        };
        delay.min(self.cap)
    }
}

/// Where a caller stands in a sequence of delays.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position {
    retry: u32,
    /// What the jitter keeps of the retry before: a decorrelated one the delay, the smooth one the bits
    /// of what its formula had grown to. At the start zero, as a number and as bits.
    previous: u64,
}

impl Position {
    pub(crate) const START: Self = Self {
        retry: 0,
        previous: 0,
    };
}

/// The delays of a [`Backoff`], one after another; made by [`Backoff::delays`].
#[derive(Clone, Debug)]
pub struct Delays<'a> {
    backoff: &'a Backoff,
    position: Position,
}

impl Delays<'_> {
    /// The next delay. `random` is to be uniform over all of `u64`; the same numbers give the same
    /// delays.
    #[allow(clippy::should_implement_trait, reason = "it needs a random number")]
    pub fn next(&mut self, random: u64) -> Duration {
        self.backoff.next(&mut self.position, random)
    }
}

/// The curve under [`Jitter::SmoothDecorrelated`].
fn smooth(t: f64) -> f64 {
    t.exp2() * (4.0 * t).sqrt().tanh()
}

/// A number in `0..1`, uniform where `random` is: 53 bits of it, as many as a float holds.
fn fraction(random: u64) -> f64 {
    (random >> 11) as f64 / (1_u64 << 53) as f64
}

/// A whole number in `low..=high`, uniform where `random` is.
fn uniform(low: u64, high: u64, random: u64) -> u64 {
    let width = u128::from(high.saturating_sub(low)) + 1;
    low + ((width * u128::from(random)) >> 64) as u64
}
