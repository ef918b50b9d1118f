//! Counted slots, given back on drop, and a bounded queue for those who wait for one.

#[cfg(all(test, steadfast_loom))]
mod loom_tests;
mod queue;
#[cfg(all(test, not(steadfast_loom)))]
mod tests;
mod word;

pub(crate) use queue::{Discipline, Place};

use std::{
    fmt,
    task::{Poll, Waker},
};

use crate::sync::{
    AtomicU64, Mutex,
    Ordering::{AcqRel, Acquire},
    lock,
};
use queue::Queue;
use word::Word;

/// So many slots, of which some are taken and for which some wait.
///
/// Limit, taken and waiting stand in one word, so every decision is one compare-and-swap: no more
/// slots are ever taken than the limit allows at that instant. A newcomer takes a slot only where
/// nobody waits, so nobody is overtaken. Where somebody waits, whoever gives a slot back, or raises
/// the limit, hands it on under the lock of the queue; all changes of `waiting` are made there.
pub(crate) struct Permits {
    word: AtomicU64,
    queue: Mutex<Queue>,
    capacity: u32,
}

/// What came of asking for a slot.
#[derive(Debug)]
pub(crate) enum Asked {
    /// A slot was free and is now taken.
    Taken,
    /// None was free; this is the place in the queue.
    Queued(Place),
    /// None was free, and the queue is full.
    Full,
}

impl Permits {
    /// The most slots, and the longest queue, that the word can hold; what is more counts as this.
    pub(crate) const MAX: usize = Word::MAX as usize;

    pub(crate) fn new(limit: usize, capacity: usize, discipline: Discipline) -> Self {
        Self {
            word: AtomicU64::new(Word::new(limit).pack()),
            queue: Mutex::new(Queue::new(discipline)),
            capacity: capacity.min(Self::MAX) as u32,
        }
    }

    /// Takes a slot if one is free and nobody waits for it. To be given back with [`give_back`].
    ///
    /// [`give_back`]: Self::give_back
    #[inline]
    pub(crate) fn try_take(&self) -> bool {
        self.update(Word::take).is_some()
    }

    /// Takes a slot, or else a place in the queue.
    pub(crate) fn take_or_queue(&self, waker: &Waker) -> Asked {
        if self.try_take() {
            return Asked::Taken;
        }
        let mut queue = lock(&self.queue);
        // Once more, in the same step that registers the wait: a slot given back since then found
        // nobody waiting and was handed to no one.
        loop {
            if self.try_take() {
                return Asked::Taken;
            }
            if self.load().waiting >= self.capacity {
                return Asked::Full;
            }
            if self.update(Word::wait).is_some() {
                return Asked::Queued(queue.push(waker.clone()));
            }
        }
    }

    /// Whether the slot waited for at `place` has come. Once it has, `place` is no longer one.
    pub(crate) fn poll_place(&self, place: &Place, waker: &Waker) -> Poll<()> {
        let (polled, _replaced) = lock(&self.queue).poll(place, waker);
        polled
    }

    /// Leaves the queue. A slot that has come in the meantime is given back.
    pub(crate) fn leave(&self, place: Place) {
        let mut queue = lock(&self.queue);
        let waker = queue.remove(place);
        if waker.is_some() {
            self.update(Word::leave)
                .expect("who was in the queue is counted as waiting");
        }
        drop(queue);
        if waker.is_none() {
            self.give_back();
        }
    }

    /// Gives a slot back that was taken.
    #[inline]
    pub(crate) fn give_back(&self) {
        let word = self.update(Word::give_back).expect("a slot was taken");
        if word.waiting > 0 {
            self.hand_on();
        }
    }

    /// Changes the limit. Who holds a slot keeps it: a lower limit takes effect as they give back.
    pub(crate) fn resize(&self, limit: usize) {
        let word = self
            .update(|word| Some(word.with_limit(limit)))
            .expect("any limit will do");
        if word.waiting > 0 {
            self.hand_on();
        }
    }

    /// Gives free slots to those who wait, in turn.
    #[cold]
    fn hand_on(&self) {
        loop {
            let mut queue = lock(&self.queue);
            if self.update(Word::hand_on).is_none() {
                return;
            }
            let waker = queue.grant();
            drop(queue);
            // Outside the lock: what is woken may run here and now.
            waker.wake();
        }
    }

    pub(crate) fn load(&self) -> Word {
        Word::unpack(self.word.load(Acquire))
    }

    /// Applies `change` in one step; returns the word after it, or `None` where `change` declines.
    #[inline]
    fn update(&self, change: impl Fn(Word) -> Option<Word>) -> Option<Word> {
        let mut old = self.word.load(Acquire);
        loop {
            let new = change(Word::unpack(old))?;
            match self
                .word
                .compare_exchange_weak(old, new.pack(), AcqRel, Acquire)
            {
                Ok(_) => return Some(new),
                Err(newer) => old = newer,
            }
        }
    }
}

impl fmt::Debug for Permits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.load().fmt(f)
    }
}
