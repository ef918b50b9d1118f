//! What a layer tells of its partitions.

use crate::{
    permits::{Demand, Part, Permits},
    sync::{AtomicU64, Ordering::Relaxed},
    telemetry::{Counter, Gauge, Telemetry},
};

/// Empty where there are no partitions.
#[derive(Debug, Default)]
pub(crate) struct PartitionMetrics {
    parts: Box<[OfPartition]>,
}

#[derive(Debug)]
struct OfPartition {
    name: &'static str,
    share: Gauge,
    in_flight: Gauge,
    rejected: Counter,
    /// The same, to be read.
    rejections: AtomicU64,
}

impl PartitionMetrics {
    pub(super) fn new(telemetry: &Telemetry, names: &[&'static str]) -> Self {
        let of = |name: &&'static str| OfPartition {
            name,
            share: telemetry.partition_gauge("steadfast_partition_share", name),
            in_flight: telemetry.partition_gauge("steadfast_partition_in_flight", name),
            rejected: telemetry.partition_counter("steadfast_partition_rejected_total", name),
            rejections: AtomicU64::new(0),
        };
        let parts = names.iter().map(of).collect();
        Self { parts }
    }

    #[inline]
    pub(crate) fn took(&self, Demand { slots, part }: Demand) {
        if let Some(part) = part {
            self.parts[usize::from(part)].in_flight.increment(slots);
        }
    }

    #[inline]
    pub(crate) fn gave_back(&self, Demand { slots, part }: Demand) {
        if let Some(part) = part {
            self.parts[usize::from(part)].in_flight.decrement(slots);
        }
    }

    pub(crate) fn rejected(&self, part: Option<Part>) {
        if let Some(part) = part {
            let of = &self.parts[usize::from(part)];
            of.rejected.increment(1);
            // Relaxed: the number is all there is to it.
            of.rejections.fetch_add(1, Relaxed);
        }
    }

    /// Shows the shares of a limit that is divided so, as they are now.
    pub(crate) fn show_shares(&self, permits: &Permits) {
        for (part, of) in self.parts.iter().enumerate() {
            if let Some(state) = permits.partition(part as Part) {
                of.share.set(state.share);
            }
        }
    }

    pub(crate) fn snapshots(&self, permits: &Permits) -> Vec<PartitionSnapshot> {
        let snapshot = |(part, of): (usize, &OfPartition)| {
            let state = permits.partition(part as Part)?;
            Some(PartitionSnapshot {
                name: of.name,
                share: state.share as usize,
                in_flight: state.taken as usize,
                waiting: state.waiting as usize,
                rejected: of.rejections.load(Relaxed),
            })
        };
        self.parts.iter().enumerate().filter_map(snapshot).collect()
    }
}

/// A partition at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionSnapshot {
    /// Its name.
    pub name: &'static str,
    /// How many permits of the limit are its own.
    pub share: usize,
    /// How many it has in use. More than its share are lent to it.
    pub in_flight: usize,
    /// How many of its calls wait in the queue.
    pub waiting: usize,
    /// How many of its calls have been refused.
    pub rejected: u64,
}
