//! What a call in flight holds.

use std::task::Poll;

use super::{
    keyed::OfKey,
    shared::{Shared, Source},
    weight::{Cost, One, demand},
};
use crate::{
    classify::Verdict,
    keyed::Held,
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
        let metrics = source.metrics();
        metrics.in_flight.increment(cost.permits());
        metrics.partitions.took(demand(cost));
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
        let demand = demand(self.cost);
        self.source.permits().give_back(demand);
        let metrics = self.source.metrics();
        metrics.in_flight.decrement(demand.slots);
        metrics.partitions.gave_back(demand);
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
