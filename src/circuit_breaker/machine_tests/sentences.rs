//! What the machine promises, a sentence at a time; the model looks on.

use super::*;
use crate::circuit_breaker::Cause;

const BOTH: Outcome = Outcome {
    slow: true,
    ..FAILED
};

/// One rule that never trips by itself, one probe, 10 ms open, then 20, 40 and 80.
fn settings() -> Settings {
    Settings {
        run: Some(1_000_000),
        count: None,
        time: None,
        ewma: None,
        latency: None,
        own: None,
        probes: 1,
        probe_nanos: 5 * MS,
        open_base: 10 * MS,
        open_cap: 80 * MS,
        jitter: false,
        ramp: None,
        lasting_nanos: u64::MAX,
    }
}

fn failed(percent: u64, minimum: u32) -> Bounds {
    Bounds {
        failures: None,
        failed: Some(percent),
        slow: None,
        minimum,
    }
}

impl Pair {
    fn calls(&mut self, times: usize, outcome: Outcome) -> &mut Self {
        self.run(&Step::Calls(times, outcome));
        self
    }

    fn after(&mut self, nanos: u64) -> &mut Self {
        self.run(&Step::Advance(nanos));
        self
    }

    fn state(&self) -> State {
        self.machine.state()
    }

    fn cause(&self) -> Option<Cause> {
        self.machine.snapshot(&self.world).cause
    }
}

/// A breaker that one failure opens.
fn brittle(settings: &Settings) -> Pair {
    Pair::new(&Settings {
        run: Some(1),
        ..settings.clone()
    })
}

#[test]
fn failures_in_a_row_trip_it_and_one_success_starts_the_row_anew() {
    let mut pair = Pair::new(&Settings {
        run: Some(5),
        ..settings()
    });
    pair.calls(4, FAILED).calls(1, GOOD).calls(4, FAILED);
    assert_eq!(pair.state(), State::Closed);
    pair.calls(1, FAILED);
    assert_eq!(pair.cause(), Some(Cause::ConsecutiveFailures));
}

#[test]
fn the_fiftieth_of_a_hundred_trips_it_whatever_came_before() {
    let pair = Pair::new(&Settings {
        run: None,
        count: Some((100, failed(50, 20))),
        ..settings()
    });
    for _ in 0..1_000_000 {
        let pass = pair.machine.admit(&pair.world).unwrap();
        if !pair.machine.is_unmoved_by_success(pass) {
            pair.machine.settle(pass, GOOD, 0, || 0, &pair.world);
        }
    }
    let Pair { machine, world, .. } = &pair;
    for failure in 1..=50 {
        assert_eq!(machine.state(), State::Closed, "failure {failure}");
        let pass = machine.admit(world).unwrap();
        machine.settle(pass, FAILED, 0, || 0, world);
    }
    assert_eq!(machine.state(), State::Open);
    assert_eq!(pair.cause(), Some(Cause::CountFailureRate));
}

#[test]
fn no_rate_is_judged_before_there_are_enough_calls() {
    let mut pair = Pair::new(&Settings {
        run: None,
        count: Some((10, failed(10, 6))),
        ..settings()
    });
    pair.calls(5, FAILED);
    assert_eq!(pair.state(), State::Closed);
    pair.calls(1, GOOD);
    assert_eq!(pair.state(), State::Open, "also by a call that is good");
}

#[test]
fn a_call_that_is_slow_and_fails_counts_once_in_each_rate() {
    let bounds = Bounds {
        failures: None,
        failed: Some(100),
        slow: Some(50),
        minimum: 4,
    };
    let mut pair = Pair::new(&Settings {
        run: None,
        count: Some((4, bounds)),
        ..settings()
    });
    pair.calls(1, BOTH).calls(3, GOOD);
    assert_eq!(pair.state(), State::Closed, "one of four is slow");
    pair.calls(2, SLOW);
    assert_eq!(pair.cause(), Some(Cause::CountSlowCallRate));
}

