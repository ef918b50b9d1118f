//! Seeing and steering a bulkhead from outside.

use std::{borrow::Borrow, hash::Hash};

use super::{keyed::Keys, shared::Shared};
use crate::{partitions::PartitionSnapshot, pooled::PooledArc, queue::QueueDelay, sync::ConstArc};

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
        self.shared.metrics.telemetry.name()
    }

    /// How many calls may be in flight.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.shared.permits.load().limit as usize
    }

    /// How many calls are in flight, or what they [weigh](super::BulkheadBuilder::weight): permits in
    /// use. More than the limit only while it has just been lowered.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.shared.permits.load().taken as usize
    }

    /// How many calls wait in the queue.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.shared.permits.load().waiting as usize
    }

    /// How long calls wait in the queue: a signal of overload, for what sheds load before it gets here.
    ///
    /// Takes no lock; reads the clock where somebody waits.
    #[must_use]
    pub fn queue_delay(&self) -> QueueDelay {
        QueueDelay::of(&self.shared.permits)
    }

    /// The [partitions](crate::partitions) of the limit, in the order in which they were given their shares, and
    /// `other` as the last. None where it is not divided.
    #[must_use]
    pub fn partitions(&self) -> Vec<PartitionSnapshot> {
        let Shared { permits, metrics } = &*self.shared;
        metrics.partitions.snapshots(permits)
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

/// Sees and steers the permits of a layer with a limit for each key; made by
/// [`KeyedBulkheadLayer::handle`] or [`QueuedKeyedBulkheadLayer::handle`]. Cheap to clone.
///
/// [`KeyedBulkheadLayer::handle`]: super::KeyedBulkheadLayer::handle
/// [`QueuedKeyedBulkheadLayer::handle`]: super::QueuedKeyedBulkheadLayer::handle
#[derive(Clone, Debug)]
pub struct KeyedBulkheadHandle<K> {
    pub(super) keys: ConstArc<Keys<K>>,
}

impl<K: Hash + Eq + Clone> KeyedBulkheadHandle<K> {
    /// The name of the layer.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.keys.metrics.telemetry.name()
    }

    /// How many calls of a key may be in flight.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.keys.max()
    }

    /// The calls of one key; `None` where it is not known, or has been forgotten: then it has none. To
    /// look at a key is not to use it.
    #[must_use]
    pub fn get<Q>(&self, key: &Q) -> Option<BulkheadSnapshot>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq,
    {
        let of_key = self.keys.map.peek(key)?;
        let word = of_key.permits.load();
        Some(BulkheadSnapshot {
            limit: word.limit as usize,
            in_flight: word.taken as usize,
            waiting: word.waiting as usize,
            queue_delay: QueueDelay::of(&of_key.permits),
        })
    }

    /// How many keys are kept. Takes a lock that new keys take, too.
    #[must_use]
    pub fn key_count(&self) -> usize {
        self.keys.map.len()
    }

    /// The keys that are kept, in no order. Takes a lock that new keys take, too, and copies all keys
    /// under it.
    #[must_use]
    pub fn keys(&self) -> Vec<K> {
        self.keys.map.keys()
    }

    /// Lets `max` calls of each key be in flight from now on, of those that are known and of those to
    /// come; otherwise as [`BulkheadHandle::resize`].
    pub fn resize(&self, max: usize) {
        self.keys.resize(max);
    }
}

/// The permits of one key at one moment; see [`KeyedBulkheadHandle::get`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BulkheadSnapshot {
    /// How many calls may be in flight.
    pub limit: usize,
    /// How many are, or what they [weigh](super::BulkheadBuilder::weight).
    pub in_flight: usize,
    /// How many wait in the queue.
    pub waiting: usize,
    /// How long they wait.
    pub queue_delay: QueueDelay,
}
