//! Seeing and steering a breaker from outside.

use std::{ops::Deref, time::Duration};

use super::{cause::Cause, layer::Shared, trip::Statistics, word::State};
use crate::{
    keyed::Held,
    pooled::PooledArc,
    time::{self, Instant, nanos},
};

/// Sees and steers the breaker of a layer, or of a key; made by [`CircuitBreakerLayer::handle`] or
/// [`KeyedCircuitBreakerHandle::get`].
///
/// Cheap to clone. Looking takes no probe's place and changes nothing: a breaker whose open time is
/// over shows as open until a call finds out.
///
/// [`CircuitBreakerLayer::handle`]: super::CircuitBreakerLayer::handle
/// [`KeyedCircuitBreakerHandle::get`]: super::KeyedCircuitBreakerHandle::get
#[derive(Clone, Debug)]
pub struct CircuitBreakerHandle {
    pub(super) shared: Hold,
}

/// The breaker that a handle steers.
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

impl CircuitBreakerHandle {
    /// The name of the layer.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.shared.telemetry.name()
    }

    /// What the breaker does with calls now.
    #[must_use]
    pub fn state(&self) -> State {
        self.shared.machine.state()
    }

    /// All there is to see, at one moment.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.shared.machine.snapshot(&*self.shared)
    }

    /// Refuses all calls until told otherwise.
    pub fn force_open(&self) {
        self.force(State::ForcedOpen, None);
    }

    /// Refuses all calls for `duration`, then probes.
    pub fn force_open_for(&self, duration: Duration) {
        self.force(State::ForcedOpen, Some(duration));
    }

    /// Refuses all calls until `end`, then probes.
    pub fn force_open_until(&self, end: Instant) {
        self.force(State::ForcedOpen, Some(from_now_to(end)));
    }

    /// Lets all calls pass, uncounted, until told otherwise.
    pub fn force_closed(&self) {
        self.force(State::ForcedClosed, None);
    }

    /// Lets all calls pass, uncounted, for `duration`, then closes with empty windows.
    pub fn force_closed_for(&self, duration: Duration) {
        self.force(State::ForcedClosed, Some(duration));
    }

    /// Lets all calls pass, uncounted, until `end`, then closes with empty windows.
    pub fn force_closed_until(&self, end: Instant) {
        self.force(State::ForcedClosed, Some(from_now_to(end)));
    }

    fn force(&self, to: State, duration: Option<Duration>) {
        let machine = &self.shared.machine;
        machine.force(to, duration.map(nanos), &*self.shared);
    }

    /// Closes the breaker with empty windows, its open time back at the start. Ends a forced state.
    pub fn reset(&self) {
        self.shared.machine.reset(&*self.shared);
    }
}

fn from_now_to(end: Instant) -> Duration {
    end.saturating_duration_since(time::now())
}

/// A breaker at one moment; see [`CircuitBreakerHandle::snapshot`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// What the breaker does with calls.
    pub state: State,
    /// Why it is in that state; `None` where it has never changed.
    pub cause: Option<Cause>,
    /// When the open or forced state ends; zero once it is due. From then on the next call to an open
    /// breaker is a probe. `None` in a state that time does not end.
    pub ends_in: Option<Duration>,
    /// What it has counted, where it is closed; nothing else.
    pub statistics: Statistics,
}
