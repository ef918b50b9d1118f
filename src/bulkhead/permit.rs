//! What a call in flight holds, and what a call in the queue holds.

use std::task::{Context, Poll, Waker};

use super::{
    keyed::OfKey,
    shared::{Shared, Source},
    weight::{Cost, One},
};
use crate::{
    classify::Verdict,
    keyed::Held,
    permits::{Asked, Doomed, Place},
    pooled::PooledArc,
    telemetry::{Course, Ending},
    until::Guard,
};

/// Permits: the right to one call, given back on drop.
#[derive(Debug)]
pub(super) struct Permit<P: Source, C: Cost> {
    source: P,
    cost: C,
    pub(super) course: Course,
}

impl<P: Source, C: Cost> Permit<P, C> {
    /// What has just been taken.
    #[inline]
    pub(super) fn taken(source: P, cost: C) -> Self {
        source.metrics().in_flight.increment(cost.permits());
        let course = Course::begun();
        Self {
            source,
            cost,
            course,
        }
    }
}

impl<P: Source, C: Cost> Drop for Permit<P, C> {
    #[inline]
    fn drop(&mut self) {
        // First of all, so that whoever waits for it need not wait for the recorder.
        self.source.permits().give_back(self.cost.permits());
        let metrics = self.source.metrics();
        metrics.in_flight.decrement(self.cost.permits());
        metrics.telemetry.ended(self.course.ending());
    }
}

/// The permits of a call that has been answered and [lasts on](crate::until): given back when it is over,
/// or on drop.
#[derive(Debug)]
pub struct HeldPermit<C: Cost = One>(Permit<PooledArc<Shared>, C>);

/// The permits, of its key, of a call that has been answered and [lasts on](crate::until): given back when
/// it is over, or on drop. The key is in use until then.
#[derive(Debug)]
pub struct HeldKeyedPermit<C: Cost = One>(Permit<Held<OfKey>, C>);

impl<P: Source, C: Cost> Permit<P, C> {
    /// To be dropped from now on is to be abandoned again.
    fn lasting(mut self) -> Self {
        self.course.called();
        self
    }

    fn watch<T>(&mut self, poll: impl FnOnce() -> Poll<T>) -> Poll<T> {
        let polled = self.course.watch(poll);
        self.course.called(); // there may be more to come
        polled
    }

    fn end(mut self) {
        self.course.end(Ending::Completed);
    }
}

impl<C: Cost> From<Permit<PooledArc<Shared>, C>> for HeldPermit<C> {
    fn from(permit: Permit<PooledArc<Shared>, C>) -> Self {
        Self(permit.lasting())
    }
}

impl<C: Cost> From<Permit<Held<OfKey>, C>> for HeldKeyedPermit<C> {
    fn from(permit: Permit<Held<OfKey>, C>) -> Self {
        Self(permit.lasting())
    }
}

impl<C: Cost> Guard for HeldPermit<C> {
    fn watch<T>(&mut self, poll: impl FnOnce() -> Poll<T>) -> Poll<T> {
        self.0.watch(poll)
    }

    fn end(self, _: impl FnOnce() -> Verdict) {
        self.0.end();
    }
}

impl<C: Cost> Guard for HeldKeyedPermit<C> {
    fn watch<T>(&mut self, poll: impl FnOnce() -> Poll<T>) -> Poll<T> {
        self.0.watch(poll)
    }

    fn end(self, _: impl FnOnce() -> Verdict) {
        self.0.end();
    }
}

/// A call's wait for its permits. Dropping it leaves the queue, and gives back what has come since.
#[derive(Debug)]
pub(super) struct Wait<P: Source, C: Cost> {
    /// Until the permits have come, and with them the place has gone.
    source: Option<P>,
    place: Option<Place>,
    cost: C,
}

/// What came of asking for permits.
pub(super) enum Entry<P: Source, C: Cost> {
    Admitted(Permit<P, C>),
    Waiting(Wait<P, C>),
    Full(P),
}

impl<P: Source, C: Cost> Wait<P, C> {
    pub(super) fn enter(source: P, cost: C, waker: &Waker) -> Entry<P, C> {
        match source.permits().take_or_queue(cost.permits(), waker) {
            Asked::Taken => Entry::Admitted(Permit::taken(source, cost)),
            Asked::Full => Entry::Full(source),
            Asked::Queued(place) => {
                source.metrics().waiting.increment(1.0);
                Entry::Waiting(Self {
                    source: Some(source),
                    place: Some(place),
                    cost,
                })
            }
        }
    }

    pub(super) fn source(&self) -> &P {
        self.source.as_ref().expect("polled after completion")
    }

    /// Whether the permits have come; an error if the limit is now less than they are.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Permit<P, C>, Doomed>> {
        let place = self.place.as_ref().expect("polled after completion");
        let polled = self.source().permits().poll_place(place, cx.waker());
        polled.map(|served| {
            self.place = None; // it is one no longer
            self.source().metrics().waiting.decrement(1.0);
            served.map(|()| {
                let source = self.source.take().expect("it was there just now");
                Permit::taken(source, self.cost)
            })
        })
    }
}

impl<P: Source, C: Cost> Drop for Wait<P, C> {
    fn drop(&mut self) {
        if let (Some(place), Some(source)) = (self.place.take(), &self.source) {
            source.permits().leave(place);
            source.metrics().waiting.decrement(1.0);
        }
    }
}
