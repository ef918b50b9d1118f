//! Refusals as `tonic::Status`.

use http::Response;
use tonic::{Code, Status, metadata::MetadataMap};
use tower::BoxError;

use super::pushback::{self, PUSHBACK};
use crate::{
    error::{Error, Reason, Rejected, TimedOut},
    http::{Answer, IntoRefusal, Refusal},
};

/// See the [module docs](crate::grpc) for code and metadata.
impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal {
            Refusal::Rejected(rejected) => code(rejected.reason()),
            Refusal::TimedOut(_) => Code::DeadlineExceeded,
        };
        let mut metadata = http::HeaderMap::new();
        if let Some(pushback) = refusal.hint().and_then(pushback::to_write) {
            metadata.insert(PUSHBACK, pushback);
        }
        let metadata = MetadataMap::from_headers(metadata);
        let mut status = Self::with_metadata(code, refusal.to_string(), metadata);
        let source = match refusal {
            Refusal::Rejected(rejected) => BoxError::from(rejected),
            Refusal::TimedOut(timed_out) => timed_out.into(),
        };
        status.set_source(source.into());
        status
    }
}

/// See the [module docs](crate::grpc) for code and metadata.
impl From<Rejected> for Status {
    fn from(rejected: Rejected) -> Self {
        Refusal::from(rejected).into()
    }
}

/// `DEADLINE_EXCEEDED`.
impl From<TimedOut> for Status {
    fn from(timed_out: TimedOut) -> Self {
        Refusal::from(timed_out).into()
    }
}

/// The inner error becomes what [`Status::from_error`] makes of it.
impl<E: Into<BoxError>> From<Error<E>> for Status {
    fn from(error: Error<E>) -> Self {
        match error {
            Error::Inner(error) => Self::from_error(error.into()),
            Error::Rejected(rejected) => rejected.into(),
            Error::TimedOut(timed_out) => timed_out.into(),
        }
    }
}

const fn code(reason: Reason) -> Code {
    match reason {
        Reason::RateLimited => Code::ResourceExhausted,
        Reason::DeadlineExceeded => Code::DeadlineExceeded,
        Reason::InvalidRequest => Code::InvalidArgument,
        Reason::CircuitOpen
        | Reason::BulkheadFull
        | Reason::QueueTimeout
        | Reason::LimitReached
        | Reason::Overloaded
        | Reason::Throttled => Code::Unavailable,
    }
}

/// The refusal that is the status's source: one of this process.
impl IntoRefusal for Status {
    type Other = Self;

    fn into_refusal(self) -> Result<Refusal, Self> {
        Refusal::find(&self).ok_or(self)
    }
}

/// Answers with a status in the head of the response and no body, which gRPC calls *trailers-only*.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::exhaustive_structs, reason = "the name says all that it does")]
pub struct StatusAnswer;

impl<B: Default> Answer<B> for StatusAnswer {
    fn answer(&self, refusal: &Refusal) -> Response<B> {
        let mut response = Status::from(*refusal).into_http();
        response.extensions_mut().insert(*refusal);
        response
    }
}
