//! Bytes from anywhere, beside a model of each header; and any duration, which does not grow.

use std::{num::NonZeroU32, time::Duration};

use super::{attempt, criticality, grpc_timeout, millis, tests::unit_of};
use crate::{
    context::Criticality,
    fuzz_tests::{Bytes, is_digits},
};

const TELLING: &[u8] = b"0123456789HMSmun-+ .,\xff\0";

/// Gives `parse` and `model` the same bytes.
fn fuzz<T: PartialEq + std::fmt::Debug>(
    seeds: &'static [&'static str],
    parse: impl Fn(&[u8]) -> Option<T>,
    model: impl Fn(&str) -> Option<T>,
) {
    let telling = TELLING;
    Bytes { seeds, telling }.fuzz(|bytes| {
        let parsed = parse(bytes);
        // What is not UTF-8 is never well formed.
        assert_eq!(parsed, str::from_utf8(bytes).ok().and_then(&model));
        parsed.is_some()
    });
}

#[test]
fn fuzz_grpc_timeout() {
    let model = |text: &str| {
        let unit = text.chars().last().filter(|c| "HMSmun".contains(*c))?;
        let digits = text.strip_suffix(unit)?;
        let fits = is_digits(digits) && digits.len() <= 8;
        let number: u32 = fits.then(|| digits.parse().unwrap())?;
        Some(unit_of(text) * number)
    };
    let seeds = &["1S", "99999999H", "12345678n", "250m", "0u", "00000007M"];
    fuzz(seeds, grpc_timeout::decode, model);
}

#[test]
fn fuzz_milliseconds() {
    let model = |text: &str| {
        let number = is_digits(text).then(|| text.parse().unwrap_or(u64::MAX));
        number.map(Duration::from_millis)
    };
    let seeds = &[
        "1",
        "250",
        "18446744073709551615",
        "18446744073709551616",
        "000000000000000000000001",
    ];
    fuzz(seeds, millis::decode, model);
}

const NUMBERS: &[&str] = &["0", "1", "7", "4294967295", "4294967296", "0000000000004"];

fn number(text: &str) -> Option<u32> {
    is_digits(text).then(|| text.parse().ok()).flatten()
}

#[test]
fn fuzz_attempts() {
    fuzz(NUMBERS, attempt::decode, |text| {
        number(text).and_then(NonZeroU32::new)
    });
}

#[test]
fn fuzz_previous_attempts() {
    fuzz(NUMBERS, attempt::decode_previous, |text| {
        number(text).map(|previous| NonZeroU32::MIN.saturating_add(previous))
    });
}

#[test]
fn fuzz_criticality() {
    let model = |text: &str| match text {
        "critical_plus" => Some(Criticality::CriticalPlus),
        "critical" => Some(Criticality::Critical),
        "sheddable_plus" => Some(Criticality::SheddablePlus),
        "sheddable" => Some(Criticality::Sheddable),
        _ => None,
    };
    let seeds = &["critical_plus", "critical", "sheddable_plus", "sheddable"];
    fuzz(seeds, criticality::decode, model);
}

#[test]
fn fuzz_what_is_left_never_grows_on_the_wire() {
    let (seeds, telling) = (&["\0\0\0\0\0\0\0\x01\0\0\0\x01"], b"\0\x01\x7f\xff");
    Bytes { seeds, telling }.fuzz(|bytes| {
        // As many of the bytes as there are, so of every order of magnitude.
        let word = |bytes: &[u8]| {
            bytes
                .iter()
                .fold(0, |word, byte| word << 8 | u64::from(*byte))
        };
        let (secs, nanos) = bytes.split_at(bytes.len().min(8));
        let left = Duration::new(word(secs), (word(nanos) % 1_000_000_000) as u32);
        let by_grpc = grpc_timeout::decode(grpc_timeout::encode(left).as_bytes());
        let by_http = millis::decode(millis::encode(left).as_bytes());
        assert!(by_grpc.unwrap() <= left && by_http.unwrap() <= left);
        true
    });
}
