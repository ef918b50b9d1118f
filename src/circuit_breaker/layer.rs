//! The layer, and the state that all its services share.

use std::{ops::Deref, time::Duration};

use tower::Layer;

use super::{
    CircuitBreaker,
    back_pressure::BackPressureCircuitBreakerLayer,
    builder::CircuitBreakerBuilder,
    changes::{Listeners, StateChange},
    gauges::Gauges,
    handle::{CircuitBreakerHandle, Hold},
    machine::{Change, Machine, Outside, Rules},
    mode::Mode,
    settings::Settings,
    word::State,
};
use crate::{
    classify::AnyError,
    error::{InvalidSetting, Reason},
    keyed::Rest,
    pooled::PooledArc,
    rng::Rng,
    sync::ConstArc,
    telemetry::{Counter, Ending, Histogram, Telemetry},
    time::Epoch,
    until::Answered,
};

/// Applies [`CircuitBreaker`] to a service.
///
/// All services made by one layer, or by its clones, share one breaker.
///
/// See the [module docs](super) for an example.
#[derive(Clone, Debug)]
#[must_use]
pub struct CircuitBreakerLayer<C = AnyError, U = Answered> {
    shared: PooledArc<Shared>,
    classifier: C,
    until: U,
}

impl CircuitBreakerLayer {
    /// Begins a breaker. Where no rule is given it trips at 50 % failures of the last 100 calls.
    pub const fn builder() -> CircuitBreakerBuilder {
        CircuitBreakerBuilder::new()
    }
}

impl<C, U> CircuitBreakerLayer<C, U> {
    pub(super) fn new(shared: Shared, classifier: C, until: U) -> Self {
        Self {
            shared: PooledArc::new(shared),
            classifier,
            until,
        }
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

impl<C: Clone, U: Clone> CircuitBreakerLayer<C, U> {
    /// The same breaker in the form in which a service is not ready where it would refuse, and has
    /// reserved its call where it is. For balancers and buffers.
    pub fn back_pressure(&self) -> BackPressureCircuitBreakerLayer<C, U> {
        let Self {
            shared,
            classifier,
            until,
        } = self.clone();
        BackPressureCircuitBreakerLayer::new(shared, classifier, until)
    }
}

impl<S, C: Clone, U: Clone> Layer<S> for CircuitBreakerLayer<C, U> {
    type Service = CircuitBreaker<S, C, U>;

    fn layer(&self, inner: S) -> Self::Service {
        let Self {
            shared,
            classifier,
            until,
        } = self.clone();
        CircuitBreaker::new(inner, shared, classifier, until)
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
    /// That in which a breaker begins.
    mode: Mode,
    pub(super) slow: Duration,
    /// What a rule for a quantile of the latency takes for too long.
    pub(super) latency_bound: Option<Duration>,
    pub(super) half_open_timeout: Duration,
    epoch: Epoch,
    rng: Rng,
    pub(super) listeners: Listeners,
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
        let around = Around::new(settings, Gauges::one)?;
        Ok(Self::within(&ConstArc::new(around), rules))
    }

    /// One of several breakers, as new.
    pub(super) fn within(around: &ConstArc<Around>, rules: Rules) -> Self {
        let shared = Self {
            is_timed: rules.trip.is_timed(),
            machine: Machine::new(rules, around.mode),
            around: around.clone(),
        };
        shared.metrics.gauges.entered(&shared.machine);
        shared
    }

    /// Whether a new breaker would be as good, or nearly.
    pub(super) fn rest(&self) -> Rest {
        let is_troubled = matches!(
            self.machine.state(),
            State::Open | State::HalfOpen | State::Recovering
        );
        if is_troubled || self.machine.mode() != self.mode {
            Rest::Matters
        } else {
            Rest::AtRest
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.metrics.gauges.left(&self.machine);
    }
}

impl Around {
    /// # Errors
    ///
    /// If a setting that all breakers have in common is outside its range.
    pub(super) fn new(
        settings: &Settings,
        gauges: fn(&Telemetry) -> Gauges,
    ) -> Result<Self, InvalidSetting> {
        let telemetry = telemetry(settings.name);
        Ok(Self {
            mode: settings.mode,
            slow: settings.slow()?,
            latency_bound: settings.latency_bound()?,
            half_open_timeout: settings.half_open_timeout,
            epoch: Epoch::start(),
            rng: Rng::new(settings.seed),
            listeners: Listeners::new(&settings.listeners),
            metrics: Metrics::new(&telemetry, gauges(&telemetry)),
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
        self.metrics.transitions[change.to as usize].increment(1);
        if let Some(open_for) = change.open_for {
            self.metrics.open_for.record(open_for);
        }
        let gauges = &self.metrics.gauges;
        gauges.state_changed(change.from, change.to, &self.machine);
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

    fn rule_panicked(&self) {
        self.telemetry.rule_panicked();
    }

    fn mode_changed(&self, from: Mode, to: Mode) {
        self.metrics.gauges.mode_changed(&self.machine);
        self.telemetry.mode_changed(from.as_str(), to.as_str());
    }

    fn spared(&self) {
        self.metrics.spared.increment(1);
        self.telemetry.spared(Reason::CircuitOpen);
    }
}

#[derive(Debug)]
struct Metrics {
    gauges: Gauges,
    transitions: [Counter; State::ALL.len()],
    spared: Counter,
    open_for: Histogram,
}

impl Metrics {
    fn new(telemetry: &Telemetry, gauges: Gauges) -> Self {
        let states = State::ALL.map(State::as_str);
        Self {
            gauges,
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
    let reasons = [Reason::CircuitOpen];
    Telemetry::new("circuit_breaker", name, &Ending::OF_JUDGED, &reasons)
}
