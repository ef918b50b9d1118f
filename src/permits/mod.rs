//! Counted slots, given back on drop, and a bounded queue for those who wait for one.

mod codel;
#[cfg(all(test, steadfast_loom))]
mod loom_tests;
mod queue;
mod rules;
mod signal;
#[cfg(all(test, not(steadfast_loom)))]
mod tests;
mod word;

pub(crate) use queue::{Place, Unserved};
pub(crate) use rules::{Order, Rules};
pub(crate) use signal::Delay;

use std::{
    fmt,
    task::{Poll, Waker},
};

use crate::{
    context::Criticality,
    sync::{
        AtomicU64, Mutex,
        Ordering::{AcqRel, Acquire},
        lock,
    },
    time::{Clock, Epoch},
};
use queue::{Left, Queue, Waiter};
use signal::Signal;
pub(crate) use word::Word;

/// So many slots, of which some are taken and for which some wait. Who asks takes several at once, or
/// none: 1..=[`Permits::MAX`] and one, which are more than there can be.
///
/// Limit, taken and waiting stand in one word, so every decision is one compare-and-swap: no more
/// slots are ever taken than the limit allows at that instant. A newcomer takes slots only where
/// nobody waits whose turn comes before, so nobody is overtaken. Where somebody waits, whoever gives slots
/// back, or changes the limit, hands them on under the lock of the queue; all changes of `waiting` are
/// made there.
///
/// Slots go to who is next and to nobody else: where too few are free for them, all behind them wait,
/// or many small askers would starve a large one. Who is last come first served, or more critical, is
/// served past the others as soon as there is room.
///
/// The clock is read only where somebody waits.
pub(crate) struct Permits<C = Epoch> {
    word: AtomicU64,
    queue: Mutex<Queue>,
    signal: Signal,
    rules: Rules,
    clock: C,
}

/// How one who finds too few slots free would wait. Times are in nanoseconds, as the clock counts them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    pub(crate) class: Criticality,
    pub(crate) now: u64,
    /// The last moment at which the slots may come.
    pub(crate) last: u64,
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
    /// Too few were free, and it is too late to wait.
    Late,
}

impl Permits {
    /// The most slots, and the longest queue, that the word can hold; what is more counts as this.
    pub(crate) const MAX: usize = Word::MAX as usize;
}

impl<C: Clock> Permits<C> {
    pub(crate) fn new(limit: usize, mut rules: Rules, clock: C) -> Self {
        rules.capacity = rules.capacity.min(Permits::MAX);
        Self {
            word: AtomicU64::new(Word::new(limit).pack()),
            queue: Mutex::default(),
            signal: Signal::default(),
            rules,
            clock,
        }
    }

    pub(crate) const fn clock(&self) -> &C {
        &self.clock
    }

    pub(crate) const fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Takes slots if so many are free and nobody waits. To be given back with [`give_back`].
    ///
    /// [`give_back`]: Self::give_back
    #[inline]
    pub(crate) fn try_take(&self, slots: u32) -> bool {
        self.update(|word| word.take(slots)).is_some()
    }

    /// Takes slots, or else a place in the queue; `ask` is called only where there may be one, and says
    /// `None` where it is too late for it.
    ///
    /// To be asked for where [`try_take`](Self::try_take) has found too few free.
    pub(crate) fn take_or_queue(
        &self,
        slots: u32,
        waker: &Waker,
        ask: impl FnOnce() -> Option<Ask>,
    ) -> Asked {
        if self.refuses(slots) {
            return Asked::Full;
        }
        let Some(Ask { class, now, last }) = ask() else {
            return Asked::Late;
        };
        let class = self.class(class);
        let waiter = Waiter {
            slots,
            class,
            since: now,
            last,
        };
        let mut queue = lock(&self.queue);
        // Once more, in the same step that registers the wait: slots given back since then found
        // nobody waiting and were handed to no one.
        loop {
            let word = self.load();
            let taken = if word.waiting == 0 {
                word.take(slots)
            } else if queue.is_next(class, &self.rules) {
                word.grant(slots)
            } else {
                None
            };
            if let Some(taken) = taken {
                if self.replace(word, taken) {
                    return Asked::Taken;
                }
                continue;
            }
            if word.dooms(slots) {
                return Asked::Full;
            }
            if word.waiting as usize >= self.rules.capacity {
                // As many wait as before, so the word need not change: who gives slots back after it
                // was read finds somebody waiting.
                let Some(evicted) = queue.last_below(class, &self.rules) else {
                    return Asked::Full;
                };
                let evicted = queue.end(evicted, Err(Unserved::Evicted));
                let place = queue.push(waiter, waker.clone());
                self.tell_since(&queue);
                drop(queue);
                evicted.wake();
                return Asked::Queued(place);
            }
            if word.waiting == 0 {
                self.begin(&mut queue, now, word.had_room);
            }
            if self.replace(word, word.wait()) {
                return Asked::Queued(queue.push(waiter, waker.clone()));
            }
        }
    }