#[test]
fn calls_that_the_time_window_has_forgotten_do_not_trip_it() {
    let mut pair = Pair::new(&Settings {
        run: None,
        time: Some((MS, failed(50, 4))),
        ..settings()
    });
    pair.calls(3, FAILED).after(10 * MS).calls(3, FAILED);
    assert_eq!(pair.state(), State::Closed);
    pair.after(9 * MS).calls(1, FAILED);
    assert_eq!(pair.cause(), Some(Cause::TimeFailureRate));
}

#[test]
fn so_many_failures_trip_it_before_there_are_enough_calls_for_a_rate() {
    let bounds = Bounds {
        failures: Some(3),
        ..failed(100, 10)
    };
    let mut pair = Pair::new(&Settings {
        run: None,
        count: Some((10, bounds)),
        ..settings()
    });
    pair.calls(2, FAILED).calls(9, GOOD).calls(1, FAILED);
    assert_eq!(pair.state(), State::Closed, "two of the last ten");
    pair.calls(1, FAILED);
    assert_eq!(pair.state(), State::Closed, "the first has been pushed out");
    pair.calls(1, FAILED);
    assert_eq!(pair.cause(), Some(Cause::CountFailures));

    let mut pair = Pair::new(&Settings {
        run: None,
        time: Some((MS, bounds)),
        ..settings()
    });
    pair.calls(2, FAILED).after(10 * MS).calls(2, FAILED);
    assert_eq!(pair.state(), State::Closed, "two of the last 10 ms");
    pair.calls(1, FAILED);
    assert_eq!(pair.cause(), Some(Cause::TimeFailures));
}

#[test]
fn failures_fade_from_the_weighted_rate_with_the_time_constant() {
    let mut pair = Pair::new(&Settings {
        run: None,
        ewma: Some((16 * MS, failed(50, 4))),
        ..settings()
    });
    pair.calls(3, FAILED);
    assert_eq!(pair.state(), State::Closed, "too few to judge");
    // A time constant later they weigh 1.1, and three of 4.1 are good.
    pair.after(16 * MS).calls(3, GOOD);
    assert_eq!(pair.state(), State::Closed);
    pair.calls(1, FAILED);
    assert_eq!(pair.state(), State::Closed, "2.1 of 5.1");
    pair.calls(1, FAILED);
    assert_eq!(pair.cause(), Some(Cause::EwmaFailureRate));

    let mut pair = Pair::new(&Settings {
        run: None,
        ewma: Some((
            16 * MS,
            Bounds {
                failures: Some(3),
                ..failed(100, 100)
            },
        )),
        ..settings()
    });
    pair.calls(2, FAILED).after(MS).calls(1, FAILED);
    assert_eq!(pair.state(), State::Closed, "the first two weigh 1.9");
    pair.calls(1, FAILED);
    assert_eq!(pair.cause(), Some(Cause::EwmaFailures));
}

#[test]
fn what_the_weights_held_before_it_opened_is_forgotten_when_it_closes() {
    let mut pair = Pair::new(&Settings {
        run: Some(4),
        ewma: Some((1_000_000 * MS, failed(50, 5))),
        ..settings()
    });
    pair.calls(4, FAILED).after(10 * MS).calls(1, GOOD);
    assert_eq!(pair.state(), State::Closed);
    pair.calls(3, FAILED);
    assert_eq!(pair.state(), State::Closed);
}

#[test]
fn more_than_one_in_so_many_beyond_its_bound_trips_it_by_its_quantile() {
    // The p90 of ten calls is the ninth, of twenty the eighteenth.
    let mut pair = Pair::new(&Settings {
        run: None,
        latency: Some((MS, 90, 10)),
        ..settings()
    });
    pair.calls(9, TAIL);
    assert_eq!(pair.state(), State::Closed, "too few to judge");
    pair.after(10 * MS).calls(9, GOOD).calls(1, TAIL);
    assert_eq!(
        pair.state(),
        State::Closed,
        "one in ten is not more than that"
    );
    pair.calls(9, SLOW).calls(1, TAIL);
    assert_eq!(pair.state(), State::Closed, "two in twenty");
    pair.calls(
        1,
        Outcome {
            tail: true,
            ..FAILED
        },
    );
    assert_eq!(pair.cause(), Some(Cause::LatencyQuantile));
}

