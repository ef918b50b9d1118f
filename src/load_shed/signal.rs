//! What tells how loaded a server is.

use std::{fmt, time::Duration};

use super::probe::Probe;
use crate::{error::InvalidSetting, foreign, sync::ConstArc, telemetry::Telemetry};

/// A signal of load, and what is asked of it.
#[derive(Clone, Debug)]
pub(super) enum Signal {
    InFlight {
        max: usize,
    },
    QueueingDelay {
        target: Duration,
        read: Read<Duration>,
    },
    RuntimeLag {
        target: Duration,
    },
    #[cfg(feature = "cpu")]
    Cpu {
        target: f64,
    },
    Gauge {
        name: &'static str,
        read: Read<f64>,
    },
}

/// A closure of the user's.
#[derive(Clone)]
pub(super) struct Read<T>(pub(super) ConstArc<dyn Fn() -> T + Send + Sync>);

impl<T> fmt::Debug for Read<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Read")
    }
}

/// What is known without asking anyone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'a> {
    pub(super) in_flight: u64,
    pub(super) done_per_second: f64,
    /// Nanoseconds.
    pub(super) now: u64,
    pub(super) probe: Option<&'a Probe>,
}

/// What a signal says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Reading {
    /// As a ratio to the target; not negative, not NaN.
    pub(super) load: f64,
    /// In what time a queue at the target drains, in seconds.
    pub(super) drain: Option<f64>,
}

impl Signal {
    /// The least lag that can be told from the coarseness of tokio's timers.
    const LEAST_LAG: Duration = Duration::from_millis(2);

    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::InFlight { .. } => "in_flight",
            Self::QueueingDelay { .. } => "queueing_delay",
            Self::RuntimeLag { .. } => "runtime_lag",
            #[cfg(feature = "cpu")]
            Self::Cpu { .. } => "cpu",
            Self::Gauge { name, .. } => name,
        }
    }

    pub(super) fn check(&self) -> Result<(), InvalidSetting> {
        match *self {
            Self::InFlight { max: 0 } => Err(InvalidSetting::new(self.name(), 0, "at least 1")),
            Self::QueueingDelay { target, .. } if target.is_zero() => {
                Err(InvalidSetting::new(self.name(), target, "longer than zero"))
            }
            Self::RuntimeLag { target } if target < Self::LEAST_LAG => {
                Err(InvalidSetting::new(self.name(), target, "at least 2ms"))
            }
            #[cfg(feature = "cpu")]
            Self::Cpu { target } if !(0.01..=1.0).contains(&target) => {
                Err(InvalidSetting::new(self.name(), target, "in 0.01..=1"))
            }
            #[cfg(feature = "cpu")]
            Self::Cpu { target } if !super::cpu::CAN_BE_READ => {
                let allowed = "a signal that can be read on this platform";
                Err(InvalidSetting::new(self.name(), target, allowed))
            }
            _ => Ok(()),
        }
    }

    /// Whether it is the probe's to measure.
    pub(super) const fn wants_probe(&self) -> bool {
        !matches!(
            self,
            Self::InFlight { .. } | Self::QueueingDelay { .. } | Self::Gauge { .. }
        )
    }

    /// What it says now; nothing where it is not known, or where a closure of the user's fails to say.
    pub(super) fn read(&self, known: &Known<'_>, telemetry: &Telemetry) -> Option<Reading> {
        let (load, drain) = match self {
            Self::InFlight { max } => {
                let max = *max as f64;
                // How long they are in flight; by Little's law, that is how long it takes them to be done.
                let drain = (known.done_per_second > 0.0).then(|| max / known.done_per_second);
                (known.in_flight as f64 / max, drain)
            }
            Self::QueueingDelay { target, read } => {
                let (delay, target) = (
                    ask(self, read, telemetry)?.as_secs_f64(),
                    target.as_secs_f64(),
                );
                (delay / target, Some(target))
            }
            Self::RuntimeLag { target } => {
                let (lag, target) = (
                    known.probe?.lag(known.now)?.as_secs_f64(),
                    target.as_secs_f64(),
                );
                (lag / target, Some(target))
            }
            #[cfg(feature = "cpu")]
            Self::Cpu { target } => (known.probe?.cpu()? / target, None),
            Self::Gauge { read, .. } => (ask(self, read, telemetry)?, None),
        };
        (!load.is_nan()).then(|| Reading {
            load: load.max(0.0),
            drain,
        })
    }
}

fn ask<T>(signal: &Signal, read: &Read<T>, telemetry: &Telemetry) -> Option<T> {
    let answer = foreign::run(|| (read.0)());
    if answer.is_none() {
        telemetry.signal_panicked(signal.name());
    }
    answer
}
