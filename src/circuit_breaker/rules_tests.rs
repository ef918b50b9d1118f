//! How probes are judged, against every way in which a round can end.

use std::{num::NonZeroU32, time::Duration};

use super::{
    LatencyQuantile, Thresholds,
    rules::{ProbeRule, Quantile, Rates},
    word::Probes,
};
use crate::window::Outcome;

/// The least numbers that fail a round, as far as there are any.
#[derive(Clone, Copy, Debug)]
struct Limits {
    failed: Option<u8>,
    slow: Option<u8>,
    tail: Option<u8>,
    run: Option<u8>,
}

impl Limits {
    fn all(probes: u8) -> Vec<Self> {
        let numbers = || (0..=probes).map(|number| (number > 0).then_some(number));
        let mut all = Vec::new();
        for failed in numbers() {
            for slow in numbers() {
                for tail in numbers() {
                    all.extend(numbers().map(|run| Self {
                        failed,
                        slow,
                        tail,
                        run,
                    }));
                }
            }
        }
        all
    }

    fn rule(self, probes: u8) -> ProbeRule {
        let share = |number: u8| f64::from(number) / f64::from(probes);
        let rates = |thresholds| Rates::check(thresholds, None).unwrap();
        let failed = self
            .failed
            .map(|n| rates(Thresholds::failure_rate(share(n))));
        let slow = self
            .slow
            .map(|n| rates(Thresholds::slow_call_rate(share(n))));
        let windows: Vec<_> = failed.into_iter().chain(slow).collect();
        let run = self.run.and_then(|run| NonZeroU32::new(run.into()));
        let rule = ProbeRule::new(probes, run, windows.iter());
        match self.tail {
            // So many, and no fewer, are more than the rest.
            Some(number) => rule.with_quantile(quantile(1.0 - share(number) + 0.5 * share(1))),
            None => rule,
        }
    }

    /// All that a probe may come to, as far as anybody looks at it.
    fn outcomes(self) -> impl Iterator<Item = Outcome> {
        (0..8_u8).filter_map(move |bits| {
            let outcome = Outcome {
                failed: bits & 1 != 0,
                slow: bits & 2 != 0,
                tail: bits & 4 != 0,
            };
            let is_seen =
                (self.slow.is_some() || !outcome.slow) && (self.tail.is_some() || !outcome.tail);
            is_seen.then_some(outcome)
        })
    }

    /// Whether a round that ended like this is one that failed.
    fn fail(self, round: &[Outcome]) -> bool {
        let failed = round.iter().filter(|it| it.failed).count();
        let slow = round.iter().filter(|it| it.slow).count();
        let tail = round.iter().filter(|it| it.tail).count();
        let longest = round.split(|it| !it.failed).map(<[_]>::len).max();
        let reaches = |number: usize, limit: Option<u8>| {
            limit.is_some_and(|limit| number >= usize::from(limit))
        };
        reaches(failed, self.failed)
            || reaches(slow, self.slow)
            || reaches(tail, self.tail)
            || reaches(longest.unwrap_or(0), self.run)
    }

    /// The answer that all ends of a round agree upon which began like this.
    fn answer(self, probes: u8, began: &mut Vec<Outcome>) -> Option<bool> {
        if began.len() == usize::from(probes) {
            return Some(!self.fail(began));
        }
        let mut answer = None;
        for outcome in self.outcomes() {
            began.push(outcome);
            let of_this = self.answer(probes, began);
            began.pop();
            match (answer, of_this?) {
                (None, of_this) => answer = Some(of_this),
                (Some(answer), of_this) if answer == of_this => {}
                _ => return None,
            }
        }
        answer
    }
}

fn quantile(share: f64) -> Quantile {
    Quantile::check(LatencyQuantile::above(share, Duration::MAX)).unwrap()
}

fn probes(round: &[Outcome]) -> Probes {
    let number = |is: fn(&&Outcome) -> bool| round.iter().filter(is).count() as u8;
    Probes {
        done: round.len() as u8,
        failed: number(|it| it.failed),
        slow: number(|it| it.slow),
        tail: number(|it| it.tail),
        run: round.iter().rev().take_while(|it| it.failed).count() as u8,
        ..Probes::default()
    }
}

#[test]
fn a_round_is_decided_as_soon_as_what_is_to_come_cannot_change_it_and_no_sooner() {
    fn walk(limits: Limits, of: u8, round: &mut Vec<Outcome>, rule: ProbeRule) {
        let decided = rule.decide(probes(round));
        assert_eq!(decided, limits.answer(of, round), "{limits:?}: {round:?}");
        if decided.is_none() {
            for outcome in limits.outcomes() {
                round.push(outcome);
                walk(limits, of, round, rule);
                round.pop();
            }
        }
    }
    for of in 1..=4 {
        // Of four probes with all limits there are too many ways to end.
        let is_few = |it: &Limits| of < 4 || it.slow.is_none() || it.tail.is_none();
        for limits in Limits::all(of).into_iter().filter(is_few) {
            walk(limits, of, &mut Vec::new(), limits.rule(of));
        }
    }
}

