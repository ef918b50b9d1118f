//! The state machine against a model of it, driven by scripts; and its boundaries, one by one.

mod model;
mod sentences;

use std::{
    cell::{Cell, RefCell},
    num::{NonZeroU16, NonZeroU32},
    time::Duration,
};

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::{
    LatencyQuantile, Mode, Ramp, Snapshot, State, Thresholds,
    always::Always,
    ask::Refusal,
    machine::{Change, Machine, Outside, Pass, Rules},
    own::Own,
    rules::{Quantile, Rates},
    trip::{Run, Trip},
};
use crate::{
    backoff::{Backoff, Jitter},
    window::{CountWindow, EwmaWindow, Outcome, TimeWindow},
};
use model::{Bounds, Model, Settings, Ticket};

const MS: u64 = 1_000_000;
const YEAR: u64 = 365 * 24 * 3_600_000 * MS;

const GOOD: Outcome = Outcome::GOOD;
const FAILED: Outcome = Outcome::FAILED;
const SLOW: Outcome = Outcome::SLOW;
/// Longer than the bound of the latency's quantile, and not slow.
const TAIL: Outcome = Outcome { tail: true, ..GOOD };

/// A world whose clock and chance do as they are told.
#[derive(Default)]
struct World {
    now: Cell<u64>,
    random: Cell<u64>,
    changes: RefCell<Vec<Change>>,
    modes: RefCell<Vec<(Mode, Mode)>>,
    spared: Cell<u64>,
}

impl Outside for World {
    fn now(&self) -> u64 {
        self.now.get()
    }

    fn random(&self) -> u64 {
        self.random.get()
    }

    fn changed(&self, change: Change) {
        self.changes.borrow_mut().push(change);
    }

    fn rule_panicked(&self) {
        unreachable!("no rule of theirs does");
    }

    fn mode_changed(&self, from: Mode, to: Mode) {
        self.modes.borrow_mut().push((from, to));
    }

    fn spared(&self) {
        self.spared.set(self.spared.get() + 1);
    }
}

fn rules(settings: &Settings) -> Rules {
    let rates = |bounds: Bounds, size| {
        let share = |percent: u64| percent as f64 / 100.0;
        let mut thresholds = Thresholds::watch_only();
        if let Some(number) = bounds.failures {
            thresholds = thresholds.or_failures(number);
        }
        if let Some(failed) = bounds.failed {
            thresholds = thresholds.or_failure_rate(share(failed));
        }
        if let Some(slow) = bounds.slow {
            thresholds = thresholds.or_slow_call_rate(share(slow));
        }
        if bounds.failed.or(bounds.slow).is_some() {
            thresholds = thresholds.minimum_calls(bounds.minimum);
        }
        Rates::check(thresholds, size).unwrap()
    };
    let count = settings.count.map(|(size, bounds)| {
        let window = CountWindow::new(NonZeroU16::new(size).unwrap());
        (window, rates(bounds, Some(size.into())))
    });
    let time = settings
        .time
        .map(|(slice, bounds)| (TimeWindow::new(10 * slice), rates(bounds, None)));
    let ewma = settings
        .ewma
        .map(|(time_constant, bounds)| (EwmaWindow::new(time_constant), rates(bounds, None)));
    let latency = settings.latency.map(|(slice, percent, minimum)| {
        let wanted = LatencyQuantile::above(percent as f64 / 100.0, Duration::MAX);
        let quantile = Quantile::check(wanted.minimum_calls(minimum)).unwrap();
        (TimeWindow::new(10 * slice), quantile)
    });
    let own = settings
        .own
        .map(|limit| Own::new(move |statistics| model::has_trouble(statistics, limit)));
    let always = Always {
        time,
        ewma,
        latency,
        own,
    };
    let trip = Trip {
        run: settings.run.and_then(NonZeroU32::new).map(Run::new),
        count,
        always: (!always.is_empty()).then(|| Box::new(always)),
    };
    let ns = Duration::from_nanos;
    let jitter = if settings.jitter {
        Jitter::Full
    } else {
        Jitter::None
    };
    Rules {
        probes: trip.probe_rule(settings.probes),
        trip,
        probe_nanos: settings.probe_nanos,
        longest_asked_nanos: 500 * MS,
        open_time: Backoff::exponential(ns(settings.open_base), ns(settings.open_cap))
            .unwrap()
            .with_jitter(jitter),
        ramp: settings.ramp.as_ref().map(|(shares, step)| {
            let shares: Vec<_> = shares.iter().map(|share| *share as f64 / 100.0).collect();
            Ramp::steps(shares, ns(*step)).check().unwrap()
        }),
        lasting_nanos: settings.lasting_nanos,
    }
}

/// A machine and its model, which must never be seen to differ.
struct Pair {
    machine: Machine,
    world: World,
    model: Model,
    settings: Settings,
    calls: Vec<(Pass, Ticket)>,
}

