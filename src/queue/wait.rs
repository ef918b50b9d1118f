//! A call's wait for its permits.

use std::{
    task::{self, Poll, Waker, ready},
    time::Duration,
};

use crate::{
    context::Context,
    error::{Reason, Rejected},
    permits::{Ask, Asked, Demand, Part, Permits, Place, Unserved},
    telemetry::Gauge,
    time::{self, Timer},
};

/// Where a call takes its permits from. The call holds it, and with it what it points to.
pub(crate) trait Source {
    /// Why a call is refused for which there is neither a permit nor a place.
    const FULL: Reason;

    fn permits(&self) -> &Permits;
    /// Refuses a call, of a partition where there are any.
    fn reject(&self, part: Option<Part>, reason: Reason) -> Rejected;
    /// How many wait.
    fn waiting(&self) -> &Gauge;
    /// Told of each call that finds no permit free.
    fn turned_away(&self) {}
}

/// A call's wait. Dropping it leaves the queue, and gives back what has come since.
#[derive(Debug)]
pub(crate) struct Wait<P: Source> {
    /// Until the wait is over.
    source: Option<P>,
    place: Option<Place>,
    /// When it is over in any case, if ever, and why the call is then refused.
    timer: Option<Timer>,
    reason: Reason,
}

/// What came of asking for permits.
pub(crate) enum Entry<P: Source> {
    /// They are taken, and to be given back.
    Taken(P),
    Waiting(Wait<P>),
    Rejected(Rejected),
}

impl<P: Source> Wait<P> {
    /// Takes what is asked for from `source`, or a place in its queue.
    #[inline]
    pub(crate) fn enter(source: P, demand: impl Into<Demand>, waker: &Waker) -> Entry<P> {
        let demand = demand.into();
        if source.permits().try_take(demand) {
            return Entry::Taken(source);
        }
        Self::queue_up(source, demand, waker)
    }

    /// Only here, where the call may have to wait, are context and clock asked.
    #[inline(never)]
    fn queue_up(source: P, demand: Demand, waker: &Waker) -> Entry<P> {
        source.turned_away();
        let permits = source.permits();
        let (mut end, mut reason) = (None, Reason::DeadlineExceeded);
        let ask = || {
            let (now, context) = (time::now(), Context::current());
            let deadline = (context.deadline(), Reason::DeadlineExceeded);
            let bound = now.checked_add(permits.rules().max_wait);
            (end, reason) = time::earlier(deadline, (bound, Reason::QueueTimeout));
            let clock = permits.clock();
            let last = match (end, reason) {
                (None, _) => u64::MAX,
                // It has passed at the deadline itself.
                (Some(end), Reason::DeadlineExceeded) if end <= now => return None,
                (Some(end), Reason::DeadlineExceeded) => clock.nanos_at(end).saturating_sub(1),
                (Some(end), _) => clock.nanos_at(end),
            };
            Some(Ask {
                class: context.criticality(),
                now: clock.nanos_at(now),
                last,
            })
        };
        match permits.take_or_queue(demand, waker, ask) {
            Asked::Taken => Entry::Taken(source),
            Asked::Full => Entry::Rejected(source.reject(demand.part, P::FULL)),
            Asked::Late => Entry::Rejected(source.reject(demand.part, reason)),
            Asked::Queued(place) => {
                source.waiting().increment(1.0);
                let mut wait = Self {
                    source: Some(source),
                    place: Some(place),
                    timer: None,
                    reason,
                };
                // Last, as it panics outside of a runtime: the place is then given up.
                wait.timer = end.map(Timer::until);
                Entry::Waiting(wait)
            }
        }
    }

    /// Whether what was asked for has come, to be given back; or the call is refused.
    pub(crate) fn poll(
        &mut self,
        cx: &mut task::Context<'_>,
        demand: impl Into<Demand>,
    ) -> Poll<Result<P, Rejected>> {
        let demand = demand.into();
        let source = self.source.as_ref().expect("polled after completion");
        let permits = source.permits();
        let place = self.place.as_ref().expect("kept as long as the wait");
        let how = match permits.poll_place(place, cx.waker()) {
            Poll::Ready(how) => {
                self.place = None; // it is one no longer
                how
            }
            Poll::Pending => {
                // With no timer the wait ends with the permits only.
                let Some(timer) = &mut self.timer else {
                    return Poll::Pending;
                };
                ready!(timer.poll(cx));
                if let Some(place) = self.place.take() {
                    permits.leave(place);
                }
                Err(Unserved::Late)
            }
        };
        source.waiting().decrement(1.0);
        if let Some(timer) = self.timer.take() {
            timer.recycle();
        }
        let reason = match how {
            // They came in time, and the task has slept through it.
            Ok(()) if Context::current().is_expired() => {
                permits.give_back(demand);
                Reason::DeadlineExceeded
            }
            Ok(()) => {
                let source = self.source.take();
                return Poll::Ready(Ok(source.expect("it was there just now")));
            }
            Err(Unserved::Late) => self.reason,
            Err(Unserved::Doomed | Unserved::Evicted) => P::FULL,
            Err(Unserved::Stale) => Reason::Overloaded,
        };
        let mut rejected = source.reject(demand.part, reason);
        if reason == Reason::Overloaded {
            let interval = Duration::from_nanos(permits.rules().interval);
            rejected = rejected.with_retry_after(interval);
        }
        self.source = None;
        Poll::Ready(Err(rejected))
    }
}

impl<P: Source> Drop for Wait<P> {
    fn drop(&mut self) {
        if let (Some(place), Some(source)) = (self.place.take(), &self.source) {
            source.permits().leave(place);
            source.waiting().decrement(1.0);
        }
    }
}
