//! Who waits, in order. Plain data, to be kept under a lock.

use std::{
    cmp::Ordering,
    mem,
    task::{Poll, Waker},
};

use super::{
    Demand,
    codel::{CLASSES, CoDel},
    rules::{Order, Rules},
};
use crate::context::Criticality;

/// A doubly linked list for each class of each lane, in one slab: joining, leaving and being served cost the
/// same at any length, and a slot of the slab is used again, so a queue that has been that long before does
/// not allocate.
#[derive(Debug)]
pub(super) struct Queue {
    nodes: Vec<Node>,
    free: Vec<Index>,
    /// One for each partition, or for all.
    lanes: Box<[Lane]>,
    /// How often a lane had a turn.
    turns: u64,
    /// What has come together of a newcomer that is refused [early](Queue::refuses_early).
    owed: usize,
}

/// Those of a partition, who have an order and a delay among themselves.
#[derive(Debug, Default)]
struct Lane {
    codel: CoDel,
    /// The most critical first.
    lines: [Line; CLASSES],
    /// Which turn was its last.
    last_turn: u64,
    /// Whether slots were free for somebody of it since somebody last began to wait where nobody did.
    had_room: bool,
}

/// One in the slab. No more wait than the word of the permits can count, so an index is short.
pub(super) type Index = u32;

/// The ends of a list, who came first and who came last; and how many are in it.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    first: Option<Index>,
    last: Option<Index>,
    len: u32,
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
    pub(super) demand: Demand,
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
    /// What was asked for, which has come.
    Slots(Demand),
    Nothing,
}

/// A place in the queue; must end in [`Queue::poll`] being ready or in [`Queue::remove`].
#[derive(Debug)]
#[must_use]
pub(crate) struct Place(Index);

impl Lane {
    fn is_empty(&self) -> bool {
        self.top().is_none()
    }

    fn len(&self) -> u32 {
        self.lines.iter().map(|line| line.len).sum()
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

    /// The least critical.
    fn bottom(&self) -> Option<usize> {
        self.lines.iter().rposition(|line| line.first.is_some())
    }
}

impl Queue {
    pub(super) fn new(lanes: usize) -> Self {
        Self {
            nodes: Vec::new(),
            free: Vec::new(),
            lanes: (0..lanes).map(|_| Lane::default()).collect(),
            turns: 0,
            owed: 0,
        }
    }

    #[cfg(all(test, steadfast_loom))]
    pub(super) fn codel(&mut self, lane: usize) -> &mut CoDel {
        &mut self.lanes[lane].codel
    }

    /// How many wait in each lane.
    pub(super) fn lens(&self) -> impl Iterator<Item = u32> {
        self.lanes.iter().map(Lane::len)
    }

    /// The first lane by this order, of those in which somebody waits or is about to; of several, that which
    /// has not had a turn for the longest.
    pub(super) fn first_lane(
        &self,
        newcomer: Option<usize>,
        compare: impl Fn(usize, usize) -> Ordering,
    ) -> Option<usize> {
        let is_in = |n: &usize| newcomer == Some(*n) || !self.lanes[*n].is_empty();
        let last_turn = |n: usize| self.lanes[n].last_turn;
        (0..self.lanes.len()).filter(is_in).min_by(|&one, &other| {
            let by_turn = || last_turn(one).cmp(&last_turn(other));
            compare(one, other).then_with(by_turn)
        })
    }

    /// Somebody is about to wait. `had_room` says that nobody does, and calls did not have to in between.
    /// Returns whether it is another queue than the last of its lane.
    pub(super) fn begin(&mut self, lane: usize, now: u64, had_room: bool, rules: &Rules) -> bool {
        if had_room {
            let lanes = self.lanes.iter_mut();
            lanes.for_each(|lane| lane.had_room = true);
        }
        let lane = &mut self.lanes[lane];
        lane.is_empty() && {
            let had_room = mem::take(&mut lane.had_room);
            lane.codel.begin(now, had_room, rules)
        }
    }

    /// A newcomer of this lane is served at once, before those who wait.
    pub(super) fn pass(&mut self, lane: usize) {
        self.lanes[lane].had_room |= self.lanes[lane].is_empty();
        self.serve(lane);
    }

    /// The lane has its turn.
    pub(super) fn serve(&mut self, lane: usize) {
        self.turns += 1;
        self.lanes[lane].last_turn = self.turns;
    }

