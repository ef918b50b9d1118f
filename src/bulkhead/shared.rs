//! What the services of a layer share.

use crate::{
    error::{Reason, Rejected},
    partitions::PartitionMetrics,
    permits::{Part, Permits},
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
    pub(super) partitions: PartitionMetrics,
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
            partitions: PartitionMetrics::default(),
        }
    }

    /// Refuses a call, of a partition where there are any.
    pub(super) fn reject(&self, part: Option<Part>, reason: Reason) -> Rejected {
        self.partitions.rejected(part);
        self.telemetry.reject(reason)
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
        let shared = Self { permits, metrics };
        shared.show_limit();
        shared
    }

    pub(super) fn resize(&self, max: usize) {
        self.permits.resize(max);
        self.show_limit();
    }

    fn show_limit(&self) {
        self.metrics.limit.set(self.permits.load().limit);
        self.metrics.partitions.show_shares(&self.permits);
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

            fn reject(
                &self,
                part: Option<$crate::permits::Part>,
                reason: $crate::error::Reason,
            ) -> $crate::error::Rejected {
                self.metrics.reject(part, reason)
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
