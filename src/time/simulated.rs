//! When the simulation on this thread began.

use std::cell::Cell;

use super::Instant;

thread_local! {
    static BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// When the simulation on this thread began, if there is one.
pub(crate) fn began() -> Option<Instant> {
    BEGAN.get()
}

/// A simulation is on this thread; until this is dropped, also when unwinding.
#[derive(Debug)]
pub(crate) struct Simulating {
    outer: Option<Instant>,
}

impl Simulating {
    pub(crate) fn since(began: Instant) -> Self {
        let outer = BEGAN.replace(Some(began));
        Self { outer }
    }
}

impl Drop for Simulating {
    fn drop(&mut self) {
        BEGAN.set(self.outer);
    }
}
