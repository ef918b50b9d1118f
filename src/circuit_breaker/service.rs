//! The service: asks the machine, then calls.

use std::task::{Context, Poll};

use tower::Service;

use super::{
    future::{Call, CircuitBreakerFuture},
    layer::Shared,
};
use crate::{
    classify::{AnyError, Classify},
    error::{FromRejected, Reason, Rejected},
    pooled::PooledArc,
};

/// Refuses calls while the service that it wraps fails.
///
/// See the [module docs](super) for an example.
#[derive(Clone, Debug)]
pub struct CircuitBreaker<S, C = AnyError> {
    inner: S,
    shared: PooledArc<Shared>,
    classifier: C,
}

impl<S, C> CircuitBreaker<S, C> {
    pub(super) const fn new(inner: S, shared: PooledArc<Shared>, classifier: C) -> Self {
        Self {
            inner,
            shared,
            classifier,
        }
    }

    inner_accessors!();
}

impl<S, C, Req> Service<Req> for CircuitBreaker<S, C>
where
    S: Service<Req>,
    S::Error: FromRejected,
    C: Classify<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = CircuitBreakerFuture<S::Future, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        // Also while open: a service that is not ready would leave the caller waiting for what is
        // refused at once.
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Req) -> Self::Future {
        let shared = &self.shared;
        match shared.machine.admit(&**shared) {
            Ok(pass) => {
                // Made before the call, so that a panic in it is accounted for.
                let call = Call::begin(shared.clone(), pass);
                let future = self.inner.call(req);
                CircuitBreakerFuture::admitted(future, call, self.classifier.clone())
            }
            Err(nanos) => {
                // The inner service keeps the readiness it reported; the next call admitted uses it.
                let mut rejected = Rejected::new(shared.telemetry.name(), Reason::CircuitOpen);
                if let Some(nanos) = nanos {
                    rejected = rejected.with_retry_after(std::time::Duration::from_nanos(nanos));
                }
                shared.telemetry.rejected(&rejected);
                CircuitBreakerFuture::rejected(rejected)
            }
        }
    }
}
