//! The layers with the same permits for all calls.

use tower::Layer;

use super::{Bulkhead, BulkheadBuilder, BulkheadHandle, One, QueuedBulkhead, shared::Shared};
use crate::{pooled::PooledArc, until::Answered};

/// Applies [`Bulkhead`] to a service.
///
/// All services made by one layer, or by its clones, share the same permits.
///
/// See the [module docs](super) for an example.
#[derive(Clone, Debug)]
#[must_use]
pub struct BulkheadLayer<W = One, U = Answered> {
    pub(super) shared: PooledArc<Shared>,
    pub(super) weight: W,
    pub(super) until: U,
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
        BulkheadBuilder::new(max)
    }
}

impl<W, U> BulkheadLayer<W, U> {
    /// Sees and steers the bulkhead.
    #[must_use]
    pub fn handle(&self) -> BulkheadHandle {
        let shared = self.shared.clone();
        BulkheadHandle { shared }
    }
}

impl<S, W: Clone, U: Clone> Layer<S> for BulkheadLayer<W, U> {
    type Service = Bulkhead<S, W, U>;

    fn layer(&self, inner: S) -> Self::Service {
        let Self {
            shared,
            weight,
            until,
        } = self.clone();
        Bulkhead::new(inner, shared, weight, until)
    }
}

/// Applies [`QueuedBulkhead`] to a service; made by [`BulkheadBuilder::queue`].
///
/// All services made by one layer, or by its clones, share the same permits and the same queue.
///
/// See the [module docs](super) for an example.
#[derive(Clone, Debug)]
#[must_use]
pub struct QueuedBulkheadLayer<W = One, U = Answered> {
    pub(super) shared: PooledArc<Shared>,
    pub(super) weight: W,
    pub(super) until: U,
}

impl<W, U> QueuedBulkheadLayer<W, U> {
    /// Sees and steers the bulkhead.
    #[must_use]
    pub fn handle(&self) -> BulkheadHandle {
        let shared = self.shared.clone();
        BulkheadHandle { shared }
    }
}

impl<S, W: Clone, U: Clone> Layer<S> for QueuedBulkheadLayer<W, U> {
    type Service = QueuedBulkhead<S, W, U>;

    fn layer(&self, inner: S) -> Self::Service {
        let Self {
            shared,
            weight,
            until,
        } = self.clone();
        QueuedBulkhead::new(inner, shared, weight, until)
    }
}
