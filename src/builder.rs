//! The layers as methods of [`tower::ServiceBuilder`].

use tower::{ServiceBuilder, layer::util::Stack};

#[cfg(feature = "http")]
use crate::deadline::{DeadlineLayer, PropagateLayer};
use crate::{
    adaptive::{AdaptiveLayer, BackPressureAdaptiveLayer, QueuedAdaptiveLayer},
    bulkhead::{
        BackPressureBulkheadLayer, BulkheadLayer, KeyedBulkheadLayer, QueuedBulkheadLayer,
        QueuedKeyedBulkheadLayer,
    },
    circuit_breaker::{
        BackPressureCircuitBreakerLayer, CircuitBreakerLayer, KeyedCircuitBreakerLayer,
    },
    error::LiftLayer,
    load_shed::LoadShedLayer,
    retry::RetryLayer,
    throttle::{KeyedThrottleLayer, ThrottleLayer},
    timeout::{ReadyTimeoutLayer, TimeoutLayer},
};

mod sealed {
    #[allow(unnameable_types, reason = "that is how it seals")]
    pub trait Sealed {}
    impl<L> Sealed for tower::ServiceBuilder<L> {}
}

/// The layers of this crate as methods of [`ServiceBuilder`].
///
/// Those whose name tower has taken for a layer of its own end in `_with`.
///
/// ```
/// use std::time::Duration;
/// use steadfast::{ServiceBuilderExt, bulkhead::BulkheadLayer, timeout::TimeoutLayer};
/// use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), steadfast::InvalidSetting> {
/// let svc = ServiceBuilder::new()
///     .bulkhead(BulkheadLayer::new(64))
///     .timeout_with(TimeoutLayer::new(Duration::from_secs(1))?)
///     .lift()
///     .service(service_fn(|n: u32| async move { Ok::<_, BoxError>(n + 1) }));
/// assert_eq!(svc.oneshot(1).await.unwrap(), 2);
/// # Ok(())
/// # }
/// ```
pub trait ServiceBuilderExt<L>: sealed::Sealed + Sized {
    /// Adds a layer; what the other methods come down to.
    #[doc(hidden)]
    fn add<T>(self, layer: T) -> ServiceBuilder<Stack<T, L>>;

    /// Refuses calls while as many are in flight as the service can take; see
    /// [`adaptive`](crate::adaptive).
    fn adaptive<C, F, U, D>(
        self,
        layer: AdaptiveLayer<C, F, U, D>,
    ) -> ServiceBuilder<Stack<AdaptiveLayer<C, F, U, D>, L>> {
        self.add(layer)
    }

    /// Lets calls wait while as many are in flight as the service can take; see
    /// [`adaptive`](crate::adaptive).
    fn queued_adaptive<C, F, U, D>(
        self,
        layer: QueuedAdaptiveLayer<C, F, U, D>,
    ) -> ServiceBuilder<Stack<QueuedAdaptiveLayer<C, F, U, D>, L>> {
        self.add(layer)
    }

    /// Is not ready while as many calls are in flight as the service can take; see
    /// [`adaptive`](crate::adaptive).
    fn back_pressure_adaptive<C, F, U>(
        self,
        layer: BackPressureAdaptiveLayer<C, F, U>,
    ) -> ServiceBuilder<Stack<BackPressureAdaptiveLayer<C, F, U>, L>> {
        self.add(layer)
    }

    /// Refuses calls while too many are in flight; see [`bulkhead`](crate::bulkhead).
    fn bulkhead<W, U>(
        self,
        layer: BulkheadLayer<W, U>,
    ) -> ServiceBuilder<Stack<BulkheadLayer<W, U>, L>> {
        self.add(layer)
    }

    /// Is not ready while too many calls are in flight; see [`bulkhead`](crate::bulkhead).
    fn back_pressure_bulkhead<U>(
        self,
        layer: BackPressureBulkheadLayer<U>,
    ) -> ServiceBuilder<Stack<BackPressureBulkheadLayer<U>, L>> {
        self.add(layer)
    }

    /// Lets calls wait while too many are in flight; see [`bulkhead`](crate::bulkhead).
    fn queued_bulkhead<W, U>(
        self,
        layer: QueuedBulkheadLayer<W, U>,
    ) -> ServiceBuilder<Stack<QueuedBulkheadLayer<W, U>, L>> {
        self.add(layer)
    }

    /// Refuses calls while too many of the same key are in flight; see [`bulkhead`](crate::bulkhead).
    fn keyed_bulkhead<K, F, W, U>(
        self,
        layer: KeyedBulkheadLayer<K, F, W, U>,
    ) -> ServiceBuilder<Stack<KeyedBulkheadLayer<K, F, W, U>, L>> {
        self.add(layer)
    }

