//! gRPC: what a status says about a service, and refusals as [`tonic::Status`].
//!
//! At a client, [`GrpcClassifier`] tells every layer what a failure is, and what the server said about
//! trying again; [`retry`] begins a retry that goes by it, and [`TrailersOnlyLayer`] has errors seen that come
//! in trailers before any message. At a server, [`AnswerRefusalsLayer`] stands outermost and answers what
//! the layers below it refused. All services of this crate keep the [name](tonic::server::NamedService) of
//! what they wrap.
//!
//! Against overload: [`load_shed`] and [`adaptive`] begin what a server refuses by, [`throttle`] what a client
//! holds back by that is told `RESOURCE_EXHAUSTED` or `UNAVAILABLE`.
//!
//! # Refusals as statuses
//!
//! A service whose error is `Status` takes every layer of this crate as it is. Any other is lifted, and at
//! a client its [`Error<E>`] turned into a `Status` at the top of the stack, with
//! `map_err(Status::from)`: tonic would make `UNKNOWN` of what it does not know.
//!
//! | refusal | code |
//! |---|---|
//! | [`Reason::RateLimited`] | `RESOURCE_EXHAUSTED`: the caller's own quota |
//! | [`Reason::DeadlineExceeded`], [`TimedOut`] | `DEADLINE_EXCEEDED` |
//! | [`Reason::InvalidRequest`] | `INVALID_ARGUMENT` |
//! | all others | `UNAVAILABLE`: not now, not here, and not seen by the service |
//!
//! These are the codes that Google's `google.rpc.Code` puts beside the HTTP statuses 429, 504 and 503, so
//! both edges tell the same. `UNAVAILABLE` is what retry policies and load balancers take for "try again,
//! or elsewhere", and a [`Rejected`] is exactly the call for which that is safe. A call whose time is up
//! is never `CANCELLED`, which would say that its caller had wanted no answer.
//!
//! Where it is known when to come back, the status carries it as `grpc-retry-pushback-ms`, rounded up
//! and at most 2,147,483,647. Zero is not written: it would have clients come back at once, and without
//! backoff. A [`Rejected::non_retryable`] is -1: not at all.
//!
//! The refusal itself is the status's source, so [`Rejected::find`] and [`TimedOut::find`] find it. A
//! status that has been over the wire is never one again: nothing in it proves that the service did not
//! see the call, as a [`Rejected`] promises. What it says is for [`GrpcClassifier::status`] to tell.
//!
//! # Example
//!
//! ```
//! use steadfast::{
//!     LiftLayer, Rejected, bulkhead::BulkheadLayer, circuit_breaker::CircuitBreakerLayer,
//!     grpc::GrpcClassifier,
//! };
//! use tonic::{Code, Status, transport::Endpoint};
//! use tower::{ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower::BoxError> {
//! let channel = Endpoint::from_static("http://[::1]:50051").connect_lazy();
//! let client = ServiceBuilder::new()
//!     .map_err(Status::from)
//!     .layer(BulkheadLayer::new(0)) // refuses every call
//!     .layer(CircuitBreakerLayer::builder().classifier(GrpcClassifier::new()).build()?)
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
//!
//! [`Error<E>`]: crate::Error
//! [`Reason::DeadlineExceeded`]: crate::Reason::DeadlineExceeded
//! [`Reason::InvalidRequest`]: crate::Reason::InvalidRequest
//! [`Reason::RateLimited`]: crate::Reason::RateLimited
//! [`Rejected`]: crate::Rejected
//! [`Rejected::find`]: crate::Rejected::find
//! [`Rejected::non_retryable`]: crate::Rejected::non_retryable
//! [`TimedOut`]: crate::TimedOut
//! [`TimedOut::find`]: crate::TimedOut::find

mod answer;
mod classifier;
#[cfg(all(test, not(steadfast_loom)))]
mod fuzz_tests;
mod named;
mod presets;
mod pushback;
mod retry;
mod status;
mod trailers_only;

pub use answer::AnswerRefusalsLayer;
pub use classifier::GrpcClassifier;
pub use presets::{HealthChecks, adaptive, load_shed, throttle};
pub use retry::{Replayable, retry};
pub use status::StatusAnswer;
pub use trailers_only::{TrailersOnly, TrailersOnlyBody, TrailersOnlyFuture, TrailersOnlyLayer};
