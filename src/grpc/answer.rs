//! Answers refusals with statuses.

use tower::Layer;

use super::StatusAnswer;
use crate::http::AnswerRefusals;

/// Applies [`AnswerRefusals`] to a service, so that it answers refusals as gRPC does: **outermost at a
/// server's edge**, in `Server::layer` or around a service that is given to `add_service`.
///
/// The answer is the [status](super) of the refusal, in a response without a body; HTTP status 200, as
/// gRPC has it. The [`Refusal`](crate::http::Refusal) itself is in the extensions of the response.
///
/// # Example
///
/// ```
/// use http::Request;
/// use steadfast::{LiftLayer, bulkhead::BulkheadLayer, grpc::AnswerRefusalsLayer};
/// use tonic::{body::Body, server::NamedService};
/// use tonic_health::server::health_reporter;
/// use tower::{ServiceBuilder, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let (_reporter, health) = health_reporter();
/// let svc = ServiceBuilder::new()
///     .layer(AnswerRefusalsLayer::new())
///     .layer(BulkheadLayer::new(0)) // refuses every call
///     .layer(LiftLayer::new())
///     .service(health);
/// // … to be given to `Server::builder().add_service(svc)`, since it has kept its name.
/// fn name<S: NamedService>(_: &S) -> &'static str { S::NAME }
/// assert_eq!(name(&svc), "grpc.health.v1.Health");
///
/// let request = Request::post("/grpc.health.v1.Health/Check").body(Body::empty()).unwrap();
/// let Ok(response) = svc.oneshot(request).await; // it cannot fail any more
/// assert_eq!(response.headers()["grpc-status"], "14"); // UNAVAILABLE
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct AnswerRefusalsLayer;

impl AnswerRefusalsLayer {
    /// Creates the layer.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

impl<S> Layer<S> for AnswerRefusalsLayer {
    type Service = AnswerRefusals<S, StatusAnswer>;

    fn layer(&self, inner: S) -> Self::Service {
        AnswerRefusals::new(inner, StatusAnswer)
    }
}
