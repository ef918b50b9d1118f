//! Counted slots, given back on drop, and a bounded queue for those who wait for one.

mod codel;
#[cfg(all(test, steadfast_loom))]
mod loom_tests;
#[cfg(all(test, not(steadfast_loom)))]
mod partition_tests;
mod partitions;
mod queue;
mod rules;
mod shares;
mod signal;
#[cfg(all(test, not(steadfast_loom)))]
mod tests;
mod word;

pub(crate) use partitions::{Division, Part, PartitionState};
pub(crate) use queue::{Place, Unserved};
pub(crate) use rules::{Order, Rules};
pub(crate) use shares::MOST;
pub(crate) use signal::Delay;

use std::{
    cmp::Ordering,
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
use partitions::Partitions;
use queue::{Index, Left, Queue, Waiter};
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
/// The limit may be [divided](partitions): then there is a lane in the queue for each partition, and slots go
/// to the lane that has the least of its share. Where nobody may wait, they are kept for whoever
/// was refused within his share.
///
/// The clock is read only where somebody waits, or finds slots that are kept.
pub(crate) struct Permits<C = Epoch> {
    word: AtomicU64,
    queue: Mutex<Queue>,
    signal: Signal,
    rules: Rules,
    clock: C,
    partitions: Option<Box<Partitions>>,
}

/// What one asks for: so many slots, of a partition where the limit is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Demand {
    pub(crate) slots: u32,
    pub(crate) part: Option<Part>,
}

impl From<u32> for Demand {
    #[inline]
    fn from(slots: u32) -> Self {
        Self { slots, part: None }
    }
}

