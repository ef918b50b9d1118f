//! Layers begun as gRPC wants them.

use http::Request;

use super::GrpcClassifier;
use crate::{
    adaptive::{AdaptiveBuilder, AdaptiveLayer, All, Knee},
    classify::FailureKind,
    http::EndOfBody,
    load_shed::{AtRandom, Exempt, FromContext, LoadShedBuilder, LoadShedLayer},
    throttle::{ThrottleBuilder, ThrottleLayer},
};

/// Begins an adaptive limit for gRPC, at a client or a server. What else there is to set is as in
/// [`AdaptiveLayer::builder`].
///
/// `RESOURCE_EXHAUSTED` and `UNAVAILABLE` are drops, in the head of a response or in its trailers. What the
/// caller was at fault for tells nothing, since it is answered too soon to say how loaded the service is: see
/// [`GrpcClassifier::of_load`]. A call holds its permit until the end of its response.
///
/// **The latency is that of the head**, which has been told when trailers come. Servers of tonic put a failure
/// without a message into the head; at a client of others a [`TrailersOnlyLayer`](super::TrailersOnlyLayer) below
/// does.
///
/// **Streams** of which the head, too, comes when there is something to tell, say nothing by it: leave them
/// out of the samples with [`sample_if`](AdaptiveBuilder::sample_if). They hold their permits all the same.
///
/// # Example
///
/// ```
/// use http::{Request, Response};
/// use steadfast::adaptive::{Aimd, Sampling};
/// use tonic::{Status, body::Body};
/// use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), BoxError> {
/// let layer = steadfast::grpc::adaptive()
///     .algorithm(Aimd::default())
///     .sampling(Sampling::EveryCall)
///     .sample_if(|req: &Request<Status>| !req.uri().path().ends_with("/Watch"))
///     .build()?;
/// let mut svc = layer.layer(service_fn(|req: Request<Status>| async {
///     Ok::<Response<Body>, BoxError>(req.into_body().into_http())
/// }));
///
/// assert_eq!(layer.handle().limit(), 20);
/// svc.ready().await?.call(Request::new(Status::not_found("who?"))).await?;
/// assert!(layer.handle().snapshot().sample.is_none(), "it says nothing");
/// svc.ready().await?.call(Request::new(Status::unavailable("busy"))).await?;
/// assert_eq!(layer.handle().limit(), 18);
/// # Ok(())
/// # }
/// ```
pub fn adaptive() -> AdaptiveBuilder<Knee, GrpcClassifier, All, EndOfBody> {
    AdaptiveLayer::builder()
        .classifier(GrpcClassifier::of_load())
        .until(EndOfBody)
}

/// Begins load shedding for a gRPC server: a call is in flight until the end of its response, and
/// [health checks](HealthChecks) are exempt. What else there is to set is as in [`LoadShedLayer::builder`]; a
/// signal of load is to be.
///
/// Refusals become answers, `UNAVAILABLE` with pushback, in the
/// [`AnswerRefusalsLayer`](super::AnswerRefusalsLayer) at the edge, and above that the
/// [`LoadReportLayer`](crate::http::LoadReportLayer) has every answer tell the load. What reads the criticality of
/// a call stands between them and this.
///
/// # Example
///
/// ```
/// use http::Request;
/// use steadfast::{LiftLayer, grpc::{self, AnswerRefusalsLayer}, http::LoadReportLayer};
/// use tonic::body::Body;
/// use tonic_health::server::health_reporter;
/// use tower::{ServiceBuilder, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), tower::BoxError> {
/// let (_reporter, health) = health_reporter(); // or any generated server
/// let shed = grpc::load_shed().in_flight(256).build()?;
/// let svc = ServiceBuilder::new()
///     .layer(LoadReportLayer::new(shed.handle()))
///     .layer(AnswerRefusalsLayer::new())
///     .layer(shed)
///     .layer(LiftLayer::new())
///     .service(health);
///
/// let request = Request::post("/grpc.health.v1.Health/Check").body(Body::empty())?;
/// let response = svc.oneshot(request).await?;
/// assert!(response.headers().contains_key("endpoint-load-metrics"));
/// # Ok(())
/// # }
/// ```
pub fn load_shed() -> LoadShedBuilder<FromContext, AtRandom, HealthChecks, EndOfBody> {
    LoadShedLayer::builder()
        .exempting(HealthChecks)
        .until(EndOfBody)
}

/// Begins a throttle for a gRPC client: what the service did not accept is what it answered with
/// `RESOURCE_EXHAUSTED` or `UNAVAILABLE`, in the head of a response or in its trailers; and what never got an
/// answer because its connection could not be made, or broke. What else there is to set is as in
/// [`ThrottleLayer::builder`].
///
/// So it takes failures of the kinds [overload](FailureKind::Overload) and
/// [transient](FailureKind::Transient) for it. A call counts at the end of its response; of one that is dropped
/// before nothing is known.
///
/// # Example
///
/// ```
/// use http::Response;
/// use steadfast::Criticality;
/// use tonic::{Status, body::Body};
/// use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let layer = steadfast::grpc::throttle().build()?;
/// let mut svc = layer.layer(service_fn(|status: Status| async {
///     Ok::<Response<Body>, BoxError>(status.into_http())
/// }));
/// let statuses = [
///     Status::ok(""),
///     Status::not_found("who?"),
///     Status::internal("broken"),
///     Status::resource_exhausted("busy"),
///     Status::unavailable("busy"),
/// ];
/// for status in statuses {
///     svc.ready().await?.call(status).await?;
/// }
/// let known = layer.handle().snapshot(Criticality::Critical);
/// assert_eq!((known.requests, known.accepts), (5, 3));
/// # Ok(())
/// # }
/// ```
pub fn throttle() -> ThrottleBuilder<GrpcClassifier, EndOfBody> {
    ThrottleLayer::builder(GrpcClassifier::new())
        .not_accepted([FailureKind::Overload, FailureKind::Transient])
        .until(EndOfBody)
}

/// Takes requests of `grpc.health.v1.Health` for health checks. Exempt from what [`load_shed`] begins.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::exhaustive_structs, reason = "the name says all that it does")]
pub struct HealthChecks;

impl<B> Exempt<Request<B>> for HealthChecks {
    fn is_exempt(&self, req: &Request<B>) -> bool {
        req.uri().path().starts_with("/grpc.health.v1.Health/")
    }
}
