//! The layer.

use tower::Layer;

use super::{
    Throttle, ThrottleBuilder, ThrottleHandle,
    handle::Hold,
    settings::Settings,
    shared::{Around, Shared},
};
use crate::{error::InvalidSetting, pooled::PooledArc, sync::ConstArc, until::Answered};

/// Applies [`Throttle`] to a service.
///
/// All services made by one layer, or by its clones, share one throttle.
///
/// See the [module docs](super) for an example.
#[derive(Clone, Debug)]
#[must_use]
pub struct ThrottleLayer<C, U = Answered> {
    shared: PooledArc<Shared>,
    classifier: C,
    until: U,
}

impl<C> ThrottleLayer<C> {
    /// A throttle with all settings at their defaults. `classifier` says which failures are
    /// [overload](crate::classify::Failure::overload): with one that never does, such as
    /// [`AnyError`](crate::classify::AnyError), nothing would be refused.
    pub fn new(classifier: C) -> Self {
        let built = Self::builder(classifier).build();
        built.expect("the defaults are in range")
    }

    /// Begins a throttle; see [`new`](Self::new).
    pub const fn builder(classifier: C) -> ThrottleBuilder<C> {
        ThrottleBuilder::new(classifier)
    }
}

impl<C, U> ThrottleLayer<C, U> {
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

    /// Sees and steers the throttle.
    #[must_use]
    pub fn handle(&self) -> ThrottleHandle {
        let shared = Hold::OfLayer(self.shared.clone());
        ThrottleHandle { shared }
    }
}

impl<S, C: Clone, U: Clone> Layer<S> for ThrottleLayer<C, U> {
    type Service = Throttle<S, C, U>;

    fn layer(&self, inner: S) -> Self::Service {
        let Self {
            shared,
            classifier,
            until,
        } = self.clone();
        Throttle::new(inner, shared, classifier, until)
    }
}
