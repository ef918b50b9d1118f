//! The service: makes the first attempt, and keeps what another would need.

use std::task::{Context, Poll};

use tower::Service;

use super::{
    ByVerdict, CloneRequest, Cloned, Decide,
    future::{Again, Call, LastingCall, RetryFuture},
    layer::Shared,
};
use crate::{
    classify::{AnyError, Classify},
    pooled::PooledArc,
    until::{Answered, Until},
};

/// Tries failed calls again.
///
/// See the [module docs](super) for an example.
#[derive(Clone, Debug)]
pub struct Retry<S, C = AnyError, Q = Cloned, D = ByVerdict, U = Answered> {
    inner: S,
    shared: PooledArc<Shared>,
    classifier: C,
    requests: Q,
    decide: D,
    until: U,
}

impl<S, C, Q, D, U> Retry<S, C, Q, D, U> {
    pub(super) const fn new(
        inner: S,
        shared: PooledArc<Shared>,
        classifier: C,
        requests: Q,
        decide: D,
        until: U,
    ) -> Self {
        Self {
            inner,
            shared,
            classifier,
            requests,
            decide,
            until,
        }
    }

    inner_accessors!();
}

impl<S, C, Q, D, U, Req> Service<Req> for Retry<S, C, Q, D, U>
where
    S: Service<Req> + Clone,
    C: Classify<S::Response, S::Error> + Clone,
    Q: CloneRequest<Req> + Clone,
    D: Decide<Req, S::Response, S::Error> + Clone,
    U: Until<S::Response, C> + Clone,
{
    type Response = U::Response<LastingCall>;
    type Error = S::Error;
    type Future = RetryFuture<S, Req, C, Q, D, U>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        let mut call = Call::begin(self.shared.clone(), || self.requests.max_attempts(&req));
        let copy = call.copy(&self.requests, &req);
        // The clone is for later attempts and will be made ready then. This one, the readied one, is
        // for this attempt.
        let can_follow = call.can_follow(&copy, self.decide.restores());
        let again = can_follow.then(|| Again {
            service: self.inner.clone(),
            requests: self.requests.clone(),
            req: copy,
        });
        let future = call.attempt(can_follow, || self.inner.call(req));
        RetryFuture::new(
            future,
            call,
            again,
            self.classifier.clone(),
            self.decide.clone(),
            self.until.clone(),
        )
    }
}
