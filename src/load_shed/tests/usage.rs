//! What users are taken to have asked for, beside every call remembered.

use std::collections::HashMap;

use proptest::prelude::*;

use super::super::usage::{Usage, octaves};
use crate::rng::Rng;

/// Hashes, as many as wanted, the same every time.
fn hashes(count: usize) -> Vec<u64> {
    let rng = Rng::new(Some(5));
    (0..count).map(|_| rng.draw()).collect()
}

const CALL: f64 = 256.0;

/// Eight ticks: nanoseconds are ticks.
const HALF_LIFE: u64 = 8;

/// Every call with its tick.
#[derive(Default)]
struct Model(HashMap<u64, Vec<u64>>);

impl Model {
    fn of(&self, user: u64, now: u64) -> f64 {
        let calls = self.0.get(&user).into_iter().flatten();
        calls
            .map(|at| CALL * 0.5_f64.powf((now - at) as f64 / HALF_LIFE as f64))
            .sum()
    }

    fn all(&self, now: u64) -> f64 {
        self.0.keys().map(|user| self.of(*user, now)).sum()
    }
}

proptest! {
    /// With cells enough each is counted as if alone; with few none too little, and nobody for more than all.
    #[test]
    fn nobody_is_taken_for_lighter_than_he_is_nor_for_heavier_than_all(
        width in prop_oneof![Just(1_usize), Just(2), Just(1024)],
        // Also across the tick at which they wrap.
        start in prop_oneof![Just(0_u64), (1 << 28) - 3_000..(1_u64 << 28) - 200],
        calls in prop::collection::vec(
            (0..8_usize, prop_oneof![4 => Just(0_u64), 4 => 0..4_u64, 1 => 0..400_u64]), 1..300,
        ),
    ) {
        let usage = Usage::of(HALF_LIFE, width);
        let users = hashes(8);
        let mut model = Model::default();
        let mut now = start;
        usage.look(now, 0);
        for (user, pause) in calls {
            now += pause;
            usage.look(now, 0);
            let amount = usage.count(users[user]) as f64;
            model.0.entry(users[user]).or_default().push(now);
            let exact = model.of(users[user], now);
            // What is rounded off at every tick, and of that is left.
            let rounded = 30.0 + 0.001 * model.all(now);
            prop_assert!(amount >= exact - rounded, "{amount} {exact}");
            prop_assert!(amount <= model.all(now) + rounded, "{amount} {exact}");
            if width == 1024 {
                prop_assert!((amount - exact).abs() <= rounded, "{amount} {exact}");
            }
        }
    }

    #[test]
    fn octaves_grow_with_the_amount_and_are_those_of_the_logarithm(
        amount in 1..1_u64 << 36, more in 0..1_u64 << 36,
    ) {
        let told = f64::from(octaves(amount)) / 256.0;
        let exact = (amount as f64).log2();
        prop_assert!(told <= exact + 1e-9 && told > exact - 0.1, "{told} {exact}");
        prop_assert!(octaves(amount) <= octaves(amount + more));
    }

    /// Whatever they are hashed and salted with, and however many others there are.
    #[test]
    fn of_two_users_he_goes_first_who_asks_for_more_than_four_times_as_much(
        hashes in any::<[u64; 2]>(), salt in any::<u64>(), calls in 1..50_u64, others in 0..10_000_u64,
    ) {
        // In cells of their own; a tenth more for the logarithm, which is not quite one.
        prop_assume!((0..4).any(|row| (hashes[0] ^ hashes[1]) >> (16 * row) & 1023 != 0));
        let usage = Usage::new(1_000_000);
        let heavy = calls * 22 / 5 + 1;
        usage.look(0, calls + heavy + others);
        let light = (0..calls).map(|_| usage.place(hashes[0], salt)).last();
        let heavy = (0..heavy).map(|_| usage.place(hashes[1], salt)).last();
        // The cohort, of which there are 128.
        prop_assert!(light.unwrap() >> 57 <= heavy.unwrap() >> 57);
        prop_assert!(light < heavy);
    }
}

#[test]
fn of_users_who_ask_alike_each_is_shed_as_often_as_another_in_the_course_of_hours() {
    let usage = Usage::new(1_000_000);
    let users = hashes(50);
    let mut shed = [0_u32; 50];
    for hour in 0..400 {
        let mut places = Vec::new();
        usage.look(0, 50);
        for (n, user) in users.iter().enumerate() {
            places.push((usage.place(*user, 77 ^ hour), n));
        }
        places.sort_unstable();
        places[25..].iter().for_each(|(_, n)| shed[*n] += 1);
    }
    // Half of them, within five standard deviations.
    let fair = |shed: &u32| shed.abs_diff(200) < 50;
    assert!(shed.iter().all(fair), "{shed:?}");
}

#[test]
fn a_million_users_change_no_memory_and_make_nobody_heavy() {
    let usage = Usage::new(1_000_000_000);
    let before = usage.size();
    let users = hashes(1_000_000);
    let places: Vec<_> = users
        .chunks(1_000)
        .flat_map(|some| {
            usage.look(0, 1_000);
            some.iter().map(|user| usage.place(*user, 1))
        })
        .collect();
    assert_eq!(usage.size(), before);
    // But for the first, of whom there were too few, all lie where chance alone puts them.
    let cohorts = places[500_000..].iter().map(|place| place >> 57);
    let (least, most) = (cohorts.clone().min().unwrap(), cohorts.max().unwrap());
    assert!(most - least <= 20, "{least} {most}");
}

#[test]
fn of_a_thousand_users_no_more_than_one_in_fifty_is_taken_for_much_heavier() {
    let usage = Usage::new(1_000_000);
    let users = hashes(10_000);
    // The n-th asks for a hundredth of the first and 1/n: few heavy ones, and many others.
    let calls = |n: usize| 1 + 2_000 / (n + 1);
    let total: usize = (0..users.len()).map(calls).sum();
    let mut left: Vec<_> = (0..users.len()).map(calls).collect();
    let mut amounts = vec![0; users.len()];
    while left.iter().any(|left| *left > 0) {
        for (n, left) in left.iter_mut().enumerate().filter(|(_, left)| **left > 0) {
            *left -= 1;
            amounts[n] = usage.count(users[n]);
        }
    }
    let too_much = |(n, amount): (usize, &u64)| {
        let exact = calls(n) as u64 * CALL as u64;
        assert!(*amount >= exact, "too little of {n}");
        amount - exact > (total as u64 * CALL as u64) / 350
    };
    let wrong = amounts
        .iter()
        .enumerate()
        .filter(|it| too_much(*it))
        .count();
    assert!(wrong <= users.len() / 50, "{wrong}");
}
