//! The service: asks the machine, then calls.

use std::{
    ops::Deref,
    task::{Context, Poll},
};

use tower::Service;

use super::{
    ask::Refusal,
    future::{Call, CircuitBreakerFuture, Refused, Watched},
    layer::Shared,
    machine::Pass,
    unsettled::UnsettledCall,
};
use crate::{
    classify::{AnyError, Classify},
    error::{FromRejected, Reason},
    pooled::PooledArc,
    telemetry::Telemetry,
    until::{Answered, Until},
};

/// Refuses calls while the service that it wraps fails.
///
/// See the [module docs](super) for an example.
#[derive(Clone, Debug)]
pub struct CircuitBreaker<S, C = AnyError, U = Answered> {
    inner: S,
    shared: PooledArc<Shared>,
    classifier: C,
    until: U,
}

impl<S, C, U> CircuitBreaker<S, C, U> {
    pub(super) const fn new(inner: S, shared: PooledArc<Shared>, classifier: C, until: U) -> Self {
        Self {
            inner,
            shared,
            classifier,
            until,
        }
    }

    inner_accessors!();
}

impl<S, C, U, Req> Service<Req> for CircuitBreaker<S, C, U>
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
            (&self.classifier, &self.until),
            req,
            CircuitBreakerFuture,
        )
    }
}

/// Makes the call that the machine let pass, with a hold on the breaker; or refuses it. What is made is
/// wrapped where it is made, or it would be moved there.
#[inline]
pub(super) fn run<S, C, U, P, Req, T>(
    inner: &mut S,
    answer: Result<Pass, Refusal>,
    hold: impl FnOnce() -> P,
    telemetry: &Telemetry,
    (classifier, until): (&C, &U),
    req: Req,
    wrap: impl FnOnce(Watched<S::Future, C, U, P>) -> T,
) -> T
where
    S: Service<Req>,
    C: Clone,
    U: Clone,
    P: Deref<Target = Shared>,
{
    let until = until.clone();
    match answer {
        Ok(pass) => {
            // Made before the call, so that a panic in it is accounted for.
            let call = Call::begin(hold(), pass);
            let future = inner.call(req);
            wrap(Watched::admitted(future, call, classifier.clone(), until))
        }
        // The inner service keeps the readiness it reported; the next call admitted uses it.
        Err(refusal) => {
            telemetry.rejected(Reason::CircuitOpen);
            let layer = telemetry.name();
            wrap(Watched::rejected(Refused { layer, refusal }, until))
        }
    }
}
