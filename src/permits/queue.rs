//! Who waits, in order. Plain data, to be kept under a lock.

use std::{
    mem,
    task::{Poll, Waker},
};

use super::{
    codel::{CLASSES, CoDel},
    rules::{Order, Rules},
};
use crate::context::Criticality;

/// A doubly linked list for each class, in one slab: joining, leaving and being served cost the same at
/// any length, and a slot of the slab is used again, so a queue that has been that long before does not
/// allocate.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) codel: CoDel,
    nodes: Vec<Node>,
    free: Vec<Index>,
    /// The most critical first.
    lines: [Line; CLASSES],
}

/// One in the slab. No more wait than the word of the permits can count, so an index is short.
type Index = u32;

/// The ends of a list: who came first, who came last.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    first: Option<Index>,
    last: Option<Index>,
}

#[derive(Debug)]
struct Node {
    before: Option<Index>,
    after: Option<Index>,
    waiter: Waiter,
    turn: Turn,
}

/// One who waits: for what, and how long. Times are in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiter {
    pub(super) slots: u32,
    pub(super) class: Criticality,
    pub(super) since: u64,
    /// The last moment at which he may be served.
    pub(super) last: u64,
}

/// How it stands with one in the queue. Only who waits is in the list.
#[derive(Debug)]
enum Turn {
    Waits(Waker),
    Ended(Result<(), Unserved>),
}

/// Why one who waited gets no slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unserved {
    /// The limit has become less than what was waited for.
    Doomed,
    /// A more critical one has the place.
    Evicted,
    /// The last moment is over.
    Late,
    /// The queue stands, and the wait was too long.
    Stale,
}

/// What one who leaves the queue leaves behind.
#[derive(Debug)]
pub(super) enum Left {
    /// A wait, and its waker, to be dropped outside of the lock.
    Wait(#[allow(dead_code, reason = "kept only to be dropped")] Waker),
    /// So many slots, which have come.
    Slots(u32),
    Nothing,
}

/// A place in the queue; must end in [`Queue::poll`] being ready or in [`Queue::remove`].
#[derive(Debug)]
#[must_use]
pub(crate) struct Place(Index);

impl Queue {
    /// Joins at the end of its class.
    pub(super) fn push(&mut self, waiter: Waiter, waker: Waker) -> Place {
        let line = &mut self.lines[waiter.class as usize];
        let node = Node {
            before: line.last,
            after: None,
            waiter,
            turn: Turn::Waits(waker),
        };
        let index = if let Some(index) = self.free.pop() {
            self.nodes[index as usize] = node;
            index
        } else {
            self.nodes.push(node);
            (self.nodes.len() - 1) as Index
        };
        match line.last {
            Some(last) => self.nodes[last as usize].after = Some(index),
            None => line.first = Some(index),
        }
        line.last = Some(index);
        Place(index)
    }

    pub(super) fn waiter(&self, index: Index) -> Waiter {
        self.nodes[index as usize].waiter
    }

    /// Whether of a class who came last is served first.
    fn is_lifo(&self, class: usize, rules: &Rules) -> bool {
        match rules.order {
            Order::Fifo => false,
            Order::Lifo => true,
            Order::AdaptiveLifo => self.codel.stands(class),
        }
    }

    /// The most critical class of which somebody waits.
    fn top(&self) -> Option<usize> {
        self.lines.iter().position(|line| line.first.is_some())
    }

    /// Who is next in turn.
    pub(super) fn next(&self, rules: &Rules) -> Option<Index> {
        let top = self.top()?;
        let Line { first, last } = self.lines[top];
        if self.is_lifo(top, rules) {
            last
        } else {
            first
        }
    }

    /// Whether a newcomer would be next in turn.
    pub(super) fn is_next(&self, class: Criticality, rules: &Rules) -> bool {
        let class = class as usize;
        let is_behind = |top| top < class || top == class && !self.is_lifo(class, rules);
        !self.top().is_some_and(is_behind)
    }

