//! The future that both services have: runs within a context, and no longer than to its deadline.

use std::{
    future::Future,
    pin::Pin,
    task::{self, Poll, ready},
};

use pin_project::pin_project;

use crate::{
    context::Context,
    error::{FromRejected, FromTimedOut, Limit, Rejected, TimedOut},
    origin::{self, Origin},
    pooled::{Pooled, PooledArc},
    telemetry::{Course, Ending, Telemetry},
    time::{self, Instant, Timer},
};

/// What the future must know of the layer that made it.
pub(super) trait Side: Pooled {
    /// Whether an error that the inner service comes back with after the deadline is the deadline's
    /// doing.
    const OWNS_LATE_ERRORS: bool;

    fn telemetry(&self) -> &Telemetry;
}

#[pin_project]
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub(super) struct Expiring<F, L: Side> {
    #[pin]
    state: State<F, L>,
}

#[pin_project(project = StateProj)]
#[derive(Debug)]
enum State<F, L: Side> {
    // In this order: the inner future is dropped before its call is told of.
    Called {
        #[pin]
        future: F,
        /// There from when the inner future is first found pending, if there is a deadline.
        timer: Option<Timer>,
        call: Call<L>,
    },
    Rejected(Rejected),
    Done,
}

impl<F, L: Side> Expiring<F, L> {
    pub(super) fn called(mut call: Call<L>, make: impl FnOnce() -> F) -> Self {
        let future = call.context.sync_scope(make);
        call.course.called();
        let timer = None;
        let state = State::Called {
            future,
            timer,
            call,
        };
        Self { state }
    }

    pub(super) const fn rejected(rejected: Rejected) -> Self {
        let state = State::Rejected(rejected);
        Self { state }
    }
}

impl<F, L, T, E> Future for Expiring<F, L>
where
    F: Future<Output = Result<T, E>>,
    E: FromRejected + FromTimedOut,
    L: Side,
{
    type Output = Result<T, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        match state.as_mut().project() {
            StateProj::Called {
                future,
                timer,
                call,
            } => {
                let polled = call.poll(future, cx);
                if let Poll::Ready(result) = &polled {
                    if let Some(timer) = timer.take() {
                        timer.recycle();
                    }
                    if result.is_err() && call.is_late_error() {
                        let timed_out = call.time_out();
                        state.set(State::Done);
                        return Poll::Ready(Err(origin::time_out(timed_out)));
                    }
                    // The result stays where it is; taking it out first would cost a copy.
                    state.set(State::Done);
                    return polled;
                }
                let Some(deadline) = call.context.deadline() else {
                    return Poll::Pending;
                };
                let timer = timer.get_or_insert_with(|| Timer::until(deadline));
                ready!(timer.poll(cx));
                let timed_out = call.time_out();
                // The inner future first, told why; only then is there an answer.
                origin::cut(|| state.set(State::Done));
                Poll::Ready(Err(origin::time_out(timed_out)))
            }
            StateProj::Rejected(rejected) => {
                let error = origin::reject(*rejected);
                state.set(State::Done);
                Poll::Ready(Err(error))
            }
            StateProj::Done => panic!("polled after completion"),
        }
    }
}

/// A call of which it will be told how it ended, once.
#[derive(Debug)]
pub(super) struct Call<L: Side> {
    context: Context,
    /// There where there is a deadline.
    began: Option<Instant>,
    shared: PooledArc<L>,
    course: Course,
}

impl<L: Side> Call<L> {
    pub(super) fn begin(shared: &PooledArc<L>, context: Context, began: Option<Instant>) -> Self {
        let course = Course::begun();
        let shared = shared.clone();
        Self {
            context,
            began,
            shared,
            course,
        }
    }

    #[inline]
    fn poll<F: Future>(
        &mut self,
        future: Pin<&mut F>,
        cx: &mut task::Context<'_>,
    ) -> Poll<F::Output> {
        let _entered = self.context.enter();
        if L::OWNS_LATE_ERRORS {
            origin::clear();
        }
        self.course.watch(|| future.poll(cx))
    }

    /// Whether the error that the inner service has just come back with is its way to say that the
    /// deadline has passed. A layer's own below says so itself, and better.
    fn is_late_error(&self) -> bool {
        L::OWNS_LATE_ERRORS && origin::read() == Origin::Inner && self.context.is_expired()
    }

    fn time_out(&mut self) -> TimedOut {
        let since = |began| time::now().saturating_duration_since(began);
        let waited = self.began.map(since).unwrap_or_default();
        self.course.end(Ending::TimedOut);
        let telemetry = self.shared.telemetry();
        telemetry.time_out(Limit::Deadline, waited)
    }
}

impl<L: Side> Drop for Call<L> {
    #[inline]
    fn drop(&mut self) {
        self.shared.telemetry().ended(self.course.ending());
    }
}