#[test]
fn a_rule_of_the_users_own_trips_it_where_no_other_does() {
    let mut pair = Pair::new(&Settings {
        run: None,
        count: Some((4, failed(50, 4))),
        own: Some(2),
        ..settings()
    });
    pair.calls(1, FAILED).calls(4, GOOD).calls(1, FAILED);
    assert_eq!(pair.state(), State::Closed);
    pair.calls(1, SLOW);
    assert_eq!(pair.cause(), Some(Cause::TripWhen));

    let mut pair = Pair::new(&Settings {
        run: Some(2),
        own: Some(2),
        ..settings()
    });
    pair.calls(2, FAILED);
    assert_eq!(pair.cause(), Some(Cause::ConsecutiveFailures));
}

#[test]
fn probes_that_hang_open_it_again_whatever_its_rules_look_at() {
    let slow = Bounds {
        failures: None,
        failed: None,
        slow: Some(100),
        minimum: 1,
    };
    let rules = [
        Settings {
            run: None,
            count: Some((4, slow)),
            ..settings()
        },
        Settings {
            run: None,
            latency: Some((MS, 99, 1)),
            ..settings()
        },
    ];
    for settings in rules {
        let mut pair = Pair::new(&settings);
        pair.run(&Step::Force(State::ForcedOpen, Some(0)));
        assert!(pair.call());
        pair.after(5 * MS).call();
        assert_eq!(pair.cause(), Some(Cause::ProbesFailed));
    }
}

#[test]
fn of_several_rules_any_trips_it_and_the_first_is_named() {
    let all = Settings {
        run: Some(3),
        count: Some((4, failed(50, 4))),
        time: Some((MS, failed(100, 5))),
        ..settings()
    };
    let mut pair = Pair::new(&all);
    pair.calls(3, FAILED);
    assert_eq!(pair.cause(), Some(Cause::ConsecutiveFailures));

    let mut pair = Pair::new(&all);
    pair.calls(2, FAILED).calls(2, GOOD);
    assert_eq!(pair.cause(), Some(Cause::CountFailureRate));

    let mut pair = Pair::new(&Settings {
        run: Some(6),
        count: Some((6, failed(100, 6))),
        ..all
    });
    pair.calls(5, FAILED);
    assert_eq!(pair.cause(), Some(Cause::TimeFailureRate));
}

#[test]
fn the_open_time_is_over_at_its_end_and_no_nanosecond_before() {
    let mut pair = brittle(&settings());
    pair.calls(1, FAILED).after(10 * MS - 1);
    assert_eq!(pair.machine.admit(&pair.world), Err(Refusal(1)));
    pair.after(1);
    assert!(pair.call());
    assert_eq!(pair.state(), State::HalfOpen);
}

#[test]
fn what_the_service_asks_for_makes_the_open_time_longer_up_to_its_cap_and_never_shorter() {
    let pair = brittle(&settings());
    let trip = |asked: u64| {
        let pass = pair.machine.admit(&pair.world).unwrap();
        pair.machine
            .settle(pass, FAILED, asked, || pair.world.now(), &pair.world);
        let Err(Refusal(open)) = pair.machine.admit(&pair.world) else {
            panic!("it is open");
        };
        pair.world.now.set(pair.world.now() + open);
        open
    };
    // Without being asked, each trip would be as long as twice the one before.
    assert_eq!(trip(7 * MS), 10 * MS);
    assert_eq!(trip(300 * MS), 300 * MS, "asked for by a probe");
    assert_eq!(trip(40 * MS), 40 * MS, "which has grown meanwhile");
    assert_eq!(trip(81 * MS), 81 * MS);
    assert_eq!(trip(0), 80 * MS);
    assert_eq!(trip(500 * MS), 500 * MS);
    assert_eq!(trip(501 * MS), 500 * MS, "the most that it may ask for");
    assert_eq!(trip(u64::MAX), 500 * MS);
}

#[test]
fn each_failed_round_doubles_the_open_time_up_to_its_cap() {
    let mut pair = brittle(&settings());
    for open_time in [10, 20, 40, 80, 80] {
        pair.calls(1, FAILED);
        assert_eq!(
            pair.machine.admit(&pair.world),
            Err(Refusal(open_time * MS))
        );
        pair.after(open_time * MS);
    }
}

