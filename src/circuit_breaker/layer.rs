//! The layer, and the state that all its services share.

use std::time::Duration;

use tower::Layer;

use super::{
    CircuitBreaker,
    builder::CircuitBreakerBuilder,
    handle::CircuitBreakerHandle,
    machine::{Change, Machine, Outside},
    settings::Settings,
    word::State,
};
use crate::{
    classify::AnyError,
    error::{InvalidSetting, Reason},
    pooled::PooledArc,
    rng::Rng,
    sync::{Mutex, lock},
    telemetry::{Counter, Ending, Gauge, Telemetry},
    time::Epoch,
};

/// Applies [`CircuitBreaker`] to a service.
///
/// All services made by one layer, or by its clones, share one breaker.
///
/// See the [module docs](super) for an example.
#[derive(Clone, Debug)]
#[must_use]
pub struct CircuitBreakerLayer<C = AnyError> {
    shared: PooledArc<Shared>,
    classifier: C,
}

impl CircuitBreakerLayer {
    /// Begins a breaker. Where no rule is given it trips at 50 % failures of the last 100 calls.
    pub const fn builder() -> CircuitBreakerBuilder {
        CircuitBreakerBuilder::new()
    }
}

impl<C> CircuitBreakerLayer<C> {
    pub(super) fn new(shared: Shared, classifier: C) -> Self {
        let shared = PooledArc::new(shared);
        Self { shared, classifier }
    }

    /// Sees and steers the breaker.
    #[must_use]
    pub fn handle(&self) -> CircuitBreakerHandle {
        let shared = self.shared.clone();
        CircuitBreakerHandle { shared }
    }
}

impl<S, C: Clone> Layer<S> for CircuitBreakerLayer<C> {
    type Service = CircuitBreaker<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        CircuitBreaker::new(inner, self.shared.clone(), self.classifier.clone())
    }
}

/// What all services of a layer share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) machine: Machine,
    pub(super) slow: Duration,
    /// What a rule for a quantile of the latency takes for too long.
    pub(super) latency_bound: Option<Duration>,
    pub(super) half_open_timeout: Duration,
    /// Whether a rule needs to know when a call began.
    pub(super) is_timed: bool,
    epoch: Epoch,
    rng: Rng,
    metrics: Metrics,
    pub(super) telemetry: Telemetry,
}

pooled!(Shared);

impl Shared {
    /// # Errors
    ///
    /// If a setting is outside its range.
    pub(super) fn new(settings: &Settings) -> Result<Self, InvalidSetting> {
        let rules = settings.rules()?;
        let telemetry = telemetry(settings.name);
        let shared = Self {
            slow: settings.slow()?,
            latency_bound: settings.latency_bound()?,
            half_open_timeout: settings.half_open_timeout,
            is_timed: rules.trip.is_timed(),
            machine: Machine::new(rules),
            epoch: Epoch::start(),
            rng: Rng::new(settings.seed),
            metrics: Metrics::new(&telemetry),
            telemetry,
        };
        shared.publish_state();
        Ok(shared)
    }

    /// Shows the state as it is now. Each change calls this after it; whoever comes last shows the
    /// last state, in whatever order they come.
    fn publish_state(&self) {
        let gauges = lock(&self.metrics.state);
        let now = self.machine.state();
        for (state, gauge) in State::ALL.iter().zip(&*gauges) {
            gauge.set(if *state == now { 1.0 } else { 0.0 });
        }
    }

    pub(super) fn nanos_at(&self, instant: crate::time::Instant) -> u64 {
        self.epoch.nanos_at(instant)
    }
}

impl Outside for Shared {
    #[inline]
    fn now(&self) -> u64 {
        self.epoch.nanos_now()
    }

    fn random(&self) -> u64 {
        self.rng.draw()
    }

    fn changed(&self, change: Change) {
        let Change { from, to, cause } = change;
        self.metrics.transitions[to as usize].increment(1);
        self.publish_state();
        self.telemetry
            .changed(from.as_str(), to.as_str(), cause.as_str());
    }

    fn rule_panicked(&self) {
        self.telemetry.rule_panicked();
    }
}

#[derive(Debug)]
struct Metrics {
    state: Mutex<[Gauge; State::ALL.len()]>,
    transitions: [Counter; State::ALL.len()],
}

impl Metrics {
    fn new(telemetry: &Telemetry) -> Self {
        let states = State::ALL.map(State::as_str);
        Self {
            state: Mutex::new(telemetry.gauges("steadfast_circuit_breaker_state", "state", states)),
            transitions: telemetry.counters(
                "steadfast_circuit_breaker_transitions_total",
                "to",
                states,
            ),
        }
    }
}

fn telemetry(name: &'static str) -> Telemetry {
    let endings = [
        Ending::Success,
        Ending::Failure,
        Ending::Ignored,
        Ending::Rejected,
        Ending::RejectedBelow,
        Ending::Abandoned,
        Ending::AbandonedLate,
        Ending::Panicked,
    ];
    let reasons = [Reason::CircuitOpen];
    Telemetry::new("circuit_breaker", name, &endings, &reasons)
}
