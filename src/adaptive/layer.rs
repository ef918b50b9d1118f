//! The layer.

use tower::Layer;

use super::{
    Adaptive, AdaptiveBuilder, AdaptiveHandle, BackPressureAdaptiveLayer, QueuedAdaptive,
    sampled::All, shared::Shared,
};
use crate::{classify::AnyError, pooled::PooledArc, until::Answered};

/// Applies [`Adaptive`] to a service.
///
/// All services made by one layer, or by its clones, share the same limit.
///
/// See the [module docs](super) for an example.
#[derive(Clone, Debug)]
#[must_use]
pub struct AdaptiveLayer<C = AnyError, F = All, U = Answered> {
    shared: PooledArc<Shared>,
    classifier: C,
    sampled: F,
    until: U,
}

impl AdaptiveLayer {
    /// Begins the settings of a limit that [`Knee`](super::Knee) adapts.
    pub fn builder() -> AdaptiveBuilder {
        AdaptiveBuilder::new()
    }
}

impl<C, F, U> AdaptiveLayer<C, F, U> {
    pub(super) fn new(shared: Shared, classifier: C, sampled: F, until: U) -> Self {
        Self {
            shared: PooledArc::new(shared),
            classifier,
            sampled,
            until,
        }
    }

    /// Sees and steers the limit.
    #[must_use]
    pub fn handle(&self) -> AdaptiveHandle {
        let shared = self.shared.clone();
        AdaptiveHandle { shared }
    }
}

impl<C: Clone, F: Clone, U: Clone> AdaptiveLayer<C, F, U> {
    /// The same limit, for services that are not ready while it is reached.
    pub fn back_pressure(&self) -> BackPressureAdaptiveLayer<C, F, U> {
        let Self {
            shared,
            classifier,
            sampled,
            until,
        } = self.clone();
        BackPressureAdaptiveLayer {
            shared,
            classifier,
            sampled,
            until,
        }
    }
}

impl<S, C: Clone, F: Clone, U: Clone> Layer<S> for AdaptiveLayer<C, F, U> {
    type Service = Adaptive<S, C, F, U>;

    fn layer(&self, inner: S) -> Self::Service {
        let Self {
            shared,
            classifier,
            sampled,
            until,
        } = self.clone();
        Adaptive::new(inner, shared, classifier, sampled, until)
    }
}

/// Applies [`QueuedAdaptive`] to a service; made by [`AdaptiveBuilder::queue`].
///
/// All services made by one layer, or by its clones, share the same limit and the same queue.
///
/// See the [module docs](super) for an example.
#[derive(Clone, Debug)]
#[must_use]
pub struct QueuedAdaptiveLayer<C = AnyError, F = All, U = Answered> {
    shared: PooledArc<Shared>,
    classifier: C,
    sampled: F,
    until: U,
}

impl<C, F, U> QueuedAdaptiveLayer<C, F, U> {
    pub(super) fn new(shared: Shared, classifier: C, sampled: F, until: U) -> Self {
        Self {
            shared: PooledArc::new(shared),
            classifier,
            sampled,
            until,
        }
    }

    /// Sees and steers the limit.
    #[must_use]
    pub fn handle(&self) -> AdaptiveHandle {
        let shared = self.shared.clone();
        AdaptiveHandle { shared }
    }
}

impl<S, C: Clone, F: Clone, U: Clone> Layer<S> for QueuedAdaptiveLayer<C, F, U> {
    type Service = QueuedAdaptive<S, C, F, U>;

    fn layer(&self, inner: S) -> Self::Service {
        let Self {
            shared,
            classifier,
            sampled,
            until,
        } = self.clone();
        QueuedAdaptive::new(inner, shared, classifier, sampled, until)
    }
}
