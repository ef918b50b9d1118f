//! Of which partition a request is.

use crate::{context::Context, permits::Part, pooled::PooledArc};

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

/// Tells partitions by their number. Clones are cheap, as services are cloned for each call.
#[derive(Clone, Debug)]
pub(crate) struct Partitioner<F> {
    by: F,
    names: PooledArc<Names>,
}

#[derive(Debug)]
struct Names(Box<[&'static str]>);
pooled!(Names);

impl<F> Partitioner<F> {
    /// `names` are those of all partitions but the last, of which is what has none of them.
    pub(super) fn new(by: F, names: &[&'static str]) -> Self {
        let names = PooledArc::new(Names(names.into()));
        Self { by, names }
    }

    #[inline]
    pub(crate) fn part<Req>(&self, req: &Req) -> Part
    where
        F: Partition<Req>,
    {
        let name = self.by.partition(req);
        let names = &self.names.0;
        let known = names.iter().position(|known| *known == name);
        known.unwrap_or(names.len()) as Part
    }
}