    /// Joins at the end of its class.
    pub(super) fn push(&mut self, waiter: Waiter, waker: Waker) -> Place {
        let lane = &mut self.lanes[waiter.demand.lane()];
        let line = &mut lane.lines[waiter.class as usize];
        line.len += 1;
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

    /// Whether a newcomer of this lane and class is refused though there is a place for him: of those who
    /// come while so many wait, so large a share as the queue is full beyond where that begins. Those less
    /// critical keep nobody out.
    pub(super) fn refuses_early(
        &mut self,
        lane: usize,
        class: Criticality,
        waiting: usize,
        rules: &Rules,
    ) -> bool {
        let below = &self.lanes[lane].lines[class as usize + 1..];
        let below: u32 = below.iter().map(|line| line.len).sum();
        let beyond = (waiting - below as usize).saturating_sub(rules.refuses_from);
        let whole = rules.capacity.saturating_sub(rules.refuses_from);
        self.owed += beyond;
        let is_due = beyond > 0 && self.owed >= whole;
        if is_due {
            self.owed -= whole;
        }
        is_due
    }

    pub(super) fn waiter(&self, index: Index) -> Waiter {
        self.nodes[index as usize].waiter
    }

    /// Who is next in turn in a lane.
    pub(super) fn next(&self, lane: usize, rules: &Rules) -> Option<Index> {
        let lane = &self.lanes[lane];
        let top = lane.top()?;
        let Line { first, last, .. } = lane.lines[top];
        if lane.is_lifo(top, rules) {
            last
        } else {
            first
        }
    }

    /// Whether a newcomer would be next in turn in a lane.
    pub(super) fn is_next(&self, lane: usize, class: Criticality, rules: &Rules) -> bool {
        let (lane, class) = (&self.lanes[lane], class as usize);
        let is_behind = |top| top < class || top == class && !lane.is_lifo(class, rules);
        !lane.top().is_some_and(is_behind)
    }

    /// Who would be served last in a lane.
    pub(super) fn last(&self, lane: usize, rules: &Rules) -> Option<Index> {
        let lane = &self.lanes[lane];
        let bottom = lane.bottom()?;
        let Line { first, last, .. } = lane.lines[bottom];
        if lane.is_lifo(bottom, rules) {
            first
        } else {
            last
        }
    }

    /// The same, if he is less critical than a newcomer.
    pub(super) fn last_below(
        &self,
        lane: usize,
        class: Criticality,
        rules: &Rules,
    ) -> Option<Index> {
        let last = self.last(lane, rules);
        last.filter(|last| self.waiter(*last).class > class)
    }

    /// How long the one of a class has waited who has waited the longest.
    fn delay(&self, line: &Line, now: u64) -> Option<u64> {
        let first = line.first?;
        Some(now.saturating_sub(self.waiter(first).since))
    }

    /// A turn comes, of a lane. Returns who has waited too long in it, if somebody has and is to be refused
    /// for it; the least critical first.
    pub(super) fn turn(&mut self, lane: usize, now: u64, rules: &Rules) -> Option<Index> {
        let top = self.lanes[lane].top();
        let mut delays = [None; CLASSES];
        for (class, line) in self.lanes[lane].lines.iter().enumerate() {
            let is_above = top.is_none_or(|top| class < top);
            delays[class] = self.delay(line, now).or(is_above.then_some(0));
        }
        let Lane { codel, lines, .. } = &mut self.lanes[lane];
        codel.turn(now, delays, rules);
        let is_too_long = |class: &usize| {
            delays[*class].is_some_and(|delay| codel.is_too_long(*class, delay, rules))
        };
        let refuses = rules.is_controlled;
        let class = (0..CLASSES).rev().find(is_too_long).filter(|_| refuses)?;
        codel.refuse(class);
        lines[class].first
    }

    /// The least delay of the last interval that is over, of the lane for which it is longest; and whether
    /// some lane stands. Of those in which somebody waits.
    pub(super) fn least_and_stands(&self) -> (u64, bool) {
        let mut codels = (self.lanes.iter())
            .filter(|lane| !lane.is_empty())
            .map(|lane| &lane.codel);
        let least = codels.clone().map(CoDel::least).max();
        (least.unwrap_or(0), codels.any(CoDel::any_stands))
    }

    /// Since when the one has waited who has waited the longest.
    pub(super) fn since(&self) -> Option<u64> {
        let lines = self.lanes.iter().flat_map(|lane| &lane.lines);
        let firsts = lines.filter_map(|line| line.first);
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
            Turn::Ended(Ok(())) => Left::Slots(node.waiter.demand),
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
        let lane = &mut self.lanes[waiter.demand.lane()];
        let line = &mut lane.lines[waiter.class as usize];
        line.len -= 1;
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
