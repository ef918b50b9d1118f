//! The layer.

use tower::Layer;

use super::{
    LoadShed, LoadShedBuilder, LoadShedHandle, Priorities, settings::Settings, shared::Shared,
};
use crate::{error::InvalidSetting, pooled::PooledArc, until::Answered};

/// Applies [`LoadShed`] to a service.
///
/// All services made by one layer, or by its clones, are one server: they share its load, and what is shed.
///
/// See the [module docs](super) for an example.
#[derive(Clone, Debug)]
#[must_use]
pub struct LoadShedLayer<P = Priorities, U = Answered> {
    shared: PooledArc<Shared>,
    priorities: P,
    until: U,
}

impl LoadShedLayer {
    /// Begins a layer. It needs a signal of load, of which the builder has several, or a bound for a service
    /// that is not ready.
    pub const fn builder() -> LoadShedBuilder {
        LoadShedBuilder::new()
    }
}

impl<P, U> LoadShedLayer<P, U> {
    /// # Errors
    ///
    /// If a setting is outside its range.
    pub(super) fn with(
        settings: Settings,
        priorities: P,
        until: U,
    ) -> Result<Self, InvalidSetting> {
        Ok(Self {
            shared: PooledArc::new(Shared::new(settings)?),
            priorities,
            until,
        })
    }

    /// Sees and steers the layer.
    #[must_use]
    pub fn handle(&self) -> LoadShedHandle {
        let shared = self.shared.clone();
        LoadShedHandle { shared }
    }
}

impl<S, P: Clone, U: Clone> Layer<S> for LoadShedLayer<P, U> {
    type Service = LoadShed<S, P, U>;

    fn layer(&self, inner: S) -> Self::Service {
        let Self {
            shared,
            priorities,
            until,
        } = self.clone();
        LoadShed::new(inner, shared, priorities, until)
    }
}
