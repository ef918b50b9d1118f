//! What the services of a layer share.

use crate::{
    error::Reason,
    permits::Permits,
    pooled::PooledArc,
    queue::Queue,
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
    pub(super) fn new(name: &'static str, queue: &Queue) -> Self {
        let endings = [
            Ending::Completed,
            Ending::Rejected,
            Ending::Abandoned,
            Ending::Panicked,
        ];
        let mut reasons = vec![Reason::BulkheadFull];
        reasons.extend(queue.reasons());
        let telemetry = Telemetry::new("bulkhead", name, &endings, &reasons);
        Self {
            in_flight: telemetry.gauge("steadfast_bulkhead_in_flight"),
            waiting: telemetry.gauge("steadfast_bulkhead_waiting"),
            limit: telemetry.gauge("steadfast_bulkhead_limit"),
            telemetry,
        }
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