#[test]
fn the_open_time_starts_over_only_once_it_stayed_closed_for_long() {
    let mut pair = brittle(&Settings {
        lasting_nanos: 100 * MS,
        ..settings()
    });
    let trip = |pair: &mut Pair, open_time: u64| {
        pair.calls(1, FAILED);
        assert_eq!(
            pair.machine.admit(&pair.world),
            Err(Refusal(open_time * MS))
        );
        pair.after(open_time * MS).calls(1, GOOD);
        assert_eq!(pair.state(), State::Closed);
    };
    trip(&mut pair, 10);
    trip(pair.after(100 * MS - 1), 20);
    trip(pair.after(100 * MS), 10);
}

#[test]
fn jitter_draws_the_open_time_anew_at_each_trip() {
    let mut pair = brittle(&Settings {
        jitter: true,
        ..settings()
    });
    pair.run(&Step::Random(1 << 63));
    pair.calls(1, FAILED);
    assert_eq!(pair.machine.admit(&pair.world), Err(Refusal(5 * MS)));
    pair.after(5 * MS).run(&Step::Random(u64::MAX));
    pair.calls(1, FAILED);
    assert_eq!(pair.machine.admit(&pair.world), Err(Refusal(20 * MS)));
}

#[test]
fn a_half_open_breaker_lets_its_probes_pass_at_once_and_no_other() {
    let mut pair = brittle(&Settings {
        probes: 3,
        ..settings()
    });
    pair.calls(1, FAILED).after(10 * MS);
    for _ in 0..3 {
        assert!(pair.call());
    }
    assert!(!pair.call());
    pair.settle(0, GOOD);
    assert!(!pair.call(), "a probe that ended makes no room");
}

#[test]
fn a_probe_that_says_nothing_makes_room_for_another() {
    let mut pair = brittle(&settings());
    pair.calls(1, FAILED).after(10 * MS);
    for _ in 0..10 {
        assert!(pair.call());
        assert!(!pair.call());
        pair.run(&Step::Forgo(0));
    }
    pair.calls(1, GOOD);
    assert_eq!(pair.cause(), Some(Cause::ProbesSucceeded));
}

#[test]
fn a_probe_that_hangs_is_given_up_at_its_bound_by_the_next_call() {
    let mut pair = brittle(&settings());
    pair.calls(1, FAILED).after(10 * MS);
    assert!(pair.call());
    pair.after(5 * MS - 1);
    assert!(!pair.call());
    assert_eq!(pair.state(), State::HalfOpen);
    pair.after(1);
    assert!(!pair.call());
    assert_eq!(pair.cause(), Some(Cause::ProbesFailed));
    // What becomes of it later is nobody's concern.
    pair.run(&Step::Settle(0, GOOD));
    assert_eq!(pair.state(), State::Open);
}

#[test]
fn a_hung_probe_decides_a_round_only_with_what_the_others_said() {
    // All three must fail.
    let mut pair = Pair::new(&Settings {
        run: None,
        count: Some((10, failed(100, 1))),
        probes: 3,
        ..settings()
    });
    pair.calls(1, FAILED).after(10 * MS);
    for _ in 0..3 {
        assert!(pair.call());
    }
    pair.settle(0, FAILED);
    pair.settle(0, FAILED);
    assert_eq!(pair.state(), State::HalfOpen);
    pair.after(5 * MS).call();
    assert_eq!(pair.cause(), Some(Cause::ProbesFailed));
}

#[test]
fn a_late_result_of_an_earlier_state_decides_nothing() {
    let mut pair = brittle(&settings());
    for _ in 0..3 {
        pair.call();
    }
    pair.settle(0, FAILED);
    pair.after(10 * MS);
    assert!(pair.call(), "the probe");
    // Those of the closed state neither close nor open it, nor take the probe's place.
    pair.run(&Step::Settle(0, GOOD));
    pair.run(&Step::Forgo(0));
    assert_eq!(pair.state(), State::HalfOpen);
    assert!(!pair.call());
    pair.settle(0, GOOD);
    assert_eq!(pair.state(), State::Closed);
}

