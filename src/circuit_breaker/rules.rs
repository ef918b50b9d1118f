//! When a breaker trips.

use std::{num::NonZeroU32, time::Duration};

use super::{cause::Cause, word::Probes};
use crate::{
    error::{InvalidSetting, not_zero},
    window::{Counts, Ratio, WeightedCounts},
};

/// The shares and numbers of a window's calls at which it trips the breaker, and how many calls it
/// takes to judge a share.
///
/// All are inclusive: at a failure rate of 0.5 over 100 calls the 50th failure trips. A slow call that
/// also fails counts once in each rate. The settings are checked when the breaker is built.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Thresholds {
    failures: Option<u32>,
    failure_rate: Option<f64>,
    pub(super) slow_call_rate: Option<f64>,
    minimum_calls: Option<u32>,
}

impl Thresholds {
    /// Never trips: the window is kept for [a rule of your own](super::CircuitBreakerBuilder::trip_when),
    /// or for the [handle](super::CircuitBreakerHandle::snapshot) to show.
    pub const fn watch_only() -> Self {
        Self {
            failures: None,
            failure_rate: None,
            slow_call_rate: None,
            minimum_calls: None,
        }
    }

    /// Trips when so many of the calls failed. At least 1, and at most as many as the window can hold.
    ///
    /// Needs no minimum of calls: so many failures are so many calls already.
    pub const fn failures(number: u32) -> Self {
        Self::watch_only().or_failures(number)
    }

    /// Trips when this share of the calls failed. In 0.000001..=1.
    pub const fn failure_rate(share: f64) -> Self {
        Self::watch_only().or_failure_rate(share)
    }

    /// Trips when this share of the calls was slow: strictly longer than
    /// [the bound](super::CircuitBreakerBuilder::slow_call_duration). In 0.000001..=1.
    pub const fn slow_call_rate(share: f64) -> Self {
        Self::watch_only().or_slow_call_rate(share)
    }

    /// Trips at so many failures as well.
    pub const fn or_failures(mut self, number: u32) -> Self {
        self.failures = Some(number);
        self
    }

    /// Trips at this share of failures as well.
    pub const fn or_failure_rate(mut self, share: f64) -> Self {
        self.failure_rate = Some(share);
        self
    }

    /// Trips at this share of slow calls as well.
    pub const fn or_slow_call_rate(mut self, share: f64) -> Self {
        self.slow_call_rate = Some(share);
        self
    }

    /// Judges no rate while the window holds fewer calls. At least 1, and at most as many as the window
    /// can hold; refused where there is no rate. Default: 20, or the size of a count window that is
    /// smaller.
    pub const fn minimum_calls(mut self, calls: u32) -> Self {
        self.minimum_calls = Some(calls);
        self
    }
}

/// A quantile of the latency above which the breaker trips.
///
/// The quantile is that of the nearest rank: of 200 calls the 0.99-quantile is the 198th when they are
/// put in order, the shortest first. It trips where that call took strictly longer than the bound, which
/// is where more than one in a hundred did: of 200 calls the third. So no latency need be kept, only
/// counted, and the answer is exact.
///
/// Failed calls count with the others, by how long they took; so do those that were dropped and count as
/// failures. The settings are checked when the breaker is built.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct LatencyQuantile {
    quantile: f64,
    bound: Duration,
    minimum_calls: Option<u32>,
}

impl LatencyQuantile {
    /// Trips when this quantile (0.99 for the p99), in 0.000001..=1, is strictly longer than `bound`,
    /// which is not zero.
    pub const fn above(quantile: f64, bound: Duration) -> Self {
        Self {
            quantile,
            bound,
            minimum_calls: None,
        }
    }

    /// Judges no quantile while the window holds fewer calls. At least 1. Default: 20, or as many as it
    /// takes for one call alone not to trip it, whichever is more: 100 for a p99, 1,000 for a p99.9.
    pub const fn minimum_calls(mut self, calls: u32) -> Self {
        self.minimum_calls = Some(calls);
        self
    }

