//! Layers begun as HTTP wants them.

use super::{EndOfBody, HttpClassifier};
use crate::{
    bulkhead::{BulkheadBuilder, BulkheadLayer, One},
    circuit_breaker::{CircuitBreakerBuilder, CircuitBreakerLayer},
};

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