impl Pair {
    fn new(settings: &Settings) -> Self {
        Self {
            machine: Machine::new(rules(settings), Mode::Enabled),
            world: World::default(),
            model: Model::new(settings.clone()),
            settings: settings.clone(),
            calls: Vec::new(),
        }
    }

    /// Asks to be admitted; returns whether it was.
    fn call(&mut self) -> bool {
        let admitted = self.machine.admit(&self.world);
        let expected = self.model.admit();
        match (admitted, expected) {
            (Ok(pass), Ok(ticket)) => {
                self.calls.push((pass, ticket));
                let is_spared = pass == Pass::SPARED;
                let is_probe = self.model.state() == State::HalfOpen && !is_spared;
                assert_eq!(pass.is_probe(), is_probe);
                true
            }
            (Err(left), Err(expected)) => {
                let expected = expected.map_or(Refusal::UNKNOWN, Refusal);
                assert_eq!(left, expected, "another time is left");
                false
            }
            (admitted, expected) => panic!("{admitted:?}, but expected {expected:?}"),
        }
    }

    fn settle(&mut self, nth: usize, outcome: Outcome) {
        if self.calls.is_empty() {
            return;
        }
        let (pass, ticket) = self.calls.remove(nth % self.calls.len());
        // What the services do: a good result that would move nothing is not handed in.
        if !(outcome.is_good() && self.machine.is_unmoved_by_success(pass)) {
            let now = || self.world.now.get();
            self.machine.settle(pass, outcome, 0, now, &self.world);
        }
        self.model.settle(ticket, outcome);
    }

    fn forgo(&mut self, nth: usize) {
        if !self.calls.is_empty() {
            let (pass, ticket) = self.calls.remove(nth % self.calls.len());
            self.machine.forgo(pass);
            self.model.forgo(ticket);
        }
    }

