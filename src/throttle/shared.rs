//! The state that all services of a layer share.

use std::{iter, ops::Deref};

use super::{
    Mode,
    reports::{Reports, Sent},
    rule::Rule,
    settings::{Counted, Kinds, Settings},
    statistics::{Asked, Statistics},
};
use crate::{
    context::{Context, Criticality},
    error::{InvalidSetting, Reason},
    keyed::Rest,
    mode::Switch,
    reported::ReportedLoad,
    rng::Rng,
    sync::ConstArc,
    telemetry::{Counter, Ending, Gauge, Telemetry},
    time::Epoch,
    window::Requests,
};

/// A throttle: of a layer, where it is shared by all its services, or of a key.
#[derive(Debug)]
pub(super) struct Shared {
    /// Of each criticality, or one of all.
    classes: Box<[Statistics]>,
    /// Where they are heeded.
    reports: Option<Box<Reports>>,
    around: ConstArc<Around>,
}

pooled!(Shared);

/// What the throttles of all keys have in common. Every field of it is one of [`Shared`], too.
#[derive(Debug)]
pub(super) struct Around {
    pub(super) mode: Switch,
    rule: Rule,
    pub(super) not_accepted: Kinds,
    is_by_criticality: bool,
    /// Where reports are heeded, with which probability at most a call is held back for them.
    heeds: Option<f64>,
    epoch: Epoch,
    rng: Rng,
    metrics: Metrics,
    pub(super) telemetry: Telemetry,
}

/// How far a call that passes is of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    /// It counts, in the class of this criticality; in the first, where all are counted together.
    Counted(Criticality, Sent),
    /// It would have been refused, and has been counted so.
    Spared,
    /// The throttle is disabled.
    Unwatched,
}

impl Deref for Shared {
    type Target = Around;

    #[inline]
    fn deref(&self) -> &Around {
        &self.around
    }
}

impl Shared {
    /// One throttle, as new.
    pub(super) fn new(around: &ConstArc<Around>) -> Self {
        let classes = if around.is_by_criticality {
            Criticality::ALL.len()
        } else {
            1
        };
        let statistics = iter::repeat_with(|| Statistics::new(&around.rule));
        Self {
            classes: statistics.take(classes).collect(),
            reports: around
                .heeds
                .map(|cap| Box::new(Reports::new(cap, around.is_by_criticality))),
            around: around.clone(),
        }
    }

    /// Whether a call passes; `None` where it is refused.
    #[inline]
    pub(super) fn ask(&self) -> Option<Pass> {
        let mode = self.mode.get();
        if mode == Mode::Disabled {
            return Some(Pass::Unwatched);
        }
        let class = self.class_of(|| Context::current().criticality());
        if self.class(class).is_clear() {
            return Some(Pass::Counted(class, Sent::ALL));
        }
        self.weigh(class, mode)
    }

    /// Out of line, to keep the way of a healthy service short.
    #[inline(never)]
    fn weigh(&self, class: Criticality, mode: Mode) -> Option<Pass> {
        let now = self.nanos_now();
        let statistics = self.class(class);
        let share = self.share(class, now);
        let (asked, probability) = statistics.ask(&self.rule, 1.0 - share, now, || self.rng.draw());
        self.metrics.show(class, probability);
        match asked {
            // One that only observes sends all.
            Asked::Passes if mode == Mode::ObserveOnly => {
                return Some(Pass::Counted(class, Sent::ALL));
            }
            Asked::Passes => return Some(Pass::Counted(class, Sent::new(share))),
            Asked::Refused => self.metrics.requests[Counted::Refused as usize].increment(1),
            Asked::HeldBack => self.metrics.held_back.increment(1),
        }
        if mode == Mode::ObserveOnly {
            self.metrics.spared.increment(1);
            self.telemetry.spared(Reason::Throttled);
            return Some(Pass::Spared);
        }
        None
    }

    /// Which share of the calls of a class is sent, as far as the service's reports go.
    fn share(&self, class: Criticality, now: u64) -> f64 {
        match &self.reports {
            Some(reports) => reports.share(class, now),
            None => 1.0,
        }
    }

