//! The service: asks the machine, then calls.

use std::task::{Context, Poll};

use tower::Service;

use super::{
    future::{Call, CircuitBreakerFuture},
    layer::Shared,
    machine::{Pass, Refusal},
};
use crate::{
    classify::{AnyError, Classify},
    error::{FromRejected, Reason},
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
        // Also while open: the state is asked in `call`, and if it has changed by then the inner
        // service must have been made ready for it.
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        let answer = self.shared.machine.admit(&*self.shared);
        run(&mut self.inner, &self.shared, &self.classifier, answer, req)
    }
}

/// Makes the call that the machine let pass, or refuses it.
#[inline]
pub(super) fn run<S, C, Req>(
    inner: &mut S,
    shared: &PooledArc<Shared>,
    classifier: &C,
    answer: Result<Pass, Refusal>,
    req: Req,
) -> CircuitBreakerFuture<S::Future, C>
where
    S: Service<Req>,
    C: Clone,
{
    match answer {
        Ok(pass) => {
            // Made before the call, so that a panic in it is accounted for.
            let call = Call::begin(shared.clone(), pass);
            let future = inner.call(req);
            CircuitBreakerFuture::admitted(future, call, classifier.clone())
        }
        // The inner service keeps the readiness it reported; the next call admitted uses it.
        Err(refusal) => {
            shared.telemetry.rejected(Reason::CircuitOpen);
            CircuitBreakerFuture::rejected(shared.telemetry.name(), refusal)
        }
    }
}
