//! The `Retry-After` field of RFC 9110, section 10.2.3, in and out. Pure.

use std::time::Duration;

use http::{HeaderMap, header::RETRY_AFTER};

/// More would not be within the reach of every clock.
const LONGEST_READ: u64 = u32::MAX as u64;

/// The greatest number of seconds that every recipient can be expected to hold: RFC 9111, section
/// 1.2.2.
const LONGEST_WRITTEN: u64 = i32::MAX as u64;

/// The delay that the headers ask for, if they ask in seconds and in earnest.
pub(super) fn read(headers: &HeaderMap) -> Option<Duration> {
    let mut values = headers.get_all(RETRY_AFTER).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None; // absent, or two that may contradict each other
    };
    // Of what this trims, a field value can hold space and tab only: the grammar's OWS.
    let digits = value.as_bytes().trim_ascii();
    if digits.is_empty() {
        return None;
    }
    let mut seconds = 0_u64;
    for digit in digits {
        // Not `str::parse`, which takes a sign.
        if !digit.is_ascii_digit() {
            return None;
        }
        let digit = u64::from(digit - b'0');
        seconds = seconds.saturating_mul(10).saturating_add(digit);
    }
    Some(Duration::from_secs(seconds.min(LONGEST_READ)))
}

/// The delay in whole seconds, rounded up so that nobody comes back too early; `None` for no delay.
pub(super) fn to_write(delay: Duration) -> Option<u64> {
    let rest = u64::from(delay.subsec_nanos() > 0);
    match delay.as_secs().saturating_add(rest) {
        0 => None,
        seconds => Some(seconds.min(LONGEST_WRITTEN)),
    }
}
