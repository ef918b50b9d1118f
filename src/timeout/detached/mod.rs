//! Calls that run on when nobody waits for them any more.

mod future;
mod layer;
mod service;

pub use future::DetachableFuture;
pub use layer::{DetachedTimeoutHandle, DetachedTimeoutLayer};
pub use service::Detachable;

use super::layer::Shared;
use crate::{
    permits::Permits,
    pooled::PooledArc,
    queue::Queue,
    telemetry::{Counter, Course, Ending, Gauge},
};

/// Where detached calls run: so many at a time.
#[derive(Debug)]
pub(super) struct Room {
    timeout: PooledArc<Shared>,
    slots: Permits,
    detached: Gauge,
    /// What became of the calls that outlived the wait for them.
    completed: Counter,
    panicked: Counter,
    abandoned: Counter,
    cut: Counter,
}

pooled!(Room);

impl Room {
    fn new(timeout: PooledArc<Shared>, max: usize) -> Self {
        let telemetry = &timeout.telemetry;
        let outcomes = ["completed", "panicked", "abandoned", "cut"];
        let [completed, panicked, abandoned, cut] =
            telemetry.counters("steadfast_timeout_detached_total", "outcome", outcomes);
        Self {
            slots: Queue::NONE.permits(max),
            detached: telemetry.gauge("steadfast_timeout_detached"),
            completed,
            panicked,
            abandoned,
            cut,
            timeout,
        }
    }
}

/// The place of a detached call, given back on drop.
#[derive(Debug)]
struct Slot {
    room: PooledArc<Room>,
    course: Course,
}

impl Slot {
    fn try_take(room: &PooledArc<Room>) -> Option<Self> {
        room.slots.try_take(1).then(|| {
            let mut course = Course::begun();
            course.called();
            let room = room.clone();
            room.detached.increment(1.0);
            room.timeout.telemetry.detached();
            Self { room, course }
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let room = &*self.room;
        room.slots.give_back(1);
        room.detached.decrement(1.0);
        match self.course.ending() {
            Ending::Completed => room.completed.increment(1),
            Ending::Panicked => {
                room.panicked.increment(1);
                room.timeout.telemetry.detached_panicked();
            }
            _ => room.abandoned.increment(1),
        }
    }
}
