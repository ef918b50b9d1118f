//! Who waits, in order. Plain data, to be kept under a lock.

use std::{
    mem,
    task::{Poll, Waker},
};

/// Who is served first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Discipline {
    Fifo,
    Lifo,
}

/// A doubly linked list in a slab: joining, leaving and being served cost the same at any length,
/// and a slot of the slab is used again, so a queue that has been that long before does not allocate.
#[derive(Debug)]
pub(super) struct Queue {
    discipline: Discipline,
    nodes: Vec<Node>,
    free: Vec<usize>,
    /// The ends of the list: who came first, who came last.
    first: Option<usize>,
    last: Option<usize>,
}

#[derive(Debug)]
struct Node {
    before: Option<usize>,
    after: Option<usize>,
    slots: u32,
    turn: Turn,
}

/// How it stands with one in the queue. Only who waits is in the list.
#[derive(Debug)]
enum Turn {
    Waits(Waker),
    /// The slots have come.
    Came,
    /// They never will.
    Doomed,
}

/// The limit has become less than what was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Doomed;

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
pub(crate) struct Place(usize);

impl Queue {
    pub(super) const fn new(discipline: Discipline) -> Self {
        Self {
            discipline,
            nodes: Vec::new(),
            free: Vec::new(),
            first: None,
            last: None,
        }
    }

    pub(super) fn discipline(&self) -> Discipline {
        self.discipline
    }

    /// Joins at the end, to wait for `slots`.
    pub(super) fn push(&mut self, slots: u32, waker: Waker) -> Place {
        let node = Node {
            before: self.last,
            after: None,
            slots,
            turn: Turn::Waits(waker),
        };
        let index = if let Some(index) = self.free.pop() {
            self.nodes[index] = node;
            index
        } else {
            self.nodes.push(node);
            self.nodes.len() - 1
        };
        match self.last {
            Some(last) => self.nodes[last].after = Some(index),
            None => self.first = Some(index),
        }
        self.last = Some(index);
        Place(index)
    }

    fn next(&self) -> Option<usize> {
        match self.discipline {
            Discipline::Fifo => self.first,
            Discipline::Lifo => self.last,
        }
    }

    /// How many slots who is next waits for.
    pub(super) fn wanted(&self) -> Option<u32> {
        self.next().map(|next| self.nodes[next].slots)
    }

    /// Takes who is next out of the list, served or doomed; returns whom to wake. Somebody must be
    /// waiting.
    pub(super) fn serve(&mut self, served: Result<(), Doomed>) -> Waker {
        let next = self.next().expect("somebody waits");
        self.unlink(next);
        let turn = match served {
            Ok(()) => Turn::Came,
            Err(Doomed) => Turn::Doomed,
        };
        match mem::replace(&mut self.nodes[next].turn, turn) {
            Turn::Waits(waker) => waker,
            turn => unreachable!("who is in the list waits, and not {turn:?}"),
        }
    }

    /// Whether the slots have come, or never will; and the waker that `waker` replaced. A waker may
    /// hold a task, and the task another place: it must be dropped outside of the lock.
    pub(super) fn poll(
        &mut self,
        place: &Place,
        waker: &Waker,
    ) -> (Poll<Result<(), Doomed>>, Option<Waker>) {
        let served = match &mut self.nodes[place.0].turn {
            Turn::Waits(current) if current.will_wake(waker) => return (Poll::Pending, None),
            Turn::Waits(current) => {
                let replaced = mem::replace(current, waker.clone());
                return (Poll::Pending, Some(replaced));
            }
            Turn::Came => Ok(()),
            Turn::Doomed => Err(Doomed),
        };
        self.free.push(place.0);
        (Poll::Ready(served), None)
    }

    /// Leaves the queue.
    #[allow(clippy::needless_pass_by_value, reason = "the place is given up")]
    pub(super) fn remove(&mut self, place: Place) -> Left {
        self.free.push(place.0);
        let node = &mut self.nodes[place.0];
        match mem::replace(&mut node.turn, Turn::Doomed) {
            Turn::Came => Left::Slots(node.slots),
            Turn::Waits(waker) => {
                self.unlink(place.0);
                Left::Wait(waker)
            }
            Turn::Doomed => Left::Nothing,
        }
    }

    fn unlink(&mut self, index: usize) {
        let Node { before, after, .. } = self.nodes[index];
        match before {
            Some(before) => self.nodes[before].after = after,
            None => self.first = after,
        }
        match after {
            Some(after) => self.nodes[after].before = before,
            None => self.last = before,
        }
    }
}
