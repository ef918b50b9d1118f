//! What every keyed layer tells of its keys.

use super::Room;
use crate::telemetry::{Counter, Gauge, Telemetry};

#[derive(Debug)]
pub(crate) struct KeyMetrics {
    keys: Gauge,
    evicted: Counter,
    overflow: Counter,
}

impl KeyMetrics {
    pub(crate) fn new(telemetry: &Telemetry) -> Self {
        Self {
            keys: telemetry.layer_gauge("steadfast_keys"),
            evicted: telemetry.layer_counter("steadfast_keys_evicted_total"),
            overflow: telemetry.layer_counter("steadfast_keys_overflow_total"),
        }
    }

    /// A key that was not known has come.
    pub(crate) fn entered(&self, room: Room, evicted: usize) {
        match room {
            Room::Known => {}
            Room::Found => self.keys.increment(1.0),
            Room::None => self.overflow.increment(1),
        }
        if evicted > 0 {
            self.keys.decrement(evicted as f64);
            self.evicted.increment(evicted as u64);
        }
    }
}
