use std::{num::NonZeroU32, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

use super::{
    attempt, criticality,
    digits::Text,
    grpc_timeout,
    incoming::{Field, Incoming, Reader},
    limits::Limits,
    millis,
    names::HeaderNames,
    outgoing::{Format, Protocol},
    share::Share,
};
use crate::context::Criticality;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn spelled(text: Text) -> String {
    String::from_utf8(text.as_bytes().to_vec()).unwrap()
}

// grpc-timeout.

#[test]
fn a_grpc_timeout_is_one_to_eight_digits_and_a_unit() {
    let valid = [
        ("3H", secs(3 * 3_600)),
        ("1M", secs(60)),
        ("42S", secs(42)),
        ("13m", ms(13)),
        ("2u", Duration::from_micros(2)),
        ("82n", Duration::from_nanos(82)),
        ("0n", Duration::ZERO),
        ("0H", Duration::ZERO),
        ("00000001S", secs(1)),
        ("99999999n", Duration::from_nanos(99_999_999)),
        ("99999999u", Duration::from_micros(99_999_999)),
        ("99999999m", ms(99_999_999)),
        ("99999999S", secs(99_999_999)),
        ("99999999M", secs(99_999_999 * 60)),
        ("99999999H", secs(99_999_999 * 3_600)),
    ];
    for (value, expected) in valid {
        assert_eq!(
            grpc_timeout::decode(value.as_bytes()),
            Some(expected),
            "{value}"
        );
    }
}

#[test]
fn anything_else_is_no_grpc_timeout() {
    let malformed: [&[u8]; 33] = [
        b"",
        b"S",
        b"n",
        b"1",
        b"42",
        b"1234",
        b"123456789H",
        b"000000001S",
        b"99999999999999999999S",
        b"1s",
        b"1h",
        b"1N",
        b"1U",
        b"1f",
        b"82f",
        b"1ms",
        b"1us",
        b"1Sm",
        b"ahH",
        b"-1S",
        b"+1S",
        b" 1S",
        b"1S ",
        b"1 S",
        b"1.5S",
        b"1e3S",
        b"0x1S",
        b"1_0S",
        b"1,1S",
        b"1S,1S",
        "\u{0661}S".as_bytes(), // a digit, but not one of ASCII's
        b"\xff\xffS",
        b"1\0S",
    ];
    for value in malformed {
        assert_eq!(
            grpc_timeout::decode(value),
            None,
            "{:?}",
            value.escape_ascii().to_string()
        );
    }
}

#[test]
fn what_does_not_fit_eight_digits_is_written_in_the_next_coarser_unit_and_truncated() {
    let nanos = Duration::from_nanos;
    let table = [
        (nanos(0), "0n"),
        (nanos(1), "1n"),
        (nanos(99_999_999), "99999999n"),
        (nanos(100_000_000), "100000u"),
        (nanos(100_000_999), "100000u"),
        (secs(1), "1000000u"),
        (nanos(99_999_999_999), "99999999u"),
        (secs(100), "100000m"),
        (nanos(100_000_999_999), "100000m"),
        (nanos(99_999_999_999_999), "99999999m"),
        (secs(100_000), "100000S"),
        (nanos(99_999_999_999_999_999), "99999999S"),
        (secs(100_000_000), "1666666M"),
        (secs(60 * 100_000_000 - 1), "99999999M"),
        (secs(60 * 100_000_000), "1666666H"),
        (secs(3_600 * 100_000_000 - 1), "99999999H"),
        (secs(3_600 * 100_000_000), "99999999H"),
        (Duration::MAX, "99999999H"),
    ];
    for (left, expected) in table {
        assert_eq!(spelled(grpc_timeout::encode(left)), expected, "{left:?}");
    }
}

/// One unit of a `grpc-timeout`.
pub(super) fn unit_of(text: &str) -> Duration {
    match text.chars().last().unwrap() {
        'H' => secs(3_600),
        'M' => secs(60),
        'S' => secs(1),
        'm' => ms(1),
        'u' => Duration::from_micros(1),
        'n' => Duration::from_nanos(1),
        unit => panic!("{unit}"),
    }
}

/// Durations of every order of magnitude.
fn durations() -> impl Strategy<Value = Duration> {
    (0..64_u32, any::<u64>(), 0..1_000_000_000_u32)
        .prop_map(|(shift, secs, nanos)| Duration::new(secs >> shift, nanos))
}

proptest! {
    #[test]
    fn a_grpc_timeout_never_grows_on_the_wire_and_loses_less_than_a_unit(left in durations()) {
        let text = spelled(grpc_timeout::encode(left));
        let read = grpc_timeout::decode(text.as_bytes()).unwrap();
        prop_assert!(read <= left);
        let longest = secs(3_600 * 99_999_999);
        prop_assert!(left.min(longest) - read < unit_of(&text), "{left:?} as {text}");
        prop_assert!(text.len() <= 9);
        // And in the finest unit that there is room for.
        let unit = unit_of(&text).as_nanos();
        let finer = [1, 1_000, 1_000_000, 1_000_000_000, 60_000_000_000, 3_600_000_000_000];
        for finer in finer.into_iter().filter(|finer: &u128| *finer < unit) {
            prop_assert!(left.as_nanos() / finer > 99_999_999, "{left:?} as {text}");
        }
    }

    #[test]
    fn milliseconds_never_grow_on_the_wire_and_lose_less_than_one(left in durations()) {
        let text = spelled(millis::encode(left));
        let read = millis::decode(text.as_bytes()).unwrap();
        prop_assert!(read <= left);
        prop_assert!(left.min(ms(u64::MAX)) - read < ms(1), "{left:?} as {text}");
    }

    #[test]
    fn nothing_grows_over_many_hops(left in durations(), hops in 1..20_usize) {
        let over_wire = |left: Duration, hop: usize| if hop.is_multiple_of(2) {
            grpc_timeout::decode(grpc_timeout::encode(left).as_bytes()).unwrap()
        } else {
            millis::decode(millis::encode(left).as_bytes()).unwrap()
        };
        prop_assert!((0..hops).fold(left, over_wire) <= left);
    }

    #[test]
    fn an_attempt_is_the_same_after_the_wire(number in 1..=u32::MAX) {
        let number = NonZeroU32::new(number).unwrap();
        let names = HeaderNames::new();
        let mut headers = HeaderMap::new();
        let format = Format::of(&headers, Protocol::Both, &names);
        format.write_attempt(&mut headers, number);
        let read = Reader::new(&names).read(&headers);
        prop_assert!(!read.is_malformed());
        prop_assert_eq!(read.attempt.unwrap_or(NonZeroU32::MIN), number);
        for name in [&names.attempt, &attempt::GRPC_NAME] {
            let is_there = headers.contains_key(name);
            prop_assert_eq!(is_there, number.get() > 1, "absent on the first");
        }
    }
}

// The others.

#[test]
fn milliseconds_are_digits_and_nothing_else() {
    let decode = |value: &str| millis::decode(value.as_bytes());
    assert_eq!(decode("0"), Some(Duration::ZERO));
    assert_eq!(decode("0250"), Some(ms(250)));
    assert_eq!(decode("18446744073709551615"), Some(ms(u64::MAX)));
    let huge = "9".repeat(1_000);
    assert_eq!(decode(&huge), Some(ms(u64::MAX)), "as long as can be told");
    for malformed in [
        "", " ", "-1", "+1", "1.5", "1s", "1e3", " 1", "1 ", "0x10", "1,2", "\u{0661}",
    ] {
        assert_eq!(decode(malformed), None, "{malformed}");
    }
}

#[test]
fn an_attempt_is_a_number_from_one_and_the_attempts_before_it_one_less() {
    let attempts = |value: &str| {
        let bytes = value.as_bytes();
        let get = |attempt: Option<NonZeroU32>| attempt.map(NonZeroU32::get);
        (
            get(attempt::decode(bytes)),
            get(attempt::decode_previous(bytes)),
        )
    };
    assert_eq!(attempts("0"), (None, Some(1)));
    assert_eq!(attempts("1"), (Some(1), Some(2)));
    assert_eq!(attempts("4294967295"), (Some(u32::MAX), Some(u32::MAX)));
    for malformed in [
        "",
        "4294967296",
        "99999999999999999999999",
        "-1",
        "+1",
        "1st",
        " 1",
    ] {
        assert_eq!(attempts(malformed), (None, None), "{malformed}");
    }
}

#[test]
fn a_criticality_is_read_as_it_is_written_and_in_no_other_spelling() {
    let all = [
        (Criticality::CriticalPlus, "critical_plus"),
        (Criticality::Critical, "critical"),
        (Criticality::SheddablePlus, "sheddable_plus"),
        (Criticality::Sheddable, "sheddable"),
    ];
    for (criticality, text) in all {
        assert_eq!(criticality::encode(criticality), text);
        assert_eq!(criticality::decode(text.as_bytes()), Some(criticality));
    }
    for malformed in [
        "",
        "CRITICAL",
        "Critical",
        "critical+",
        "sheddable ",
        "1",
        "low",
    ] {
        assert_eq!(
            criticality::decode(malformed.as_bytes()),
            None,
            "{malformed}"
        );
    }
}

// All headers of a request.

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let line = |(name, value): &(&'static str, &str)| {
        (
            HeaderName::from_static(name),
            HeaderValue::from_str(value).unwrap(),
        )
    };
    let mut headers = HeaderMap::new();
    for (name, value) in lines.iter().map(line) {
        headers.append(name, value);
    }
    headers
}

