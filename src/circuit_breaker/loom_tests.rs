//! The state machine under every interleaving of calls, results, hung probes and forced states.
#![allow(
    clippy::disallowed_types,
    reason = "what only holds the machine together needs no exploring"
)]

use std::{
    num::{NonZeroU16, NonZeroU32},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use loom::thread;

use super::{
    Cause, Mode, Ramp, State, Thresholds,
    ask::Refusal,
    desk::Waiting,
    held::Held,
    machine::{Change, Machine, Outside, Pass, Rules},
    rules::Rates,
    trip::{Run, Trip},
};
use crate::{
    backoff::{Backoff, Jitter},
    window::{CountWindow, Counts, Outcome},
};

const GOOD: Outcome = Outcome::GOOD;
const FAILED: Outcome = Outcome::FAILED;

/// In nanoseconds. The second open time is twice as long.
const OPEN_TIME: u64 = 10;
const PROBE_TIME: u64 = 5;
const STEP: u64 = 7;

/// All ways in which the threads take turns, as far as one interrupts another so many times.
fn explore(interruptions: usize, test: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(interruptions);
    builder.check(test);
}

/// A machine and its world, for all threads.
#[derive(Clone)]
struct Breaker(Arc<Shared>);

struct Shared {
    machine: Machine,
    now: AtomicU64,
    changes: std::sync::Mutex<Vec<Change>>,
}

impl Outside for Breaker {
    fn now(&self) -> u64 {
        self.0.now.load(SeqCst)
    }

    fn random(&self) -> u64 {
        0
    }

    fn changed(&self, change: Change) {
        self.0.changes.lock().unwrap().push(change);
    }

    fn rule_panicked(&self) {
        unreachable!("there is no such rule");
    }

    fn mode_changed(&self, _: Mode, _: Mode) {}

    fn spared(&self) {}
}

impl Breaker {
    /// Trips at so many failures in a row, or where all of two calls fail.
    fn new(run: u32, probes: u8) -> Self {
        Self::with_ramp(run, probes, None)
    }

    fn with_ramp(run: u32, probes: u8, ramp: Option<Ramp>) -> Self {
        let window = CountWindow::new(NonZeroU16::new(2).unwrap());
        let thresholds = Thresholds::failure_rate(1.0).minimum_calls(2);
        let rates = Rates::check(thresholds, Some(2)).unwrap();
        let ns = Duration::from_nanos;
        let open_time = Backoff::exponential(ns(OPEN_TIME), ns(1_000)).unwrap();
        let trip = Trip {
            run: NonZeroU32::new(run).map(Run::new),
            count: Some((window, rates)),
            always: None,
        };
        let rules = Rules {
            probes: trip.probe_rule(probes),
            trip,
            probe_nanos: PROBE_TIME,
            longest_asked_nanos: 0,
            open_time: open_time.with_jitter(Jitter::None),
            ramp: ramp.map(|ramp| ramp.check().unwrap()),
            lasting_nanos: u64::MAX,
        };
        Self(Arc::new(Shared {
            machine: Machine::new(rules, Mode::Enabled),
            now: AtomicU64::new(0),
            changes: std::sync::Mutex::default(),
        }))
    }

    /// One that a failure has opened, at the end of its open time.
    fn opened(probes: u8) -> Self {
        let breaker = Self::new(1, probes);
        let pass = breaker.admit().unwrap();
        breaker.settle(pass, FAILED);
        breaker.advance(OPEN_TIME);
        breaker
    }

    /// One that recovers in a step of so many nanoseconds, at half of the calls.
    fn recovering() -> Self {
        let ramp = Ramp::steps([0.5], Duration::from_nanos(STEP));
        let breaker = Self::with_ramp(1, 1, Some(ramp));
        let pass = breaker.admit().unwrap();
        breaker.settle(pass, FAILED);
        breaker.advance(OPEN_TIME);
        let probe = breaker.admit().unwrap();
        breaker.settle(probe, GOOD);
        assert_eq!(breaker.state(), State::Recovering);
        breaker
    }

    fn advance(&self, nanos: u64) {
        self.0.now.fetch_add(nanos, SeqCst);
    }

    fn admit(&self) -> Result<Pass, Refusal> {
        self.0.machine.admit(self)
    }

    fn settle(&self, pass: Pass, outcome: Outcome) {
        self.0.machine.settle(pass, outcome, 0, || self.now(), self);
    }

    fn forgo(&self, pass: Pass) {
        self.0.machine.forgo(pass);
    }

    fn force(&self, to: State) {
        self.0.machine.force(to, None, self);
    }

    fn observe(&self, observes: bool) {
        self.0.machine.run_by_rules(observes, self);
    }

    fn promise(&self) -> Result<Held, Refusal> {
        self.0.machine.promise(self)
    }

    fn state(&self) -> State {
        self.0.machine.state()
    }

    /// How often it went from one state to another, and why.
    fn times(&self, from: State, to: State, cause: Cause) -> usize {
        let changes = self.0.changes.lock().unwrap();
        let is_it = |it: &&Change| (it.from, it.to, it.cause) == (from, to, cause);
        changes.iter().filter(is_it).count()
    }

    fn changes(&self) -> usize {
        self.0.changes.lock().unwrap().len()
    }

    fn became_half_open(&self) -> usize {
        self.times(State::Open, State::HalfOpen, Cause::OpenTimeOver)
    }

    fn assert_empty(&self) {
        let statistics = self.0.machine.snapshot(self).statistics;
        assert_eq!(statistics.count_window, Some(Counts::default()));
        assert_eq!(statistics.consecutive_failures, 0);
    }
}

#[test]
fn at_the_end_of_the_open_time_one_of_two_is_the_probe() {
    explore(3, || {
        let breaker = Breaker::opened(1);
        let other = breaker.clone();
        let other = thread::spawn(move || other.admit().is_ok());
        let passed = breaker.admit().is_ok();
        assert_ne!(passed, other.join().unwrap());
        // The probe, however young, has not been taken for one that hangs.
        assert_eq!(breaker.state(), State::HalfOpen);
        assert_eq!(breaker.became_half_open(), 1);
        assert_eq!(breaker.changes(), 2);
    });
}

#[test]
fn at_the_end_of_the_open_time_two_of_three_are_probes() {
    explore(2, || {
        let breaker = Breaker::opened(2);
        let admit = |breaker: Breaker| thread::spawn(move || breaker.admit().is_ok());
        let others = [admit(breaker.clone()), admit(breaker.clone())];
        let passed = u32::from(breaker.admit().is_ok());
        let [first, second] = others.map(|other| u32::from(other.join().unwrap()));
        assert_eq!(passed + first + second, 2);
        assert_eq!(breaker.changes(), 2);
    });
}

#[test]
fn a_probe_admitted_late_in_a_round_is_not_taken_for_the_one_before_it() {
    explore(5, || {
        let breaker = Breaker::opened(2);
        let first = breaker.admit().unwrap();
        breaker.settle(first, GOOD);
        breaker.advance(PROBE_TIME);
        // One place is left, and the probe that was there before it would be late by now.
        let other = breaker.clone();
        let other = thread::spawn(move || other.admit().is_ok());
        let passed = breaker.admit().is_ok();
        assert_ne!(passed, other.join().unwrap());
        assert_eq!(breaker.state(), State::HalfOpen);
    });
}

#[test]
fn no_more_probes_are_in_flight_than_there_may_be_while_others_say_nothing() {
    explore(3, || {
        let breaker = Breaker::opened(1);
        let in_flight = Arc::new(AtomicU64::new(0));
        let probe = {
            let breaker = breaker.clone();
            move || {
                if let Ok(pass) = breaker.admit() {
                    assert!(pass.is_probe());
                    assert_eq!(in_flight.fetch_add(1, SeqCst), 0, "two at once");
                    thread::yield_now();
                    in_flight.fetch_sub(1, SeqCst);
                    breaker.forgo(pass);
                }
            }
        };
        let other = thread::spawn(probe.clone());
        probe();
        other.join().unwrap();
        assert_eq!(breaker.changes(), 2);
        assert!(breaker.admit().is_ok(), "the place has come back");
        assert_eq!(breaker.admit(), Err(Refusal::UNKNOWN), "once");
    });
}

#[test]
fn the_probe_closes_it_and_the_other_passes_as_a_call_or_not_at_all() {
    explore(3, || {
        let breaker = Breaker::opened(1);
        let other = breaker.clone();
        let other = thread::spawn(move || {
            if let Ok(pass) = other.admit() {
                other.settle(pass, GOOD);
            }
        });
        if let Ok(pass) = breaker.admit() {
            breaker.settle(pass, GOOD);
        }
        other.join().unwrap();
        assert_eq!(breaker.state(), State::Closed);
        assert_eq!(breaker.became_half_open(), 1);
        assert_eq!(breaker.changes(), 3);
    });
}

#[test]
fn two_probes_that_end_at_once_decide_once() {
    for (outcomes, to) in [
        ([GOOD, GOOD], State::Closed),
        ([FAILED, FAILED], State::Open),
        ([GOOD, FAILED], State::Open),
    ] {
        explore(5, move || {
            let breaker = Breaker::opened(2);
            let (first, second) = (breaker.admit().unwrap(), breaker.admit().unwrap());
            let other = breaker.clone();
            let other = thread::spawn(move || other.settle(first, outcomes[0]));
            breaker.settle(second, outcomes[1]);
            other.join().unwrap();
            assert_eq!(breaker.state(), to);
            assert_eq!(breaker.changes(), 3);
        });
    }
}

#[test]
fn two_failures_that_trip_it_at_once_open_it_once() {
    explore(3, || {
        let breaker = Breaker::new(2, 1);
        let (first, second) = (breaker.admit().unwrap(), breaker.admit().unwrap());
        let other = breaker.clone();
        let other = thread::spawn(move || other.settle(first, FAILED));
        breaker.settle(second, FAILED);
        other.join().unwrap();
        assert_eq!(breaker.state(), State::Open);
        assert_eq!(breaker.changes(), 1);
        assert_eq!(
            breaker.admit(),
            Err(Refusal(OPEN_TIME)),
            "and not for longer"
        );
    });
}

#[test]
fn two_failures_reach_a_rate_together() {
    explore(3, || {
        let breaker = Breaker::new(100, 1);
        let (first, second) = (breaker.admit().unwrap(), breaker.admit().unwrap());
        let other = breaker.clone();
        let other = thread::spawn(move || other.settle(first, FAILED));
        breaker.settle(second, FAILED);
        other.join().unwrap();
        assert_eq!(breaker.state(), State::Open);
        assert_eq!(breaker.changes(), 1);
    });
}

#[test]
fn a_late_result_leaves_no_trace_in_a_breaker_that_is_reset() {
    for run in [1, 2] {
        explore(5, move || {
            let breaker = Breaker::new(run, 1);
            let pass = breaker.admit().unwrap();
            let other = breaker.clone();
            let other = thread::spawn(move || other.settle(pass, FAILED));
            breaker.0.machine.reset(&breaker);
            other.join().unwrap();
            assert_eq!(breaker.state(), State::Closed);
            breaker.assert_empty();
        });
    }
}

#[test]
fn a_late_result_takes_nothing_from_the_state_after_it() {
    explore(3, || {
        let breaker = Breaker::new(100, 1);
        let late = breaker.admit().unwrap();
        let other = breaker.clone();
        let other = thread::spawn(move || other.settle(late, FAILED));
        breaker.0.machine.reset(&breaker);
        let pass = breaker.admit().unwrap();
        breaker.settle(pass, FAILED);
        other.join().unwrap();
        let statistics = breaker.0.machine.snapshot(&breaker).statistics;
        assert_eq!(statistics.consecutive_failures, 1);
        assert_eq!(statistics.count_window.map(|counts| counts.failed), Some(1));
    });
}

#[test]
fn a_late_result_leaves_no_trace_in_a_breaker_that_its_probe_closes() {
    explore(5, || {
        let breaker = Breaker::new(1, 1);
        let (late, first) = (breaker.admit().unwrap(), breaker.admit().unwrap());
        breaker.settle(first, FAILED);
        breaker.advance(OPEN_TIME);
        let other = breaker.clone();
        let other = thread::spawn(move || other.settle(late, FAILED));
        let probe = breaker.admit().unwrap();
        breaker.settle(probe, GOOD);
        other.join().unwrap();
        assert_eq!(breaker.state(), State::Closed);
        assert_eq!(breaker.changes(), 3);
        breaker.assert_empty();
    });
}

#[test]
fn a_probe_of_an_earlier_round_leaves_the_next_alone() {
    explore(3, || {
        let breaker = Breaker::opened(2);
        let (late, first) = (breaker.admit().unwrap(), breaker.admit().unwrap());
        let other = breaker.clone();
        let other = thread::spawn(move || other.settle(late, GOOD));
        breaker.settle(first, FAILED);
        breaker.advance(2 * OPEN_TIME);
        let probes = [breaker.admit(), breaker.admit()];
        other.join().unwrap();
        assert!(probes.iter().all(Result::is_ok));
        assert_eq!(breaker.admit(), Err(Refusal::UNKNOWN));
        for probe in probes {
            assert_eq!(breaker.state(), State::HalfOpen);
            breaker.settle(probe.unwrap(), GOOD);
        }
        assert_eq!(breaker.state(), State::Closed);
    });
}

#[test]
fn what_is_forced_stays_forced_whatever_a_running_call_says() {
    for to in [State::ForcedOpen, State::ForcedClosed, State::Disabled] {
        explore(5, move || {
            let breaker = Breaker::new(1, 1);
            let pass = breaker.admit().unwrap();
            let other = breaker.clone();
            let other = thread::spawn(move || other.settle(pass, FAILED));
            breaker.force(to);
            other.join().unwrap();
            assert_eq!(breaker.state(), to);
            assert_eq!(
                breaker.times(to, State::Open, Cause::ConsecutiveFailures),
                0
            );
            assert!(breaker.changes() <= 2);
        });
    }
}

#[test]
fn what_is_forced_stays_forced_whatever_the_probe_says() {
    explore(5, || {
        let breaker = Breaker::opened(1);
        let other = breaker.clone();
        let other = thread::spawn(move || {
            if let Ok(pass) = other.admit() {
                other.settle(pass, GOOD);
            }
        });
        breaker.force(State::ForcedOpen);
        other.join().unwrap();
        assert_eq!(breaker.state(), State::ForcedOpen);
        assert_eq!(breaker.admit(), Err(Refusal::UNKNOWN), "for ever");
    });
}

#[test]
fn a_hung_probe_decides_by_its_result_or_by_its_silence_but_once() {
    explore(5, || {
        let breaker = Breaker::opened(1);
        let hung = breaker.admit().unwrap();
        breaker.advance(PROBE_TIME);
        let other = breaker.clone();
        let other = thread::spawn(move || other.settle(hung, GOOD));
        let admitted = breaker.admit();
        other.join().unwrap();
        assert_eq!(breaker.changes(), 3);
        match breaker.state() {
            State::Closed => assert!(admitted.is_ok() || admitted == Err(Refusal::UNKNOWN)),
            State::Open => assert_eq!(admitted, Err(Refusal(2 * OPEN_TIME))),
            state => panic!("{state:?}"),
        }
    });
}

#[test]
fn a_hung_probe_that_fails_after_all_opens_it_once() {
    explore(2, || {
        let breaker = Breaker::opened(1);
        let hung = breaker.admit().unwrap();
        breaker.advance(PROBE_TIME);
        let (settles, admits) = (breaker.clone(), breaker.clone());
        let settles = thread::spawn(move || settles.settle(hung, FAILED));
        let admits = thread::spawn(move || admits.admit());
        let admitted = [breaker.admit(), admits.join().unwrap()];
        settles.join().unwrap();
        assert_eq!(admitted, [Err(Refusal(2 * OPEN_TIME)); 2]);
        assert_eq!(breaker.changes(), 3);
    });
}

#[test]
fn a_hung_probe_that_was_given_up_is_not_counted_twice() {
    explore(5, || {
        // The round fails where both do.
        let breaker = Breaker::new(2, 2);
        for _ in 0..2 {
            let pass = breaker.admit().unwrap();
            breaker.settle(pass, FAILED);
        }
        breaker.advance(OPEN_TIME);
        let (first, second) = (breaker.admit().unwrap(), breaker.admit().unwrap());
        breaker.advance(PROBE_TIME);
        let other = breaker.clone();
        let other = thread::spawn(move || other.forgo(first));
        let admitted = breaker.admit();
        other.join().unwrap();
        if admitted == Err(Refusal::UNKNOWN) {
            // The second was given up while the first made room.
            breaker.settle(second, GOOD);
            assert_eq!(breaker.state(), State::HalfOpen);
            let third = breaker.admit().unwrap();
            breaker.settle(third, FAILED);
            assert_eq!(breaker.state(), State::Open);
        }
    });
}

#[test]
fn a_hung_probe_that_says_nothing_after_all_makes_room_or_opens_it() {
    explore(5, || {
        let breaker = Breaker::opened(1);
        let hung = breaker.admit().unwrap();
        breaker.advance(PROBE_TIME);
        let other = breaker.clone();
        let other = thread::spawn(move || other.forgo(hung));
        let admitted = breaker.admit();
        other.join().unwrap();
        match (breaker.state(), admitted) {
            (State::HalfOpen, Ok(pass)) => {
                assert_eq!(breaker.admit(), Err(Refusal::UNKNOWN));
                breaker.settle(pass, GOOD);
                assert_eq!(breaker.state(), State::Closed);
            }
            (State::HalfOpen, Err(_)) => assert!(breaker.admit().is_ok(), "the place is lost"),
            (State::Open, _) => assert_eq!(breaker.changes(), 3),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn what_is_forced_closed_shows_no_trace_of_a_call_that_ran_before() {
    explore(5, || {
        let breaker = Breaker::new(100, 1);
        let pass = breaker.admit().unwrap();
        let other = breaker.clone();
        let other = thread::spawn(move || other.settle(pass, FAILED));
        breaker.force(State::ForcedClosed);
        other.join().unwrap();
        breaker.assert_empty();
    });
}

#[test]
fn a_running_call_keeps_its_say_while_it_becomes_a_shadow() {
    explore(5, || {
        let breaker = Breaker::new(1, 1);
        let pass = breaker.admit().unwrap();
        let other = breaker.clone();
        let other = thread::spawn(move || other.settle(pass, FAILED));
        breaker.observe(true);
        other.join().unwrap();
        assert_eq!(breaker.state(), State::Open);
        assert_eq!(breaker.changes(), 1);
        assert_eq!(breaker.admit(), Ok(Pass::SPARED));
    });
}

#[test]
fn a_call_to_an_open_breaker_that_becomes_a_shadow_is_refused_or_spared() {
    explore(5, || {
        let breaker = Breaker::opened(1);
        // Its probe is taken.
        let probe = breaker.admit().unwrap();
        let other = breaker.clone();
        let other = thread::spawn(move || other.admit());
        breaker.observe(true);
        match other.join().unwrap() {
            Err(refusal) => assert_eq!(refusal, Refusal::UNKNOWN),
            Ok(pass) => {
                assert_eq!(pass, Pass::SPARED);
                breaker.settle(pass, FAILED);
                breaker.forgo(pass);
            }
        }
        assert_eq!(breaker.state(), State::HalfOpen);
        breaker.settle(probe, GOOD);
        assert_eq!(breaker.state(), State::Closed);
    });
}

#[test]
fn what_ends_being_disabled_ends_it_once_and_what_it_let_pass_has_no_say() {
    explore(5, || {
        let breaker = Breaker::new(1, 1);
        breaker.force(State::Disabled);
        let pass = breaker.admit().unwrap();
        let other = breaker.clone();
        let other = thread::spawn(move || {
            other.settle(pass, FAILED);
            other.observe(false);
        });
        breaker.observe(false);
        other.join().unwrap();
        assert_eq!(breaker.state(), State::Closed);
        assert_eq!(breaker.changes(), 2);
        breaker.assert_empty();
    });
}

#[test]
fn of_calls_that_come_at_once_to_a_ramp_exactly_its_share_passes() {
    explore(3, || {
        let breaker = Breaker::recovering();
        let other = breaker.clone();
        let passed = |breaker: &Breaker| {
            let answers = [breaker.admit(), breaker.admit()];
            answers.iter().filter(|answer| answer.is_ok()).count()
        };
        let other = thread::spawn(move || passed(&other));
        assert_eq!(passed(&breaker) + other.join().unwrap(), 2);
        assert_eq!(breaker.state(), State::Recovering);
    });
}

#[test]
fn a_ramp_that_is_over_closes_it_once() {
    explore(5, || {
        let breaker = Breaker::recovering();
        breaker.advance(STEP);
        let other = breaker.clone();
        let other = thread::spawn(move || other.admit().is_ok());
        assert!(breaker.admit().is_ok());
        assert!(other.join().unwrap());
        assert_eq!(breaker.state(), State::Closed);
        assert_eq!(breaker.changes(), 4);
    });
}

#[test]
fn a_ramp_ends_by_time_or_by_a_failure_and_not_by_both() {
    explore(5, || {
        let breaker = Breaker::recovering();
        let pass = breaker.admit().unwrap();
        breaker.advance(STEP);
        let other = breaker.clone();
        let other = thread::spawn(move || other.settle(pass, FAILED));
        let admitted = breaker.admit();
        other.join().unwrap();
        assert_eq!(breaker.changes(), 4);
        match breaker.state() {
            State::Closed => {
                assert!(admitted.is_ok());
                breaker.assert_empty();
            }
            // That of the state, or of a step that is about to be over.
            State::Open => {
                let refusals = [2 * OPEN_TIME, STEP].map(|nanos| Err(Refusal(nanos)));
                assert!(refusals.contains(&admitted), "{admitted:?}");
            }
            state => panic!("{state:?}"),
        }
    });
}

#[test]
fn a_call_to_a_ramp_that_ends_by_hand_passes_before_or_is_refused_after() {
    explore(3, || {
        let breaker = Breaker::recovering();
        let other = breaker.clone();
        let other = thread::spawn(move || other.admit());
        breaker.force(State::ForcedOpen);
        match other.join().unwrap() {
            Ok(pass) => assert!(pass.is_to_recovering()),
            Err(refusal) => assert_eq!(refusal, Refusal::UNKNOWN),
        }
    });
}

#[test]
fn who_asks_of_one_ramp_takes_no_turn_of_the_next() {
    explore(2, || {
        let breaker = Breaker::recovering();
        // The first of the ramp passes, so that the second does not.
        let pass = breaker.admit().unwrap();
        let other = breaker.clone();
        let other = thread::spawn(move || other.admit());
        breaker.settle(pass, FAILED);
        breaker.advance(2 * OPEN_TIME);
        if let Ok(probe) = breaker.admit() {
            breaker.settle(probe, GOOD);
        }
        assert_ne!(other.join().unwrap(), Ok(pass));
    });
}

#[test]
fn of_two_who_ask_for_a_promise_and_a_call_one_has_the_place() {
    explore(2, || {
        let breaker = Breaker::opened(1);
        let promise = |breaker: Breaker| thread::spawn(move || breaker.promise().is_ok());
        let others = [promise(breaker.clone()), promise(breaker.clone())];
        let passed = u32::from(breaker.admit().is_ok());
        let [first, second] = others.map(|other| u32::from(other.join().unwrap()));
        assert_eq!(passed + first + second, 1);
        assert_eq!(breaker.state(), State::HalfOpen);
    });
}

/// Somebody who waits to be told ready, as a service does.
struct Waiter {
    breaker: Breaker,
    waiting: Option<Waiting>,
    woken: Arc<Bell>,
}

#[derive(Default)]
struct Bell(std::sync::atomic::AtomicBool);

impl std::task::Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.store(true, SeqCst);
    }
}

impl Waiter {
    fn new(breaker: &Breaker) -> Self {
        Self {
            breaker: breaker.clone(),
            waiting: None,
            woken: Arc::default(),
        }
    }

    fn poll(&mut self) -> Option<Held> {
        let desk = &self.breaker.0.machine.desk;
        desk.wait(&mut self.waiting, &self.woken.clone().into());
        self.breaker.promise().ok()
    }

    /// Told ready, or woken to ask again with success.
    fn assert_served(mut self, polled: Option<Held>) -> Held {
        polled.unwrap_or_else(|| {
            assert!(self.woken.0.load(SeqCst), "nobody woke it");
            self.poll().expect("it was woken for nothing")
        })
    }
}

#[test]
fn a_promise_given_back_goes_to_who_waits() {
    explore(5, || {
        let breaker = Breaker::opened(1);
        let held = breaker.promise().unwrap();
        let other = breaker.clone();
        let other = thread::spawn(move || other.0.machine.give_back(held));
        let mut waiter = Waiter::new(&breaker);
        let polled = waiter.poll();
        other.join().unwrap();
        let held = waiter.assert_served(polled);
        assert!(breaker.promise().is_err(), "one place");
        breaker.0.machine.give_back(held);
        assert!(breaker.promise().is_ok());
    });
}

#[test]
fn a_probe_that_closes_it_lets_in_who_waits() {
    explore(5, || {
        let breaker = Breaker::opened(1);
        let probe = breaker.admit().unwrap();
        let other = breaker.clone();
        let other = thread::spawn(move || other.settle(probe, GOOD));
        let mut waiter = Waiter::new(&breaker);
        let polled = waiter.poll();
        other.join().unwrap();
        assert!(matches!(waiter.assert_served(polled), Held::Nothing));
    });
}

#[test]
fn becoming_a_shadow_lets_in_who_waits() {
    explore(5, || {
        let breaker = Breaker::opened(1);
        let _probe = breaker.admit().unwrap();
        let other = breaker.clone();
        let other = thread::spawn(move || other.observe(true));
        let mut waiter = Waiter::new(&breaker);
        let polled = waiter.poll();
        other.join().unwrap();
        assert!(matches!(waiter.assert_served(polled), Held::Nothing));
    });
}

#[test]
fn a_promise_that_lapses_while_it_is_taken_up_is_one_probe() {
    explore(5, || {
        let breaker = Breaker::opened(1);
        let held = breaker.promise().unwrap();
        breaker.advance(PROBE_TIME);
        let other = breaker.clone();
        let other = thread::spawn(move || other.0.machine.take_up(held, &other));
        let admitted = breaker.admit();
        let taken_up = other.join().unwrap();
        // Neither has counted as a failure.
        assert_eq!(breaker.state(), State::HalfOpen);
        assert_eq!(breaker.changes(), 2);
        assert_ne!(
            admitted.is_ok(),
            taken_up.is_some(),
            "{admitted:?} {taken_up:?}"
        );
    });
}

#[test]
fn a_promise_given_back_while_the_round_ends_takes_nothing_from_the_next() {
    explore(3, || {
        let breaker = Breaker::opened(2);
        let (held, probe) = (breaker.promise().unwrap(), breaker.admit().unwrap());
        let other = breaker.clone();
        let other = thread::spawn(move || other.0.machine.give_back(held));
        breaker.settle(probe, FAILED);
        breaker.advance(2 * OPEN_TIME);
        let probes = [breaker.admit(), breaker.admit()];
        other.join().unwrap();
        assert!(probes.iter().all(Result::is_ok));
        assert_eq!(breaker.admit(), Err(Refusal::UNKNOWN));
    });
}

#[test]
fn a_promise_taken_up_while_it_is_forced_is_good_before_or_not_at_all() {
    explore(5, || {
        let breaker = Breaker::opened(1);
        let held = breaker.promise().unwrap();
        let other = breaker.clone();
        let other = thread::spawn(move || {
            if let Some(pass) = other.0.machine.take_up(held, &other) {
                other.settle(pass, FAILED);
            }
        });
        breaker.force(State::ForcedClosed);
        other.join().unwrap();
        assert_eq!(breaker.state(), State::ForcedClosed);
        breaker.assert_empty();
    });
}
