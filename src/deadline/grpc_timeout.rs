//! `grpc-timeout`, as "gRPC over HTTP/2" has it: at most eight digits and a unit. Pure.

use std::time::Duration;

use http::HeaderName;

use super::digits::{self, Text};

pub(super) const NAME: HeaderName = HeaderName::from_static("grpc-timeout");

const MAX_DIGITS: usize = 8;
/// One more than eight digits hold.
const TOO_MANY: u64 = 100_000_000;

/// How long the caller waits. Zero, which the grammar leaves out and callers write all the same, is no
/// time at all.
pub(super) fn decode(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.len() > MAX_DIGITS {
        return None;
    }
    let number = digits::decode(digits)?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3_600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// `left` in the finest unit of which eight digits hold it, truncated, so never longer than it is. More
/// than 11,415 years count as that.
pub(super) const fn encode(left: Duration) -> Text {
    let nanos = left.subsec_nanos() as u64;
    let (number, unit) = match left.as_secs() {
        0 if nanos < TOO_MANY => (nanos, b'n'),
        secs @ 0..100 => (secs * 1_000_000 + nanos / 1_000, b'u'),
        secs @ 100..100_000 => (secs * 1_000 + nanos / 1_000_000, b'm'),
        secs @ 100_000..TOO_MANY => (secs, b'S'),
        secs if secs / 60 < TOO_MANY => (secs / 60, b'M'),
        secs if secs / 3_600 < TOO_MANY => (secs / 3_600, b'H'),
        _ => (TOO_MANY - 1, b'H'),
    };
    Text::with_unit(number, unit)
}
