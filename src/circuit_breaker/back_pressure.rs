//! The form in which readiness is the reservation, for balancers and buffers.

use std::task::{Context, Poll, ready};

use tower::{Layer, Service};

use super::{
    future::CircuitBreakerFuture,
    handle::{CircuitBreakerHandle, Hold},
    layer::Shared,
    seat::Seat,
    service::run,
    unsettled::UnsettledCall,
};
use crate::{
    classify::{AnyError, Classify},
    error::FromRejected,
    pooled::PooledArc,
    until::{Answered, Until},
};

/// Applies [`BackPressureCircuitBreaker`] to a service; made by
/// [`CircuitBreakerLayer::back_pressure`](super::CircuitBreakerLayer::back_pressure).
///
/// Shares its breaker with the layer that it was made from, with its own clones, and with the services
/// that any of them made.
///
/// ```
/// use std::time::Duration;
/// use futures_util::FutureExt;
/// use steadfast::{backoff::Backoff, circuit_breaker::CircuitBreakerLayer};
/// use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), BoxError> {
/// let layer = CircuitBreakerLayer::builder()
///     .consecutive_failures(1)
///     .open_time(Backoff::constant(Duration::from_secs(5)))
///     .half_open_probes(1)
///     .build()?
///     .back_pressure();
/// let mut users = layer.layer(service_fn(|up: bool| async move {
///     if up { Ok("alice") } else { Err(BoxError::from("connection refused")) }
/// }));
/// let mut other = users.clone();
/// users.ready().await?.call(false).await.unwrap_err();
///
/// // Open: not refused, but not ready either, until the open time is over.
/// assert!(users.ready().now_or_never().is_none());
/// users.ready().await?;
/// // Its probe is reserved; there is none for the other.
/// assert!(other.ready().now_or_never().is_none());
/// assert_eq!(users.call(true).await?, "alice");
/// assert!(other.ready().now_or_never().is_some());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct BackPressureCircuitBreakerLayer<C = AnyError, U = Answered> {
    shared: PooledArc<Shared>,
    classifier: C,
    until: U,
}

impl<C, U> BackPressureCircuitBreakerLayer<C, U> {
    pub(super) const fn new(shared: PooledArc<Shared>, classifier: C, until: U) -> Self {
        Self {
            shared,
            classifier,
            until,
        }
    }

    /// Sees and steers the breaker.
    #[must_use]
    pub fn handle(&self) -> CircuitBreakerHandle {
        let shared = self.shared.clone();
        CircuitBreakerHandle {
            shared: Hold::OfLayer(shared),
        }
    }
}

impl<S, C: Clone, U: Clone> Layer<S> for BackPressureCircuitBreakerLayer<C, U> {
    type Service = BackPressureCircuitBreaker<S, C, U>;

    fn layer(&self, inner: S) -> Self::Service {
        BackPressureCircuitBreaker {
            inner,
            seat: Seat::new(self.shared.clone()),
            classifier: self.classifier.clone(),
            until: self.until.clone(),
        }
    }
}

/// Is not ready while the service that it wraps fails.
///
/// `poll_ready` is pending while the breaker refuses calls, and does not ask the inner service
/// meanwhile. Whoever waits is woken when the open time or the step of a ramp is over, when a probe's
/// place comes free, and when the state or the mode changes.
///
/// **A ready service has reserved its call.** Of a half-open breaker it holds the place of a probe,
/// which no other call or clone is given. The place comes back when the service is dropped. Where it
/// is held for [`half_open_timeout`](super::CircuitBreakerBuilder::half_open_timeout) and others want
/// it, it lapses: that says nothing about the inner service. A clone of a ready service holds nothing.
///
/// **A reservation is good in the state that it was made in.** Where that has changed, or the place has
/// lapsed, the next `poll_ready` asks anew, and so does `call`: only then may a call of a ready service
/// be [`Rejected`](crate::Rejected). A closed breaker has nothing to reserve.
///
/// A [ramp](super::Ramp) here lets services be ready for its share of the time, not of the calls: of
/// those who wait nobody knows how many calls they would make.
///
/// **Use it** below a balancer, which then chooses another endpoint, or a buffer, which then holds its
/// requests back. Elsewhere prefer [`CircuitBreaker`](super::CircuitBreaker): a ready service that
/// nobody calls keeps a probe's place from those who would, and callers that wait for an outage to end
/// all come at once when it does.
#[derive(Clone, Debug)]
pub struct BackPressureCircuitBreaker<S, C = AnyError, U = Answered> {
    inner: S,
    seat: Seat,
    classifier: C,
    until: U,
}

impl<S, C, U> BackPressureCircuitBreaker<S, C, U> {
    inner_accessors!();
}

impl<S, C, U, Req> Service<Req> for BackPressureCircuitBreaker<S, C, U>
where
    S: Service<Req>,
    S::Error: FromRejected,
    C: Classify<S::Response, S::Error> + Clone,
    U: Until<S::Response, C> + Clone,
{
    type Response = U::Response<UnsettledCall>;
    type Error = S::Error;
    type Future = CircuitBreakerFuture<S::Future, C, U>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        // In this order, so that what makes the inner service ready is not held while the breaker is
        // open. The place of a probe is held while the inner service gets ready: given back each time,
        // it would wake the others, and they this one.
        ready!(self.seat.poll(cx));
        let readied = ready!(self.inner.poll_ready(cx));
        if readied.is_err() {
            self.seat.give_up();
        }
        Poll::Ready(readied)
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        let answer = self.seat.take_up();
        let shared = self.seat.shared();
        run(
            &mut self.inner,
            answer,
            || shared.clone(),
            &shared.telemetry,
            (&self.classifier, &self.until),
            req,
            CircuitBreakerFuture,
        )
    }
}
