//! The layer.

use tower::Layer;

use super::{
    Adaptive, AdaptiveBuilder, AdaptiveHandle, BackPressureAdaptiveLayer, QueuedAdaptive,
    builder::Own, sampled::All, shared::Shared,
};
use crate::{classify::AnyError, partitions::Whole, pooled::PooledArc, until::Answered};

/// Applies [`Adaptive`] to a service.
///
/// All services made by one layer, or by its clones, share the same limit.
///
/// See the [module docs](super) for an example.
#[derive(Clone, Debug)]
#[must_use]
pub struct AdaptiveLayer<C = AnyError, F = All, U = Answered, D = Whole> {
    shared: PooledArc<Shared>,
    classifier: C,
    sampled: F,
    until: U,
    divided: D,
}

impl AdaptiveLayer {
    /// Begins the settings of a limit that [`Knee`](super::Knee) adapts.
    pub fn builder() -> AdaptiveBuilder {
        AdaptiveBuilder::new()
    }
}

impl<C, F, U, D> AdaptiveLayer<C, F, U, D> {
    pub(super) fn new(shared: Shared, own: Own<C, F, U, D>) -> Self {
        let Own {
            classifier,
            sampled,
            until,
            divided,
        } = own;
        Self {
            shared: PooledArc::new(shared),
            classifier,
            sampled,
            until,
            divided,
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
            divided: Whole,
        } = self.clone();
        BackPressureAdaptiveLayer {
            shared,
            classifier,
            sampled,
            until,
        }
    }
}

impl<S, C: Clone, F: Clone, U: Clone, D: Clone> Layer<S> for AdaptiveLayer<C, F, U, D> {
    type Service = Adaptive<S, C, F, U, D>;

    fn layer(&self, inner: S) -> Self::Service {
        let Self {
            shared,
            classifier,
            sampled,
            until,
            divided,
        } = self.clone();
        Adaptive::new(inner, shared, classifier, sampled, until, divided)
    }
}

/// Applies [`QueuedAdaptive`] to a service; made by [`AdaptiveBuilder::queue`].
///
/// All services made by one layer, or by its clones, share the same limit and the same queue.
///
/// See the [module docs](super) for an example.
#[derive(Clone, Debug)]
#[must_use]
pub struct QueuedAdaptiveLayer<C = AnyError, F = All, U = Answered, D = Whole> {
    shared: PooledArc<Shared>,
    classifier: C,
    sampled: F,
    until: U,
    divided: D,
}

impl<C, F, U, D> QueuedAdaptiveLayer<C, F, U, D> {
    pub(super) fn new(shared: Shared, own: Own<C, F, U, D>) -> Self {
        let Own {
            classifier,
            sampled,
            until,
            divided,
        } = own;
        Self {
            shared: PooledArc::new(shared),
            classifier,
            sampled,
            until,
            divided,
        }
    }

    /// Sees and steers the limit.
    #[must_use]
    pub fn handle(&self) -> AdaptiveHandle {
        let shared = self.shared.clone();
        AdaptiveHandle { shared }
    }
}

impl<S, C: Clone, F: Clone, U: Clone, D: Clone> Layer<S> for QueuedAdaptiveLayer<C, F, U, D> {
    type Service = QueuedAdaptive<S, C, F, U, D>;

    fn layer(&self, inner: S) -> Self::Service {
        let Self {
            shared,
            classifier,
            sampled,
            until,
            divided,
        } = self.clone();
        QueuedAdaptive::new(inner, shared, classifier, sampled, until, divided)
    }
}
