//! What counts as a failure: said once for a service, obeyed by every layer.
//!
//! A [`Classify`] turns the result of a call into a [`Verdict`]. Hand the same one to every layer of
//! a stack: retry, circuit breaker and the others then never disagree about what went wrong. Any
//! closure of the right shape is one; [`AnyError`], the default, takes every error for a failure.
//!
//! What this crate itself refused is never put to a classifier: it is not the dependency's failure,
//! so no breaker counts it and no retry repeats it.
//!
//! # Example
//!
//! ```
//! use std::io;
//! use steadfast::classify::{AnyError, Classify, Failure, Verdict};
//!
//! // Not found is an answer, not a failure of the store.
//! let classifier = |result: Result<&Vec<u8>, &io::Error>| match result {
//!     Err(error) if error.kind() == io::ErrorKind::NotFound => Verdict::Success,
//!     other => AnyError.classify(other),
//! };
//!
//! let not_found = io::Error::from(io::ErrorKind::NotFound);
//! assert_eq!(classifier.classify(Err(&not_found)), Verdict::Success);
//! let broken = io::Error::from(io::ErrorKind::BrokenPipe);
//! assert_eq!(classifier.classify(Err(&broken)), Failure::transient().into());
//! ```

use std::time::Duration;

use crate::{
    origin::{self, Origin},
    reported::ReportedLoad,
};

/// What the result of a call says about the service that was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(
    clippy::exhaustive_enums,
    reason = "three-valued by design; what grows is `Failure`"
)]
pub enum Verdict {
    /// The service did its work, whatever the caller thinks of the answer.
    Success,
    /// The service failed.
    Failure(Failure),
    /// The result says nothing about the service: it enters no count.
    Ignored,
}

/// A failed call: of which kind, and what the service said about trying again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    kind: FailureKind,
    hint: Option<Hint>,
    is_retryable: bool,
}

/// Of which kind a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FailureKind {
    /// May well succeed if tried again.
    Transient,
    /// The service has too much to do; trying again adds to it.
    Overload,
    /// No answer in time. The service may have acted.
    Timeout,
    /// Trying again would fail again.
    Permanent,
    /// The request did not get as far as the service, which so cannot have acted.
    NeverSent,
}

impl FailureKind {
    pub(crate) const COUNT: usize = Self::NeverSent as usize + 1;
}

/// What a failed service said about trying again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "there is nothing else to be said")]
pub enum Hint {
    /// Not before this delay is over.
    After(Duration),
    /// Not at all.
    Never,
}

impl Failure {
    pub(crate) const fn of(kind: FailureKind) -> Self {
        Self {
            kind,
            hint: None,
            is_retryable: !matches!(kind, FailureKind::Permanent),
        }
    }

    /// A failure that may well be gone at the next try.
    #[must_use]
    pub const fn transient() -> Self {
        Self::of(FailureKind::Transient)
    }

    /// A failure because the service has too much to do.
    #[must_use]
    pub const fn overload() -> Self {
        Self::of(FailureKind::Overload)
    }

    /// A failure to answer in time.
    #[must_use]
    pub const fn timeout() -> Self {
        Self::of(FailureKind::Timeout)
    }

    /// A failure that another try would only repeat.
    #[must_use]
    pub const fn permanent() -> Self {
        Self::of(FailureKind::Permanent)
    }

    /// A failure to get the request as far as the service: it could not be connected to, or refused the
    /// stream before it looked at it (HTTP/2's `REFUSED_STREAM`, a stream beyond the last of a `GOAWAY`).
    ///
    /// A failure of the dependency like any other to a circuit breaker. A retry sends the request again
    /// at once, and again even where that would not be safe had the service seen it: **to be said only
    /// of what cannot have been seen.**
    #[must_use]
    pub const fn never_sent() -> Self {
        Self::of(FailureKind::NeverSent)
    }

    /// Adds what the service said about trying again.
    #[must_use]
    pub const fn with_hint(mut self, hint: Hint) -> Self {
        self.hint = Some(hint);
        self
    }

    /// Says that the failure is not to be tried again, whatever its kind: not because the service said so,
    /// which is a [`Hint::Never`], but because it is not for this kind of call.
    #[must_use]
    pub const fn non_retryable(mut self) -> Self {
        self.is_retryable = false;
        self
    }

    /// Whether the failure may be tried again, as far as the classifier goes. Those that are
    /// [permanent](Self::permanent) may not.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        self.is_retryable
    }

    /// Of which kind the failure is.
    #[must_use]
    pub const fn kind(&self) -> FailureKind {
        self.kind
    }

    /// What the service said about trying again, if anything.
    #[must_use]
    pub const fn hint(&self) -> Option<Hint> {
        self.hint
    }
}

impl From<Failure> for Verdict {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// Judges the results of calls to a service.
///
/// Implemented for closures. Classifiers are cloned into every call, so they should be cheap to
/// clone: best are those that, like a closure without captures, have no size.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot judge a result of `Result<{Res}, {Err}>`",
    note = "a closure can: `|result: Result<&{Res}, &{Err}>| -> steadfast::Verdict {{ .. }}`"
)]
pub trait Classify<Res, Err> {
    /// What `result` says about the service that gave it.
    fn classify(&self, result: Result<&Res, &Err>) -> Verdict;

    /// What it says when a layer of this crate stopped waiting and made `error` of it.
    ///
    /// A [`Failure::timeout`] unless implemented otherwise.
    fn classify_timed_out(&self, error: &Err) -> Verdict {
        let _ = error;
        Failure::timeout().into()
    }

    /// What a response says of the load of the service, to a layer that was told to
    /// [heed](crate::throttle::ThrottleBuilder::heed_load) it.
    #[doc(hidden)]
    #[inline]
    fn reported_load(&self, response: &Res) -> Option<ReportedLoad> {
        let _ = response;
        None
    }
}

impl<F, Res, Err> Classify<Res, Err> for F
where
    F: Fn(Result<&Res, &Err>) -> Verdict,
{
    fn classify(&self, result: Result<&Res, &Err>) -> Verdict {
        self(result)
    }
}

/// Takes every error for a [`Failure::transient`] and every response for a success.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::exhaustive_structs, reason = "the name says all that it does")]
pub struct AnyError;

impl<Res, Err> Classify<Res, Err> for AnyError {
    fn classify(&self, result: Result<&Res, &Err>) -> Verdict {
        match result {
            Ok(_) => Verdict::Success,
            Err(_) => Failure::transient().into(),
        }
    }
}

/// A verdict on a call, or that the dependency never saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    Seen(Verdict),
    RejectedBelow,
}

impl Judgement {
    #[inline]
    pub(crate) const fn is_success(self) -> bool {
        matches!(self, Self::Seen(Verdict::Success))
    }
}

/// Judges a result that a poll since [`origin::clear`] came back with.
pub(crate) fn judge<C, Res, Err>(classifier: &C, result: &Result<Res, Err>) -> Judgement
where
    C: Classify<Res, Err>,
{
    let verdict = match result {
        Ok(response) => classifier.classify(Ok(response)),
        Err(error) => match origin::read() {
            Origin::Rejected => return Judgement::RejectedBelow,
            Origin::TimedOut => classifier.classify_timed_out(error),
            Origin::Inner => classifier.classify(Err(error)),
        },
    };
    Judgement::Seen(verdict)
}
