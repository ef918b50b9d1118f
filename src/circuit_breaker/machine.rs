//! The state machine: closed, open, half-open, forced. Pure: time, chance and the wish to be told of
//! changes come from [`Outside`].
//!
//! Admitting a call to a closed breaker is one load of a line that is written only when the state
//! changes; a good call that changes no count writes nothing either. Changes of state are rare and
//! made under a lock, one at a time, each from the word that the deciding call saw: of several that
//! decide at once one makes the change, and the others find another generation.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use super::{
    cause::Cause,
    handle::Snapshot,
    rules::ProbeRule,
    trip::{Statistics, Trip},
    word::{Probes, State, Word},
};
use crate::{
    backoff::{Backoff, Position},
    sync::{
        AtomicU64, Mutex, MutexGuard,
        Ordering::{AcqRel, Acquire, Release},
        lock,
    },
    time::nanos,
    window::Outcome,
};

/// What the machine needs of the world.
pub(super) trait Outside {
    /// Nanoseconds since some moment in the past.
    fn now(&self) -> u64;
    /// Uniform over all of `u64`.
    fn random(&self) -> u64;
    /// Told after each change of state, outside of any lock.
    fn changed(&self, change: Change);
}

/// A change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) from: State,
    pub(super) to: State,
    pub(super) cause: Cause,
}

/// What an admitted call carries. To be handed to [`Machine::settle`] or [`Machine::forgo`], once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) struct Pass(Word);

impl Pass {
    #[inline]
    pub(super) const fn is_probe(self) -> bool {
        self.0.is(State::HalfOpen)
    }
}

/// The rules by which a machine runs, checked.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) trip: Trip,
    pub(super) probes: ProbeRule,
    /// How long a probe may take.
    pub(super) probe_nanos: u64,
    pub(super) open_time: Backoff,
    /// How long the breaker must have stayed closed for its open time to start over.
    pub(super) lasting_nanos: u64,
}

#[derive(Debug)]
pub(super) struct Machine {
    word: AtomicU64,
    /// When the open or forced state is over; [`FOREVER`] if never. Written before `word`.
    until: AtomicU64,
    probes: AtomicU64,
    /// When the probe admitted last is late. Only ever grows.
    probes_until: AtomicU64,
    rules: Rules,
    /// Held while the state changes.
    history: Mutex<History>,
}

#[derive(Debug)]
struct History {
    /// How far the open time has grown.
    open_time: Position,
    closed_at: u64,
    cause: Option<Cause>,
}

const FOREVER: u64 = u64::MAX;

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

/// `nanos` after `now`, and not for ever however long that is.
const fn after(now: u64, nanos: u64) -> u64 {
    let end = now.saturating_add(nanos);
    if end == FOREVER { FOREVER - 1 } else { end }
}