impl Demand {
    fn lane(self) -> usize {
        self.part.map_or(0, usize::from)
    }
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
            queue: Mutex::new(Queue::new(1)),
            signal: Signal::default(),
            rules,
            clock,
            partitions: None,
        }
    }

    /// Divides the limit. All who ask from now on ask as one of a partition.
    pub(crate) fn divided(self, division: &Division) -> Self {
        let limit = self.load().limit;
        let partitions = Partitions::new(division, limit, self.rules.capacity);
        Self {
            queue: Mutex::new(Queue::new(partitions.len())),
            partitions: Some(Box::new(partitions)),
            ..self
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
    pub(crate) fn try_take(&self, demand: impl Into<Demand>) -> bool {
        let Demand { slots, part } = demand.into();
        match (part, &self.partitions) {
            (Some(part), Some(partitions)) => self.try_take_of(partitions, part, slots),
            _ => self.update(|word| word.take(slots)).is_some(),
        }
    }

    #[inline]
    fn try_take_of(&self, partitions: &Partitions, part: Part, slots: u32) -> bool {
        // Where there is a queue nothing need be kept: who is within his share waits, and is next.
        let is_keeping = self.rules.capacity == 0;
        let take = || {
            let taken = self.update(|word| {
                // After the word: what has come back by it is then known to be idle, too.
                let kept = if is_keeping {
                    partitions.kept_from(part, slots)
                } else {
                    0
                };
                word.grant(slots + kept)?;
                word.take(slots)
            });
            if taken.is_some() {
                partitions.take(part, slots);
            }
            taken.is_some()
        };
        while !take() {
            if !(is_keeping && self.keep_or_lend(partitions, part, slots)) {
                return false;
            }
        }
        true
    }

    /// Too few were free: keeps those to come, for one within his share; for one beyond, lends what was kept
    /// for others and is not used. Returns whether to try again.
    #[cold]
    #[inline(never)]
    fn keep_or_lend(&self, partitions: &Partitions, part: Part, slots: u32) -> bool {
        let has_room = self.load().grant(slots).is_some();
        match (partitions.is_within(part, slots), has_room) {
            (true, false) => {
                partitions.keep(part, slots);
                false
            }
            (false, true) => partitions.lend(part, self.clock.nanos()),
            // It has become free just now.
            (true, true) => true,
            (false, false) => false,
        }
    }

    /// Takes slots, or else a place in the queue; `ask` is called only where there may be one, and says
    /// `None` where it is too late for it.
    ///
    /// To be asked for where [`try_take`](Self::try_take) has found too few free.
    pub(crate) fn take_or_queue(
        &self,
        demand: impl Into<Demand>,
        waker: &Waker,
        ask: impl FnOnce() -> Option<Ask>,
    ) -> Asked {
        let demand = demand.into();
        let (slots, lane) = (demand.slots, demand.lane());
        if self.refuses(demand) {
            return Asked::Full;
        }
        let Some(Ask { class, now, last }) = ask() else {
            return Asked::Late;
        };
        let class = self.class(class);
        let waiter = Waiter {
            demand,
            class,
            since: now,
            last,
        };
        let mut queue = lock(&self.queue);
        let mut refuses_early = None;
        // Once more, in the same step that registers the wait: slots given back since then found
        // nobody waiting and were handed to no one.
        loop {
            let word = self.load();
            let taken = if word.waiting == 0 {
                word.take(slots)
            } else if self.first_lane(&queue, Some(lane)) == Some(lane)
                && queue.is_next(lane, class, &self.rules)
            {
                word.grant(slots)
            } else {
                None
            };
            if let Some(taken) = taken {
                if self.replace(word, taken) {
                    self.took(demand);
                    queue.pass(lane);
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
                let Some(evicted) = self.last_before(&queue, demand, class) else {
                    return Asked::Full;
                };
                self.begin(&mut queue, lane, now, word);
                let evicted = queue.end(evicted, Err(Unserved::Evicted));
                let place = queue.push(waiter, waker.clone());
                self.tell(&queue);
                drop(queue);
                evicted.wake();
                return Asked::Queued(place);
            }
            // Counted once, however often the step is tried: as many wait as the first time.
            let refuses = || self.refuses_early(&mut queue, demand, class, word);
            if *refuses_early.get_or_insert_with(refuses) {
                return Asked::Full;
            }
            self.begin(&mut queue, lane, now, word);
            if self.replace(word, word.wait()) {
                let place = queue.push(waiter, waker.clone());
                self.tell(&queue);
                return Asked::Queued(place);
            }
        }
    }

    /// Whether there is neither room now nor a place to wait, as can be told without the lock: where many
    /// are refused, they should not keep those waiting who serve.
    fn refuses(&self, demand: Demand) -> bool {
        if demand.part.is_some() && self.rules.capacity == 0 {
            return true; // what is free is kept for others
        }
        let (word, slots) = (self.load(), demand.slots);
        let has_place = self.has_place(demand);
        let is_full = word.waiting as usize >= self.rules.capacity && word.grant(slots).is_none();
        // Somebody less critical, or of a partition with too many places, may have to leave.
        let evicts = (self.rules.by_criticality || has_place) && word.waiting > 0;
        word.dooms(slots) || is_full && !evicts
    }

    /// Whether a newcomer is refused though there is a place for him, that is not his in any case.
    fn refuses_early(
        &self,
        queue: &mut Queue,
        demand: Demand,
        class: Criticality,
        word: Word,
    ) -> bool {
        let waiting = word.waiting as usize;
        waiting > self.rules.refuses_from
            && !self.has_place(demand)
            && queue.refuses_early(demand.lane(), class, waiting, &self.rules)
    }

    /// Whether a place in the queue is a newcomer's whatever the other partitions do.
    fn has_place(&self, demand: Demand) -> bool {
        match (demand.part, &self.partitions) {
            (Some(part), Some(partitions)) => partitions.has_place(part),
            _ => false,
        }
    }

    /// Who of a full queue leaves it to a newcomer, if somebody does.
    fn last_before(&self, queue: &Queue, demand: Demand, class: Criticality) -> Option<Index> {
        match (demand.part, &self.partitions) {
            (Some(part), Some(partitions)) if partitions.has_place(part) => {
                queue.last(partitions.most_beyond(), &self.rules)
            }
            _ => queue.last_below(demand.lane(), class, &self.rules),
        }
    }

    /// The lane whose turn it is, or would be if there were a newcomer in one.
    fn first_lane(&self, queue: &Queue, newcomer: Option<usize>) -> Option<usize> {
        queue.first_lane(newcomer, |one, other| match &self.partitions {
            Some(partitions) => partitions.compare(one, other),
            None => Ordering::Equal,
        })
    }

    /// Slots have been taken.
    fn took(&self, Demand { slots, part }: Demand) {
        if let (Some(part), Some(partitions)) = (part, &self.partitions) {
            partitions.take(part, slots);
        }
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
                self.tell(&queue);
                self.update(Word::leave)
            }
            Left::Slots(_) | Left::Nothing => None,
        };
        drop(queue);
        // Who stood behind one that waited for more may find enough free.
        if word.is_some_and(|word| word.waiting > 0) {
            self.hand_on();
        }
        if let Left::Slots(demand) = left {
            self.give_back(demand);
        }
    }

    /// Gives slots back that were taken.
    #[inline]
    pub(crate) fn give_back(&self, demand: impl Into<Demand>) {
        self.give_back_and_look(demand);
    }

    /// Gives slots back that were taken, and returns what is left by that.
    #[inline]
    pub(crate) fn give_back_and_look(&self, demand: impl Into<Demand>) -> Word {
        let Demand { slots, part } = demand.into();
        if let (Some(part), Some(partitions)) = (part, &self.partitions) {
            partitions.give_back(part, slots);
        }
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
        let word = self.update(|word| Some(word.with_limit(limit)));
        if let Some(partitions) = &self.partitions {
            partitions.resize(|| self.load().limit);
        }
        word.expect("any limit will do")
    }

    /// How it stands with a partition of a limit that is divided.
    pub(crate) fn partition(&self, part: Part) -> Option<PartitionState> {
        let partitions = self.partitions.as_ref()?;
        Some(partitions.look(part))
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
        let lane = self.first_lane(queue, None)?;
        let next = queue.next(lane, &self.rules)?;
        let Waiter { demand, last, .. } = queue.waiter(next);
        let slots = demand.slots;
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
            let stale = queue.turn(lane, now, &self.rules);
            let (least, is_standing) = queue.least_and_stands();
            self.signal.turn(delay, least, is_standing);
            match stale {
                Some(stale) => (stale, Err(Unserved::Stale)),
                None => (next, Ok(())),
            }
        };
        match how {
            Ok(()) => {
                self.update(|word| word.serve(slots))?;
                self.took(demand);
                queue.serve(lane);
            }
            Err(_) => {
                self.update(Word::leave)?;
            }
        }
        let waker = queue.end(who, how);
        self.tell(queue);
        Some(waker)
    }

    /// Somebody is about to wait.
    fn begin(&self, queue: &mut Queue, lane: usize, now: u64, word: Word) {
        let is_first = word.waiting == 0;
        let is_new = queue.begin(lane, now, is_first && word.had_room, &self.rules);
        if is_first {
            if is_new {
                self.signal.clear();
            }
            self.signal.set_since(now);
        }
    }

    fn tell(&self, queue: &Queue) {
        if let Some(since) = queue.since() {
            self.signal.set_since(since);
        }
        if let Some(partitions) = &self.partitions {
            for (n, waiting) in queue.lens().enumerate() {
                partitions.set_waiting(n, waiting);
            }
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
