//! The rule against the formula as it is written in the book, and the statistics against lists.

use std::time::Duration;

use proptest::{prelude::*, test_runner::RngSeed};

use super::{
    reports::{Reports, Sent},
    rule::{Rule, is_among},
    settings::{Counted, Kinds, Settings},
    statistics::{Asked, Statistics},
};
use crate::{
    classify::{Failure, FailureKind, Judgement, Verdict},
    context::Criticality,
    reported::ReportedLoad,
    window::Requests,
};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::with_cases(cases)
    }
}

/// The book, the cap and the minimum, one after the other.
fn model(k: f64, cap: f64, least: u64, requests: u64, accepts: u64) -> f64 {
    if requests < least {
        return 0.0;
    }
    let book = f64::max(
        0.0,
        (requests as f64 - k * accepts as f64) / (requests as f64 + 1.0),
    );
    if book > cap { cap } else { book }
}

proptest! {
    #![proptest_config(config(2_000))]

    #[test]
    fn the_probability_is_that_of_the_book_within_its_bounds(
        k in prop_oneof![Just(1.0), Just(2.0), 1.0..3.0, 1.0..f64::MAX],
        cap in 0.01..=0.99,
        least in 0..500_u64,
        accepted in 0..1_000_u64,
        refused in 0..10_000_u64,
        // Less than a slice.
        calm in 0..SECOND,
    ) {
        let rule = Rule::new(k, cap, least, 10 * SECOND);
        let probability = rule.probability(Requests { accepted, refused }, calm);
        prop_assert_eq!(probability, model(k, cap, least, accepted + refused, accepted));
    }

    #[test]
    fn each_calm_slice_doubles_the_share_that_passes_where_it_is_by_no_chance(
        k in 1.0..3.0,
        accepted in 0..100_000_u64,
        refused in 0..100_000_u64,
        calm in 0..20 * SECOND,
    ) {
        let rule = Rule::new(k, 0.9, 0, 10 * SECOND);
        let requests = Requests { accepted, refused };
        let mut passes = 1.0 - rule.probability(requests, 0);
        let in_a_row = accepted as f64 * calm as f64 / (10 * SECOND) as f64;
        let mut left = in_a_row * (k - 1.0) * (k - 1.0) / (2.0 * k * 1000_f64.ln());
        // So near to a whole number, rounding may fall to either side.
        prop_assume!((left - left.round()).abs() > 1e-9);
        for _ in 0..calm / SECOND {
            if left >= 1.0 {
                passes *= 2.0;
                left -= 1.0;
            }
        }
        let expected = (1.0 - passes).max(0.0);
        let probability = rule.probability(requests, calm);
        prop_assert!((probability - expected).abs() < 1e-9, "{probability}, not {expected}");
    }

    #[test]
    fn statistics_are_those_of_the_requests_in_the_window(
        steps in prop::collection::vec((0..4_usize, 0..2 * SECOND, any::<u64>()), 1..300),
    ) {
        let rule = Rule::new(1.5, 0.9, 5, 10 * SECOND);
        let statistics = Statistics::new(&rule);
        let (mut now, mut overloaded_at, mut all) = (0, 0, Vec::new());
        for (counted, later, draw) in steps {
            now += later;
            let counted = match Counted::ALL.get(counted) {
                Some(counted) => {
                    statistics.count(*counted, now);
                    *counted
                }
                None => {
                    let (_, expected) = statistics.look(&rule, now);
                    let is_refused = expected > 0.0 && is_among(expected, draw);
                    let asked = statistics.ask(&rule, 0.0, now, || draw);
                    let outcome = if is_refused { Asked::Refused } else { Asked::Passes };
                    prop_assert_eq!(asked, (outcome, expected));
                    if !is_refused {
                        continue;
                    }
                    Counted::Refused
                }
            };
            all.push((now, counted));
            if counted == Counted::Overloaded {
                overloaded_at = now;
            }
            let seen = all.iter().filter(|(at, _)| now / SECOND - at / SECOND < 10);
            let accepted = seen.clone().filter(|(_, counted)| *counted == Counted::Accepted);
            let accepted = accepted.count() as u64;
            let refused = seen.count() as u64 - accepted;
            let requests = Requests { accepted, refused };
            let expected = rule.probability(requests, now - overloaded_at);
            prop_assert_eq!(statistics.look(&rule, now), (requests, expected));
            prop_assert!(refused == 0 || !statistics.is_clear());
        }
    }
}

fn load(utilization: f64) -> ReportedLoad {
    ReportedLoad::new(utilization).unwrap()
}

