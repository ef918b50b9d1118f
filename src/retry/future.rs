//! The future: attempt, decide, wait, attempt again.

use std::{
    future::Future,
    num::NonZeroU32,
    pin::Pin,
    task::{self, Poll, ready},
};

use pin_project::pin_project;
use tower::Service;

use super::{CloneRequest, layer::Shared, policy::Stop};
use crate::{
    backoff::Position,
    classify::{Classify, Failure, Judgement, Verdict, judge},
    context::Context,
    origin,
    pooled::PooledArc,
    telemetry::{Course, Ending},
    time::{self, Timer},
};

/// Response future of [`Retry`](super::Retry).
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct RetryFuture<S: Service<Req>, Req, C, Q> {
    #[pin]
    state: State<S::Future>,
    /// What another attempt takes; `None` where there can be none.
    again: Option<Again<S, Req, Q>>,
    classifier: C,
    call: Call,
}

opaque_debug!(RetryFuture<S, Req, C, Q>);

#[pin_project(project = StateProj)]
enum State<F> {
    Attempting(#[pin] F),
    Waiting(Timer),
    Readying,
    Done,
}

/// What another attempt takes.
pub(super) struct Again<S, Req, Q> {
    pub(super) service: S,
    pub(super) requests: Q,
    pub(super) req: Req,
}

impl<S: Service<Req>, Req, C, Q> RetryFuture<S, Req, C, Q> {
    pub(super) const fn new(
        future: S::Future,
        call: Call,
        again: Option<Again<S, Req, Q>>,
        classifier: C,
    ) -> Self {
        Self {
            state: State::Attempting(future),
            again,
            classifier,
            call,
        }
    }
}

impl<S, Req, C, Q> Future for RetryFuture<S, Req, C, Q>
where
    S: Service<Req>,
    C: Classify<S::Response, S::Error>,
    Q: CloneRequest<Req>,
{
    type Output = Result<S::Response, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let result = loop {
            match this.state.as_mut().project() {
                StateProj::Attempting(future) => {
                    origin::clear();
                    let result = ready!(this.call.poll(|| future.poll(cx)));
                    let judgement = judge(this.classifier, &result);
                    let Some(failure) = this.call.judged(judgement) else {
                        break result;
                    };
                    let can_clone = this.again.is_some();
                    match this.call.next(failure, can_clone) {
                        Some(Next::After(timer)) => this.state.set(State::Waiting(timer)),
                        Some(Next::AtOnce) => this.state.set(State::Readying),
                        None => break result,
                    }
                }
                StateProj::Waiting(timer) => {
                    ready!(timer.poll(cx));
                    this.state.set(State::Readying);
                }
                StateProj::Readying => {
                    let again = this.again.as_mut().expect("an attempt was decided on");
                    let readied = ready!(this.call.poll(|| again.service.poll_ready(cx)));
                    let Again {
                        mut service,
                        requests,
                        req,
                    } = this.again.take().expect("it was there just now");
                    if let Err(error) = readied {
                        // The service is gone for good; there is nothing to try again with.
                        this.call.course.end(Ending::Failure);
                        break Err(error);
                    }
                    let copy = this.call.copy(&requests, &req);
                    let future = this.call.attempt(|| service.call(req));
                    *this.again = copy.map(|req| Again {
                        service,
                        requests,
                        req,
                    });
                    this.state.set(State::Attempting(future));
                }
                StateProj::Done => panic!("`RetryFuture` polled after completion"),
            }
        };
        this.state.set(State::Done);
        *this.again = None;
        Poll::Ready(result)
    }
}

/// How the next attempt begins.
pub(super) enum Next {
    AtOnce,
    After(Timer),
}

/// Where a call stands between its attempts. Tells how it ended when it is dropped.
#[derive(Debug)]
pub(super) struct Call {
    shared: PooledArc<Shared>,
    /// The caller's context, with the number of this attempt and the end of the total time.
    context: Context,
    max_attempts: NonZeroU32,
    position: Position,
    course: Course,
}

impl Call {
    pub(super) fn begin(shared: PooledArc<Shared>, max_attempts: Option<NonZeroU32>) -> Self {
        let policy = &shared.policy;
        let mut context = Context::current().with_attempt(NonZeroU32::MIN);
        if let Some(total) = policy.total_time {
            context = context.with_timeout(total);
        }
        Self {
            context,
            max_attempts: max_attempts.unwrap_or(policy.max_attempts),
            position: Position::START,
            course: Course::begun(),
            shared,
        }
    }

    /// A copy of the request for an attempt after the present one, if there can be one.
    pub(super) fn copy<Req, Q: CloneRequest<Req>>(&self, requests: &Q, req: &Req) -> Option<Req> {
        let is_last = self.context.attempt() >= self.max_attempts;
        if is_last {
            None
        } else {
            requests.clone_request(req)
        }
    }

    /// Makes an attempt.
    pub(super) fn attempt<F>(&mut self, call: impl FnOnce() -> F) -> F {
        self.course = Course::begun();
        let future = self.context.sync_scope(call);
        self.course.called();
        future
    }

    fn poll<T>(&mut self, poll: impl FnOnce() -> Poll<T>) -> Poll<T> {
        let _entered = self.context.enter();
        self.course.watch(poll)
    }

    /// Takes note of how the attempt went; returns the failure where it may be tried again.
    fn judged(&mut self, judgement: Judgement) -> Option<Failure> {
        let (ending, failure) = match judgement {
            Judgement::Seen(Verdict::Success) => {
                if let Some(budget) = &self.shared.policy.budget {
                    budget.deposit();
                }
                (Ending::Success, None)
            }
            Judgement::Seen(Verdict::Failure(failure)) => (Ending::Failure, Some(failure)),
            Judgement::Seen(Verdict::Ignored) => (Ending::Ignored, None),
            Judgement::RejectedBelow => (Ending::RejectedBelow, None),
        };
        self.course.end(ending);
        failure
    }

    /// Decides on another attempt, and moves on to it.
    fn next(&mut self, failure: Failure, can_clone: bool) -> Option<Next> {
        let shared = &*self.shared;
        let attempt = self.context.attempt();
        let decision = if can_clone {
            let random = || shared.rng.draw();
            let left = || self.context.remaining();
            let policy = &shared.policy;
            policy.decide(failure, &mut self.position, random, left)
        } else if attempt >= self.max_attempts {
            Err(Stop::Attempts)
        } else {
            Err(Stop::NotCloneable)
        };
        let delay = match decision {
            Ok(delay) => delay,
            Err(stop) => {
                shared.stopped(attempt.get(), stop);
                return None;
            }
        };
        self.context = self.context.with_attempt(attempt.saturating_add(1));
        self.course.called(); // from here on, being dropped is being abandoned again
        shared.retrying(self.context.attempt().get(), delay);
        Some(if delay.is_zero() {
            Next::AtOnce
        } else {
            Next::After(Timer::until(time::now() + delay))
        })
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.shared.telemetry.ended(self.course.ending());
    }
}
