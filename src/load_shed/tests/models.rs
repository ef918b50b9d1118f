//! Priorities, their distribution, the controller and the time of not being ready, beside what is obvious.

use proptest::prelude::*;

use super::super::{
    controller::{Controller, Observed},
    priority::{Chance, LEVELS, Priority, Share, Threshold},
    seen::{Counts, Distribution},
    unready::Unready,
};
use crate::{context::Criticality, rng::Rng};

fn criticalities() -> impl Strategy<Value = Criticality> {
    prop::sample::select(Criticality::ALL.to_vec())
}

fn fill(counts: &Counts, levels: &[usize]) {
    levels.iter().for_each(|level| counts.count(*level));
}

proptest! {
    #[test]
    fn the_more_critical_goes_first_whatever_the_rest(
        one in criticalities(), other in criticalities(), bits in any::<[u64; 4]>(),
    ) {
        let of = |criticality, user, chance| Priority::new(criticality, Some(user), Chance(chance));
        let (first, second) = (of(one, bits[0], bits[1]), of(other, bits[2], bits[3]));
        prop_assert!(one >= other || first < second);
        prop_assert!(first.level() < LEVELS);
        prop_assert!(Threshold::NONE.admits(first));
    }

    #[test]
    fn those_of_one_user_share_a_level(
        criticality in criticalities(), user in any::<u64>(), chances in any::<[u64; 2]>(),
    ) {
        let [one, other] =
            chances.map(|chance| Priority::new(criticality, Some(user), Chance(chance)).level());
        prop_assert_eq!(one, other);
    }

    /// A model that sorts all calls, and cuts the list.
    #[test]
    fn the_cut_is_the_quantile_of_what_was_seen(
        levels in prop::collection::vec(0..LEVELS, 1..300), shed in 0.0..=1.0,
    ) {
        let counts = Counts::new();
        fill(&counts, &levels);
        let mut distribution = Distribution::new();
        distribution.absorb(&counts.take_all(), 1.0);
        let cut = distribution.cut(shed);

        let mut sorted = levels;
        sorted.sort_unstable();
        let admitted = sorted.len() as f64 * (1.0 - shed);
        let priority = |level: usize, fine: u64| {
            // The cohort is that of a user, the rest is chance.
            let criticality = Criticality::ALL[level / 128];
            let user = (level as u64 % 128) << 57;
            Priority::new(criticality, Some(user), Chance(fine << 41))
        };
        let passes = |level, fine| cut.admits(priority(level, fine));
        for (rank, &level) in sorted.iter().enumerate() {
            let (first, last) = (
                sorted.partition_point(|l| *l < level) as f64,
                sorted.partition_point(|l| *l <= level) as f64,
            );
            // All of its level go, or none, or some of them.
            if last <= admitted {
                prop_assert!(passes(level, 0) && passes(level, 0xFFFF), "{rank}");
            } else if first >= admitted {
                prop_assert!(!passes(level, 0), "{rank}");
            } else {
                let part = (admitted - first) / (last - first) * 65_536.0;
                prop_assert!(part < 2.0 || passes(level, part as u64 - 1));
                prop_assert!(!passes(level, 0xFFFF) || part > 65_534.0);
            }
        }
    }

    #[test]
    fn what_is_old_weighs_less(keep in 0.0..0.99, old in 0..LEVELS, new in 0..LEVELS) {
        prop_assume!(old != new);
        let (counts, mut distribution) = (Counts::new(), Distribution::new());
        fill(&counts, &[old]);
        distribution.absorb(&counts.take_all(), 1.0);
        fill(&counts, &[new]);
        distribution.absorb(&counts.take_all(), keep);
        // Of 1 + keep calls all but the less critical one.
        let weight = if old < new { keep } else { 1.0 };
        let cut = distribution.cut(1.0 - weight / (1.0 + keep) * 0.999);
        let criticality = Criticality::ALL[old.max(new) / 128];
        let user = (old.max(new) as u64 % 128) << 57;
        prop_assert!(!cut.admits(Priority::new(criticality, Some(user), Chance(0))));
    }

    /// Whatever it is told, it says a share; it sheds nothing before the load has been above its target;
    /// and it is as new a while after the load has gone.
    #[test]
    fn the_controller_says_a_share_and_gives_it_up(
        spared in 0.0..=0.5,
        seen in prop::collection::vec(
            (
                prop_oneof![1e-3..0.1, Just(1e-9), Just(1e9)],
                prop_oneof![0.0..3.0, Just(0.0), Just(1.0), Just(f64::INFINITY), Just(1e300)],
                prop::option::of(prop_oneof![Just(0.0), 1e-6..10.0, Just(f64::INFINITY)]),
                prop_oneof![0..1_000_u64, Just(0), Just(u64::MAX)],
                prop_oneof![0..1_000_u64, Just(0), Just(u64::MAX)],
            ),
            1..100,
        ),
    ) {
        let mut controller = Controller::new(spared);
        let mut was_above = false;
        for (seconds, load, drain, offered, done) in seen {
            was_above |= load > 1.0;
            let shed = controller.observe(&Observed { seconds, load, drain, offered, done });
            prop_assert!((0.0..=1.0).contains(&shed), "{shed}");
            prop_assert!(was_above || shed == 0.0);
            let keep = controller.keep(seconds);
            prop_assert!((0.0..=1.0).contains(&keep), "{keep}");
        }
        // Nothing but one call in a second, for a while.
        let calm = Observed { seconds: 1.0, load: 0.0, drain: None, offered: 1, done: 1 };
        let last = (0..100).map(|_| controller.observe(&calm)).last();
        prop_assert_eq!(last, Some(0.0));
    }

    /// A model that remembers every time at which it was asked.
    #[test]
    fn a_service_is_unready_for_as_long_as_it_is_found_so(
        bound in 0..50_u64, steps in prop::collection::vec((0..40_u64, 0..10_u32), 1..60),
    ) {
        let unready = Unready::new(bound);
        let (mut now, mut run) = (1, Vec::<u64>::new());
        for (pause, dice) in steps {
            now += pause;
            if dice == 0 {
                unready.is_ready();
                run.clear();
                continue;
            }
            if run.last().is_some_and(|last| now - last > bound) {
                run.clear();
            }
            run.push(now);
            let end = run[0] + bound;
            prop_assert_eq!(unready.is_pending(now), (now < end).then_some(end));
        }
    }
}

