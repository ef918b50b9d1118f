//! The state that all services of a layer share.

use std::time::Duration;

use super::{
    Mode,
    controller::{Controller, Observed},
    priority::{Chance, Priority, Share, Threshold},
    probe::Probe,
    seen::{Counts, Distribution},
    settings::Settings,
    signal::{Known, Reading, Signal},
    unready::Unready,
    usage::Usage,
};
use crate::{
    context::Criticality,
    error::{InvalidSetting, Reason, Rejected},
    mode::Switch,
    rng::Rng,
    sync::{
        AtomicU32, AtomicU64, ConstArc, Mutex,
        Ordering::{Acquire, Relaxed, Release},
        try_lock,
    },
    telemetry::{Counter, Ending, Gauge, Telemetry},
    time::{Epoch, nanos, since_unix_epoch},
    watched::Refusal,
};

/// What a layer decides by, and what it tells.
#[derive(Debug)]
pub(super) struct Shared {
    // Read by every call, written by samplings.
    pub(super) mode: Switch,
    threshold: AtomicU32,
    /// When to sample next, in nanoseconds since the epoch.
    due: AtomicU64,
    epoch: Epoch,
    interval: u64,
    min_admitted_share: f64,
    /// The same, as it is asked for.
    spared: Share,
    /// Nanoseconds.
    retry_after: u64,
    /// What users are hashed with, of the hour of the last sampling.
    salt: AtomicU64,
    hours: Hours,
    pub(super) unready: Option<Unready>,
    signals: Box<[Signal]>,
    probe: Option<ConstArc<Probe>>,
    metrics: Metrics,
    pub(super) telemetry: Telemetry,
    // Written by every call.
    seen: Counts,
    /// Where the heaviest users go first.
    usage: Option<Usage>,
    tally: Tally,
    // Written by samplings.
    shown: Shown,
    regulator: Mutex<Regulator>,
}

pooled!(Shared);

/// What became of the calls that were seen and are not in flight any more, and the chance that calls have. On
/// a line of memory of their own, apart from what is only read.
#[derive(Debug)]
#[repr(align(64))]
struct Tally {
    /// Here, or further in.
    refused: AtomicU64,
    done: AtomicU64,
    rng: Rng,
}

/// What the last sampling found, for whoever looks. Numbers are bits of an `f64`.
#[derive(Debug)]
struct Shown {
    load: AtomicU64,
    shed: AtomicU64,
    in_flight: AtomicU64,
    /// By criticality; kept where cohorts are not as large as one another.
    admitted: [AtomicU64; Criticality::ALL.len()],
    /// A NaN where nothing is known.
    signals: Box<[AtomicU64]>,
}

/// What only one at a time works on.
#[derive(Debug)]
struct Regulator {
    controller: Controller,
    distribution: Distribution,
    /// All calls seen up to the last sampling, at which there were so many done.
    seen: u64,
    done: u64,
    sampled: u64,
}

/// How far a call that passes is of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    /// It is counted until it is done.
    Counted,
    /// It has been counted as refused, which it would have been, or there is nothing to count for.
    Told,
    /// It is exempt, or the layer disabled.
    Unwatched,
}

/// A call that does not pass. As little as possible is handed around for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused {
    layer: &'static str,
    /// Nanoseconds, of which none say nothing.
    retry_after: u64,
}

impl Refusal for Refused {
    fn rejected(&self) -> Rejected {
        let rejected = Rejected::new(self.layer, Reason::Overloaded);
        match self.retry_after {
            0 => rejected,
            delay => rejected.with_retry_after(Duration::from_nanos(delay)),
        }
    }
}

impl Shared {
    /// # Errors
    ///
    /// If a setting is outside its range.
    pub(super) fn new(settings: Settings) -> Result<Self, InvalidSetting> {
        settings.check()?;
        let telemetry = telemetry(settings.name);
        let epoch = Epoch::start();
        let rng = Rng::new(settings.seed);
        let hours = Hours {
            wall: since_unix_epoch(),
            seed: rng.draw(),
        };
        let probe = settings.probe(epoch);
        let signals = settings.signals.into_boxed_slice();
        Ok(Self {
            mode: Switch::new(settings.mode, "steadfast_load_shed_mode", &telemetry),
            threshold: AtomicU32::new(Threshold::NONE.bits()),
            due: AtomicU64::new(if signals.is_empty() {
                u64::MAX
            } else {
                nanos(settings.sampling_interval)
            }),
            epoch,
            interval: nanos(settings.sampling_interval),
            min_admitted_share: settings.min_admitted_share,
            spared: Share::new(settings.min_admitted_share),
            retry_after: nanos(settings.retry_after),
            salt: AtomicU64::new(hours.salt_at(0)),
            hours,
            unready: settings.unready_for.map(|bound| Unready::new(nanos(bound))),
            metrics: Metrics::new(&telemetry, &signals),
            shown: Shown::new(signals.len()),
            signals,
            probe,
            telemetry,
            seen: Counts::new(),
            usage: settings
                .usage_half_life
                .map(|half_life| Usage::new(nanos(half_life))),
            tally: Tally {
                refused: AtomicU64::new(0),
                done: AtomicU64::new(0),
                rng,
            },
            regulator: Mutex::new(Regulator {
                controller: Controller::new(settings.min_admitted_share),
                distribution: Distribution::new(),
                seen: 0,
                done: 0,
                sampled: 0,
            }),
        })
    }

