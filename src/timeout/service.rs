//! The services: refuse what comes too late, then call.

use std::task::{Context, Poll};

use tower::Service;

use super::{
    future::{Call, ReadyTimeoutFuture, TimeoutFuture},
    layer::{Fixed, Shared, TimeLimit},
};
use crate::{
    error::{FromRejected, FromTimedOut},
    oneshot::Oneshot,
    pooled::PooledArc,
};

/// Stops waiting for a response that takes too long.
///
/// See the [module docs](super) for an example.
#[derive(Clone, Debug)]
pub struct Timeout<S, L = Fixed> {
    inner: S,
    limit: L,
    shared: PooledArc<Shared>,
}

impl<S, L> Timeout<S, L> {
    pub(super) const fn new(inner: S, limit: L, shared: PooledArc<Shared>) -> Self {
        Self {
            inner,
            limit,
            shared,
        }
    }

    inner_accessors!();
}

impl<S, L, Req> Service<Req> for Timeout<S, L>
where
    S: Service<Req>,
    S::Error: FromRejected + FromTimedOut,
    L: TimeLimit<Req>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = TimeoutFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        match Call::begin(&self.shared) {
            Ok(call) => {
                let limit = self.limit.time_limit(&req);
                TimeoutFuture::called(self.inner.call(req), limit, call)
            }
            Err(rejected) => TimeoutFuture::rejected(rejected),
        }
    }
}

/// Stops waiting for a service that takes too long to be ready and respond.
///
/// Always ready itself. See the [module docs](super) for an example.
#[derive(Clone, Debug)]
pub struct ReadyTimeout<S, L = Fixed> {
    inner: S,
    limit: L,
    shared: PooledArc<Shared>,
}

impl<S, L> ReadyTimeout<S, L> {
    pub(super) const fn new(inner: S, limit: L, shared: PooledArc<Shared>) -> Self {
        Self {
            inner,
            limit,
            shared,
        }
    }

    inner_accessors!();
}

impl<S, L, Req> Service<Req> for ReadyTimeout<S, L>
where
    S: Service<Req> + Clone,
    S::Error: FromRejected + FromTimedOut,
    L: TimeLimit<Req>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ReadyTimeoutFuture<S, Req>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        let inner = match Call::begin(&self.shared) {
            Ok(call) => {
                let limit = self.limit.time_limit(&req);
                TimeoutFuture::called(Oneshot::new(self.inner.clone(), req), limit, call)
            }
            Err(rejected) => TimeoutFuture::rejected(rejected),
        };
        ReadyTimeoutFuture { inner }
    }
}
