//! What became of a call.

use std::time::Duration;

use crate::error::{Error, Reason};

/// What became of a call, as its caller sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// Answered in time.
    Good,
    /// Answered, but [too late](super::Load::good_within).
    Late,
    /// Failed by the service.
    Failed,
    /// Given up by a layer.
    TimedOut,
    /// Refused by a layer.
    Refused(Reason),
    /// Still without an end when the load was over, and [some time](super::Load::patience) had passed.
    Pending,
}

impl<T, E> From<Result<T, Error<E>>> for Outcome {
    fn from(result: Result<T, Error<E>>) -> Self {
        match result {
            Ok(_) => Self::Good,
            Err(Error::Inner(_)) => Self::Failed,
            Err(Error::Rejected(rejected)) => Self::Refused(rejected.reason()),
            Err(Error::TimedOut(_)) => Self::TimedOut,
        }
    }
}

/// A call of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Call {
    /// When it was made, from the beginning of the load on.
    pub arrived: Duration,
    /// From then until it ended.
    pub took: Duration,
    /// What became of it.
    pub outcome: Outcome,
}

impl Call {
    pub(super) const fn begun(arrived: Duration) -> Self {
        Self {
            arrived,
            took: Duration::ZERO,
            outcome: Outcome::Pending,
        }
    }
}