    /// Whether there is neither room now nor a place to wait, as can be told without the lock: where many
    /// are refused, they should not keep those waiting who serve.
    fn refuses(&self, slots: u32) -> bool {
        let word = self.load();
        let is_full = word.waiting as usize >= self.rules.capacity && word.grant(slots).is_none();
        // Somebody less critical may have to leave.
        let evicts = self.rules.by_criticality && word.waiting > 0;
        word.dooms(slots) || is_full && !evicts
    }

    /// How the wait at `place` has ended, if it has. Once that is told, `place` is no longer one.
    pub(crate) fn poll_place(&self, place: &Place, waker: &Waker) -> Poll<Result<(), Unserved>> {
        let (polled, _replaced) = lock(&self.queue).poll(place, waker);
        polled
    }

    /// Leaves the queue. Slots that have come in the meantime are given back.
    pub(crate) fn leave(&self, place: Place) {
        let mut queue = lock(&self.queue);
        let left = queue.remove(place);
        let word = match left {
            Left::Wait(_) => {
                self.tell_since(&queue);
                self.update(Word::leave)
            }
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

    /// Gives slots back that were taken.
    #[inline]
    pub(crate) fn give_back(&self, slots: u32) {
        self.give_back_and_look(slots);
    }

    /// Gives slots back that were taken, and returns what is left by that.
    #[inline]
    pub(crate) fn give_back_and_look(&self, slots: u32) -> Word {
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
            let Some(waker) = self.end_one(&mut queue) else {
                return;
            };
            drop(queue);
            // Outside the lock: what is woken may run here and now.
            waker.wake();
        }
    }

    /// Wakes all who wait, who then look whether they still want to.
    pub(crate) fn wake_all(&self) {
        let wakers = lock(&self.queue).wakers();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Ends the wait of one whose turn it is, or who has waited too long; returns whom to wake.
    fn end_one(&self, queue: &mut Queue) -> Option<Waker> {
        let next = queue.next(&self.rules)?;
        let Waiter { slots, last, .. } = queue.waiter(next);
        let now = self.clock.nanos();
        let word = self.load();
        let (who, how) = if last < now {
            (next, Err(Unserved::Late))
        } else if word.dooms(slots) {
            (next, Err(Unserved::Doomed))
        } else if word.grant(slots).is_none() {
            return None;
        } else {
            let delay = now.saturating_sub(queue.since()?);
            let stale = queue.turn(now, &self.rules);
            self.signal.turn(delay, &queue.codel);
            match stale {
                Some(stale) => (stale, Err(Unserved::Stale)),
                None => (next, Ok(())),
            }
        };
        match how {
            Ok(()) => self.update(|word| word.serve(slots))?,
            Err(_) => self.update(Word::leave)?,
        };
        let waker = queue.end(who, how);
        self.tell_since(queue);
        Some(waker)
    }

    /// Somebody is about to wait where nobody does.
    fn begin(&self, queue: &mut Queue, now: u64, had_room: bool) {
        if queue.codel.begin(now, had_room, &self.rules) {
            self.signal.clear();
        }
        self.signal.set_since(now);
    }

    fn tell_since(&self, queue: &Queue) {
        if let Some(since) = queue.since() {
            self.signal.set_since(since);
        }
    }

    /// How long calls wait. Reads the clock only where somebody does.
    pub(crate) fn delay(&self) -> Delay {
        if self.load().waiting == 0 {
            return Delay::default();
        }
        self.signal.read(self.clock.nanos())
    }

    /// All are of one class where none are told apart.
    fn class(&self, class: Criticality) -> Criticality {
        if self.rules.by_criticality {
            class
        } else {
            Criticality::CriticalPlus
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

    /// Whether `old` was still there, and `new` now is. May say no for nothing.
    fn replace(&self, old: Word, new: Word) -> bool {
        let (old, new) = (old.pack(), new.pack());
        let swapped = self.word.compare_exchange_weak(old, new, AcqRel, Acquire);
        swapped.is_ok()
    }
}

impl<C: Clock> fmt::Debug for Permits<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.load().fmt(f)
    }
}
