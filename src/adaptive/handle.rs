//! Seeing and steering a limit from outside.

use super::{Mode, builder::Bounds, limit::Sample, shared::Shared};
use crate::{
    error::InvalidSetting, partitions::PartitionSnapshot, pooled::PooledArc, queue::QueueDelay,
};

/// Sees and steers the limit of a layer; made by [`AdaptiveLayer::handle`] or
/// [`QueuedAdaptiveLayer::handle`]. Cheap to clone.
///
/// [`AdaptiveLayer::handle`]: super::AdaptiveLayer::handle
/// [`QueuedAdaptiveLayer::handle`]: super::QueuedAdaptiveLayer::handle
#[derive(Clone, Debug)]
pub struct AdaptiveHandle {
    pub(super) shared: PooledArc<Shared>,
}

impl AdaptiveHandle {
    /// The name of the layer.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.shared.metrics.telemetry.name()
    }

    /// How many calls may be in flight.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.shared.limiter.permits().load().limit as usize
    }

    /// How many calls are in flight. More than the limit only while it has just been lowered. Calls that
    /// passed a layer that only [observes](Mode::ObserveOnly), and would else have been refused, are not
    /// among them.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.shared.limiter.permits().load().taken as usize
    }

    /// How many calls wait in the queue.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.shared.limiter.permits().load().waiting as usize
    }

    /// How long calls wait in the queue: a signal of overload, for what sheds load before it gets here.
    ///
    /// Takes no lock; reads the clock where somebody waits.
    #[must_use]
    pub fn queue_delay(&self) -> QueueDelay {
        QueueDelay::of(self.shared.limiter.permits())
    }

    /// The [partitions](crate::partitions) of the limit, in the order in which they were given their shares, and
    /// `other` as the last. None where it is not divided.
    #[must_use]
    pub fn partitions(&self) -> Vec<PartitionSnapshot> {
        let Shared {
            limiter, metrics, ..
        } = &*self.shared;
        metrics.partitions.snapshots(limiter.permits())
    }

    /// All there is to see at this moment. Takes a lock, for which no call waits.
    #[must_use]
    pub fn snapshot(&self) -> AdaptiveSnapshot {
        let limiter = &self.shared.limiter;
        let (bounded, sample) = limiter.look();
        let word = limiter.permits().load();
        AdaptiveSnapshot {
            limit: bounded.limit,
            min_limit: bounded.min as usize,
            max_limit: bounded.max as usize,
            in_flight: word.taken as usize,
            waiting: word.waiting as usize,
            mode: self.mode(),
            sample,
        }
    }

    /// What the layer does.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.shared.mode.get()
    }

    /// Has the layer do so from now on. Calls in flight, and those that wait, go on as they began; what was
    /// seen since the last sample is forgotten.
    pub fn set_mode(&self, mode: Mode) {
        self.shared.set_mode(mode);
    }

    /// Lets `limit` calls be in flight, or the bound that is nearest to it, and has the algorithm go on
    /// from there.
    ///
    /// Never blocks a call, and cuts none: where more are in flight they run to their end, and none begins
    /// until there are fewer. Where the limit grows, those who wait are let in at once.
    pub fn set_limit(&self, limit: usize) {
        self.shared.intervene(|bounded| bounded.set(limit as f64));
    }

    /// Keeps the limit within `min..=max` from now on, otherwise as [`set_limit`](Self::set_limit). Where
    /// both are the same, the limit is fixed.
    ///
    /// # Errors
    ///
    /// If `min` is zero, or above `max`, or `max` more than 2,097,151; then nothing is changed.
    pub fn set_bounds(&self, min: usize, max: usize) -> Result<(), InvalidSetting> {
        let (min, max) = Bounds { min, max }.check()?;
        self.shared
            .intervene(|bounded| bounded.set_bounds(min, max));
        Ok(())
    }
}

/// A limit at one moment; see [`AdaptiveHandle::snapshot`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct AdaptiveSnapshot {
    /// The limit with the fraction that the algorithm goes on with.
    pub limit: f64,
    /// The least that it may be.
    pub min_limit: usize,
    /// The greatest.
    pub max_limit: usize,
    /// How many calls are in flight.
    pub in_flight: usize,
    /// How many wait in the queue.
    pub waiting: usize,
    /// What the layer does.
    pub mode: Mode,
    /// What the algorithm was told last.
    pub sample: Option<Sample>,
}
