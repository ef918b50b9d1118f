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

use super::{Counts, Outcome};

const GOOD: Outcome = Outcome::GOOD;
const FAILED: Outcome = Outcome::FAILED;

fn config(cases: u32) -> ProptestConfig {
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
