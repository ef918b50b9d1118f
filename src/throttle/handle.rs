//! Seeing and steering a throttle from outside.

use std::ops::Deref;

use super::{Mode, shared::Shared};
use crate::{context::Criticality, keyed::Held, pooled::PooledArc};

/// Sees and steers the throttle of a layer, or of a key; made by [`ThrottleLayer::handle`] or
/// [`KeyedThrottleHandle::get`]. Cheap to clone.
///
/// [`ThrottleLayer::handle`]: super::ThrottleLayer::handle
/// [`KeyedThrottleHandle::get`]: super::KeyedThrottleHandle::get
#[derive(Clone, Debug)]
pub struct ThrottleHandle {
    pub(super) shared: Hold,
}

/// The throttle that a handle steers.
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

impl ThrottleHandle {
    /// The name of the layer.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.shared.telemetry.name()
    }

    /// What the throttle may do by itself.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.shared.mode.get()
    }

    /// Sets the mode of the layer, and so of the throttles of all its keys.
    ///
    /// What has been counted stays, and is forgotten as time goes on.
    pub fn set_mode(&self, mode: Mode) {
        self.shared.mode.set(mode, &self.shared.telemetry);
    }

    /// What is known now of the requests of a criticality; of all, where they are not [counted
    /// apart](super::ThrottleBuilder::by_criticality). To look changes nothing.
    #[must_use]
    pub fn snapshot(&self, criticality: Criticality) -> ThrottleSnapshot {
        let (requests, reject_probability) = self.shared.look(criticality);
        ThrottleSnapshot {
            requests: requests.total(),
            accepts: requests.accepted,
            reject_probability,
        }
    }

    /// Forgets all requests, so that nothing is refused until there is new reason to.
    pub fn reset(&self) {
        self.shared.forget();
    }
}

/// The requests of a criticality at one moment; see [`ThrottleHandle::snapshot`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct ThrottleSnapshot {
    /// Requests in the window, those refused here among them.
    pub requests: u64,
    /// Those of them that the service accepted.
    pub accepts: u64,
    /// With which probability the next one is refused, by the formula or for what the service
    /// [reports](super#reports), where the throttle is not [disabled](Mode::Disabled).
    pub reject_probability: f64,
}
