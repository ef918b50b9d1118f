//! The bulkhead that refuses at once.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project::pin_project;
use tower::Service;

use super::{layer::Shared, permit::Permit};
use crate::{
    error::{FromRejected, Reason, Rejected},
    origin,
    pooled::PooledArc,
};

/// Refuses calls while too many are in flight.
///
/// See the [module docs](super) for an example.
#[derive(Clone, Debug)]
pub struct Bulkhead<S> {
    inner: S,
    shared: PooledArc<Shared>,
}

impl<S> Bulkhead<S> {
    pub(super) const fn new(inner: S, shared: PooledArc<Shared>) -> Self {
        Self { inner, shared }
    }

    inner_accessors!();
}

impl<S, Req> Service<Req> for Bulkhead<S>
where
    S: Service<Req>,
    S::Error: FromRejected,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BulkheadFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        // No permit is taken here: a service that is ready but never called would keep it from those
        // that have work to do.
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        let state = match Permit::try_take(&self.shared) {
            Some(mut permit) => {
                let future = self.inner.call(req);
                permit.course.called();
                State::Admitted { future, permit }
            }
            None => {
                // The inner service keeps the readiness it reported; the next call admitted uses it.
                let telemetry = &self.shared.telemetry;
                let rejected = Rejected::new(telemetry.name(), Reason::BulkheadFull);
                telemetry.rejected(rejected.reason());
                State::Rejected(rejected)
            }
        };
        BulkheadFuture { state }
    }
}

/// Response future of [`Bulkhead`].
#[pin_project]
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct BulkheadFuture<F> {
    #[pin]
    state: State<F>,
}

#[pin_project(project = StateProj)]
#[derive(Debug)]
enum State<F> {
    // In this order: the inner future is gone before its permit is given back.
    Admitted {
        #[pin]
        future: F,
        permit: Permit,
    },
    Rejected(Rejected),
    Done,
}

impl<F, T, E> Future for BulkheadFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: FromRejected,
{
    type Output = Result<T, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        let result = match state.as_mut().project() {
            StateProj::Admitted { future, permit } => {
                let Poll::Ready(result) = permit.course.watch(|| future.poll(cx)) else {
                    return Poll::Pending;
                };
                result
            }
            StateProj::Rejected(rejected) => Err(origin::reject(*rejected)),
            StateProj::Done => panic!("`BulkheadFuture` polled after completion"),
        };
        // Gives the permit back now, not when the caller drops this future.
        state.set(State::Done);
        Poll::Ready(result)
    }
}
