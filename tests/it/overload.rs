//! The published experiments, as much of them as shows that their bars are met. The rest is in
//! `examples/overload`, and in its report.

#[allow(dead_code, reason = "tables and charts are for the example")]
#[path = "../../examples/overload/experiments/mod.rs"]
mod experiments;

use experiments::{ALL, Size};

macro_rules! meets_its_bars {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            let name = stringify!($name);
            let experiment = ALL.iter().find(|experiment| experiment.name == name).unwrap();
            for bar in (experiment.run)(Size::Fast).bars {
                assert!(bar.is_met, "{bar:#?}");
            }
        })*

        #[test]
        fn every_experiment_is_run() {
            let named = [$(stringify!($name)),*];
            assert_eq!(ALL.iter().map(|experiment| experiment.name).collect::<Vec<_>>(), named);
        }
    };
}

meets_its_bars! {
    occ_jitter
    retry_policies
    nested_retries
    retry_storm
    capacity_loss
    cold_cache
    collapse
    hangs
    retry_ramp
    amplification
    breaker_tuning
    breaker_detection
    adaptive_limit
    stable_timeout
    step_changes
    sudden_overload
    several_calls
    prefetch_spike
    costly_refusals
    client_throttle
    short_queue
}
