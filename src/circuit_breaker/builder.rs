//! Setting a breaker up.

use std::time::Duration;

use super::{
    CircuitBreakerLayer, KeyedCircuitBreakerBuilder, LatencyQuantile, Statistics, Thresholds,
    changes::{Listener, StateChange},
    layer::Shared,
    mode::Mode,
    own::Own,
    ramp::Ramp,
    settings::Settings,
};
use crate::{
    backoff::Backoff, classify::AnyError, error::InvalidSetting, keyed::Key, until::Answered,
};

/// The settings of a breaker; made by [`CircuitBreakerLayer::builder`].
///
/// The rules are joined by *or*: the breaker trips when any of them does. They are evaluated whenever
/// a counted result arrives.
#[derive(Clone, Debug)]
#[must_use]
pub struct CircuitBreakerBuilder<C = AnyError, U = Answered> {
    settings: Settings,
    classifier: C,
    until: U,
}

impl CircuitBreakerBuilder {
    pub(super) const fn new() -> Self {
        Self {
            settings: Settings::DEFAULT,
            classifier: AnyError,
            until: Answered,
        }
    }
}

impl<C, U> CircuitBreakerBuilder<C, U> {
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

    /// Judges the failures of all calls, each of which weighs e^(-age / `time_constant`): it counts
    /// whole when it comes, for 0.37 when the time constant has passed, for 0.05 after three. At least
    /// 1 s. Off by default.
    ///
    /// Forgets without edges, unlike a window of time, and in one word of memory. The numbers that it is
    /// judged by, the [minimum](Thresholds::minimum_calls) too, are sums of weights: calls that come at a
    /// constant rate add up to those of one time constant. Ages are taken in sixteenths of the time
    /// constant, and the sums are too small by at most 0.11 % of the calls, or a sixtieth of one where
    /// they are few. Where more than 32,767 calls come in a time constant it is the rate of the last
    /// 16,384 or more of them; no larger number or minimum is allowed.
    ///
    /// Refuses a slow-call rate: it counts failures only.
    pub const fn ewma_window(mut self, time_constant: Duration, thresholds: Thresholds) -> Self {
        self.settings.ewma_window = Some((time_constant, thresholds));
        self
    }

    /// Judges a quantile of the latency of the calls of the last `duration`, at least 10 ms; slides as a
    /// [time window](Self::time_window) does. Off by default.
    ///
    /// Has a bound of its own beside [that of slow calls](Self::slow_call_duration). A probe that takes
    /// longer counts against closing.
    pub const fn latency_window(mut self, duration: Duration, quantile: LatencyQuantile) -> Self {
        self.settings.latency_window = Some((duration, quantile));
        self
    }

