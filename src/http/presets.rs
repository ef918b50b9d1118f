//! Layers begun as HTTP wants them.

use super::{EndOfBody, HealthChecks, HttpClassifier, HttpLoadClassifier};
use crate::{
    adaptive::{AdaptiveBuilder, AdaptiveLayer, All, Knee},
    bulkhead::{BulkheadBuilder, BulkheadLayer, One},
    circuit_breaker::{CircuitBreakerBuilder, CircuitBreakerLayer},
    load_shed::{AtRandom, FromContext, LoadShedBuilder, LoadShedLayer},
    throttle::{ThrottleBuilder, ThrottleLayer},
};

/// Begins an adaptive limit for HTTP, at a client or a server. What else there is to set is as in
/// [`AdaptiveLayer::builder`].
///
/// 429 and 503 are drops. Other 4xx tell nothing, since a request that is refused for the caller's fault is
/// answered too soon to say how loaded the service is: see [`HttpLoadClassifier`]. A call holds its permit until
/// the [end of the response's body](EndOfBody), and its latency is that of the head.
///
/// **Streams and long polls** of which the head, too, comes when there is something to tell, say nothing by
/// it: leave them out of the samples with [`sample_if`](AdaptiveBuilder::sample_if). They hold their permits
/// all the same.
///
/// # Example
///
/// ```
/// use http::{Request, Response, StatusCode};
/// use http_body_util::Empty;
/// use steadfast::adaptive::{Aimd, Sampling};
/// use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), BoxError> {
/// let layer = steadfast::http::adaptive()
///     .algorithm(Aimd::default())
///     .sampling(Sampling::EveryCall)
///     .sample_if(|req: &Request<StatusCode>| req.uri().path() != "/events")
///     .build()?;
/// let mut svc = layer.layer(service_fn(|req: Request<StatusCode>| async move {
///     let response = Response::builder().status(*req.body());
///     Ok::<_, BoxError>(response.body(Empty::<bytes::Bytes>::new())?)
/// }));
///
/// assert_eq!(layer.handle().limit(), 20);
/// svc.ready().await?.call(Request::new(StatusCode::NOT_FOUND)).await?;
/// assert!(layer.handle().snapshot().sample.is_none(), "it says nothing");
/// svc.ready().await?.call(Request::new(StatusCode::SERVICE_UNAVAILABLE)).await?;
/// assert_eq!(layer.handle().limit(), 18);
/// # Ok(())
/// # }
/// ```
pub fn adaptive() -> AdaptiveBuilder<Knee, HttpLoadClassifier, All, EndOfBody> {
    AdaptiveLayer::builder()
        .classifier(HttpLoadClassifier)
        .until(EndOfBody)
}

/// Begins a bulkhead for HTTP, that lets `max` calls be in flight: a call holds its place until the
/// [end of the response's body](EndOfBody). What else there is to set is as in [`BulkheadLayer::builder`].
///
/// For a place that is held for no longer than the head takes:
/// `steadfast::http::bulkhead(64).until(Answered)`; see [`Answered`](crate::until::Answered).
pub fn bulkhead(max: usize) -> BulkheadBuilder<(), One, (), EndOfBody> {
    BulkheadLayer::builder(max).until(EndOfBody)
}

/// Begins a circuit breaker for HTTP: failures are what [`HttpClassifier`] takes for them, and bodies that
/// break off. What else there is to set is as in [`CircuitBreakerLayer::builder`].
///
/// # Example
///
/// ```
/// use http::Response;
/// use http_body_util::{BodyExt, StreamBody};
/// use steadfast::circuit_breaker::State;
/// use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let layer = steadfast::http::circuit_breaker().consecutive_failures(1).build()?;
/// let mut svc = layer.layer(service_fn(|()| async {
///     let broken = Err::<http_body::Frame<bytes::Bytes>, _>("connection reset");
///     let body = StreamBody::new(futures_util::stream::iter([broken]));
///     Ok::<_, BoxError>(Response::new(body))
/// }));
///
/// let response = svc.ready().await?.call(()).await?;
/// assert_eq!((response.status().as_u16(), layer.handle().state()), (200, State::Closed));
/// response.into_body().collect().await.unwrap_err();
/// assert_eq!(layer.handle().state(), State::Open);
/// # Ok(())
/// # }
/// ```
pub fn circuit_breaker() -> CircuitBreakerBuilder<HttpClassifier, EndOfBody> {
    CircuitBreakerLayer::builder()
        .classifier(HttpClassifier)
        .until(EndOfBody)
}

/// Begins load shedding for an HTTP server: a call is in flight until the
/// [end of the response's body](EndOfBody), and [health checks](HealthChecks) are exempt. What else there is to
/// set is as in [`LoadShedLayer::builder`]; a signal of load is to be.
///
/// Refusals become answers, 503 with `Retry-After`, in the [`AnswerRefusalsLayer`](super::AnswerRefusalsLayer)
/// at the edge, and above that the [`LoadReportLayer`](super::LoadReportLayer) has every answer tell the load. What
/// reads the criticality of a call stands between them and this.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use axum::{Router, body::Body, extract::Request, routing::get};
/// use steadfast::{
///     LiftLayer,
///     bulkhead::Queue,
///     deadline::DeadlineLayer,
///     http::{self, AnswerRefusalsLayer, LoadReportLayer},
/// };
/// use tower::ServiceExt;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), steadfast::InvalidSetting> {
/// let ms = Duration::from_millis;
/// let deadline = DeadlineLayer::builder(ms(60_000)).trust_headers().build()?;
/// let places = http::bulkhead(64).queue(Queue::lifo(128, ms(50))).build();
/// let queue = places.handle();
/// let shed = http::load_shed()
///     .queueing_delay(ms(20), move || queue.queue_delay().smoothed)
///     .build()?;
/// let app = Router::new().route("/", get(|| async { "hello" })).layer((
///     LoadReportLayer::new(shed.handle()),
///     AnswerRefusalsLayer::new(),
///     deadline,
///     shed,
///     places,
///     LiftLayer::new(),
/// ));
///
/// let response = app.oneshot(Request::new(Body::empty())).await.unwrap();
/// assert_eq!(response.status(), 200);
/// assert!(response.headers().contains_key("endpoint-load-metrics"));
/// # Ok(())
/// # }
/// ```
pub fn load_shed() -> LoadShedBuilder<FromContext, AtRandom, HealthChecks, EndOfBody> {
    LoadShedLayer::builder()
        .exempting(HealthChecks)
        .until(EndOfBody)
}

/// Begins a throttle for an HTTP client: what the service did not accept is what it answered with 429 or 503.
/// What else there is to set is as in [`ThrottleLayer::builder`].
///
/// That is known when the head is there, and so counted then, whatever becomes of the body.
///
/// # Example
///
/// ```
/// use http::Response;
/// use steadfast::Criticality;
/// use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let layer = steadfast::http::throttle().build()?;
/// let mut svc = layer.layer(service_fn(|status: u16| async move {
///     Ok::<_, BoxError>(Response::builder().status(status).body(())?)
/// }));
/// for status in [200, 404, 429, 500, 503] {
///     svc.ready().await?.call(status).await?;
/// }
/// let known = layer.handle().snapshot(Criticality::Critical);
/// assert_eq!((known.requests, known.accepts), (5, 3));
/// # Ok(())
/// # }
/// ```
pub fn throttle() -> ThrottleBuilder<HttpClassifier> {
    ThrottleLayer::builder(HttpClassifier)
}
