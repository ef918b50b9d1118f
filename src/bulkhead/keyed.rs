//! A limit for each key: the layers, and the state that their services share.

use std::{borrow::Borrow, hash::Hash, time::Duration};

use tower::Layer;

use super::{
    KeyedBulkhead, KeyedBulkheadHandle, One, QueuedKeyedBulkhead,
    shared::{Metrics, source},
};
use crate::{
    error::InvalidSetting,
    keyed::{Held, KeyMetrics, KeyedMap, Rest, Room},
    permits::Permits,
    queue::Queue,
    sync::{
        AtomicU64, ConstArc,
        Ordering::{Acquire, Release},
    },
    time::{Epoch, nanos},
    until::Answered,
};

/// Applies [`KeyedBulkhead`] to a service; made by [`BulkheadBuilder::keyed`].
///
/// All services made by one layer, or by its clones, share the same keys and permits.
///
/// See the [module docs](super#keys) for an example.
///
/// [`BulkheadBuilder::keyed`]: super::BulkheadBuilder::keyed
#[derive(Clone, Debug)]
#[must_use]
pub struct KeyedBulkheadLayer<K, F, W = One, U = Answered> {
    keys: ConstArc<Keys<K>>,
    key: F,
    weight: W,
    until: U,
}

impl<K, F, W, U> KeyedBulkheadLayer<K, F, W, U> {
    pub(super) fn new(keys: Keys<K>, key: F, weight: W, until: U) -> Self {
        Self {
            keys: ConstArc::new(keys),
            key,
            weight,
            until,
        }
    }

    /// Sees and steers the bulkhead.
    #[must_use]
    pub fn handle(&self) -> KeyedBulkheadHandle<K> {
        let keys = self.keys.clone();
        KeyedBulkheadHandle { keys }
    }
}

impl<S, K: Clone, F: Clone, W: Clone, U: Clone> Layer<S> for KeyedBulkheadLayer<K, F, W, U> {
    type Service = KeyedBulkhead<S, K, F, W, U>;

    fn layer(&self, inner: S) -> Self::Service {
        let Self {
            keys,
            key,
            weight,
            until,
        } = self.clone();
        KeyedBulkhead::new(inner, keys, key, weight, until)
    }
}

/// Applies [`QueuedKeyedBulkhead`] to a service; made by [`BulkheadBuilder::keyed`] and
/// [`BulkheadBuilder::queue`].
///
/// All services made by one layer, or by its clones, share the same keys, permits and queues.
///
/// See the [module docs](super#keys) for an example.
///
/// [`BulkheadBuilder::keyed`]: super::BulkheadBuilder::keyed
/// [`BulkheadBuilder::queue`]: super::BulkheadBuilder::queue
#[derive(Clone, Debug)]
#[must_use]
pub struct QueuedKeyedBulkheadLayer<K, F, W = One, U = Answered> {
    keys: ConstArc<Keys<K>>,
    key: F,
    weight: W,
    until: U,
}

impl<K, F, W, U> QueuedKeyedBulkheadLayer<K, F, W, U> {
    pub(super) fn new(keys: Keys<K>, key: F, weight: W, until: U) -> Self {
        Self {
            keys: ConstArc::new(keys),
            key,
            weight,
            until,
        }
    }

    /// Sees and steers the bulkhead.
    #[must_use]
    pub fn handle(&self) -> KeyedBulkheadHandle<K> {
        let keys = self.keys.clone();
        KeyedBulkheadHandle { keys }
    }
}

impl<S, K: Clone, F: Clone, W: Clone, U: Clone> Layer<S> for QueuedKeyedBulkheadLayer<K, F, W, U> {
    type Service = QueuedKeyedBulkhead<S, K, F, W, U>;

    fn layer(&self, inner: S) -> Self::Service {
        let Self {
            keys,
            key,
            weight,
            until,
        } = self.clone();
        QueuedKeyedBulkhead::new(inner, keys, key, weight, until)
    }
}

/// The permits of one key.
#[derive(Debug)]
pub(super) struct OfKey {
    pub(super) permits: Permits,
    metrics: ConstArc<Metrics>,
}

source!(Held<OfKey>);

/// The permits of all keys.
#[derive(Debug)]
pub(super) struct Keys<K> {
    pub(super) map: KeyedMap<K, OfKey>,
    /// The limit of a key.
    max: AtomicU64,
    queue: Queue,
    epoch: Epoch,
    pub(super) metrics: ConstArc<Metrics>,
    key_metrics: KeyMetrics,
}

impl<K: Hash + Eq + Clone> Keys<K> {
    pub(super) fn new(
        max_keys: usize,
        idle_time: Duration,
        max: usize,
        queue: Queue,
        metrics: Metrics,
    ) -> Result<Self, InvalidSetting> {
        let max = max.min(Permits::MAX);
        metrics.limit.set(max as f64);
        Ok(Self {
            map: KeyedMap::new(max_keys, nanos(idle_time))?,
            max: AtomicU64::new(max as u64),
            queue,
            epoch: Epoch::start(),
            key_metrics: KeyMetrics::new(&metrics.telemetry),
            metrics: ConstArc::new(metrics),
        })
    }

    /// The permits of `key`, or none where there is no room for it.
    #[inline]
    pub(super) fn of<Q>(&self, key: &Q) -> Option<Held<OfKey>>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K>,
    {
        match self.map.get(key) {
            None => self.of_new(key),
            known => known,
        }
    }

    #[inline(never)]
    fn of_new<Q>(&self, key: &Q) -> Option<Held<OfKey>>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K>,
    {
        let max = self.max();
        let of_key = OfKey {
            permits: self.queue.permits(max),
            metrics: self.metrics.clone(),
        };
        // Nobody holds a permit of a key that is not in use, so there is nothing to remember.
        let rest = |_: &OfKey| Rest::AtRest;
        let entered = self.map.enter(key, of_key, self.epoch.nanos_now(), rest);
        self.key_metrics.entered(entered.room, entered.evicted);
        // Whoever changed the limit since then has not met this key.
        let now = self.max();
        if now != max {
            entered.state.permits.resize(now);
        }
        (entered.room != Room::None).then_some(entered.state)
    }

    /// How many calls of a key may be in flight.
    pub(super) fn max(&self) -> usize {
        self.max.load(Acquire) as usize
    }

    pub(super) fn resize(&self, max: usize) {
        let max = max.min(Permits::MAX);
        // Before the keys are gone through: a key that comes later finds it.
        self.max.store(max as u64, Release);
        for of_key in self.map.all() {
            // As it is by now: of two who change it at once both may come through last.
            of_key.permits.resize(self.max());
        }
        self.metrics.limit.set(self.max() as f64);
    }
}
