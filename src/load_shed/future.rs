//! The future, and what a call that passed holds.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project::pin_project;

use super::{
    held::HeldCall,
    shared::{Pass, Refused, Shared},
};
use crate::{
    classify::{AnyError, Judgement},
    error::FromRejected,
    pooled::PooledArc,
    telemetry::{Course, Ending},
    until::{Answered, Until},
    watched::{self, Watched},
};

/// Response future of [`LoadShed`](super::LoadShed).
#[pin_project]
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct LoadShedFuture<F, U = Answered>(
    #[pin] pub(super) Watched<F, AnyError, U, Call, Refused>,
);

impl<F, U, T, E> Future for LoadShedFuture<F, U>
where
    F: Future<Output = Result<T, E>>,
    E: FromRejected,
    U: Until<T>,
{
    type Output = Result<U::Response<HeldCall>, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().0.poll(cx)
    }
}

/// A call that passed. It is over when this is dropped.
#[derive(Debug)]
pub(super) struct Call {
    shared: PooledArc<Shared>,
    pass: Pass,
    course: Course,
}

impl Call {
    /// A call that is about to be made.
    #[inline]
    pub(super) const fn begin(shared: PooledArc<Shared>, pass: Pass) -> Self {
        Self {
            shared,
            pass,
            course: Course::begun(),
        }
    }
}

impl watched::Call for Call {
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
    }

    /// Whether the call went well is not asked.
    #[inline]
    fn end(&mut self, judgement: Judgement) {
        self.course.end(match judgement {
            Judgement::RejectedBelow => Ending::RejectedBelow,
            Judgement::Seen(_) => Ending::Completed,
        });
    }
}

impl Drop for Call {
    #[inline]
    fn drop(&mut self) {
        let (shared, ending) = (&*self.shared, self.course.ending());
        if self.pass == Pass::Counted {
            shared.over(ending);
        }
        if self.pass != Pass::Unwatched {
            shared.telemetry.ended(ending);
        }
    }
}
