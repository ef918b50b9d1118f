//! The rules that every call has to be told to, be it good: those that look at the time, or that nobody
//! but the user knows. Pure.

use super::{
    cause::Cause,
    own::Own,
    rules::{Causes, Quantile, Rates},
    trip::Statistics,
};
use crate::window::{EwmaWindow, Outcome, TimeWindow};

#[derive(Debug)]
pub(super) struct Always {
    pub(super) time: Option<(TimeWindow, Rates)>,
    pub(super) ewma: Option<(EwmaWindow, Rates)>,
    /// Counts as slow what took longer than the bound.
    pub(super) latency: Option<(TimeWindow, Quantile)>,
    /// Asked by who sees the other rules too.
    pub(super) own: Option<Own>,
}

const TIME: Causes = Causes {
    failures: Cause::TimeFailures,
    failed: Cause::TimeFailureRate,
    slow: Cause::TimeSlowCallRate,
};

const EWMA: Causes = Causes {
    failures: Cause::EwmaFailures,
    failed: Cause::EwmaFailureRate,
    // It counts no slow calls.
    slow: Cause::EwmaFailureRate,
};

impl Always {
    pub(super) fn is_empty(&self) -> bool {
        let Self {
            time,
            ewma,
            latency,
            own,
        } = self;
        time.is_none() && ewma.is_none() && latency.is_none() && own.is_none()
    }

    /// Enters an outcome into all windows; returns the first rule that it made trip.
    #[inline]
    pub(super) fn record(&self, generation: u32, outcome: Outcome, now: u64) -> Option<Cause> {
        let by_time = self.time.as_ref().and_then(|(window, rates)| {
            let counts = window.record(generation, outcome, now)?;
            rates.judge(counts, TIME)
        });
        if self.ewma.is_none() && self.latency.is_none() {
            return by_time;
        }
        by_time.or(self.record_more(generation, outcome, now))
    }

    /// Out of line, to keep it out of the way of those that have none of it.
    #[inline(never)]
    fn record_more(&self, generation: u32, outcome: Outcome, now: u64) -> Option<Cause> {
        let by_ewma = self.ewma.as_ref().and_then(|(window, rates)| {
            let counts = window.record(generation, outcome.failed, now)?;
            rates.judge_weighted(counts, EWMA)
        });
        let by_latency = self.latency.as_ref().and_then(|(window, quantile)| {
            let slow = outcome.tail;
            let counts = window.record(generation, Outcome { slow, ..outcome }, now)?;
            quantile.judge(counts)
        });
        by_ewma.or(by_latency)
    }

    pub(super) fn rates(&self) -> impl Iterator<Item = &Rates> {
        let time = self.time.iter().map(|(_, rates)| rates);
        time.chain(self.ewma.iter().map(|(_, rates)| rates))
    }

    /// Adds to `statistics` what there is to see of `generation` at `now`.
    pub(super) fn add_to(&self, statistics: Statistics, generation: u32, now: u64) -> Statistics {
        let counts = |window: &TimeWindow| window.counts(generation, now);
        Statistics {
            time_window: self.time.as_ref().map(|(window, _)| counts(window)),
            ewma_window: self
                .ewma
                .as_ref()
                .map(|(window, _)| window.counts(generation, now)),
            latency_window: self.latency.as_ref().map(|(window, _)| counts(window)),
            ..statistics
        }
    }
}
