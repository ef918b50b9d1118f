//! The future: attempt, decide, wait, attempt again.

use std::{
    future::Future,
    mem,
    num::NonZeroU32,
    pin::Pin,
    task::{self, Poll, ready},
    time::Duration,
};

use pin_project::pin_project;
use tower::Service;

use super::{
    ByVerdict, CloneRequest, Decide,
    layer::Shared,
    policy::{Past, Step, Stop},
};
use crate::{
    budget::Account,
    classify::{Classify, Failure, FailureKind, Judgement, Verdict, judge},
    context::Context,
    origin,
    pooled::PooledArc,
    telemetry::{Course, Ending},
    time::{self, Timer},
    until::{Answered, Guard, Until},
};

/// Response future of [`Retry`](super::Retry).
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct RetryFuture<S: Service<Req>, Req, C, Q, D = ByVerdict, U = Answered> {
    #[pin]
    state: State<S::Future>,
    /// What another attempt takes; `None` where there can be none.
    again: Option<Again<S, Req, Q>>,
    classifier: C,
    decide: D,
    until: U,
    call: Call,
}

opaque_debug!(RetryFuture<S, Req, C, Q, D, U>);

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
    /// `None` where only an error can bring it back.
    pub(super) req: Option<Req>,
}

impl<S, Req, Q> Again<S, Req, Q> {
    /// The request that another attempt would be made with, after this result.
    #[inline]
    fn peek<'a, Res, Err, D>(&'a self, decide: &D, result: &'a Result<Res, Err>) -> Option<&'a Req>
    where
        D: Decide<Req, Res, Err>,
    {
        match (&self.req, result) {
            (Some(req), _) => Some(req),
            (None, Err(error)) => decide.peek_request(error),
            (None, Ok(_)) => None,
        }
    }

    /// Takes that request, and says whether it is there.
    fn keep<Res, Err, D>(&mut self, decide: &D, result: &mut Result<Res, Err>) -> bool
    where
        D: Decide<Req, Res, Err>,
    {
        if let (None, Err(error)) = (&self.req, result) {
            self.req = decide.take_request(error);
        }
        self.req.is_some()
    }
}

impl<S: Service<Req>, Req, C, Q, D, U> RetryFuture<S, Req, C, Q, D, U> {
    pub(super) const fn new(
        future: S::Future,
        call: Call,
        again: Option<Again<S, Req, Q>>,
        classifier: C,
        decide: D,
        until: U,
    ) -> Self {
        Self {
            state: State::Attempting(future),
            again,
            classifier,
            decide,
            until,
            call,
        }
    }
}