    pub(super) const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whether a call passes. It samples if it is the first since that was due.
    ///
    /// # Errors
    ///
    /// The refusal, if it does not pass.
    #[inline]
    pub(super) fn ask(
        &self,
        mode: Mode,
        criticality: Criticality,
        user: Option<u64>,
    ) -> Result<Pass, Refused> {
        if self.signals.is_empty() {
            return Ok(Pass::Told);
        }
        self.sample_if_due();
        let chance = Chance(self.tally.rng.draw());
        let priority = Priority::new(criticality, user, chance);
        self.seen.count(priority.level());
        if self.threshold().admits(priority) {
            return Ok(Pass::Counted);
        }
        self.shed(mode, criticality, chance)
    }

    /// One that is to be shed, unless luck has it. Out of line, to keep the way of those that pass short.
    #[inline(never)]
    fn shed(&self, mode: Mode, criticality: Criticality, chance: Chance) -> Result<Pass, Refused> {
        if chance.is_among(self.spared) {
            return Ok(Pass::Counted);
        }
        self.tally.refused.fetch_add(1, Release); // see `sample`
        self.metrics.shed[criticality as usize].increment(1);
        if mode == Mode::ObserveOnly {
            self.metrics.spared.increment(1);
            self.telemetry.spared(Reason::Overloaded);
            return Ok(Pass::Told);
        }
        Err(self.refusal(chance))
    }

    /// Refuses a call for which the inner service is not ready.
    #[inline(never)]
    pub(super) fn refuse_unready(&self) -> Refused {
        self.metrics.unready.increment(1);
        self.refusal(Chance(self.tally.rng.draw()))
    }

    fn refusal(&self, chance: Chance) -> Refused {
        self.telemetry.rejected(Reason::Overloaded);
        // Between once and twice as long, so that those who are told now do not come all at once.
        let longer = chance.part_of(self.retry_after);
        Refused {
            layer: self.telemetry.name(),
            retry_after: self.retry_after.saturating_add(longer),
        }
    }

    /// A call that was counted is over. One that was refused further in shows nothing of what can be done.
    #[inline]
    pub(super) fn over(&self, ending: Ending) {
        let tally = match ending {
            Ending::RejectedBelow => &self.tally.refused,
            _ => &self.tally.done,
        };
        tally.fetch_add(1, Release); // see `sample`
    }

    /// What users are hashed with in this hour.
    #[inline]
    pub(super) fn salt(&self) -> u64 {
        self.salt.load(Relaxed)
    }

    /// What users are hashed with whose hash is to stay the same.
    #[inline]
    pub(super) const fn seed(&self) -> u64 {
        self.hours.seed
    }

    /// Counts a call of a user. Returns bits of which the highest are its cohort by how much he has asked for.
    #[inline]
    pub(super) fn by_usage(&self, user: u64) -> u64 {
        match &self.usage {
            Some(usage) => usage.place(user, self.salt()),
            None => user,
        }
    }

    #[inline]
    pub(super) fn threshold(&self) -> Threshold {
        Threshold::from_bits(self.threshold.load(Relaxed))
    }

    #[inline]
    pub(super) fn sample_if_due(&self) {
        let now = self.epoch.nanos_now();
        if now >= self.due.load(Relaxed) {
            self.sample(now);
        }
    }

    /// Looks at the load, and sets the threshold. Where another is at it, there is nothing to do.
    #[cold]
    fn sample(&self, now: u64) {
        let Some(mut regulator) = try_lock(&self.regulator) else {
            return;
        };
        let elapsed = now.saturating_sub(regulator.sampled);
        if elapsed < self.interval {
            return; // another was, just now
        }
        if let Some(probe) = &self.probe {
            Probe::want(probe, now);
        }
        // In this order, and Acquire: of a call that is over it is then known that it came. Otherwise Relaxed,
        // here and elsewhere: each number is for itself.
        let done = self.tally.done.load(Acquire);
        let refused = self.tally.refused.load(Acquire);
        let taken = self.seen.take_all();
        let offered = taken.total();
        regulator.seen += offered;
        let in_flight = regulator.seen - refused - done;

        let known = Known {
            in_flight,
            done_per_second: regulator.controller.done_per_second(),
            now,
            probe: self.probe.as_deref(),
        };
        let most = self.read_signals(&known);
        let seconds = Duration::from_nanos(elapsed).as_secs_f64();
        let done_since = done - regulator.done;
        let shed = regulator.controller.observe(&Observed {
            seconds,
            load: most.load,
            drain: most.drain,
            offered,
            done: done_since,
        });
        regulator.done = done;
        regulator.sampled = now;
        let keep = regulator.controller.keep(seconds);
        regulator.distribution.absorb(&taken, keep);
        let threshold = regulator.distribution.cut(shed);
        if let Some(usage) = &self.usage {
            usage.look(now, offered);
            for (shown, class) in self.shown.admitted.iter().zip(Criticality::ALL) {
                let share = regulator.distribution.admitted(class, threshold);
                shown.store(share.to_bits(), Relaxed);
            }
        }

        self.threshold.store(threshold.bits(), Relaxed);
        self.salt.store(self.hours.salt_at(now), Relaxed);
        self.due.store(now.saturating_add(self.interval), Relaxed);
        self.shown.load.store(most.load.to_bits(), Relaxed);
        self.shown.shed.store(shed.to_bits(), Relaxed);
        self.shown.in_flight.store(in_flight, Relaxed);
        drop(regulator);
        self.metrics.shed_share.set(shed);
    }

