//! The layer, and the state that all its services share.

use std::{ops::Deref, time::Duration};

use tower::Layer;

use super::{
    CircuitBreaker,
    builder::CircuitBreakerBuilder,
    handle::{CircuitBreakerHandle, Hold},
    machine::{Change, Machine, Outside, Rules},
    settings::Settings,
    word::State,
};
use crate::{
    classify::AnyError,
    error::{InvalidSetting, Reason},
    keyed::Rest,
    pooled::PooledArc,
    rng::Rng,
    sync::{ConstArc, Mutex, lock},
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
        CircuitBreakerHandle {
            shared: Hold::OfLayer(shared),
        }
    }
}

impl<S, C: Clone> Layer<S> for CircuitBreakerLayer<C> {
    type Service = CircuitBreaker<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        CircuitBreaker::new(inner, self.shared.clone(), self.classifier.clone())
    }
}

/// A breaker: of a layer, where it is shared by all its services, or of a key.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) machine: Machine,
    /// Whether a rule needs to know when a call began.
    pub(super) is_timed: bool,
    around: ConstArc<Around>,
}

pooled!(Shared);

/// What the breakers of all keys have in common. Every field of it is one of [`Shared`], too.
#[derive(Debug)]
pub(super) struct Around {
    pub(super) slow: Duration,
    /// What a rule for a quantile of the latency takes for too long.
    pub(super) latency_bound: Option<Duration>,
    pub(super) half_open_timeout: Duration,
    epoch: Epoch,
    rng: Rng,
    metrics: Metrics,
    pub(super) telemetry: Telemetry,
}

impl Deref for Shared {
    type Target = Around;

    #[inline]
    fn deref(&self) -> &Around {
        &self.around
    }
}

impl Shared {
    /// The breaker of a layer that has one.
    ///
    /// # Errors
    ///
    /// If a setting is outside its range.
    pub(super) fn new(settings: &Settings) -> Result<Self, InvalidSetting> {
        let rules = settings.rules()?;
        let around = Around::new(settings, StateGauges::one)?;
        Ok(Self::within(&ConstArc::new(around), rules))
    }

    /// One of several breakers, closed and with empty windows.
    pub(super) fn within(around: &ConstArc<Around>, rules: Rules) -> Self {
        let shared = Self {
            is_timed: rules.trip.is_timed(),
            machine: Machine::new(rules),
            around: around.clone(),
        };
        shared.metrics.state.entered(&shared.machine);
        shared
    }

    /// Whether a new breaker would be as good, or nearly.
    pub(super) fn rest(&self) -> Rest {
        match self.machine.state() {
            State::Closed => Rest::AtRest,
            _ => Rest::Matters,
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.metrics.state.left(&self.machine);
    }
}

impl Around {
    /// # Errors
    ///
    /// If a setting that all breakers have in common is outside its range.
    pub(super) fn new(
        settings: &Settings,
        gauges: impl FnOnce([Gauge; State::ALL.len()]) -> StateGauges,
    ) -> Result<Self, InvalidSetting> {
        let telemetry = telemetry(settings.name);
        Ok(Self {
            slow: settings.slow()?,
            latency_bound: settings.latency_bound()?,
            half_open_timeout: settings.half_open_timeout,
            epoch: Epoch::start(),
            rng: Rng::new(settings.seed),
            metrics: Metrics::new(&telemetry, gauges),
            telemetry,
        })
    }

    pub(super) fn nanos_at(&self, instant: crate::time::Instant) -> u64 {
        self.epoch.nanos_at(instant)
    }

    #[inline]
    pub(super) fn nanos_now(&self) -> u64 {
        self.epoch.nanos_now()
    }
}

impl Outside for Shared {
    #[inline]
    fn now(&self) -> u64 {
        self.nanos_now()
    }

    fn random(&self) -> u64 {
        self.rng.draw()
    }

    fn changed(&self, change: Change) {
        let Change { from, to, cause } = change;
        self.metrics.transitions[to as usize].increment(1);
        self.metrics.state.changed(from, to, &self.machine);
        self.telemetry
            .changed(from.as_str(), to.as_str(), cause.as_str());
    }

    fn rule_panicked(&self) {
        self.telemetry.rule_panicked();
    }
}

#[derive(Debug)]
struct Metrics {
    state: StateGauges,
    transitions: [Counter; State::ALL.len()],
}

impl Metrics {
    fn new(
        telemetry: &Telemetry,
        gauges: impl FnOnce([Gauge; State::ALL.len()]) -> StateGauges,
    ) -> Self {
        let states = State::ALL.map(State::as_str);
        Self {
            state: gauges(telemetry.gauges("steadfast_circuit_breaker_state", "state", states)),
            transitions: telemetry.counters(
                "steadfast_circuit_breaker_transitions_total",
                "to",
                states,
            ),
        }
    }
}

/// A gauge for each state.
#[derive(Debug)]
pub(super) enum StateGauges {
    /// Shows the state of one breaker.
    One(Mutex<[Gauge; State::ALL.len()]>),
    /// Shows how many breakers are in each.
    Many([Gauge; State::ALL.len()]),
}

impl StateGauges {
    pub(super) fn one(gauges: [Gauge; State::ALL.len()]) -> Self {
        Self::One(Mutex::new(gauges))
    }

    fn entered(&self, machine: &Machine) {
        match self {
            Self::One(gauges) => publish_state(gauges, machine),
            Self::Many(gauges) => gauges[machine.state() as usize].increment(1.0),
        }
    }

    fn changed(&self, from: State, to: State, machine: &Machine) {
        match self {
            Self::One(gauges) => publish_state(gauges, machine),
            Self::Many(gauges) => {
                gauges[from as usize].decrement(1.0);
                gauges[to as usize].increment(1.0);
            }
        }
    }

    fn left(&self, machine: &Machine) {
        if let Self::Many(gauges) = self {
            gauges[machine.state() as usize].decrement(1.0);
        }
    }
}

/// Shows the state as it is now. Each change calls this after it; whoever comes last shows the last
/// state, in whatever order they come.
fn publish_state(gauges: &Mutex<[Gauge; State::ALL.len()]>, machine: &Machine) {
    let gauges = lock(gauges);
    let now = machine.state();
    for (state, gauge) in State::ALL.iter().zip(&*gauges) {
        gauge.set(if *state == now { 1.0 } else { 0.0 });
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
