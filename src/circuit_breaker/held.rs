//! What a service holds that has been told ready: the promise to let its next call pass.

use super::{
    ask::{Asks, Refusal},
    desk::Reserved,
    machine::{Machine, Outside, Pass},
};

/// The promise to let a call pass. To be handed to [`Machine::take_up`] or [`Machine::give_back`].
#[derive(Debug, Default)]
#[must_use]
pub(super) enum Held {
    /// None, or none is needed: all calls pass as things are.
    #[default]
    Nothing,
    /// The place of a probe, held at the desk.
    Place(Pass, Reserved),
    /// A pass to a recovering breaker.
    Pass(Pass),
}

impl Machine {
    /// Promises to let a call pass; a refusal tells when to ask again.
    pub(super) fn promise(&self, outside: &impl Outside) -> Result<Held, Refusal> {
        let pass = self.ask(Asks::Service, outside)?;
        Ok(if pass.is_probe() {
            Held::Place(pass, self.desk.reserve(pass, self.probes_are_late_at()))
        } else if pass.is_to_recovering() {
            Held::Pass(pass)
        } else {
            Held::Nothing
        })
    }

    /// Whether a promise still holds good. That of nothing is none.
    pub(super) fn is_promised(&self, held: &Held) -> bool {
        match held {
            Held::Nothing => false,
            Held::Pass(pass) => self.is_current(*pass),
            Held::Place(pass, reserved) => {
                self.is_current(*pass) && self.desk.is_reserved(reserved)
            }
        }
    }

    /// Makes the promise good: the pass of a call that begins now, unless state or place are gone.
    #[inline]
    pub(super) fn take_up(&self, held: Held, outside: &impl Outside) -> Option<Pass> {
        let pass = match held {
            Held::Nothing => return None,
            Held::Pass(pass) => pass,
            Held::Place(pass, reserved) => {
                self.renew_probe(pass, outside);
                self.desk.take_up(reserved)?
            }
        };
        // The place of a round that is over is gone with it.
        self.is_current(pass).then_some(pass)
    }

    /// Releases from the promise: the place is free again.
    pub(super) fn give_back(&self, held: Held) {
        if let Held::Place(_, reserved) = held
            && let Some(pass) = self.desk.take_up(reserved)
        {
            self.forgo(pass);
        }
    }
}