    /// The reading of the most loaded signal.
    fn read_signals(&self, known: &Known<'_>) -> Reading {
        let mut most = Reading {
            load: 0.0,
            drain: None,
        };
        let shown = self.shown.signals.iter().zip(&self.metrics.loads);
        for (signal, (shown, gauge)) in self.signals.iter().zip(shown) {
            let reading = signal.read(known, &self.telemetry);
            let load = reading.map_or(f64::NAN, |reading| reading.load);
            shown.store(load.to_bits(), Relaxed);
            if let Some(reading) = reading {
                gauge.set(load);
                if reading.load >= most.load {
                    most = reading;
                }
            }
        }
        most
    }

    pub(super) fn load(&self) -> f64 {
        f64::from_bits(self.shown.load.load(Relaxed))
    }

    pub(super) fn shed_share(&self) -> f64 {
        f64::from_bits(self.shown.shed.load(Relaxed))
    }

    /// Which share of all calls passes, those that would be shed included.
    pub(super) fn admitted_share_of_all(&self) -> f64 {
        1.0 - self.shed_share() * (1.0 - self.min_admitted_share)
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.shown.in_flight.load(Relaxed)
    }

    /// The signals with what they said last, if they said anything.
    pub(super) fn loads(&self) -> impl Iterator<Item = (&'static str, Option<f64>)> {
        self.signals
            .iter()
            .zip(&self.shown.signals)
            .map(|(signal, shown)| {
                let load = f64::from_bits(shown.load(Relaxed));
                (signal.name(), (!load.is_nan()).then_some(load))
            })
    }

    /// Which share of the calls of a criticality passes.
    pub(super) fn admitted_share(&self, criticality: Criticality) -> f64 {
        let above = match &self.usage {
            Some(_) => f64::from_bits(self.shown.admitted[criticality as usize].load(Relaxed)),
            None => self.threshold().share_of(criticality),
        };
        above + (1.0 - above) * self.min_admitted_share
    }
}

/// Hours by the clock on the wall, by which servers agree.
#[derive(Clone, Copy, Debug)]
struct Hours {
    /// What the clock said at the epoch.
    wall: Duration,
    seed: u64,
}

impl Hours {
    /// With what users are hashed, so many nanoseconds after the epoch.
    fn salt_at(self, now: u64) -> u64 {
        let wall = self.wall.saturating_add(Duration::from_nanos(now));
        self.seed ^ (wall.as_secs() / 3600)
    }
}

impl Shown {
    fn new(signals: usize) -> Self {
        let unknown = || AtomicU64::new(f64::NAN.to_bits());
        Self {
            load: AtomicU64::new(0),
            shed: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            admitted: Criticality::ALL.map(|_| AtomicU64::new(1.0_f64.to_bits())),
            signals: std::iter::repeat_with(unknown).take(signals).collect(),
        }
    }
}

#[derive(Debug)]
struct Metrics {
    /// By signal.
    loads: Box<[Gauge]>,
    shed_share: Gauge,
    /// By criticality.
    shed: [Counter; Criticality::ALL.len()],
    unready: Counter,
    spared: Counter,
}

impl Metrics {
    fn new(telemetry: &Telemetry, signals: &[Signal]) -> Self {
        let load = |signal: &Signal| {
            let [gauge] = telemetry.gauges("steadfast_load_shed_load", "signal", [signal.name()]);
            gauge
        };
        let criticalities = Criticality::ALL.map(Criticality::as_str);
        Self {
            loads: signals.iter().map(load).collect(),
            shed_share: telemetry.gauge("steadfast_load_shed_shed_share"),
            shed: telemetry.counters(
                "steadfast_load_shed_shed_total",
                "criticality",
                criticalities,
            ),
            unready: telemetry.counter("steadfast_load_shed_unready_total"),
            spared: telemetry.counter("steadfast_load_shed_spared_total"),
        }
    }
}

fn telemetry(name: &'static str) -> Telemetry {
    let endings = [
        Ending::Completed,
        Ending::Rejected,
        Ending::RejectedBelow,
        Ending::Abandoned,
        Ending::Panicked,
    ];
    Telemetry::new("load_shed", name, &endings, &[Reason::Overloaded])
}
