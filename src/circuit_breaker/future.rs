//! The future, and what becomes of a call that does not end as calls should.

use std::{
    future::Future,
    ops::Deref,
    pin::Pin,
    task::{self, Poll},
    time::Duration,
};

use pin_project::pin_project;

use super::{ask::Refusal, layer::Shared, machine::Pass, unsettled::UnsettledCall};
use crate::{
    classify::{Classify, Failure, Hint, Judgement, Verdict},
    context::Context,
    error::{FromRejected, Reason, Rejected},
    origin,
    pooled::PooledArc,
    telemetry::Ending,
    time::{self, Instant},
    until::{Answered, Until},
    watched,
    window::Outcome,
};

/// Response future of [`CircuitBreaker`](super::CircuitBreaker).
#[pin_project]
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct CircuitBreakerFuture<F, C, U = Answered>(
    #[pin] pub(super) Watched<F, C, U, PooledArc<Shared>>,
);

impl<F, C, U, T, E> Future for CircuitBreakerFuture<F, C, U>
where
    F: Future<Output = Result<T, E>>,
    E: FromRejected,
    C: Classify<T, E>,
    U: Until<T, C>,
{
    type Output = Result<U::Response<UnsettledCall>, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        self.project().0.poll(cx)
    }
}

/// A call that is watched, or refused. `P` is its hold on the breaker.
pub(super) type Watched<F, C, U, P> = watched::Watched<F, C, U, Call<P>, Refused>;

/// A refusal by the breaker of this name.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) layer: &'static str,
    pub(super) refusal: Refusal,
}

impl watched::Refusal for Refused {
    fn rejected(&self) -> Rejected {
        let rejected = Rejected::new(self.layer, Reason::CircuitOpen);
        match self.refusal.ends_in() {
            Some(delay) => rejected.with_retry_after(delay),
            None => rejected,
        }
    }
}

/// An admitted call, to be accounted for exactly once: by [`end`](Self::end), or else on drop.
#[derive(Debug)]
pub(super) struct Call<P: Deref<Target = Shared>> {
    pub(super) shared: P,
    pub(super) pass: Pass,
    /// Known from the start for a probe and where a rule looks at slow calls, else from when the call
    /// is first found pending. A call that is answered at once need not read the clock.
    pub(super) began: Option<Instant>,
    /// Looked up when the call is first found pending.
    deadline: Option<Instant>,
    pub(super) phase: Phase,
}

/// For how many nanoseconds the service asked to be left alone.
pub(super) fn asked_by(failure: Failure) -> u64 {
    match failure.hint() {
        Some(Hint::After(delay)) => time::nanos(delay),
        Some(Hint::Never) | None => 0,
    }
}

/// Where a call stands if it is dropped now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The inner service is being run: it panicked.
    Inside,
    /// It is being waited for: the caller gave it up.
    Waiting,
    /// All is said.
    Ended,
}

impl<P: Deref<Target = Shared>> Call<P> {
    /// A call that is about to be made.
    #[inline]
    pub(super) fn begin(shared: P, pass: Pass) -> Self {
        let is_timed = pass.is_probe() || shared.is_timed;
        Self {
            shared,
            pass,
            began: is_timed.then(time::now),
            deadline: None,
            phase: Phase::Inside,
        }
    }

    /// The call was answered, and lasts on: it has kept nobody waiting yet for what is still to come.
    pub(super) fn last_on(&mut self, deadline: Option<Instant>) {
        self.phase = Phase::Waiting;
        self.deadline = self.deadline.or(deadline);
        self.began = None;
    }

    /// Whether the result, unless it was slow to come, would change nothing.
    #[inline]
    fn is_uneventful(&self, judgement: Judgement) -> bool {
        judgement == Judgement::Seen(Verdict::Success)
            && self.shared.machine.is_unmoved_by_success(self.pass)
    }

    #[inline(never)]
    fn account(&self, judgement: Judgement) {
        let is_timed = self.shared.is_timed;
        let now = (is_timed || self.pass.is_probe()).then(time::now);
        if is_timed && self.is_uneventful(judgement) && !self.is_slow(now) {
            return self.shared.telemetry.ended(Ending::Success);
        }
        if self.pass.is_unwatched() {
            return;
        }
        let ending = judgement.ending();
        match judgement {
            Judgement::Seen(Verdict::Success) => self.settle(false, 0, now, ending),
            Judgement::Seen(Verdict::Failure(failure)) => {
                self.settle(true, asked_by(failure), now, ending);
            }
            Judgement::Seen(Verdict::Ignored) | Judgement::RejectedBelow => {
                self.ignore(now, ending);
            }
        }
    }

