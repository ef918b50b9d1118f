//! The state machine: closed, open, half-open, recovering, held by hand. Pure: time, chance and the
//! wish to be told of changes come from [`Outside`].
//!
//! Admitting a call to a closed breaker is one load of a line that is written only when the state
//! changes; a good call that changes no count writes nothing either. Changes of state are rare and
//! made under a lock, one at a time, each from the word that the deciding call saw: of several that
//! decide at once one makes the change, and the others find another generation.
//!
//! Whether it only observes is asked where a call would be refused and nowhere else: in all other
//! respects a shadow is a breaker.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use super::{
    cause::Cause,
    desk::Desk,
    handle::Snapshot,
    mode::Mode,
    ramp::Steps,
    rules::ProbeRule,
    trip::{Statistics, Trip},
    word::{Portion, Probes, State, Word},
};
use crate::{
    backoff::{Backoff, Position},
    sync::{
        AtomicU32, AtomicU64, Mutex, MutexGuard,
        Ordering::{AcqRel, Acquire, Relaxed, Release},
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
    /// Told when a rule of the user's own has panicked.
    fn rule_panicked(&self);
    /// Told after each change of mode that leaves the state as it is, outside of any lock.
    fn mode_changed(&self, from: Mode, to: Mode);
    /// Told of each call that passes though it would have been refused.
    fn spared(&self);
}

/// A change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// How many changes there have been, this one included.
    pub(super) number: u64,
    pub(super) from: State,
    pub(super) to: State,
    pub(super) cause: Cause,
    /// The mode after it.
    pub(super) mode: Mode,
    pub(super) at: u64,
    /// How long the new state lasts, where time ends it.
    pub(super) ends_in: Option<Duration>,
    /// How long not every call was let pass, where now every call is again.
    pub(super) open_for: Option<Duration>,
}

/// What an admitted call carries. To be handed to [`Machine::settle`] or [`Machine::forgo`], once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) struct Pass(pub(super) Word);

impl Pass {
    /// That of a call which was spared a refusal. No word is ever this one, so the call has no say.
    pub(super) const SPARED: Self = Self(Word(u64::MAX));

    #[inline]
    pub(super) const fn is_probe(self) -> bool {
        self.0.is(State::HalfOpen)
    }

    /// Whether nobody is to be told how the call ends.
    #[inline]
    pub(super) const fn is_unwatched(self) -> bool {
        self.0.is(State::Disabled)
    }

    pub(super) const fn is_to_recovering(self) -> bool {
        self.0.is(State::Recovering)
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
    /// The longest that a service may ask to be left alone; zero where it is not listened to.
    pub(super) longest_asked_nanos: u64,
    /// What comes between probes that went well and being closed.
    pub(super) ramp: Option<Steps>,
    /// How long the breaker must have stayed closed for its open time to start over.
    pub(super) lasting_nanos: u64,
}

#[derive(Debug)]
pub(super) struct Machine {
    word: AtomicU64,
    /// When the open, recovering or forced state is over; [`FOREVER`] if never. Written before `word`.
    pub(super) until: AtomicU64,
    probes: AtomicU64,
    /// When the probe admitted last is late. Only ever grows.
    probes_until: AtomicU64,
    /// Which of its calls a recovering breaker lets pass.
    pub(super) portion: AtomicU64,
    /// Whether it only observes: zero or one. Written under the lock.
    observes: AtomicU32,
    /// Calls that were spared a refusal.
    pub(super) spared: AtomicU64,
    pub(super) rules: Rules,
    /// Held while the state changes.
    history: Mutex<History>,
    pub(super) desk: Desk,
}

#[derive(Debug)]
struct History {
    /// How far the open time has grown.
    open_time: Position,
    closed_at: u64,
    /// Since when not every call is let pass.
    open_since: Option<u64>,
    cause: Option<Cause>,
    changes: u64,
}

pub(super) const FOREVER: u64 = u64::MAX;

/// `nanos` after `now`, and not for ever however long that is.
const fn after(now: u64, nanos: u64) -> u64 {
    let end = now.saturating_add(nanos);
    if end == FOREVER { FOREVER - 1 } else { end }
}

impl Machine {
    pub(super) fn new(rules: Rules, mode: Mode) -> Self {
        let state = mode.held_state().unwrap_or(State::Closed);
        Self {
            word: AtomicU64::new(Word::new(state, 0).0),
            until: AtomicU64::new(FOREVER),
            probes: AtomicU64::new(0),
            probes_until: AtomicU64::new(0),
            portion: AtomicU64::new(0),
            observes: AtomicU32::new(u32::from(mode == Mode::ObserveOnly)),
            spared: AtomicU64::new(0),
            rules,
            history: Mutex::new(History {
                open_time: Position::START,
                closed_at: 0,
                open_since: (!state.lets_all_pass()).then_some(0),
                cause: None,
                changes: 0,
            }),
            desk: Desk::new(),
        }
    }

    #[inline]
    pub(super) fn load(&self) -> Word {
        Word(self.word.load(Acquire))
    }

