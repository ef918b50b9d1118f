//! The outcomes of the last *n* calls.

use std::num::NonZeroU16;

use super::{Counts, Outcome};
use crate::sync::{
    AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

/// A ring of the last *n* outcomes with running counts: an outcome that enters pushes the oldest one
/// out, and the counts change by the difference of the two.
///
/// The ring starts afresh without being wiped. Every slot, and the word of the counts, carries the
/// era in which it was written; a slot of an earlier era counts as empty, and whoever still records
/// for an earlier era finds the word of another one and leaves off. So a new era is one store, and a
/// straggler can neither push out nor add anything.
///
/// A ring that is full of good outcomes is not written at all when another good one comes: it would
/// look the same after. That is what lets two threads share a healthy breaker at full speed.
#[derive(Debug)]
pub(crate) struct CountWindow {
    era: AtomicU32,
    counts: AtomicU64,
    next: AtomicU64,
    slots: Box<[AtomicU32]>,
}

/// The counts and their era, as one word: 16 bits each.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Word {
    era: u16,
    calls: u16,
    failed: u16,
    slow: u16,
}

impl Word {
    const fn pack(self) -> u64 {
        (self.era as u64) << 48
            | (self.calls as u64) << 32
            | (self.failed as u64) << 16
            | self.slow as u64
    }

    const fn unpack(word: u64) -> Self {
        Self {
            era: (word >> 48) as u16,
            calls: (word >> 32) as u16,
            failed: (word >> 16) as u16,
            slow: word as u16,
        }
    }

    const fn counts(self) -> Counts {
        Counts {
            calls: self.calls as u64,
            failed: self.failed as u64,
            slow: self.slow as u64,
        }
    }
}

/// An outcome and its era, as one slot. Never zero, so that zero is a slot never written.
const fn pack_slot(era: u16, outcome: Outcome) -> u32 {
    (era as u32) << 16 | 1 << 2 | (outcome.failed as u32) << 1 | outcome.slow as u32
}

const fn unpack_slot(slot: u32, era: u16) -> Option<Outcome> {
    if slot == 0 || slot >> 16 != era as u32 {
        return None;
    }
    Some(Outcome {
        failed: slot & 2 != 0,
        slow: slot & 1 != 0,
        tail: false,
    })
}

impl CountWindow {
    pub(crate) fn new(calls: NonZeroU16) -> Self {
        Self {
            era: AtomicU32::new(0),
            counts: AtomicU64::new(0),
            next: AtomicU64::new(0),
            slots: (0..calls.get()).map(|_| AtomicU32::new(0)).collect(),
        }
    }

    /// Empties the window and begins `era`, later than any before. Must not run twice at once.
    pub(crate) fn begin_era(&self, era: u32) {
        let last = self.era.load(Relaxed);
        self.era.store(era, Relaxed);
        if era >> 16 != last >> 16 {
            // The sixteen bits that slots keep of their era have come round: what was written 65,536
            // eras ago would look new.
            self.slots.iter().for_each(|slot| slot.store(0, Relaxed));
        }
        let empty = Word {
            era: era as u16,
            calls: 0,
            failed: 0,
            slow: 0,
        };
        self.counts.store(empty.pack(), Release);
    }

    /// Records an outcome of a call of `era`; returns the counts after it, or `None` where the
    /// window is in another era.
    pub(crate) fn record(&self, era: u32, outcome: Outcome) -> Option<Counts> {
        let era = era as u16;
        let word = Word::unpack(self.counts.load(Acquire));
        if word.era != era {
            return None;
        }
        if outcome.is_good() && self.holds_only_good(word) {
            return Some(word.counts());
        }
        let next = self.next.fetch_add(1, Relaxed);
        let slot = &self.slots[(next % self.slots.len() as u64) as usize];
        let mut old = slot.load(Acquire);
        loop {
            // Checked anew after every look at the slot, so that a straggler never overwrites a later
            // era's.
            if Word::unpack(self.counts.load(Acquire)).era != era {
                return None;
            }
            match slot.compare_exchange_weak(old, pack_slot(era, outcome), AcqRel, Acquire) {
                Ok(_) => break,
                Err(newer) => old = newer,
            }
        }
        self.add(era, outcome, unpack_slot(old, era))
    }

    /// Adds what came in and takes off what went out, in one step.
    fn add(&self, era: u16, came: Outcome, went: Option<Outcome>) -> Option<Counts> {
        // A slot is written before its outcome is counted, so another thread can push out what is
        // not counted yet and a count can be below zero for a moment. It wraps and comes back.
        let change = |count: u16, came: bool, went: bool| {
            count
                .wrapping_add(u16::from(came))
                .wrapping_sub(u16::from(went))
        };
        let mut old = self.counts.load(Acquire);
        loop {
            let word = Word::unpack(old);
            if word.era != era {
                return None;
            }
            let new = Word {
                era,
                calls: change(word.calls, true, went.is_some()),
                failed: change(
                    word.failed,
                    came.failed,
                    went.is_some_and(|went| went.failed),
                ),
                slow: change(word.slow, came.slow, went.is_some_and(|went| went.slow)),
            };
            match self
                .counts
                .compare_exchange_weak(old, new.pack(), AcqRel, Acquire)
            {
                Ok(_) => return Some(self.clamp(new)),
                Err(newer) => old = newer,
            }
        }
    }

    /// What the window holds.
    pub(crate) fn counts(&self) -> Counts {
        self.clamp(Word::unpack(self.counts.load(Acquire)))
    }

    /// Reads a count that is below zero for the moment as zero.
    fn clamp(&self, word: Word) -> Counts {
        let size = self.slots.len() as u64;
        let clamp = |count: u64| if count > size { 0 } else { count };
        let Counts {
            calls,
            failed,
            slow,
        } = word.counts();
        Counts {
            calls: calls.min(size),
            failed: clamp(failed),
            slow: clamp(slow),
        }
    }

    /// Whether a good outcome would leave the window as it is. Of the present era, whichever it is.
    #[inline]
    pub(crate) fn is_full_of_good(&self) -> bool {
        self.holds_only_good(Word::unpack(self.counts.load(Acquire)))
    }

    #[inline]
    const fn holds_only_good(&self, word: Word) -> bool {
        word.calls as usize == self.slots.len() && word.failed == 0 && word.slow == 0
    }
}
