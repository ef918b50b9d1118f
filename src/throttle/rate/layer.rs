//! The layer.

use tower::Layer;

use super::{
    AdaptiveRate, AdaptiveRateBuilder, AdaptiveRateHandle,
    handle::Hold,
    settings::Settings,
    shared::{Around, Shared},
};
use crate::{error::InvalidSetting, pooled::PooledArc, sync::ConstArc, until::Answered};

/// Applies [`AdaptiveRate`] to a service.
///
/// All services made by one layer, or by its clones, share one rate.
///
/// See the [module docs](super) for an example.
#[derive(Clone, Debug)]
#[must_use]
pub struct AdaptiveRateLayer<C, U = Answered> {
    shared: PooledArc<Shared>,
    classifier: C,
    until: U,
}

impl<C> AdaptiveRateLayer<C> {
    /// An adaptive rate with all settings at their defaults. `classifier` says which failures are
    /// [overload](crate::classify::Failure::overload), which is to throttle: with one that never does, such
    /// as [`AnyError`](crate::classify::AnyError), calls would never be limited.
    pub fn new(classifier: C) -> Self {
        let built = Self::builder(classifier).build();
        built.expect("the defaults are in range")
    }

    /// Begins an adaptive rate; see [`new`](Self::new).
    pub const fn builder(classifier: C) -> AdaptiveRateBuilder<C> {
        AdaptiveRateBuilder::new(classifier)
    }
}

impl<C, U> AdaptiveRateLayer<C, U> {
    /// # Errors
    ///
    /// If a setting is outside its range.
    pub(super) fn with(
        settings: &Settings,
        classifier: C,
        until: U,
    ) -> Result<Self, InvalidSetting> {
        let around = ConstArc::new(Around::new(settings, false)?);
        Ok(Self {
            shared: PooledArc::new(Shared::new(&around)),
            classifier,
            until,
        })
    }

    /// Sees and steers the rate.
    #[must_use]
    pub fn handle(&self) -> AdaptiveRateHandle {
        let shared = Hold::OfLayer(self.shared.clone());
        AdaptiveRateHandle { shared }
    }
}

impl<S, C: Clone, U: Clone> Layer<S> for AdaptiveRateLayer<C, U> {
    type Service = AdaptiveRate<S, C, U>;

    fn layer(&self, inner: S) -> Self::Service {
        let Self {
            shared,
            classifier,
            until,
        } = self.clone();
        AdaptiveRate::new(inner, shared, classifier, until)
    }
}
