//! What the server has to do its work with, and how much of it that is.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

/// So many workers, of whom each takes the same time for a call, and before them a queue, first come, first
/// served. A call that has been taken on is worked on, whoever has gone away: as in a pool of threads.
///
/// When a worker is free is reckoned, and not found out by waking up. So workers / time is what they get
/// done, on any machine: one that wakes them late has calls answered late, but does not have fewer of them.
#[derive(Debug)]
pub(crate) struct Workers {
    takes: Duration,
    free_at: Mutex<BinaryHeap<Reverse<Instant>>>,
}

impl Workers {
    pub(crate) fn new(workers: usize, takes: Duration) -> Self {
        let now = Instant::now();
        Self {
            takes,
            free_at: Mutex::new((0..workers).map(|_| Reverse(now)).collect()),
        }
    }

    /// Waits until one of them has done a call that came now.
    pub(crate) async fn work(&self) {
        sleep_until(self.take_on(Instant::now())).await;
    }

    fn take_on(&self, now: Instant) -> Instant {
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let first = free_at.pop().map_or(now, |Reverse(first)| first);
        let done = first.max(now) + self.takes;
        free_at.push(Reverse(done));
        done
    }
}