impl Machine {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            word: AtomicU64::new(Word::new(State::Closed, 0).0),
            until: AtomicU64::new(FOREVER),
            probes: AtomicU64::new(0),
            probes_until: AtomicU64::new(0),
            rules,
            history: Mutex::new(History {
                open_time: Position::START,
                closed_at: 0,
                cause: None,
            }),
        }
    }

    #[inline]
    fn load(&self) -> Word {
        Word(self.word.load(Acquire))
    }

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
        // Whoever loses a race to change the state asks the new state again.
        loop {
            let word = self.load();
            let pass = Pass(word);
            match word.state() {
                State::Closed => return Ok(pass),
                State::HalfOpen => {
                    let now = outside.now();
                    if self.admit_probe(word, now) {
                        return Ok(pass);
                    }
                    if !self.write_off(word, now, outside) && self.load() == word {
                        return Err(Refusal::UNKNOWN);
                    }
                }
                State::Open | State::ForcedOpen | State::ForcedClosed => {
                    let until = self.until.load(Acquire);
                    let answer = |refusal| match word.state() {
                        State::ForcedClosed => Ok(pass),
                        _ => Err(refusal),
                    };
                    if until == FOREVER {
                        return answer(Refusal::UNKNOWN);
                    }
                    let now = outside.now();
                    if now < until {
                        return answer(Refusal(until - now));
                    }
                    let (to, cause) = match word.state() {
                        State::Open => (State::HalfOpen, Cause::OpenTimeOver),
                        State::ForcedOpen => (State::HalfOpen, Cause::ForcedTimeOver),
                        _ => (State::Closed, Cause::ForcedTimeOver),
                    };
                    self.change(word, to, cause, now, outside);
                }
            }
        }
    }

    /// Whether a good result, of a call that no rule times, would change nothing. It then need not be
    /// settled.
    #[inline]
    pub(super) fn is_unmoved_by_success(&self, pass: Pass) -> bool {
        self.load() == pass.0 && pass.0.is(State::Closed) && self.rules.trip.is_unmoved_by_success()
    }

    /// Records how a call went that was admitted with `pass`. `now` is asked for only if it matters.
    pub(super) fn settle(
        &self,
        pass: Pass,
        outcome: Outcome,
        now: impl Fn() -> u64,
        outside: &impl Outside,
    ) {
        let Pass(word) = pass;
        if self.load() != word {
            return; // the state has changed since, and this result is not for it
        }
        match word.state() {
            State::Closed => {
                let trip = &self.rules.trip;
                if let Some(cause) = trip.record(word.generation(), outcome, &now) {
                    self.change(word, State::Open, cause, now(), outside);
                }
            }
            State::HalfOpen => {
                let settled = |probes: Probes| {
                    // Who decided is about to change the state; a success would end the row of
                    // failures by which they did.
                    if self.rules.probes.decide(probes).is_some() {
                        return None;
                    }
                    let in_flight = probes.in_flight.checked_sub(1)?;
                    Some(tally(probes, in_flight, 1, outcome))
                };
                if let Some(probes) = self.update_probes(word, settled) {
                    self.decide(word, probes, now(), outside);
                }
            }
            State::Open | State::ForcedOpen | State::ForcedClosed => {}
        }
    }

    /// Takes note that a call admitted with `pass` will say nothing: a probe's place is free again.
    pub(super) fn forgo(&self, pass: Pass) {
        if !pass.is_probe() {
            return;
        }
        self.update_probes(pass.0, |probes| {
            let in_flight = probes.in_flight.checked_sub(1)?;
            Some(Probes {
                in_flight,
                ..probes
            })
        });
    }

    fn admit_probe(&self, word: Word, now: u64) -> bool {
        let late = after(now, self.rules.probe_nanos);
        let admitted = self.update_probes(word, |probes| {
            let admitted = self.rules.probes.admit(probes)?;
            // Before the probe is seen in flight, or it would be late by the bound of an earlier one.
            self.probes_until.fetch_max(late, AcqRel);
            Some(admitted)
        });
        admitted.is_some()
    }

    /// Counts the probes in flight as failed, if the last of them is late. To be asked only where no
    /// further probe is admitted, which makes it decide the round; returns whether it did.
    fn write_off(&self, word: Word, now: u64, outside: &impl Outside) -> bool {
        if now < self.probes_until.load(Acquire) {
            return false;
        }
        let hung = |probes: Probes| Some(tally(probes, 0, probes.in_flight, Outcome::FAILED));
        self.update_probes(word, hung)
            .is_some_and(|probes| self.decide(word, probes, now, outside))
    }

    /// Leaves the half-open state if the probes have decided; returns whether they have.
    fn decide(&self, word: Word, probes: Probes, now: u64, outside: &impl Outside) -> bool {
        let (to, cause) = match self.rules.probes.decide(probes) {
            Some(true) => (State::Closed, Cause::ProbesSucceeded),
            Some(false) => (State::Open, Cause::ProbesFailed),
            None => return false,
        };
        self.change(word, to, cause, now, outside);
        true
    }

    /// Applies `change` in one step if the probes are still those of `word`.
    fn update_probes(
        &self,
        word: Word,
        change: impl Fn(Probes) -> Option<Probes>,
    ) -> Option<Probes> {
        let mut old = self.probes.load(Acquire);
        loop {
            let probes = Probes::unpack(old);
            if !probes.is_of(word.generation()) {
                return None;
            }
            let new = change(probes)?;
            match self
                .probes
                .compare_exchange_weak(old, new.pack(), AcqRel, Acquire)
            {
                Ok(_) => return Some(new),
                Err(newer) => old = newer,
            }
        }
    }

    /// Changes the state, if it is still `from`.
    fn change(&self, from: Word, to: State, cause: Cause, now: u64, outside: &impl Outside) {
        let history = lock(&self.history);
        if self.load() == from {
            self.enter(history, to, cause, now, outside);
        }
    }

    /// Forces the state, for so many nanoseconds or until told otherwise.
    pub(super) fn force(&self, to: State, nanos: Option<u64>, outside: &impl Outside) {
        let now = outside.now();
        let history = lock(&self.history);
        let until = nanos.map_or(FOREVER, |nanos| after(now, nanos));
        self.until.store(until, Release);
        self.enter(history, to, Cause::Forced, now, outside);
    }

    /// Closes the breaker and forgets all that has been.
    pub(super) fn reset(&self, outside: &impl Outside) {
        let mut history = lock(&self.history);
        history.open_time = Position::START;
        self.enter(history, State::Closed, Cause::Reset, outside.now(), outside);
    }

    fn enter(
        &self,
        mut history: MutexGuard<'_, History>,
        to: State,
        cause: Cause,
        now: u64,
        outside: &impl Outside,
    ) {
        let word = self.load();
        let next = word.change(to);
        match to {
            State::Open => {
                let closed_for = now.saturating_sub(history.closed_at);
                if word.is(State::Closed) && closed_for >= self.rules.lasting_nanos {
                    history.open_time = Position::START;
                }
                let open_time = self.open_time(&mut history.open_time, outside.random());
                self.until.store(after(now, nanos(open_time)), Release);
            }
            State::HalfOpen => {
                let round = Probes::round(next.generation());
                self.probes.store(round.pack(), Release);
            }
            State::Closed => {
                self.rules.trip.begin(next.generation());
                history.closed_at = now;
            }
            State::ForcedOpen | State::ForcedClosed => {}
        }
        history.cause = Some(cause);
        self.word.store(next.0, Release);
        drop(history);
        let from = word.state();
        outside.changed(Change { from, to, cause });
    }

    /// How long to stay open. A function of the user's may panic, and gets its cap: the change of state
    /// would be left half made, and where the call that trips the breaker is itself unwinding a second
    /// panic would end the process.
    fn open_time(&self, position: &mut Position, random: u64) -> Duration {
        let open_time = &self.rules.open_time;
        let next = || open_time.next(position, random);
        catch_unwind(AssertUnwindSafe(next)).unwrap_or(open_time.cap())
    }

    pub(super) fn state(&self) -> State {
        self.load().state()
    }

    /// What there is to see. Takes no probe's place and changes nothing.
    pub(super) fn snapshot(&self, outside: &impl Outside) -> Snapshot {
        let history = lock(&self.history);
        let word = self.load();
        let (state, generation) = (word.state(), word.generation());
        let now = outside.now();
        let closed = state == State::Closed;
        let until = self.until.load(Acquire);
        let is_timed = !matches!(state, State::Closed | State::HalfOpen) && until != FOREVER;
        let trip = &self.rules.trip;
        Snapshot {
            state,
            cause: history.cause,
            ends_in: is_timed.then(|| Duration::from_nanos(until.saturating_sub(now))),
            statistics: if closed {
                trip.statistics(generation, now)
            } else {
                Statistics::default()
            },
        }
    }
}

/// Probes after `ended` more of them ended in this way.
const fn tally(probes: Probes, in_flight: u8, ended: u8, outcome: Outcome) -> Probes {
    let Outcome { failed, slow } = outcome;
    Probes {
        in_flight,
        done: probes.done + ended,
        failed: probes.failed + if failed { ended } else { 0 },
        slow: probes.slow + if slow { ended } else { 0 },
        run: if failed { probes.run + ended } else { 0 },
        ..probes
    }
}
