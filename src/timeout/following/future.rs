//! The future: looks at the clock as it begins to wait, which the timeout does for it, and at the end.

use std::{
    future::Future,
    pin::Pin,
    task::{self, Poll},
};

use pin_project::pin_project;

use super::Following;
use crate::{
    classify::{Classify, Judgement, Verdict, judge},
    error::{FromRejected, FromTimedOut},
    origin,
    pooled::PooledArc,
    time::Instant,
    timeout::TimeoutFuture,
};

/// Response future of [`FollowingTimeout`](super::FollowingTimeout).
///
/// Drops the inner future as soon as the limit has passed. Dropping it earlier is observed as a call
/// that would have taken longer.
#[pin_project]
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct FollowingTimeoutFuture<F, C> {
    #[pin]
    timeout: TimeoutFuture<F>,
    measure: Measure,
    classifier: C,
}

impl<F, C> FollowingTimeoutFuture<F, C> {
    pub(super) const fn new(
        timeout: TimeoutFuture<F>,
        following: PooledArc<Following>,
        classifier: C,
    ) -> Self {
        let measure = Measure {
            following,
            began: None,
        };
        Self {
            timeout,
            measure,
            classifier,
        }
    }
}

impl<F, C, T, E> Future for FollowingTimeoutFuture<F, C>
where
    F: Future<Output = Result<T, E>>,
    E: FromRejected + FromTimedOut,
    C: Classify<T, E>,
{
    type Output = Result<T, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        origin::clear();
        let polled = this.timeout.as_mut().poll(cx);
        match &polled {
            Poll::Pending => this.measure.began = this.timeout.began(),
            Poll::Ready(result) => {
                let judgement = judge(this.classifier, result);
                this.measure
                    .end(judgement == Judgement::Seen(Verdict::Success));
            }
        }
        polled
    }
}

/// Observes a call, once.
#[derive(Debug)]
struct Measure {
    following: PooledArc<Following>,
    /// When it was first found pending; while it is.
    began: Option<Instant>,
}

impl Measure {
    #[inline]
    fn end(&mut self, is_success: bool) {
        match self.began.take() {
            Some(began) => self.following.observe(began, is_success),
            None if is_success => self.following.observed.record_at_once(),
            // Of a call that fails at once nobody knows how long it would have taken.
            None => {}
        }
    }
}

impl Drop for Measure {
    #[inline]
    fn drop(&mut self) {
        if let Some(began) = self.began.take() {
            self.following.observe(began, false);
        }
    }
}
