//! What a failed HTTP response says about coming back: `Retry-After`, rate limits, dates, and not at all.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use proptest::{prelude::*, test_runner::Config};
use steadfast::{Verdict, classify::Hint, http::HttpClassifier};

/// What is made of a failed response with these field lines.
fn hint_of(status: u16, lines: &[(&str, &[u8])]) -> Option<Hint> {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_bytes(value).unwrap());
    }
    let status = StatusCode::from_u16(status).unwrap();
    match HttpClassifier.verdict(status, &headers) {
        Verdict::Failure(failure) => failure.hint(),
        other => panic!("{status} is a failure, not {other:?}"),
    }
}

fn after(seconds: u64) -> Option<Hint> {
    Some(Hint::After(Duration::from_secs(seconds)))
}

// `Retry-After` in seconds.

fn hint(lines: &[&[u8]]) -> Option<Hint> {
    let lines: Vec<_> = lines.iter().map(|line| ("retry-after", *line)).collect();
    hint_of(503, &lines)
}

#[test]
fn retry_after_is_read_in_seconds() {
    assert_eq!(hint(&[b"120"]), after(120));
    assert_eq!(hint(&[b"0"]), after(0));
    assert_eq!(hint(&[b"007"]), after(7), "1*DIGIT allows leading zeros");
    assert_eq!(hint(&[b" \t7\t "]), after(7), "optional white space");
}

#[test]
fn anything_but_digits_or_a_date_in_one_line_is_no_hint() {
    let lines: [&[u8]; 13] = [
        b"",
        b" ",
        b"+7",
        b"-7",
        b"7.5",
        b"7s",
        b"1 2",
        b"1_000",
        b"3, 5",
        b"0x7",
        b"\"7\"",
        b"\xd9\xa7",  // ARABIC-INDIC DIGIT SEVEN
        b"\xc2\xa07", // NO-BREAK SPACE
    ];
    for line in lines {
        assert_eq!(hint(&[line]), None, "{:?}", line.escape_ascii());
    }
    assert_eq!(hint(&[]), None);
    assert_eq!(hint(&[b"7", b"7"]), None, "even if they agree");
    assert_eq!(hint(&[b"7", b""]), None);
}

#[test]
fn an_absurd_delay_is_the_longest_that_every_clock_can_tell() {
    let longest = u64::from(u32::MAX);
    for line in ["4294967295", "4294967296", "18446744073709551620"] {
        assert_eq!(hint(&[line.as_bytes()]), after(longest), "{line}");
    }
    assert_eq!(hint(&[&[b'9'; 10_000]]), after(longest));
    let _in_reach = tokio::time::Instant::now() + Duration::from_secs(longest);
}

