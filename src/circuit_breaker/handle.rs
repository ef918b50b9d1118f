//! Seeing and steering a breaker from outside.

use std::{ops::Deref, time::Duration};

use super::{
    cause::Cause, changes::StateChanges, layer::Shared, mode::Mode, trip::Statistics, word::State,
};
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

    /// What the breaker may do by itself.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.shared.machine.mode()
    }

    /// Tells of each change of state from now on, however slowly it is read. Where there are keys, of
    /// those of all breakers.
    #[must_use]
    pub fn state_changes(&self) -> StateChanges {
        self.shared.listeners.subscribe()
    }

    /// All there is to see, at one moment.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.shared.machine.snapshot(&*self.shared)
    }

    /// Sets the mode, until told otherwise.
    ///
    /// Between [`Mode::Enabled`] and [`Mode::ObserveOnly`] state and counts stay as they are: a shadow
    /// that is open refuses calls as soon as it is enabled. Where either of the two ends a mode in which
    /// the breaker was held, it goes on as if the time for that were over: it probes after
    /// [`Mode::ForcedOpen`], and closes with empty windows after [`Mode::ForcedClosed`] and
    /// [`Mode::Disabled`].
    pub fn set_mode(&self, mode: Mode) {
        match mode.held_state() {
            Some(state) => self.force(state, None),
            None => {
                let observes = mode == Mode::ObserveOnly;
                self.shared.machine.run_by_rules(observes, &*self.shared);
            }
        }
    }

    /// Refuses all calls until told otherwise: [`Mode::ForcedOpen`].
    pub fn force_open(&self) {
        self.force(State::ForcedOpen, None);
    }

    /// Refuses all calls for `duration`, then probes, enabled or as a shadow, whichever it was.
    pub fn force_open_for(&self, duration: Duration) {
        self.force(State::ForcedOpen, Some(duration));
    }

    /// [`force_open_for`](Self::force_open_for), until `end`.
    pub fn force_open_until(&self, end: Instant) {
        self.force(State::ForcedOpen, Some(from_now_to(end)));
    }

    /// Lets all calls pass until told otherwise: [`Mode::ForcedClosed`].
    pub fn force_closed(&self) {
        self.force(State::ForcedClosed, None);
    }

    /// Lets all calls pass for `duration`, then closes with empty windows, enabled or as a shadow,
    /// whichever it was.
    pub fn force_closed_for(&self, duration: Duration) {
        self.force(State::ForcedClosed, Some(duration));
    }

    /// [`force_closed_for`](Self::force_closed_for), until `end`.
    pub fn force_closed_until(&self, end: Instant) {
        self.force(State::ForcedClosed, Some(from_now_to(end)));
    }

    fn force(&self, to: State, duration: Option<Duration>) {
        let machine = &self.shared.machine;
        machine.force(to, duration.map(nanos), &*self.shared);
    }

    /// Closes the breaker with empty windows, its open time back at the start. Ends what was forced or
    /// disabled; a shadow stays one.
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
    /// What it may do by itself.
    pub mode: Mode,
    /// Why it is in that state; `None` where it has never changed.
    pub cause: Option<Cause>,
    /// When the open, recovering or forced state ends; zero once it is due. From then on the next call
    /// to an open breaker is a probe. `None` in a state that time does not end.
    pub ends_in: Option<Duration>,
    /// Calls that it let pass only because it was to observe, since it was built.
    pub spared: u64,
    /// What it has counted since it is closed, recovering or forced closed; nothing in another state.
    pub statistics: Statistics,
}