    /// Whether a good result, of a call that no rule times, would change nothing. It then need not be
    /// settled.
    #[inline]
    pub(super) fn is_unmoved_by_success(&self, pass: Pass) -> bool {
        self.load() == pass.0 && pass.0.is(State::Closed) && self.rules.trip.is_unmoved_by_success()
    }

    /// Records how a call went that was admitted with `pass`, and for how many nanoseconds the service
    /// asked to be left alone. `now` is asked for only if it matters.
    #[inline]
    pub(super) fn settle(
        &self,
        pass: Pass,
        outcome: Outcome,
        asked: u64,
        now: impl Fn() -> u64,
        outside: &impl Outside,
    ) {
        let Pass(word) = pass;
        if self.load() != word {
            return; // the state has changed since, and this result is not for it
        }
        if word.is(State::HalfOpen) {
            return self.settle_probe(word, outcome, asked, now, outside);
        }
        let panicked = || outside.rule_panicked();
        let trip = &self.rules.trip;
        if let Some(cause) = trip.record(word.generation(), outcome, &now, panicked) {
            // What was told to be closed counts, and stays; what is disabled, whoever hands it in.
            if word.is(State::Closed) || word.is(State::Recovering) {
                self.change(word, State::Open, cause, asked, now(), outside);
            }
        }
    }

    #[inline(never)]
    fn settle_probe(
        &self,
        word: Word,
        outcome: Outcome,
        asked: u64,
        now: impl Fn() -> u64,
        outside: &impl Outside,
    ) {
        let settled = |probes: Probes| {
            // Who decided is about to change the state; a success would end the row of failures by
            // which they did.
            if self.rules.probes.decide(probes).is_some() {
                return None;
            }
            let in_flight = probes.in_flight.checked_sub(1)?;
            Some(tally(probes, in_flight, 1, outcome))
        };
        if let Some(probes) = self.update_probes(word, settled) {
            self.decide(word, probes, asked, now(), outside);
        }
    }

    /// Takes note that a call admitted with `pass` will say nothing: a probe's place is free again.
    pub(super) fn forgo(&self, pass: Pass) {
        // Also asked here because of a probe that took so long that the rounds have come round.
        if pass.is_probe() && self.load() == pass.0 && self.free_place(pass.0) {
            self.desk.wake_all();
        }
    }

    fn free_place(&self, word: Word) -> bool {
        let freed = self.update_probes(word, |probes| {
            let in_flight = probes.in_flight.checked_sub(1)?;
            Some(Probes {
                in_flight,
                ..probes
            })
        });
        freed.is_some()
    }

    /// Frees the places that have been held too long for calls which have not come; returns whether
    /// there were any.
    pub(super) fn lapse(&self, now: u64) -> bool {
        let mut lapsed = false;
        while let Some(Pass(word)) = self.desk.lapse(now) {
            lapsed |= self.free_place(word);
        }
        if lapsed {
            self.desk.wake_all();
        }
        lapsed
    }

    /// When the probe admitted last is late.
    pub(super) fn probes_are_late_at(&self) -> u64 {
        self.probes_until.load(Acquire)
    }

    /// A place that was held is about to be used, by a probe that begins now. To be called before the
    /// place is taken off the [desk](Self::desk): who finds it there no more must find the bound moved.
    pub(super) fn renew_probe(&self, pass: Pass, outside: &impl Outside) {
        if self.is_current(pass) {
            let late = after(outside.now(), self.rules.probe_nanos);
            self.probes_until.fetch_max(late, AcqRel);
        }
    }

    /// Whether the state is still that which `pass` was given in.
    #[inline]
    pub(super) fn is_current(&self, pass: Pass) -> bool {
        self.load() == pass.0
    }

    #[inline]
    pub(super) fn is_closed(&self) -> bool {
        self.load().is(State::Closed)
    }

    #[inline]
    pub(super) fn observes(&self) -> bool {
        self.observes.load(Acquire) != 0
    }

