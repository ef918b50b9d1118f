//! What a closed breaker watches, and when that makes it trip. Pure.

use std::num::NonZeroU32;

use super::{
    cause::Cause,
    rules::{ProbeRule, Rates},
};
use crate::{
    sync::{
        AtomicU64,
        Ordering::{AcqRel, Acquire, Relaxed},
    },
    window::{CountWindow, Counts, Outcome, TimeWindow},
};

/// The rules of the closed state, joined by *or*, with what they have counted.
///
/// All that is counted belongs to a generation: the calls of an earlier one enter nothing.
#[derive(Debug)]
pub(super) struct Trip {
    pub(super) run: Option<Run>,
    pub(super) count: Option<(CountWindow, Rates)>,
    pub(super) time: Option<(TimeWindow, Rates)>,
}

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
            && self.time.is_none()
    }

    /// Enters an outcome into all that is counted; returns the first rule that it made trip.
    pub(super) fn record(
        &self,
        generation: u32,
        outcome: Outcome,
        now: impl Fn() -> u64,
    ) -> Option<Cause> {
        let by_run = self.run.as_ref().and_then(|run| {
            let is_reached = run.record(generation, outcome.failed);
            is_reached.then_some(Cause::ConsecutiveFailures)
        });
        let by_count = self.count.as_ref().and_then(|(window, rates)| {
            let counts = window.record(generation, outcome)?;
            rates.judge(counts, Cause::CountFailureRate, Cause::CountSlowCallRate)
        });
        let by_time = self.time.as_ref().and_then(|(window, rates)| {
            let counts = window.record(generation, outcome, now())?;
            rates.judge(counts, Cause::TimeFailureRate, Cause::TimeSlowCallRate)
        });
        by_run.or(by_count).or(by_time)
    }

    /// Whether a rule needs to know when a call began.
    pub(super) fn is_timed(&self) -> bool {
        self.rates().any(|rates| rates.slow.is_some())
    }

    /// How `probes` calls are judged by these rules.
    pub(super) fn probe_rule(&self, probes: u8) -> ProbeRule {
        let run = self.run.as_ref().map(|run| run.limit);
        ProbeRule::new(probes, run, self.rates())
    }

    fn rates(&self) -> impl Iterator<Item = &Rates> {
        let count = self.count.as_ref().map(|(_, rates)| rates);
        let time = self.time.as_ref().map(|(_, rates)| rates);
        count.into_iter().chain(time)
    }

    /// What there is to see of `generation` at `now`.
    pub(super) fn statistics(&self, generation: u32, now: u64) -> Statistics {
        let Self { run, count, time } = self;
        Statistics {
            consecutive_failures: run.as_ref().map_or(0, |run| run.length(generation)),
            count_window: count.as_ref().map(|(window, _)| window.counts()),
            time_window: time
                .as_ref()
                .map(|(window, _)| window.counts(generation, now)),
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
