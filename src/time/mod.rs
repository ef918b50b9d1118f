//! The one door to the clock: tokio's, so that a test can pause it.

#[cfg(all(feature = "sim", not(steadfast_loom)))]
pub(crate) mod simulated;
mod timer;

use std::time::Duration;

pub(crate) use timer::Timer;
pub(crate) use tokio::time::Instant;

/// What the clock says.
#[allow(clippy::disallowed_methods, reason = "this is the door")]
#[inline]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The time since the Unix epoch, for the dates that HTTP has in its headers and for what changes with the
/// hour on all servers at once. For nothing else: wall clocks leap.
///
/// It stands still, and is moved on, with a paused clock. In a simulation it begins at zero, so that none
/// depends on when it is run.
#[allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this is the door"
)]
pub(crate) fn since_unix_epoch() -> Duration {
    use std::time::SystemTime;

    #[cfg(all(feature = "sim", not(steadfast_loom)))]
    if let Some(began) = simulated::began() {
        return now().saturating_duration_since(began);
    }
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let (real, ours) = (std::time::Instant::now(), now().into_std());
    // Only a paused clock is apart from the real one.
    let (ahead, behind) = (
        ours.saturating_duration_since(real),
        real.saturating_duration_since(ours),
    );
    let wall = wall.unwrap_or_default().saturating_add(ahead);
    wall.saturating_sub(behind)
}

/// The earlier of two ends, with what it is the end of: the first where both are at once. `None` is an end
/// that there is not, or that the clock cannot reach.
#[inline]
pub(crate) fn earlier<T>(
    first: (Option<Instant>, T),
    second: (Option<Instant>, T),
) -> (Option<Instant>, T) {
    match (first.0, second.0) {
        (Some(one), Some(other)) if other < one => second,
        (None, Some(_)) => second,
        _ => first,
    }
}

/// What pure parts ask for the time, where asking each time would cost those who need not know.
pub(crate) trait Clock {
    /// Nanoseconds since a moment of its own.
    fn nanos(&self) -> u64;
}

impl Clock for Epoch {
    fn nanos(&self) -> u64 {
        self.nanos_now()
    }
}

/// The moment from which a layer counts its nanoseconds.
///
/// State machines and windows keep their times as one `u64`, which an atomic can hold: nanoseconds
/// since the layer was built, enough for 584 years.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Epoch(Instant);

impl Epoch {
    pub(crate) fn start() -> Self {
        Self(now())
    }

    /// Nanoseconds from the epoch to `instant`; zero for what lies before.
    #[inline]
    pub(crate) fn nanos_at(self, instant: Instant) -> u64 {
        nanos(instant.saturating_duration_since(self.0))
    }

    /// What [`nanos_at`](Self::nanos_at) was told, for what does not lie before the epoch.
    pub(crate) fn instant_at(self, nanos: u64) -> Instant {
        self.0 + Duration::from_nanos(nanos)
    }

    #[inline]
    pub(crate) fn nanos_now(self) -> u64 {
        self.nanos_at(now())
    }
}

/// A duration in nanoseconds. What is longer than 584 years is as good as for ever.
#[inline]
pub(crate) const fn nanos(duration: Duration) -> u64 {
    let whole = duration.as_secs().saturating_mul(1_000_000_000);
    whole.saturating_add(duration.subsec_nanos() as u64)
}
