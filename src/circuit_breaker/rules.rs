//! When a breaker trips.

use std::num::NonZeroU32;

use super::{cause::Cause, word::Probes};
use crate::{
    error::InvalidSetting,
    window::{Counts, Ratio},
};

/// The shares of a window's calls at which it trips the breaker, and how many calls it takes to judge.
///
/// All are inclusive: at a failure rate of 0.5 over 100 calls the 50th failure trips. A slow call that
/// also fails counts once in each rate. The settings are checked when the breaker is built.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Thresholds {
    failure_rate: Option<f64>,
    slow_call_rate: Option<f64>,
    minimum_calls: Option<u32>,
}

impl Thresholds {
    const fn none() -> Self {
        Self {
            failure_rate: None,
            slow_call_rate: None,
            minimum_calls: None,
        }
    }

    /// Trips when this share of the calls failed. In 0.000001..=1.
    pub const fn failure_rate(share: f64) -> Self {
        Self::none().or_failure_rate(share)
    }

    /// Trips when this share of the calls was slow: strictly longer than
    /// [the bound](super::CircuitBreakerBuilder::slow_call_duration). In 0.000001..=1.
    pub const fn slow_call_rate(share: f64) -> Self {
        Self::none().or_slow_call_rate(share)
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

    /// Judges no rate while the window holds fewer calls. At least 1, and at most the size of a count
    /// window. Default: 20, or the size of a count window that is smaller.
    pub const fn minimum_calls(mut self, calls: u32) -> Self {
        self.minimum_calls = Some(calls);
        self
    }
}

/// [`Thresholds`], checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rates {
    pub(super) failed: Option<Ratio>,
    pub(super) slow: Option<Ratio>,
    minimum: u32,
}

impl Rates {
    const DEFAULT_MINIMUM: u32 = 20;

    /// `size` is that of a count window.
    pub(super) fn check(wanted: Thresholds, size: Option<u32>) -> Result<Self, InvalidSetting> {
        let Thresholds {
            failure_rate,
            slow_call_rate,
            minimum_calls,
        } = wanted;
        let size = size.unwrap_or(u32::MAX);
        let minimum = minimum_calls.unwrap_or(Self::DEFAULT_MINIMUM.min(size));
        if minimum == 0 || minimum > size {
            let allowed = "at least 1 and at most the size of a count window";
            return Err(InvalidSetting::new("minimum_calls", minimum, allowed));
        }
        let ratio = |setting, share| Ratio::new(setting, share);
        Ok(Self {
            failed: failure_rate
                .map(|share| ratio("failure_rate", share))
                .transpose()?,
            slow: slow_call_rate
                .map(|share| ratio("slow_call_rate", share))
                .transpose()?,
            minimum,
        })
    }

    /// Whether the counts trip the breaker, and by which rate.
    pub(super) fn judge(&self, counts: Counts, failed: Cause, slow: Cause) -> Option<Cause> {
        let Counts {
            calls,
            failed: failures,
            slow: slows,
        } = counts;
        if calls < self.minimum.into() {
            return None;
        }
        let reached = |ratio: Option<Ratio>, part| ratio.is_some_and(|r| r.is_reached(part, calls));
        if reached(self.failed, failures) {
            Some(failed)
        } else if reached(self.slow, slows) {
            Some(slow)
        } else {
            None
        }
    }
}

/// How the probes of a half-open round are judged: by the rules of the closed state, as if the probes
/// were its window. A run of failures longer than the round cannot be seen, so it is cut to the round.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProbeRule {
    probes: u8,
    /// The least numbers that open the breaker again.
    failed: u8,
    slow: u8,
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
            run: run.map_or(Self::NEVER, |run| run.get().min(probes.into()) as u8),
        };
        for rates in windows {
            rule.failed = rule.failed.min(least(rates.failed));
            rule.slow = rule.slow.min(least(rates.slow));
        }
        rule
    }

    /// One more probe in flight, if the round has one left.
    pub(super) fn admit(self, now: Probes) -> Option<Probes> {
        let in_flight = now.in_flight + 1;
        (in_flight + now.done <= self.probes).then_some(Probes { in_flight, ..now })
    }

    /// Whether the breaker is to close (`true`) or to open (`false`); `None` while the probes still
    /// to come can decide it either way.
    pub(super) fn decide(self, now: Probes) -> Option<bool> {
        if now.failed >= self.failed || now.slow >= self.slow || now.run >= self.run {
            return Some(false);
        }
        let left = self.probes - now.done;
        let cannot_reach = |count: u8, limit: u8| limit == Self::NEVER || count + left < limit;
        let closes = cannot_reach(now.failed, self.failed)
            && cannot_reach(now.slow, self.slow)
            && cannot_reach(now.run, self.run);
        closes.then_some(true)
    }
}
