//! Of which partition a request is.

use std::fmt::Debug;

use crate::{
    context::Context,
    permits::{Demand, Part},
    pooled::PooledArc,
};

/// Says the name of the partition of a request. Implemented for closures.
pub trait Partition<Req> {
    /// The name of the partition of `req`.
    fn partition<'a>(&self, req: &'a Req) -> &'a str;
}

impl<F, Req> Partition<Req> for F
where
    F: Fn(&Req) -> &str,
{
    #[inline]
    fn partition<'a>(&self, req: &'a Req) -> &'a str {
        self(req)
    }
}

/// By the criticality of the context; see [`Partitions::by_criticality`](super::Partitions::by_criticality).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ByCriticality;

impl<Req> Partition<Req> for ByCriticality {
    #[inline]
    fn partition<'a>(&self, _: &'a Req) -> &'a str {
        Context::current().criticality().as_str()
    }
}

/// Whether a limit is divided, and by what: [`Whole`] or [`Divided`].
pub trait Divide<Req>: sealed::Sealed {
    /// What a call then holds.
    type Part: PartOf;

    #[doc(hidden)]
    fn part_of(&self, req: &Req) -> Self::Part;
}

/// The part of a limit that a call takes from: the [`Whole`], or a [`Numbered`] one.
pub trait PartOf: sealed::Sealed + Copy + Debug {
    #[doc(hidden)]
    fn number(self) -> Option<u8>;
}

/// A limit that is not divided, and nothing need be kept to know that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "there is nothing to add to it")]
pub struct Whole;

impl<Req> Divide<Req> for Whole {
    type Part = Self;

    #[inline]
    fn part_of(&self, _: &Req) -> Self {
        Self
    }
}

impl PartOf for Whole {
    #[inline]
    fn number(self) -> Option<u8> {
        None
    }
}

/// A limit that is divided; made by [`Partitions`](super::Partitions).
// Clones are cheap, as services are cloned for each call.
#[derive(Clone, Debug)]
pub struct Divided<F> {
    by: F,
    names: PooledArc<Names>,
}

#[derive(Debug)]
struct Names(Box<[&'static str]>);
pooled!(Names);

impl<F> Divided<F> {
    /// `names` are those of all partitions but the last, of which is what has none of them.
    pub(super) fn new(by: F, names: &[&'static str]) -> Self {
        let names = PooledArc::new(Names(names.into()));
        Self { by, names }
    }
}

impl<F: Partition<Req>, Req> Divide<Req> for Divided<F> {
    type Part = Numbered;

    #[inline]
    fn part_of(&self, req: &Req) -> Numbered {
        let name = self.by.partition(req);
        let names = &self.names.0;
        let known = names.iter().position(|known| *known == name);
        Numbered(known.unwrap_or(names.len()) as Part)
    }
}

/// A partition of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbered(Part);

impl PartOf for Numbered {
    #[inline]
    fn number(self) -> Option<u8> {
        Some(self.0)
    }
}

/// What a call that takes so many permits of a part asks for.
#[inline]
pub(crate) fn demand(slots: u32, part: impl PartOf) -> Demand {
    let part = part.number();
    Demand { slots, part }
}

mod sealed {
    #[allow(unnameable_types, reason = "that is how it seals")]
    pub trait Sealed {}
    impl Sealed for super::Whole {}
    impl<F> Sealed for super::Divided<F> {}
    impl Sealed for super::Numbered {}
}