#[test]
fn the_hint_is_read_on_every_failure_and_on_nothing_else() {
    for status in [408, 429, 500, 501, 502, 503, 504, 599] {
        assert_eq!(
            hint_of(status, &[("retry-after", b"9")]),
            after(9),
            "{status}"
        );
    }
    let nine = HeaderValue::from_static("9");
    let headers = HeaderMap::from_iter([(http::header::RETRY_AFTER, nine)]);
    for status in [200, 202, 301, 404, 413] {
        let status = StatusCode::from_u16(status).unwrap();
        assert_eq!(HttpClassifier.verdict(status, &headers), Verdict::Success);
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_give_a_hint_only_if_they_are_digits(bytes in field_value()) {
        let trimmed = bytes.trim_ascii();
        let is_delay = !trimmed.is_empty() && trimmed.iter().all(u8::is_ascii_digit);
        prop_assert_eq!(hint(&[&bytes]).is_some(), is_delay);
    }

    #[test]
    fn seconds_come_back_as_they_were_sent(seconds: u32, zeros in 0_usize..30) {
        let line = format!("{}{seconds}", "0".repeat(zeros));
        prop_assert_eq!(hint(&[line.as_bytes()]), after(seconds.into()));
    }
}

// `Retry-After` as a date.

/// What is made of a date where the response says that it is `now`.
fn dated(now: &str, then: &str) -> Option<Hint> {
    let lines = [("date", now.as_bytes()), ("retry-after", then.as_bytes())];
    hint_of(503, &lines)
}

/// The example of RFC 9110, section 5.6.7, in its three forms.
const EXAMPLE: [&str; 3] = [
    "Sun, 06 Nov 1994 08:49:37 GMT",
    "Sunday, 06-Nov-94 08:49:37 GMT",
    "Sun Nov  6 08:49:37 1994",
];

#[test]
fn a_date_in_each_form_counts_from_the_date_of_the_answer_in_each_form() {
    for then in EXAMPLE {
        assert_eq!(
            dated("Sun, 06 Nov 1994 08:49:30 GMT", then),
            after(7),
            "{then}"
        );
        assert_eq!(
            dated("Sunday, 06-Nov-94 08:49:30 GMT", then),
            after(7),
            "{then}"
        );
        assert_eq!(dated("Sun Nov  6 08:49:30 1994", then), after(7), "{then}");
    }
    let before_midnight = "Fri, 31 Dec 1999 23:59:50 GMT";
    let dates = [
        ("Fri, 31 Dec 1999 23:59:59 GMT", 9), // the example of RFC 9110, section 10.2.3
        ("Fri, 31 Dec 1999 23:59:60 GMT", 10), // a leap second
        ("Friday, 31-Dec-99 23:59:60 GMT", 10),
        ("Fri Dec 31 23:59:60 1999", 10),
        ("Sat, 01 Jan 2000 00:00:00 GMT", 10),
        ("Saturday, 01-Jan-00 00:00:00 GMT", 10),
        ("Sat Jan  1 00:00:00 2000", 10),
        ("Tue, 29 Feb 2000 23:59:50 GMT", 60 * 24 * 3600),
        (" \tSat, 01 Jan 2000 00:00:00 GMT\t ", 10),
    ];
    for (date, seconds) in dates {
        assert_eq!(dated(before_midnight, date), after(seconds), "{date}");
    }
}

#[test]
fn a_date_that_has_passed_is_no_delay() {
    for then in EXAMPLE {
        assert_eq!(dated("Sun, 06 Nov 1994 08:49:37 GMT", then), after(0));
        assert_eq!(dated("Sun, 06 Nov 1994 08:49:38 GMT", then), after(0));
        assert_eq!(dated("Fri, 31 Dec 9999 23:59:59 GMT", then), after(0));
    }
}

#[test]
fn the_last_date_there_is_is_the_longest_delay_there_is() {
    let last = dated(
        "Thu, 01 Jan 1970 00:00:00 GMT",
        "Fri, 31 Dec 9999 23:59:59 GMT",
    );
    assert_eq!(last, after(u32::MAX.into()));
}

#[test]
fn what_is_no_date_is_no_hint() {
    let no_dates = [
        "Mon, 06 Nov 1994 08:49:37 GMT", // it was a Sunday
        "Sun, 6 Nov 1994 08:49:37 GMT",  // two digits
        "Sun, 06 Nov 94 08:49:37 GMT",   // four digits
        "Sun, 06 nov 1994 08:49:37 GMT", // case counts
        "Sun, 06 Nov 1994 08:49:37 gmt",
        "Sun, 06 Nov 1994 08:49:37 UTC", // GMT alone
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994 08:60:37 GMT",
        "Sun, 06 Nov 1994 08:49:60 GMT", // leap seconds are at the end of a day
        "Fri, 31 Dec 1999 23:59:61 GMT",
        "Fri, 31 Dec 1999 23:60:60 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Thu, 31 Nov 1994 08:49:37 GMT",
        "Wed, 29 Feb 1995 08:49:37 GMT",
        "Wed, 31 Dec 1969 23:59:59 GMT",  // before the epoch
        "Sun,  06 Nov 1994 08:49:37 GMT", // one space
        "Sun, 06 Nov 1994  08:49:37 GMT",
        "Sun 06-Nov-94 08:49:37 GMT",
        "Sunday, 06-Nov-1994 08:49:37 GMT",
        "Sun, 06-Nov-94 08:49:37 GMT",
        "Sun Nov 6 08:49:37 1994",
        "Sun Nov  6 08:49:37 94",
        "1994-11-06T08:49:37Z",
        "784111777.0",
    ];
    for date in no_dates {
        assert_eq!(dated("Sun, 06 Nov 1994 08:49:30 GMT", date), None, "{date}");
    }
    let twice: [(&str, &[u8]); 2] = [("retry-after", EXAMPLE[0].as_bytes()); 2];
    assert_eq!(hint_of(503, &twice), None, "even if they agree");
}

/// The form in which servers write dates.
fn imf(at: SystemTime) -> String {
    httpdate::fmt_http_date(at)
}

fn about(seconds: u64, hint: Option<Hint>) -> bool {
    let Some(Hint::After(delay)) = hint else {
        return false;
    };
    // A date has no fractions of a second, and the test itself takes some.
    (seconds - 3..=seconds).contains(&delay.as_secs())
}

#[tokio::test(start_paused = true)]
async fn without_a_date_of_its_own_the_answer_came_at_the_time_on_the_clock() {
    let then = imf(SystemTime::now() + Duration::from_secs(100));
    let alone = || hint_of(503, &[("retry-after", then.as_bytes())]);
    assert!(about(100, alone()), "{:?}", alone());
    assert!(about(100, dated("yesterday", &then)), "which is no date");
    let twice: [(&str, &[u8]); 3] = [
        ("date", EXAMPLE[0].as_bytes()),
        ("date", EXAMPLE[0].as_bytes()),
        ("retry-after", then.as_bytes()),
    ];
    assert!(about(100, hint_of(503, &twice)), "two dates are none");

    tokio::time::advance(Duration::from_secs(40)).await;
    assert!(about(60, alone()), "the clock is tokio's: {:?}", alone());
    tokio::time::advance(Duration::from_secs(400)).await;
    assert_eq!(alone(), after(0));
}

// Rate limits.

fn limited(lines: &[(&str, &str)]) -> Option<Hint> {
    let lines: Vec<_> = lines
        .iter()
        .map(|(name, value)| (*name, value.as_bytes()))
        .collect();
    hint_of(429, &lines)
}

fn rate_limit(value: &str) -> Option<Hint> {
    limited(&[("ratelimit", value)])
}

#[test]
fn a_quota_that_is_used_up_says_when_it_is_there_again() {
    assert_eq!(rate_limit(r#""default";r=0;t=30"#), after(30));
    assert_eq!(rate_limit(r#""default";t=30;r=0"#), after(30));
    assert_eq!(
        rate_limit(r#""default";r=0;t=30;pk=:cHsdsRa894==:"#),
        after(30)
    );
    assert_eq!(
        rate_limit(r#""default";r=0;new=?1;t=30"#),
        after(30),
        "what is to come"
    );
    assert_eq!(rate_limit(r#""a \"b\", c";r=0;t=30"#), after(30));
    assert_eq!(
        rate_limit(r#"  "default" ;  r=0; t=30  "#),
        None,
        "no space before the semicolon"
    );
    assert_eq!(rate_limit(r#" "default";  r=0; t=30 "#), after(30));
    assert_eq!(
        rate_limit(r#""default";r=5;r=0;t=3;t=30"#),
        after(30),
        "the last one counts"
    );
    assert_eq!(rate_limit(r#""default";r=0;t=0"#), after(0));
    let longest = after(u32::MAX.into());
    assert_eq!(rate_limit(r#""default";r=0;t=999999999999999"#), longest);
}

#[test]
fn of_several_quotas_those_used_up_count_and_the_last_to_come_back() {
    assert_eq!(
        rate_limit(r#""burst";r=0;t=3, "daily";r=900;t=50000"#),
        after(3)
    );
    assert_eq!(
        rate_limit(r#""burst";r=0;t=3,"daily";r=0;t=50000"#),
        after(50_000)
    );
    assert_eq!(
        rate_limit(r#""daily";r=0;t=50000, "burst";r=0;t=3"#),
        after(50_000)
    );
    let lines = [
        ("ratelimit", r#""burst";r=0;t=3"#),
        ("ratelimit", r#""daily";r=0;t=9"#),
    ];
    assert_eq!(limited(&lines), after(9), "one list in two lines");
    assert_eq!(rate_limit(r#""default";r=1;t=30"#), None, "there is quota");
    assert_eq!(rate_limit(r#""default";r=0"#), None, "it is not said when");
    assert_eq!(rate_limit(""), None, "an empty list");
}

#[test]
fn a_rate_limit_that_is_malformed_anywhere_is_ignored() {
    let malformed = [
        r#""default";t=30"#, // `r` is required
        r#""default";r=0;t=-1"#,
        r#""default";r=-1;t=30"#,
        r#""default";r=0;t=30.5"#,
        r#""default";r=0;t="30""#,
        r#""default";r=0;t"#,
        r#""default";r=0;t=1000000000000000"#, // 16 digits
        r#""default";R=0;T=30"#,
        r#""default";r=0;t=30,"#,
        r#""default";r=0;t=30, default;r=0;t=9"#, // a token
        r#""default";r=0;t=30, ("a" "b");r=0"#,
        r#""default;r=0;t=30"#,
        "default;r=0;t=30",
        "limit=10, remaining=0, reset=30", // of an older draft
        "0",
    ];
    for value in malformed {
        assert_eq!(rate_limit(value), None, "{value}");
    }
    let lines = [("ratelimit", r#""default";r=0;t=30"#), ("ratelimit", "?")];
    assert_eq!(limited(&lines), None, "in the second line");
    let lines = [("ratelimit", r#""default";r=0;t=30"#), ("age", "3")];
    assert_eq!(limited(&lines), None, "out of a cache");
}

#[test]
fn the_customary_reset_is_in_seconds_to_go_or_since_1970() {
    let reset = |value| limited(&[("x-ratelimit-reset", value), ("date", EXAMPLE[0])]);
    assert_eq!(reset("30"), after(30));
    assert_eq!(reset("0"), after(0));
    assert_eq!(reset("999999999"), after(999_999_999));
    // The date is that of November 1994, 784111777.
    assert_eq!(reset("1000000000"), after(1_000_000_000 - 784_111_777));
    let longest = after(u32::MAX.into());
    assert_eq!(reset("253402300799"), longest, "the last second of 9999");
    for malformed in [
        "253402300800",
        "1700000000000",
        "-1",
        "30.5",
        "",
        "soon",
        "1e3",
    ] {
        assert_eq!(reset(malformed), None, "{malformed}");
    }
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    let then = (now.as_secs() + 100).to_string();
    assert!(about(100, limited(&[("x-ratelimit-reset", &then)])));
    assert_eq!(
        limited(&[("x-ratelimit-reset", "7"), ("x-ratelimit-reset", "7")]),
        None
    );
}

#[test]
fn the_customary_reset_is_for_a_quota_that_is_used_up() {
    let remaining = |value| {
        limited(&[
            ("x-ratelimit-reset", "30"),
            ("x-ratelimit-remaining", value),
        ])
    };
    assert_eq!(remaining("0"), after(30));
    assert_eq!(remaining("1"), None);
    assert_eq!(remaining("none"), None, "nobody knows");
}

#[test]
fn retry_after_comes_first_then_the_standard_then_the_custom() {
    let all = [
        ("x-ratelimit-reset", "3"),
        ("ratelimit", r#""default";r=0;t=2"#),
        ("retry-after", "1"),
    ];
    assert_eq!(limited(&all), after(1));
    assert_eq!(limited(&all[..2]), after(2));
    assert_eq!(limited(&all[..1]), after(3));
    let without = [
        all[0],
        ("ratelimit", "malformed"),
        ("retry-after", "malformed"),
    ];
    assert_eq!(
        limited(&without),
        after(3),
        "what is malformed is not there"
    );
}

#[test]
fn rate_limits_count_where_a_quota_may_be_meant() {
    for line in [
        ("ratelimit", &br#""d";r=0;t=30"#[..]),
        ("x-ratelimit-reset", b"30"),
    ] {
        for status in [429, 503] {
            assert_eq!(hint_of(status, &[line]), after(30), "{status}");
        }
        for status in [408, 500, 501, 502, 504] {
            assert_eq!(hint_of(status, &[line]), None, "{status}");
        }
    }
}

// Not at all.

#[test]
fn an_overloaded_service_can_say_never() {
    for status in [429, 500, 502, 503, 504] {
        let lines: [(&str, &[u8]); 2] = [("retry-after", b"1"), ("x-envoy-overloaded", b"true")];
        assert_eq!(hint_of(status, &lines), Some(Hint::Never), "{status}");
    }
    let nack: [(&str, &[u8]); 1] = [("finagle-http-nonretryable-nack", b"true")];
    assert_eq!(hint_of(503, &nack), Some(Hint::Never));
    assert_eq!(hint_of(500, &nack), None, "a nack is a 503");
}

// Hostile input.

/// As many cases as `PROPTEST_CASES` says, which is also how to run them for a night.
fn hostile() -> Config {
    Config::with_cases(Config::default().cases.max(2_000))
}

/// Any field value that there can be.
fn field_value() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        8 => b'0'..=b'9',
        1 => prop_oneof![Just(b'\t'), Just(b' ')],
        1 => prop_oneof![0x20..=0x7e_u8, 0x80..=0xff_u8],
    ];
    proptest::collection::vec(byte, 0..40)
}

/// A field value that is well-formed but for a few bytes.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let seeds = [
        EXAMPLE[0],
        EXAMPLE[1],
        EXAMPLE[2],
        "Fri, 31 Dec 1999 23:59:60 GMT",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "120",
        "1700000000",
        "18446744073709551615",
        r#""burst";r=0;t=3, "daily";r=900;t=50000;pk=:cHsdsRa894==:"#,
        r#""a\\\"b";r=0;t=3;x=@1659578233;y=%"f%c3%bc";z=-1.5;w=(1 2)"#,
    ];
    let byte = prop_oneof![Just(b'\t'), 0x20..=0x7e_u8, 0x80..=0xff_u8];
    let change = (any::<prop::sample::Index>(), byte, 0..3_u8);
    let changes = proptest::collection::vec(change, 0..4);
    (prop::sample::select(seeds.to_vec()), changes).prop_map(|(seed, changes)| {
        let mut value = seed.as_bytes().to_vec();
        for (at, byte, how) in changes {
            if value.is_empty() {
                break;
            }
            let at = at.index(value.len());
            match how {
                0 => value[at] = byte,
                1 => value.insert(at, byte),
                _ => drop(value.remove(at)),
            }
        }
        value
    })
}

/// A head in which every field that is read may have any value.
fn head() -> impl Strategy<Value = Vec<(&'static str, Vec<u8>)>> {
    let names = [
        "retry-after",
        "date",
        "age",
        "ratelimit",
        "x-ratelimit-reset",
        "x-ratelimit-remaining",
    ];
    let line = (
        prop::sample::select(names.to_vec()),
        prop_oneof![field_value(), mutated()],
    );
    proptest::collection::vec(line, 0..6)
}

proptest! {
    #![proptest_config(hostile())]

    #[test]
    fn no_head_makes_it_panic_or_wait_beyond_every_clock(head in head()) {
        let lines: Vec<_> = head.iter().map(|(name, value)| (*name, &value[..])).collect();
        for status in [429, 500, 503] {
            if let Some(Hint::After(delay)) = hint_of(status, &lines) {
                prop_assert!(delay <= Duration::from_secs(u32::MAX.into()));
            }
        }
    }

    /// What the library accepts comes out as it would be written, or is the leap second that it lacks.
    #[test]
    fn a_date_is_read_only_if_it_is_one(value in mutated()) {
        let read = hint_of(503, &[("date", b"Thu, 01 Jan 1970 00:00:00 GMT"), ("retry-after", &value)]);
        let text = String::from_utf8_lossy(&value);
        let is_delay = text.trim().bytes().all(|byte| byte.is_ascii_digit()) && !text.trim().is_empty();
        let is_leap = text.contains("23:59:60");
        let is_date = httpdate::parse_http_date(&text).is_ok();
        prop_assert_eq!(read.is_some() && !is_leap, is_delay || is_date);
    }

    #[test]
    fn every_date_counts_by_the_second(now in 0_u32.., delay in 0_u32..) {
        let at = |seconds: u64| imf(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        let (now, delay) = (u64::from(now), u64::from(delay));
        prop_assert_eq!(dated(&at(now), &at(now + delay)), after(delay));
        prop_assert_eq!(dated(&at(now + delay), &at(now)), after(0));
    }
}
