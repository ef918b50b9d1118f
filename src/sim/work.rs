//! What a server is asked to do, and does, counted over time.

use std::{ops::Range, time::Duration};

use super::server::{Answer, Fault};

/// What reached a [`Server`](super::Server) in a stretch of time, and what ended there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Work {
    /// Calls that came, refused ones among them.
    pub arrived: u64,
    /// Calls that were answered.
    pub answered: u64,
    /// Calls that failed as told.
    pub failed: u64,
    /// Calls that found the queue full.
    pub refused: u64,
    /// Calls that were dropped when it was their turn, since their deadline had passed.
    pub expired: u64,
    /// Calls that were taken off since their caller had hung up.
    pub stopped: u64,
    /// Of the answered and the failed, those whose caller was no longer there.
    pub wasted: u64,
    /// The most calls that waited at a time.
    pub most_waiting: usize,
    /// The most calls that were worked upon at a time.
    pub most_running: usize,
}

impl Work {
    pub(super) fn ended(&mut self, result: Result<Answer, Fault>, has_left: bool) {
        match result {
            Ok(_) => self.answered += 1,
            Err(Fault::Failed) => self.failed += 1,
            Err(Fault::Full) => self.refused += 1,
            Err(Fault::Expired) => self.expired += 1,
        }
        let is_worked_upon = matches!(result, Ok(_) | Err(Fault::Failed));
        self.wasted += u64::from(has_left && is_worked_upon);
    }

    pub(super) fn holds(&mut self, waiting: usize, running: usize) {
        self.most_waiting = self.most_waiting.max(waiting);
        self.most_running = self.most_running.max(running);
    }

    fn add(mut self, other: &Self) -> Self {
        self.arrived += other.arrived;
        self.answered += other.answered;
        self.failed += other.failed;
        self.refused += other.refused;
        self.expired += other.expired;
        self.stopped += other.stopped;
        self.wasted += other.wasted;
        self.holds(other.most_waiting, other.most_running);
        self
    }
}

/// One [`Work`] for each slot of time.
#[derive(Debug)]
pub(super) struct Slots {
    length: u64,
    counts: Vec<Work>,
}

impl Slots {
    pub(super) fn new(length: Duration) -> Self {
        let length = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX).max(1);
        let counts = Vec::new();
        Self { length, counts }
    }

    pub(super) fn at(&mut self, nanos: u64) -> &mut Work {
        let slot = (nanos / self.length) as usize;
        if slot >= self.counts.len() {
            self.counts.resize(slot + 1, Work::default());
        }
        &mut self.counts[slot]
    }

    pub(super) fn all(&self) -> Vec<Work> {
        self.counts.clone()
    }

    pub(super) fn sum(&self, part: Range<Duration>) -> Work {
        let slot = |offset: Duration| {
            let slot = offset.as_nanos() / u128::from(self.length);
            usize::try_from(slot)
                .unwrap_or(usize::MAX)
                .min(self.counts.len())
        };
        let slots = self.counts.get(slot(part.start)..slot(part.end));
        slots
            .unwrap_or_default()
            .iter()
            .fold(Work::default(), Work::add)
    }
}
