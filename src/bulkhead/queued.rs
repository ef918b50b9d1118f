//! The bulkhead that lets calls wait.

use std::{
    future::Future,
    pin::Pin,
    task::{self, Poll, ready},
    time::Duration,
};

use pin_project::pin_project;
use tower::Service;

use super::{
    layer::Shared,
    permit::{Entry, Permit, Wait},
};
use crate::{
    context::Context,
    error::{FromRejected, Reason, Rejected},
    oneshot::Oneshot,
    origin,
    pooled::PooledArc,
    time::{self, Timer},
};

/// Lets calls wait while too many are in flight, and refuses them while too many wait.
///
/// Always ready itself: every call makes a clone of the inner service ready, once it holds its permit.
///
/// See the [module docs](super) for an example.
#[derive(Clone, Debug)]
pub struct QueuedBulkhead<S> {
    inner: S,
    shared: PooledArc<Shared>,
    max_wait: Duration,
}

impl<S> QueuedBulkhead<S> {
    pub(super) const fn new(inner: S, shared: PooledArc<Shared>, max_wait: Duration) -> Self {
        Self {
            inner,
            shared,
            max_wait,
        }
    }

    inner_accessors!();
}

impl<S, Req> Service<Req> for QueuedBulkhead<S>
where
    S: Service<Req> + Clone,
    S::Error: FromRejected,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = QueuedBulkheadFuture<S, Req>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        QueuedBulkheadFuture {
            request: Some((self.inner.clone(), req)),
            shared: self.shared.clone(),
            max_wait: self.max_wait,
            state: State::Asking,
        }
    }
}

/// Response future of [`QueuedBulkhead`].
///
/// Takes its permit, or its place in the queue, when it is first polled. Dropping it leaves the queue,
/// or gives the permit back.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct QueuedBulkheadFuture<S: Service<Req>, Req> {
    /// Until the permit is there.
    request: Option<(S, Req)>,
    shared: PooledArc<Shared>,
    max_wait: Duration,
    #[pin]
    state: State<S, Req>,
}

opaque_debug!(QueuedBulkheadFuture<S, Req>);

#[pin_project(project = StateProj)]
enum State<S: Service<Req>, Req> {
    Asking,
    Waiting {
        wait: Wait,
        /// Why the call is refused when the timer fires, if there is to be one.
        timer: Option<Timer>,
        reason: Reason,
    },
    // In this order: the inner future is gone before its permit is given back.
    Admitted {
        #[pin]
        future: Oneshot<S, Req>,
        permit: Permit,
    },
    Done,
}

impl<S, Req> Future for QueuedBulkheadFuture<S, Req>
where
    S: Service<Req>,
    S::Error: FromRejected,
{
    type Output = Result<S::Response, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let outcome = loop {
            let next = match this.state.as_mut().project() {
                StateProj::Asking => match Wait::enter(this.shared, cx.waker()) {
                    Entry::Admitted(permit) => Ok(permit),
                    Entry::Full => Err(Reason::BulkheadFull),
                    Entry::Waiting(wait) => {
                        let (timer, reason) = timer(*this.max_wait);
                        this.state.set(State::Waiting {
                            wait,
                            timer,
                            reason,
                        });
                        continue;
                    }
                },
                StateProj::Waiting {
                    wait,
                    timer,
                    reason,
                } => match wait.poll(cx) {
                    Poll::Ready(permit) => {
                        if let Some(timer) = timer.take() {
                            timer.recycle();
                        }
                        Ok(permit)
                    }
                    Poll::Pending => {
                        // With no timer the wait ends with a permit only.
                        let Some(timer) = timer else {
                            return Poll::Pending;
                        };
                        ready!(timer.poll(cx));
                        Err(*reason)
                    }
                },
                StateProj::Admitted { future, permit } => {
                    break ready!(permit.course.watch(|| future.poll(cx)));
                }
                StateProj::Done => panic!("`QueuedBulkheadFuture` polled after completion"),
            };
            match next {
                Ok(permit) => {
                    let (service, req) = this.request.take().expect("kept until admitted");
                    let future = Oneshot::new(service, req);
                    this.state.set(State::Admitted { future, permit });
                }
                Err(reason) => {
                    let telemetry = &this.shared.telemetry;
                    let rejected = Rejected::new(telemetry.name(), reason);
                    telemetry.rejected(rejected.reason());
                    break Err(origin::reject(rejected));
                }
            }
        };
        // Gives the permit back, or leaves the queue, now and not when the caller drops this future.
        this.state.set(State::Done);
        *this.request = None;
        Poll::Ready(outcome)
    }
}

/// When the wait is over, and why: the bound of the queue or the deadline, whichever comes first.
fn timer(max_wait: Duration) -> (Option<Timer>, Reason) {
    let bound = time::now().checked_add(max_wait);
    let deadline = Context::current().deadline();
    let (end, reason) = match (bound, deadline) {
        (Some(bound), Some(deadline)) if deadline < bound => {
            (Some(deadline), Reason::DeadlineExceeded)
        }
        (None, Some(deadline)) => (Some(deadline), Reason::DeadlineExceeded),
        (bound, _) => (bound, Reason::QueueTimeout),
    };
    (end.map(Timer::until), reason)
}
