//! Seeing and steering a bulkhead from outside.

use super::layer::Shared;
use crate::pooled::PooledArc;

/// Sees and steers the permits of a layer; made by [`BulkheadLayer::handle`] or
/// [`QueuedBulkheadLayer::handle`]. Cheap to clone.
///
/// [`BulkheadLayer::handle`]: super::BulkheadLayer::handle
/// [`QueuedBulkheadLayer::handle`]: super::QueuedBulkheadLayer::handle
#[derive(Clone, Debug)]
pub struct BulkheadHandle {
    pub(super) shared: PooledArc<Shared>,
}

impl BulkheadHandle {
    /// The name of the layer.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.shared.telemetry.name()
    }

    /// How many calls may be in flight.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.shared.permits.load().limit as usize
    }

    /// How many calls are in flight. More than the limit only while it has just been lowered.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.shared.permits.load().taken as usize
    }

    /// How many calls wait in the queue.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.shared.permits.load().waiting as usize
    }

    /// Lets `max` calls be in flight from now on, as in [`BulkheadLayer::new`].
    ///
    /// Never blocks and cuts no call: where more are in flight they run to their end, and none begins
    /// until there are fewer. Where the limit grows, those who wait are let in at once.
    ///
    /// [`BulkheadLayer::new`]: super::BulkheadLayer::new
    pub fn resize(&self, max: usize) {
        self.shared.resize(max);
    }
}
