//! Bytes from anywhere, in the fields that say when to come back.

use std::time::{Duration, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{EndpointLoadMetrics, field, rate_limit, retry_after};
use crate::{
    context::Criticality,
    fuzz_tests::{Bytes, is_digits},
};

/// The time on the clock, which is asked only where the answer has none of its own.
const WALL: Duration = Duration::from_secs(1_700_000_000);

/// One field, where the bytes can stand in it at all.
fn headers(name: &'static str, value: &[u8]) -> Option<HeaderMap> {
    let value = HeaderValue::from_bytes(value).ok()?;
    Some(HeaderMap::from_iter([(
        HeaderName::from_static(name),
        value,
    )]))
}

fn number(value: &[u8]) -> Option<u64> {
    let text = str::from_utf8(value).ok()?.trim_matches([' ', '\t']);
    is_digits(text).then(|| text.parse().unwrap_or(u64::MAX))
}

/// What the library takes for a date, with the leap second that it lacks.
fn date(value: &[u8]) -> Option<Duration> {
    let text = str::from_utf8(value).ok()?;
    let leap = text.contains("23:59:60");
    let date = httpdate::parse_http_date(&text.replacen("23:59:60", "23:59:59", 1)).ok()?;
    let date = date.duration_since(UNIX_EPOCH).ok()?;
    Some(date + Duration::from_secs(leap.into()))
}

const DATES: Bytes = Bytes {
    seeds: &[
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "Fri, 31 Dec 1999 23:59:60 GMT",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "Sat, 01 Jan 2050 00:00:00 GMT",
        "120",
        "18446744073709551616",
    ],
    telling: b"0123456789 \t,:-+GMTSunayNov\xff",
};

#[test]
fn fuzz_retry_after() {
    DATES.fuzz(|bytes| {
        let Some(headers) = headers("retry-after", bytes) else {
            return false;
        };
        let read = retry_after::read(&headers, || WALL);
        let of_date = || Some(date(bytes)?.saturating_sub(WALL));
        let model = number(bytes).map(Duration::from_secs).or_else(of_date);
        assert_eq!(read, model);
        read.is_some()
    });
}

#[test]
fn fuzz_date() {
    DATES.fuzz(|bytes| {
        let Some(headers) = headers("date", bytes) else {
            return false;
        };
        let read = field::answered_at(&headers, || WALL);
        assert_eq!(read, date(bytes).unwrap_or(WALL));
        read != WALL
    });
}

#[test]
fn fuzz_rate_limit() {
    let seeds = &[
        "\"burst\";r=0;t=3",
        "\"burst\";r=0;t=3, \"daily\";r=900;t=50000;pk=:cHsdsRa894==:",
        "\"a\\\"b\";r=0;t=3;x=@1659578233;y=%\"f%c3%bc\";z=-1.5",
        "\"x\";t=999999999999999;r=0",
        "\"x\";r=1",
    ];
    let telling = b"0123456789\"\\;,=rtx -.:?@%()*\xff";
    Bytes { seeds, telling }.fuzz(|bytes| {
        let Some(headers) = headers("ratelimit", bytes) else {
            return false;
        };
        let read = rate_limit::read(&headers, || WALL);
        if let Some(delay) = read {
            // An integer of 15 digits, as the grammar has it, of a policy that has nothing left.
            assert!(delay.as_secs() < 1_000_000_000_000_000);
            let text = str::from_utf8(bytes).unwrap();
            assert!(text.starts_with(['"', ' ']), "a list of strings");
            let is_zero = |rest: &str| rest.trim_start_matches('-').starts_with('0');
            assert!(text.split("r=").skip(1).any(is_zero) && text.contains("t="));
        }
        read.is_some()
    });
}

#[test]
fn fuzz_customary_rate_limit() {
    let seeds = &[
        "3",
        "999999999",
        "1000000000",
        "1700000030",
        "253402300800",
        "18446744073709551616",
    ];
    let telling = b"0123456789 \t-+.e\xff";
    Bytes { seeds, telling }.fuzz(|bytes| {
        let Some(mut headers) = headers("x-ratelimit-reset", bytes) else {
            return false;
        };
        let read = rate_limit::read(&headers, || WALL);
        let model = number(bytes).and_then(|seconds| match seconds {
            0..=999_999_999 => Some(Duration::from_secs(seconds)),
            1_000_000_000..=253_402_300_799 => {
                Some(Duration::from_secs(seconds).saturating_sub(WALL))
            }
            _ => None,
        });
        assert_eq!(read, model);
        // The same bytes for what is left: any but zero, and there is no wait.
        headers.insert(
            "x-ratelimit-remaining",
            headers["x-ratelimit-reset"].clone(),
        );
        let is_used_up = number(bytes) == Some(0);
        assert_eq!(
            rate_limit::read(&headers, || WALL),
            model.filter(|_| is_used_up)
        );
        read.is_some()
    });
}

/// By the grammar: every number that is of interest, or nothing.
fn metrics(text: &str) -> Option<Vec<(&str, f64)>> {
    let mut found = Vec::new();
    for metric in text.strip_prefix("TEXT ")?.split(',') {
        let (name, number) = metric.split_once('=')?;
        let is_admitted = ["critical_plus", "critical", "sheddable_plus", "sheddable"]
            .iter()
            .any(|class| name == format!("named_metrics.admitted.{class}"));
        if !is_admitted && name != "application_utilization" && name != "cpu_utilization" {
            continue;
        }
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        if !is_digits(whole) || !is_digits(fraction) || found.iter().any(|(it, _)| *it == name) {
            return None;
        }
        found.push((name, number.parse().unwrap()));
    }
    Some(found)
}

#[test]
fn fuzz_endpoint_load_metrics() {
    let seeds = &[
        "TEXT application_utilization=1.25",
        "TEXT cpu_utilization=0.5,mem_utilization=0.25,utilization.disk=0.1",
        "TEXT application_utilization=0,cpu_utilization=7",
        "TEXT application_utilization=2,named_metrics.admitted.critical=0.5,named_metrics.x=-1e3",
        "TEXT application_utilization=3,named_metrics.admitted.sheddable=9,cpu_utilization=1",
        "TEXT application_utilization=1,application_utilization=1",
    ];
    let telling = b"0123456789.,= TEXT-+e\xff";
    Bytes { seeds, telling }.fuzz(|bytes| {
        let Some(headers) = headers("endpoint-load-metrics", bytes) else {
            return false;
        };
        let load = EndpointLoadMetrics.load(&headers);
        // What is of no interest may be no text.
        let text = String::from_utf8_lossy(bytes);
        let model = metrics(text.trim_matches([' ', '\t']));
        let number = |name: &str| {
            let all = model.iter().flatten();
            all.copied().find(|(it, _)| *it == name).map(|(_, it)| it)
        };
        let (application, cpu) = (number("application_utilization"), number("cpu_utilization"));
        let utilization = match (application, cpu) {
            (None | Some(0.0), Some(cpu)) => Some(cpu),
            (application, _) => application,
        };
        let expected = utilization.filter(|it| it.is_finite());
        assert_eq!(load.map(|load| load.utilization()), expected);
        let Some(load) = load else { return false };
        for criticality in Criticality::ALL {
            let name = format!("named_metrics.admitted.{}", criticality.as_str());
            let share = number(&name).map(|share| share.min(1.0));
            assert_eq!(load.admitted(criticality), share);
        }
        true
    });
}
