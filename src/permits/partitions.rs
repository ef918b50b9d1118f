//! What the partitions of one limit have taken of it, and what is kept for them.

use std::cmp::Ordering;

use super::shares::{Holding, MOST, Standing, apportion};
use crate::sync::{AtomicU32, AtomicU64, Mutex, Ordering::Relaxed, lock};

/// Which partition, by its number.
pub(crate) type Part = u8;

/// How a limit is divided.
#[derive(Clone, Debug)]
pub(crate) struct Division {
    /// One for each partition, [`MOST`] at most, of which some is not zero.
    pub(crate) weights: Vec<u32>,
    /// How long slots that are kept for a partition may be idle, in nanoseconds.
    pub(crate) lend_after: u64,
}

/// One partition as it is at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PartitionState {
    pub(crate) share: u32,
    pub(crate) taken: u32,
    pub(crate) waiting: u32,
}

/// Beside the word of the [permits](super::Permits), which alone says whether there is room at all. All here
/// only says whose it is.
///
/// Slots are counted here after they are taken there, and before they are given back there. So at every
/// moment a partition seems to have taken no more than it has, and as much is kept for it as should be, or
/// more: nobody takes, while they come or go, what is kept for another. Two things may go wrong by one slot,
/// until it is given back: two of one partition who ask at the same moment both find themselves within its
/// share with but one left of it; and who looks here between an owner's coming and his going again finds
/// the word as it was before.
///
/// `Relaxed` throughout: who has read of slots that came back, in the other word and by a load that
/// acquires, also finds them uncounted here.
#[derive(Debug)]
pub(super) struct Partitions {
    parts: Box<[Partition]>,
    weights: Box<[u32]>,
    lend_after: u64,
    resizing: Mutex<()>,
}

#[derive(Debug)]
struct Partition {
    holding: AtomicU64,
    share: AtomicU32,
    /// Since when slots that are kept have been seen to be idle, in nanoseconds; [`UNSEEN`] if they have not.
    idle_since: AtomicU64,
    /// How many may wait whatever the others do, and how many do. Written under the lock of the queue.
    places: u32,
    waiting: AtomicU32,
}

const UNSEEN: u64 = u64::MAX;

impl Partitions {
    pub(super) fn new(division: &Division, limit: u32, capacity: usize) -> Self {
        let places = apportion(capacity as u32, &division.weights);
        let part = |n: usize| Partition {
            holding: AtomicU64::new(Holding::default().pack()),
            share: AtomicU32::new(0),
            idle_since: AtomicU64::new(UNSEEN),
            places: places[n],
            waiting: AtomicU32::new(0),
        };
        let partitions = Self {
            parts: (0..division.weights.len()).map(part).collect(),
            weights: division.weights.as_slice().into(),
            lend_after: division.lend_after,
            resizing: Mutex::new(()),
        };
        partitions.resize(|| limit);
        partitions
    }

    pub(super) fn len(&self) -> usize {
        self.parts.len()
    }

    fn part(&self, part: Part) -> &Partition {
        &self.parts[usize::from(part)]
    }

    /// The limit has changed, and is now this. Asked under a lock: of two who change it at once, the last to
    /// come through finds what is there in the end.
    pub(super) fn resize(&self, limit: impl FnOnce() -> u32) {
        let _resizing = lock(&self.resizing);
        let shares = apportion(limit(), &self.weights);
        for (part, share) in self.parts.iter().zip(shares) {
            part.share.store(share, Relaxed);
        }
    }

    #[inline]
    pub(super) fn take(&self, part: Part, slots: u32) {
        self.part(part).update(|holding| holding.take(slots));
    }

    #[inline]
    pub(super) fn give_back(&self, part: Part, slots: u32) {
        self.part(part).update(|holding| holding.give_back(slots));
    }

    /// How many must stay free when this partition takes so many: what is kept for the others, unless it is
    /// within its share.
    #[inline]
    pub(super) fn kept_from(&self, part: Part, slots: u32) -> u32 {
        if self.is_within(part, slots) {
            return 0;
        }
        self.others(part).map(Partition::idle).sum()
    }