    fn advance(&mut self, nanos: u64) {
        self.model.now += nanos;
        self.world.now.set(self.model.now);
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Call => {
                self.call();
            }
            Step::Settle(nth, outcome) => self.settle(nth, outcome),
            Step::Forgo(nth) => self.forgo(nth),
            Step::Calls(times, outcome) => {
                for _ in 0..times {
                    if self.call() {
                        self.settle(self.calls.len() - 1, outcome);
                    }
                    self.check();
                }
            }
            Step::Advance(nanos) => self.advance(nanos),
            Step::AdvanceToTheEnd { less } => {
                let left = self
                    .model
                    .until()
                    .map(|until| until.saturating_sub(self.model.now));
                // Not where it was forced for as good as ever.
                if let Some(left) = left.filter(|left| *left < YEAR) {
                    self.advance(left.saturating_sub(less));
                }
            }
            Step::AdvanceToLate { less } => self.advance(self.settings.probe_nanos - less),
            Step::Random(random) => {
                self.model.random = random;
                self.world.random.set(random);
            }
            Step::Force(to, nanos) => {
                self.machine.force(to, nanos, &self.world);
                self.model.force(to, nanos);
            }
            Step::RunByRules { observes } => {
                self.machine.run_by_rules(observes, &self.world);
                self.model.run_by_rules(observes);
            }
            Step::Reset => {
                self.machine.reset(&self.world);
                self.model.reset();
            }
        }
        self.check();
    }

    fn check(&self) {
        let (model, world) = (&self.model, &self.world);
        assert_eq!(*world.changes.borrow(), model.changes);
        assert_eq!(self.machine.state(), model.state());
        assert_eq!(self.world.spared.get(), model.spared);
        let left = |until: u64| Duration::from_nanos(until.saturating_sub(model.now));
        let expected = Snapshot {
            state: model.state(),
            mode: model.mode(),
            cause: model.changes.last().map(|change| change.cause),
            ends_in: model.until().map(left),
            spared: model.spared,
            statistics: model.statistics(),
        };
        assert_eq!(self.machine.snapshot(world), expected);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Call,
    Settle(usize, Outcome),
    Forgo(usize),
    /// Calls, each settled at once.
    Calls(usize, Outcome),
    Advance(u64),
    /// To the end of the open or forced time, or a nanosecond less.
    AdvanceToTheEnd {
        less: u64,
    },
    /// Until a probe admitted now is late, or a nanosecond less.
    AdvanceToLate {
        less: u64,
    },
    Random(u64),
    Force(State, Option<u64>),
    RunByRules {
        observes: bool,
    },
    Reset,
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        4 => Just(GOOD),
        3 => Just(FAILED),
        1 => Just(SLOW),
        1 => Just(TAIL),
        1 => Just(Outcome { tail: true, ..FAILED }),
        1 => Just(Outcome { slow: true, ..FAILED }),
        1 => Just(Outcome { slow: true, ..TAIL }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let nanos = prop_oneof![0..20 * MS, 0..1_000 * MS, Just(MS), Just(YEAR)];
    let forced = prop_oneof![
        Just((State::ForcedOpen, true)),
        Just((State::ForcedClosed, true)),
        Just((State::Disabled, false)),
    ];
    let forced_for = prop_oneof![
        2 => Just(None),
        4 => (0..100 * MS).prop_map(Some),
        1 => Just(Some(0)),
        1 => Just(Some(u64::MAX)),
    ];
    prop_oneof![
        20 => Just(Step::Call),
        20 => (0..50_usize, outcome()).prop_map(|(nth, outcome)| Step::Settle(nth, outcome)),
        5 => (0..50_usize).prop_map(Step::Forgo),
        15 => (1..12_usize, outcome()).prop_map(|(times, outcome)| Step::Calls(times, outcome)),
        10 => nanos.prop_map(Step::Advance),
        12 => (0..=1_u64).prop_map(|less| Step::AdvanceToTheEnd { less }),
        4 => (0..=1_u64).prop_map(|less| Step::AdvanceToLate { less }),
        2 => any::<u64>().prop_map(Step::Random),
        1 => (forced, forced_for)
            .prop_map(|((to, is_timed), nanos)| Step::Force(to, nanos.filter(|_| is_timed))),
        1 => any::<bool>().prop_map(|observes| Step::RunByRules { observes }),
        1 => Just(Step::Reset),
    ]
}

fn percent() -> impl Strategy<Value = u64> {
    prop_oneof![1..=100_u64, Just(50), Just(100)]
}

fn bounds(most: u32) -> impl Strategy<Value = Bounds> {
    let bounds = (
        proptest::option::weighted(0.3, 1..=most),
        proptest::option::weighted(0.6, percent()),
        proptest::option::weighted(0.4, percent()),
        1..=most,
    );
    bounds.prop_map(|(failures, failed, slow, minimum)| Bounds {
        failures,
        failed,
        slow,
        minimum,
    })
}

#[derive(Clone, Debug, Default)]
struct RuleSettings {
    run: Option<u32>,
    count: Option<(u16, Bounds)>,
    time: Option<(u64, Bounds)>,
    ewma: Option<(u64, Bounds)>,
    latency: Option<(u64, u64, u32)>,
    own: Option<u64>,
}

/// Each rule alone, any of them, and all together.
fn rule_settings() -> impl Strategy<Value = RuleSettings> {
    let count = (1..20_u16).prop_flat_map(|size| (Just(size), bounds(size.into())));
    let time = (MS..30 * MS, bounds(20));
    let ewma = (10 * MS..300 * MS, bounds(20)).prop_map(|(time_constant, bounds)| {
        let slow = None;
        (time_constant, Bounds { slow, ..bounds })
    });
    let latency = (MS..30 * MS, percent(), 1..20_u32);
    let chosen = prop_oneof![
        3 => (0..6_u32).prop_map(|only| 1 << only),
        2 => 1..63_u8,
        1 => Just(63_u8),
    ];
    (1..8_u32, count, time, ewma, latency, 1..30_u64, chosen).prop_map(
        |(run, count, time, ewma, latency, own, chosen)| {
            let has = |rule: u32| chosen & 1 << rule != 0;
            RuleSettings {
                run: has(0).then_some(run),
                count: has(1).then_some(count),
                time: has(2).then_some(time),
                ewma: has(3).then_some(ewma),
                latency: has(4).then_some(latency),
                own: has(5).then_some(own),
            }
        },
    )
}

fn settings() -> impl Strategy<Value = Settings> {
    let open_time = (1..50 * MS, 1..400 * MS).prop_map(|(a, b)| (a.min(b), a.max(b)));
    let lasting = prop_oneof![Just(0), 0..500 * MS, Just(u64::MAX)];
    let shares = proptest::collection::btree_set(1..=100_u64, 1..5);
    let steps = (shares, 1..30 * MS).prop_map(|(all, step)| (all.into_iter().collect(), step));
    let ramp = prop_oneof![Just(None), steps.prop_map(Some)];
    (
        rule_settings(),
        1..6_u8,
        1..50 * MS,
        open_time,
        any::<bool>(),
        ramp,
        lasting,
    )
        .prop_map(
            |(rules, probes, probe_nanos, (open_base, open_cap), jitter, ramp, lasting_nanos)| {
                let RuleSettings {
                    run,
                    count,
                    time,
                    ewma,
                    latency,
                    own,
                } = rules;
                Settings {
                    run,
                    count,
                    time,
                    ewma,
                    latency,
                    own,
                    probes,
                    probe_nanos,
                    open_base,
                    open_cap,
                    jitter,
                    ramp,
                    lasting_nanos,
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig {
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::with_cases(2_500)
    })]

    #[test]
    fn it_does_what_its_model_does(
        settings in settings(),
        steps in proptest::collection::vec(step(), 0..150),
    ) {
        let mut pair = Pair::new(&settings);
        pair.check();
        for step in &steps {
            pair.run(step);
        }
    }
}
