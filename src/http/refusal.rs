//! What can be answered: a refusal or an expiry, and the errors it is found in.

use std::{error::Error as StdError, fmt, time::Duration};

use http::StatusCode;
use tower::BoxError;

use crate::{
    classify::Hint,
    error::{Error, Reason, Rejected, TimedOut},
};

/// A call that this crate ended, so that there is no response but the one made of this.
///
/// | refusal | status |
/// |---|---|
/// | [`Reason::RateLimited`] | 429 Too Many Requests |
/// | [`Reason::DeadlineExceeded`], [`TimedOut`] | 504 Gateway Timeout |
/// | [`Reason::InvalidRequest`] | 400 Bad Request |
/// | all others | 503 Service Unavailable |
///
/// Found again in the extensions of [the response](Self::to_response), for whoever stands further out
/// and wants to tell it from one of the service's own, or to put another body to it.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use steadfast::{Reason, Rejected, http::Refusal};
///
/// let rejected = Rejected::new("users", Reason::CircuitOpen)
///     .with_retry_after(Duration::from_millis(1_200));
/// let response = Refusal::from(rejected).to_response::<String>();
///
/// assert_eq!(response.status(), 503);
/// assert_eq!(response.headers()["retry-after"], "2");
/// assert!(response.body().contains(r#""reason":"circuit_open""#));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The service never saw the call.
    Rejected(Rejected),
    /// The service may have acted.
    TimedOut(TimedOut),
}

impl Refusal {
    /// The refusal that `err` is, or that `err` was caused by.
    #[must_use]
    pub fn find(err: &(dyn StdError + 'static)) -> Option<Self> {
        let rejected = Rejected::find(err).copied().map(Self::Rejected);
        rejected.or_else(|| TimedOut::find(err).copied().map(Self::TimedOut))
    }

    /// The status that answers it; see the table above.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        let reason = match self {
            Self::Rejected(rejected) => rejected.reason(),
            Self::TimedOut(_) => return StatusCode::GATEWAY_TIMEOUT,
        };
        match reason {
            Reason::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Reason::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
            Reason::InvalidRequest => StatusCode::BAD_REQUEST,
            Reason::CircuitOpen
            | Reason::BulkheadFull
            | Reason::QueueTimeout
            | Reason::LimitReached
            | Reason::Overloaded
            | Reason::Throttled => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The name of the layer that ended the call.
    #[must_use]
    pub const fn layer(&self) -> &'static str {
        match self {
            Self::Rejected(rejected) => rejected.layer(),
            Self::TimedOut(timed_out) => timed_out.layer(),
        }
    }

    /// Why it did: [`Reason::as_str`], or [`Limit::as_str`](crate::Limit::as_str).
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Rejected(rejected) => rejected.reason().as_str(),
            Self::TimedOut(timed_out) => timed_out.limit().as_str(),
        }
    }

    /// When to come back, if known.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Rejected(rejected) => rejected.retry_after(),
            Self::TimedOut(_) => None,
        }
    }

    /// What the caller is to be told about trying again, if anything.
    #[must_use]
    pub const fn hint(&self) -> Option<Hint> {
        match self {
            Self::Rejected(rejected) if !rejected.is_retryable() => Some(Hint::Never),
            _ => match self.retry_after() {
                Some(delay) => Some(Hint::After(delay)),
                None => None,
            },
        }
    }
}

impl From<Rejected> for Refusal {
    fn from(rejected: Rejected) -> Self {
        Self::Rejected(rejected)
    }
}

impl From<TimedOut> for Refusal {
    fn from(timed_out: TimedOut) -> Self {
        Self::TimedOut(timed_out)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(rejected) => rejected.fmt(f),
            Self::TimedOut(timed_out) => timed_out.fmt(f),
        }
    }
}

/// An error that may be a refusal.
///
/// Implemented for [`Error<E>`], and for [`BoxError`], in which the refusal may lie anywhere in the
/// chain of sources. Implement it for an error type of your own that has a variant for each.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be told apart from a refusal",
    label = "refusals are to be answered here, and `{Self}` has no place for them",
    note = "put `steadfast::LiftLayer` right above the service, at the bottom of the stack; its error \
            is then `steadfast::Error<{Self}>`",
    note = "for an error type of your own: `impl steadfast::http::IntoRefusal for {Self}`"
)]
pub trait IntoRefusal: Sized {
    /// What is left of the error where refusals are answered.
    type Other;

    /// The refusal, to be answered.
    ///
    /// # Errors
    ///
    /// Any other error, to be passed on.
    fn into_refusal(self) -> Result<Refusal, Self::Other>;
}

impl<E> IntoRefusal for Error<E> {
    type Other = E;

    fn into_refusal(self) -> Result<Refusal, E> {
        match self {
            Self::Inner(error) => Err(error),
            Self::Rejected(rejected) => Ok(rejected.into()),
            Self::TimedOut(timed_out) => Ok(timed_out.into()),
        }
    }
}

impl IntoRefusal for BoxError {
    type Other = Self;

    fn into_refusal(self) -> Result<Refusal, Self> {
        Refusal::find(&*self).ok_or(self)
    }
}
