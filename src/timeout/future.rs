//! The future: looks at the clock only when it has to wait.

use std::{
    future::Future,
    pin::Pin,
    task::{self, Poll, ready},
    time::Duration,
};

use pin_project::pin_project;
use tower::Service;

use super::layer::Shared;
use crate::{
    context::Context,
    error::{FromRejected, FromTimedOut, Limit, Reason, Rejected, TimedOut},
    oneshot::Oneshot,
    origin,
    pooled::PooledArc,
    telemetry::{Course, Ending},
    time::{self, Instant, Timer},
};

/// Response future of [`Timeout`](super::Timeout).
///
/// Drops the inner future as soon as the limit has passed.
#[pin_project]
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct TimeoutFuture<F> {
    #[pin]
    state: State<F>,
}

#[pin_project(project = StateProj)]
#[derive(Debug)]
enum State<F> {
    Called {
        #[pin]
        future: F,
        wait: Wait,
        /// There from when the inner future is first found pending, unless nothing within the clock's
        /// reach would end the wait.
        timer: Option<Timer>,
        call: Call,
    },
    Rejected(Rejected),
    Done,
}

/// What ends the wait for the inner future.
#[derive(Clone, Copy, Debug)]
enum Wait {
    /// It has not been found pending yet. It may be for so long.
    Unbegun(Duration),
    /// It has since this moment, and may be until the timer fires, for this limit.
    Begun(Instant, Limit),
}

impl Wait {
    /// When the wait is over that begins now: at the limit or the deadline, whichever comes first.
    #[inline]
    fn begin(limit: Duration) -> (Self, Option<Instant>) {
        let now = time::now();
        let own = (now.checked_add(limit), Limit::Timeout);
        let deadline = (Context::current().deadline(), Limit::Deadline);
        let (end, limit) = time::earlier(own, deadline);
        (Self::Begun(now, limit), end)
    }
}

impl<F> TimeoutFuture<F> {
    pub(super) fn called(future: F, limit: Duration, mut call: Call) -> Self {
        call.course.called();
        let state = State::Called {
            future,
            wait: Wait::Unbegun(limit),
            timer: None,
            call,
        };
        Self { state }
    }

    pub(super) const fn rejected(rejected: Rejected) -> Self {
        let state = State::Rejected(rejected);
        Self { state }
    }

    /// When the inner future was first found pending, while it is.
    pub(super) const fn began(&self) -> Option<Instant> {
        match self.state {
            State::Called {
                wait: Wait::Begun(began, _),
                ..
            } => Some(began),
            _ => None,
        }
    }
}

impl<F, T, E> Future for TimeoutFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: FromRejected + FromTimedOut,
{
    type Output = Result<T, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        match state.as_mut().project() {
            StateProj::Called {
                future,
                wait,
                timer,
                call,
            } => {
                let polled = call.course.watch(|| future.poll(cx));
                if polled.is_ready() {
                    if let Some(timer) = timer.take() {
                        timer.recycle();
                    }
                    // The result stays where it is; taking it out first would cost a copy.
                    state.set(State::Done);
                    return polled;
                }
                if let Wait::Unbegun(limit) = *wait {
                    let (begun, end) = Wait::begin(limit);
                    *wait = begun;
                    if let Some(end) = end {
                        *timer = Some(Timer::until(end));
                    }
                }
                let (Some(timer), Wait::Begun(began, limit)) = (timer, *wait) else {
                    return Poll::Pending;
                };
                ready!(timer.poll(cx));
                let timed_out = call.time_out(limit, began);
                // The inner future first, told why; only then is there an answer.
                origin::cut(|| state.set(State::Done));
                Poll::Ready(Err(origin::time_out(timed_out)))
            }
            StateProj::Rejected(rejected) => {
                let error = origin::reject(*rejected);
                state.set(State::Done);
                Poll::Ready(Err(error))
            }
            StateProj::Done => panic!("`TimeoutFuture` polled after completion"),
        }
    }
}

/// Response future of [`ReadyTimeout`](super::ReadyTimeout).
///
/// Drops the inner service's clone or future as soon as the limit has passed.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct ReadyTimeoutFuture<S: Service<Req>, Req> {
    #[pin]
    pub(super) inner: TimeoutFuture<Oneshot<S, Req>>,
}

opaque_debug!(ReadyTimeoutFuture<S, Req>);

impl<S, Req> Future for ReadyTimeoutFuture<S, Req>
where
    S: Service<Req>,
    S::Error: FromRejected + FromTimedOut,
{
    type Output = Result<S::Response, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        self.project().inner.poll(cx)
    }
}

/// A call of which it will be told how it ended, once.
#[derive(Debug)]
pub(super) struct Call {
    shared: PooledArc<Shared>,
    course: Course,
}

impl Call {
    /// Begins a call, unless its deadline has passed.
    #[inline]
    pub(super) fn begin(shared: &PooledArc<Shared>) -> Result<Self, Rejected> {
        if Context::current().is_expired() {
            return Err(shared.telemetry.reject(Reason::DeadlineExceeded));
        }
        Ok(Self {
            shared: shared.clone(),
            course: Course::begun(),
        })
    }

    fn time_out(&mut self, limit: Limit, began: Instant) -> TimedOut {
        let waited = time::now().saturating_duration_since(began);
        self.course.end(Ending::TimedOut);
        self.shared.telemetry.time_out(limit, waited)
    }
}

impl Drop for Call {
    #[inline]
    fn drop(&mut self) {
        self.shared.telemetry.ended(self.course.ending());
    }
}
