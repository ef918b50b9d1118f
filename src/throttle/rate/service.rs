//! The service.

use std::task::{Context, Poll};

use tower::Service;

use super::{
    call::UntoldCall,
    future::{AdaptiveRateFuture, Timed},
    shared::Shared,
};
use crate::{
    classify::Classify,
    error::FromRejected,
    pooled::PooledArc,
    until::{Answered, Until},
};

/// Spaces calls at a rate that a service does not throttle.
///
/// Always ready itself: every call makes a clone of the inner service ready, once its turn has come.
///
/// See the [module docs](super) for an example.
#[derive(Clone, Debug)]
pub struct AdaptiveRate<S, C, U = Answered> {
    inner: S,
    shared: PooledArc<Shared>,
    classifier: C,
    until: U,
}

impl<S, C, U> AdaptiveRate<S, C, U> {
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

impl<S, C, U, Req> Service<Req> for AdaptiveRate<S, C, U>
where
    S: Service<Req> + Clone,
    S::Error: FromRejected,
    C: Classify<S::Response, S::Error> + Clone,
    U: Until<S::Response, C> + Clone,
{
    type Response = U::Response<UntoldCall>;
    type Error = S::Error;
    type Future = AdaptiveRateFuture<S, Req, C, U>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        let judged = (self.classifier.clone(), self.until.clone());
        AdaptiveRateFuture(Timed::new(
            self.inner.clone(),
            req,
            judged,
            self.shared.clone(),
        ))
    }
}
