//! Building a bulkhead, and the state that all its services share.

use std::time::Duration;

use tower::Layer;

use super::{Bulkhead, BulkheadHandle, QueuedBulkhead};
use crate::{
    error::Reason,
    permits::{Discipline, Permits},
    pooled::PooledArc,
    telemetry::{Ending, Gauge, Telemetry},
};

/// Applies [`Bulkhead`] to a service.
///
/// All services made by one layer, or by its clones, share the same permits.
///
/// See the [module docs](super) for an example.
#[derive(Clone, Debug)]
#[must_use]
pub struct BulkheadLayer {
    shared: PooledArc<Shared>,
}

impl BulkheadLayer {
    /// A layer that lets `max` calls be in flight and refuses the rest at once. Zero refuses all.
    ///
    /// More than 2,097,151 counts as that.
    pub fn new(max: usize) -> Self {
        Self::builder(max).build()
    }

    /// Begins a bulkhead that lets `max` calls be in flight.
    pub const fn builder(max: usize) -> BulkheadBuilder {
        BulkheadBuilder {
            name: "bulkhead",
            max,
            queue: (),
        }
    }

    /// Sees and steers the bulkhead.
    #[must_use]
    pub fn handle(&self) -> BulkheadHandle {
        let shared = self.shared.clone();
        BulkheadHandle { shared }
    }
}

impl<S> Layer<S> for BulkheadLayer {
    type Service = Bulkhead<S>;

    fn layer(&self, inner: S) -> Bulkhead<S> {
        Bulkhead::new(inner, self.shared.clone())
    }
}

/// Applies [`QueuedBulkhead`] to a service; made by [`BulkheadBuilder::queue`].
///
/// All services made by one layer, or by its clones, share the same permits and the same queue.
///
/// See the [module docs](super) for an example.
#[derive(Clone, Debug)]
#[must_use]
pub struct QueuedBulkheadLayer {
    shared: PooledArc<Shared>,
    max_wait: Duration,
}

impl QueuedBulkheadLayer {
    /// Sees and steers the bulkhead.
    #[must_use]
    pub fn handle(&self) -> BulkheadHandle {
        let shared = self.shared.clone();
        BulkheadHandle { shared }
    }
}

impl<S> Layer<S> for QueuedBulkheadLayer {
    type Service = QueuedBulkhead<S>;

    fn layer(&self, inner: S) -> QueuedBulkhead<S> {
        QueuedBulkhead::new(inner, self.shared.clone(), self.max_wait)
    }
}

/// How many calls may wait, how long, and in which order they are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Queue {
    capacity: usize,
    max_wait: Duration,
    discipline: Discipline,
}

impl Queue {
    /// First come, first served: fair. `capacity` calls may wait, each for at most `max_wait`.
    ///
    /// Zero of either refuses at once. A capacity of more than 2,097,151 counts as that.
    pub const fn fifo(capacity: usize, max_wait: Duration) -> Self {
        let discipline = Discipline::Fifo;
        Self {
            capacity,
            max_wait,
            discipline,
        }
    }

    /// Last come, first served: unfair, but under lasting overload those served have waited the least,
    /// and those who waited the most are those whose callers have gone.
    pub const fn lifo(capacity: usize, max_wait: Duration) -> Self {
        let discipline = Discipline::Lifo;
        Self {
            capacity,
            max_wait,
            discipline,
        }
    }
}

/// The settings of a bulkhead; made by [`BulkheadLayer::builder`]. No setting can be wrong.
#[derive(Clone, Debug)]
#[must_use]
pub struct BulkheadBuilder<Q = ()> {
    name: &'static str,
    max: usize,
    queue: Q,
}

impl<Q> BulkheadBuilder<Q> {
    /// Names the layer, for metrics, events and refusals. Default: `"bulkhead"`.
    pub fn name(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    /// Lets calls wait where no permit is free. Default: none.
    pub fn queue(self, queue: Queue) -> BulkheadBuilder<Queue> {
        let Self { name, max, .. } = self;
        BulkheadBuilder { name, max, queue }
    }
}

impl BulkheadBuilder {
    /// Builds the layer.
    pub fn build(self) -> BulkheadLayer {
        let reasons = [Reason::BulkheadFull];
        let permits = Permits::new(self.max, 0, Discipline::Fifo);
        BulkheadLayer {
            shared: PooledArc::new(Shared::new(self.name, &reasons, permits)),
        }
    }
}

impl BulkheadBuilder<Queue> {
    /// Builds the layer.
    pub fn build(self) -> QueuedBulkheadLayer {
        let Queue {
            capacity,
            max_wait,
            discipline,
        } = self.queue;
        let reasons = [
            Reason::BulkheadFull,
            Reason::QueueTimeout,
            Reason::DeadlineExceeded,
        ];
        let capacity = if max_wait.is_zero() { 0 } else { capacity };
        let permits = Permits::new(self.max, capacity, discipline);
        QueuedBulkheadLayer {
            shared: PooledArc::new(Shared::new(self.name, &reasons, permits)),
            max_wait,
        }
    }
}

/// What all services of a layer share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) permits: Permits,
    pub(super) telemetry: Telemetry,
    pub(super) in_flight: Gauge,
    pub(super) waiting: Gauge,
    limit: Gauge,
}

pooled!(Shared);

impl Shared {
    fn new(name: &'static str, reasons: &[Reason], permits: Permits) -> Self {
        let endings = [
            Ending::Completed,
            Ending::Rejected,
            Ending::Abandoned,
            Ending::Panicked,
        ];
        let telemetry = Telemetry::new("bulkhead", name, &endings, reasons);
        let shared = Self {
            permits,
            in_flight: telemetry.gauge("steadfast_bulkhead_in_flight"),
            waiting: telemetry.gauge("steadfast_bulkhead_waiting"),
            limit: telemetry.gauge("steadfast_bulkhead_limit"),
            telemetry,
        };
        shared.limit.set(shared.permits.load().limit);
        shared
    }

    pub(super) fn resize(&self, max: usize) {
        self.permits.resize(max);
        self.limit.set(self.permits.load().limit);
    }
}
