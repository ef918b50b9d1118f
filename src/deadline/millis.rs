//! Whole milliseconds, as the HTTP headers have them. Pure.

use std::time::Duration;

use super::digits::{self, Text};

/// How long the caller waits. There may be any number of digits; more than the 584 million years that
/// 64 bits hold count as that.
pub(super) fn decode(value: &[u8]) -> Option<Duration> {
    digits::decode(value).map(Duration::from_millis)
}

/// `left`, truncated, so never longer than it is.
pub(super) const fn encode(left: Duration) -> Text {
    let millis = left.as_millis();
    let millis = if millis > u64::MAX as u128 {
        u64::MAX
    } else {
        millis as u64
    };
    Text::number(millis)
}