    /// Trips when `rule` says so, of what the other rules' windows hold; asked whenever a counted result
    /// arrives that makes none of them trip. Off by default.
    ///
    /// A window that is to be seen and not to trip by itself is given [`Thresholds::watch_only`]. Where
    /// there is nothing else, the last 100 calls are watched.
    ///
    /// The rule runs within the call that it is asked for, on any thread, also while that unwinds: it
    /// must be quick. If it panics, that is told as an event, and the breaker does not trip. Probes are
    /// not put to it: unless another rule looks at failures, the breaker opens again where half of them
    /// failed.
    pub fn trip_when<R>(mut self, rule: R) -> Self
    where
        R: Fn(&Statistics) -> bool + Send + Sync + 'static,
    {
        self.settings.trip_when = Some(Own::new(rule));
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

    /// Stays open for as long as the service asked for, where the failure that trips the breaker, or
    /// fails its probes, carries a [`Hint::After`](crate::classify::Hint::After) such as `Retry-After`; but
    /// for no longer than `cap`, which is not zero. Off by default.
    ///
    /// It makes the open time longer and never shorter: what the service says of itself ("come back at
    /// once") is no reason to forgo the [open time](Self::open_time) that grows with its trips, which
    /// goes on growing meanwhile.
    pub const fn open_time_from_hint(mut self, cap: Duration) -> Self {
        self.settings.open_time_from_hint = Some(cap);
        self
    }

    /// How long the breaker must have stayed closed, after its [ramp](Self::ramp) if it has one, for its open time to start over from the first
    /// delay at the next trip. Default: the cap of the [open time](Self::open_time).
    pub const fn lasting_close(mut self, duration: Duration) -> Self {
        self.settings.lasting_close = Some(duration);
        self
    }

    /// How many calls a half-open breaker lets pass as probes, in all and therefore at once,
    /// 1..=254. Default: 3.
    ///
    /// They are judged by the same rules as the calls of a closed breaker, as soon as those still to
    /// come cannot change the answer; a number or a row of failures that is longer is cut to as many as
    /// they are. A probe that is ignored, or dropped early, makes room for
    /// another.
    pub const fn half_open_probes(mut self, probes: u32) -> Self {
        self.settings.half_open_probes = probes;
        self
    }

    /// How long a probe may take. One that takes longer counts as failed, and as too slow for any
    /// rule, whatever becomes of it; so a hung probe cannot hold the breaker half-open. Default: 10 s.
    pub const fn half_open_timeout(mut self, duration: Duration) -> Self {
        self.settings.half_open_timeout = duration;
        self
    }

    /// Lets calls pass again in steps after the probes went well. Off by default: it closes at once.
    pub fn ramp(mut self, ramp: Ramp) -> Self {
        self.settings.ramp = Some(ramp);
        self
    }

    /// What the breaker may do by itself, until [told otherwise](super::CircuitBreakerHandle::set_mode).
    /// Default: [`Mode::Enabled`].
    pub const fn mode(mut self, mode: Mode) -> Self {
        self.settings.mode = mode;
        self
    }

    /// Has `listener` told of each change of state. Given more than once, all are told, in that order.
    ///
    /// It runs on the thread that changed the state, after it has, and outside of any lock: it may steer
    /// the breaker by a [handle](CircuitBreakerLayer::handle), by which it is told of that change before
    /// it has returned from this one. Changes that several threads make one upon the other may be told in another
    /// order; their [number](StateChange::number) says which came first. The call whose result changed
    /// the state waits for it; slow work belongs behind a
    /// [stream](super::CircuitBreakerHandle::state_changes). Its panic is caught, told in an
    /// [event](crate::telemetry), and changes nothing for breaker and call.
    pub fn on_state_change(
        mut self,
        listener: impl Fn(&StateChange) + Send + Sync + 'static,
    ) -> Self {
        self.settings.listeners.push(Listener::new(listener));
        self
    }

    /// Makes the jitter of the open time repeatable. By default it is seeded by the operating system.
    pub const fn seed(mut self, seed: u64) -> Self {
        self.settings.seed = Some(seed);
        self
    }

    /// Says what counts as a failure. Default: [`AnyError`].
    pub fn classifier<D>(self, classifier: D) -> CircuitBreakerBuilder<D, U> {
        CircuitBreakerBuilder {
            settings: self.settings,
            classifier,
            until: self.until,
        }
    }

    /// Until when the verdict on a call is waited for, where the response itself is not a failure already.
    /// Default: until it is [`Answered`]. For responses that are streamed over HTTP: until the
    /// [`EndOfBody`](crate::http::EndOfBody).
    ///
    /// **A long stream is not a slow call.** Slow or not, as the rules mean it, is whether the response
    /// was long in coming. What comes after it is judged [by how it ends](super#until-the-end-of-a-body).
    pub fn until<V>(self, until: V) -> CircuitBreakerBuilder<C, V> {
        CircuitBreakerBuilder {
            settings: self.settings,
            classifier: self.classifier,
            until,
        }
    }

    /// Gives each key a breaker of its own: to each host, for each tenant, on each route. `key` chooses
    /// the key of a request; see [`keyed`](crate::keyed) for keys that are borrowed from it. The last
    /// setting but those of the keys.
    ///
    /// At most `max_keys` keys are kept, at least 1. A key that is not in use may be forgotten as told
    /// [there](crate::keyed), and one whose breaker is closed before one whose breaker is not. Where
    /// all are in use, a call of yet another key passes: its breaker would be new, and so closed.
    ///
    /// [Listeners](Self::on_state_change) are told of the changes of all breakers, and not of whose. The
    /// [mode](Self::mode) is that in which each begins.
    pub fn keyed<Req, F>(
        self,
        max_keys: usize,
        key: F,
    ) -> KeyedCircuitBreakerBuilder<F::Owned, F, C, U>
    where
        F: Key<Req>,
    {
        let judged = (self.classifier, self.until);
        KeyedCircuitBreakerBuilder::new(self.settings, judged, max_keys, key)
    }

    /// Checks the settings and builds the layer.
    ///
    /// # Errors
    ///
    /// If a setting is outside its range; the error names it.
    pub fn build(self) -> Result<CircuitBreakerLayer<C, U>, InvalidSetting> {
        let shared = Shared::new(&self.settings)?;
        Ok(CircuitBreakerLayer::new(
            shared,
            self.classifier,
            self.until,
        ))
    }
}