#[test]
fn a_probe_of_an_earlier_round_decides_nothing_in_a_later() {
    let mut pair = brittle(&Settings {
        probes: 2,
        run: None,
        ..settings()
    });
    pair.calls(1, FAILED).after(10 * MS);
    assert!(pair.call() && pair.call());
    pair.settle(0, FAILED);
    pair.after(20 * MS);
    assert!(pair.call() && pair.call(), "a new round");
    assert_eq!(pair.calls.len(), 3);
    pair.run(&Step::Settle(0, FAILED));
    assert_eq!(pair.state(), State::HalfOpen);
    assert!(!pair.call(), "nor does it make room");
}

#[test]
fn a_probe_of_as_many_changes_ago_as_a_round_tells_apart_frees_no_place() {
    let Pair { machine, world, .. } = brittle(&settings());
    let probe = || {
        machine.force(State::ForcedOpen, Some(0), &world);
        machine.admit(&world).unwrap()
    };
    let old = probe();
    // Two changes each.
    for _ in 0..1 << 15 {
        assert!(probe().is_probe());
    }
    machine.forgo(old);
    assert_eq!(machine.admit(&world), Err(Refusal::UNKNOWN));
}

#[test]
fn a_forced_state_trips_by_no_rule_and_ends_when_it_was_told_to() {
    let mut pair = brittle(&settings());
    pair.run(&Step::Force(State::ForcedClosed, Some(7 * MS)));
    pair.calls(100, FAILED).after(7 * MS - 1).calls(1, FAILED);
    assert_eq!(pair.state(), State::ForcedClosed);
    let statistics = pair.machine.snapshot(&pair.world).statistics;
    assert_eq!(statistics.consecutive_failures, 101, "it is counted");
    assert!(pair.after(1).call());
    assert_eq!(pair.state(), State::Closed);
    assert_eq!(pair.cause(), Some(Cause::ForcedTimeOver));

    pair.run(&Step::Force(State::ForcedOpen, Some(7 * MS)));
    assert_eq!(pair.machine.admit(&pair.world), Err(Refusal(7 * MS)));
    assert!(pair.after(7 * MS).call());
    assert_eq!(pair.state(), State::HalfOpen);

    pair.run(&Step::Force(State::ForcedOpen, None));
    pair.after(YEAR);
    assert_eq!(pair.machine.admit(&pair.world), Err(Refusal::UNKNOWN));
    pair.run(&Step::Force(State::ForcedOpen, Some(u64::MAX)));
    let left = u64::MAX - 1 - pair.model.now;
    assert_eq!(
        pair.machine.admit(&pair.world),
        Err(Refusal(left)),
        "for so long, not for ever"
    );
}

#[test]
fn a_reset_forgets_all_that_has_been() {
    let mut pair = Pair::new(&Settings {
        run: Some(3),
        count: Some((4, failed(100, 4))),
        time: Some((MS, failed(100, 4))),
        ..settings()
    });
    pair.calls(2, FAILED).run(&Step::Reset);
    pair.calls(2, FAILED);
    assert_eq!(pair.state(), State::Closed);
    pair.calls(1, FAILED).after(10 * MS).calls(1, FAILED);
    assert_eq!(pair.machine.admit(&pair.world), Err(Refusal(20 * MS)));
    pair.run(&Step::Reset);
    pair.calls(3, FAILED);
    assert_eq!(
        pair.machine.admit(&pair.world),
        Err(Refusal(10 * MS)),
        "from the first again"
    );
}

#[test]
fn a_success_need_not_be_told_only_where_it_would_change_nothing() {
    let unmoved = |pair: &Pair| {
        let pass = pair.machine.admit(&pair.world).unwrap();
        pair.machine.is_unmoved_by_success(pass)
    };
    let run = Settings {
        run: Some(3),
        ..settings()
    };
    let mut pair = Pair::new(&run);
    assert!(unmoved(&pair));
    pair.calls(1, FAILED);
    assert!(!unmoved(&pair), "it would end a row of failures");

    let mut pair = Pair::new(&Settings {
        count: Some((2, failed(100, 2))),
        ..run.clone()
    });
    assert!(!unmoved(pair.calls(1, GOOD)), "it would fill the window");
    assert!(unmoved(pair.calls(1, GOOD)));
    pair.calls(1, FAILED).calls(1, GOOD);
    assert!(!unmoved(&pair), "it would push out a failure");

    let time = Some((MS, failed(100, 2)));
    let pair = Pair::new(&Settings {
        time,
        ..run.clone()
    });
    assert!(!unmoved(&pair), "it is a call of the last seconds");

    let own = Some(2);
    let pair = Pair::new(&Settings { own, ..run });
    assert!(!unmoved(&pair), "who knows what the user's rule looks at");

    let mut pair = brittle(&settings());
    pair.calls(1, FAILED).after(10 * MS);
    assert!(!unmoved(&pair), "it is a probe");
}

