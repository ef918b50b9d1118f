//! What a call in flight holds, and what a call in the queue holds.

use std::task::{Context, Poll, Waker};

use super::layer::Shared;
use crate::{
    permits::{Asked, Place},
    pooled::PooledArc,
    telemetry::Course,
};

/// A permit: the right to one call, given back on drop.
#[derive(Debug)]
pub(super) struct Permit {
    shared: PooledArc<Shared>,
    pub(super) course: Course,
}

impl Permit {
    #[inline]
    pub(super) fn try_take(shared: &PooledArc<Shared>) -> Option<Self> {
        let taken = shared.permits.try_take();
        taken.then(|| Self::taken(shared.clone()))
    }

    #[inline]
    fn taken(shared: PooledArc<Shared>) -> Self {
        shared.in_flight.increment(1.0);
        let course = Course::begun();
        Self { shared, course }
    }
}

impl Drop for Permit {
    #[inline]
    fn drop(&mut self) {
        // First of all, so that whoever waits for it need not wait for the recorder.
        self.shared.permits.give_back();
        self.shared.in_flight.decrement(1.0);
        self.shared.telemetry.ended(self.course.ending());
    }
}

/// A call's wait for its permit. Dropping it leaves the queue, and gives back what has come since.
#[derive(Debug)]
pub(super) struct Wait {
    shared: PooledArc<Shared>,
    place: Option<Place>,
}

/// What came of asking for a permit.
pub(super) enum Entry {
    Admitted(Permit),
    Waiting(Wait),
    Full,
}

impl Wait {
    pub(super) fn enter(shared: &PooledArc<Shared>, waker: &Waker) -> Entry {
        match shared.permits.take_or_queue(waker) {
            Asked::Taken => Entry::Admitted(Permit::taken(shared.clone())),
            Asked::Full => Entry::Full,
            Asked::Queued(place) => {
                shared.waiting.increment(1.0);
                let (shared, place) = (shared.clone(), Some(place));
                Entry::Waiting(Self { shared, place })
            }
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Permit> {
        let place = self.place.as_ref().expect("polled after completion");
        let polled = self.shared.permits.poll_place(place, cx.waker());
        polled.map(|()| {
            self.place = None; // it is one no longer
            self.shared.waiting.decrement(1.0);
            Permit::taken(self.shared.clone())
        })
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            self.shared.permits.leave(place);
            self.shared.waiting.decrement(1.0);
        }
    }
}
