//! The future, and what becomes of a call that does not end as calls should.

use std::{
    future::Future,
    ops::Deref,
    pin::Pin,
    task::{self, Poll},
};

use pin_project::pin_project;

use super::{
    held::UncountedCall,
    settings::Counted,
    shared::{Pass, Shared},
};
use crate::{
    classify::{Classify, FailureKind, Judgement},
    context::Context,
    error::{FromRejected, Reason, Rejected},
    origin,
    pooled::PooledArc,
    reported::ReportedLoad,
    telemetry::{Course, Ending},
    time::{self, Instant},
    until::{Answered, Until},
    watched,
};

/// Response future of [`Throttle`](super::Throttle).
#[pin_project]
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct ThrottleFuture<F, C, U = Answered>(
    #[pin] pub(super) Watched<F, C, U, PooledArc<Shared>>,
);

impl<F, C, U, T, E> Future for ThrottleFuture<F, C, U>
where
    F: Future<Output = Result<T, E>>,
    E: FromRejected,
    C: Classify<T, E>,
    U: Until<T, C>,
{
    type Output = Result<U::Response<UncountedCall>, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        self.project().0.poll(cx)
    }
}

/// A call that is watched, or refused. `P` is its hold on the throttle.
pub(super) type Watched<F, C, U, P> = watched::Watched<F, C, U, Call<P>, Refused>;

/// A refusal by the throttle of this name.
#[derive(Debug)]
pub(super) struct Refused(pub(super) &'static str);

impl watched::Refusal for Refused {
    fn rejected(&self) -> Rejected {
        Rejected::new(self.0, Reason::Throttled)
    }
}

/// A call that passed, to be accounted for exactly once: by [`end`](Self::end), or else on drop.
#[derive(Debug)]
pub(super) struct Call<P: Deref<Target = Shared>> {
    shared: P,
    pass: Pass,
    course: Course,
    /// Looked up when the call is first found pending, where time-outs count.
    deadline: Option<Instant>,
}

impl<P: Deref<Target = Shared>> Call<P> {
    /// A call that is about to be made.
    #[inline]
    pub(super) const fn begin(shared: P, pass: Pass) -> Self {
        Self {
            shared,
            pass,
            course: Course::begun(),
            deadline: None,
        }
    }

    fn counts_timeouts(&self) -> bool {
        self.shared.not_accepted.contains(FailureKind::Timeout)
    }

    #[inline]
    fn account(&self, ending: Ending, counted: Option<Counted>) {
        let shared = &*self.shared;
        if self.pass != Pass::Unwatched {
            shared.telemetry.ended(ending);
        }
        if let (Pass::Counted(class, _), Some(counted)) = (self.pass, counted) {
            shared.count(class, counted, shared.nanos_now());
        }
    }

    /// Dropped without a result, which says nothing of the service: unless its time was up, and that counts.
    #[cold]
    fn abandon(&self) {
        let ending = self.course.ending();
        let is_late = || {
            let has_passed = |deadline| deadline <= time::now();
            origin::is_cut() || self.deadline.is_some_and(has_passed)
        };
        if ending == Ending::Abandoned && self.counts_timeouts() && is_late() {
            self.account(Ending::AbandonedLate, Some(Counted::Overloaded));
        } else {
            self.account(ending, None);
        }
    }
}

impl<P: Deref<Target = Shared>> watched::Call for Call<P> {
    #[inline]
    fn inside(&mut self) {
        self.course = Course::begun();
    }

    #[inline]
    fn called(&mut self) {
        self.course.called();
    }

    #[inline]
    fn pending(&mut self) {
        self.course.called();
        if self.counts_timeouts() && self.deadline.is_none() {
            self.deadline = Context::current().deadline();
        }
    }

    fn reported(&mut self, load: ReportedLoad) {
        if let Pass::Counted(class, sent) = self.pass {
            self.shared.heed(class, sent, &load);
        }
    }

    #[inline]
    fn end(&mut self, judgement: Judgement) {
        self.course.end(Ending::Completed);
        let counted = self.shared.not_accepted.count(judgement);
        self.account(judgement.ending(), counted);
    }
}

impl<P: Deref<Target = Shared>> Drop for Call<P> {
    #[inline]
    fn drop(&mut self) {
        if self.course.ending() != Ending::Completed {
            self.abandon();
        }
    }
}
