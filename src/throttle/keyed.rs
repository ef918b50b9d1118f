//! A throttle for each key.

use std::{
    borrow::Borrow,
    future::Future,
    hash::Hash,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use pin_project::pin_project;
use tower::{Layer, Service};

use super::{
    Mode, ThrottleHandle,
    future::Watched,
    handle::Hold,
    held::UncountedKeyedCall,
    service::run,
    settings::Settings,
    shared::{Around, Shared},
};
use crate::{
    classify::Classify,
    error::{FromRejected, InvalidSetting},
    keyed::{Held, Key, KeyMetrics, KeyedMap},
    sync::ConstArc,
    time::nanos,
    until::{Answered, Until},
};

/// Applies [`KeyedThrottle`] to a service; made by [`ThrottleBuilder::keyed`].
///
/// All services made by one layer, or by its clones, share the same keys and throttles.
///
/// See the [module docs](super#keys) for an example.
///
/// [`ThrottleBuilder::keyed`]: super::ThrottleBuilder::keyed
#[derive(Clone, Debug)]
#[must_use]
pub struct KeyedThrottleLayer<K, F, C, U = Answered> {
    keys: ConstArc<Keys<K>>,
    key: F,
    classifier: C,
    until: U,
}

impl<K, F, C, U> KeyedThrottleLayer<K, F, C, U> {
    /// Sees and steers the throttles.
    #[must_use]
    pub fn handle(&self) -> KeyedThrottleHandle<K> {
        let keys = self.keys.clone();
        KeyedThrottleHandle { keys }
    }
}

impl<S, K: Clone, F: Clone, C: Clone, U: Clone> Layer<S> for KeyedThrottleLayer<K, F, C, U> {
    type Service = KeyedThrottle<S, K, F, C, U>;

    fn layer(&self, inner: S) -> Self::Service {
        let Self {
            keys,
            key,
            classifier,
            until,
        } = self.clone();
        KeyedThrottle {
            inner,
            keys,
            key,
            classifier,
            until,
        }
    }
}

/// The settings of a throttle for each key; made by [`ThrottleBuilder::keyed`].
///
/// [`ThrottleBuilder::keyed`]: super::ThrottleBuilder::keyed
#[derive(Clone, Debug)]
#[must_use]
pub struct KeyedThrottleBuilder<K, F, C, U = Answered> {
    settings: Settings,
    classifier: C,
    until: U,
    max_keys: usize,
    idle_time: Duration,
    key: F,
    owned: PhantomData<fn() -> K>,
}

impl<K, F, C, U> KeyedThrottleBuilder<K, F, C, U> {
    pub(super) fn new(
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

    /// After which time a key that is not in use, and of which nothing is refused, may be forgotten though
    /// there is room for it, and with it what has been counted. Default: 10 min.
    pub const fn idle_time(mut self, idle_time: Duration) -> Self {
        self.idle_time = idle_time;
        self
    }
}

impl<K: Hash + Eq + Clone, F, C, U> KeyedThrottleBuilder<K, F, C, U> {
    /// Checks the settings and builds the layer.
    ///
    /// # Errors
    ///
    /// If `max_keys` is zero, or a setting of the throttles is outside its range; the error names it.
    pub fn build(self) -> Result<KeyedThrottleLayer<K, F, C, U>, InvalidSetting> {
        let around = Around::new(&self.settings, true)?;
        let keys = Keys {
            map: KeyedMap::new(self.max_keys, nanos(self.idle_time))?,
            key_metrics: KeyMetrics::new(&around.telemetry),
            around: ConstArc::new(around),
        };
        Ok(KeyedThrottleLayer {
            keys: ConstArc::new(keys),
            key: self.key,
            classifier: self.classifier,
            until: self.until,
        })
    }
}

/// The throttles of all keys.
#[derive(Debug)]
struct Keys<K> {
    map: KeyedMap<K, Shared>,
    around: ConstArc<Around>,
    key_metrics: KeyMetrics,
}

impl<K: Hash + Eq + Clone> Keys<K> {
    /// The throttle of `key`; one for this call alone where there is no room for it.
    #[inline]
    fn of<Q>(&self, key: &Q) -> Held<Shared>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K>,
    {
        match self.map.get(key) {
            Some(known) => known,
            None => self.enter(key),
        }
    }

    #[inline(never)]
    fn enter<Q>(&self, key: &Q) -> Held<Shared>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K>,
    {
        let throttle = Shared::new(&self.around);
        let now = self.around.nanos_now();
        let rest = |throttle: &Shared| throttle.rest(now);
        let entered = self.map.enter(key, throttle, now, rest);
        self.key_metrics.entered(entered.room, entered.evicted);
        entered.state
    }
}

/// Refuses a share of the calls of a key while the service is overloaded by those of the same key.
///
/// See the [module docs](super#keys) for an example.
#[derive(Clone, Debug)]
pub struct KeyedThrottle<S, K, F, C, U = Answered> {
    inner: S,
    keys: ConstArc<Keys<K>>,
    key: F,
    classifier: C,
    until: U,
}

impl<S, K, F, C, U> KeyedThrottle<S, K, F, C, U> {
    inner_accessors!();
}

impl<S, K, F, C, U, Req> Service<Req> for KeyedThrottle<S, K, F, C, U>
where
    S: Service<Req>,
    S::Error: FromRejected,
    K: Hash + Eq + Clone + Borrow<F::Borrowed>,
    F: Key<Req, Owned = K>,
    C: Classify<S::Response, S::Error> + Clone,
    U: Until<S::Response, C> + Clone,
{
    type Response = U::Response<UncountedKeyedCall>;
    type Error = S::Error;
    type Future = KeyedThrottleFuture<S::Future, C, U>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        let throttle = self.key.with_key(&req, |key| self.keys.of(key));
        let judged = (&self.classifier, &self.until);
        KeyedThrottleFuture(run(&mut self.inner, throttle, judged, req))
    }
}

/// Response future of [`KeyedThrottle`].
#[pin_project]
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct KeyedThrottleFuture<F, C, U = Answered>(#[pin] Watched<F, C, U, Held<Shared>>);

impl<F, C, U, T, E> Future for KeyedThrottleFuture<F, C, U>
where
    F: Future<Output = Result<T, E>>,
    E: FromRejected,
    C: Classify<T, E>,
    U: Until<T, C>,
{
    type Output = Result<U::Response<UncountedKeyedCall>, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().0.poll(cx)
    }
}

/// Sees and steers the throttles of a layer with one for each key; made by
/// [`KeyedThrottleLayer::handle`]. Cheap to clone.
#[derive(Clone, Debug)]
pub struct KeyedThrottleHandle<K> {
    keys: ConstArc<Keys<K>>,
}

impl<K: Hash + Eq + Clone> KeyedThrottleHandle<K> {
    /// The name of the layer.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.keys.around.telemetry.name()
    }

    /// What the throttles may do by themselves.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.keys.around.mode.get()
    }

    /// Sets the mode of all throttles, of keys that are known and of those to come; as
    /// [`ThrottleHandle::set_mode`].
    pub fn set_mode(&self, mode: Mode) {
        let around = &self.keys.around;
        around.mode.set(mode, &around.telemetry);
    }

    /// The throttle of one key; `None` where it is not known, or has been forgotten. As long as the
    /// handle lives, the key is in use, and so not forgotten.
    #[must_use]
    pub fn get<Q>(&self, key: &Q) -> Option<ThrottleHandle>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq,
    {
        let shared = Hold::OfKey(self.keys.map.peek(key)?);
        Some(ThrottleHandle { shared })
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