    /// The service asked to be left alone for so many nanoseconds.
    fn settle(&self, failed: bool, asked: u64, now: Option<Instant>, ending: Ending) {
        let outcome = match now {
            Some(_) => self.measure(failed, now),
            None => Outcome::untimed(failed),
        };
        self.record(outcome, asked, now, ending);
    }

    pub(super) fn record(
        &self,
        outcome: Outcome,
        asked: u64,
        now: Option<Instant>,
        ending: Ending,
    ) {
        let shared = &*self.shared;
        shared.telemetry.ended(ending);
        let now = || shared.nanos_at(now.unwrap_or_else(time::now));
        shared
            .machine
            .settle(self.pass, outcome, asked, now, shared);
    }

    pub(super) fn measure(&self, failed: bool, now: Option<Instant>) -> Outcome {
        if self.is_late_probe(now) {
            return Outcome::HUNG;
        }
        let shared = &*self.shared;
        if !shared.is_timed {
            return Outcome::untimed(failed);
        }
        let tail = shared.latency_bound;
        Outcome {
            failed,
            slow: self.is_slow(now),
            tail: tail.is_some_and(|bound| self.is_longer_than(bound, now)),
        }
    }

    /// How long the call ran, as far as that was measured.
    fn ran(&self, now: Option<Instant>) -> Duration {
        match (self.began, now) {
            (Some(began), Some(now)) => now.saturating_duration_since(began),
            _ => Duration::ZERO,
        }
    }

    fn is_slow(&self, now: Option<Instant>) -> bool {
        self.is_longer_than(self.shared.slow, now)
    }

    fn is_longer_than(&self, bound: Duration, now: Option<Instant>) -> bool {
        // By comparing moments, which is much cheaper than taking one from the other.
        let bound = self.began.and_then(|began| began.checked_add(bound));
        bound.is_some_and(|bound| now > Some(bound))
    }

    pub(super) fn is_late_probe(&self, now: Option<Instant>) -> bool {
        self.pass.is_probe() && self.ran(now) >= self.shared.half_open_timeout
    }

    /// The call says nothing, unless it is a probe that took too long to say it.
    pub(super) fn ignore(&self, now: Option<Instant>, ending: Ending) {
        if self.is_late_probe(now) {
            return self.settle(true, 0, now, ending);
        }
        self.shared.telemetry.ended(ending);
        self.shared.machine.forgo(self.pass);
    }

    /// Dropped without a result. A panic is a failure. So is a call whose time was up: because a
    /// timeout of ours dropped it, because its deadline has passed, or because it had run longer than
    /// a call may. Any other says nothing.
    #[cold]
    fn abandon(&self) {
        if self.pass.is_unwatched() {
            return;
        }
        let now = time::now();
        if self.phase == Phase::Inside {
            return self.settle(true, 0, Some(now), Ending::Panicked);
        }
        let is_late = origin::is_cut()
            || self.deadline.is_some_and(|deadline| deadline <= now)
            || self.is_slow(Some(now));
        if is_late {
            self.settle(true, 0, Some(now), Ending::AbandonedLate);
        } else {
            self.ignore(Some(now), Ending::Abandoned);
        }
    }
}

impl<P: Deref<Target = Shared>> watched::Call for Call<P> {
    #[inline]
    fn inside(&mut self) {
        self.phase = Phase::Inside;
    }

    #[inline]
    fn called(&mut self) {
        self.phase = Phase::Waiting;
    }

    #[inline]
    fn pending(&mut self) {
        self.phase = Phase::Waiting;
        if self.began.is_none() {
            self.began = Some(time::now());
        }
        if self.deadline.is_none() {
            self.deadline = Context::current().deadline();
        }
    }

    #[inline]
    fn end(&mut self, judgement: Judgement) {
        self.phase = Phase::Ended;
        if !self.shared.is_timed && self.is_uneventful(judgement) {
            // The healthy path: no clock to read, and nothing to write.
            self.shared.telemetry.ended(Ending::Success);
        } else {
            self.account(judgement);
        }
    }
}

impl<P: Deref<Target = Shared>> Drop for Call<P> {
    #[inline]
    fn drop(&mut self) {
        if self.phase != Phase::Ended {
            self.abandon();
        }
    }
}
