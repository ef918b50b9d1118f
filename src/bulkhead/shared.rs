//! What the services of a layer share.

use crate::{
    error::Reason,
    permits::Permits,
    pooled::PooledArc,
    queue::{self, Queue},
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

/// Where a call takes its permits from, and what it tells of them.
pub(super) trait Source: queue::Source {
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

/// Makes a pointer to `permits` and `metrics` a [`Source`].
macro_rules! source {
    ($pointer:ty) => {
        impl $crate::queue::Source for $pointer {
            const FULL: $crate::error::Reason = $crate::error::Reason::BulkheadFull;

            #[inline]
            fn permits(&self) -> &$crate::permits::Permits {
                &self.permits
            }

            fn telemetry(&self) -> &$crate::telemetry::Telemetry {
                &self.metrics.telemetry
            }

            fn waiting(&self) -> &$crate::telemetry::Gauge {
                &self.metrics.waiting
            }
        }

        impl $crate::bulkhead::shared::Source for $pointer {
            #[inline]
            fn metrics(&self) -> &$crate::bulkhead::shared::Metrics {
                &self.metrics
            }
        }
    };
}
pub(super) use source;

source!(PooledArc<Shared>);