impl<S, Req, C, Q, D, U> Future for RetryFuture<S, Req, C, Q, D, U>
where
    S: Service<Req>,
    C: Classify<S::Response, S::Error> + Clone,
    Q: CloneRequest<Req>,
    D: Decide<Req, S::Response, S::Error>,
    U: Until<S::Response, C>,
{
    type Output = Result<U::Response<LastingCall>, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let result = loop {
            match this.state.as_mut().project() {
                StateProj::Attempting(future) => {
                    origin::clear();
                    let mut result = ready!(this.call.poll(|| future.poll(cx)));
                    let judgement = judge(this.classifier, &result);
                    let next = match this.call.wants(judgement, this.again, this.decide, &result) {
                        Some(failure) => {
                            this.call
                                .follow(failure, this.again, this.decide, &mut result)
                        }
                        None => None,
                    };
                    match next {
                        Some(Next::After(timer)) => this.state.set(State::Waiting(timer)),
                        Some(Next::AtOnce) => this.state.set(State::Readying),
                        None => {
                            let lasts = |response| this.until.lasts(response, this.classifier);
                            if judgement.is_success() && result.as_ref().is_ok_and(lasts) {
                                break result.map(|response| {
                                    let call = LastingCall(this.call.hand_over());
                                    this.until.hold(response, call, this.classifier.clone())
                                });
                            }
                            this.call.ended(judgement);
                            break this.until.pass(result);
                        }
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
                        this.call
                            .ended(Judgement::Seen(Failure::permanent().into()));
                        break this.until.pass(Err(error));
                    }
                    let req = req.expect("an attempt was decided on");
                    let copy = this.call.copy(&requests, &req);
                    let can_follow = this.call.can_follow(&copy, this.decide.restores());
                    let future = this.call.attempt(can_follow, || service.call(req));
                    *this.again = can_follow.then_some(Again {
                        service,
                        requests,
                        req: copy,
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

/// Where a call stands between its attempts. Gives back what it holds, and tells how it ended, when it
/// is dropped.
#[derive(Debug)]
pub(super) struct Call {
    shared: PooledArc<Shared>,
    /// The caller's context, with the number of this attempt and the end of the total time.
    context: Context,
    max_attempts: NonZeroU32,
    /// Whether a retry above has the say, so that this one makes one attempt.
    is_nested: bool,
    course: Course,
    past: Past,
}

impl Call {
    #[inline]
    pub(super) fn begin(
        shared: PooledArc<Shared>,
        max_attempts: impl FnOnce() -> Option<NonZeroU32>,
    ) -> Self {
        let policy = &shared.policy;
        let mut context = Context::current();
        let is_nested = context.is_retried_above() && !policy.retries_nested;
        let max_attempts = if is_nested {
            NonZeroU32::MIN // and the number of the attempt is that of the retry above
        } else {
            context = context.with_attempt(NonZeroU32::MIN);
            let wanted = max_attempts().unwrap_or(policy.max_attempts);
            wanted.min(policy.most_attempts)
        };
        if let Some(total) = policy.total_time {
            context = context.with_timeout(total);
        }
        Self {
            context,
            max_attempts,
            is_nested,
            course: Course::begun(),
            past: policy.open(),
            shared,
        }
    }

    #[inline]
    fn is_last(&self) -> bool {
        self.context.attempt() >= self.max_attempts
    }

    /// A copy of the request for an attempt after the present one, if there can be one.
    #[inline]
    pub(super) fn copy<Req, Q: CloneRequest<Req>>(&self, requests: &Q, req: &Req) -> Option<Req> {
        if self.is_last() {
            None
        } else {
            requests.clone_request(req)
        }
    }

    /// Whether an attempt may follow the present one: with a copy, or with what an error hands back.
    #[inline]
    pub(super) fn can_follow<Req>(&self, copy: &Option<Req>, restores: bool) -> bool {
        copy.is_some() || (restores && !self.is_last())
    }

    /// Makes an attempt.
    #[inline]
    pub(super) fn attempt<F>(&mut self, can_follow: bool, call: impl FnOnce() -> F) -> F {
        if can_follow {
            // It stays so for the last attempt: the request has had its attempts by then.
            self.context = self.context.with_retried_above(true);
        }
        self.course = Course::begun();
        let future = self.context.sync_scope(call);
        self.course.called();
        future
    }

    /// Runs the inner service. Until more is said about a result, dropping it is a panic: one in the
    /// caller's own functions, which are asked about it.
    #[inline]
    fn poll<T>(&mut self, poll: impl FnOnce() -> Poll<T>) -> Poll<T> {
        let _entered = self.context.enter();
        self.course = Course::begun();
        let polled = poll();
        if polled.is_pending() {
            self.course.called();
        }
        polled
    }

    /// The failure that is to be tried again, as far as classifier and caller go.
    #[inline]
    fn wants<S, Req, Q, D, Res, Err>(
        &self,
        judgement: Judgement,
        again: &Option<Again<S, Req, Q>>,
        decide: &D,
        result: &Result<Res, Err>,
    ) -> Option<Failure>
    where
        D: Decide<Req, Res, Err>,
    {
        let Judgement::Seen(verdict) = judgement else {
            return None;
        };
        let again = again.as_ref();
        let says = again
            .and_then(|again| again.peek(decide, result))
            .and_then(|req| decide.retry_if(req, result.as_ref()));
        match (says, verdict) {
            (None, Verdict::Failure(failure)) => Some(failure),
            (None, _) => None,
            (Some(true), verdict) => Some(wanted_anyway(verdict)),
            (Some(false), Verdict::Failure(_)) => {
                self.stopped(Stop::RetryIf);
                None
            }
            (Some(false), _) => None,
        }
    }

    /// Decides on how to go on after a failure, and does.
    #[cold]
    fn follow<S, Req, Q, D, Res, Err>(
        &mut self,
        failure: Failure,
        again: &mut Option<Again<S, Req, Q>>,
        decide: &D,
        result: &mut Result<Res, Err>,
    ) -> Option<Next>
    where
        Q: CloneRequest<Req>,
        D: Decide<Req, Res, Err>,
    {
        self.shared.policy.failed(failure, &self.past);
        let step = self.decide(failure, again, decide, result);
        step.map(|step| self.go_on(step))
            .map_err(|stop| self.stopped(stop))
            .ok()
    }

    fn decide<S, Req, Q, D, Res, Err>(
        &mut self,
        failure: Failure,
        again: &mut Option<Again<S, Req, Q>>,
        decide: &D,
        result: &mut Result<Res, Err>,
    ) -> Result<Step, Stop>
    where
        Q: CloneRequest<Req>,
        D: Decide<Req, Res, Err>,
    {
        let Some(again) = again else {
            return Err(self.why_not_again());
        };
        let req = again.peek(decide, result).ok_or(Stop::NotCloneable)?;
        if !again.requests.is_intact(req) {
            return Err(Stop::NotCloneable);
        }
        let may_repeat = again.requests.may_repeat(req);
        let Shared { policy, rng, .. } = &*self.shared;
        let random = || rng.draw();
        let left = || self.context.remaining();
        let step = policy.decide(failure, may_repeat, &mut self.past, random, left)?;
        if again.keep(decide, result) {
            return Ok(step);
        }
        policy.undo(step, &mut self.past);
        Err(Stop::NotCloneable)
    }

    /// Why a call has nothing to be tried again with.
    fn why_not_again(&self) -> Stop {
        if self.is_nested {
            Stop::Nested
        } else if self.is_last() {
            Stop::Attempts
        } else {
            Stop::NotCloneable
        }
    }

    fn stopped(&self, stop: Stop) {
        self.shared.stopped(self.context.attempt().get(), stop);
    }

    fn go_on(&mut self, step: Step) -> Next {
        self.course.called(); // from here on, being dropped is being abandoned again
        let attempt = self.context.attempt();
        let delay = match step {
            Step::Resend => {
                self.shared.resending(attempt.get());
                Duration::ZERO
            }
            Step::Retry(delay) => {
                self.context = self.context.with_attempt(attempt.saturating_add(1));
                self.shared.retrying(self.context.attempt().get(), delay);
                delay
            }
        };
        if delay.is_zero() {
            Next::AtOnce
        } else {
            Next::After(Timer::until(time::now() + delay))
        }
    }

    /// Hands over what the call holds, and the telling of how it ends.
    fn hand_over(&mut self) -> Self {
        let past = mem::replace(&mut self.past, Past::new(Account::default()));
        self.course.end(Ending::Completed); // which is none of those that a retry tells
        let mut course = Course::begun();
        course.called();
        Self {
            shared: self.shared.clone(),
            past,
            course,
            ..*self
        }
    }

    /// The call ends with this.
    #[inline]
    fn ended(&mut self, judgement: Judgement) {
        let ending = match judgement {
            Judgement::Seen(Verdict::Success) => Ending::Success,
            Judgement::Seen(Verdict::Failure(_)) => Ending::Failure,
            Judgement::Seen(Verdict::Ignored) => Ending::Ignored,
            Judgement::RejectedBelow => Ending::RejectedBelow,
        };
        self.course.end(ending);
        let policy = &self.shared.policy;
        policy.close(&mut self.past, ending == Ending::Success);
    }
}

/// A call that was answered and [lasts on](crate::until). When it is over its budget is told how, and what
/// it holds of it given back; to drop it is to give the call up. There are no further attempts.
#[derive(Debug)]
pub struct LastingCall(Call);

impl Guard for LastingCall {
    fn watch<T>(&mut self, poll: impl FnOnce() -> Poll<T>) -> Poll<T> {
        let polled = self.0.course.watch(poll);
        self.0.course.called(); // there may be more to come
        polled
    }

    fn end(mut self, verdict: impl FnOnce() -> Verdict) {
        let call = &mut self.0;
        call.course = Course::begun(); // a panic of the caller's own classifier
        let verdict = verdict();
        if let Verdict::Failure(failure) = verdict {
            call.shared.policy.failed(failure, &call.past);
        }
        call.ended(Judgement::Seen(verdict));
    }
}

/// What the classifier did not take for worth another attempt, and the caller did.
fn wanted_anyway(verdict: Verdict) -> Failure {
    let Verdict::Failure(failure) = verdict else {
        return Failure::transient();
    };
    if failure.is_retryable() {
        return failure;
    }
    let wanted = match failure.kind() {
        FailureKind::Permanent => Failure::transient(),
        kind => Failure::of(kind),
    };
    match failure.hint() {
        Some(hint) => wanted.with_hint(hint),
        None => wanted,
    }
}

impl Drop for Call {
    #[inline]
    fn drop(&mut self) {
        self.shared.policy.close(&mut self.past, false);
        self.shared.telemetry.ended(self.course.ending());
    }
}
