//! What the services of a layer share.

use super::Queue;
use crate::{
    error::Reason,
    permits::{Discipline, Permits},
    pooled::PooledArc,
    telemetry::{Ending, Gauge, Telemetry},
};

/// What a bulkhead tells.
#[derive(Debug)]
pub(super) struct Metrics {
    pub(super) telemetry: Telemetry,
    pub(super) in_flight: Gauge,
    pub(super) waiting: Gauge,
    pub(super) limit: Gauge,
}

impl Metrics {
    /// `reasons` are those for which the bulkhead refuses.
    pub(super) fn new(name: &'static str, reasons: &[Reason]) -> Self {
        let endings = [
            Ending::Completed,
            Ending::Rejected,
            Ending::Abandoned,
            Ending::Panicked,
        ];
        let telemetry = Telemetry::new("bulkhead", name, &endings, reasons);
        Self {
            in_flight: telemetry.gauge("steadfast_bulkhead_in_flight"),
            waiting: telemetry.gauge("steadfast_bulkhead_waiting"),
            limit: telemetry.gauge("steadfast_bulkhead_limit"),
            telemetry,
        }
    }
}

/// How calls may wait; not at all without a queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) capacity: usize,
    pub(super) discipline: Discipline,
}

impl Waiting {
    pub(super) const NOT: Self = Self {
        capacity: 0,
        discipline: Discipline::Fifo,
    };

    pub(super) const fn in_queue(queue: &Queue) -> Self {
        let Queue {
            capacity,
            max_wait,
            discipline,
        } = *queue;
        let capacity = if max_wait.is_zero() { 0 } else { capacity };
        Self {
            capacity,
            discipline,
        }
    }

    pub(super) fn permits(self, max: usize) -> Permits {
        Permits::new(max, self.capacity, self.discipline)
    }
}

/// Where a call takes its permits from. The call holds it, and with it what it points to.
pub(super) trait Source {
    fn permits(&self) -> &Permits;
    fn metrics(&self) -> &Metrics;
}

/// The permits of a layer that has the same for all calls.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) permits: Permits,
    pub(super) metrics: Metrics,
}

pooled!(Shared);

impl Shared {
    pub(super) fn new(permits: Permits, metrics: Metrics) -> Self {
        metrics.limit.set(permits.load().limit);
        Self { permits, metrics }
    }

    pub(super) fn resize(&self, max: usize) {
        self.permits.resize(max);
        self.metrics.limit.set(self.permits.load().limit);
    }
}

impl Source for PooledArc<Shared> {
    #[inline]
    fn permits(&self) -> &Permits {
        &self.permits
    }

    #[inline]
    fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}