    /// Heeds what an answer says of the service's load, to a call when this share was sent.
    #[inline(never)]
    pub(super) fn heed(&self, class: Criticality, sent: Sent, load: &ReportedLoad) {
        if let Some(reports) = &self.reports {
            let now = self.nanos_now();
            if reports.heed(class, sent.share(), load, now) < 1.0 {
                self.class(class).mark(now);
            }
        }
    }

    #[inline]
    fn class(&self, class: Criticality) -> &Statistics {
        &self.classes[class as usize]
    }

    /// Counts a request that passed, at `now`.
    #[inline]
    pub(super) fn count(&self, class: Criticality, counted: Counted, now: u64) {
        self.class(class).count(counted, now);
        self.metrics.requests[counted as usize].increment(1);
    }

    /// The requests of a criticality, and with which probability the next is refused.
    pub(super) fn look(&self, criticality: Criticality) -> (Requests, f64) {
        let class = self.class_of(|| criticality);
        self.look_at(class, self.nanos_now())
    }

    fn look_at(&self, class: Criticality, now: u64) -> (Requests, f64) {
        let (requests, probability) = self.class(class).look(&self.rule, now);
        (requests, probability.max(1.0 - self.share(class, now)))
    }

    pub(super) fn forget(&self) {
        self.classes.iter().for_each(Statistics::forget);
        if let Some(reports) = &self.reports {
            reports.forget();
        }
    }

    /// Whether a new throttle would be as good at `now`.
    pub(super) fn rest(&self, now: u64) -> Rest {
        let refuses = |class: &Criticality| self.look_at(*class, now).1 > 0.0;
        if Criticality::ALL[..self.classes.len()].iter().any(refuses) {
            Rest::Matters
        } else {
            Rest::AtRest
        }
    }
}

impl Around {
    /// Of one throttle, or of those of all keys.
    ///
    /// # Errors
    ///
    /// If a setting is outside its range.
    pub(super) fn new(settings: &Settings, is_keyed: bool) -> Result<Self, InvalidSetting> {
        let rule = settings.check()?;
        let telemetry = telemetry(settings.name);
        let by_criticality = (!is_keyed).then_some(settings.by_criticality);
        Ok(Self {
            mode: Switch::new(settings.mode, "steadfast_throttle_mode", &telemetry),
            rule,
            not_accepted: settings.not_accepted,
            is_by_criticality: settings.by_criticality,
            heeds: settings.heeds_load.then_some(settings.max_probability),
            epoch: Epoch::start(),
            rng: Rng::new(settings.seed),
            metrics: Metrics::new(&telemetry, by_criticality),
            telemetry,
        })
    }

    #[inline]
    pub(super) fn nanos_now(&self) -> u64 {
        self.epoch.nanos_now()
    }

    #[inline]
    fn class_of(&self, criticality: impl FnOnce() -> Criticality) -> Criticality {
        if self.is_by_criticality {
            criticality()
        } else {
            Criticality::ALL[0]
        }
    }
}

#[derive(Debug)]
struct Metrics {
    /// By class; none where there are keys.
    probability: Box<[Gauge]>,
    requests: [Counter; Counted::ALL.len()],
    held_back: Counter,
    spared: Counter,
}

impl Metrics {
    fn new(telemetry: &Telemetry, by_criticality: Option<bool>) -> Self {
        let metric = "steadfast_throttle_reject_probability";
        let each = Criticality::ALL.map(Criticality::as_str);
        let counted = Counted::ALL.map(Counted::as_str);
        Self {
            probability: match by_criticality {
                Some(true) => telemetry.gauges(metric, "criticality", each).into(),
                Some(false) => telemetry.gauges(metric, "criticality", ["all"]).into(),
                None => Box::default(),
            },
            requests: telemetry.counters("steadfast_throttle_requests_total", "counted", counted),
            held_back: telemetry.counter("steadfast_throttle_held_back_total"),
            spared: telemetry.counter("steadfast_throttle_spared_total"),
        }
    }

    fn show(&self, class: Criticality, probability: f64) {
        if let Some(gauge) = self.probability.get(class as usize) {
            gauge.set(probability);
        }
    }
}

fn telemetry(name: &'static str) -> Telemetry {
    Telemetry::new("throttle", name, &Ending::OF_JUDGED, &[Reason::Throttled])
}
