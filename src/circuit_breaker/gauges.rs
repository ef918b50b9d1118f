//! Gauges of the states that breakers are in.

use super::{machine::Machine, mode::Mode, word::State};
use crate::{
    sync::{Mutex, lock},
    telemetry::{Gauge, Telemetry, show},
};

type States = [Gauge; State::ALL.len()];
type Modes = [Gauge; Mode::ALL.len()];

#[derive(Debug)]
pub(super) enum Gauges {
    /// Show the state and the mode of one breaker.
    One(Mutex<(States, Modes)>),
    /// Show how many breakers are in each state.
    Many(States),
}

impl Gauges {
    pub(super) fn one(telemetry: &Telemetry) -> Self {
        let modes = Mode::ALL.map(Mode::as_str);
        let modes = telemetry.gauges("steadfast_circuit_breaker_mode", "mode", modes);
        Self::One(Mutex::new((states(telemetry), modes)))
    }

    pub(super) fn many(telemetry: &Telemetry) -> Self {
        Self::Many(states(telemetry))
    }

    /// There is a breaker.
    pub(super) fn entered(&self, machine: &Machine) {
        match self {
            Self::One(_) => self.mode_changed(machine),
            Self::Many(states) => states[machine.state() as usize].increment(1.0),
        }
    }

    pub(super) fn state_changed(&self, from: State, to: State, machine: &Machine) {
        match self {
            Self::One(_) => self.mode_changed(machine),
            Self::Many(states) => {
                states[from as usize].decrement(1.0);
                states[to as usize].increment(1.0);
            }
        }
    }

    /// Shows state and mode as they are now. Each change calls this after it; whoever comes last shows
    /// the last, in whatever order they come.
    pub(super) fn mode_changed(&self, machine: &Machine) {
        if let Self::One(gauges) = self {
            let gauges = lock(gauges);
            show(&gauges.0, &State::ALL, &machine.state());
            show(&gauges.1, &Mode::ALL, &machine.mode());
        }
    }

    /// The breaker is no more.
    pub(super) fn left(&self, machine: &Machine) {
        if let Self::Many(states) = self {
            states[machine.state() as usize].decrement(1.0);
        }
    }
}

fn states(telemetry: &Telemetry) -> States {
    let states = State::ALL.map(State::as_str);
    telemetry.gauges("steadfast_circuit_breaker_state", "state", states)
}
