//! The service below the timeout: its calls outlive being dropped.

use std::task::{Context, Poll};

use tower::Service;

use super::{DetachableFuture, Room};
use crate::pooled::PooledArc;

/// A service whose calls run on when they are dropped; what a [`DetachedTimeoutLayer`] puts between
/// its timeout and the service.
///
/// [`DetachedTimeoutLayer`]: super::DetachedTimeoutLayer
#[derive(Clone, Debug)]
pub struct Detachable<S> {
    inner: S,
    room: PooledArc<Room>,
}

impl<S> Detachable<S> {
    pub(super) const fn new(inner: S, room: PooledArc<Room>) -> Self {
        Self { inner, room }
    }

    inner_accessors!();
}

impl<S, Req> Service<Req> for Detachable<S>
where
    S: Service<Req>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = DetachableFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Req) -> Self::Future {
        DetachableFuture::new(self.inner.call(req), self.room.clone())
    }
}
