//! [`RollingQuantile`] against a list of all durations and their times, sorted.

use proptest::prelude::*;
use rand::{SeedableRng, rngs::SmallRng};

use super::{config, product_limit};
use crate::window::{Histogram, Ratio, RollingQuantile, Sample};

const US: u64 = 1_000;
const MS: u64 = 1_000 * US;
const SECOND: u64 = 1_000 * MS;
const HOUR: u64 = 3_600 * SECOND;
const SLICE: u64 = 10 * SECOND;
const WINDOW: u64 = 6 * SLICE;

fn quantile_of(share: f64, minimum: u32) -> RollingQuantile {
    RollingQuantile::new(Ratio::new("quantile", share).unwrap(), WINDOW, minimum)
}

/// Whether `estimate` is `exact` but for a 32nd.
fn is_near(estimate: u64, exact: u64) -> bool {
    estimate.abs_diff(exact) <= exact / 32 + 1
}

struct Model {
    millionths: u64,
    minimum: usize,
    /// The slice in which the last was recorded.
    slice: u64,
    all: Vec<(u64, Sample)>,
    value: Option<u64>,
}

impl Model {
    fn record(&mut self, sample: Sample, now: u64) {
        let slice = now / SLICE;
        if slice > self.slice {
            let seen = self.all.iter().filter(|(of, _)| slice - of <= 6);
            self.value = self.estimate(seen.map(|(_, sample)| *sample).collect());
            self.slice = slice;
        }
        self.all.push((slice, sample));
    }

    fn estimate(&self, seen: Vec<Sample>) -> Option<u64> {
        let is_exact = |sample: &&Sample| matches!(sample, Sample::Exact(_));
        if seen.iter().filter(is_exact).count() < self.minimum {
            return None;
        }
        let cut = seen.iter().map(|sample| match *sample {
            Sample::Exact(_) => 0,
            Sample::Cut(nanos) => nanos,
        });
        let longest_cut = cut.max().unwrap_or(0);
        let beyond = || self.value.map(|last| last.max(longest_cut));
        product_limit(seen, self.millionths as f64 / 1e6).or_else(beyond)
    }
}

#[derive(Clone, Debug)]
enum Step {
    Record(Sample),
    /// In tenths of a slice.
    Advance(u64),
}

fn step(durations: impl Strategy<Value = u64>, cut: u32) -> impl Strategy<Value = Step> {
    let sample = (durations, 0..100_u32).prop_map(move |(nanos, percent)| {
        if percent < cut {
            Sample::Cut(nanos)
        } else {
            Sample::Exact(nanos)
        }
    });
    let advance = prop_oneof![8 => 1..20_u64, 2 => Just(10), 1 => 20..150_u64];
    prop_oneof![8 => sample.prop_map(Step::Record), 1 => advance.prop_map(Step::Advance)]
}

fn any_duration() -> impl Strategy<Value = u64> {
    prop_oneof![
        1_100..HOUR,
        (1_100.0..3.6e12_f64).prop_map(|n| n.powf(0.7) as u64 + 1_100)
    ]
}

/// So far apart that no two share a bucket: what is cut in one is then longer than what ended there.
fn spaced_duration() -> impl Strategy<Value = u64> {
    (0..60_i32).prop_map(|power| (2.0 * US as f64 * 1.2_f64.powi(power)) as u64)
}

fn share() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(500_000),
        Just(900_000),
        Just(999_000),
        Just(1_000_000),
        1..=1_000_000_u64
    ]
}

