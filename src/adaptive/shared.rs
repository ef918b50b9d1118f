//! What the services of a layer share.

use super::limiter::{Bounded, Limiter, Tuned};
use crate::{
    error::{Reason, Rejected},
    mode::{Mode, Switch},
    partitions::PartitionMetrics,
    permits::{Demand, Part, Permits, Word},
    pooled::PooledArc,
    queue::{self, Queue},
    telemetry::{Counter, Ending, Gauge, Telemetry},
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
    pub(super) partitions: PartitionMetrics,
}

impl Metrics {
    pub(super) fn new(name: &'static str, queue: &Queue) -> Self {
        let mut reasons = vec![Reason::LimitReached];
        reasons.extend(queue.reasons());
        let telemetry = Telemetry::new("adaptive", name, &Ending::OF_JUDGED, &reasons);
        Self {
            in_flight: telemetry.gauge("steadfast_adaptive_in_flight"),
            waiting: telemetry.gauge("steadfast_adaptive_waiting"),
            limit: telemetry.gauge("steadfast_adaptive_limit"),
            latency: telemetry.gauge("steadfast_adaptive_latency_seconds"),
            spared: telemetry.counter("steadfast_adaptive_spared_total"),
            telemetry,
            partitions: PartitionMetrics::default(),
        }
    }

    /// Refuses a call, of a partition where there are any.
    pub(super) fn reject(&self, part: Option<Part>, reason: Reason) -> Rejected {
        self.partitions.rejected(part);
        self.telemetry.reject(reason)
    }
}

/// How a call was let pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    /// With a permit.
    Admitted,
    /// Without one: the layer only observes, and would have refused it.
    Spared,
    /// Without one: the layer is disabled.
    Unwatched,
}

/// A limiter, and what is around it.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) limiter: Limiter,
    pub(super) mode: Switch,
    pub(super) metrics: Metrics,
}

pooled!(Shared);

impl Shared {
    pub(super) fn new(limiter: Limiter, mode: Mode, metrics: Metrics) -> Self {
        let shared = Self {
            limiter,
            mode: Switch::new(mode, "steadfast_adaptive_mode", &metrics.telemetry),
            metrics,
        };
        shared.show_limit(shared.limiter.permits().load());
        shared
    }

    #[inline]
    pub(super) fn nanos_now(&self) -> u64 {
        self.limiter.permits().clock().nanos_now()
    }

    /// A call begins that has its permit.
    #[inline]
    pub(super) fn took(&self, demand: Demand) {
        self.metrics.in_flight.increment(1.0);
        self.metrics.partitions.took(demand);
    }

    #[inline]
    pub(super) fn give_back(&self, demand: Demand) {
        // First of all, so that whoever waits for it need not wait for the recorder.
        self.limiter.give_back(demand);
        self.metrics.in_flight.decrement(1.0);
        self.metrics.partitions.gave_back(demand);
    }

    /// Lets a call pass, unless the limit is reached.
    #[inline]
    pub(super) fn admit(&self, demand: Demand) -> Option<Pass> {
        match self.mode.get() {
            Mode::Disabled => Some(Pass::Unwatched),
            _ if self.limiter.permits().try_take(demand) => Some(Pass::Admitted),
            mode => {
                self.limiter.turn_away();
                (mode == Mode::ObserveOnly).then(|| self.spare())
            }
        }
    }

    #[cold]
    fn spare(&self) -> Pass {
        self.metrics.spared.increment(1);
        self.metrics.telemetry.spared(Reason::LimitReached);
        Pass::Spared
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

    pub(super) fn intervene(&self, change: impl FnOnce(&mut Bounded)) {
        self.show_limit(self.limiter.intervene(self.nanos_now(), change));
    }

    pub(super) fn set_mode(&self, mode: Mode) {
        self.mode.set(mode, &self.metrics.telemetry);
        // What was seen in one mode is nothing to go by in the other.
        self.intervene(|_| {});
        // In a line they wait for a permit that may not be needed any more.
        self.limiter.permits().wake_all();
    }

    fn show_limit(&self, word: Word) {
        self.metrics.limit.set(word.limit);
        self.metrics.partitions.show_shares(self.limiter.permits());
    }
}

impl queue::Source for PooledArc<Shared> {
    const FULL: Reason = Reason::LimitReached;

    #[inline]
    fn permits(&self) -> &Permits {
        self.limiter.permits()
    }

    fn reject(&self, part: Option<Part>, reason: Reason) -> Rejected {
        self.metrics.reject(part, reason)
    }

    fn waiting(&self) -> &Gauge {
        &self.metrics.waiting
    }

    fn turned_away(&self) {
        self.limiter.turn_away();
    }
}
