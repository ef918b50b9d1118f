//! Whether a queue stands, and who has then waited too long: controlled delay.
//!
//! A queue that drains between bursts does its work; one that stands only adds to every wait. The two
//! are told apart by the *least* delay of an interval: K. Nichols and V. Jacobson, "Controlling Queue
//! Delay" (ACM Queue, 2012). What is then done is what servers do, not routers: B. Maurer, "Fail at
//! Scale" (ACM Queue, 2015), and the class `Codel` of Facebook's folly. While a queue stands, whoever
//! has waited for more than twice the target is refused when a turn comes, but never the first of an
//! interval, so that each interval has one sample at least that is not of its own making.

use super::rules::Rules;

/// Times are in nanoseconds. A clock that goes back only makes an interval longer.
#[derive(Debug, Default)]
pub(super) struct CoDel {
    /// When the first turn of the running interval came; none has yet in this queue.
    started: Option<u64>,
    /// When a turn last came.
    last: u64,
    /// The least delay of the running interval, so far.
    least: u64,
    /// That of the one before: none where calls did not have to wait.
    least_before: u64,
}

impl CoDel {
    /// Somebody begins to wait where nobody did. Returns whether it is another queue than the last: calls
    /// did not have to wait in between, as `had_room` says, or none came for an interval.
    pub(super) fn begin(&mut self, now: u64, had_room: bool, rules: &Rules) -> bool {
        let is_new = had_room || now.saturating_sub(self.last) >= rules.interval;
        if is_new {
            *self = Self::default();
        }
        is_new
    }

    /// The turn comes of one who has waited for `delay`. Returns whether that is too long.
    pub(super) fn turn(&mut self, now: u64, delay: u64, rules: &Rules) -> bool {
        self.last = now;
        match self.started {
            Some(started) if now.saturating_sub(started) < rules.interval => {
                self.least = self.least.min(delay);
                self.stands(rules) && delay > rules.target.saturating_mul(2)
            }
            started => {
                self.least_before = started.map_or(0, |_| self.least);
                (self.started, self.least) = (Some(now), delay);
                false
            }
        }
    }

    /// Whether the queue stands.
    pub(super) const fn stands(&self, rules: &Rules) -> bool {
        self.least_before > rules.target
    }

    /// The least delay of the last interval that is over.
    pub(super) const fn least(&self) -> u64 {
        self.least_before
    }
}

#[cfg(all(test, not(steadfast_loom)))]
mod tests {
    use std::time::Duration;

    use proptest::{prelude::*, test_runner::RngSeed};

    use super::*;
    use crate::permits::Order;

    const MS: u64 = 1_000_000;

    /// 5 ms and 100 ms.
    fn rules() -> Rules {
        Rules::new(Order::Fifo, 9, Duration::MAX)
    }

    /// The queue of which every turn came so many milliseconds late, one each millisecond, from 1 s on for
    /// so many milliseconds.
    fn after(millis: u64, delay: u64) -> CoDel {
        let mut codel = CoDel::default();
        codel.begin(1_000 * MS, true, &rules());
        for at in 0..millis {
            codel.turn((1_000 + at) * MS, delay * MS, &rules());
        }
        codel
    }

    #[test]
    fn a_queue_stands_when_an_interval_is_over_in_which_all_waited_for_longer_than_the_target() {
        for (millis, delay, stands) in [
            (100, 6, false), // it is not over
            (101, 6, true),  // and is over at its end
            (101, 5, false), // at the target is not above it
            (201, 6, true),
        ] {
            let codel = after(millis, delay);
            assert_eq!(codel.stands(&rules()), stands, "{millis} {delay}");
        }
        let mut codel = after(50, 6);
        codel.turn(1_050 * MS, 5 * MS, &rules());
        codel.turn(1_100 * MS, 6 * MS, &rules());
        assert!(!codel.stands(&rules()), "one did not");
        codel.turn(1_200 * MS, 6 * MS, &rules());
        assert!(codel.stands(&rules()), "but that is long ago");
        assert_eq!(codel.least(), 6 * MS);
    }

    #[test]
    fn while_it_stands_more_than_twice_the_target_is_too_long_but_not_for_the_first_of_an_interval()
    {
        let mut codel = after(100, 11);
        assert!(!codel.turn(1_100 * MS, 1_000 * MS, &rules()), "the first");
        assert!(!codel.turn(1_101 * MS, 10 * MS, &rules()), "just twice");
        assert!(codel.turn(1_101 * MS, 10 * MS + 1, &rules()));
        assert!(codel.turn(1_199 * MS, 11 * MS, &rules()));
        assert!(!codel.turn(1_200 * MS, 11 * MS, &rules()), "the first");
        assert!(codel.turn(1_201 * MS, 11 * MS, &rules()));
    }

    #[test]
    fn a_queue_that_drained_is_another_and_one_that_only_ran_empty_is_not() {
        for (at, had_room, is_new) in [
            (1_101, true, true),
            (1_101, false, false),
            (1_199, false, false),
            (1_200, false, true), // none came for an interval
        ] {
            let mut codel = after(101, 11);
            assert_eq!(codel.begin(at * MS, had_room, &rules()), is_new);
            assert_eq!(codel.stands(&rules()), !is_new, "{at} {had_room}");
            assert_eq!(
                codel.turn(at * MS, 11 * MS, &rules()),
                at < 1_200 && !is_new
            );
        }
    }

    #[test]
    fn times_that_cannot_be_reached_and_clocks_that_go_back_are_borne() {
        let mut rules = rules();
        (rules.target, rules.interval) = (u64::MAX - 1, u64::MAX);
        let mut codel = CoDel::default();
        for at in [u64::MAX, 0, 7, u64::MAX] {
            codel.begin(at, false, &rules);
            assert!(!codel.turn(at, u64::MAX, &rules));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            rng_seed: RngSeed::Fixed(1),
            failure_persistence: None,
            ..ProptestConfig::with_cases(2_000)
        })]

        /// Whatever was before, and however long the calls of the burst wait, as long as that may be.
        #[test]
        fn of_a_burst_that_is_over_within_an_interval_none_has_waited_too_long(
            target in 1..50_u64,
            more in 1..100_u64,
            past in prop::collection::vec((0..60_u64, 0..200_u64), 0..50),
            had_room in any::<bool>(),
            burst in prop::collection::vec((0..1_000_u64, 0..1_000_u64), 0..50),
        ) {
            let interval = target + more;
            let rules = Rules { target, interval, ..rules() };
            let mut codel = CoDel::default();
            let mut now = 0;
            for (later, delay) in past {
                now += later;
                codel.turn(now, delay, &rules);
            }
            // Calls did not have to wait since, or there were none for an interval.
            now += if had_room { 0 } else { interval };
            codel.begin(now, had_room, &rules);
            let mut turns: Vec<_> = burst
                .into_iter()
                .map(|(later, delay)| (later % interval, delay))
                .map(|(later, delay)| (now + later, delay % (later + 1)))
                .collect();
            turns.sort_unstable();
            for (at, delay) in turns {
                prop_assert!(!codel.turn(at, delay, &rules));
            }
        }
    }
}