fn read(lines: &[(&'static str, &str)]) -> Incoming {
    Reader::new(&HeaderNames::new()).read(&headers(lines))
}

#[test]
fn of_several_timeouts_the_least_counts() {
    let names = [
        "grpc-timeout",
        "x-request-timeout-ms",
        "x-envoy-expected-rq-timeout-ms",
    ];
    for least in 0..names.len() {
        let value = |index: usize| match (index, index == least) {
            (0, true) => "250m",
            (0, false) => "10S",
            (_, true) => "250",
            (_, false) => "10000",
        };
        let lines: Vec<_> = (0..3).map(|index| (names[index], value(index))).collect();
        assert_eq!(read(&lines).left, Some(ms(250)));
        assert_eq!(read(&lines[least..=least]).left, Some(ms(250)), "alone");
    }
    assert_eq!(read(&[]), Incoming::default());
}

#[test]
fn a_header_that_stands_there_twice_is_malformed_even_if_both_say_the_same() {
    for (field, name, value) in [
        (Field::GrpcTimeout, "grpc-timeout", "1S"),
        (Field::Timeout, "x-request-timeout-ms", "1000"),
        (
            Field::EnvoyTimeout,
            "x-envoy-expected-rq-timeout-ms",
            "1000",
        ),
        (Field::GrpcAttempts, "grpc-previous-rpc-attempts", "1"),
        (Field::Attempt, "x-request-attempt", "1"),
        (Field::Criticality, "x-request-criticality", "critical"),
    ] {
        let once = read(&[(name, value)]);
        assert!(
            !once.is_malformed() && once != Incoming::default(),
            "{name}"
        );
        let twice = read(&[(name, value), (name, value)]);
        assert_eq!(twice.malformed().collect::<Vec<_>>(), [field]);
        assert_eq!(
            (twice.left, twice.attempt, twice.criticality),
            (None, None, None)
        );
    }
}

#[test]
fn a_malformed_header_does_not_hide_a_good_one() {
    let found = read(&[
        ("grpc-timeout", "soon"),
        ("x-request-timeout-ms", "700"),
        ("x-request-criticality", "very"),
    ]);
    assert_eq!(found.left, Some(ms(700)));
    let malformed: Vec<_> = found.malformed().collect();
    assert_eq!(malformed, [Field::GrpcTimeout, Field::Criticality]);
}

#[test]
fn the_names_are_what_they_are_set_to() {
    let name = HeaderName::from_static;
    let names = HeaderNames::new()
        .with_timeout(name("x-left-ms"))
        .unwrap()
        .with_attempt(name("x-try"))
        .with_criticality(name("x-weight"));
    let lines = [
        ("x-left-ms", "5"),
        ("x-try", "3"),
        ("x-weight", "sheddable"),
    ];
    let found = Reader::new(&names).read(&headers(&lines));
    assert_eq!(found.left, Some(ms(5)));
    assert_eq!(found.attempt, NonZeroU32::new(3));
    assert_eq!(found.criticality, Some(Criticality::Sheddable));

    let error = HeaderNames::new().with_timeout(name("x-left")).unwrap_err();
    assert_eq!(
        (error.setting(), error.allowed()),
        ("timeout", "a name that ends in `-ms`")
    );
}

#[test]
fn a_name_of_any_length_is_found_and_one_of_the_same_length_is_not_taken_for_it() {
    for length in [5, 62, 63, 64, 100] {
        let name = |first: &str| {
            let name = first.to_owned() + &"x".repeat(length - 4) + "-ms";
            HeaderName::from_bytes(name.as_bytes()).unwrap()
        };
        let names = HeaderNames::new().with_timeout(name("a")).unwrap();
        let reader = Reader::new(&names);
        let mut headers = HeaderMap::new();
        headers.insert(name("b"), HeaderValue::from_static("7"));
        assert_eq!(reader.read(&headers), Incoming::default());
        headers.insert(name("a"), HeaderValue::from_static("5"));
        assert_eq!(reader.read(&headers).left, Some(ms(5)));
    }
}

#[test]
fn the_protocol_is_told_by_the_content_type() {
    let names = HeaderNames::new();
    for (content_type, is_grpc) in [
        ("application/grpc", true),
        ("application/grpc+proto", true),
        ("application/grpc;charset=x", true),
        ("Application/GRPC", true),
        ("application/grpc-web", true),
        ("application/json", false),
        ("application/grp", false),
        ("", false),
    ] {
        let mut headers = headers(&[("content-type", content_type)]);
        let format = Format::of(&headers, Protocol::Detect, &names);
        format.write_timeout(&mut headers, secs(1));
        assert_eq!(
            headers.contains_key("grpc-timeout"),
            is_grpc,
            "{content_type}"
        );
        assert_eq!(
            headers.contains_key("x-request-timeout-ms"),
            !is_grpc,
            "{content_type}"
        );
    }
}

#[test]
fn a_timeout_that_is_there_is_replaced_unless_it_is_shorter() {
    let names = HeaderNames::new();
    let written = |lines: &[(&'static str, &str)]| {
        let mut headers = headers(lines);
        let format = Format::of(&headers, Protocol::Both, &names);
        format.write_timeout(&mut headers, ms(1_500));
        let all = |name| {
            let values = headers.get_all(name).iter();
            values
                .map(|v| v.to_str().unwrap().to_owned())
                .collect::<Vec<_>>()
                .join(" and ")
        };
        (all("grpc-timeout"), all("x-request-timeout-ms"))
    };
    let expected = |grpc: &str, http: &str| (grpc.to_owned(), http.to_owned());
    let (grpc, http) = ("grpc-timeout", "x-request-timeout-ms");
    assert_eq!(written(&[]), expected("1500000u", "1500"));
    assert_eq!(
        written(&[(grpc, "2S"), (http, "2000")]),
        expected("1500000u", "1500")
    );
    assert_eq!(
        written(&[(grpc, "1S"), (http, "1000")]),
        expected("1S", "1000")
    );
    assert_eq!(
        written(&[(grpc, "never"), (http, "-1")]),
        expected("1500000u", "1500")
    );
    let twice = [(http, "1000"), (http, "1000")];
    assert_eq!(written(&twice), expected("1500000u", "1500"));
}

// How much time a request gets.

fn limits() -> Limits {
    Limits::new(secs(10))
}

#[test]
fn the_time_allotted_is_the_least_of_what_is_said_within_the_limits() {
    let allotted = |limits: Limits, incoming, own| {
        limits.check().unwrap();
        limits.allotted(incoming, own)
    };
    let plain = limits();
    assert_eq!(allotted(plain, None, None), secs(10));
    assert_eq!(allotted(plain, Some(secs(3)), None), secs(3));
    assert_eq!(allotted(plain, Some(Duration::MAX), None), secs(10));
    assert_eq!(allotted(plain, Some(secs(3)), Some(secs(2))), secs(2));
    assert_eq!(allotted(plain, None, Some(secs(99))), secs(10));

    let default = Some(secs(4));
    let with_default = Limits { default, ..plain };
    assert_eq!(allotted(with_default, None, None), secs(4));
    assert_eq!(allotted(with_default, Some(secs(9)), None), secs(9));
    assert_eq!(allotted(with_default, None, Some(secs(9))), secs(9));

    let (min, margin) = (secs(1), ms(200));
    let adjusted = Limits {
        min,
        margin,
        ..plain
    };
    assert_eq!(allotted(adjusted, Some(secs(3)), None), ms(2_800));
    assert_eq!(allotted(adjusted, Some(ms(50)), None), secs(1));
    assert_eq!(
        allotted(adjusted, None, Some(ms(50))),
        ms(50),
        "ours is not adjusted"
    );
    assert_eq!(
        allotted(adjusted, Some(secs(60)), None),
        secs(10),
        "the margin is the caller's"
    );
    let strict = Limits { margin, ..plain };
    assert_eq!(allotted(strict, Some(margin), None), Duration::ZERO);
}

#[test]
fn limits_that_contradict_each_other_are_refused_by_name() {
    let refused = |limits: Limits| limits.check().unwrap_err().setting();
    let plain = limits();
    assert_eq!(refused(Limits::new(Duration::ZERO)), "max");
    let default = Some(Duration::ZERO);
    assert_eq!(refused(Limits { default, ..plain }), "default_timeout");
    let default = Some(secs(11));
    assert_eq!(refused(Limits { default, ..plain }), "default_timeout");
    let min = secs(11);
    assert_eq!(refused(Limits { min, ..plain }), "min");
    let (default, needs) = (Some(secs(3)), secs(4));
    let hasty = Limits {
        default,
        needs,
        ..plain
    };
    assert_eq!(refused(hasty), "needs");
    Limits::new(Duration::MAX).check().unwrap();
}

proptest! {
    /// Against a list of all requests.
    #[test]
    fn no_more_than_the_share_of_the_last_ten_seconds_is_refused(
        percent in 1..=100_u32,
        requests in prop::collection::vec((0..800_u64, any::<bool>()), 1..300),
    ) {
        const SLICE: u64 = 1_000_000_000;
        let share = Share::new("share", f64::from(percent) / 100.0).unwrap();
        let (mut now, mut seen) = (0, Vec::new());
        for (after, is_late) in requests {
            now += after * 1_000_000;
            let in_sight = |(slice, _): &&(u64, bool)| now / SLICE - *slice < 10;
            let refused = seen.iter().filter(in_sight).filter(|(_, refused)| *refused).count();
            let all = seen.iter().filter(in_sight).count();
            let may = 100 * (refused + 1) <= percent as usize * (all + 1);
            let refused = is_late && share.try_refuse(now);
            if !is_late {
                share.pass(now);
            }
            prop_assert_eq!(refused, is_late && may);
            seen.push((now / SLICE, refused));
        }
    }
}
