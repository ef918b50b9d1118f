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
    classify::{Classify, FailureKind, Judgement, Verdict, judge},
    context::Context,
    error::{FromRejected, Reason, Rejected},
    origin,
    pooled::PooledArc,
    telemetry::{Course, Ending},
    time::{self, Instant},
    until::{Answered, Guard, Until},
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
#[pin_project]
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub(super) struct Watched<F, C, U, P: Deref<Target = Shared>> {
    #[pin]
    state: State<F, C, P>,
    until: U,
}

#[pin_project(project = StateProj, project_replace = StateOwned)]
#[derive(Debug)]
enum State<F, C, P: Deref<Target = Shared>> {
    // In this order: the inner future is dropped before its call is judged abandoned.
    Admitted {
        #[pin]
        future: F,
        call: Call<P>,
        classifier: C,
    },
    /// By the layer of this name.
    Rejected(&'static str),
    Done,
}

impl<F, C, U, P: Deref<Target = Shared>> Watched<F, C, U, P> {
    #[inline]
    pub(super) fn admitted(future: F, mut call: Call<P>, classifier: C, until: U) -> Self {
        call.course.called();
        let state = State::Admitted {
            future,
            call,
            classifier,
        };
        Self { state, until }
    }

    #[inline]
    pub(super) const fn rejected(layer: &'static str, until: U) -> Self {
        let state = State::Rejected(layer);
        Self { state, until }
    }

    #[inline]
    pub(super) fn poll<T, E, G>(
        self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
    ) -> Poll<Result<U::Response<G>, E>>
    where
        F: Future<Output = Result<T, E>>,
        E: FromRejected,
        C: Classify<T, E>,
        U: Until<T, C>,
        G: Guard + From<Call<P>>,
    {
        let this = self.project();
        let (mut state, until) = (this.state, this.until);
        let result = match state.as_mut().project() {
            StateProj::Admitted {
                future,
                call,
                classifier,
            } => {
                origin::clear();
                call.inside();
                let Poll::Ready(result) = future.poll(cx) else {
                    call.pending();
                    return Poll::Pending;
                };
                let judgement = judge(classifier, &result);
                match result {
                    Ok(response)
                        if judgement.is_success() && until.lasts(&response, classifier) =>
                    {
                        let (call, classifier) = state.take_call().expect("it was admitted");
                        return Poll::Ready(Ok(until.hold(response, call.into(), classifier)));
                    }
                    result => {
                        call.end(judgement);
                        result
                    }
                }
            }
            StateProj::Rejected(layer) => {
                Err(origin::reject(Rejected::new(layer, Reason::Throttled)))
            }
            StateProj::Done => panic!("future of a throttle polled after completion"),
        };
        state.set(State::Done);
        Poll::Ready(until.pass(result))
    }
}

impl<F, C, P: Deref<Target = Shared>> State<F, C, P> {
    fn take_call(self: Pin<&mut Self>) -> Option<(Call<P>, C)> {
        match self.project_replace(Self::Done) {
            StateOwned::Admitted {
                call, classifier, ..
            } => Some((call, classifier)),
            _ => None,
        }
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

    /// It is waited for: to drop it is to abandon it.
    #[inline]
    pub(super) fn pending(&mut self) {
        self.course.called();
        if self.counts_timeouts() && self.deadline.is_none() {
            self.deadline = Context::current().deadline();
        }
    }

    /// The service, or the caller's own classifier, is run: what drops the call is a panic in it.
    #[inline]
    pub(super) const fn inside(&mut self) {
        self.course = Course::begun();
    }

    #[inline]
    pub(super) fn end(&mut self, judgement: Judgement) {
        self.course.end(Ending::Completed);
        let ending = match judgement {
            Judgement::Seen(Verdict::Success) => Ending::Success,
            Judgement::Seen(Verdict::Failure(_)) => Ending::Failure,
            Judgement::Seen(Verdict::Ignored) => Ending::Ignored,
            Judgement::RejectedBelow => Ending::RejectedBelow,
        };
        self.account(ending, self.shared.not_accepted.count(judgement));
    }

    #[inline]
    fn account(&self, ending: Ending, counted: Option<Counted>) {
        let shared = &*self.shared;
        if self.pass != Pass::Unwatched {
            shared.telemetry.ended(ending);
        }
        if let (Pass::Counted(class), Some(counted)) = (self.pass, counted) {
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

impl<P: Deref<Target = Shared>> Drop for Call<P> {
    #[inline]
    fn drop(&mut self) {
        if self.course.ending() != Ending::Completed {
            self.abandon();
        }
    }
}
