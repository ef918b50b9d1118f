//! Calls that were answered well, and of which the verdict is still to come.

use std::{ops::Deref, task::Poll};

use super::{
    future::{Call, Phase, asked_by},
    layer::Shared,
};
use crate::{
    classify::Verdict,
    context::Context,
    keyed::Held,
    pooled::PooledArc,
    telemetry::Ending,
    time::{self, Instant},
    until::Guard,
    window::Outcome,
};

/// A call that was answered, and that its breaker judges when it [is over](crate::until). To drop it is to
/// give the call up.
#[derive(Debug)]
pub struct UnsettledCall(Unsettled<PooledArc<Shared>>);

/// A call that was answered, and that the breaker of its key judges when it [is over](crate::until). To
/// drop it is to give the call up. The key is in use until then.
#[derive(Debug)]
pub struct UnsettledKeyedCall(Unsettled<Held<Shared>>);

impl From<Call<PooledArc<Shared>>> for UnsettledCall {
    fn from(call: Call<PooledArc<Shared>>) -> Self {
        Self(Unsettled::new(call))
    }
}

impl From<Call<Held<Shared>>> for UnsettledKeyedCall {
    fn from(call: Call<Held<Shared>>) -> Self {
        Self(Unsettled::new(call))
    }
}

impl Guard for UnsettledCall {
    fn watch<T>(&mut self, poll: impl FnOnce() -> Poll<T>) -> Poll<T> {
        self.0.watch(poll)
    }

    fn end(self, verdict: impl FnOnce() -> Verdict) {
        self.0.end(verdict);
    }
}

impl Guard for UnsettledKeyedCall {
    fn watch<T>(&mut self, poll: impl FnOnce() -> Poll<T>) -> Poll<T> {
        self.0.watch(poll)
    }

    fn end(self, verdict: impl FnOnce() -> Verdict) {
        self.0.end(verdict);
    }
}

/// How long the call took was measured when it was answered. From then on `began` is the moment since
/// which it has kept its reader waiting: a stream may be as long as it likes, but not as silent.
#[derive(Debug)]
struct Unsettled<P: Deref<Target = Shared>> {
    call: Call<P>,
    answered: Outcome,
    /// Of a probe: when it was answered.
    since: Option<Instant>,
    /// Whether the last poll found something.
    has_come: bool,
}

impl<P: Deref<Target = Shared>> Unsettled<P> {
    fn new(mut call: Call<P>) -> Self {
        let is_probe = call.pass.is_probe();
        let now = (is_probe || call.shared.is_timed).then(time::now);
        let answered = call.measure(false, now);
        call.last_on(Context::current().deadline());
        Self {
            call,
            answered,
            since: now.filter(|_| is_probe),
            has_come: false,
        }
    }

    fn watch<T>(&mut self, poll: impl FnOnce() -> Poll<T>) -> Poll<T> {
        if self.call.phase == Phase::Ended {
            return poll();
        }
        if self.has_come && self.has_come_for_long() {
            self.settle(Verdict::Success);
            return poll();
        }
        self.call.phase = Phase::Inside;
        let polled = poll();
        self.call.phase = Phase::Waiting;
        self.has_come = polled.is_ready();
        if self.has_come {
            self.call.began = None;
        } else if self.call.began.is_none() {
            self.call.began = Some(time::now());
        }
        polled
    }

    /// Whether the call is a probe that has come on for longer than a call may take: a stream without
    /// end would hold the breaker half-open.
    fn has_come_for_long(&self) -> bool {
        let bound = self
            .since
            .and_then(|since| since.checked_add(self.call.shared.slow));
        bound.is_some_and(|bound| time::now() > bound)
    }

    fn end(mut self, verdict: impl FnOnce() -> Verdict) {
        if self.call.phase != Phase::Ended {
            self.call.phase = Phase::Inside; // a panic of the caller's own classifier
            self.settle(verdict());
        }
    }

    fn settle(&mut self, verdict: Verdict) {
        let call = &mut self.call;
        call.phase = Phase::Ended;
        if call.pass.is_unwatched() {
            return;
        }
        let now = call.pass.is_probe().then(time::now);
        let (failed, asked, ending) = match verdict {
            Verdict::Success => (false, 0, Ending::Success),
            Verdict::Failure(failure) => (true, asked_by(failure), Ending::Failure),
            Verdict::Ignored => return call.ignore(now, Ending::Ignored),
        };
        let outcome = if call.is_late_probe(now) {
            Outcome::HUNG
        } else {
            Outcome {
                failed: failed || self.answered.failed,
                ..self.answered
            }
        };
        let changes_nothing = outcome == Outcome::untimed(false)
            && call.shared.machine.is_unmoved_by_success(call.pass);
        if changes_nothing {
            return call.shared.telemetry.ended(ending);
        }
        call.record(outcome, asked, now, ending);
    }
}
