//! What the services of a layer share.

use super::limiter::{Limiter, Tuned};
use crate::{
    error::Reason,
    mode::Mode,
    permits::Word,
    queue::Queue,
    sync::{Mutex, lock},
    telemetry::{Counter, Ending, Gauge, Telemetry},
    time::Epoch,
};

/// What a layer tells.
#[derive(Debug)]
pub(super) struct Metrics {
    pub(super) telemetry: Telemetry,
    pub(super) in_flight: Gauge,
    pub(super) waiting: Gauge,
    limit: Gauge,
    latency: Gauge,
    spared: Counter,
    /// Written by one at a time, so that exactly one of them is 1.
    modes: Mutex<[Gauge; Mode::ALL.len()]>,
}

impl Metrics {
    pub(super) fn new(name: &'static str, queue: &Queue) -> Self {
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
        let reasons = [&[Reason::LimitReached], queue.reasons()].concat();
        let telemetry = Telemetry::new("adaptive", name, &endings, &reasons);
        let modes = Mode::ALL.map(Mode::as_str);
        Self {
            in_flight: telemetry.gauge("steadfast_adaptive_in_flight"),
            waiting: telemetry.gauge("steadfast_adaptive_waiting"),
            limit: telemetry.gauge("steadfast_adaptive_limit"),
            latency: telemetry.gauge("steadfast_adaptive_latency_seconds"),
            spared: telemetry.counter("steadfast_adaptive_spared_total"),
            modes: Mutex::new(telemetry.gauges("steadfast_adaptive_mode", "mode", modes)),
            telemetry,
        }
    }
}

/// A limiter, and what is around it.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) limiter: Limiter,
    pub(super) metrics: Metrics,
    epoch: Epoch,
}

pooled!(Shared);

impl Shared {
    pub(super) fn new(limiter: Limiter, metrics: Metrics) -> Self {
        let shared = Self {
            limiter,
            metrics,
            epoch: Epoch::start(),
        };
        shared.show_limit(shared.limiter.permits().load());
        shared.show_mode();
        shared
    }

    #[inline]
    pub(super) fn nanos_now(&self) -> u64 {
        self.epoch.nanos_now()
    }

    #[inline]
    pub(super) fn give_back(&self) {
        // First of all, so that whoever waits for it need not wait for the recorder.
        self.limiter.give_back();
        self.metrics.in_flight.decrement(1.0);
    }

    /// A call passes that would have been refused.
    #[cold]
    pub(super) fn spared(&self) {
        self.metrics.spared.increment(1);
        self.metrics.telemetry.spared(Reason::LimitReached);
    }

    pub(super) fn tuned(&self, tuned: &Tuned) {
        if let Some(latency) = tuned.sample.latency {
            self.metrics.latency.set(latency.as_secs_f64());
        }
        if tuned.panicked {
            self.metrics.telemetry.algorithm_panicked();
        }
        if tuned.from != tuned.to {
            self.show_limit(self.limiter.permits().load());
            self.metrics.telemetry.limit_changed(tuned.from, tuned.to);
        }
    }

    pub(super) fn set_bounds(&self, min: u32, max: u32) {
        self.show_limit(self.limiter.set_bounds(min, max, self.nanos_now()));
    }

    pub(super) fn set_limit(&self, limit: usize) {
        self.show_limit(self.limiter.set_limit(limit, self.nanos_now()));
    }

    pub(super) fn set_mode(&self, mode: Mode) {
        let before = self.limiter.set_mode(mode, self.nanos_now());
        if before != mode {
            self.show_mode();
            let telemetry = &self.metrics.telemetry;
            telemetry.mode_changed(before.as_str(), mode.as_str());
        }
    }

    fn show_limit(&self, word: Word) {
        self.metrics.limit.set(word.limit);
    }

    fn show_mode(&self) {
        let modes = lock(&self.metrics.modes);
        let mode = self.limiter.standing().mode;
        for (gauge, it) in modes.iter().zip(Mode::ALL) {
            gauge.set(if it == mode { 1.0 } else { 0.0 });
        }
    }
}
