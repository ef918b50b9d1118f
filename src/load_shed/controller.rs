//! What share of the calls is to be shed. Pure.
//!
//! A PI controller in logarithms. What it controls is the rate at which calls are admitted; the share is
//! what is offered beyond it, so that a change of what is offered is followed before the load tells of it
//! (feed-forward). Load and rates are proportional, so that in logarithms the same gains suit two calls a
//! second too many and twelve times too many.
//!
//! - **P**: `rate = base * load^-P`. Twice the load admits a tenth less, until what stands in the queue has
//!   gone.
//! - **I**: `base` grows while the load is below its target, by the integral of the error. Above it there is
//!   nothing to integrate: how many calls the service gets done *is* what it can do, and is taken for the
//!   base. So it neither winds up, however long the load stays above, nor has it far to go back. (Åström and
//!   Hägglund call it tracking: the integral follows what the plant was seen to do.)
//!
//! That calls done are looked at is Cinnamon's error, (in - out - free) / out, taken apart: what comes in
//! and goes out at a rate needs no gain that fits the service, and only the rest, what stands in its queue,
//! has one.

/// What was seen in one sampling interval.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observed {
    /// How long it was, in seconds; not zero.
    pub(super) seconds: f64,
    /// The load as a ratio to its target.
    pub(super) load: f64,
    /// In what time a queue drains that stands at the target, in seconds, where the signal tells of a queue.
    pub(super) drain: Option<f64>,
    /// Calls that came, shed or not.
    pub(super) offered: u64,
    /// Calls let in before that ended.
    pub(super) done: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Controller {
    /// The share of what would be shed that passes.
    spared: f64,
    offered: Rate,
    done: Rate,
    /// Calls a second that the service can do, as far as is known.
    base: f64,
    /// Whether anything is shed, or was until the last interval.
    sheds: bool,
    /// For how long, in seconds.
    since: f64,
}

impl Controller {
    const P: f64 = 0.15;
    /// A second.
    const I: f64 = 2.0;
    /// How far the load may be seen to lie from its target, in logarithms: a twentieth of it, and 50 times.
    const ERRORS: (f64, f64) = (-3.0, 4.0);
    /// Not less than this share of what is offered is taken for what can be done, or it could never grow.
    const LEAST_BASE: f64 = 0.001;

    const MEMORY: Memory = Memory {
        calls: 32.0,
        least: 0.5,
    };
    /// Until an overload began, only as much was done as was asked for. That is soon to be forgotten.
    const ONSET_MEMORY: Memory = Memory {
        calls: 32.0,
        least: 0.05,
    };
    const ONSET: f64 = 0.5;
    /// A quantile takes more calls than a mean.
    const DISTRIBUTION: Memory = Memory {
        calls: 256.0,
        least: 1.0,
    };

    /// One that spares a share, less than one, of what it would shed.
    pub(super) const fn new(spared: f64) -> Self {
        Self {
            spared,
            offered: Rate::ZERO,
            done: Rate::ZERO,
            base: 0.0,
            sheds: false,
            since: 0.0,
        }
    }

    /// Takes account of an interval. Returns the share of calls to be shed from now on, those spared among
    /// them.
    pub(super) fn observe(&mut self, seen: &Observed) -> f64 {
        let memory = if self.sheds && self.since < Self::ONSET {
            Self::ONSET_MEMORY
        } else {
            Self::MEMORY
        };
        self.offered
            .observe(seen.offered, seen.seconds, Self::MEMORY);
        self.done.observe(seen.done, seen.seconds, memory);
        let is_above = seen.load > 1.0;
        if !self.sheds {
            if !is_above {
                return 0.0;
            }
            (self.sheds, self.since) = (true, 0.0);
        }
        self.since += seen.seconds;

        let (least, most) = Self::ERRORS;
        let error = seen.load.ln().clamp(least, most);
        let (offered, done) = (self.offered.per_second, self.done.per_second);
        if is_above {
            self.base = done;
        } else {
            let growth = (-error * Self::I * seen.seconds).min(10.0).exp();
            self.base = self.base.max(done) * growth;
        }
        self.base = self.base.clamp(Self::LEAST_BASE * offered, 2.0 * offered);
        let rate = self.base * (-error * Self::gain(seen, is_above)).exp();

        let admitted = if offered > 0.0 { rate / offered } else { 1.0 };
        // Of what lies beyond the cut some passes, and counts.
        let shed = ((1.0 - admitted) / (1.0 - self.spared)).clamp(0.0, 1.0);
        self.sheds = is_above || shed > 0.0;
        shed
    }

    /// A queue that drains within a few intervals would be drained beyond its target, and then filled
    /// beyond it, if it were corrected by more than half of that an interval.
    fn gain(seen: &Observed, is_above: bool) -> f64 {
        match seen.drain {
            Some(drain) if is_above => Self::P.min(0.5 * drain / seen.seconds).max(0.02),
            _ => Self::P,
        }
    }

    /// Which share of the calls counted before the last interval, which took this long, still tells of the
    /// calls of now.
    pub(super) fn keep(&self, seconds: f64) -> f64 {
        if self.offered.has_leapt {
            0.0
        } else {
            Self::DISTRIBUTION.keep(self.offered.per_second, seconds)
        }
    }

    /// Calls a second that are done.
    pub(super) const fn done_per_second(&self) -> f64 {
        self.done.per_second
    }
}

/// Over how long something is smoothed: so long that so many calls are, but so many seconds at least, and
/// ten times that at most.
#[derive(Clone, Copy, Debug)]
struct Memory {
    calls: f64,
    least: f64,
}

impl Memory {
    /// What an interval that took this long leaves of what was known before, at so many calls a second.
    fn keep(self, per_second: f64, seconds: f64) -> f64 {
        let memory = (self.calls / per_second).clamp(self.least, 10.0 * self.least);
        (-seconds / memory).exp()
    }
}

/// A rate that is smoothed, until it leaps.
#[derive(Clone, Copy, Debug)]
struct Rate {
    per_second: f64,
    has_leapt: bool,
}

impl Rate {
    const ZERO: Self = Self {
        per_second: 0.0,
        has_leapt: false,
    };

    fn observe(&mut self, calls: u64, seconds: f64, memory: Memory) {
        let (calls, expected) = (calls as f64, self.per_second * seconds);
        // Four standard deviations of a Poisson process: no chance, but a change, to be followed at once.
        let leap = 4.0 * calls.max(expected).sqrt() + 4.0;
        self.has_leapt = self.per_second == 0.0 || (calls - expected).abs() > leap;
        let keep = if self.has_leapt {
            0.0
        } else {
            memory.keep(self.per_second, seconds)
        };
        self.per_second = keep * self.per_second + (1.0 - keep) * (calls / seconds);
    }
}
