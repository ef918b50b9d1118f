//! The `Retry-After` field of RFC 9110, section 10.2.3, in and out. Pure.

use std::time::Duration;

use http::{HeaderMap, header::RETRY_AFTER};

use super::field;

/// The greatest number of seconds that every recipient can be expected to hold: RFC 9111, section
/// 1.2.2.
const LONGEST_WRITTEN: u64 = i32::MAX as u64;

/// The delay that the field asks for; zero for a date that has passed.
pub(super) fn read(headers: &HeaderMap, wall: impl FnOnce() -> Duration) -> Option<Duration> {
    let value = field::only(headers, &RETRY_AFTER)?.as_bytes();
    if let Some(seconds) = field::digits(value) {
        return Some(Duration::from_secs(seconds));
    }
    let date = field::date(value)?;
    Some(date.saturating_sub(field::answered_at(headers, wall)))
}

/// The delay in whole seconds, rounded up so that nobody comes back too early; `None` for no delay.
pub(super) fn to_write(delay: Duration) -> Option<u64> {
    let rest = u64::from(delay.subsec_nanos() > 0);
    match delay.as_secs().saturating_add(rest) {
        0 => None,
        seconds => Some(seconds.min(LONGEST_WRITTEN)),
    }
}
