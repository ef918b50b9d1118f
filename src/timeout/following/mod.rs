//! A limit that follows how long calls take.

mod future;
mod layer;
mod service;

use std::time::Duration;

pub use future::FollowingTimeoutFuture;
pub use layer::{FollowingTimeoutBuilder, FollowingTimeoutLayer};
pub use service::FollowingTimeout;

use super::layer::{Shared, TimeLimit};
use crate::{
    pooled::PooledArc,
    telemetry::Gauge,
    time::{self, Epoch, Instant, nanos},
    window::{RollingQuantile, Sample},
};

/// What has been observed, and what follows from it. Shared by all services of a layer.
#[derive(Debug)]
pub(super) struct Following {
    observed: RollingQuantile,
    padding: f64,
    min: Duration,
    max: Duration,
    epoch: Epoch,
    gauge: Gauge,
}

pooled!(Following);

impl Following {
    #[inline]
    fn limit(&self) -> Duration {
        match self.observed.get() {
            // A product too long for nanoseconds is taken for the longest there is.
            Some(nanos) => {
                Duration::from_nanos((nanos as f64 * self.padding) as u64).clamp(self.min, self.max)
            }
            None => self.max,
        }
    }

    /// A call that began to wait then has ended now. `is_whole`: of itself, and well.
    fn observe(&self, began: Instant, is_whole: bool) {
        let now = time::now();
        let took = nanos(now.saturating_duration_since(began));
        let sample = if is_whole {
            Sample::Exact(took)
        } else {
            Sample::Cut(took)
        };
        if self.observed.record(sample, self.epoch.nanos_at(now)) {
            self.publish();
        }
    }

    fn publish(&self) {
        self.gauge.set(self.limit().as_secs_f64());
    }
}

impl<Req> TimeLimit<Req> for PooledArc<Following> {
    #[inline]
    fn time_limit(&self, _: &Req) -> Duration {
        self.limit()
    }
}

/// Sees the limit of a layer; made by [`FollowingTimeoutLayer::handle`]. Cheap to clone.
#[derive(Clone, Debug)]
pub struct FollowingTimeoutHandle {
    shared: PooledArc<Shared>,
    following: PooledArc<Following>,
}

impl FollowingTimeoutHandle {
    /// The name of the layer.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.shared.telemetry.name()
    }

    /// The limit that a call would be given now.
    #[must_use]
    pub fn limit(&self) -> Duration {
        self.following.limit()
    }

    /// The quantile that the limit follows, as observed last; `None` while there was too little to tell.
    #[must_use]
    pub fn observed(&self) -> Option<Duration> {
        self.following.observed.get().map(Duration::from_nanos)
    }
}
