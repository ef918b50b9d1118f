//! A retry begun as gRPC wants it.

use http::Request;
use http_body::Body;

use super::GrpcClassifier;
use crate::{
    http::ReplayBody,
    retry::{CloneRequest, RetryBuilder, RetryLayer},
};

/// Begins a retry for gRPC, between a generated client and its channel: failures, and which of them are
/// tried again, are what [`GrpcClassifier`] says, and requests are sent again from what was recorded of them.
/// What else there is to set is as in [`RetryLayer::builder`].
///
/// In gRPC every call is a POST, and it is the status that says whether it may be made again: `UNAVAILABLE`
/// may, which is also what a connection is that broke off, whose server may have acted. For methods where
/// that must not happen twice, say so:
/// [`max_attempts_per_request`](RetryBuilder::max_attempts_per_request).
///
/// Above it stands a [`ReplayLayer`](crate::http::ReplayLayer), and below it a [`TrailersOnlyLayer`], which
/// lets it see what servers say in trailers before any message. A call of which a message has come is not
/// made again.
///
/// [`TrailersOnlyLayer`]: super::TrailersOnlyLayer
///
/// # Example
///
/// ```
/// use std::{num::NonZeroU32, time::Duration};
/// use http::Request;
/// use steadfast::{
///     LiftLayer,
///     grpc::{TrailersOnlyLayer, retry},
///     http::{ReplayBody, ReplayLayer},
/// };
/// use tonic::{Status, body::Body, transport::Endpoint};
/// use tonic_health::pb::health_client::HealthClient; // or any that tonic has generated
/// use tower::ServiceBuilder;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower::BoxError> {
/// // What must not be done twice goes once.
/// let attempts = |req: &Request<ReplayBody<Body>>| {
///     req.uri().path().ends_with("/Pay").then_some(NonZeroU32::MIN)
/// };
/// let channel = ServiceBuilder::new()
///     .map_err(Status::from)
///     .layer(ReplayLayer::new(64 * 1024))
///     .layer(retry().max_attempts_per_request(attempts).build()?)
///     .layer(TrailersOnlyLayer::new(Duration::MAX))
///     .map_request(|req: Request<ReplayBody<Body>>| req.map(Body::new))
///     .layer(LiftLayer::new())
///     .service(Endpoint::from_static("http://[::1]:50051").connect_lazy());
/// let client = HealthClient::new(channel);
/// # let _ = client;
/// # Ok(())
/// # }
/// ```
pub fn retry() -> RetryBuilder<GrpcClassifier, Replayable> {
    RetryLayer::builder()
        .classifier(GrpcClassifier::new())
        .clone_request(Replayable)
}

/// Copies requests whose body is a [`ReplayBody`], of whatever method.
///
/// A copy costs that of the head; the body is shared. Where it has turned out to be too long to be
/// recorded, the request is not sent again, and its result returned whatever it is.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::exhaustive_structs, reason = "the name says all that it does")]
pub struct Replayable;

impl<B: Body> CloneRequest<Request<ReplayBody<B>>> for Replayable {
    fn clone_request(&self, req: &Request<ReplayBody<B>>) -> Option<Request<ReplayBody<B>>> {
        Some(req.clone())
    }

    fn is_intact(&self, req: &Request<ReplayBody<B>>) -> bool {
        req.body().is_replayable()
    }
}
