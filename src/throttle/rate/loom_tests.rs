//! Every interleaving of what calls of several threads do to one rate.

use loom::thread;

use super::{
    learner::{Asked, Bounds, Learner},
    measured::Measured,
    pace::{Gap, Pace},
};
use crate::sync::ConstArc;

const SECOND: u64 = 1_000_000_000;

const BOUNDS: Bounds = Bounds {
    min_rate: 0.5,
    burst: 0,
    max_wait: 10 * SECOND,
    forget_after: u64::MAX,
};

#[test]
fn loom_two_throttling_answers_of_one_phase_lower_the_rate_once() {
    loom::model(|| {
        let learner = ConstArc::new(Learner::new(BOUNDS));
        let phase = learner.phase();
        let other = {
            let learner = learner.clone();
            thread::spawn(move || learner.throttled(phase, 10))
        };
        let first = learner.throttled(phase, 10);
        assert!(first != other.join().unwrap());
        assert!(learner.phase().is_limited());
    });
}

#[test]
fn loom_who_sees_a_limit_sees_its_rate() {
    loom::model(|| {
        let learner = ConstArc::new(Learner::new(BOUNDS));
        let phase = learner.phase();
        let other = {
            let learner = learner.clone();
            thread::spawn(move || learner.throttled(phase, 2 * SECOND))
        };
        if learner.phase().is_limited() {
            assert!(learner.limit().unwrap() >= BOUNDS.min_rate);
            let asked = learner.ask(2 * SECOND, u64::MAX);
            assert!(matches!(asked, Asked::Turn(turn) if turn.at == 2 * SECOND));
        }
        other.join().unwrap();
    });
}

#[test]
fn loom_each_turn_is_had_by_one() {
    loom::model(|| {
        let gap = Gap {
            nanos: 10,
            early: 0,
        };
        let pace = ConstArc::new(Pace::new());
        let other = {
            let pace = pace.clone();
            thread::spawn(move || {
                let dropped = pace.take(gap, 100, 200).unwrap();
                pace.give_back(dropped);
                pace.take(gap, 100, 200).unwrap().at
            })
        };
        let one = pace.take(gap, 100, 200).unwrap().at;
        let other = other.join().unwrap();
        // Of three turns two are had, and the next is the third, however it went.
        let next = pace.take(gap, 100, 200).unwrap().at;
        assert_eq!(next, 120, "{one} {other}");
    });
}

#[test]
fn loom_every_answer_is_counted_whoever_begins_the_half_second() {
    loom::model(|| {
        let measured = ConstArc::new(Measured::new());
        let other = {
            let measured = measured.clone();
            thread::spawn(move || measured.count(SECOND))
        };
        measured.count(SECOND);
        other.join().unwrap();
        // Either was counted to the second before, or the later one to that which began.
        let smoothed = |before: f64, since: f64| 0.8 * (since + 1.0) + 0.2 * 0.8 * before;
        let found = measured.count(2 * SECOND);
        let expected = [smoothed(2.0, 0.0), smoothed(1.0, 1.0)];
        assert!(
            expected.iter().any(|it| (it - found).abs() < 1e-9),
            "{found}"
        );
    });
}
