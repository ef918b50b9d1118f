//! The error of a lifted service.

use super::{Rejected, TimedOut};

/// The error of a service whose own error `E` cannot hold a [`Rejected`] or a [`TimedOut`].
///
/// Made by [`LiftLayer`](super::LiftLayer), once, at the bottom of a stack; however many layers
/// stand above, it does not nest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error<E> {
    /// The inner service failed, in its own words.
    #[error(transparent)]
    Inner(E),
    /// A layer refused the call; the inner service never saw it.
    // Not transparent: that would keep the refusal itself out of the chain of sources.
    #[error("{0}")]
    Rejected(#[from] Rejected),
    /// A layer stopped waiting; the inner service may have acted.
    #[error("{0}")]
    TimedOut(#[from] TimedOut),
}

impl<E> Error<E> {
    /// The inner service's error, if it is one.
    #[must_use]
    pub const fn inner(&self) -> Option<&E> {
        match self {
            Self::Inner(error) => Some(error),
            _ => None,
        }
    }

    /// The inner service's error by value, or else `self` again.
    ///
    /// # Errors
    ///
    /// Returns `self` where this crate, not the inner service, ended the call.
    pub fn into_inner(self) -> Result<E, Self> {
        match self {
            Self::Inner(error) => Ok(error),
            other => Err(other),
        }
    }

    /// The refusal, if it is one.
    #[must_use]
    pub const fn rejected(&self) -> Option<&Rejected> {
        match self {
            Self::Rejected(rejected) => Some(rejected),
            _ => None,
        }
    }

    /// The expiry, if it is one.
    #[must_use]
    pub const fn timed_out(&self) -> Option<&TimedOut> {
        match self {
            Self::TimedOut(timed_out) => Some(timed_out),
            _ => None,
        }
    }
}
