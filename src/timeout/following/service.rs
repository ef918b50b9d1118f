//! The service: a timeout, and around it what measures.

use std::task::{Context, Poll};

use tower::Service;

use super::{Following, FollowingTimeoutFuture, FollowingTimeoutLayer};
use crate::{
    classify::{AnyError, Classify},
    error::{FromRejected, FromTimedOut},
    pooled::PooledArc,
    timeout::Timeout,
};

/// Stops waiting for a response that takes much longer than others do.
///
/// See the [module docs](crate::timeout) for an example.
#[derive(Clone, Debug)]
pub struct FollowingTimeout<S, C = AnyError> {
    timeout: Timeout<S, PooledArc<Following>>,
    following: PooledArc<Following>,
    classifier: C,
}

impl<S, C> FollowingTimeout<S, C> {
    pub(super) fn new(inner: S, layer: FollowingTimeoutLayer<C>) -> Self {
        Self {
            timeout: Timeout::new(inner, layer.following.clone(), layer.shared),
            following: layer.following,
            classifier: layer.classifier,
        }
    }

    /// The wrapped service.
    #[must_use]
    pub const fn get_ref(&self) -> &S {
        self.timeout.get_ref()
    }

    /// The wrapped service, mutably.
    #[must_use]
    pub const fn get_mut(&mut self) -> &mut S {
        self.timeout.get_mut()
    }

    /// Takes the wrapped service out.
    #[must_use]
    pub fn into_inner(self) -> S {
        self.timeout.into_inner()
    }
}

impl<S, C, Req> Service<Req> for FollowingTimeout<S, C>
where
    S: Service<Req>,
    S::Error: FromRejected + FromTimedOut,
    C: Classify<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = FollowingTimeoutFuture<S::Future, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.timeout.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        let future = self.timeout.call(req);
        FollowingTimeoutFuture::new(future, self.following.clone(), self.classifier.clone())
    }
}
