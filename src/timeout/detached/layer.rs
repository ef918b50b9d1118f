//! Making a timeout whose calls run on.

use tower::Layer;

use super::{Detachable, Room};
use crate::{
    pooled::PooledArc,
    timeout::{ReadyTimeoutLayer, TimeoutLayer, layer::Shared},
};

impl<F> TimeoutLayer<F> {
    /// Lets a call run on, as a task of its own, when its limit passes or its caller drops it: for calls
    /// with side effects that must not be cut in half. The caller is told as ever, and what comes of the
    /// call then is dropped.
    ///
    /// At most `max` calls run on at a time; zero lets none, and more than 2,097,151 counts as that. Where
    /// they are as many, the next is cut at its limit as it would be without this. If none may ever be cut,
    /// put a [bulkhead](crate::bulkhead) below this layer: it counts those that run on too, and refuses a
    /// call before it begins. Let it have fewer permits than `max`, by as many as the runtime has threads,
    /// for a call that has just ended keeps its place a moment longer than its permit.
    ///
    /// See the [module docs](crate::timeout#calls-that-run-on) for what it costs and where it ends.
    pub fn detached(self, max: usize) -> DetachedTimeoutLayer<Self> {
        let shared = self.shared.clone();
        DetachedTimeoutLayer::new(self, shared, max)
    }
}

impl<L> ReadyTimeoutLayer<L> {
    /// Lets a call run on that the caller no longer waits for; see [`TimeoutLayer::detached`]. One that
    /// still waits for the inner service to be ready has not begun, and is dropped.
    pub fn detached(self, max: usize) -> DetachedTimeoutLayer<Self> {
        let shared = self.timeout.shared.clone();
        DetachedTimeoutLayer::new(self, shared, max)
    }
}

/// Applies a timeout whose calls run on to a service; made by [`TimeoutLayer::detached`].
///
/// All services made by one layer, or by its clones, share the bound.
///
/// See the [module docs](crate::timeout#calls-that-run-on) for an example.
#[derive(Clone, Debug)]
#[must_use]
pub struct DetachedTimeoutLayer<T = TimeoutLayer> {
    timeout: T,
    room: PooledArc<Room>,
}

impl<T> DetachedTimeoutLayer<T> {
    pub(in crate::timeout) fn new(timeout: T, shared: PooledArc<Shared>, max: usize) -> Self {
        let room = PooledArc::new(Room::new(shared, max));
        Self { timeout, room }
    }

    /// Sees the calls that run on.
    #[must_use]
    pub fn handle(&self) -> DetachedTimeoutHandle {
        let room = self.room.clone();
        DetachedTimeoutHandle { room }
    }
}

impl<S, T: Layer<Detachable<S>>> Layer<S> for DetachedTimeoutLayer<T> {
    type Service = T::Service;

    fn layer(&self, inner: S) -> Self::Service {
        self.timeout
            .layer(Detachable::new(inner, self.room.clone()))
    }
}

/// Sees the calls that run on; made by [`DetachedTimeoutLayer::handle`]. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DetachedTimeoutHandle {
    room: PooledArc<Room>,
}

impl DetachedTimeoutHandle {
    /// The name of the layer.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.room.timeout.telemetry.name()
    }

    /// How many calls may run on at a time.
    #[must_use]
    pub fn max(&self) -> usize {
        self.room.slots.load().limit as usize
    }

    /// How many calls run on.
    #[must_use]
    pub fn detached(&self) -> usize {
        self.room.slots.load().taken as usize
    }
}