/// Plays `steps` to window and model; where they differ, says how. Where durations are cut, the quantile
/// may lie beyond all that was seen, which is told by the end of a bucket.
fn play(millionths: u64, minimum: u32, steps: Vec<Step>, cut: bool) -> Result<(), TestCaseError> {
    let window = quantile_of(millionths as f64 / 1e6, minimum);
    let mut model = Model {
        millionths,
        minimum: minimum as usize,
        slice: 0,
        all: Vec::new(),
        value: None,
    };
    let mut now = 0;
    for step in steps {
        match step {
            Step::Advance(tenths) => now += tenths * SLICE / 10,
            Step::Record(sample) => {
                let before = model.slice;
                model.record(sample, now);
                prop_assert_eq!(window.record(sample, now), model.slice != before);
            }
        }
        match (window.get(), model.value) {
            (Some(estimate), Some(exact)) => {
                let is_beyond = cut && (exact..=exact + exact / 16 + 1).contains(&estimate);
                prop_assert!(
                    is_near(estimate, exact) || is_beyond,
                    "{estimate} for {exact}"
                );
            }
            (estimate, exact) => prop_assert_eq!(estimate, exact),
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn it_is_the_quantile_of_the_last_six_whole_slices(
        millionths in share(),
        minimum in 1..30_u32,
        steps in proptest::collection::vec(step(any_duration(), 0), 0..300),
    ) {
        play(millionths, minimum, steps, false)?;
    }

    #[test]
    fn what_was_cut_hands_its_weight_on_to_all_that_is_longer(
        millionths in share(),
        minimum in 1..10_u32,
        steps in proptest::collection::vec(step(spaced_duration(), 30), 0..300),
    ) {
        play(millionths, minimum, steps, true)?;
    }

    #[test]
    fn no_duration_is_told_wrong_by_more_than_a_32nd(nanos in any_duration()) {
        let window = quantile_of(1.0, 1);
        window.record(Sample::Exact(nanos), 0);
        window.record(Sample::Exact(US), SLICE);
        let estimate = window.get().unwrap();
        prop_assert!(is_near(estimate, nanos), "{estimate} for {nanos}");
    }

    #[test]
    fn the_mean_is_that_of_all_the_cut_ones_as_long_as_they_were_seen(
        durations in proptest::collection::vec((any_duration(), any::<bool>()), 1..50),
    ) {
        let histogram = Histogram::new();
        for (nanos, is_cut) in &durations {
            let sample = if *is_cut { Sample::Cut } else { Sample::Exact };
            histogram.add(sample(*nanos));
        }
        let mean = durations.iter().map(|(nanos, _)| nanos).sum::<u64>() / durations.len() as u64;
        prop_assert!(is_near(histogram.read().mean().unwrap(), mean));
    }
}

#[test]
fn of_nothing_there_is_no_mean() {
    assert_eq!(Histogram::new().read().mean(), None);
}

#[test]
fn what_is_too_short_or_too_long_counts_as_the_shortest_or_longest_it_can_tell() {
    for (nanos, told) in [
        (0, 1_024..1_100),
        (US, 1_024..1_100),
        ((1 << 42) - 1, HOUR..2 * HOUR),
        (1 << 42, HOUR..2 * HOUR),
        (u64::MAX, HOUR..2 * HOUR),
    ] {
        let window = quantile_of(0.5, 1);
        window.record(Sample::Exact(nanos), 0);
        window.record(Sample::Exact(nanos), SLICE);
        assert!(told.contains(&window.get().unwrap()), "{nanos}");
    }
}

#[test]
fn it_is_known_from_the_slice_after_that_in_which_enough_was_recorded() {
    let window = quantile_of(0.5, 3);
    for _ in 0..2 {
        window.record(Sample::Exact(MS), 0);
        window.record(Sample::Cut(MS), 0); // which is not enough of itself
    }
    assert!(window.record(Sample::Exact(MS), SLICE));
    assert_eq!(window.get(), None, "two of three");
    assert!(!window.record(Sample::Exact(MS), 2 * SLICE - 1));
    assert_eq!(window.get(), None, "the slice is not over");
    assert!(window.record(Sample::Exact(MS), 2 * SLICE));
    assert!(window.get().is_some());
}

#[test]
fn a_duration_is_forgotten_between_six_and_seven_sixths_of_the_window() {
    for recorded in [SLICE, 2 * SLICE - 1] {
        let window = quantile_of(1.0, 1);
        window.record(Sample::Exact(SECOND), recorded);
        for slice in 2..=7 {
            window.record(Sample::Exact(MS), slice * SLICE);
            assert!(window.get().unwrap() > MS * 2, "slice {slice}");
        }
        window.record(Sample::Exact(MS), 8 * SLICE);
        assert!(window.get().unwrap() < MS * 2);
    }
}

#[test]
fn what_took_next_to_no_time_is_counted_without_a_look_at_the_clock() {
    let window = quantile_of(0.5, 1);
    window.record(Sample::Exact(SECOND), 0);
    window.record_at_once();
    window.record(Sample::Exact(SECOND), SLICE);
    assert!(window.get().unwrap() < 2 * US);
}

#[test]
fn where_most_is_cut_the_last_known_quantile_is_not_brought_down_by_it() {
    let window = quantile_of(0.5, 1);
    window.record(Sample::Exact(100 * MS), 0);
    window.record(Sample::Cut(MS), SLICE);
    let known = window.get().unwrap();
    for slice in 1..6 {
        for _ in 0..1_000 {
            window.record(Sample::Cut(MS), slice * SLICE);
        }
        assert_eq!(window.get(), Some(known), "slice {slice}");
    }
    // But one that was cut later says that it is longer than that.
    for _ in 0..6_000 {
        window.record(Sample::Cut(SECOND), 6 * SLICE);
    }
    window.record(Sample::Exact(MS), 7 * SLICE - 1);
    window.record(Sample::Cut(MS), 7 * SLICE);
    assert!(window.get().unwrap() >= SECOND);
}

#[test]
fn a_limit_at_the_quantile_itself_does_not_pull_it_down() {
    // Where what is cut were left out, or taken for what it was cut at, each slice's quantile would be
    // the last one's share of itself.
    const MEAN: f64 = 50e6;
    let window = quantile_of(0.9, 100);
    let exact = MEAN * 10_f64.ln();
    let mut rng = SmallRng::seed_from_u64(1);
    for call in 0..400_000_u64 {
        let now = call * WINDOW / 4_000;
        let takes = (-MEAN * rng.random::<f64>().ln()) as u64;
        let limit = window.get().unwrap_or(HOUR);
        let sample = if takes < limit {
            Sample::Exact(takes)
        } else {
            Sample::Cut(limit)
        };
        window.record(sample, now);
        if let Some(estimate) = window.get() {
            let ratio = estimate as f64 / exact;
            assert!((0.8..1.25).contains(&ratio), "{ratio} at call {call}");
        }
    }
}

#[test]
fn the_longest_window_does_not_overflow() {
    let quantile = Ratio::new("quantile", 0.5).unwrap();
    let window = RollingQuantile::new(quantile, u64::MAX, 1);
    for now in [0, HOUR, u64::MAX / 2, u64::MAX] {
        window.record(Sample::Exact(MS), now);
    }
    assert!(window.get().is_some());
}
