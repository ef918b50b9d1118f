//! The state that all services of a layer share.

use std::{ops::Deref, time::Duration};

use super::{
    Mode,
    learner::{Asked, Bounds, Learner, Phase},
    pace::Turn,
    settings::Settings,
};
use crate::{
    context::Context,
    error::{InvalidSetting, Reason, Rejected},
    keyed::Rest,
    mode::Switch,
    sync::ConstArc,
    telemetry::{Counter, Ending, Gauge, Telemetry},
    time::Epoch,
};

/// A rate: of a layer, where it is shared by all its services, or of a key.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) learner: Learner,
    around: ConstArc<Around>,
}

pooled!(Shared);

/// What the rates of all keys have in common. Every field of it is one of [`Shared`], too.
#[derive(Debug)]
pub(super) struct Around {
    pub(super) mode: Switch,
    bounds: Bounds,
    epoch: Epoch,
    pub(super) metrics: Metrics,
    pub(super) telemetry: Telemetry,
}

/// How far a call that passes is of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    /// It tells of the rate of this phase.
    Told(Phase),
    /// It would have been refused, and has been counted so.
    Spared,
    /// The layer is disabled.
    Unwatched,
}

/// What came of asking.
#[derive(Debug)]
pub(super) enum Answer {
    Passes(Pass),
    /// When its turn has come.
    Waits(Phase, Turn),
    Refused(Rejected),
}

impl Deref for Shared {
    type Target = Around;

    #[inline]
    fn deref(&self) -> &Around {
        &self.around
    }
}

impl Shared {
    /// One that has not been throttled.
    pub(super) fn new(around: &ConstArc<Around>) -> Self {
        Self {
            learner: Learner::new(around.bounds),
            around: around.clone(),
        }
    }

    /// Whether a call passes, and when.
    #[inline]
    pub(super) fn ask(&self) -> Answer {
        let mode = self.mode.get();
        if mode == Mode::Disabled {
            return Answer::Passes(Pass::Unwatched);
        }
        let phase = self.learner.phase();
        if !phase.is_limited() {
            return Answer::Passes(Pass::Told(phase));
        }
        self.ask_for_turn(phase, mode)
    }

    /// Out of line, to keep the way short of calls to a service that has not throttled any.
    #[inline(never)]
    fn ask_for_turn(&self, phase: Phase, mode: Mode) -> Answer {
        let now = self.epoch.nanos_now();
        let passes = Answer::Passes(Pass::Told(phase));
        let asked = self.learner.ask(now, self.last_moment());
        if let Some(gauge) = &self.metrics.limit {
            gauge.set(self.learner.limit().unwrap_or(0.0));
        }
        match asked {
            Asked::Free => Answer::Passes(Pass::Told(self.learner.phase())),
            Asked::Turn(turn) if turn.at <= now || mode == Mode::ObserveOnly => passes,
            Asked::Turn(turn) => Answer::Waits(phase, turn),
            Asked::None { .. } if mode == Mode::ObserveOnly => {
                self.metrics.spared.increment(1);
                self.telemetry.spared(Reason::Throttled);
                Answer::Passes(Pass::Spared)
            }
            Asked::None { after } => {
                let rejected = self.telemetry.reject(Reason::Throttled);
                Answer::Refused(rejected.with_retry_after(Duration::from_nanos(after)))
            }
        }
    }

    /// Whether a new rate would be as good at `now`.
    pub(super) fn rest(&self, now: u64) -> Rest {
        if self.learner.is_limited_at(now) {
            Rest::Matters
        } else {
            Rest::AtRest
        }
    }

    /// The last one before the deadline, where it is of interest.
    fn last_moment(&self) -> u64 {
        if self.bounds.max_wait == 0 {
            return u64::MAX;
        }
        let deadline = Context::current().deadline();
        // It has passed at the deadline itself.
        deadline.map_or(u64::MAX, |end| self.epoch.nanos_at(end).saturating_sub(1))
    }

    /// A call of `phase` was answered: it was throttled, or it was not.
    #[inline]
    pub(super) fn answered(&self, phase: Phase, is_throttled: bool) {
        let now = self.epoch.nanos_now();
        if !is_throttled {
            self.learner.accepted(now);
        } else if self.learner.throttled(phase, now) {
            self.metrics.lowered.increment(1);
        }
    }
}

impl Around {
    /// Of one rate, or of those of all keys.
    ///
    /// # Errors
    ///
    /// If a setting is outside its range.
    pub(super) fn new(settings: &Settings, is_keyed: bool) -> Result<Self, InvalidSetting> {
        let bounds = settings.check()?;
        let telemetry = telemetry(settings.name);
        Ok(Self {
            mode: Switch::new(settings.mode, "steadfast_adaptive_rate_mode", &telemetry),
            bounds,
            epoch: Epoch::start(),
            metrics: Metrics::new(&telemetry, is_keyed),
            telemetry,
        })
    }

    pub(super) const fn epoch(&self) -> Epoch {
        self.epoch
    }
}

#[derive(Debug)]
pub(super) struct Metrics {
    /// None where there are keys.
    limit: Option<Gauge>,
    pub(super) waiting: Gauge,
    lowered: Counter,
    spared: Counter,
}

impl Metrics {
    fn new(telemetry: &Telemetry, is_keyed: bool) -> Self {
        let limit = || telemetry.gauge("steadfast_adaptive_rate_limit");
        Self {
            limit: (!is_keyed).then(limit),
            waiting: telemetry.gauge("steadfast_adaptive_rate_waiting"),
            lowered: telemetry.counter("steadfast_adaptive_rate_lowered_total"),
            spared: telemetry.counter("steadfast_adaptive_rate_spared_total"),
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
        Ending::Panicked,
    ];
    let reasons = [Reason::Throttled, Reason::DeadlineExceeded];
    Telemetry::new("adaptive_rate", name, &endings, &reasons)
}
