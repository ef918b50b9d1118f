//! A rate for each key.

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
    AdaptiveRateHandle, Mode,
    call::UntoldKeyedCall,
    future::Timed,
    handle::Hold,
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

/// Applies [`KeyedAdaptiveRate`] to a service; made by [`AdaptiveRateBuilder::keyed`].
///
/// All services made by one layer, or by its clones, share the same keys and rates.
///
/// See the [module docs](super#keys) for an example.
///
/// [`AdaptiveRateBuilder::keyed`]: super::AdaptiveRateBuilder::keyed
#[derive(Clone, Debug)]
#[must_use]
pub struct KeyedAdaptiveRateLayer<K, F, C, U = Answered> {
    keys: ConstArc<Keys<K>>,
    key: F,
    classifier: C,
    until: U,
}

impl<K, F, C, U> KeyedAdaptiveRateLayer<K, F, C, U> {
    /// Sees and steers the rates.
    #[must_use]
    pub fn handle(&self) -> KeyedAdaptiveRateHandle<K> {
        let keys = self.keys.clone();
        KeyedAdaptiveRateHandle { keys }
    }
}

impl<S, K: Clone, F: Clone, C: Clone, U: Clone> Layer<S> for KeyedAdaptiveRateLayer<K, F, C, U> {
    type Service = KeyedAdaptiveRate<S, K, F, C, U>;

    fn layer(&self, inner: S) -> Self::Service {
        let Self {
            keys,
            key,
            classifier,
            until,
        } = self.clone();
        KeyedAdaptiveRate {
            inner,
            keys,
            key,
            classifier,
            until,
        }
    }
}

/// The settings of a rate for each key; made by [`AdaptiveRateBuilder::keyed`].
///
/// [`AdaptiveRateBuilder::keyed`]: super::AdaptiveRateBuilder::keyed
#[derive(Clone, Debug)]
#[must_use]
pub struct KeyedAdaptiveRateBuilder<K, F, C, U = Answered> {
    settings: Settings,
    classifier: C,
    until: U,
    max_keys: usize,
    idle_time: Duration,
    key: F,
    owned: PhantomData<fn() -> K>,
}

impl<K, F, C, U> KeyedAdaptiveRateBuilder<K, F, C, U> {
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

    /// After which time a key that is not in use, and of which calls are not limited, may be forgotten though
    /// there is room for it, and with it what was measured. Default: 10 min.
    pub const fn idle_time(mut self, idle_time: Duration) -> Self {
        self.idle_time = idle_time;
        self
    }
}

impl<K: Hash + Eq + Clone, F, C, U> KeyedAdaptiveRateBuilder<K, F, C, U> {
    /// Checks the settings and builds the layer.
    ///
    /// # Errors
    ///
    /// If `max_keys` is zero, or a setting of the rates is outside its range; the error names it.
    pub fn build(self) -> Result<KeyedAdaptiveRateLayer<K, F, C, U>, InvalidSetting> {
        let around = Around::new(&self.settings, true)?;
        let keys = Keys {
            map: KeyedMap::new(self.max_keys, nanos(self.idle_time))?,
            key_metrics: KeyMetrics::new(&around.telemetry),
            around: ConstArc::new(around),
        };
        Ok(KeyedAdaptiveRateLayer {
            keys: ConstArc::new(keys),
            key: self.key,
            classifier: self.classifier,
            until: self.until,
        })
    }
}

/// The rates of all keys.
#[derive(Debug)]
struct Keys<K> {
    map: KeyedMap<K, Shared>,
    around: ConstArc<Around>,
    key_metrics: KeyMetrics,
}

impl<K: Hash + Eq + Clone> Keys<K> {
    /// The rate of `key`; one for this call alone where there is no room for it.
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
        let rate = Shared::new(&self.around);
        let now = self.around.epoch().nanos_now();
        let rest = |rate: &Shared| rate.rest(now);
        let entered = self.map.enter(key, rate, now, rest);
        self.key_metrics.entered(entered.room, entered.evicted);
        entered.state
    }
}

/// Spaces the calls of a key at a rate that the service does not throttle.
///
/// Always ready itself: every call makes a clone of the inner service ready, once its turn has come.
///
/// See the [module docs](super#keys) for an example.
#[derive(Clone, Debug)]
pub struct KeyedAdaptiveRate<S, K, F, C, U = Answered> {
    inner: S,
    keys: ConstArc<Keys<K>>,
    key: F,
    classifier: C,
    until: U,
}

impl<S, K, F, C, U> KeyedAdaptiveRate<S, K, F, C, U> {
    inner_accessors!();
}

impl<S, K, F, C, U, Req> Service<Req> for KeyedAdaptiveRate<S, K, F, C, U>
where
    S: Service<Req> + Clone,
    S::Error: FromRejected,
    K: Hash + Eq + Clone + Borrow<F::Borrowed>,
    F: Key<Req, Owned = K>,
    C: Classify<S::Response, S::Error> + Clone,
    U: Until<S::Response, C> + Clone,
{
    type Response = U::Response<UntoldKeyedCall>;
    type Error = S::Error;
    type Future = KeyedAdaptiveRateFuture<S, Req, C, U>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        let rate = self.key.with_key(&req, |key| self.keys.of(key));
        let judged = (self.classifier.clone(), self.until.clone());
        KeyedAdaptiveRateFuture(Timed::new(self.inner.clone(), req, judged, rate))
    }
}

/// Response future of [`KeyedAdaptiveRate`].
///
/// Takes its turn when it is first polled. Dropping it before the turn has come gives it back. Its key is in
/// use until then.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct KeyedAdaptiveRateFuture<S: Service<Req>, Req, C, U = Answered>(
    #[pin] Timed<S, Req, C, U, Held<Shared>>,
);

opaque_debug!(KeyedAdaptiveRateFuture<S, Req, C, U>);

impl<S, Req, C, U> Future for KeyedAdaptiveRateFuture<S, Req, C, U>
where
    S: Service<Req>,
    S::Error: FromRejected,
    C: Classify<S::Response, S::Error>,
    U: Until<S::Response, C>,
{
    type Output = Result<U::Response<UntoldKeyedCall>, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().0.poll(cx)
    }
}

/// Sees and steers the rates of a layer with one for each key; made by
/// [`KeyedAdaptiveRateLayer::handle`]. Cheap to clone.
#[derive(Clone, Debug)]
pub struct KeyedAdaptiveRateHandle<K> {
    keys: ConstArc<Keys<K>>,
}

impl<K: Hash + Eq + Clone> KeyedAdaptiveRateHandle<K> {
    /// The name of the layer.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.keys.around.telemetry.name()
    }

    /// What the layer may do by itself.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.keys.around.mode.get()
    }

    /// Sets the mode of all rates, of keys that are known and of those to come; as
    /// [`AdaptiveRateHandle::set_mode`].
    pub fn set_mode(&self, mode: Mode) {
        let around = &self.keys.around;
        around.mode.set(mode, &around.telemetry);
    }

    /// The rate of one key; `None` where it is not known, or has been forgotten. As long as the
    /// handle lives, the key is in use, and so not forgotten.
    #[must_use]
    pub fn get<Q>(&self, key: &Q) -> Option<AdaptiveRateHandle>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq,
    {
        let shared = Hold::OfKey(self.keys.map.peek(key)?);
        Some(AdaptiveRateHandle { shared })
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