#[test]
fn no_more_are_admitted_than_the_round_has() {
    for of in [1, 2, 3, 254] {
        let limits = Limits {
            failed: Some(of),
            slow: None,
            tail: None,
            run: None,
        };
        let rule = limits.rule(of);
        for done in 0..=of {
            let mut now = Probes {
                done,
                ..Probes::default()
            };
            let mut admitted = 0;
            while let Some(more) = rule.admit(now) {
                now = more;
                admitted += 1;
            }
            assert_eq!(admitted, of - done);
        }
    }
}

#[test]
fn a_share_of_the_window_is_the_same_share_of_the_probes_rounded_up() {
    let fails_at = |share, of: u8| {
        let rates = Rates::check(Thresholds::failure_rate(share), None).unwrap();
        let rule = ProbeRule::new(of, None, [rates].iter());
        let failures = |failed| Probes {
            done: failed,
            failed,
            ..Probes::default()
        };
        (1..=of).find(|&failed| rule.decide(failures(failed)) == Some(false))
    };
    assert_eq!(fails_at(0.5, 3), Some(2));
    assert_eq!(fails_at(0.5, 4), Some(2));
    assert_eq!(fails_at(0.01, 3), Some(1));
    assert_eq!(fails_at(1.0, 254), Some(254));
}

#[test]
fn of_two_windows_the_stricter_judges() {
    let rates = |share| Rates::check(Thresholds::failure_rate(share), None).unwrap();
    let rule = ProbeRule::new(4, None, [rates(1.0), rates(0.5), rates(0.75)].iter());
    let failures = |failed| Probes {
        done: failed,
        failed,
        ..Probes::default()
    };
    assert_eq!(rule.decide(failures(1)), None);
    assert_eq!(rule.decide(failures(2)), Some(false));
}

#[test]
fn a_run_longer_than_the_round_is_cut_to_the_round() {
    let rule = ProbeRule::new(2, NonZeroU32::new(1_000), [].iter());
    let failures = |failed| Probes {
        done: failed,
        failed,
        run: failed,
        ..Probes::default()
    };
    assert_eq!(rule.decide(failures(1)), None);
    assert_eq!(rule.decide(failures(2)), Some(false));
}

#[test]
fn a_number_of_failures_larger_than_the_round_is_cut_to_the_round() {
    let fails_at = |number, of: u8| {
        let rates = Rates::check(Thresholds::failures(number), None).unwrap();
        let rule = ProbeRule::new(of, None, [rates].iter());
        let failures = |failed| Probes {
            done: failed,
            failed,
            ..Probes::default()
        };
        (1..=of).find(|&failed| rule.decide(failures(failed)) == Some(false))
    };
    assert_eq!(fails_at(2, 3), Some(2));
    assert_eq!(fails_at(1_000, 3), Some(3));
}

#[test]
fn half_of_the_round_is_judged_where_no_rule_looks_at_failures_and_only_there() {
    let fails_at = |rule: ProbeRule| {
        let failures = |failed| Probes {
            done: failed,
            failed,
            run: failed,
            ..Probes::default()
        };
        (1..=4).find(|&failed| rule.decide(failures(failed)) == Some(false))
    };
    let rule = |run, thresholds: &[Thresholds]| {
        let rates = |wanted: &Thresholds| Rates::check(*wanted, None).unwrap();
        let rates: Vec<_> = thresholds.iter().map(rates).collect();
        ProbeRule::new(4, NonZeroU32::new(run), rates.iter())
    };
    let watched = [Thresholds::watch_only()];
    assert!(rule(0, &watched).is_empty() && !rule(1, &watched).is_empty());
    assert_eq!(fails_at(rule(0, &watched).or_half()), Some(2));
    assert_eq!(
        fails_at(rule(0, &[Thresholds::slow_call_rate(1.0)]).or_half()),
        Some(2)
    );
    assert_eq!(fails_at(rule(3, &watched).or_half()), Some(3));
    assert_eq!(
        fails_at(rule(0, &[Thresholds::failure_rate(1.0)]).or_half()),
        Some(4)
    );
    assert_eq!(
        fails_at(rule(0, &[Thresholds::failures(3)]).or_half()),
        Some(3)
    );
}

#[test]
fn a_round_of_probes_fits_its_word() {
    let round = Probes {
        round: (1 << 16) - 1,
        in_flight: 1,
        done: 2,
        failed: 3,
        slow: 253,
        tail: 254,
        run: 255,
    };
    assert_eq!(Probes::unpack(round.pack()), round);
    assert!(round.is_of(u32::MAX) && !round.is_of(0));
    assert!(Probes::round(1 << 16).is_of(0));
}
