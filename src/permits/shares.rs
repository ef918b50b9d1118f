//! Shares of one limit, and what a partition holds of its own. Pure.

use std::cmp::Ordering;

/// The most partitions that a limit may have: so many are looked at where one takes more than its share.
pub(crate) const MOST: usize = 16;

/// Splits `total` by weight, which some partition has: what is whole first, and the rest by the largest
/// remainders. Who has any weight gets at least one where there are as many, from whoever has most.
pub(crate) fn apportion(total: u32, weights: &[u32]) -> [u32; MOST] {
    let sum: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
    let (mut shares, mut remainders) = ([0; MOST], [0; MOST]);
    for (n, weight) in weights.iter().enumerate() {
        let exact = u64::from(total) * u64::from(*weight);
        (shares[n], remainders[n]) = ((exact / sum) as u32, exact % sum);
    }
    // Fewer than there are partitions with a remainder.
    for _ in 0..total - shares.iter().sum::<u32>() {
        let largest = first_largest(&remainders);
        shares[largest] += 1;
        remainders[largest] = 0;
    }
    let sharers = weights.iter().filter(|weight| **weight > 0).count();
    if total as usize >= sharers {
        let is_poor = |(n, weight): (usize, &u32), shares: &[u32]| *weight > 0 && shares[n] == 0;
        while let Some(poor) = (weights.iter().enumerate()).position(|it| is_poor(it, &shares)) {
            shares[first_largest(&shares)] -= 1;
            shares[poor] = 1;
        }
    }
    shares
}

fn first_largest<T: Ord>(all: &[T; MOST]) -> usize {
    // Of several that are alike the iterator finds the last.
    let largest = (0..MOST).rev().max_by_key(|n| &all[*n]);
    largest.expect("there are some")
}

/// What a partition has, in one word; 21 bits each.
///
/// What was *kept* is lent to nobody, taken or not. Nothing is, until somebody is refused within the share
/// of the partition: then as much as it asks for. It goes on as long as it is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Holding {
    pub(super) taken: u32,
    pub(super) kept: u32,
    /// The most that was taken at once since it was last asked whether to keep so much.
    peak: u32,
}

impl Holding {
    const BITS: u32 = 21;
    const MASK: u64 = (1 << Self::BITS) - 1;

    pub(super) const fn pack(self) -> u64 {
        (self.peak as u64) << (2 * Self::BITS)
            | (self.kept as u64) << Self::BITS
            | self.taken as u64
    }

    pub(super) const fn unpack(word: u64) -> Self {
        Self {
            taken: (word & Self::MASK) as u32,
            kept: (word >> Self::BITS & Self::MASK) as u32,
            peak: (word >> (2 * Self::BITS)) as u32,
        }
    }

    pub(super) fn take(self, slots: u32) -> Self {
        let taken = self.taken + slots;
        let peak = self.peak.max(taken);
        Self {
            taken,
            peak,
            ..self
        }
    }

    pub(super) const fn give_back(self, slots: u32) -> Self {
        let taken = self.taken - slots;
        Self { taken, ..self }
    }

    /// Whether so many more are no more than the share.
    pub(super) const fn is_within(self, share: u32, slots: u32) -> bool {
        self.taken + slots <= share
    }

    /// Keeps so many more of the share, for one who has found none free.
    pub(super) fn keep(self, share: u32, slots: u32) -> Self {
        let kept = share.min(self.taken.max(self.kept) + slots);
        let is_first = self.kept == 0; // what was taken long ago is no measure
        let peak = if is_first { self.taken } else { self.peak };
        Self { kept, peak, ..self }
    }

    /// How many are kept, and not taken.
    pub(super) fn idle(self, share: u32) -> u32 {
        self.kept.min(share).saturating_sub(self.taken)
    }

    /// Keeps no more than was in use since this was last asked.
    pub(super) fn lend(self) -> Self {
        Self {
            kept: self.kept.min(self.peak),
            peak: self.taken,
            ..self
        }
    }
}

/// How a partition stands among those of whom somebody waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    pub(super) has_weight: bool,
    pub(super) share: u32,
    pub(super) taken: u32,
}

impl Standing {
    /// Whose turn is first: who has the least of its share, and last who has none. Where a limit is too
    /// small for all to have one, those without count as if they had.
    pub(super) fn compare(self, other: Self) -> Ordering {
        let part = |own: Self, of: Self| u64::from(own.taken) * u64::from(of.share.max(1));
        let by_weight = other.has_weight.cmp(&self.has_weight);
        by_weight.then_with(|| part(self, other).cmp(&part(other, self)))
    }
}
