//! A response body that must not take too long.

use std::{
    fmt,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http_body::{Body, Frame, SizeHint};
use pin_project::pin_project;
use tower::BoxError;

use super::timeout::{Limits, Shared};
use crate::{
    error::{FromTimedOut, Limit, TimedOut},
    origin,
    pooled::PooledArc,
    telemetry::{Course, Ending},
    time::{self, Instant, Timer},
};

/// A response body that fails with a [`TimedOut`] where it takes too long; made by
/// [`BodyTimeout`](super::BodyTimeout).
///
/// Frames and [`size_hint`](Body::size_hint) are the inner body's, as they come, and its errors are turned
/// into an `E`.
#[pin_project]
pub struct TimeoutBody<B, E = BoxError> {
    // In this order: the body is gone before it is told how it ended.
    /// Until its time was up.
    #[pin]
    inner: Option<B>,
    /// Until its end.
    wait: Option<Wait>,
    error: PhantomData<fn() -> E>,
}

impl<B: Body, E> TimeoutBody<B, E> {
    pub(super) fn new(
        inner: B,
        limits: Limits,
        deadline: Option<Instant>,
        shared: PooledArc<Shared>,
    ) -> Self {
        let mut wait = Wait::unlimited(limits.idle, shared);
        if inner.is_end_stream() {
            wait.course.end(Ending::Completed);
            return Self::unwatched(inner);
        }
        if limits.total.is_some() || deadline.is_some() {
            wait.limit(limits.total, deadline);
        }
        Self {
            wait: Some(wait),
            ..Self::unwatched(inner)
        }
    }
}

impl<B, E> TimeoutBody<B, E> {
    const fn unwatched(inner: B) -> Self {
        Self {
            inner: Some(inner),
            wait: None,
            error: PhantomData,
        }
    }
}

/// A body without a limit, such as that of a refusal.
impl<B: Default, E> Default for TimeoutBody<B, E> {
    fn default() -> Self {
        Self::unwatched(B::default())
    }
}

/// A body without a limit, such as that of a refusal.
impl<B: From<String>, E> From<String> for TimeoutBody<B, E> {
    fn from(text: String) -> Self {
        Self::unwatched(text.into())
    }
}

impl<B: fmt::Debug, E> fmt::Debug for TimeoutBody<B, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("TimeoutBody");
        debug.field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<B, E> Body for TimeoutBody<B, E>
where
    B: Body,
    B::Error: Into<E>,
    E: FromTimedOut,
{
    type Data = B::Data;
    type Error = E;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, E>>> {
        let mut this = self.project();
        let Some(mut inner) = this.inner.as_mut().as_pin_mut() else {
            return Poll::Ready(None);
        };
        let Some(wait) = this.wait else {
            return inner.poll_frame(cx).map_err(Into::into);
        };
        let timed_out = match wait.course.watch(|| inner.as_mut().poll_frame(cx)) {
            Poll::Ready(polled) => {
                wait.came();
                let more_may_come = match &polled {
                    Some(Ok(frame)) => !frame.is_trailers() && !inner.is_end_stream(),
                    Some(Err(_)) | None => false,
                };
                if !more_may_come {
                    *this.wait = None; // completed
                    return Poll::Ready(polled.map(|frame| frame.map_err(Into::into)));
                }
                wait.course.called();
                match wait.overdue() {
                    None => return Poll::Ready(polled.map(|frame| frame.map_err(Into::into))),
                    Some(timed_out) => timed_out,
                }
            }
            Poll::Pending => ready!(wait.poll(cx)),
        };
        wait.course.end(Ending::TimedOut);
        // The body first, told why; only then is there an error.
        origin::cut(|| this.inner.set(None));
        *this.wait = None;
        Poll::Ready(Some(Err(origin::time_out(timed_out))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Some(inner) => inner.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}

/// The wait for a body to end. When it is dropped, it is told how.
#[derive(Debug)]
struct Wait {
    idle: Option<Duration>,
    whole: Option<Whole>,
    /// There while the body has been found pending, and there is a limit within the clock's reach.
    present: Option<Present>,
    course: Course,
    shared: PooledArc<Shared>,
}

/// The limit on the whole body.
#[derive(Clone, Copy, Debug)]
struct Whole {
    began: Instant,
    /// `None` for one that the clock cannot reach.
    end: Option<Instant>,
    limit: Limit,
}

/// The wait for one frame.
#[derive(Debug)]
struct Present {
    timer: Timer,
    /// What the timer is for, and since when it counts.
    limit: Limit,
    began: Instant,
}

impl Wait {
    fn unlimited(idle: Option<Duration>, shared: PooledArc<Shared>) -> Self {
        let mut course = Course::begun();
        course.called();
        Self {
            idle,
            whole: None,
            present: None,
            course,
            shared,
        }
    }

    /// Limits the whole, from now on, to `total` or to the deadline, whichever comes first.
    fn limit(&mut self, total: Option<Duration>, deadline: Option<Instant>) {
        let began = time::now();
        let own = total.and_then(|total| began.checked_add(total));
        let (end, limit) = time::earlier((own, Limit::Body), (deadline, Limit::Deadline));
        self.whole = Some(Whole { began, end, limit });
    }

    /// A frame came.
    fn came(&mut self) {
        if let Some(present) = self.present.take() {
            present.timer.recycle();
        }
    }

    /// The limit on the whole, if it has passed.
    fn overdue(&self) -> Option<TimedOut> {
        let whole = self.whole?;
        let end = whole.end?;
        (time::now() > end).then(|| self.time_out(whole.limit, whole.began))
    }

    /// Ready when the time is up for a body that has just been found pending.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<TimedOut> {
        self.course.called();
        if self.present.is_none() {
            self.present = self.begin();
        }
        let Some(present) = &mut self.present else {
            return Poll::Pending;
        };
        ready!(present.timer.poll(cx));
        let (limit, began) = (present.limit, present.began);
        Poll::Ready(self.time_out(limit, began))
    }

    fn begin(&self) -> Option<Present> {
        let idle = self.idle.and_then(|idle| {
            let now = time::now();
            Some((now.checked_add(idle)?, Limit::Idle, now))
        });
        let whole = self
            .whole
            .and_then(|whole| Some((whole.end?, whole.limit, whole.began)));
        let (end, limit, began) = match (idle, whole) {
            (Some(idle), Some(whole)) if whole.0 <= idle.0 => whole,
            (idle, whole) => idle.or(whole)?,
        };
        Some(Present {
            timer: Timer::until(end),
            limit,
            began,
        })
    }

    fn time_out(&self, limit: Limit, began: Instant) -> TimedOut {
        let waited = time::now().saturating_duration_since(began);
        self.shared.telemetry.time_out(limit, waited)
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.shared.telemetry.ended(self.course.ending());
    }
}