    #[inline]
    pub(super) fn is_within(&self, part: Part, slots: u32) -> bool {
        let part = self.part(part);
        part.holding().is_within(part.share(), slots)
    }

    fn others(&self, part: Part) -> impl Iterator<Item = &Partition> {
        let all = self.parts.iter().enumerate();
        all.filter(move |(n, _)| *n != usize::from(part))
            .map(|(_, part)| part)
    }

    /// Keeps slots for one who was within the share of its partition, and found none free.
    pub(super) fn keep(&self, part: Part, slots: u32) {
        let part = self.part(part);
        let share = part.share();
        part.update(|holding| holding.keep(share, slots));
        // None is free, so whoever has seen some idle has seen others.
        part.idle_since.store(UNSEEN, Relaxed);
    }

    /// This partition is refused slots that are kept for others: lends those that have been idle for too
    /// long, and says whether there are any.
    pub(super) fn lend(&self, part: Part, now: u64) -> bool {
        let lent = |part: &Partition| part.idle() > 0 && part.lend(now, self.lend_after);
        // All of them, and not up to the first.
        self.others(part).filter(|part| lent(part)).count() > 0
    }

    /// Which of two partitions, of whom somebody waits, has its turn first.
    pub(super) fn compare(&self, one: usize, other: usize) -> Ordering {
        let standing = |n: usize| Standing {
            has_weight: self.weights[n] > 0,
            share: self.parts[n].share(),
            taken: self.parts[n].holding().taken,
        };
        standing(one).compare(standing(other))
    }

    /// So many wait now of a partition.
    pub(super) fn set_waiting(&self, n: usize, waiting: u32) {
        self.parts[n].waiting.store(waiting, Relaxed);
    }

    /// Whether this partition has fewer in the queue than may be there whatever the others do.
    pub(super) fn has_place(&self, part: Part) -> bool {
        let part = self.part(part);
        part.waiting.load(Relaxed) < part.places
    }

    /// The partition that has most in the queue beyond that.
    pub(super) fn most_beyond(&self) -> usize {
        let beyond =
            |part: &Partition| i64::from(part.waiting.load(Relaxed)) - i64::from(part.places);
        let most = (0..self.len()).max_by_key(|n| beyond(&self.parts[*n]));
        most.expect("there are some")
    }

    pub(super) fn look(&self, part: Part) -> PartitionState {
        let part = self.part(part);
        PartitionState {
            share: part.share(),
            taken: part.holding().taken,
            waiting: part.waiting.load(Relaxed),
        }
    }
}

impl Partition {
    #[inline]
    fn holding(&self) -> Holding {
        Holding::unpack(self.holding.load(Relaxed))
    }

    #[inline]
    fn share(&self) -> u32 {
        self.share.load(Relaxed)
    }

    #[inline]
    fn idle(&self) -> u32 {
        self.holding().idle(self.share())
    }

    fn lend(&self, now: u64, lend_after: u64) -> bool {
        let since = self.idle_since.load(Relaxed);
        let is_over = since != UNSEEN && now.saturating_sub(since) >= lend_after;
        if since != UNSEEN && !is_over {
            return false;
        }
        // Once for each time that is over: a second would find that nothing was taken since.
        let begun = self
            .idle_since
            .compare_exchange_weak(since, now, Relaxed, Relaxed);
        if begun.is_ok() && is_over {
            self.update(Holding::lend);
        }
        begun.is_ok() && is_over
    }

    #[inline]
    fn update(&self, change: impl Fn(Holding) -> Holding) {
        let mut old = self.holding.load(Relaxed);
        loop {
            let new = change(Holding::unpack(old)).pack();
            match (self.holding).compare_exchange_weak(old, new, Relaxed, Relaxed) {
                Ok(_) => return,
                Err(newer) => old = newer,
            }
        }
    }
}

const _: () = assert!(MOST <= Part::MAX as usize);
