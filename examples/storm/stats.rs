//! What is counted: by the lanes, as callers see it, and by the backends, as they do.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use hdrhistogram::Histogram;

use crate::script::{Phase, SLOT, Script};

/// A good answer is a 200 that came within this time of the arrival of the call.
pub(crate) const DEADLINE: Duration = Duration::from_millis(500);

/// Latencies are kept in microseconds, to three digits, up to this.
const LONGEST_US: u64 = 60_000_000;

/// One call, over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    /// When it was due, from the start of the run.
    pub(crate) arrival: Duration,
    /// From then until it was over, however it ended.
    pub(crate) latency: Duration,
    /// The answer, if there was one.
    pub(crate) status: Option<StatusCode>,
}

impl Call {
    fn is_good(&self) -> bool {
        self.status == Some(StatusCode::OK) && self.latency <= DEADLINE
    }
}

/// What the callers of a lane got in one phase.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) offered: u64,
    pub(crate) answered: u64,
    pub(crate) good: u64,
    latency_us: Histogram<u64>,
}

impl Served {
    fn new() -> Self {
        let latency_us =
            Histogram::new_with_bounds(1, LONGEST_US, 3).expect("the bounds are constants");
        Self {
            offered: 0,
            answered: 0,
            good: 0,
            latency_us,
        }
    }

    /// The latency that this share of the calls kept within, in milliseconds.
    pub(crate) fn latency_ms(&self, quantile: f64) -> f64 {
        self.latency_us.value_at_quantile(quantile) as f64 / 1000.0
    }
}

/// The same for a slot of time, without the details.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Slot {
    pub(crate) offered: u64,
    pub(crate) good: u64,
}

/// What the callers of a lane got. A call belongs to the phase and the slot in which it arrived.
#[derive(Debug)]
pub(crate) struct LaneStats {
    script: Arc<Script>,
    good: AtomicU64,
    counts: Mutex<Counts>,
}

#[derive(Debug)]
pub(crate) struct Counts {
    pub(crate) phases: [Served; Phase::ALL.len()],
    pub(crate) slots: Vec<Slot>,
}

impl LaneStats {
    pub(crate) fn new(script: Arc<Script>) -> Self {
        let counts = Counts {
            phases: Phase::ALL.map(|_| Served::new()),
            slots: vec![Slot::default(); slot_at(script.length())],
        };
        Self {
            script,
            good: AtomicU64::new(0),
            counts: Mutex::new(counts),
        }
    }

    pub(crate) fn record(&self, call: Call) {
        let good = u64::from(call.is_good());
        self.good.fetch_add(good, Relaxed);

        let mut counts = self.counts();
        let served = &mut counts.phases[self.script.phase_at(call.arrival) as usize];
        served.offered += 1;
        served.answered += u64::from(call.status.is_some());
        served.good += good;
        let us = u64::try_from(call.latency.as_micros()).unwrap_or(u64::MAX);
        served.latency_us.saturating_record(us);
        if let Some(slot) = counts.slots.get_mut(slot_at(call.arrival)) {
            slot.offered += 1;
            slot.good += good;
        }
    }

    /// Good answers so far.
    pub(crate) fn good(&self) -> u64 {
        self.good.load(Relaxed)
    }

    pub(crate) fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What reached a backend. A request belongs to the phase and the slot in which it was read.
#[derive(Debug)]
pub(crate) struct Tally {
    script: Arc<Script>,
    in_flight: AtomicU32,
    phases: [Reached; Phase::ALL.len()],
    slots: Vec<AtomicU32>,
}

#[derive(Debug, Default)]
struct Reached {
    requests: AtomicU64,
    most_in_flight: AtomicU32,
}

impl Tally {
    pub(crate) fn new(script: Arc<Script>) -> Self {
        let slots = (0..slot_at(script.length()))
            .map(|_| AtomicU32::new(0))
            .collect();
        let phases = Phase::ALL.map(|_| Reached::default());
        Self {
            script,
            in_flight: AtomicU32::new(0),
            phases,
            slots,
        }
    }

    /// Counts a request that was read, and has it in flight until the guard is dropped.
    pub(crate) fn enter(&self) -> InFlight<'_> {
        let now = self.script.now();
        let phase = &self.phases[self.script.phase_at(now) as usize];
        phase.requests.fetch_add(1, Relaxed);
        if let Some(slot) = self.slots.get(slot_at(now)) {
            slot.fetch_add(1, Relaxed);
        }
        let before = self.in_flight.fetch_add(1, Relaxed);
        phase.most_in_flight.fetch_max(before + 1, Relaxed);
        InFlight(self)
    }

    pub(crate) fn requests(&self, phase: Phase) -> u64 {
        self.phases[phase as usize].requests.load(Relaxed)
    }

    pub(crate) fn most_in_flight(&self, phase: Phase) -> u32 {
        self.phases[phase as usize].most_in_flight.load(Relaxed)
    }

    /// Requests by slot.
    pub(crate) fn slots(&self) -> impl Iterator<Item = u64> {
        self.slots.iter().map(|slot| slot.load(Relaxed).into())
    }
}

/// A request that the backend has read and neither answered nor given up.
#[derive(Debug)]
pub(crate) struct InFlight<'a>(&'a Tally);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let before = self.0.in_flight.fetch_sub(1, Relaxed);
        // What an earlier phase left behind counts in this one too.
        let phase = self.0.script.phase_at(self.0.script.now());
        self.0.phases[phase as usize]
            .most_in_flight
            .fetch_max(before, Relaxed);
    }
}

fn slot_at(offset: Duration) -> usize {
    usize::try_from(offset.as_millis() / SLOT.as_millis()).unwrap_or(usize::MAX)
}
