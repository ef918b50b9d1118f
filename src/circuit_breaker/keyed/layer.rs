//! Setting keyed breakers up, and the state that all their services share.

use std::{borrow::Borrow, hash::Hash, marker::PhantomData, time::Duration};

use tower::Layer;

use super::{
    super::{
        gauges::Gauges,
        layer::{Around, Shared},
        settings::Settings,
    },
    KeyedCircuitBreaker, KeyedCircuitBreakerHandle,
};
use crate::{
    classify::AnyError,
    error::InvalidSetting,
    keyed::{Entered, Held, KeyMetrics, KeyedMap},
    sync::ConstArc,
    time::nanos,
    until::Answered,
};

/// Applies [`KeyedCircuitBreaker`] to a service; made by [`CircuitBreakerBuilder::keyed`].
///
/// All services made by one layer, or by its clones, share the same keys and breakers.
///
/// See the [module docs](super::super#keys) for an example.
///
/// [`CircuitBreakerBuilder::keyed`]: super::super::CircuitBreakerBuilder::keyed
#[derive(Clone, Debug)]
#[must_use]
pub struct KeyedCircuitBreakerLayer<K, F, C = AnyError, U = Answered> {
    keys: ConstArc<Keys<K>>,
    key: F,
    classifier: C,
    until: U,
}

impl<K, F, C, U> KeyedCircuitBreakerLayer<K, F, C, U> {
    /// Sees and steers the breakers.
    #[must_use]
    pub fn handle(&self) -> KeyedCircuitBreakerHandle<K> {
        KeyedCircuitBreakerHandle::new(self.keys.clone())
    }
}

impl<S, K: Clone, F: Clone, C: Clone, U: Clone> Layer<S> for KeyedCircuitBreakerLayer<K, F, C, U> {
    type Service = KeyedCircuitBreaker<S, K, F, C, U>;

    fn layer(&self, inner: S) -> Self::Service {
        let Self {
            keys,
            key,
            classifier,
            until,
        } = self.clone();
        KeyedCircuitBreaker::new(inner, keys, key, classifier, until)
    }
}

/// The settings of a breaker for each key; made by [`CircuitBreakerBuilder::keyed`].
///
/// [`CircuitBreakerBuilder::keyed`]: super::super::CircuitBreakerBuilder::keyed
#[derive(Clone, Debug)]
#[must_use]
pub struct KeyedCircuitBreakerBuilder<K, F, C = AnyError, U = Answered> {
    settings: Settings,
    classifier: C,
    until: U,
    max_keys: usize,
    idle_time: Duration,
    key: F,
    owned: PhantomData<fn() -> K>,
}

impl<K, F, C, U> KeyedCircuitBreakerBuilder<K, F, C, U> {
    pub(in super::super) fn new(
        settings: Settings,
        (classifier, until): (C, U),
        max_keys: usize,
        key: F,
    ) -> Self {
        Self {
            settings,
            classifier,
            until,
            max_keys,
            idle_time: Duration::from_secs(600),
            key,
            owned: PhantomData,
        }
    }

    /// After which time a key that is not in use, and whose breaker is closed, may be forgotten though
    /// there is room for it, and with it what the breaker has counted. Default: 10 min.
    pub const fn idle_time(mut self, idle_time: Duration) -> Self {
        self.idle_time = idle_time;
        self
    }
}

impl<K: Hash + Eq + Clone, F, C, U> KeyedCircuitBreakerBuilder<K, F, C, U> {
    /// Checks the settings and builds the layer.
    ///
    /// # Errors
    ///
    /// If `max_keys` is zero, or a setting of the breakers is outside its range; the error names it.
    pub fn build(self) -> Result<KeyedCircuitBreakerLayer<K, F, C, U>, InvalidSetting> {
        self.settings.rules()?; // so that they can be made again for each key
        let around = Around::new(&self.settings, Gauges::many)?;
        let keys = Keys {
            map: KeyedMap::new(self.max_keys, nanos(self.idle_time))?,
            key_metrics: KeyMetrics::new(&around.telemetry),
            around: ConstArc::new(around),
            settings: self.settings,
        };
        Ok(KeyedCircuitBreakerLayer {
            keys: ConstArc::new(keys),
            key: self.key,
            classifier: self.classifier,
            until: self.until,
        })
    }
}

/// The breakers of all keys.
#[derive(Debug)]
pub(super) struct Keys<K> {
    pub(super) map: KeyedMap<K, Shared>,
    pub(super) around: ConstArc<Around>,
    settings: Settings,
    key_metrics: KeyMetrics,
}

impl<K: Hash + Eq + Clone> Keys<K> {
    /// The breaker of `key`; one for this call alone where there is no room for it.
    #[inline]
    pub(super) fn of<Q>(&self, key: &Q) -> Held<Shared>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K>,
    {
        match self.map.get(key) {
            Some(known) => known,
            None => self.enter(key).state,
        }
    }

    #[inline(never)]
    pub(super) fn enter<Q>(&self, key: &Q) -> Entered<Shared>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K>,
    {
        let rules = self.settings.rules();
        let rules = rules.expect("the settings were checked when the layer was built");
        let breaker = Shared::within(&self.around, rules);
        let now = self.around.nanos_now();
        let entered = self.map.enter(key, breaker, now, Shared::rest);
        self.key_metrics.entered(entered.room, entered.evicted);
        entered
    }
}
