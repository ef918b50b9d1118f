//! A call's wait for its turn.

use std::{
    ops::Deref,
    task::{self, Poll, ready},
};

use super::{
    learner::Phase,
    pace::Turn,
    shared::{Pass, Shared},
};
use crate::{
    context::Context,
    error::{Reason, Rejected},
    time::Timer,
};

/// Dropping it gives the turn back.
#[derive(Debug)]
pub(super) struct Wait<P: Deref<Target = Shared>> {
    /// Until the wait is over.
    shared: Option<P>,
    phase: Phase,
    turn: Turn,
    /// Made last, as that panics outside of a runtime: the turn is then given back.
    timer: Option<Timer>,
}

impl<P: Deref<Target = Shared>> Wait<P> {
    pub(super) fn begin(shared: P, phase: Phase, turn: Turn) -> Self {
        let end = shared.epoch().instant_at(turn.at);
        shared.metrics.waiting.increment(1.0);
        let mut wait = Self {
            shared: Some(shared),
            phase,
            turn,
            timer: None,
        };
        wait.timer = Some(Timer::until(end));
        wait
    }

    /// Whether the turn has come; or the call is refused, where it was slept through.
    pub(super) fn poll(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(P, Pass), Rejected>> {
        if let Some(timer) = &mut self.timer {
            ready!(timer.poll(cx));
        }
        if let Some(timer) = self.timer.take() {
            timer.recycle();
        }
        if Context::current().is_expired() {
            let shared = self.shared.as_ref().expect("polled after completion");
            return Poll::Ready(Err(shared.telemetry.reject(Reason::DeadlineExceeded)));
        }
        let shared = self.shared.take().expect("polled after completion");
        shared.metrics.waiting.decrement(1.0);
        Poll::Ready(Ok((shared, Pass::Told(self.phase))))
    }
}

impl<P: Deref<Target = Shared>> Drop for Wait<P> {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            shared.learner.give_back(self.turn);
            shared.metrics.waiting.decrement(1.0);
        }
    }
}
