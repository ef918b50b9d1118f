//! The windows against slow, obvious models: lists of outcomes or durations, with times where there are
//! any.

mod count;
mod ewma;
mod quantile;
mod ratio;
mod requests;
mod time;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::{Counts, Outcome, Sample};

const GOOD: Outcome = Outcome::GOOD;
const FAILED: Outcome = Outcome::FAILED;

pub(crate) fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::with_cases(cases)
    }
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        3 => Just(GOOD),
        1 => (any::<bool>(), any::<bool>())
            .prop_map(|(failed, slow)| Outcome { failed, slow, ..GOOD }),
    ]
}

fn count<'a>(outcomes: impl IntoIterator<Item = &'a Outcome>) -> Counts {
    let mut counts = Counts::default();
    for outcome in outcomes {
        counts.calls += 1;
        counts.failed += u64::from(outcome.failed);
        counts.slow += u64::from(outcome.slow);
    }
    counts
}

/// The quantile at this share, unless it lies beyond all that was seen. Every duration that was cut hands
/// its weight on, in equal parts, to all that are longer.
pub(crate) fn product_limit(mut seen: Vec<Sample>, share: f64) -> Option<u64> {
    // Where both are equally long, the cut one is the longer.
    seen.sort_by_key(|sample| match *sample {
        Sample::Exact(nanos) => (nanos, 0),
        Sample::Cut(nanos) => (nanos, 1),
    });
    let mut weights = vec![1.0 / seen.len() as f64; seen.len()];
    let mut passed = 0.0;
    for (at, sample) in seen.iter().enumerate() {
        if let Sample::Exact(nanos) = *sample {
            passed += weights[at];
            if passed >= share - 1e-9 {
                return Some(nanos);
            }
        } else {
            let (weight, longer) = (weights[at], &mut weights[at + 1..]);
            let part = weight / longer.len() as f64;
            longer.iter_mut().for_each(|weight| *weight += part);
        }
    }
    None
}
