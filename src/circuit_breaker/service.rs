//! The service: asks the machine, then calls.

use std::{
    ops::Deref,
    task::{Context, Poll},
};

use tower::Service;

use super::{
    ask::Refusal,
    future::{Call, CircuitBreakerFuture, Watched},
    layer::Shared,
    machine::Pass,
};
use crate::{
    classify::{AnyError, Classify},
    error::{FromRejected, Reason},
    pooled::PooledArc,
    telemetry::Telemetry,
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
        let shared = &self.shared;
        let answer = shared.machine.admit(&**shared);
        run(
            &mut self.inner,
            answer,
            || shared.clone(),
            &shared.telemetry,
            &self.classifier,
            req,
            CircuitBreakerFuture,
        )
    }
}

/// Makes the call that the machine let pass, with a hold on the breaker; or refuses it. What is made is
/// wrapped where it is made, or it would be moved there.
#[inline]
pub(super) fn run<S, C, P, Req, T>(
    inner: &mut S,
    answer: Result<Pass, Refusal>,
    hold: impl FnOnce() -> P,
    telemetry: &Telemetry,
    classifier: &C,
    req: Req,
    wrap: impl FnOnce(Watched<S::Future, C, P>) -> T,
) -> T
where
    S: Service<Req>,
    C: Clone,
    P: Deref<Target = Shared>,
{
    match answer {
        Ok(pass) => {
            // Made before the call, so that a panic in it is accounted for.
            let call = Call::begin(hold(), pass);
            let future = inner.call(req);
            wrap(Watched::admitted(future, call, classifier.clone()))
        }
        // The inner service keeps the readiness it reported; the next call admitted uses it.
        Err(refusal) => {
            telemetry.rejected(Reason::CircuitOpen);
            wrap(Watched::rejected(telemetry.name(), refusal))
        }
    }
}