    pub(super) fn bound(self) -> Result<Duration, InvalidSetting> {
        not_zero("latency_bound", self.bound)
    }
}

const DEFAULT_MINIMUM: u32 = 20;

/// [`Thresholds`], checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rates {
    /// [`NEVER`](Self::NEVER) if that is no rule: one comparison then answers both.
    failures: u64,
    pub(super) failed: Option<Ratio>,
    pub(super) slow: Option<Ratio>,
    minimum: u32,
}

/// What the thresholds of a window are called where they trip the breaker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Causes {
    pub(super) failures: Cause,
    pub(super) failed: Cause,
    pub(super) slow: Cause,
}

impl Rates {
    const NEVER: u64 = u64::MAX;

    /// `size` is how many calls the window can hold, where that is not without end.
    pub(super) fn check(wanted: Thresholds, size: Option<u32>) -> Result<Self, InvalidSetting> {
        let Thresholds {
            failures,
            failure_rate,
            slow_call_rate,
            minimum_calls,
        } = wanted;
        let size = size.unwrap_or(u32::MAX);
        let fits = |setting, number| match NonZeroU32::new(number) {
            Some(number) if number.get() <= size => Ok(number),
            _ => {
                let allowed = "at least 1 and at most as many as the window can hold";
                Err(InvalidSetting::new(setting, number, allowed))
            }
        };
        if let Some(minimum) = minimum_calls
            && failure_rate.or(slow_call_rate).is_none()
        {
            let allowed = "to be given where no rate is";
            return Err(InvalidSetting::new("minimum_calls", minimum, allowed));
        }
        let minimum = minimum_calls.unwrap_or(DEFAULT_MINIMUM.min(size));
        let ratio =
            |setting, share: Option<f64>| share.map(|share| Ratio::new(setting, share)).transpose();
        Ok(Self {
            failures: match failures {
                Some(number) => fits("failures", number)?.get().into(),
                None => Self::NEVER,
            },
            failed: ratio("failure_rate", failure_rate)?,
            slow: ratio("slow_call_rate", slow_call_rate)?,
            minimum: fits("minimum_calls", minimum)?.get(),
        })
    }

    /// Whether the counts trip the breaker, and by what.
    #[inline]
    pub(super) fn judge(&self, counts: Counts, causes: Causes) -> Option<Cause> {
        self.judge_in_units(counts, 1, causes)
    }

    pub(super) fn judge_weighted(&self, counts: WeightedCounts, causes: Causes) -> Option<Cause> {
        let counts = Counts {
            calls: counts.calls.into(),
            failed: counts.failed.into(),
            slow: 0,
        };
        self.judge_in_units(counts, WeightedCounts::CALL.into(), causes)
    }

    /// Of the units that are counted a call has so many.
    #[inline]
    fn judge_in_units(&self, counts: Counts, call: u64, causes: Causes) -> Option<Cause> {
        let Counts {
            calls,
            failed,
            slow,
        } = counts;
        if failed / call >= self.failures {
            return Some(causes.failures);
        }
        if calls < u64::from(self.minimum) * call {
            return None;
        }
        let reached = |ratio: Option<Ratio>, part| ratio.is_some_and(|r| r.is_reached(part, calls));
        if reached(self.failed, failed) {
            Some(causes.failed)
        } else if reached(self.slow, slow) {
            Some(causes.slow)
        } else {
            None
        }
    }
}

/// [`LatencyQuantile`], checked, without its bound.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quantile {
    share: Ratio,
    minimum: u32,
}

impl Quantile {
    pub(super) fn check(wanted: LatencyQuantile) -> Result<Self, InvalidSetting> {
        let share = Ratio::new("latency_quantile", wanted.quantile)?;
        let minimum = wanted
            .minimum_calls
            .unwrap_or_else(|| share.least_to_spare_one().max(DEFAULT_MINIMUM));
        if minimum == 0 {
            return Err(InvalidSetting::new("minimum_calls", 0, "at least 1"));
        }
        Ok(Self { share, minimum })
    }

