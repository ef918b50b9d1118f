//! Whether a queue stands, and who has then waited too long: controlled delay.
//!
//! A queue that drains between bursts does its work; one that stands only adds to every wait. The two
//! are told apart by the *least* delay of an interval: K. Nichols and V. Jacobson, "Controlling Queue
//! Delay" (ACM Queue, 2012). What is then done is what servers do, not routers: B. Maurer, "Fail at
//! Scale" (ACM Queue, 2015), and the class `Codel` of Facebook's folly. While a queue stands, whoever
//! has waited for more than twice the target is refused when a turn comes, but never the first of an
//! interval.
//!
//! One thing is added. Refusing keeps the delay short, at about twice the target; chance takes it below the
//! target now and then, and may drain the queue. To take that for the end of the overload is to refuse
//! nobody for an interval, in which the queue grows as long as it was at first. So a queue from which some
//! were refused in an interval still stands in the next.

use super::rules::Rules;
use crate::context::Criticality;

/// How many classes there are, each with a delay of its own: the critical, who are served first, must not
/// be refused because there is a queue of others.
pub(super) const CLASSES: usize = Criticality::Sheddable as usize + 1;

/// Times are in nanoseconds. A clock that goes back only makes an interval longer.
#[derive(Debug, Default)]
pub(super) struct CoDel {
    /// When the first turn of the running interval came; none has yet in this queue.
    started: Option<u64>,
    /// When a turn last came.
    last: u64,
    /// Whether that was the first of its interval.
    is_first: bool,
    /// The least delays of the running interval, so far.
    least: [Option<u64>; CLASSES],
    /// Those of the last before in which there were any: zero where calls did not have to wait.
    least_before: [u64; CLASSES],
    stands: [bool; CLASSES],
    /// Whether somebody was refused in the running interval.
    refused: [bool; CLASSES],
}

impl CoDel {
    /// Somebody begins to wait where nobody did. `had_room` says that calls did not have to wait in
    /// between. Returns whether it is another queue than the last.
    pub(super) fn begin(&mut self, now: u64, had_room: bool, rules: &Rules) -> bool {
        let is_old = now.saturating_sub(self.last) >= rules.interval;
        // To drain, when some are refused, is not yet to have drained by itself.
        let is_new = is_old || had_room && !(rules.is_controlled && self.any_stands());
        if is_new {
            *self = Self::default();
        } else if had_room {
            self.least = [Some(0); CLASSES];
        }
        is_new
    }

    /// A turn comes. `delays` are how long those have waited who have waited the longest of their classes;
    /// zero for a class of which nobody waits and whose turn it would be, and `None` for one of which
    /// nobody waits and whose turn it would not.
    pub(super) fn turn(&mut self, now: u64, delays: [Option<u64>; CLASSES], rules: &Rules) {
        self.last = now;
        self.is_first = match self.started {
            Some(started) => now.saturating_sub(started) > rules.interval,
            None => true,
        };
        if self.is_first {
            self.started = Some(now);
            (0..CLASSES).for_each(|class| self.end_interval(class, rules));
        }
        for (least, delay) in self.least.iter_mut().zip(delays) {
            *least = match (*least, delay) {
                (Some(least), Some(delay)) => Some(least.min(delay)),
                (least, delay) => least.or(delay),
            };
        }
    }

    fn end_interval(&mut self, class: usize, rules: &Rules) {
        if let Some(least) = self.least[class].take() {
            self.least_before[class] = least;
            self.stands[class] = least > rules.target || self.stands[class] && self.refused[class];
            self.refused[class] = false;
        }
    }

    /// One of `class` is refused who has waited too long.
    pub(super) fn refuse(&mut self, class: usize) {
        self.refused[class] = true;
    }

    /// Whether one of `class` has waited too long whose `delay` the last turn was told.
    pub(super) const fn is_too_long(&self, class: usize, delay: u64, rules: &Rules) -> bool {
        !self.is_first && self.stands[class] && delay > rules.target.saturating_mul(2)
    }

    /// Whether the queue of a class stands.
    pub(super) const fn stands(&self, class: usize) -> bool {
        self.stands[class]
    }

    /// Whether that of some class does.
    pub(super) fn any_stands(&self) -> bool {
        self.stands.contains(&true)
    }