#[test]
fn a_result_is_late_however_many_changes_of_state_it_is_late() {
    let pair = Pair::new(&Settings {
        count: Some((1, failed(100, 1))),
        ..settings()
    });
    let pass = pair.machine.admit(&pair.world).unwrap();
    // As many as the slots of the window tell apart.
    for _ in 0..1 << 16 {
        pair.machine.reset(&pair.world);
    }
    pair.machine.settle(pass, FAILED, 0, || 0, &pair.world);
    let held = pair.machine.snapshot(&pair.world).statistics.count_window;
    assert_eq!(held.map(|counts| counts.calls), Some(0));
}

#[test]
fn after_more_changes_of_state_than_sixteen_bits_count_it_judges_as_before() {
    let pair = Pair::new(&Settings {
        run: None,
        count: Some((3, failed(100, 3))),
        ..settings()
    });
    for _ in 0..66_000 {
        let pass = pair.machine.admit(&pair.world).unwrap();
        pair.machine.settle(pass, FAILED, 0, || 0, &pair.world);
        pair.machine.reset(&pair.world);
    }
    let settle = |outcome| {
        let pass = pair.machine.admit(&pair.world).unwrap();
        pair.machine.settle(pass, outcome, 0, || 0, &pair.world);
        pair.machine.state()
    };
    assert_eq!(settle(FAILED), State::Closed);
    assert_eq!(settle(FAILED), State::Closed);
    assert_eq!(settle(FAILED), State::Open);
}

/// A breaker that one failure opens, and that recovers in steps of 10 ms.
fn ramping(shares: &[u64]) -> Settings {
    Settings {
        run: Some(1),
        ramp: Some((shares.to_vec(), 10 * MS)),
        ..settings()
    }
}

impl Pair {
    /// Opened, and at the start of its ramp.
    fn recovering(settings: &Settings) -> Self {
        let mut pair = Self::new(settings);
        pair.calls(2, FAILED).after(10 * MS).calls(1, GOOD);
        assert_eq!(pair.state(), State::Recovering);
        pair
    }

    /// How many of so many calls pass.
    fn passed(&mut self, calls: usize) -> usize {
        (0..calls).filter(|_| self.call()).count()
    }
}

#[test]
fn a_ramp_lets_exactly_its_share_of_the_calls_pass_and_the_first_of_them() {
    let mut pair = Pair::recovering(&ramping(&[10, 25, 50]));
    assert_eq!(pair.passed(1), 1);
    assert_eq!(pair.passed(9), 0);
    assert_eq!(pair.passed(990), 99);
    pair.after(10 * MS);
    assert_eq!(pair.passed(1_000), 250);
    pair.after(10 * MS);
    assert_eq!(pair.passed(1_001), 501);
    assert_eq!(
        pair.machine.admit(&pair.world),
        Err(Refusal(10 * MS)),
        "to the step's end"
    );
}

#[test]
fn a_ramp_ends_in_a_closed_breaker_and_not_before() {
    let mut pair = Pair::recovering(&ramping(&[10, 20]));
    pair.after(20 * MS - 1).passed(10);
    assert_eq!(pair.state(), State::Recovering);
    pair.after(1);
    assert_eq!(pair.passed(100), 100);
    assert_eq!(pair.cause(), Some(Cause::RampOver));
}