    /// Lets calls wait while too many of the same key are in flight; see
    /// [`bulkhead`](crate::bulkhead).
    fn queued_keyed_bulkhead<K, F, W, U>(
        self,
        layer: QueuedKeyedBulkheadLayer<K, F, W, U>,
    ) -> ServiceBuilder<Stack<QueuedKeyedBulkheadLayer<K, F, W, U>, L>> {
        self.add(layer)
    }

    /// Refuses calls while the service fails; see [`circuit_breaker`](crate::circuit_breaker).
    fn circuit_breaker<C, U>(
        self,
        layer: CircuitBreakerLayer<C, U>,
    ) -> ServiceBuilder<Stack<CircuitBreakerLayer<C, U>, L>> {
        self.add(layer)
    }

    /// Is not ready while the service fails; see [`circuit_breaker`](crate::circuit_breaker).
    fn back_pressure_circuit_breaker<C>(
        self,
        layer: BackPressureCircuitBreakerLayer<C>,
    ) -> ServiceBuilder<Stack<BackPressureCircuitBreakerLayer<C>, L>> {
        self.add(layer)
    }

    /// Refuses calls of a key while those of the same key fail; see
    /// [`circuit_breaker`](crate::circuit_breaker).
    fn keyed_circuit_breaker<K, F, C, U>(
        self,
        layer: KeyedCircuitBreakerLayer<K, F, C, U>,
    ) -> ServiceBuilder<Stack<KeyedCircuitBreakerLayer<K, F, C, U>, L>> {
        self.add(layer)
    }

    /// Refuses the least critical calls while the server is overloaded; see
    /// [`load_shed`](crate::load_shed).
    fn load_shed_with<P, U>(
        self,
        layer: LoadShedLayer<P, U>,
    ) -> ServiceBuilder<Stack<LoadShedLayer<P, U>, L>> {
        self.add(layer)
    }

    /// Tries failed calls again; see [`retry`](crate::retry).
    fn retry_with<C, Q, D, U>(
        self,
        layer: RetryLayer<C, Q, D, U>,
    ) -> ServiceBuilder<Stack<RetryLayer<C, Q, D, U>, L>> {
        self.add(layer)
    }

    /// Refuses a share of the calls while the service is overloaded; see [`throttle`](crate::throttle).
    fn throttle<C, U>(
        self,
        layer: ThrottleLayer<C, U>,
    ) -> ServiceBuilder<Stack<ThrottleLayer<C, U>, L>> {
        self.add(layer)
    }

    /// Refuses a share of the calls of a key while the service is overloaded by those of the same key; see
    /// [`throttle`](crate::throttle).
    fn keyed_throttle<K, F, C, U>(
        self,
        layer: KeyedThrottleLayer<K, F, C, U>,
    ) -> ServiceBuilder<Stack<KeyedThrottleLayer<K, F, C, U>, L>> {
        self.add(layer)
    }

    /// Stops waiting for calls that take too long; see [`timeout`](crate::timeout).
    fn timeout_with<T>(self, layer: TimeoutLayer<T>) -> ServiceBuilder<Stack<TimeoutLayer<T>, L>> {
        self.add(layer)
    }

    /// Stops waiting for services that take too long to be ready and respond; see
    /// [`timeout`](crate::timeout).
    fn ready_timeout<T>(
        self,
        layer: ReadyTimeoutLayer<T>,
    ) -> ServiceBuilder<Stack<ReadyTimeoutLayer<T>, L>> {
        self.add(layer)
    }

    /// Gives every request its deadline, and stops the work when it passes; see
    /// [`deadline`](crate::deadline).
    #[cfg(feature = "http")]
    fn deadline<T>(self, layer: DeadlineLayer<T>) -> ServiceBuilder<Stack<DeadlineLayer<T>, L>> {
        self.add(layer)
    }

    /// Tells the service below how long its caller waits; see [`deadline`](crate::deadline).
    #[cfg(feature = "http")]
    fn propagate(self, layer: PropagateLayer) -> ServiceBuilder<Stack<PropagateLayer, L>> {
        self.add(layer)
    }

    /// Gives the service below an error that can hold a refusal; see [`LiftLayer`].
    fn lift(self) -> ServiceBuilder<Stack<LiftLayer, L>> {
        self.add(LiftLayer::new())
    }
}

impl<L> ServiceBuilderExt<L> for ServiceBuilder<L> {
    fn add<T>(self, layer: T) -> ServiceBuilder<Stack<T, L>> {
        self.layer(layer)
    }
}
