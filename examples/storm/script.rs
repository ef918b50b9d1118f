//! What happens to the backends, and when.
//!
//! Every lane has a backend of its own, and all of them live through the same script. What becomes
//! of a request is drawn from the seed and the number of the call, so the lanes share even their
//! luck: the call that one of them sees fail, fails in the others too.

use std::time::Duration;

use axum::http::StatusCode;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;

/// Phases last a whole number of slots, and everything over time is counted by slot.
pub(crate) const SLOT: Duration = Duration::from_millis(50);

/// How long a worker is busy with one request, in milliseconds: evenly spread between these.
const SERVICE_MS: (f64, f64) = (5.0, 20.0);

/// How many times the offered load the healthy backend could carry.
const HEADROOM: f64 = 3.2;

/// In `slow`, this share of the requests keeps its worker for [`STALL`]: a cold replica, a lock.
const STALL_SHARE: f64 = 0.12;
const STALL: Duration = Duration::from_millis(1500);

/// In `failing`, this share of the requests is answered with an error.
const FAIL_SHARE: f64 = 0.5;

/// What a new process has to do before it can answer, if nothing disturbs it.
const START_UP: Duration = Duration::from_millis(400);

/// The share of its time that the full load takes from a process that is starting up, for turning
/// calls away. This is what makes cold services stay down under load. With a start that no load can
/// disturb every lane is back at once, and a breaker's open time costs its lane a little of the phase.
const START_UP_DISTURBANCE: f64 = 0.6;

/// A stretch of the script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Every request is answered within 5 to 20 ms of work.
    Healthy,
    /// Some requests hold their worker much longer than any caller cares to wait.
    Slow,
    /// Half of the answers are errors.
    Failing,
    /// Requests are read and never answered; those left at the end are lost.
    Hung,
    /// Requests are read and their connections cut.
    Down,
    /// The process starts up, still cutting connections, and is healthy from then on.
    Recovering,
}

impl Phase {
    pub(crate) const ALL: [Self; 6] = [
        Self::Healthy,
        Self::Slow,
        Self::Failing,
        Self::Hung,
        Self::Down,
        Self::Recovering,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Slow => "slow",
            Self::Failing => "failing",
            Self::Hung => "hung",
            Self::Down => "down",
            Self::Recovering => "recovering",
        }
    }

    /// How much of the run it takes, in sixtieths.
    fn share(self) -> u32 {
        match self {
            Self::Healthy => 7,
            Self::Slow | Self::Failing => 9,
            Self::Hung => 17,
            Self::Down => 8,
            Self::Recovering => 10,
        }
    }
}

/// What becomes of a request that a worker has taken up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fate {
    /// How long the worker is busy with it.
    pub(crate) work: Duration,
    pub(crate) status: StatusCode,
}

/// The script of one run.
#[derive(Debug)]
pub(crate) struct Script {
    origin: Instant,
    /// The end of each phase, from the origin on.
    ends: [Duration; Phase::ALL.len()],
    rps: u32,
    seed: u64,
}

impl Script {
    pub(crate) fn new(origin: Instant, seconds: u32, rps: u32, seed: u64) -> Self {
        let slots = Duration::from_secs(seconds.into()).as_millis() / SLOT.as_millis();
        let slots = u32::try_from(slots).unwrap_or(u32::MAX);
        let mut sixtieths = 0;
        let ends = Phase::ALL.map(|phase| {
            sixtieths += phase.share();
            SLOT * (slots * sixtieths / 60)
        });
        Self {
            origin,
            ends,
            rps,
            seed,
        }
    }

    /// The time since the start of the run.
    pub(crate) fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// The moment that lies `offset` after the start of the run.
    pub(crate) fn instant(&self, offset: Duration) -> Instant {
        self.origin + offset
    }

    pub(crate) fn start_of(&self, phase: Phase) -> Duration {
        (phase as usize)
            .checked_sub(1)
            .map_or(Duration::ZERO, |before| self.ends[before])
    }

    pub(crate) fn end_of(&self, phase: Phase) -> Duration {
        self.ends[phase as usize]
    }

    pub(crate) fn length(&self) -> Duration {
        self.end_of(Phase::Recovering)
    }

    /// The phase at an offset from the start; the last one goes on after the end of the run.
    pub(crate) fn phase_at(&self, offset: Duration) -> Phase {
        let over = self.ends.iter().filter(|&&end| end <= offset).count();
        Phase::ALL.get(over).copied().unwrap_or(Phase::Recovering)
    }

    pub(crate) fn rps(&self) -> u32 {
        self.rps
    }

    /// How many calls arrive in the whole run.
    pub(crate) fn calls(&self) -> usize {
        (self.length().as_secs_f64() * f64::from(self.rps)) as usize
    }

    /// When each call arrives: evenly spaced, but for a jitter within its own gap.
    pub(crate) fn arrivals(&self) -> impl Iterator<Item = Duration> + use<> {
        let gap = 1.0 / f64::from(self.rps);
        let mut rng = StdRng::seed_from_u64(self.seed);
        (0..self.calls())
            .map(move |call| Duration::from_secs_f64((call as f64 + rng.random::<f64>()) * gap))
    }

    /// How many requests a backend works on at a time. It grows with the load, so that the story is
    /// the same at any rate.
    pub(crate) fn workers(&self) -> usize {
        let busy = f64::from(self.rps) * (SERVICE_MS.0 + SERVICE_MS.1) / 2.0 / 1000.0;
        (busy * HEADROOM).ceil() as usize
    }

    /// How long a start-up takes that had to turn `calls` away.
    pub(crate) fn start_up(&self, calls: u32) -> Duration {
        START_UP + Duration::from_secs_f64(START_UP_DISTURBANCE / f64::from(self.rps)) * calls
    }

    /// What becomes of a request of `call` that is taken up in `phase`, where `earlier` ones of the
    /// same call went before.
    pub(crate) fn fate(&self, phase: Phase, call: usize, earlier: u8) -> Fate {
        let request = (call as u64) << 8 | u64::from(earlier);
        let mut rng = StdRng::seed_from_u64(self.seed.rotate_left(32) ^ request);
        let work = Duration::from_secs_f64(rng.random_range(SERVICE_MS.0..SERVICE_MS.1) / 1000.0);
        let luck: f64 = rng.random();
        match phase {
            Phase::Slow if luck < STALL_SHARE => Fate {
                work: STALL,
                status: StatusCode::OK,
            },
            Phase::Failing if luck < FAIL_SHARE / 2.0 => Fate {
                work,
                status: StatusCode::INTERNAL_SERVER_ERROR,
            },
            Phase::Failing if luck < FAIL_SHARE => Fate {
                work,
                status: StatusCode::SERVICE_UNAVAILABLE,
            },
            _ => Fate {
                work,
                status: StatusCode::OK,
            },
        }
    }
}
