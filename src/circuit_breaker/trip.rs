//! What a closed breaker watches, and when that makes it trip. Pure.

use std::num::NonZeroU32;

use super::{
    always::Always,
    cause::Cause,
    own::Own,
    rules::{Causes, ProbeRule, Rates},
};
use crate::{
    sync::{
        AtomicU64,
        Ordering::{AcqRel, Acquire, Relaxed},
    },
    window::{CountWindow, Counts, Outcome, WeightedCounts},
};

/// The rules of the closed state, joined by *or*, with what they have counted.
///
/// All that is counted belongs to a generation: the calls of an earlier one enter nothing.
#[derive(Debug)]
pub(super) struct Trip {
    pub(super) run: Option<Run>,
    pub(super) count: Option<(CountWindow, Rates)>,
    /// The rules that every call has to be told to; apart, so that who has none asks once.
    pub(super) always: Option<Box<Always>>,
}

const COUNT: Causes = Causes {
    failures: Cause::CountFailures,
    failed: Cause::CountFailureRate,
    slow: Cause::CountSlowCallRate,
};

impl Trip {
    /// Begins a generation with nothing counted. Must not run twice at once.
    pub(super) fn begin(&self, generation: u32) {
        // The others find by the generation that what they hold is of an earlier one.
        if let Some((window, _)) = &self.count {
            window.begin_era(generation);
        }
    }

    /// Whether a good outcome, of a call that was not slow, would change nothing.
    #[inline]
    pub(super) fn is_unmoved_by_success(&self) -> bool {
        self.run.as_ref().is_none_or(Run::is_over)
            && self
                .count
                .as_ref()
                .is_none_or(|(window, _)| window.is_full_of_good())
            && self.always.is_none()
    }

    /// Enters an outcome into all that is counted; returns the first rule that it made trip. Tells by
    /// `panicked` if a rule of the user's own did.
    #[inline]
    pub(super) fn record(
        &self,
        generation: u32,
        outcome: Outcome,
        now: impl Fn() -> u64,
        panicked: impl FnOnce(),
    ) -> Option<Cause> {
        let by_run = self.run.as_ref().and_then(|run| {
            let is_reached = run.record(generation, outcome.failed);
            is_reached.then_some(Cause::ConsecutiveFailures)
        });
        let by_count = self.count.as_ref().and_then(|(window, rates)| {
            let counts = window.record(generation, outcome)?;
            rates.judge(counts, COUNT)
        });
        let cause = by_run.or(by_count);
        let Some(always) = &self.always else {
            return cause;
        };
        let now = now();
        let cause = cause.or(always.record(generation, outcome, now));
        match &always.own {
            Some(own) if cause.is_none() => self.ask(own, generation, now, panicked),
            _ => cause,
        }
    }

    /// Asks the rule of the user's own. Out of line, to keep it out of the way of those that have none.
    #[inline(never)]
    fn ask(&self, own: &Own, generation: u32, now: u64, panicked: impl FnOnce()) -> Option<Cause> {
        let statistics = self.statistics(generation, now);
        own.trips(&statistics, panicked).then_some(Cause::TripWhen)
    }

    /// Whether a rule needs to know when a call began.
    pub(super) fn is_timed(&self) -> bool {
        let has_quantile = self.always.as_ref().is_some_and(|it| it.latency.is_some());
        has_quantile || self.rates().any(|rates| rates.slow.is_some())
    }

    /// How `probes` calls are judged by these rules.
    pub(super) fn probe_rule(&self, probes: u8) -> ProbeRule {
        let run = self.run.as_ref().map(|run| run.limit);
        let mut rule = ProbeRule::new(probes, run, self.rates());
        let always = self.always.as_ref();
        if let Some((_, quantile)) = always.and_then(|it| it.latency.as_ref()) {
            rule = rule.with_quantile(*quantile);
        }
        if rule.is_empty() || always.is_some_and(|it| it.own.is_some()) {
            rule = rule.or_half();
        }
        rule
    }

    fn rates(&self) -> impl Iterator<Item = &Rates> {
        let count = self.count.iter().map(|(_, rates)| rates);
        count.chain(self.always.iter().flat_map(|always| always.rates()))
    }

    /// What there is to see of `generation` at `now`.
    pub(super) fn statistics(&self, generation: u32, now: u64) -> Statistics {
        let Self { run, count, always } = self;
        let statistics = Statistics {
            consecutive_failures: run.as_ref().map_or(0, |run| run.length(generation)),
            count_window: count.as_ref().map(|(window, _)| window.counts()),
            ..Statistics::default()
        };
        match always {
            Some(always) => always.add_to(statistics, generation, now),
            None => statistics,
        }
    }
}

/// What a closed breaker has counted since it closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// Failures in a row, where there is
    /// [a rule for them](super::CircuitBreakerBuilder::consecutive_failures).
    pub consecutive_failures: u32,
    /// What the count window holds, where there is one.
    pub count_window: Option<Counts>,
    /// What the time window holds, where there is one.
    pub time_window: Option<Counts>,
    /// What the exponentially weighted window holds, where there is one.
    pub ewma_window: Option<WeightedCounts>,
    /// What the window of the latency holds, where there is one; slow are those calls that took longer
    /// than the bound of its [quantile](super::LatencyQuantile).
    pub latency_window: Option<Counts>,
}

/// Failures in a row, and how many are too many.
#[derive(Debug)]
pub(super) struct Run {
    limit: NonZeroU32,
    /// How many there are (low half) and the generation they belong to (high half).
    word: AtomicU64,
}

impl Run {
    pub(super) fn new(limit: NonZeroU32) -> Self {
        let word = AtomicU64::new(0);
        Self { limit, word }
    }

    #[inline]
    fn is_over(&self) -> bool {
        self.word.load(Relaxed) as u32 == 0
    }

    fn length(&self, generation: u32) -> u32 {
        let word = self.word.load(Acquire);
        if (word >> 32) as u32 == generation {
            word as u32
        } else {
            0
        }
    }

    /// Whether the failures in a row, this outcome included, are too many.
    fn record(&self, generation: u32, failed: bool) -> bool {
        let mut old = self.word.load(Relaxed);
        loop {
            let (of, run) = ((old >> 32) as u32, old as u32);
            let run = if of == generation { run } else { 0 };
            if run == 0 && !failed {
                return false; // healthy, and nothing to write
            }
            // A straggler would take the run of a later generation for one of its own.
            if generation.wrapping_sub(of) > u32::MAX / 2 {
                return false;
            }
            let run = if failed { run.saturating_add(1) } else { 0 };
            let new = u64::from(generation) << 32 | u64::from(run);
            match self.word.compare_exchange_weak(old, new, AcqRel, Relaxed) {
                Ok(_) => return run >= self.limit.get(),
                Err(newer) => old = newer,
            }
        }
    }
}

#[cfg(all(test, not(steadfast_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_straggler_neither_adds_to_the_run_of_a_later_generation_nor_ends_it() {
        let run = Run::new(NonZeroU32::new(3).unwrap());
        assert!(!run.record(7, true));
        assert!(!run.record(7, true));
        assert!(!run.record(6, true));
        assert!(!run.record(6, false));
        assert_eq!(run.length(7), 2);
        assert!(run.record(7, true));
    }
}
