//! Which call goes before which. Pure.

use crate::context::Criticality;

/// How many cohorts there are within a criticality: DAGOR has as many levels of users.
pub(super) const COHORTS: usize = 128;

/// How many levels there are, from the most critical cohort down.
pub(super) const LEVELS: usize = Criticality::ALL.len() * COHORTS;

/// Bits below the level, by which the calls of one level are told apart.
const FINE_BITS: u32 = 16;

/// A call's place among all calls: its level, and below that chance. The least is admitted first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Priority(u32);

impl Priority {
    /// `user` is the hash of whoever calls, by which those of one user share a cohort; without one the cohort
    /// is chance, too.
    #[inline]
    pub(super) fn new(criticality: Criticality, user: Option<u64>, chance: Chance) -> Self {
        let cohort = user.unwrap_or(chance.0) >> (u64::BITS - COHORTS.ilog2());
        let level = criticality as u32 * COHORTS as u32 + cohort as u32;
        Self(level << FINE_BITS | chance.fine())
    }

    #[inline]
    pub(super) const fn level(self) -> usize {
        (self.0 >> FINE_BITS) as usize
    }
}

/// Random bits, of which each use has its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chance(pub(super) u64);

impl Chance {
    /// The highest bits are the cohort's, the next are these.
    const fn fine(self) -> u32 {
        (self.0 >> (u64::BITS - COHORTS.ilog2() - FINE_BITS)) as u32 & ((1 << FINE_BITS) - 1)
    }

    /// Whether to belong to this share of all calls.
    #[inline]
    pub(super) const fn is_among(self, share: Share) -> bool {
        (self.0 as u32 & Share::MASK) < share.0
    }

    /// A part of so much, of bits that nothing else has.
    #[inline]
    pub(super) fn part_of(self, whole: u64) -> u64 {
        let part = (self.0 >> Share::BITS) as u32 & Share::MASK;
        // Less than the whole, so it fits.
        ((u128::from(whole) * u128::from(part)) >> Share::BITS) as u64
    }
}

/// A share of all calls.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share(u32);

impl Share {
    const BITS: u32 = 20;
    const MASK: u32 = (1 << Self::BITS) - 1;

    /// In 0..=1.
    pub(super) fn new(share: f64) -> Self {
        Self((share * f64::from(1 << Self::BITS)).round() as u32)
    }
}

/// Where those begin that are shed: a level, and how far into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Threshold(u32);

impl Threshold {
    /// Nothing is shed.
    pub(super) const NONE: Self = Self((LEVELS as u32) << FINE_BITS);

    /// At a share of the calls of a level.
    pub(super) fn within(level: usize, share: f64) -> Self {
        let whole = 1 << FINE_BITS;
        let part = (share.clamp(0.0, 1.0) * f64::from(whole)) as u32;
        Self((level as u32) * whole + part)
    }

    #[inline]
    pub(super) const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    pub(super) const fn bits(self) -> u32 {
        self.0
    }

    #[inline]
    pub(super) const fn admits(self, priority: Priority) -> bool {
        priority.0 < self.0
    }

    /// Which share of the cohorts of a criticality it admits.
    pub(super) fn share_of(self, criticality: Criticality) -> f64 {
        self.share_of_levels(criticality as u32 * COHORTS as u32, COHORTS as u32)
    }

    /// Which share of the calls of a level it admits.
    pub(super) fn share_of_level(self, level: usize) -> f64 {
        self.share_of_levels(level as u32, 1)
    }

    fn share_of_levels(self, first: u32, levels: u32) -> f64 {
        let (begin, whole) = (first << FINE_BITS, levels << FINE_BITS);
        f64::from(self.0.saturating_sub(begin).min(whole)) / f64::from(whole)
    }
}
