//! Seeing and steering the breakers of all keys from outside.

use std::{borrow::Borrow, hash::Hash};

use super::{
    super::handle::{CircuitBreakerHandle, Hold},
    layer::Keys,
};
use crate::{keyed::Room, sync::ConstArc};

/// Sees and steers the breakers of a layer with one for each key; made by
/// [`KeyedCircuitBreakerLayer::handle`]. Cheap to clone.
///
/// [`KeyedCircuitBreakerLayer::handle`]: super::super::KeyedCircuitBreakerLayer::handle
#[derive(Clone, Debug)]
pub struct KeyedCircuitBreakerHandle<K> {
    keys: ConstArc<Keys<K>>,
}

impl<K> KeyedCircuitBreakerHandle<K> {
    pub(super) const fn new(keys: ConstArc<Keys<K>>) -> Self {
        Self { keys }
    }
}

impl<K: Hash + Eq + Clone> KeyedCircuitBreakerHandle<K> {
    /// The name of the layer.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.keys.around.telemetry.name()
    }

    /// The breaker of one key; `None` where it is not known, or has been forgotten. As long as the
    /// handle lives, the key is in use, and so not forgotten.
    #[must_use]
    pub fn get<Q>(&self, key: &Q) -> Option<CircuitBreakerHandle>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq,
    {
        let breaker = self.keys.map.peek(key)?;
        Some(CircuitBreakerHandle {
            shared: Hold::OfKey(breaker),
        })
    }

    /// The breaker of one key, which is made known if it is not, so that it can be steered before the
    /// first call. `None` where there is no room for it.
    #[must_use]
    pub fn get_or_insert<Q>(&self, key: &Q) -> Option<CircuitBreakerHandle>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K>,
    {
        self.get(key).or_else(|| {
            let entered = self.keys.enter(key);
            (entered.room != Room::None).then_some(CircuitBreakerHandle {
                shared: Hold::OfKey(entered.state),
            })
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
}
