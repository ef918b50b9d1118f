//! [`Ratio`] against fractions compared without a product.

use proptest::prelude::*;

use super::config;
use crate::window::Ratio;

const MILLION: u64 = 1_000_000;

/// Whether `a / b` is `c / d` or more, by comparing whole parts, then what is left, upside down.
fn is_at_least(a: u64, b: u64, c: u64, d: u64) -> bool {
    let (left, right) = (a / b, c / d);
    if left != right {
        return left > right;
    }
    match (a % b, c % d) {
        (_, 0) => true,
        (0, _) => false,
        (a, c) => is_at_least(d, c, b, a),
    }
}

fn ratio(millionths: u32) -> Ratio {
    Ratio::new("share", f64::from(millionths) / MILLION as f64).unwrap()
}

#[test]
fn every_millionth_is_kept_as_it_is_written() {
    for millionths in 1..=MILLION as u32 {
        assert_eq!(ratio(millionths).millionths(), millionths);
    }
}

#[test]
fn a_share_written_as_a_fraction_is_reached_at_its_boundary() {
    for whole in 1..=1_000_u64 {
        for part in 1..=whole {
            let ratio = Ratio::new("share", part as f64 / whole as f64).unwrap();
            assert!(ratio.is_reached(part, whole), "{part} of {whole}");
            assert!(!ratio.is_reached(part - 1, whole), "{part} of {whole}");
        }
    }
}

/// Where a float would go wrong: a part of the whole that is the share, one less, and one more.
fn parts() -> impl Strategy<Value = (u32, u64, u64)> {
    let millionths = prop_oneof![1..=MILLION as u32, (1..=100_u32).prop_map(|p| p * 10_000)];
    let whole = prop_oneof![1..=200_u64, 1..=1_u64 << 40];
    (millionths, whole, 0..=2_u64).prop_map(|(millionths, whole, which)| {
        let share = u128::from(millionths) * u128::from(whole) / u128::from(MILLION);
        let part = (share as u64 + which).saturating_sub(1).min(whole);
        (millionths, part, whole)
    })
}

proptest! {
    #![proptest_config(config(5_000))]

    #[test]
    fn a_share_is_reached_exactly_where_the_fraction_says((millionths, part, whole) in parts()) {
        let expected = part > 0 && is_at_least(part, whole, millionths.into(), MILLION);
        prop_assert_eq!(ratio(millionths).is_reached(part, whole), expected);
    }

    #[test]
    fn the_least_part_is_the_first_that_reaches_the_share(
        millionths in 1..=MILLION as u32, whole in 1..=300_u32,
    ) {
        let ratio = ratio(millionths);
        let first = (0..=whole).find(|&part| ratio.is_reached(part.into(), whole.into()));
        prop_assert_eq!(first, Some(ratio.least_part(whole)));
    }
}

/// The value at the nearest rank: the first, in order, that this share of all values do not exceed.
fn quantile(millionths: u32, values: &[u32]) -> u32 {
    let mut ordered = values.to_vec();
    ordered.sort_unstable();
    let is_rank =
        |rank: &usize| *rank as u64 * MILLION >= u64::from(millionths) * ordered.len() as u64;
    ordered[(1..=ordered.len()).find(is_rank).unwrap() - 1]
}

proptest! {
    #![proptest_config(config(5_000))]

    #[test]
    fn a_quantile_exceeds_a_bound_exactly_where_sorting_says(
        millionths in prop_oneof![
            1..=MILLION as u32,
            (1..=100_u32).prop_map(|p| p * 10_000),
            Just(999_000),
        ],
        values in proptest::collection::vec(0..20_u32, 1..300),
        bound in 0..20_u32,
    ) {
        let above = values.iter().filter(|value| **value > bound).count() as u64;
        let exceeds = ratio(millionths).quantile_exceeds(above, values.len() as u64);
        prop_assert_eq!(exceeds, quantile(millionths, &values) > bound);
    }

    #[test]
    fn the_least_above_is_the_first_with_which_the_quantile_exceeds(
        millionths in 1..=MILLION as u32, whole in 1..=300_u32,
    ) {
        let ratio = ratio(millionths);
        let exceeds = |above: &u32| ratio.quantile_exceeds((*above).into(), whole.into());
        prop_assert_eq!((0..=whole).find(exceeds), Some(ratio.least_above(whole)));
    }

    #[test]
    fn one_is_spared_by_the_least_that_spare_it_and_by_no_fewer(millionths in 1..MILLION as u32) {
        let ratio = ratio(millionths);
        let least = ratio.least_to_spare_one();
        prop_assert!(!ratio.quantile_exceeds(1, least.into()));
        prop_assert!(ratio.quantile_exceeds(1, u64::from(least) - 1));
    }
}

#[test]
fn the_greatest_value_spares_none() {
    assert_eq!(ratio(1_000_000).least_to_spare_one(), 0);
    assert!(ratio(1_000_000).quantile_exceeds(1, u64::MAX));
}

#[test]
fn nothing_of_nothing_is_no_share_of_it() {
    assert!(!ratio(1).is_reached(0, 0));
    assert!(!ratio(1).is_reached(0, 100));
}
