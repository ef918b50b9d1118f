//! gRPC: refusals as [`tonic::Status`].
//!
//! With these conversions a service whose error is `Status` takes every layer of this crate as it is.
//! Any other is lifted, and its [`Error<E>`] turned into a `Status` at the top of the stack, with
//! `map_err(Status::from)`: at a client, where tonic would make `UNKNOWN` of what it does not know; and
//! at a server, in `Server::layer`, where tonic answers with the `Status` it is given and ends the
//! connection on any other error. Where a server's service must not fail at all, as in `add_service`,
//! answer with [`Status::into_http`].
//!
//! | refusal | code |
//! |---|---|
//! | [`Reason::RateLimited`] | `RESOURCE_EXHAUSTED`: the caller's own quota |
//! | [`Reason::DeadlineExceeded`], [`TimedOut`] | `DEADLINE_EXCEEDED` |
//! | [`Reason::InvalidRequest`] | `INVALID_ARGUMENT` |
//! | all others | `UNAVAILABLE`: not now, not here, and not seen by the service |
//!
//! These are the codes that gRPC's own documents give to the HTTP statuses 429, 504 and 503, so both
//! edges tell the same. `UNAVAILABLE` is what retry policies and load balancers take for "try again, or
//! elsewhere", and a [`Rejected`] is exactly the call for which that is safe. A call whose time is up
//! is never `CANCELLED`, which would say that its caller had wanted no answer.
//!
//! Where it is known when to come back, the status carries it as `grpc-retry-pushback-ms`, rounded up
//! and at most 2,147,483,647. Zero is not written: it would have clients come back at once, and without
//! backoff. The refusal itself is the status's source, so [`Rejected::find`] and [`TimedOut::find`]
//! find it, as long as the status has not been over the wire.
//!
//! # Example
//!
//! ```
//! use steadfast::{LiftLayer, Rejected, bulkhead::BulkheadLayer};
//! use tonic::{Code, Status, transport::Endpoint};
//! use tower::{ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower::BoxError> {
//! let channel = Endpoint::from_static("http://[::1]:50051").connect_lazy();
//! let client = ServiceBuilder::new()
//!     .map_err(Status::from)
//!     .layer(BulkheadLayer::new(0)) // refuses every call
//!     .layer(LiftLayer::new())
//!     .service(channel);
//! // … to be given to a generated client: `GreeterClient::new(client)`.
//!
//! let request = http::Request::new(tonic::body::Body::empty());
//! let status: Status = client.oneshot(request).await.unwrap_err();
//! assert_eq!(status.code(), Code::Unavailable);
//! assert_eq!(Rejected::find(&status).unwrap().layer(), "bulkhead");
//! # Ok(())
//! # }
//! ```

use std::time::Duration;

use tonic::{Code, Status, metadata::AsciiMetadataValue};
use tower::BoxError;

use crate::error::{Error, Reason, Rejected, TimedOut};

/// The trailer that tells gRPC clients when to come back (gRFC A6).
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// See the [module docs](self) for code and metadata.
impl From<Rejected> for Status {
    fn from(rejected: Rejected) -> Self {
        let mut status = Self::new(code(rejected.reason()), rejected.to_string());
        if let Some(pushback) = rejected.retry_after().and_then(pushback) {
            status.metadata_mut().insert(PUSHBACK, pushback);
        }
        status.set_source(BoxError::from(rejected).into());
        status
    }
}

/// `DEADLINE_EXCEEDED`.
impl From<TimedOut> for Status {
    fn from(timed_out: TimedOut) -> Self {
        let mut status = Self::deadline_exceeded(timed_out.to_string());
        status.set_source(BoxError::from(timed_out).into());
        status
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

/// The delay in milliseconds, as the trailer's 32 bits hold it; `None` for no delay.
fn pushback(delay: Duration) -> Option<AsciiMetadataValue> {
    let millis = delay.as_nanos().div_ceil(1_000_000);
    let millis = i32::try_from(millis).unwrap_or(i32::MAX);
    (millis > 0).then(|| millis.into())
}