    /// The least delay of the last interval that is over, of the class for which it is longest.
    pub(super) fn least(&self) -> u64 {
        self.least_before.into_iter().max().unwrap_or(0)
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

    /// The class of those who are not told apart.
    const ONE: usize = 0;

    /// A turn of one who has waited for `delay`. Returns whether that is too long.
    fn turn(codel: &mut CoDel, now: u64, delay: u64, rules: &Rules) -> bool {
        codel.turn(now, [Some(delay), None, None, None], rules);
        codel.is_too_long(ONE, delay, rules)
    }

    /// The queue of which every turn came so many milliseconds late, one each millisecond, from 1 s on for
    /// so many milliseconds.
    fn after(millis: u64, delay: u64) -> CoDel {
        let mut codel = CoDel::default();
        codel.begin(1_000 * MS, true, &rules());
        for at in 0..millis {
            turn(&mut codel, (1_000 + at) * MS, delay * MS, &rules());
        }
        codel
    }

    #[test]
    fn a_queue_stands_when_after_an_interval_in_which_all_waited_for_longer_than_the_target() {
        for (millis, delay, stands) in [
            (101, 6, false), // it is just over
            (102, 6, true),
            (102, 5, false), // at the target is not above it
            (203, 6, true),
        ] {
            let codel = after(millis, delay);
            assert_eq!(codel.stands(ONE), stands, "{millis} {delay}");
        }
        let mut codel = after(50, 6);
        turn(&mut codel, 1_050 * MS, 5 * MS, &rules());
        turn(&mut codel, 1_101 * MS, 6 * MS, &rules());
        assert!(!codel.stands(ONE), "one did not");
        turn(&mut codel, 1_202 * MS, 6 * MS, &rules());
        assert!(codel.stands(ONE), "but that is long ago");
        assert_eq!(codel.least(), 6 * MS);
    }

    #[test]
    fn while_it_stands_more_than_twice_the_target_is_too_long_but_not_for_the_first_of_an_interval()
    {
        let mut codel = after(101, 11);
        assert!(!turn(&mut codel, 1_101 * MS, 1_000 * MS, &rules()), "first");
        assert!(
            !turn(&mut codel, 1_102 * MS, 10 * MS, &rules()),
            "just twice"
        );
        assert!(turn(&mut codel, 1_102 * MS, 10 * MS + 1, &rules()));
        assert!(turn(&mut codel, 1_201 * MS, 11 * MS, &rules()));
        assert!(!turn(&mut codel, 1_202 * MS, 11 * MS, &rules()), "first");
        assert!(turn(&mut codel, 1_203 * MS, 11 * MS, &rules()));
    }

    #[test]
    fn a_queue_from_which_some_were_refused_stands_until_for_an_interval_none_is() {
        let mut codel = after(150, 11);
        codel.refuse(ONE);
        for (at, stands) in [(1_202, true), (1_210, true), (1_303, false)] {
            turn(&mut codel, at * MS, 0, &rules());
            assert_eq!(codel.stands(ONE), stands, "{at}");
        }
        codel.refuse(ONE);
        turn(&mut codel, 1_404 * MS, 0, &rules());
        assert!(!codel.stands(ONE), "it did not before");
    }

    #[test]
    fn a_queue_that_drained_is_another_and_one_that_only_ran_empty_is_not() {
        let controlled = Rules {
            is_controlled: true,
            ..rules()
        };
        for (rules, at, had_room, is_new) in [
            (rules(), 1_102, true, true),
            (rules(), 1_102, false, false),
            (rules(), 1_200, false, false),
            (rules(), 1_201, false, true), // none came for an interval
            (controlled, 1_102, true, false),
            (controlled, 1_201, true, true),
        ] {
            let mut codel = after(102, 11);
            assert_eq!(codel.begin(at * MS, had_room, &rules), is_new);
            assert_eq!(codel.stands(ONE), !is_new, "{at} {had_room}");
            turn(&mut codel, 1_203 * MS, 11 * MS, &rules);
            let drained = had_room || is_new;
            assert_eq!(codel.stands(ONE), !drained, "{at} {had_room}");
        }
    }

    #[test]
    fn times_that_cannot_be_reached_and_clocks_that_go_back_are_borne() {
        let mut rules = rules();
        (rules.target, rules.interval) = (u64::MAX - 1, u64::MAX);
        let mut codel = CoDel::default();
        for at in [u64::MAX, 0, 7, u64::MAX] {
            codel.begin(at, false, &rules);
            assert!(!turn(&mut codel, at, u64::MAX, &rules));
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
            let rules = Rules { target, interval, is_controlled: true, ..rules() };
            let mut codel = CoDel::default();
            let mut now = 0;
            for (later, delay) in past {
                now += later;
                turn(&mut codel, now, delay, &rules);
            }
            // Calls did not have to wait since, or there were none for an interval.
            let had_room = had_room && !codel.stands(ONE);
            now += if had_room { 0 } else { interval };
            codel.begin(now, had_room, &rules);
            let mut turns: Vec<_> = burst
                .into_iter()
                .map(|(later, delay)| (later % interval, delay))
                .map(|(later, delay)| (now + later, delay % (later + 1)))
                .collect();
            turns.sort_unstable();
            for (at, delay) in turns {
                prop_assert!(!turn(&mut codel, at, delay, &rules));
            }
        }
    }
}
