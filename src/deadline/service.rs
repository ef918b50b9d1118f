//! The server's side: reads the headers, then calls within the context.

use std::{
    future::Future,
    pin::Pin,
    task::{self, Poll},
    time::Duration,
};

use http::Request;
use pin_project::pin_project;
use tower::Service;

use super::{
    expiring::Expiring,
    incoming::Incoming,
    layer::{Nobody, Shared, Trust},
};
use crate::{
    error::{FromRejected, FromTimedOut},
    pooled::PooledArc,
};

/// How long a call may take, by whoever makes it: put into the extensions of its request, where
/// [`Deadline`] and [`Propagate`](super::Propagate) take it out.
///
/// It brings the deadline forward, and never moves it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a name for a duration")]
pub struct CallTimeout(pub Duration);

impl CallTimeout {
    pub(super) fn take<B>(req: &mut Request<B>) -> Option<Duration> {
        req.extensions_mut().remove().map(|Self(timeout)| timeout)
    }
}

/// Gives every request its deadline, and stops the work when it passes.
///
/// See the [module docs](super) for an example.
#[derive(Clone, Debug)]
pub struct Deadline<S, T = Nobody> {
    inner: S,
    trust: T,
    shared: PooledArc<Shared>,
}

impl<S, T> Deadline<S, T> {
    pub(super) const fn new(inner: S, trust: T, shared: PooledArc<Shared>) -> Self {
        Self {
            inner,
            trust,
            shared,
        }
    }

    inner_accessors!();
}

impl<S, T, B> Service<Request<B>> for Deadline<S, T>
where
    S: Service<Request<B>>,
    S::Error: FromRejected + FromTimedOut,
    T: Trust<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = DeadlineFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut req: Request<B>) -> Self::Future {
        let incoming = if self.trust.trusts(&req) {
            self.shared.read(req.headers())
        } else {
            Ok(Incoming::default())
        };
        let own = CallTimeout::take(&mut req);
        let begun = incoming.and_then(|incoming| Shared::begin(&self.shared, incoming, own));
        let inner = match begun {
            Ok((call, context)) => {
                if self.shared.fills_extensions {
                    req.extensions_mut().insert(context);
                }
                Expiring::called(call, || self.inner.call(req))
            }
            // The inner service keeps the readiness it reported; the next call let in uses it.
            Err(rejected) => Expiring::rejected(rejected),
        };
        DeadlineFuture { inner }
    }
}

/// Response future of [`Deadline`].
///
/// Drops the inner future as soon as the deadline has passed.
#[pin_project]
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct DeadlineFuture<F> {
    #[pin]
    inner: Expiring<F, Shared>,
}

impl<F, R, E> Future for DeadlineFuture<F>
where
    F: Future<Output = Result<R, E>>,
    E: FromRejected + FromTimedOut,
{
    type Output = Result<R, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        self.project().inner.poll(cx)
    }
}