#[test]
fn a_share_of_a_class_is_that_of_its_cohorts() {
    let shares = |threshold: Threshold| Criticality::ALL.map(|class| threshold.share_of(class));
    assert_eq!(shares(Threshold::NONE), [1.0; 4]);
    assert_eq!(shares(Threshold::within(0, 0.0)), [0.0; 4]);
    assert_eq!(
        shares(Threshold::within(128 + 32, 0.0)),
        [1.0, 0.25, 0.0, 0.0]
    );
    assert_eq!(
        shares(Threshold::within(3 * 128, 0.5)),
        [1.0, 1.0, 1.0, 0.5 / 128.0]
    );
}

#[test]
fn each_use_of_chance_has_bits_of_its_own() {
    let rng = Rng::new(Some(1));
    let (mut among, mut both, mut spread) = (0, 0, 0.0);
    for _ in 0..100_000 {
        let chance = Chance(rng.draw());
        let is_first = Priority::new(Criticality::CriticalPlus, None, chance).level() < 64;
        let is_among = chance.is_among(Share::new(0.1));
        among += u32::from(is_among);
        both += u32::from(is_among && is_first);
        spread += chance.part_of(1_000_000_000) as f64 / 1e9;
    }
    // Five standard deviations each.
    assert!(among.abs_diff(10_000) < 475, "{among}");
    assert!(both.abs_diff(5_000) < 345, "{both}");
    assert!((spread / 1e5 - 0.5).abs() < 0.005, "{spread}");
    let bits = Chance(u64::MAX);
    assert!(bits.is_among(Share::new(1.0)) && !bits.is_among(Share::new(0.999)));
    assert!(!Chance(0).is_among(Share::new(0.0)));
    assert!(bits.part_of(u64::MAX) < u64::MAX && bits.part_of(0) == 0);
}

#[test]
fn of_what_lies_beyond_the_cut_some_passes_so_the_cut_goes_deeper() {
    for (spared, expected) in [(0.0, 0.5), (0.2, 0.625), (0.5, 1.0)] {
        let mut controller = Controller::new(spared);
        let seen = |load, done| Observed {
            seconds: 1.0,
            load,
            drain: None,
            offered: 1_000,
            done,
        };
        assert_eq!(controller.observe(&seen(1.0, 1_000)), 0.0);
        let shed = controller.observe(&seen(1.000_001, 500));
        assert!((shed - expected).abs() < 1e-3, "{spared}: {shed}");
    }
}

#[test]
fn a_distribution_of_nothing_sheds_nothing() {
    assert_eq!(Distribution::new().cut(1.0), Threshold::NONE);
}
