//! The service: asks the throttle, then calls.

use std::{
    ops::Deref,
    task::{Context, Poll},
};

use tower::Service;

use super::{
    future::{Call, Refused, ThrottleFuture, Watched},
    held::UncountedCall,
    shared::Shared,
};
use crate::{
    classify::Classify,
    error::{FromRejected, Reason},
    pooled::PooledArc,
    until::{Answered, Until},
};

/// Refuses a share of the calls while the service that it wraps is overloaded.
///
/// See the [module docs](super) for an example.
#[derive(Clone, Debug)]
pub struct Throttle<S, C, U = Answered> {
    inner: S,
    shared: PooledArc<Shared>,
    classifier: C,
    until: U,
}

impl<S, C, U> Throttle<S, C, U> {
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

impl<S, C, U, Req> Service<Req> for Throttle<S, C, U>
where
    S: Service<Req>,
    S::Error: FromRejected,
    C: Classify<S::Response, S::Error> + Clone,
    U: Until<S::Response, C> + Clone,
{
    type Response = U::Response<UncountedCall>;
    type Error = S::Error;
    type Future = ThrottleFuture<S::Future, C, U>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        let judged = (&self.classifier, &self.until);
        ThrottleFuture(run(&mut self.inner, self.shared.clone(), judged, req))
    }
}

/// Makes the call that passes, with a hold on the throttle; or refuses it.
#[inline]
pub(super) fn run<S, C, U, P, Req>(
    inner: &mut S,
    throttle: P,
    (classifier, until): (&C, &U),
    req: Req,
) -> Watched<S::Future, C, U, P>
where
    S: Service<Req>,
    C: Clone,
    U: Clone,
    P: Deref<Target = Shared>,
{
    let until = until.clone();
    match throttle.ask() {
        Some(pass) => {
            // Made before the call, so that a panic in it is accounted for.
            let call = Call::begin(throttle, pass);
            let future = inner.call(req);
            Watched::admitted(future, call, classifier.clone(), until)
        }
        // The inner service keeps the readiness it reported; the next call admitted uses it.
        None => {
            let telemetry = &throttle.telemetry;
            telemetry.rejected(Reason::Throttled);
            Watched::rejected(Refused(telemetry.name()), until)
        }
    }
}
