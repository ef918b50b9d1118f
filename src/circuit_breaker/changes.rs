//! Who is told of changes of state, and of what.

use std::{fmt, time::Duration};

use tokio::sync::broadcast::{Receiver, Sender, error::RecvError};

use super::{cause::Cause, mode::Mode, word::State};
use crate::{
    foreign,
    sync::{ConstArc, OnceLock},
    time::Instant,
};

/// A change of a breaker's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StateChange {
    /// The name of the layer.
    pub name: &'static str,
    /// How many changes of state there have been, this one included. Of two changes the one that was
    /// made later has the higher number, in whatever order they are told.
    pub number: u64,
    /// The state before it.
    pub from: State,
    /// The state after it. The same as before where it is [reset](super::CircuitBreakerHandle::reset)
    /// or forced anew.
    pub to: State,
    /// Why it changed.
    pub cause: Cause,
    /// The mode after it. With [`Mode::ObserveOnly`] no call was, or will be, refused by it.
    pub mode: Mode,
    /// When it changed.
    pub at: Instant,
    /// How long the new state lasts; `None` where time does not end it.
    pub ends_in: Option<Duration>,
    /// The time to recovery, where the breaker lets every call pass again: how long it has not, from
    /// when it first opened, over all openings since.
    pub open_for: Option<Duration>,
}

/// A user's closure that is told of changes.
#[derive(Clone)]
pub(super) struct Listener(ConstArc<dyn Fn(&StateChange) + Send + Sync>);

impl Listener {
    pub(super) fn new(listener: impl Fn(&StateChange) + Send + Sync + 'static) -> Self {
        Self(ConstArc::new(listener))
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}

/// All who are told.
#[derive(Debug)]
pub(super) struct Listeners {
    listeners: Box<[Listener]>,
    /// Made for the first who asks for it.
    stream: OnceLock<Sender<StateChange>>,
}

impl Listeners {
    /// How many changes are kept for a reader of the stream.
    const KEPT: usize = 64;

    pub(super) fn new(listeners: &[Listener]) -> Self {
        Self {
            listeners: listeners.into(),
            stream: OnceLock::new(),
        }
    }

    pub(super) fn subscribe(&self) -> StateChanges {
        let stream = self.stream.get_or_init(|| Sender::new(Self::KEPT));
        StateChanges(stream.subscribe())
    }

    /// Tells all of them; returns how many panicked. Must be called outside of any lock.
    pub(super) fn tell(&self, change: &StateChange) -> usize {
        if let Some(stream) = self.stream.get() {
            let _ = stream.send(*change); // nobody may be there any more
        }
        let panics = |Listener(listener): &&Listener| foreign::run(|| listener(change)).is_none();
        self.listeners.iter().filter(panics).count()
    }
}

/// The changes of a breaker's state, one after another; made by
/// [`CircuitBreakerHandle::state_changes`](super::CircuitBreakerHandle::state_changes).
///
/// The breaker neither waits for its readers nor grows by them: of what has not been read the last 64
/// changes are kept, for all readers together.
#[derive(Debug)]
pub struct StateChanges(Receiver<StateChange>);

impl StateChanges {
    /// The next change; `None` once the breaker is gone. That is when its layers, services, handles and
    /// calls are, and the threads that dropped them last have called other breakers or ended.
    ///
    /// Dropping the future loses no change.
    ///
    /// # Errors
    ///
    /// [`MissedChanges`] if the reader was so slow that changes were forgotten. Those still kept follow.
    pub async fn next(&mut self) -> Option<Result<StateChange, MissedChanges>> {
        match self.0.recv().await {
            Ok(change) => Some(Ok(change)),
            Err(RecvError::Lagged(count)) => Some(Err(MissedChanges { count })),
            Err(RecvError::Closed) => None,
        }
    }
}

/// Changes of state that a reader was too slow for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("missed {count} changes of state")]
#[non_exhaustive]
pub struct MissedChanges {
    /// How many.
    pub count: u64,
}
