//! Shares of one limit: so much of it for each kind of call, and lent to the others while it is idle.
//!
//! A limit alone goes to whoever asks most. [`Partitions`] divide it by weight among up to 16 names, one of
//! which each request is given by a function. They are for a [bulkhead](crate::bulkhead) and for an
//! [adaptive limit](crate::adaptive), with a queue or without.
//!
//! - **No more than the limit** are in flight, under any interleaving, whatever is lent.
//! - **What is idle is lent.** One partition alone has the whole limit.
//! - **Each has its share** as soon as it asks for it. Calls that run on lent permits are not cut; as they
//!   end, their permits go to those who are within their share, and not back to who had borrowed them,
//!   however much he asks for more. So all have their share again after the time of one call.
//! - **Shares follow the limit**, when it is changed, or changes by itself. They are rounded by the largest
//!   remainders, and are at least one permit for whoever has any weight, where there are as many. A request
//!   whose partition is unknown is in the partition `other`.
//!
//! **Where a layer refuses at once**, what a partition asks for comes back only when it asks again. So when a
//! call is refused that was within its share, a permit is kept for its partition: as soon as it comes
//! back it is lent to nobody, and it goes on being kept, free or in use, for as long as it is used.
//! Permits that are kept, and have been idle for [a while](Partitions::lend_after), are lent again. That
//! is found out by those who are refused on their account: there is no timer.
//!
//! **Where calls may wait**, nothing is kept. A permit that comes back goes to the partition that has the least
//! of its share, of those that have calls in the queue, and within it to who is next by the order of the
//! [queue](crate::queue). Each partition has an order, a delay and its criticalities among itself. The places in the
//! queue are divided, and lent, as the permits are: where it is full, a call of a partition that has fewer than its
//! part of them takes the place of one that would be served last of the partition which has most beyond its own.
//!
//! A call for which there is neither a permit nor a place is refused and forgotten, so that a queue should have
//! no fewer places than the limit has permits.
//!
//! A call also counts itself in and out of its partition: two more writes. Beyond its share it looks at all
//! partitions, however many calls there are. There is neither a lock nor an allocation.
//!
//! What is lent goes to who comes first. A call of [several permits](crate::bulkhead::BulkheadBuilder::weight) is
//! within its share if all of them are.
//!
//! # Example
//!
//! ```
//! use steadfast::{bulkhead::BulkheadLayer, partitions::Partitions};
//! use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
//!
//! struct Get { tier: &'static str }
//! const LIVE: Get = Get { tier: "live" };
//! const BATCH: Get = Get { tier: "batch" };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let partitions = Partitions::by(|get: &Get| get.tier)
//!     .share("live", 75)
//!     .share("batch", 25);
//! let layer = BulkheadLayer::builder(4).partitions(partitions).build()?;
//! let mut svc = layer.layer(service_fn(|_: Get| async { Ok::<_, BoxError>(()) }));
//!
//! // As long as nobody else calls, batches have it all.
//! let mut batches = Vec::new();
//! for _ in 0..4 {
//!     batches.push(svc.ready().await?.call(BATCH));
//! }
//! assert!(svc.ready().await?.call(LIVE).await.is_err());
//!
//! // What comes back then is kept for the live call, until it comes again.
//! batches.pop();
//! assert!(svc.ready().await?.call(BATCH).await.is_err());
//! svc.ready().await?.call(LIVE).await?;
//!
//! let [live, batch, _other] = &layer.handle().partitions()[..] else { unreachable!() };
//! assert_eq!((live.share, live.rejected), (3, 1));
//! assert_eq!((batch.share, batch.in_flight, batch.rejected), (1, 3, 1));
//! # Ok(())
//! # }
//! ```

mod by;
mod shown;

use std::time::Duration;

pub(crate) use by::demand;
pub use by::{ByCriticality, Divide, Divided, Numbered, PartOf, Partition, Whole};
pub(crate) use shown::PartitionMetrics;
pub use shown::PartitionSnapshot;

use crate::{
    error::{InvalidSetting, not_zero},
    permits::{Division, MOST, Permits},
    queue::Queue,
    telemetry::Telemetry,
    time::nanos,
};

/// The partition of what belongs to no other.
const OTHER: &str = "other";

