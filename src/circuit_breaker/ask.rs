//! How a breaker answers those who ask to be let pass. Pure.

use std::time::Duration;

use super::{
    cause::Cause,
    machine::{FOREVER, Machine, Outside, Pass},
    word::{Portion, State, Word},
};
use crate::sync::Ordering::{AcqRel, Acquire, Relaxed};

/// Who asks to be let pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asks {
    /// A call, which passes or is refused.
    Call,
    /// A service that is to be told ready, or to wait.
    Service,
}

/// For how many more nanoseconds calls are refused, if that is known.
///
/// Not an `Option`, so that it is handed on in a register: an open breaker has much to refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal(pub(super) u64);

impl Refusal {
    pub(super) const UNKNOWN: Self = Self(FOREVER);

    #[inline]
    pub(super) fn ends_in(self) -> Option<Duration> {
        (self != Self::UNKNOWN).then(|| Duration::from_nanos(self.0))
    }
}

type Answer = Result<Pass, Refusal>;

impl Machine {
    /// Lets a call pass, or refuses it.
    #[inline]
    pub(super) fn admit(&self, outside: &impl Outside) -> Result<Pass, Refusal> {
        let word = self.load();
        if word.is(State::Closed) {
            return Ok(Pass(word));
        }
        self.admit_unless_closed(outside)
    }

    #[inline(never)]
    fn admit_unless_closed(&self, outside: &impl Outside) -> Result<Pass, Refusal> {
        let answer = self.ask(Asks::Call, outside);
        if answer == Ok(Pass::SPARED) {
            self.spared.fetch_add(1, Relaxed);
            outside.spared();
        }
        answer
    }

    /// Lets pass or refuses, and changes the state where that is due. A service is told, other than a
    /// call, when to ask again in any state that will end or may.
    pub(super) fn ask(&self, asks: Asks, outside: &impl Outside) -> Result<Pass, Refusal> {
        // Whoever changes the state, or loses a race to change it, asks the new state again.
        loop {
            let word = self.load();
            let answer = match word.state() {
                State::Closed | State::Disabled => return Ok(Pass(word)),
                State::HalfOpen => self.ask_half_open(word, asks, outside),
                _ => self.ask_until_over(word, asks, outside),
            };
            match answer {
                // What is refused by hand is refused by a shadow, too.
                Some(Err(_)) if self.observes() && !word.is(State::ForcedOpen) => {
                    return Ok(Pass::SPARED);
                }
                Some(answer) => return answer,
                None => {}
            }
        }
    }

    /// `None` where another state is to be asked.
    fn ask_half_open(&self, word: Word, asks: Asks, outside: &impl Outside) -> Option<Answer> {
        let now = outside.now();
        if self.admit_probe(word, now) {
            return Some(Ok(Pass(word)));
        }
        let late = self.probes_are_late_at();
        // Places that are held for calls which have not come make nobody's probe late.
        if now >= late && (self.lapse(now) || self.write_off(word, now, outside)) {
            return None;
        }
        let refusal = match asks {
            Asks::Call => Refusal::UNKNOWN,
            Asks::Service => Refusal(late.saturating_sub(now)),
        };
        (self.load() == word).then_some(Err(refusal))
    }

    /// Of a state that time may end: also what most calls ask while a service is down. `None` where
    /// another state is to be asked.
    fn ask_until_over(&self, word: Word, asks: Asks, outside: &impl Outside) -> Option<Answer> {
        let (state, pass) = (word.state(), Pass(word));
        let until = self.until.load(Acquire);
        let (now, left) = match until {
            FOREVER => (0, FOREVER),
            until => {
                let now = outside.now();
                (now, until.saturating_sub(now))
            }
        };
        if left == 0 {
            let (to, cause) = match state {
                State::Open => (State::HalfOpen, Cause::OpenTimeOver),
                State::Recovering => (State::Closed, Cause::RampOver),
                State::ForcedOpen => (State::HalfOpen, Cause::ForcedTimeOver),
                _ => (State::Closed, Cause::ForcedTimeOver),
            };
            self.change(word, to, cause, 0, now, outside);
            return None;
        }
        match state {
            State::ForcedClosed => Some(Ok(pass)),
            State::Recovering => self.ask_recovering(word, asks, left),
            // For ever, if `left` says so.
            _ => Some(Err(Refusal(left))),
        }
    }

    /// `left` nanoseconds before it closes. `None` where another state is to be asked.
    ///
    /// What is left may be that of the next state, which is just being entered. What is answered then is
    /// still an answer of this state, if of another of its steps, and the call came before the next.
    fn ask_recovering(&self, word: Word, asks: Asks, left: u64) -> Option<Answer> {
        let ramp = self.rules.ramp.as_ref();
        let step = ramp.expect("what recovers has a ramp").at(left);
        let refused_for = match asks {
            Asks::Call if self.ask_portion(word, step.share)? => 0,
            Asks::Call => step.ends_in(),
            Asks::Service => step.opens_in(),
        };
        Some(match refused_for {
            0 => Ok(Pass(word)),
            nanos => Err(Refusal(nanos)),
        })
    }

    /// Whether a call is of the share that passes; `None` where another state is to be asked.
    fn ask_portion(&self, word: Word, share: u32) -> Option<bool> {
        let mut old = self.portion.load(Acquire);
        loop {
            let portion = Portion::unpack(old);
            if !portion.is_of(word.generation()) {
                return None;
            }
            let (new, passes) = portion.ask(share);
            match self
                .portion
                .compare_exchange_weak(old, new.pack(), AcqRel, Acquire)
            {
                Ok(_) => return Some(passes),
                Err(newer) => old = newer,
            }
        }
    }
}