    pub(super) fn admit_probe(&self, word: Word, now: u64) -> bool {
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
    pub(super) fn write_off(&self, word: Word, now: u64, outside: &impl Outside) -> bool {
        if now < self.probes_are_late_at() {
            return false;
        }
        let hung = |probes: Probes| Some(tally(probes, 0, probes.in_flight, Outcome::HUNG));
        self.update_probes(word, hung)
            .is_some_and(|probes| self.decide(word, probes, 0, now, outside))
    }

    /// Leaves the half-open state if the probes have decided; returns whether they have.
    fn decide(
        &self,
        word: Word,
        probes: Probes,
        asked: u64,
        now: u64,
        outside: &impl Outside,
    ) -> bool {
        let (to, cause) = match self.rules.probes.decide(probes) {
            Some(true) if self.rules.ramp.is_some() => (State::Recovering, Cause::ProbesSucceeded),
            Some(true) => (State::Closed, Cause::ProbesSucceeded),
            Some(false) => (State::Open, Cause::ProbesFailed),
            None => return false,
        };
        self.change(word, to, cause, asked, now, outside);
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
    pub(super) fn change(
        &self,
        from: Word,
        to: State,
        cause: Cause,
        asked: u64,
        now: u64,
        outside: &impl Outside,
    ) {
        let history = lock(&self.history);
        if self.load() == from {
            self.enter(history, to, cause, asked, now, outside);
        }
    }

    /// Lets the rules run it again, or sees to it that they do, as a shadow or not. What was forced
    /// ends as it does where its time is over.
    pub(super) fn run_by_rules(&self, observes: bool, outside: &impl Outside) {
        let now = outside.now();
        let history = lock(&self.history);
        let old = self.mode();
        self.observes.store(observes.into(), Release);
        let to = match self.load().state() {
            State::ForcedOpen => State::HalfOpen,
            State::ForcedClosed | State::Disabled => State::Closed,
            _ => {
                let new = self.mode();
                drop(history);
                if new != old {
                    self.desk.wake_all();
                    outside.mode_changed(old, new);
                }
                return;
            }
        };
        self.enter(history, to, Cause::Forced, 0, now, outside);
    }

    /// Forces the state, for so many nanoseconds or until told otherwise.
    pub(super) fn force(&self, to: State, nanos: Option<u64>, outside: &impl Outside) {
        let now = outside.now();
        let history = lock(&self.history);
        let until = nanos.map_or(FOREVER, |nanos| after(now, nanos));
        self.until.store(until, Release);
        self.enter(history, to, Cause::Forced, 0, now, outside);
    }

    /// Closes the breaker and forgets all that has been.
    pub(super) fn reset(&self, outside: &impl Outside) {
        let mut history = lock(&self.history);
        history.open_time = Position::START;
        self.enter(
            history,
            State::Closed,
            Cause::Reset,
            0,
            outside.now(),
            outside,
        );
    }

    fn enter(
        &self,
        mut history: MutexGuard<'_, History>,
        to: State,
        cause: Cause,
        asked: u64,
        now: u64,
        outside: &impl Outside,
    ) {
        let word = self.load();
        let next = word.change(to);
        let generation = next.generation();
        match to {
            State::Open => {
                let closed_for = now.saturating_sub(history.closed_at);
                if word.is(State::Closed) && closed_for >= self.rules.lasting_nanos {
                    history.open_time = Position::START;
                }
                let open_time = self.open_time(&mut history.open_time, outside.random());
                let asked = asked.min(self.rules.longest_asked_nanos);
                self.until
                    .store(after(now, nanos(open_time).max(asked)), Release);
            }
            State::HalfOpen => {
                let round = Probes::round(generation);
                self.probes.store(round.pack(), Release);
            }
            State::Recovering => {
                let ramp = self.rules.ramp.as_ref().map_or(0, Steps::nanos);
                self.until.store(after(now, ramp), Release);
                self.portion
                    .store(Portion::begin(generation).pack(), Release);
            }
            State::Closed => history.closed_at = now,
            State::ForcedOpen | State::ForcedClosed | State::Disabled => {}
        }
        if to.is_counting() {
            self.rules.trip.begin(generation);
        }
        let open_since = if to.lets_all_pass() {
            history.open_since.take()
        } else {
            history.open_since.get_or_insert(now);
            None
        };
        history.cause = Some(cause);
        history.changes += 1;
        self.word.store(next.0, Release);
        let change = Change {
            number: history.changes,
            from: word.state(),
            to,
            cause,
            mode: self.mode(),
            at: now,
            ends_in: self.ends_in(now),
            open_for: open_since.map(|since| Duration::from_nanos(now.saturating_sub(since))),
        };
        drop(history);
        self.desk.wake_all();
        outside.changed(change);
    }

    /// How much is left of the state, where time ends it. To be asked under the lock.
    fn ends_in(&self, now: u64) -> Option<Duration> {
        let until = match self.state() {
            State::Closed | State::HalfOpen | State::Disabled => FOREVER,
            _ => self.until.load(Acquire),
        };
        (until != FOREVER).then(|| Duration::from_nanos(until.saturating_sub(now)))
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

    pub(super) fn mode(&self) -> Mode {
        Mode::of(self.state(), self.observes())
    }

    /// What there is to see. Takes no probe's place and changes nothing.
    pub(super) fn snapshot(&self, outside: &impl Outside) -> Snapshot {
        let history = lock(&self.history);
        let word = self.load();
        let (state, generation) = (word.state(), word.generation());
        let now = outside.now();
        let trip = &self.rules.trip;
        Snapshot {
            state,
            mode: self.mode(),
            cause: history.cause,
            ends_in: self.ends_in(now),
            spared: self.spared.load(Relaxed),
            statistics: if state.is_counting() {
                trip.statistics(generation, now)
            } else {
                Statistics::default()
            },
        }
    }
}

/// Probes after `ended` more of them ended in this way.
const fn tally(probes: Probes, in_flight: u8, ended: u8, outcome: Outcome) -> Probes {
    let Outcome { failed, slow, tail } = outcome;
    Probes {
        in_flight,
        done: probes.done + ended,
        failed: probes.failed + if failed { ended } else { 0 },
        slow: probes.slow + if slow { ended } else { 0 },
        tail: probes.tail + if tail { ended } else { 0 },
        run: if failed { probes.run + ended } else { 0 },
        ..probes
    }
}
