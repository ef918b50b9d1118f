//! Setting a breaker up.

use std::time::Duration;

use super::{CircuitBreakerLayer, layer::Shared, rules::Thresholds, settings::Settings};
use crate::{backoff::Backoff, classify::AnyError, error::InvalidSetting};

/// The settings of a breaker; made by [`CircuitBreakerLayer::builder`].
///
/// The rules are joined by *or*: the breaker trips when any of them does. They are evaluated whenever
/// a counted result arrives.
#[derive(Clone, Debug)]
#[must_use]
pub struct CircuitBreakerBuilder<C = AnyError> {
    settings: Settings,
    classifier: C,
}

impl CircuitBreakerBuilder {
    pub(super) const fn new() -> Self {
        Self {
            settings: Settings::DEFAULT,
            classifier: AnyError,
        }
    }
}

impl<C> CircuitBreakerBuilder<C> {
    /// Names the layer, for metrics, events and refusals. Default: `"circuit_breaker"`.
    pub const fn name(mut self, name: &'static str) -> Self {
        self.settings.name = name;
        self
    }

    /// Trips after so many failures in a row. At least 1. Off by default.
    ///
    /// An ignored call neither adds to a run nor ends it.
    pub const fn consecutive_failures(mut self, failures: u32) -> Self {
        self.settings.consecutive_failures = Some(failures);
        self
    }

    /// Judges the last `calls` calls, 1..=65535. The window slides: every call that enters pushes the
    /// oldest out. 4 bytes a call.
    ///
    /// Default where no rule is given: 100 calls, a failure rate of 0.5, at least 20 calls.
    pub const fn count_window(mut self, calls: u32, thresholds: Thresholds) -> Self {
        self.settings.count_window = Some((calls, thresholds));
        self
    }

    /// Judges the calls of the last `duration`, at least 10 ms. Off by default.
    ///
    /// The window slides in ten steps, so a call is forgotten when between nine and ten tenths of it
    /// have passed. It takes the same memory and time at any traffic.
    ///
    /// Like any window of pure time it is as inert as it is full: after 100,000 successes within it,
    /// 50 % is reached only at 100,000 failures. Where an outage must be seen after a fixed number of
    /// calls, add a [count window](Self::count_window).
    pub const fn time_window(mut self, duration: Duration, thresholds: Thresholds) -> Self {
        self.settings.time_window = Some((duration, thresholds));
        self
    }

    /// What is strictly longer is slow. Default: 1 s.
    ///
    /// Also the bound by which a call that is dropped before its result is judged: one that had run
    /// longer counts as a failure (a timeout), one that had not is ignored.
    pub const fn slow_call_duration(mut self, duration: Duration) -> Self {
        self.settings.slow_call_duration = duration;
        self
    }

    /// How long the breaker stays open: the first delay at the first trip, the next where its probes
    /// fail or it trips again soon. Default: 5 s, doubled up to 60 s, with [equal
    /// jitter](crate::backoff::Jitter::Equal).
    ///
    /// The open time is over *at* its end. With [full jitter](crate::backoff::Jitter::Full), the default of a
    /// [`Backoff`] of your own, it may be next to nothing. One that [panics](Backoff::from_fn) counts as its
    /// cap.
    pub fn open_time(mut self, backoff: Backoff) -> Self {
        self.settings.open_time = Some(backoff);
        self
    }

    /// How long the breaker must have stayed closed for its open time to start over from the first
    /// delay at the next trip. Default: the cap of the [open time](Self::open_time).
    pub const fn lasting_close(mut self, duration: Duration) -> Self {
        self.settings.lasting_close = Some(duration);
        self
    }

    /// How many calls a half-open breaker lets pass as probes, in all and therefore at once,
    /// 1..=254. Default: 3.
    ///
    /// They are judged by the same rules as the calls of a closed breaker, as soon as those still to
    /// come cannot change the answer. A probe that is ignored, or dropped early, makes room for
    /// another.
    pub const fn half_open_probes(mut self, probes: u32) -> Self {
        self.settings.half_open_probes = probes;
        self
    }

    /// How long a probe may take. One that takes longer counts as failed, whatever becomes of it; so
    /// a hung probe cannot hold the breaker half-open. Default: 10 s.
    pub const fn half_open_timeout(mut self, duration: Duration) -> Self {
        self.settings.half_open_timeout = duration;
        self
    }

    /// Makes the jitter of the open time repeatable. By default it is seeded by the operating system.
    pub const fn seed(mut self, seed: u64) -> Self {
        self.settings.seed = Some(seed);
        self
    }

    /// Says what counts as a failure. Default: [`AnyError`].
    pub fn classifier<D>(self, classifier: D) -> CircuitBreakerBuilder<D> {
        CircuitBreakerBuilder {
            settings: self.settings,
            classifier,
        }
    }

    /// Checks the settings and builds the layer.
    ///
    /// # Errors
    ///
    /// If a setting is outside its range; the error names it.
    pub fn build(self) -> Result<CircuitBreakerLayer<C>, InvalidSetting> {
        let shared = Shared::new(&self.settings)?;
        Ok(CircuitBreakerLayer::new(shared, self.classifier))
    }
}
