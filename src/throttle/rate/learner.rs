//! The rate that is learned, and the calls that go by it. Pure.

use super::{
    cubic::Cubic,
    measured::Measured,
    pace::{Gap, Pace, Turn},
};
use crate::sync::{
    AtomicU32, AtomicU64, Mutex,
    Ordering::{Acquire, Relaxed, Release},
    lock, try_lock,
};

/// What does not change, times in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Calls a second.
    pub(super) min_rate: f64,
    pub(super) burst: u64,
    pub(super) max_wait: u64,
    pub(super) forget_after: u64,
}

/// Learns a rate from answers, and spaces calls by it.
#[derive(Debug)]
pub(super) struct Learner {
    bounds: Bounds,
    // Read by every call.
    phase: AtomicU32,
    // Read and written where calls are limited.
    /// Calls a second, as bits.
    rate: AtomicU64,
    throttled_at: AtomicU64,
    pace: Pace,
    curve: Mutex<Cubic>,
    // Written by every call.
    measured: Measured,
}

/// The time between two throttling answers that count, or before the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Phase(u32);

impl Phase {
    const FIRST: Self = Self(0);
    const LIMITED: u32 = 1;

    #[inline]
    pub(super) const fn is_limited(self) -> bool {
        self.0 & Self::LIMITED != 0
    }

    /// The next, in which calls are limited, or are not.
    const fn next(self, is_limited: bool) -> Self {
        let number = (self.0 | Self::LIMITED).wrapping_add(1);
        Self(number | is_limited as u32)
    }
}

/// What a call finds that asks where calls are limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// A turn, which may be still to come.
    Turn(Turn),
    /// None in time. In so many nanoseconds there would be one.
    None { after: u64 },
    /// Calls are not limited any more.
    Free,
}

impl Learner {
    /// By how much the rate may exceed the one that is measured.
    const MAX_GROWTH: f64 = 2.0;

    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            phase: AtomicU32::new(Phase::FIRST.0),
            rate: AtomicU64::new(0),
            throttled_at: AtomicU64::new(0),
            pace: Pace::new(),
            curve: Mutex::new(Cubic::throttled(0.0, 0)),
            measured: Measured::new(),
        }
    }

    /// The phase of a call that comes now.
    #[inline]
    pub(super) fn phase(&self) -> Phase {
        // Acquire: with a phase in which calls are limited comes its rate.
        Phase(self.phase.load(Acquire))
    }

    /// Takes a turn by `deadline`, and within the longest wait.
    pub(super) fn ask(&self, now: u64, deadline: u64) -> Asked {
        // Relaxed, here and below: whoever reads what is just being replaced has come a moment earlier.
        if self.is_calm_at(now) && self.forget_at(now) {
            return Asked::Free;
        }
        let last = now.saturating_add(self.bounds.max_wait).min(deadline);
        match self.pace.take(self.gap(), now, last.max(now)) {
            Ok(turn) => Asked::Turn(turn),
            Err(at) => Asked::None { after: at - now },
        }
    }

    /// Takes the turn of a call back that was not made.
    pub(super) fn give_back(&self, turn: Turn) {
        self.pace.give_back(turn);
    }

    /// The service has taken a call.
    #[inline]
    pub(super) fn accepted(&self, now: u64) {
        let measured = self.measured.count(now);
        if self.phase().is_limited() {
            self.grow(measured, now);
        }
    }

    /// Where another is at it there is nothing to do: it grows it to the same moment.
    #[inline(never)]
    fn grow(&self, measured: f64, now: u64) {
        if let Some(curve) = try_lock(&self.curve) {
            self.set_rate(&curve, measured, now);
        }
    }

    /// The service has throttled a call of `phase`. Returns whether that lowered the rate: not where it has
    /// been lowered since, for then it says nothing of the rate of now.
    #[inline(never)]
    pub(super) fn throttled(&self, phase: Phase, now: u64) -> bool {
        let measured = self.measured.count(now);
        let mut curve = lock(&self.curve);
        if self.phase() != phase {
            return false;
        }
        let was_limited = phase.is_limited();
        let rate = if was_limited {
            measured.min(self.rate())
        } else {
            measured
        };
        *curve = Cubic::throttled(rate, now);
        self.set_rate(&curve, measured, now);
        self.throttled_at.store(now, Relaxed);
        if !was_limited {
            self.pace.begin(self.gap(), now);
        }
        self.phase.store(phase.next(true).0, Release); // after what calls of it go by
        true
    }

    fn set_rate(&self, curve: &Cubic, measured: f64, now: u64) {
        let rate = curve.rate_at(now).min(Self::MAX_GROWTH * measured);
        let rate = rate.max(self.bounds.min_rate);
        self.rate.store(rate.to_bits(), Relaxed);
    }

    fn gap(&self) -> Gap {
        Gap::new(self.rate(), self.bounds.burst)
    }

    fn rate(&self) -> f64 {
        f64::from_bits(self.rate.load(Relaxed))
    }

    /// The rate by which calls go, where they are limited.
    pub(super) fn limit(&self) -> Option<f64> {
        self.phase().is_limited().then(|| self.rate())
    }

    pub(super) fn measured_rate(&self) -> f64 {
        self.measured.per_second()
    }

    /// Whether nothing was throttled for long.
    fn is_calm_at(&self, now: u64) -> bool {
        let calm = now.saturating_sub(self.throttled_at.load(Relaxed));
        calm >= self.bounds.forget_after
    }

    /// Whether a call that comes at `now` is limited.
    pub(super) fn is_limited_at(&self, now: u64) -> bool {
        self.phase().is_limited() && !self.is_calm_at(now)
    }

    /// Limits calls no more, where that is still right, and no other call is at it.
    #[cold]
    fn forget_at(&self, now: u64) -> bool {
        let Some(_at_rest) = try_lock(&self.curve) else {
            return false;
        };
        let forgets = self.is_calm_at(now);
        if forgets {
            self.end_limit();
        }
        forgets
    }

    /// Limits calls no more.
    pub(super) fn forget(&self) {
        let _at_rest = lock(&self.curve);
        self.end_limit();
    }

    /// For who holds the lock.
    fn end_limit(&self) {
        let phase = self.phase();
        if phase.is_limited() {
            self.phase.store(phase.next(false).0, Release);
        }
    }
}