proptest! {
    #![proptest_config(config(300))]

    /// A service that is offered so many times what it can do, and tells late.
    #[test]
    fn reports_have_just_too_much_be_sent_however_late_they_come(
        offered in 1.2..10_f64,
        round_trip in 0..300_usize,
    ) {
        let reports = Reports::new(0.99, true);
        // What was sent, every millisecond.
        let mut sent = Vec::new();
        for now in 0..10_000_usize {
            let share = reports.share(Criticality::Critical, now as u64 * MS);
            sent.push(share);
            if now >= round_trip {
                let then = sent[now - round_trip];
                let utilization = load(offered * then);
                reports.heed(Criticality::Critical, Sent::new(then).share(), &utilization, now as u64 * MS);
            }
        }
        for share in &sent[3_000..] {
            let utilization = offered * share;
            prop_assert!((1.07..1.13).contains(&utilization), "{utilization}");
        }
        // It comes there from above.
        let least = sent.iter().copied().fold(1.0, f64::min);
        prop_assert!(offered * least > 1.05, "{}", offered * least);
    }

    #[test]
    fn whatever_is_reported_the_least_share_is_sent_and_all_a_second_later(
        cap in 0.01..=0.99,
        is_by_criticality in any::<bool>(),
        all in prop::collection::vec(
            (0..4_usize, 0.0..=1.0, prop_oneof![0.0..10.0, 0.0..f64::MAX], 0.0..=1.0, 0..SECOND),
            1..100,
        ),
    ) {
        let reports = Reports::new(cap, is_by_criticality);
        let mut now = 0;
        for (class, sent, utilization, admitted, later) in all {
            now += later;
            let class = Criticality::ALL[class];
            let report = load(utilization).with_admitted(class, admitted);
            let passes = reports.heed(class, sent, &report, now);
            prop_assert!((1.0 - cap..=1.0).contains(&passes), "{passes}");
            prop_assert_eq!(reports.share(class, now), passes);
            prop_assert_eq!(reports.share(class, now + SECOND - 1), passes);
            prop_assert_eq!(reports.share(class, now + SECOND), 1.0);
        }
    }
}

#[test]
fn where_only_the_utilization_is_reported_the_most_critical_calls_fit_first() {
    let reports = Reports::new(0.99, true);
    let classes = [
        Criticality::CriticalPlus,
        Criticality::Critical,
        Criticality::Sheddable,
    ];
    // A third of each; in all three times as much as fits, so that the last two do not.
    for now in 1..2_000 {
        for class in classes {
            let sent = reports.share(class, now * MS);
            let of_all: f64 = classes
                .map(|class| reports.share(class, now * MS))
                .iter()
                .sum();
            // What is sent of a class is what is answered of it.
            if (now as f64 * sent).fract() < sent {
                reports.heed(class, sent, &load(of_all), now * MS);
            }
        }
    }
    let shares = classes.map(|class| reports.share(class, 2_000 * MS));
    assert!(shares[0] > 0.99, "{shares:?}");
    assert!(shares[1] < 0.2 && shares[2] < 0.05, "{shares:?}");
}

#[test]
fn what_the_service_says_of_a_criticality_goes_before() {
    let reports = Reports::new(0.9, true);
    let report = load(3.0)
        .with_admitted(Criticality::CriticalPlus, 1.0)
        .with_admitted(Criticality::Critical, 0.5)
        .with_admitted(Criticality::Sheddable, 0.0);
    let now = 10 * SECOND;
    let heed = |class| reports.heed(class, 1.0, &report, now);
    let critical = [Criticality::CriticalPlus, Criticality::Critical].map(heed);
    assert_eq!(critical, [1.0, 0.55]);
    assert!((heed(Criticality::Sheddable) - 0.1).abs() < 1e-9);
    let unheard = reports.share(Criticality::SheddablePlus, now);
    assert_eq!(unheard, 1.0, "no word of these yet");
}

#[test]
fn reports_are_smoothed_over_a_quarter_of_a_second() {
    let reports = Reports::new(0.9, true);
    let (class, quarter) = (Criticality::Critical, 250 * MS);
    let heed = |quarters, sent, utilization| {
        let passes = reports.heed(class, sent, &load(utilization), quarters * quarter);
        (passes / 1.1 * 1e9).round() / 1e9
    };
    // However idle it is, no more than all fits.
    for quarters in 1..100 {
        assert_eq!(heed(quarters, 1.0, 0.1), 0.909_090_909, "all");
    }
    // Half of it is what was known, and half what is said.
    assert_eq!(heed(100, 1.0, 5.0), 0.6);
    assert_eq!(heed(101, 0.5, 2.5), 0.4);
    // Of one that is idle, twice what was sent.
    assert_eq!(heed(102, 0.1, 0.01), 0.3);
    // After a second nothing is known any more.
    assert_eq!(heed(106, 1.0, 4.0), 0.25);
}

#[test]
fn calls_that_come_seldom_have_their_room_among_many() {
    let reports = Reports::new(0.9, true);
    // One in ten is critical: of the half that fits, a fifth.
    for call in 0..500 {
        let class = match call % 10 {
            0 => Criticality::Critical,
            _ => Criticality::Sheddable,
        };
        reports.heed(class, 1.0, &load(2.0), call * 10 * MS);
    }
    let fits = reports.share(Criticality::Sheddable, 5_000 * MS) / 1.1;
    assert!((fits - 0.4 / 0.9).abs() < 0.02, "{fits}");
}

