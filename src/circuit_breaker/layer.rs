//! The layer, and the state that all its services share.

use std::time::Duration;

use tower::Layer;

use super::{
    CircuitBreaker,
    back_pressure::BackPressureCircuitBreakerLayer,
    builder::CircuitBreakerBuilder,
    changes::{Listeners, StateChange},
    handle::CircuitBreakerHandle,
    machine::{Change, Machine, Outside},
    mode::Mode,
    settings::Settings,
    word::State,
};
use crate::{
    classify::AnyError,
    error::{InvalidSetting, Reason},
    pooled::PooledArc,
    rng::Rng,
    sync::{Mutex, lock},
    telemetry::{Counter, Ending, Gauge, Histogram, Telemetry},
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

impl<C: Clone> CircuitBreakerLayer<C> {
    /// The same breaker in the form in which a service is not ready where it would refuse, and has
    /// reserved its call where it is. For balancers and buffers.
    pub fn back_pressure(&self) -> BackPressureCircuitBreakerLayer<C> {
        BackPressureCircuitBreakerLayer::new(self.shared.clone(), self.classifier.clone())
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
    pub(super) half_open_timeout: Duration,
    /// Whether a rule needs to know when a call began.
    pub(super) is_timed: bool,
    epoch: Epoch,
    rng: Rng,
    pub(super) listeners: Listeners,
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
            half_open_timeout: settings.half_open_timeout,
            is_timed: rules.trip.is_timed(),
            machine: Machine::new(rules, settings.mode),
            epoch: Epoch::start(),
            rng: Rng::new(settings.seed),
            listeners: Listeners::new(&settings.listeners),
            metrics: Metrics::new(&telemetry),
            telemetry,
        };
        shared.publish_state();
        Ok(shared)
    }

    /// Shows state and mode as they are now. Each change calls this after it; whoever comes last shows
    /// the last, in whatever order they come.
    fn publish_state(&self) {
        let gauges = lock(&self.metrics.gauges);
        show(&gauges.state, State::ALL, self.machine.state());
        show(&gauges.mode, Mode::ALL, self.machine.mode());
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
        self.metrics.transitions[change.to as usize].increment(1);
        if let Some(open_for) = change.open_for {
            self.metrics.open_for.record(open_for);
        }
        self.publish_state();
        self.telemetry.changed(
            change.from.as_str(),
            change.to.as_str(),
            change.cause.as_str(),
            change.mode.as_str(),
            change.open_for,
        );
        let panicked = self.listeners.tell(&StateChange {
            name: self.telemetry.name(),
            number: change.number,
            from: change.from,
            to: change.to,
            cause: change.cause,
            mode: change.mode,
            at: self.epoch.instant_at(change.at),
            ends_in: change.ends_in,
            open_for: change.open_for,
        });
        for _ in 0..panicked {
            self.telemetry.listener_panicked();
        }
    }

    fn mode_changed(&self, from: Mode, to: Mode) {
        self.publish_state();
        self.telemetry.mode_changed(from.as_str(), to.as_str());
    }

    fn spared(&self) {
        self.metrics.spared.increment(1);
        self.telemetry.spared(Reason::CircuitOpen);
    }
}

/// Sets the gauge of `now` to one, and the others to zero.
fn show<T: Copy + PartialEq, const N: usize>(gauges: &[Gauge; N], all: [T; N], now: T) {
    for (gauge, it) in gauges.iter().zip(all) {
        gauge.set(if it == now { 1.0 } else { 0.0 });
    }
}

#[derive(Debug)]
struct Metrics {
    gauges: Mutex<Gauges>,
    transitions: [Counter; State::ALL.len()],
    spared: Counter,
    open_for: Histogram,
}

#[derive(Debug)]
struct Gauges {
    state: [Gauge; State::ALL.len()],
    mode: [Gauge; Mode::ALL.len()],
}

impl Metrics {
    fn new(telemetry: &Telemetry) -> Self {
        let (states, modes) = (State::ALL.map(State::as_str), Mode::ALL.map(Mode::as_str));
        Self {
            gauges: Mutex::new(Gauges {
                state: telemetry.gauges("steadfast_circuit_breaker_state", "state", states),
                mode: telemetry.gauges("steadfast_circuit_breaker_mode", "mode", modes),
            }),
            transitions: telemetry.counters(
                "steadfast_circuit_breaker_transitions_total",
                "to",
                states,
            ),
            spared: telemetry.counter("steadfast_circuit_breaker_spared_total"),
            open_for: telemetry.histogram("steadfast_circuit_breaker_open_seconds"),
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
