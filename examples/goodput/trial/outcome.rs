//! What became of the calls of a load, and what should have.

use std::{fmt, time::Duration};

use super::{Load, Setup, client::Call};

/// What became of the calls of a load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    /// Of the capacity.
    pub(crate) times: f64,
    pub(crate) length: Duration,
    pub(crate) offered: usize,
    /// Calls of this load that were answered well.
    pub(crate) good: usize,
    pub(crate) refused: usize,
    /// Those whose callers hung up.
    pub(crate) given_up: usize,
    /// What was done while it lasted for good answers, of whatever load, in calls. One that was begun before,
    /// or not yet over, counts in part: workers who are done at the same time would count all or not at all.
    pub(crate) done: f64,
    /// The latency of good answers.
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    /// How much later calls were sent than they were to be.
    pub(crate) sent_late: Duration,
}

impl Outcome {
    pub(super) fn new(load: &Load, start: Duration, setup: &Setup, calls: &[Call]) -> Self {
        let during = start..start + load.length;
        let of_load = || calls.iter().filter(|call| during.contains(&call.due));
        let count = |is_so: fn(&Call) -> bool| of_load().filter(|call| is_so(call)).count();
        let good = of_load().filter(|call| call.is_good());
        let mut latencies: Vec<_> = good.map(Call::latency).collect();
        let mut late: Vec<_> = of_load().map(|call| call.late).collect();
        let work = |call: &Call| {
            let begun = call.over.saturating_sub(setup.takes).max(during.start);
            let over = call.over.min(during.end);
            over.saturating_sub(begun).div_duration_f64(setup.takes)
        };
        Self {
            times: load.times,
            length: load.length,
            offered: late.len(),
            good: latencies.len(),
            refused: count(|call| call.status == Some(503)),
            given_up: count(|call| call.status.is_none()),
            done: calls.iter().filter(|call| call.is_good()).map(work).sum(),
            p50: quantile(&mut latencies, 0.5),
            p99: quantile(&mut latencies, 0.99),
            sent_late: quantile(&mut late, 0.99),
        }
    }

    /// Good answers a second.
    pub(crate) fn goodput(&self) -> f64 {
        self.done / self.length.as_secs_f64()
    }

    /// What is wrong with it, if 99 in 100 calls take so long where little is asked of the server.
    pub(crate) fn shortfall(&self, setup: &Setup, unloaded: Duration) -> Option<Shortfall> {
        let (goodput, at_best) = match self.times {
            times if times < 1.0 => (self.good as f64, self.offered as f64),
            _ => (self.goodput(), setup.capacity()),
        };
        let longest = setup.longest(unloaded);
        let mut faults = Vec::new();
        if goodput < ENOUGH * at_best {
            faults.push(format!("{goodput:.0} good answers of {at_best:.0}"));
        }
        if self.p99 > longest {
            faults.push(format!("a p99 of {:?}, not {longest:?}", self.p99));
        }
        (!faults.is_empty()).then(|| Shortfall {
            times: self.times,
            faults: faults.join(", "),
            sent_late: self.sent_late,
            is_of_the_driver: self.sent_late > setup.queue_wait / 2,
        })
    }
}

/// Which share is enough: of the capacity, or of what is offered where that is less.
const ENOUGH: f64 = 0.95;

/// What is wrong with an [`Outcome`].
#[derive(Clone, Debug)]
pub(crate) struct Shortfall {
    times: f64,
    faults: String,
    sent_late: Duration,
    /// Calls were sent so late that nothing is known of the server.
    pub(crate) is_of_the_driver: bool,
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            times,
            faults,
            sent_late,
            ..
        } = self;
        write!(f, "at {times} times the capacity: {faults}; ")?;
        if self.is_of_the_driver {
            write!(
                f,
                "but the driver itself fell behind, and sent calls {sent_late:?} late (p99)"
            )
        } else {
            write!(
                f,
                "the driver kept up, and sent calls {sent_late:?} late (p99)"
            )
        }
    }
}

/// Zero of nothing.
fn quantile(times: &mut [Duration], share: f64) -> Duration {
    times.sort_unstable();
    let rank = (times.len() as f64 * share).ceil() as usize;
    times
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or_default()
}
