//! The service: makes the first attempt, and keeps what another would need.

use std::task::{Context, Poll};

use tower::Service;

use super::{
    CloneRequest, Cloned,
    future::{Again, Call, RetryFuture},
    layer::Shared,
};
use crate::{
    classify::{AnyError, Classify},
    pooled::PooledArc,
};

/// Tries failed calls again.
///
/// See the [module docs](super) for an example.
#[derive(Clone, Debug)]
pub struct Retry<S, C = AnyError, Q = Cloned> {
    inner: S,
    shared: PooledArc<Shared>,
    classifier: C,
    requests: Q,
}

impl<S, C, Q> Retry<S, C, Q> {
    pub(super) const fn new(
        inner: S,
        shared: PooledArc<Shared>,
        classifier: C,
        requests: Q,
    ) -> Self {
        Self {
            inner,
            shared,
            classifier,
            requests,
        }
    }

    inner_accessors!();
}

impl<S, C, Q, Req> Service<Req> for Retry<S, C, Q>
where
    S: Service<Req> + Clone,
    C: Classify<S::Response, S::Error> + Clone,
    Q: CloneRequest<Req> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = RetryFuture<S, Req, C, Q>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        let mut call = Call::begin(self.shared.clone(), self.requests.max_attempts(&req));
        let copy = call.copy(&self.requests, &req);
        // The clone is for later attempts and will be made ready then. This one, the readied one, is
        // for this attempt.
        let again = copy.map(|req| Again {
            service: self.inner.clone(),
            requests: self.requests.clone(),
            req,
        });
        let future = call.attempt(|| self.inner.call(req));
        RetryFuture::new(future, call, again, self.classifier.clone())
    }
}
