//! `grpc-retry-pushback-ms` (gRFC A6), in and out. Pure.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::classify::Hint;

pub(super) const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// What the trailers, or the head of an answer without a body, say about trying again.
///
/// Whoever sends the field has something to say. So what is not understood, two lines of it included,
/// does not mean that there is nothing: it means "not at all".
pub(super) fn read(headers: &HeaderMap) -> Option<Hint> {
    let mut values = headers.get_all(&PUSHBACK).iter();
    let value = values.next()?;
    let millis = match values.next() {
        None => millis(value.as_bytes()),
        Some(_) => None,
    };
    Some(millis.map_or(Hint::Never, Hint::After))
}

/// What is a delay of all that the grammar allows: an ASCII-encoded signed 32-bit integer without
/// unnecessary leading zeros.
fn millis(value: &[u8]) -> Option<Duration> {
    let is_number = match value {
        [b'0'] => true,
        // Not `str::parse` alone, which takes a sign.
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    let digits = is_number.then(|| str::from_utf8(value).ok()).flatten()?;
    let millis: i32 = digits.parse().ok()?;
    Some(Duration::from_millis(millis.unsigned_abs().into()))
}

/// The hint as the field has it: milliseconds rounded up, as 32 bits hold them; `None` for no delay.
pub(super) fn to_write(hint: Hint) -> Option<HeaderValue> {
    match hint {
        Hint::Never => Some(HeaderValue::from_static("-1")),
        Hint::After(delay) => {
            let millis = delay.as_nanos().div_ceil(1_000_000);
            let millis = i32::try_from(millis).unwrap_or(i32::MAX);
            (millis > 0).then(|| millis.into())
        }
    }
}
