//! How many permits a call takes.

use std::fmt::Debug;

use crate::{
    partitions::{Divide, Divided, Numbered, PartOf, Partition},
    permits::{Demand, Permits},
};

/// How many permits a request takes. Implemented for closures.
pub trait Weight<Req> {
    /// What the call then holds.
    type Cost: Cost;

    /// The weight of `req`.
    fn weigh(&self, req: &Req) -> Self::Cost;
}

/// A closure that says how many. Zero counts as one: every call in flight is counted.
impl<F, Req> Weight<Req> for F
where
    F: Fn(&Req) -> usize,
{
    type Cost = Several;

    fn weigh(&self, req: &Req) -> Several {
        Several::new(self(req))
    }
}

/// A number of permits that a call takes: [`One`] or [`Several`], also [of a partition](OfPartition).
pub trait Cost: sealed::Sealed + Copy + Debug {
    #[doc(hidden)]
    fn permits(self) -> u32;

    #[doc(hidden)]
    #[inline]
    fn partition(self) -> Option<u8> {
        None
    }
}

/// What a call of this cost asks for.
#[inline]
pub(super) fn demand(cost: impl Cost) -> Demand {
    Demand {
        slots: cost.permits(),
        part: cost.partition(),
    }
}

/// Every call takes one permit, and nothing need be kept to know that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "there is nothing to add to one")]
pub struct One;

impl<Req> Weight<Req> for One {
    type Cost = Self;

    fn weigh(&self, _: &Req) -> Self {
        Self
    }
}

impl Cost for One {
    #[inline]
    fn permits(self) -> u32 {
        1
    }
}

/// A number of permits, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Several(u32);

impl Several {
    /// So many. Zero counts as one, and more than 2,097,151 as more than any limit.
    #[must_use]
    pub fn new(permits: usize) -> Self {
        Self(permits.clamp(1, Permits::MAX + 1) as u32)
    }
}

impl Cost for Several {
    #[inline]
    fn permits(self) -> u32 {
        self.0
    }
}

/// Weighs a request, and says of which partition it is; made by [`BulkheadBuilder::partitions`].
///
/// [`BulkheadBuilder::partitions`]: super::BulkheadBuilder::partitions
#[derive(Clone, Debug)]
pub struct Partitioned<F, W = One> {
    pub(super) divided: Divided<F>,
    pub(super) weight: W,
}

impl<F, W, Req> Weight<Req> for Partitioned<F, W>
where
    F: Partition<Req>,
    W: Weight<Req>,
{
    type Cost = OfPartition<W::Cost>;

    #[inline]
    fn weigh(&self, req: &Req) -> Self::Cost {
        OfPartition {
            cost: self.weight.weigh(req),
            part: self.divided.part_of(req),
        }
    }
}

/// A number of permits of the share of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfPartition<C = One> {
    cost: C,
    part: Numbered,
}

impl<C: Cost> Cost for OfPartition<C> {
    #[inline]
    fn permits(self) -> u32 {
        self.cost.permits()
    }

    #[inline]
    fn partition(self) -> Option<u8> {
        self.part.number()
    }
}

mod sealed {
    #[allow(unnameable_types, reason = "that is how it seals")]
    pub trait Sealed {}
    impl Sealed for super::One {}
    impl Sealed for super::Several {}
    impl<C: Sealed> Sealed for super::OfPartition<C> {}
}