    /// Who would be served last, if he is less critical than a newcomer.
    pub(super) fn last_below(&self, class: Criticality, rules: &Rules) -> Option<Index> {
        let bottom = self.lines.iter().rposition(|line| line.first.is_some());
        let bottom = bottom.filter(|bottom| *bottom > class as usize)?;
        let Line { first, last } = self.lines[bottom];
        if self.is_lifo(bottom, rules) {
            first
        } else {
            last
        }
    }

    /// How long the one of a class has waited who has waited the longest.
    fn delay(&self, line: &Line, now: u64) -> Option<u64> {
        let first = line.first?;
        Some(now.saturating_sub(self.waiter(first).since))
    }

    /// A turn comes. Returns who has waited too long, if somebody has and is to be refused for it; the
    /// least critical first.
    pub(super) fn turn(&mut self, now: u64, rules: &Rules) -> Option<Index> {
        let top = self.top();
        let mut delays = [None; CLASSES];
        for (class, line) in self.lines.iter().enumerate() {
            let is_above = top.is_none_or(|top| class < top);
            delays[class] = self.delay(line, now).or(is_above.then_some(0));
        }
        self.codel.turn(now, delays, rules);
        let is_too_long = |class: &usize| {
            delays[*class].is_some_and(|delay| self.codel.is_too_long(*class, delay, rules))
        };
        let refuses = rules.is_controlled;
        let class = (0..CLASSES).rev().find(is_too_long).filter(|_| refuses)?;
        self.codel.refuse(class);
        self.lines[class].first
    }

    /// Since when the one has waited who has waited the longest.
    pub(super) fn since(&self) -> Option<u64> {
        let firsts = self.lines.iter().filter_map(|line| line.first);
        firsts.map(|first| self.waiter(first).since).min()
    }

    /// Takes one who waits out of the list; returns whom to wake.
    pub(super) fn end(&mut self, index: Index, how: Result<(), Unserved>) -> Waker {
        self.unlink(index);
        match mem::replace(&mut self.nodes[index as usize].turn, Turn::Ended(how)) {
            Turn::Waits(waker) => waker,
            turn => unreachable!("who is in the list waits, and not {turn:?}"),
        }
    }

    /// Of all who wait.
    pub(super) fn wakers(&self) -> Vec<Waker> {
        let waits = |node: &Node| match &node.turn {
            Turn::Waits(waker) => Some(waker.clone()),
            Turn::Ended(_) => None,
        };
        self.nodes.iter().filter_map(waits).collect()
    }

    /// How the wait has ended, if it has; and the waker that `waker` replaced. A waker may hold a task,
    /// and the task another place: it must be dropped outside of the lock.
    pub(super) fn poll(
        &mut self,
        place: &Place,
        waker: &Waker,
    ) -> (Poll<Result<(), Unserved>>, Option<Waker>) {
        let how = match &mut self.nodes[place.0 as usize].turn {
            Turn::Waits(current) if current.will_wake(waker) => return (Poll::Pending, None),
            Turn::Waits(current) => {
                let replaced = mem::replace(current, waker.clone());
                return (Poll::Pending, Some(replaced));
            }
            Turn::Ended(how) => *how,
        };
        self.free.push(place.0);
        (Poll::Ready(how), None)
    }

    /// Leaves the queue.
    #[allow(clippy::needless_pass_by_value, reason = "the place is given up")]
    pub(super) fn remove(&mut self, place: Place) -> Left {
        self.free.push(place.0);
        let node = &mut self.nodes[place.0 as usize];
        match mem::replace(&mut node.turn, Turn::Ended(Err(Unserved::Late))) {
            Turn::Waits(waker) => {
                self.unlink(place.0);
                Left::Wait(waker)
            }
            Turn::Ended(Ok(())) => Left::Slots(node.waiter.slots),
            Turn::Ended(Err(_)) => Left::Nothing,
        }
    }

    fn unlink(&mut self, index: Index) {
        let Node {
            before,
            after,
            waiter,
            ..
        } = &self.nodes[index as usize];
        let (before, after) = (*before, *after);
        let line = &mut self.lines[waiter.class as usize];
        match before {
            Some(before) => self.nodes[before as usize].after = after,
            None => line.first = after,
        }
        match after {
            Some(after) => self.nodes[after as usize].before = before,
            None => line.last = before,
        }
    }
}
