//! Who waits to be told ready, and which probes' places are reserved for those who were told.

use std::{collections::BTreeMap, mem, task::Waker};

use super::machine::Pass;
use crate::sync::{Mutex, lock};

/// The list of those who wait for a breaker to let them in, and of the places held for those who
/// have not called yet.
///
/// Touched where a breaker is not closed only, and never while it is being asked: its lock is held
/// over nothing but the lists.
#[derive(Debug)]
pub(super) struct Desk(Mutex<Lists>);

#[derive(Debug, Default)]
struct Lists {
    last: u64,
    waiting: BTreeMap<u64, Waker>,
    /// What is reserved, and when that lapses.
    reserved: BTreeMap<u64, (Pass, u64)>,
}

impl Lists {
    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
}

/// An entry in the list of those who wait.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Waiting(u64);

/// A probe's place, held for somebody. To be handed back, once.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub(super) struct Reserved(u64);

impl Desk {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Lists::default()))
    }

    /// Has `waker` woken at the next [`wake_all`](Self::wake_all). To be asked before the breaker is:
    /// then either it lets in, or whatever makes it do so later finds the entry.
    pub(super) fn wait(&self, waiting: &mut Option<Waiting>, waker: &Waker) {
        // A waker is foreign code when it is cloned or dropped, so neither is done under the lock.
        let waker = waker.clone();
        let mut lists = lock(&self.0);
        let number = match waiting {
            Some(Waiting(number)) => *number,
            None => lists.number(),
        };
        *waiting = Some(Waiting(number));
        let _replaced = lists.waiting.insert(number, waker);
        drop(lists);
    }

    pub(super) fn leave(&self, Waiting(number): &Waiting) {
        let _waker = lock(&self.0).waiting.remove(number);
    }

    /// Wakes all who wait: the breaker may let them in now, or refuses them for another time.
    pub(super) fn wake_all(&self) {
        let waiting = mem::take(&mut lock(&self.0).waiting);
        for waker in waiting.into_values() {
            waker.wake();
        }
    }

    /// Holds a place, until it is taken up, or has lapsed and is wanted.
    pub(super) fn reserve(&self, pass: Pass, until: u64) -> Reserved {
        let mut lists = lock(&self.0);
        let number = lists.number();
        lists.reserved.insert(number, (pass, until));
        Reserved(number)
    }

    pub(super) fn is_reserved(&self, Reserved(number): &Reserved) -> bool {
        lock(&self.0).reserved.contains_key(number)
    }

    /// Ends a reservation; returns what was reserved, unless it has lapsed.
    #[allow(clippy::needless_pass_by_value, reason = "the reservation is given up")]
    pub(super) fn take_up(&self, Reserved(number): Reserved) -> Option<Pass> {
        let reserved = lock(&self.0).reserved.remove(&number);
        reserved.map(|(pass, _)| pass)
    }

    /// Ends a reservation that has lapsed by `now`, if there is one; returns what was reserved.
    pub(super) fn lapse(&self, now: u64) -> Option<Pass> {
        let mut lists = lock(&self.0);
        let mut all = lists.reserved.iter();
        let (number, pass) =
            all.find_map(|(number, (pass, until))| (*until <= now).then_some((*number, *pass)))?;
        lists.reserved.remove(&number);
        Some(pass)
    }
}
