//! The queue of a layer that may let calls wait: how many, how long, and in which order they are served.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use steadfast::{bulkhead::BulkheadLayer, queue::Queue};
//!
//! // One call in flight; ten may wait, for at most 100 ms each.
//! let queue = Queue::fifo(10, Duration::from_millis(100));
//! let layer = BulkheadLayer::builder(1).queue(queue).build();
//! assert_eq!(layer.handle().waiting(), 0);
//! ```

use std::time::Duration;

use crate::{
    error::Reason,
    permits::{Discipline, Permits},
};

/// How many calls may wait, how long, and in which order they are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Queue {
    capacity: usize,
    max_wait: Duration,
    discipline: Discipline,
}

impl Queue {
    /// First come, first served: fair. `capacity` calls may wait, each for at most `max_wait`.
    ///
    /// Zero of either refuses at once. A capacity of more than 2,097,151 counts as that.
    pub const fn fifo(capacity: usize, max_wait: Duration) -> Self {
        let discipline = Discipline::Fifo;
        Self {
            capacity,
            max_wait,
            discipline,
        }
    }

    /// Last come, first served: unfair, but under lasting overload those served have waited the least,
    /// and those who waited the most are those whose callers have gone.
    pub const fn lifo(capacity: usize, max_wait: Duration) -> Self {
        let discipline = Discipline::Lifo;
        Self {
            capacity,
            max_wait,
            discipline,
        }
    }

    /// What a layer without a queue has: nobody may wait.
    pub(crate) const NONE: Self = Self::fifo(0, Duration::ZERO);

    /// Why a call that has waited may be refused, beside what the layer says when it is full.
    pub(crate) const fn reasons(&self) -> &'static [Reason] {
        match self.capacity {
            0 => &[],
            _ => &[Reason::QueueTimeout, Reason::DeadlineExceeded],
        }
    }

    /// Permits, of which `max` may be taken at a time, with this queue before them.
    pub(crate) fn permits(&self, max: usize) -> Permits {
        let is_zero = self.max_wait.is_zero();
        let capacity = if is_zero { 0 } else { self.capacity };
        Permits::new(max, capacity, self.discipline)
    }

    /// How long a call may wait.
    pub(crate) const fn max_wait(&self) -> Duration {
        self.max_wait
    }
}