/// How a limit is divided, and by what; see the [module docs](self) for an example.
#[derive(Clone, Debug)]
#[must_use]
pub struct Partitions<F> {
    by: F,
    shares: Vec<(&'static str, u32)>,
    other: u32,
    lend_after: Duration,
}

impl<F> Partitions<F> {
    /// Partitions of requests, of which `by` says the name. A name that has no [share](Self::share) is
    /// [`other`](Self::other).
    ///
    /// It is asked once for each call, when that is made and before anything is taken. If it panics the
    /// caller does, and nothing is held.
    pub fn by<Req>(by: F) -> Self
    where
        F: Fn(&Req) -> &str,
    {
        Self::new(by)
    }

    const fn new(by: F) -> Self {
        Self {
            by,
            shares: Vec::new(),
            other: 0,
            lend_after: Duration::from_secs(1),
        }
    }

    /// Gives a partition its share: `weight` of the sum of all weights, which are percents where that is 100.
    ///
    /// A partition of no weight lives from what is lent alone. There may be 15 names, and their order is that
    /// of the [snapshots](PartitionSnapshot).
    pub fn share(mut self, name: &'static str, weight: u32) -> Self {
        self.shares.push((name, weight));
        self
    }

    /// The weight of the partition `other`: of all calls whose name has no share. Default: 0, so that they live
    /// from what is lent.
    pub const fn other(mut self, weight: u32) -> Self {
        self.other = weight;
        self
    }

    /// How long permits that are kept for a partition, since one of its calls was refused within its share,
    /// may be idle before they are lent again. Default: 1 s.
    ///
    /// No shorter than the time between two calls of a partition that is to find its permits there. Of
    /// no use where calls may wait, for then nothing is kept.
    pub const fn lend_after(mut self, lend_after: Duration) -> Self {
        self.lend_after = lend_after;
        self
    }

    /// Divides the permits of a limit with this queue before them.
    pub(crate) fn build(
        self,
        permits: Permits,
        queue: &Queue,
        telemetry: &Telemetry,
    ) -> Result<Built<Divided<F>>, InvalidSetting> {
        let lend_after = nanos(not_zero("lend_after", self.lend_after)?);
        let (mut names, mut weights): (Vec<_>, Vec<_>) = self.shares.into_iter().unzip();
        if names.is_empty() || names.len() >= MOST {
            let allowed = format!("the share of 1 to {} names", MOST - 1);
            return Err(InvalidSetting::new("share", names, allowed));
        }
        names.push(OTHER);
        weights.push(self.other);
        let mut names_before = (0..names.len()).map(|n| (names[n], &names[..n]));
        if let Some((name, _)) = names_before.find(|(name, before)| before.contains(name)) {
            let allowed = "a name that no other partition has";
            return Err(InvalidSetting::new("share", name, allowed));
        }
        let sharers = weights.iter().filter(|weight| **weight > 0).count();
        if sharers == 0 {
            let allowed = "such that some are more than 0";
            return Err(InvalidSetting::new("share", weights, allowed));
        }
        if queue.capacity() > 0 && queue.capacity() < sharers {
            let allowed = format!("0, or at least {sharers}: a place for each partition");
            return Err(InvalidSetting::new("queue", queue.capacity(), allowed));
        }
        let metrics = PartitionMetrics::new(telemetry, &names);
        let division = Division {
            weights,
            lend_after,
        };
        Ok(Built {
            permits: permits.divided(&division),
            metrics,
            divided: Divided::new(self.by, &names[..names.len() - 1]),
        })
    }
}

impl Partitions<ByCriticality> {
    /// Partitions by the [`Criticality`](crate::Criticality) of the [`Context`](crate::Context) in which the service
    /// is called. Their names are [`critical_plus`, `critical`, `sheddable_plus` and
    /// `sheddable`](crate::Criticality::as_str).
    ///
    /// Enter the context around the call, not only around its future:
    /// `context.scope(async { svc.call(req).await })`.
    ///
    /// ```
    /// use steadfast::{Criticality, partitions::Partitions};
    ///
    /// // The most critical have what nobody else has a share of.
    /// let partitions = Partitions::by_criticality()
    ///     .share(Criticality::CriticalPlus.as_str(), 30)
    ///     .share(Criticality::Critical.as_str(), 60)
    ///     .other(10);
    /// ```
    pub const fn by_criticality() -> Self {
        Self::new(ByCriticality)
    }
}

/// What a layer needs of its partitions.
pub(crate) struct Built<D> {
    pub(crate) permits: Permits,
    pub(crate) metrics: PartitionMetrics,
    pub(crate) divided: D,
}

impl Built<Whole> {
    /// Where there are none.
    pub(crate) fn whole(permits: Permits) -> Self {
        Self {
            permits,
            metrics: PartitionMetrics::default(),
            divided: Whole,
        }
    }
}
