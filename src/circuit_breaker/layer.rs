//! Building a breaker, and the state that all its services share.

use std::{
    num::{NonZeroU16, NonZeroU32},
    time::Duration,
};

use tower::Layer;

use super::{
    CircuitBreaker,
    handle::CircuitBreakerHandle,
    machine::{Change, Machine, Outside, Rules},
    rules::{ProbeRule, Rates, Thresholds},
    word::State,
};
use crate::{
    backoff::{Backoff, Jitter},
    classify::AnyError,
    error::{InvalidSetting, Reason, not_zero},
    pooled::PooledArc,
    rng::Rng,
    sync::{Mutex, lock},
    telemetry::{Counter, Ending, Gauge, Telemetry},
    time::{Epoch, nanos},
    window::{CountWindow, TimeWindow},
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
        CircuitBreakerBuilder {
            name: "circuit_breaker",
            consecutive_failures: None,
            count_window: None,
            time_window: None,
            slow_call_duration: Duration::from_secs(1),
            open_time: None,
            lasting_close: None,
            half_open_probes: 3,
            half_open_timeout: Duration::from_secs(10),
            seed: None,
            classifier: AnyError,
        }
    }
}

impl<C> CircuitBreakerLayer<C> {
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

/// The settings of a breaker; made by [`CircuitBreakerLayer::builder`].
///
/// The rules are joined by *or*: the breaker trips when any of them does. They are evaluated whenever
/// a counted result arrives.
#[derive(Clone, Debug)]
#[must_use]
pub struct CircuitBreakerBuilder<C = AnyError> {
    name: &'static str,
    consecutive_failures: Option<u32>,
    count_window: Option<(u32, Thresholds)>,
    time_window: Option<(Duration, Thresholds)>,
    slow_call_duration: Duration,
    open_time: Option<Backoff>,
    lasting_close: Option<Duration>,
    half_open_probes: u32,
    half_open_timeout: Duration,
    seed: Option<u64>,
    classifier: C,
}

impl<C> CircuitBreakerBuilder<C> {
    /// Names the layer, for metrics, events and refusals. Default: `"circuit_breaker"`.
    pub const fn name(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    /// Trips after so many failures in a row. At least 1. Off by default.
    ///
    /// An ignored call neither adds to a run nor ends it.
    pub const fn consecutive_failures(mut self, failures: u32) -> Self {
        self.consecutive_failures = Some(failures);
        self
    }

    /// Judges the last `calls` calls, 1..=65535. The window slides: every call that enters pushes the
    /// oldest out. 4 bytes a call.
    ///
    /// Default where no rule is given: 100 calls, a failure rate of 0.5, at least 20 calls.
    pub const fn count_window(mut self, calls: u32, thresholds: Thresholds) -> Self {
        self.count_window = Some((calls, thresholds));
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
        self.time_window = Some((duration, thresholds));
        self
    }

    /// What is strictly longer is slow. Default: 1 s.
    ///
    /// Also the bound by which a call that is dropped before its result is judged: one that had run
    /// longer counts as a failure (a timeout), one that had not is ignored.
    pub const fn slow_call_duration(mut self, duration: Duration) -> Self {
        self.slow_call_duration = duration;
        self
    }

    /// How long the breaker stays open: the first delay at the first trip, the next where its probes
    /// fail or it trips again soon. Default: 5 s, doubled up to 60 s, with [equal
    /// jitter](Jitter::Equal).
    ///
    /// The open time is over *at* its end. With [full jitter](Jitter::Full), the default of a
    /// [`Backoff`] of your own, it may be next to nothing.
    pub fn open_time(mut self, backoff: Backoff) -> Self {
        self.open_time = Some(backoff);
        self
    }

    /// How long the breaker must have stayed closed for its open time to start over from the first
    /// delay at the next trip. Default: the cap of the [open time](Self::open_time).
    pub const fn lasting_close(mut self, duration: Duration) -> Self {
        self.lasting_close = Some(duration);
        self
    }

    /// How many calls a half-open breaker lets pass as probes, in all and therefore at once,
    /// 1..=254. Default: 3.
    ///
    /// They are judged by the same rules as the calls of a closed breaker, as soon as those still to
    /// come cannot change the answer. A probe that is ignored, or dropped early, makes room for
    /// another.
    pub const fn half_open_probes(mut self, probes: u32) -> Self {
        self.half_open_probes = probes;
        self
    }

    /// How long a probe may take. One that takes longer counts as failed, whatever becomes of it; so
    /// a hung probe cannot hold the breaker half-open. Default: 10 s.
    pub const fn half_open_timeout(mut self, duration: Duration) -> Self {
        self.half_open_timeout = duration;
        self
    }

    /// Makes the jitter of the open time repeatable. By default it is seeded by the operating system.
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Says what counts as a failure. Default: [`AnyError`].
    pub fn classifier<D>(self, classifier: D) -> CircuitBreakerBuilder<D> {
        CircuitBreakerBuilder {
            name: self.name,
            consecutive_failures: self.consecutive_failures,
            count_window: self.count_window,
            time_window: self.time_window,
            slow_call_duration: self.slow_call_duration,
            open_time: self.open_time,
            lasting_close: self.lasting_close,
            half_open_probes: self.half_open_probes,
            half_open_timeout: self.half_open_timeout,
            seed: self.seed,
            classifier,
        }
    }

    /// Checks the settings and builds the layer.
    ///
    /// # Errors
    ///
    /// If a setting is outside its range; the error names it.
    pub fn build(self) -> Result<CircuitBreakerLayer<C>, InvalidSetting> {
        let (rules, is_timed) = self.rules()?;
        let telemetry = telemetry(self.name);
        let shared = Shared {
            machine: Machine::new(rules),
            slow: not_zero("slow_call_duration", self.slow_call_duration)?,
            half_open_timeout: self.half_open_timeout,
            is_timed,
            epoch: Epoch::start(),
            rng: Rng::new(self.seed),
            metrics: Metrics::new(&telemetry),
            telemetry,
        };
        shared.publish_state();
        Ok(CircuitBreakerLayer {
            shared: PooledArc::new(shared),
            classifier: self.classifier,
        })
    }

    /// The rules, and whether one of them needs to know when a call began.
    fn rules(&self) -> Result<(Rules, bool), InvalidSetting> {
        let has_rule = self.consecutive_failures.is_some()
            || self.count_window.is_some()
            || self.time_window.is_some();
        let count_window = match self.count_window {
            None if !has_rule => Some((100, Thresholds::failure_rate(0.5))),
            given => given,
        };

        let mut windows = Vec::new();
        let mut check = |thresholds, size| -> Result<Rates, InvalidSetting> {
            let rates = Rates::check(thresholds, size)?;
            windows.push(rates);
            Ok(rates)
        };
        let count = match count_window {
            None => None,
            Some((calls, thresholds)) => {
                let size = u16::try_from(calls).ok().and_then(NonZeroU16::new);
                let size =
                    size.ok_or_else(|| InvalidSetting::new("count_window", calls, "in 1..=65535"))?;
                Some((CountWindow::new(size), check(thresholds, Some(calls))?))
            }
        };
        let time = match self.time_window {
            None => None,
            Some((duration, thresholds)) => {
                let length = nanos(duration);
                if length < TimeWindow::LEAST_NANOS {
                    let allowed = "at least 10 ms";
                    return Err(InvalidSetting::new("time_window", duration, allowed));
                }
                Some((TimeWindow::new(length), check(thresholds, None)?))
            }
        };
        let run = match self.consecutive_failures.map(NonZeroU32::new) {
            Some(None) => {
                return Err(InvalidSetting::new("consecutive_failures", 0, "at least 1"));
            }
            run => run.flatten(),
        };
        let probes = match u8::try_from(self.half_open_probes) {
            Ok(probes) if (1..=ProbeRule::MAX_PROBES).contains(&probes) => probes,
            _ => {
                let probes = self.half_open_probes;
                return Err(InvalidSetting::new(
                    "half_open_probes",
                    probes,
                    "in 1..=254",
                ));
            }
        };
        let open_time = match &self.open_time {
            Some(backoff) => backoff.clone(),
            None => Backoff::exponential(Duration::from_secs(5), Duration::from_secs(60))?
                .with_jitter(Jitter::Equal),
        };
        not_zero("open_time", open_time.cap())?;

        let is_timed = windows.iter().any(|rates| rates.slow.is_some());
        let rules = Rules {
            run,
            count,
            time,
            probes: ProbeRule::new(probes, run, &windows),
            probe_nanos: nanos(not_zero("half_open_timeout", self.half_open_timeout)?),
            lasting_nanos: nanos(self.lasting_close.unwrap_or(open_time.cap())),
            open_time,
        };
        Ok((rules, is_timed))
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
    metrics: Metrics,
    pub(super) telemetry: Telemetry,
}

pooled!(Shared);

impl Shared {
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
