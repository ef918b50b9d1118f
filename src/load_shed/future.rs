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
    classify::AnyError,
    error::FromRejected,
    origin::{self, Origin},
    pooled::PooledArc,
    telemetry::{Course, Ending},
    until::{Answered, Until},
};

/// Response future of [`LoadShed`](super::LoadShed).
#[pin_project]
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct LoadShedFuture<F, U = Answered> {
    #[pin]
    state: State<F>,
    until: U,
}

#[pin_project(project = StateProj, project_replace = StateOwned)]
#[derive(Debug)]
enum State<F> {
    // In this order: the inner future is gone before its call is over.
    Admitted {
        #[pin]
        future: F,
        call: Call,
    },
    Refused(Refused),
    Done,
}

impl<F, U> LoadShedFuture<F, U> {
    #[inline]
    pub(super) fn admitted(future: F, mut call: Call, until: U) -> Self {
        call.course.called();
        let state = State::Admitted { future, call };
        Self { state, until }
    }

    #[inline]
    pub(super) const fn refused(refused: Refused, until: U) -> Self {
        let state = State::Refused(refused);
        Self { state, until }
    }
}

impl<F, U, T, E> Future for LoadShedFuture<F, U>
where
    F: Future<Output = Result<T, E>>,
    E: FromRejected,
    U: Until<T>,
{
    type Output = Result<U::Response<HeldCall>, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let (mut state, until) = (this.state, this.until);
        let result = match state.as_mut().project() {
            StateProj::Admitted { future, call } => {
                origin::clear();
                let Poll::Ready(result) = call.course.watch(|| future.poll(cx)) else {
                    return Poll::Pending;
                };
                if result.is_err() && origin::read() == Origin::Rejected {
                    call.course.end(Ending::RejectedBelow);
                }
                result
            }
            StateProj::Refused(refused) => Err(origin::reject(refused.rejected())),
            StateProj::Done => panic!("future of load shedding polled after completion"),
        };
        match result {
            Ok(response) if until.lasts(&response, &AnyError) => {
                let call = state.take_call().expect("it was admitted");
                Poll::Ready(Ok(until.hold(response, call.into(), AnyError)))
            }
            result => {
                // The call is over now, not when the caller drops this future.
                state.set(State::Done);
                Poll::Ready(until.pass(result))
            }
        }
    }
}

impl<F> State<F> {
    fn take_call(self: Pin<&mut Self>) -> Option<Call> {
        match self.project_replace(Self::Done) {
            StateOwned::Admitted { call, .. } => Some(call),
            StateOwned::Refused(_) | StateOwned::Done => None,
        }
    }
}

/// A call that passed. It is over when this is dropped.
#[derive(Debug)]
pub(super) struct Call {
    shared: PooledArc<Shared>,
    pass: Pass,
    pub(super) course: Course,
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

    pub(super) fn end(mut self) {
        self.course.end(Ending::Completed);
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