    /// Whether the counts trip the breaker; what took longer than the bound counts as slow in them.
    pub(super) fn judge(self, counts: Counts) -> Option<Cause> {
        let Counts { calls, slow, .. } = counts;
        let trips = calls >= self.minimum.into() && self.share.quantile_exceeds(slow, calls);
        trips.then_some(Cause::LatencyQuantile)
    }
}

/// How the probes of a half-open round are judged: by the rules of the closed state, as if the probes
/// were its window. A number or a run of failures longer than the round cannot be seen, so it is cut to
/// the round.
///
/// A rule of the user's own sees no probes. Where it would be the only one to look at failures, and where
/// there is no rule at all, a round fails at a failure rate of 0.5.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProbeRule {
    probes: u8,
    /// The least numbers that open the breaker again.
    failed: u8,
    slow: u8,
    tail: u8,
    run: u8,
}

impl ProbeRule {
    /// More than there can be probes.
    const NEVER: u8 = u8::MAX;
    pub(super) const MAX_PROBES: u8 = Self::NEVER - 1;

    pub(super) fn new<'a>(
        probes: u8,
        run: Option<NonZeroU32>,
        windows: impl Iterator<Item = &'a Rates>,
    ) -> Self {
        let least = |ratio: Option<Ratio>| {
            ratio.map_or(Self::NEVER, |ratio| ratio.least_part(probes.into()) as u8)
        };
        let mut rule = Self {
            probes,
            failed: Self::NEVER,
            slow: Self::NEVER,
            tail: Self::NEVER,
            run: run.map_or(Self::NEVER, |run| run.get().min(probes.into()) as u8),
        };
        for rates in windows {
            rule.failed = rule.failed.min(least(rates.failed));
            if rates.failures != Rates::NEVER {
                let cut = rates.failures.min(probes.into()) as u8;
                rule.failed = rule.failed.min(cut);
            }
            rule.slow = rule.slow.min(least(rates.slow));
        }
        rule
    }

    pub(super) fn with_quantile(mut self, quantile: Quantile) -> Self {
        self.tail = quantile.share.least_above(self.probes.into()) as u8;
        self
    }

    /// Fails a round also where half of it failed, unless another rule looks at failures.
    pub(super) fn or_half(mut self) -> Self {
        if self.failed == Self::NEVER && self.run == Self::NEVER {
            self.failed = self.probes.div_ceil(2);
        }
        self
    }

    /// Whether no round fails.
    pub(super) const fn is_empty(self) -> bool {
        let Self {
            failed,
            slow,
            tail,
            run,
            ..
        } = self;
        failed & slow & tail & run == Self::NEVER
    }

    /// One more probe in flight, if the round has one left.
    pub(super) fn admit(self, now: Probes) -> Option<Probes> {
        let in_flight = now.in_flight + 1;
        (in_flight + now.done <= self.probes).then_some(Probes { in_flight, ..now })
    }

    /// Whether the breaker is to close (`true`) or to open (`false`); `None` while the probes still
    /// to come can decide it either way.
    pub(super) fn decide(self, now: Probes) -> Option<bool> {
        if now.failed >= self.failed
            || now.slow >= self.slow
            || now.tail >= self.tail
            || now.run >= self.run
        {
            return Some(false);
        }
        let left = self.probes - now.done;
        let cannot_reach = |count: u8, limit: u8| limit == Self::NEVER || count + left < limit;
        let closes = cannot_reach(now.failed, self.failed)
            && cannot_reach(now.slow, self.slow)
            && cannot_reach(now.tail, self.tail)
            && cannot_reach(now.run, self.run);
        closes.then_some(true)
    }
}
