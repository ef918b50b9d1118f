//! Goodput over real sockets: a short form of `examples/goodput`.

#[allow(dead_code, reason = "the rest is for the example")]
#[path = "../../../examples/goodput/trial/mod.rs"]
mod trial;

use trial::{Arrivals, Load, Setup, server::Stack};

use super::ms;

/// Fifty calls a second, of which a debug build on two cores that others use, too, sends and refuses ten
/// times as many; and long ones, beside which it is short for how long such a machine forgets a thread.
const SETUP: Setup = Setup {
    workers: 25,
    takes: ms(500),
    queue_wait: ms(50),
    patience: ms(2_000),
    arrivals: Arrivals::Even,
};

/// A trial whose driver fell behind says nothing of the server, and is made again.
const TRIALS: usize = 3;

#[test]
fn a_server_offered_ten_times_what_it_can_do_does_that_and_answers_in_time() {
    let loads = [0.5, 0.9, 2.0, 5.0, 10.0].map(|times| Load {
        times,
        length: ms(2_000),
    });
    for trial in 1..=TRIALS {
        let outcomes = trial::run(Stack::LoadShed, &SETUP, &loads).unwrap();
        let unloaded = outcomes[0].p99;
        let shortfalls = outcomes
            .iter()
            .filter_map(|it| it.shortfall(&SETUP, unloaded));
        let shortfalls: Vec<_> = shortfalls.collect();
        if shortfalls.is_empty() {
            return;
        }
        let told: Vec<_> = shortfalls.iter().map(ToString::to_string).collect();
        let is_of_the_driver = shortfalls.iter().all(|it| it.is_of_the_driver);
        let is_made_again = is_of_the_driver && trial < TRIALS;
        assert!(is_made_again, "{}\n{outcomes:#?}", told.join("\n"));
    }
}
