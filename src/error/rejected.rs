//! The refusal: the inner service never saw the call.

use std::{error::Error as StdError, fmt, io, time::Duration};

/// A call that a layer of this crate refused.
///
/// The inner service never saw the request, so sending it again, or sending it elsewhere, cannot
/// repeat a side effect. Against the same dependency it is usually pointless to do so at once:
/// [`retry_after`](Self::retry_after) tells when it may make sense, where the layer knows.
///
/// The text printed by [`Display`](fmt::Display) is for people and may change in any release. Use
/// [`reason`](Self::reason) to tell one refusal from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejected {
    layer: &'static str,
    reason: Reason,
    retry_after: Option<Duration>,
    is_retryable: bool,
}

/// Why a call was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// A circuit breaker is open, or half-open with all its probes in flight.
    CircuitOpen,
    /// A bulkhead has all its calls in flight and its queue, if any, full; or the call has left its place
    /// there to a more critical one.
    BulkheadFull,
    /// The call waited for its turn as long as it was allowed to.
    QueueTimeout,
    /// A concurrency limit is reached.
    LimitReached,
    /// The caller, or the service as a whole, sends more than its rate.
    RateLimited,
    /// The service sheds load, or the call has waited for too long in a queue that does not drain.
    Overloaded,
    /// The client holds calls back from a dependency that refuses too many.
    Throttled,
    /// The deadline of the request had passed before the inner service was called.
    DeadlineExceeded,
    /// A header of the request that the service must understand is malformed.
    InvalidRequest,
}

impl Reason {
    pub(crate) const COUNT: usize = Self::InvalidRequest as usize + 1;

    /// The reason as metrics and events spell it, for example `circuit_open`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CircuitOpen => "circuit_open",
            Self::BulkheadFull => "bulkhead_full",
            Self::QueueTimeout => "queue_timeout",
            Self::LimitReached => "limit_reached",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::Throttled => "throttled",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::InvalidRequest => "invalid_request",
        }
    }

    const fn describe(self) -> &'static str {
        match self {
            Self::CircuitOpen => "circuit breaker is open",
            Self::BulkheadFull => "bulkhead is full",
            Self::QueueTimeout => "waited too long for a turn",
            Self::LimitReached => "concurrency limit is reached",
            Self::RateLimited => "rate limit is reached",
            Self::Overloaded => "service is overloaded",
            Self::Throttled => "calls are throttled",
            Self::DeadlineExceeded => "deadline had passed before the call",
            Self::InvalidRequest => "request is malformed",
        }
    }
}

impl Rejected {
    /// A refusal by the layer called `layer`. For layers of your own that refuse as ours do.
    #[must_use]
    pub const fn new(layer: &'static str, reason: Reason) -> Self {
        Self {
            layer,
            reason,
            retry_after: None,
            is_retryable: true,
        }
    }

    /// Tells the caller not to come back before `delay` is over.
    #[must_use]
    pub const fn with_retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    /// Tells the caller not to come back at all, here or elsewhere: for a service that knows that its
    /// peers have too much to do as well, and that further tries would only add to it. What is known of
    /// [a time to come back](Self::with_retry_after) is then not told.
    ///
    /// What edges make of it: [`Refusal::to_response`](crate::http::Refusal::to_response) and the
    /// [`grpc`](crate::grpc) module. To say it of refusals that others make, turn them into it with
    /// tower's `map_err`, below where they are answered.
    #[must_use]
    pub const fn non_retryable(mut self) -> Self {
        self.is_retryable = false;
        self
    }

    /// The name of the layer that refused.
    #[must_use]
    pub const fn layer(&self) -> &'static str {
        self.layer
    }

    /// Why it refused.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// How long from now on it would refuse again, if known.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Whether the caller may come back at all.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        self.is_retryable
    }

    /// The refusal that `err` is, or that `err` was caused by.
    #[must_use]
    pub fn find<'a>(err: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        super::find(err)
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "rejected by `{}`: {}",
            self.layer,
            self.reason.describe()
        )
    }
}

impl StdError for Rejected {}

impl From<Rejected> for io::Error {
    fn from(rejected: Rejected) -> Self {
        let kind = match rejected.reason {
            Reason::QueueTimeout | Reason::DeadlineExceeded => io::ErrorKind::TimedOut,
            Reason::InvalidRequest => io::ErrorKind::InvalidInput,
            _ => io::ErrorKind::ResourceBusy,
        };
        Self::new(kind, rejected)
    }
}
