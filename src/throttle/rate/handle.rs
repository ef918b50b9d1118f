//! Seeing and steering a rate from outside.

use std::ops::Deref;

use super::{Mode, shared::Shared};
use crate::{keyed::Held, pooled::PooledArc};

/// Sees and steers the rate of a layer, or of a key; made by [`AdaptiveRateLayer::handle`] or
/// [`KeyedAdaptiveRateHandle::get`]. Cheap to clone.
///
/// [`AdaptiveRateLayer::handle`]: super::AdaptiveRateLayer::handle
/// [`KeyedAdaptiveRateHandle::get`]: super::KeyedAdaptiveRateHandle::get
#[derive(Clone, Debug)]
pub struct AdaptiveRateHandle {
    pub(super) shared: Hold,
}

/// The rate that a handle steers.
#[derive(Clone, Debug)]
pub(super) enum Hold {
    OfLayer(PooledArc<Shared>),
    OfKey(Held<Shared>),
}

impl Deref for Hold {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        match self {
            Self::OfLayer(shared) => shared,
            Self::OfKey(shared) => shared,
        }
    }
}

impl AdaptiveRateHandle {
    /// The name of the layer.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.shared.telemetry.name()
    }

    /// What the layer may do by itself.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.shared.mode.get()
    }

    /// Sets the mode of the layer, and so of the rates of all its keys. What has been learned stays.
    pub fn set_mode(&self, mode: Mode) {
        self.shared.mode.set(mode, &self.shared.telemetry);
    }

    /// All there is to see at this moment. To look changes nothing.
    #[must_use]
    pub fn snapshot(&self) -> AdaptiveRateSnapshot {
        let learner = &self.shared.learner;
        AdaptiveRateSnapshot {
            rate: learner.limit(),
            measured_rate: learner.measured_rate(),
        }
    }

    /// Limits calls no more, until the service throttles one again. What is measured stays.
    pub fn reset(&self) {
        self.shared.learner.forget();
    }
}

/// A rate at one moment; see [`AdaptiveRateHandle::snapshot`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct AdaptiveRateSnapshot {
    /// By how many calls a second calls go, as of the last answer. `None` while calls are not limited:
    /// before the service throttles one, and when it has not for [long](super::AdaptiveRateBuilder::forget_after).
    pub rate: Option<f64>,
    /// How many a second were answered of late, as of the last answer.
    pub measured_rate: f64,
}
