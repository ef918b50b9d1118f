//! Counted slots, given back on drop, and a bounded queue for those who wait for one.

#[cfg(all(test, steadfast_loom))]
mod loom_tests;
mod queue;
#[cfg(all(test, not(steadfast_loom)))]
mod tests;
mod word;

pub(crate) use queue::{Discipline, Doomed, Place};

use std::{
    fmt,
    task::{Poll, Waker},
};

use crate::sync::{
    AtomicU64, Mutex,
    Ordering::{AcqRel, Acquire},
    lock,
};
use queue::{Left, Queue};
pub(crate) use word::Word;

/// So many slots, of which some are taken and for which some wait. Who asks takes several at once, or
/// none: 1..=[`Permits::MAX`] and one, which are more than there can be.
///
/// Limit, taken and waiting stand in one word, so every decision is one compare-and-swap: no more
/// slots are ever taken than the limit allows at that instant. A newcomer takes slots only where
/// nobody waits, so nobody is overtaken. Where somebody waits, whoever gives slots back, or changes
/// the limit, hands them on under the lock of the queue; all changes of `waiting` are made there.
///
/// Slots go to who is next and to nobody else: where too few are free for them, all behind them wait,
/// or many small askers would starve a large one. Who is last come first served is served past the
/// others as soon as there is room.
pub(crate) struct Permits {
    word: AtomicU64,
    queue: Mutex<Queue>,
    capacity: u32,
}

/// What came of asking for slots.
#[derive(Debug)]
pub(crate) enum Asked {
    /// They were free and are now taken.
    Taken,
    /// Too few were free; this is the place in the queue.
    Queued(Place),
    /// Too few were free, and the queue is full; or there will never be so many.
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

    /// Takes slots if so many are free and nobody waits. To be given back with [`give_back`].
    ///
    /// [`give_back`]: Self::give_back
    #[inline]
    pub(crate) fn try_take(&self, slots: u32) -> bool {
        self.update(|word| word.take(slots)).is_some()
    }

    /// Takes slots, or else a place in the queue.
    pub(crate) fn take_or_queue(&self, slots: u32, waker: &Waker) -> Asked {
        if self.try_take(slots) {
            return Asked::Taken;
        }
        let mut queue = lock(&self.queue);
        let may_take = match queue.discipline() {
            Discipline::Fifo => Word::take,
            Discipline::Lifo => Word::overtake,
        };
        // Once more, in the same step that registers the wait: slots given back since then found
        // nobody waiting and were handed to no one.
        loop {
            if self.update(|word| may_take(word, slots)).is_some() {
                return Asked::Taken;
            }
            let word = self.load();
            if word.waiting >= self.capacity || word.dooms(slots) {
                return Asked::Full;
            }
            let wait = |word: Word| word.wait(|word| may_take(word, slots));
            if self.update(wait).is_some() {
                return Asked::Queued(queue.push(slots, waker.clone()));
            }
        }
    }

    /// Whether the slots waited for at `place` have come, or never will. Once that is told, `place` is
    /// no longer one.
    pub(crate) fn poll_place(&self, place: &Place, waker: &Waker) -> Poll<Result<(), Doomed>> {
        let (polled, _replaced) = lock(&self.queue).poll(place, waker);
        polled
    }

    /// Leaves the queue. Slots that have come in the meantime are given back.
    pub(crate) fn leave(&self, place: Place) {
        let mut queue = lock(&self.queue);
        let left = queue.remove(place);
        let word = match left {
            Left::Wait(_) => self.update(Word::leave),
            Left::Slots(_) | Left::Nothing => None,
        };
        drop(queue);
        // Who stood behind one that waited for more may find enough free.
        if word.is_some_and(|word| word.waiting > 0) {
            self.hand_on();
        }
        if let Left::Slots(slots) = left {
            self.give_back(slots);
        }
    }

    /// Gives slots back that were taken. Returns what was left by that.
    #[inline]
    pub(crate) fn give_back(&self, slots: u32) -> Word {
        let word = self
            .update(|word| word.give_back(slots))
            .expect("the slots were taken");
        if word.waiting > 0 {
            self.hand_on();
        }
        word
    }

    /// Changes the limit. Who holds slots keeps them: a lower limit takes effect as they give back. Who
    /// waits for more than it is told so when next in turn.
    pub(crate) fn resize(&self, limit: usize) {
        let word = self.set_limit(limit);
        if word.waiting > 0 {
            self.hand_on();
        }
    }

    /// [Resizes](Self::resize), and serves nobody by that: for who holds a lock, and will
    /// [hand on](Self::hand_on) without it.
    pub(crate) fn set_limit(&self, limit: usize) -> Word {
        self.update(|word| Some(word.with_limit(limit)))
            .expect("any limit will do")
    }

    /// Gives free slots to those who wait, in turn.
    #[cold]
    pub(crate) fn hand_on(&self) {
        loop {
            let mut queue = lock(&self.queue);
            let Some(slots) = queue.wanted() else { return };
            let Some(word) = self.update(|word| word.serve(slots)) else {
                return;
            };
            let served = if word.dooms(slots) {
                Err(Doomed)
            } else {
                Ok(())
            };
            let waker = queue.serve(served);
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
