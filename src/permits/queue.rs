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
    /// Taken when the slot has come, and with it the node out of the list.
    waker: Option<Waker>,
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

    /// Joins at the end.
    pub(super) fn push(&mut self, waker: Waker) -> Place {
        let node = Node {
            before: self.last,
            after: None,
            waker: Some(waker),
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

    /// Takes who is next out of the list; returns whom to wake. Somebody must be waiting.
    pub(super) fn grant(&mut self) -> Waker {
        let next = match self.discipline {
            Discipline::Fifo => self.first,
            Discipline::Lifo => self.last,
        };
        let next = next.expect("who is counted as waiting is in the queue");
        self.unlink(next)
            .expect("who is in the list waits for a slot")
    }

    /// Whether the slot has come, and the waker that `waker` replaced. A waker may hold a task, and
    /// the task another place: it must be dropped outside of the lock.
    pub(super) fn poll(&mut self, place: &Place, waker: &Waker) -> (Poll<()>, Option<Waker>) {
        match &mut self.nodes[place.0].waker {
            Some(current) if current.will_wake(waker) => (Poll::Pending, None),
            Some(current) => (Poll::Pending, Some(mem::replace(current, waker.clone()))),
            None => {
                self.free.push(place.0);
                (Poll::Ready(()), None)
            }
        }
    }

    /// Leaves the queue. Returns the waker, to be dropped outside of the lock as well, or `None` where
    /// the slot had come already.
    #[allow(clippy::needless_pass_by_value, reason = "the place is given up")]
    pub(super) fn remove(&mut self, place: Place) -> Option<Waker> {
        let waits = self.nodes[place.0].waker.is_some();
        let waker = if waits { self.unlink(place.0) } else { None };
        self.free.push(place.0);
        waker
    }

    fn unlink(&mut self, index: usize) -> Option<Waker> {
        let Node { before, after, .. } = self.nodes[index];
        match before {
            Some(before) => self.nodes[before].after = after,
            None => self.first = after,
        }
        match after {
            Some(after) => self.nodes[after].before = before,
            None => self.last = before,
        }
        self.nodes[index].waker.take()
    }
}