#[test]
fn a_ramp_is_judged_by_the_rules_over_all_its_steps_and_opens_for_longer() {
    let mut pair = Pair::recovering(&Settings {
        run: None,
        count: Some((10, failed(50, 2))),
        ..ramping(&[50, 100])
    });
    pair.calls(1, FAILED).after(10 * MS);
    assert_eq!(pair.state(), State::Recovering);
    pair.calls(1, FAILED);
    assert_eq!(pair.cause(), Some(Cause::CountFailureRate));
    assert_eq!(pair.machine.admit(&pair.world), Err(Refusal(20 * MS)));
}

#[test]
fn the_open_time_starts_over_by_how_long_it_was_closed_and_not_how_long_it_recovered() {
    let mut pair = Pair::recovering(&Settings {
        lasting_nanos: 15 * MS,
        ..ramping(&[10, 100])
    });
    pair.after(20 * MS)
        .calls(1, GOOD)
        .after(15 * MS - 1)
        .calls(1, FAILED);
    assert_eq!(pair.machine.admit(&pair.world), Err(Refusal(20 * MS)));
    pair.after(20 * MS)
        .calls(1, GOOD)
        .after(20 * MS)
        .calls(1, GOOD);
    pair.after(15 * MS).calls(1, FAILED);
    assert_eq!(pair.machine.admit(&pair.world), Err(Refusal(10 * MS)));
}

#[test]
fn a_shadow_lets_all_pass_and_only_those_it_would_have_let_pass_have_a_say() {
    let mut pair = brittle(&settings());
    pair.run(&Step::RunByRules { observes: true });
    pair.calls(1, FAILED);
    assert_eq!(pair.state(), State::Open);
    pair.calls(7, FAILED);
    assert_eq!(pair.world.spared.get(), 7);
    pair.after(10 * MS);
    assert!(pair.call() && pair.call());
    pair.settle(1, FAILED);
    assert_eq!(pair.state(), State::HalfOpen, "that was not the probe");
    pair.settle(0, GOOD);
    assert_eq!(pair.state(), State::Closed);
    assert_eq!(pair.world.spared.get(), 8);
}

#[test]
fn a_shadow_that_is_open_refuses_once_it_is_enabled_and_its_calls_keep_their_say() {
    let mut pair = brittle(&settings());
    pair.run(&Step::RunByRules { observes: true });
    assert!(pair.call());
    pair.run(&Step::RunByRules { observes: false });
    pair.settle(0, FAILED);
    assert_eq!(pair.state(), State::Open);
    assert!(!pair.call());
    pair.run(&Step::RunByRules { observes: true });
    assert!(pair.call());
    let (enabled, observing) = (Mode::Enabled, Mode::ObserveOnly);
    let told = [
        (enabled, observing),
        (observing, enabled),
        (enabled, observing),
    ];
    assert_eq!(*pair.world.modes.borrow(), told);
    pair.run(&Step::RunByRules { observes: true });
    assert_eq!(pair.world.modes.borrow().len(), 3, "no change is not told");
}

#[test]
fn what_is_forced_open_refuses_also_where_it_was_to_observe_and_observes_again_after() {
    let mut pair = brittle(&settings());
    pair.run(&Step::RunByRules { observes: true });
    pair.run(&Step::Force(State::ForcedOpen, Some(5 * MS)));
    assert!(!pair.call());
    pair.after(5 * MS);
    assert!(
        pair.call() && pair.call(),
        "a probe, and one that is spared"
    );
    assert_eq!(pair.machine.mode(), Mode::ObserveOnly);
}

#[test]
fn the_time_to_recovery_runs_from_the_first_opening_to_the_close() {
    let mut pair = brittle(&settings());
    pair.calls(1, FAILED);
    pair.after(10 * MS).calls(1, FAILED);
    pair.after(20 * MS).calls(1, GOOD);
    let open_for = |pair: &Pair| pair.world.changes.borrow().last().unwrap().open_for;
    assert_eq!(open_for(&pair), Some(Duration::from_nanos(30 * MS)));
    pair.after(MS).calls(1, FAILED);
    assert_eq!(open_for(&pair), None);
    pair.after(2 * MS).run(&Step::Reset);
    assert_eq!(open_for(&pair), Some(Duration::from_nanos(2 * MS)), "anew");
    pair.run(&Step::Reset);
    assert_eq!(open_for(&pair), None, "it was not open");
}
