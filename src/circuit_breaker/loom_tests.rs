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
    Cause, State, Thresholds,
    machine::{Change, Machine, Outside, Pass, Refusal, Rules},
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
}

impl Breaker {
    /// Trips at so many failures in a row, or where all of two calls fail.
    fn new(run: u32, probes: u8) -> Self {
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
            open_time: open_time.with_jitter(Jitter::None),
            lasting_nanos: u64::MAX,
        };
        Self(Arc::new(Shared {
            machine: Machine::new(rules),
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

    fn advance(&self, nanos: u64) {
        self.0.now.fetch_add(nanos, SeqCst);
    }

    fn admit(&self) -> Result<Pass, Refusal> {
        self.0.machine.admit(self)
    }

    fn settle(&self, pass: Pass, outcome: Outcome) {
        self.0.machine.settle(pass, outcome, || self.now(), self);
    }

    fn forgo(&self, pass: Pass) {
        self.0.machine.forgo(pass);
    }

    fn force(&self, to: State) {
        self.0.machine.force(to, None, self);
    }

    fn state(&self) -> State {
        self.0.machine.state()
    }

    /// How often it went from one state to another, and why.
    fn times(&self, from: State, to: State, cause: Cause) -> usize {
        let change = Change { from, to, cause };
        let changes = self.0.changes.lock().unwrap();
        changes.iter().filter(|it| **it == change).count()
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
    for to in [State::ForcedOpen, State::ForcedClosed] {
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
