//! Budgets of places: so many retries at once.

use std::fmt;

use crate::sync::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed},
};

/// Calls active in the upper half of a word, and places taken in the lower: one step sees both, so no
/// place is taken against a number of calls that has passed.
pub(super) struct Places {
    /// In millionths; zero where active calls do not matter.
    share: u32,
    floor: u32,
    word: AtomicU64,
}

const PLACE: u64 = 1;
const ACTIVE: u64 = 1 << 32;

const fn taken(word: u64) -> u64 {
    word % ACTIVE
}

impl Places {
    pub(super) fn new(share: u32, floor: u32) -> Self {
        let word = AtomicU64::new(0);
        Self { share, floor, word }
    }

    pub(super) fn with_floor(&self, floor: u32) -> Self {
        Self::new(self.share, floor)
    }

    pub(super) const fn counts_active(&self) -> bool {
        self.share > 0
    }

    /// How many places there are. As many fit into half of the word, since so many calls at most do.
    const fn limit(&self, word: u64) -> u64 {
        let share = word / ACTIVE * self.share as u64 / 1_000_000;
        let floor = self.floor as u64;
        if share > floor { share } else { floor }
    }

    /// How many more retries could be made at once.
    pub(super) fn free(&self) -> u32 {
        let word = self.word.load(Relaxed);
        let free = self.limit(word).saturating_sub(taken(word));
        free.try_into().unwrap_or(u32::MAX)
    }

    /// A call begins.
    pub(super) fn enter(&self) {
        self.word.fetch_add(ACTIVE, AcqRel);
    }

    pub(super) fn try_take(&self) -> bool {
        let mut old = self.word.load(Acquire);
        while taken(old) < self.limit(old) {
            match self
                .word
                .compare_exchange_weak(old, old + PLACE, AcqRel, Acquire)
            {
                Ok(_) => return true,
                Err(newer) => old = newer,
            }
        }
        false
    }

    /// Gives back a place, ends a call that was counted, or both in one step.
    pub(super) fn leave(&self, holds_place: bool, is_active: bool) {
        let left = u64::from(holds_place) * PLACE + u64::from(is_active) * ACTIVE;
        self.word.fetch_sub(left, AcqRel);
    }
}

impl fmt::Debug for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.word.load(Relaxed);
        let mut debug = f.debug_struct("Places");
        if self.counts_active() {
            debug.field("share", &(f64::from(self.share) / 1e6));
            debug.field("active", &(word / ACTIVE));
        }
        debug
            .field("floor", &self.floor)
            .field("taken", &taken(word))
            .finish()
    }
}