#[test]
fn calls_that_came_long_ago_leave_their_room_to_others() {
    let reports = Reports::new(0.9, true);
    for now in 0..1_000 {
        reports.heed(Criticality::Critical, 1.0, &load(0.5), now * MS);
    }
    for now in 60_000..63_000 {
        reports.heed(Criticality::Sheddable, 1.0, &load(2.0), now * MS);
    }
    let share = reports.share(Criticality::Sheddable, 63_000 * MS);
    assert!((share - 0.55).abs() < 0.01, "{share}");
}

#[test]
fn who_holds_calls_back_is_asked_again_after_the_window_too() {
    let rule = Rule::new(2.0, 0.9, 0, SECOND);
    let statistics = Statistics::new(&rule);
    statistics.mark(0);
    let (asked, probability) = statistics.ask(&rule, 0.5, 3 * SECOND, || 0);
    assert_eq!((asked, probability), (Asked::HeldBack, 0.5));
    assert!(!statistics.is_clear());
    let (asked, _) = statistics.ask(&rule, 0.5, 3 * SECOND, || u64::MAX);
    assert_eq!(asked, Asked::Passes);
    // What was held back is in no window.
    assert_eq!(statistics.look(&rule, 3 * SECOND).0, Requests::default());
    let (asked, _) = statistics.ask(&rule, 0.0, 6 * SECOND, || 0);
    assert_eq!(asked, Asked::Passes);
    assert!(statistics.is_clear());
}

#[test]
fn a_share_that_was_sent_is_told_within_a_hundredth() {
    for hundredths in 1..=100_u32 {
        let share = f64::from(hundredths) / 100.0;
        let told = Sent::new(share).share();
        assert!((told / share - 1.0).abs() < 0.011, "{share}: {told}");
    }
    assert_eq!(Sent::new(1.0), Sent::ALL);
    assert_eq!(Sent::ALL.share(), 1.0);
}

#[test]
fn the_share_of_draws_that_are_refused_is_the_probability() {
    let refused = |probability| {
        // Equally far from one another over all of `u64`.
        let draws = (0..10_000_u64).map(|n| n * (u64::MAX / 10_000));
        draws.filter(|draw| is_among(probability, *draw)).count()
    };
    assert_eq!(refused(0.0), 0);
    assert!(refused(0.25).abs_diff(2_500) <= 1);
    assert!(refused(0.9).abs_diff(9_000) <= 1);
    assert!(!is_among(0.99, u64::MAX));
    assert!(is_among(f64::MIN_POSITIVE, 0));
}

#[test]
fn the_bounds_are_inclusive() {
    let minimum_rate = |rate| Settings {
        minimum_rate: rate,
        window: Duration::from_secs(10),
        ..Settings::DEFAULT
    };
    let none_of = |requests| Requests {
        accepted: 0,
        refused: requests,
    };
    for (rate, least) in [(1.0, 9), (0.1, 1), (7.0, 63), (1.01, 10)] {
        let rule = minimum_rate(rate).check().unwrap();
        assert_eq!(rule.probability(none_of(least - 1), 0), 0.0, "{rate}");
        assert!(rule.probability(none_of(least), 0) > 0.0, "{rate}");
    }
    let rule = minimum_rate(0.0).check().unwrap();
    assert_eq!(rule.probability(none_of(1), 0), 0.5);
    assert_eq!(rule.probability(none_of(9), 0), 0.9);
    assert_eq!(rule.probability(none_of(10), 0), 0.9);
}

#[test]
fn only_what_the_kinds_say_was_not_accepted() {
    let seen = |failure: Failure| Judgement::Seen(failure.into());
    let table = [
        (Judgement::Seen(Verdict::Success), Some(Counted::Accepted)),
        (seen(Failure::transient()), Some(Counted::Accepted)),
        (seen(Failure::permanent()), Some(Counted::Accepted)),
        (seen(Failure::timeout()), Some(Counted::Accepted)),
        (seen(Failure::overload()), Some(Counted::Overloaded)),
        (seen(Failure::never_sent()), None),
        (Judgement::Seen(Verdict::Ignored), None),
        (Judgement::RejectedBelow, None),
    ];
    for (judgement, counted) in table {
        let kinds = Settings::DEFAULT.not_accepted;
        assert_eq!(kinds.count(judgement), counted, "{judgement:?}");
    }
    let more = Kinds::NONE
        .with(FailureKind::Timeout)
        .with(FailureKind::NeverSent);
    assert_eq!(
        more.count(seen(Failure::timeout())),
        Some(Counted::Overloaded)
    );
    assert_eq!(
        more.count(seen(Failure::never_sent())),
        Some(Counted::Overloaded)
    );
    assert_eq!(
        more.count(seen(Failure::overload())),
        Some(Counted::Accepted)
    );
}
