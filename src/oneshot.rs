//! Makes a clone of a service ready, then calls it: for layers that are always ready themselves.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project::pin_project;
use tower::Service;

/// A call that begins with waiting for the service to be ready.
#[pin_project(project = OneshotProj)]
pub(crate) enum Oneshot<S: Service<Req>, Req> {
    Readying(Option<(S, Req)>),
    Calling(#[pin] S::Future),
}

impl<S: Service<Req>, Req> Oneshot<S, Req> {
    pub(crate) const fn new(service: S, req: Req) -> Self {
        Self::Readying(Some((service, req)))
    }
}

impl<S: Service<Req>, Req> Future for Oneshot<S, Req> {
    type Output = Result<S::Response, S::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match self.as_mut().project() {
                OneshotProj::Calling(future) => return future.poll(cx),
                OneshotProj::Readying(pending) => {
                    let (service, _) = pending.as_mut().expect("polled after completion");
                    let readied = ready!(service.poll_ready(cx));
                    let (mut service, req) = pending.take().expect("it was there just now");
                    readied?;
                    let future = service.call(req);
                    self.set(Self::Calling(future));
                }
            }
        }
    }
}
