//! What field values are made of: single lines, digits, dates. Pure.

use std::{
    borrow::Cow,
    time::{Duration, UNIX_EPOCH},
};

use http::{HeaderMap, HeaderName, HeaderValue, header::DATE};

/// A date as the time since the Unix epoch, in all three forms of RFC 9110, section 5.6.7: IMF-fixdate,
/// and the obsolete ones of RFC 850 and of `asctime`.
pub(super) fn date(value: &[u8]) -> Option<Duration> {
    let text = str::from_utf8(value).ok()?;
    // Of the grammar, the library lacks the leap second.
    let (leap, text) = match text.split_once("23:59:60") {
        None => (0, Cow::Borrowed(text)),
        Some((day, rest)) => (1, Cow::Owned(format!("{day}23:59:59{rest}"))),
    };
    let date = httpdate::parse_http_date(&text).ok()?;
    let date = date.duration_since(UNIX_EPOCH).ok()?;
    Some(date + Duration::from_secs(leap))
}

/// What time it was for the server when it answered: what its `Date` says, so that its clock need not
/// agree with ours; else what `wall` does.
pub(super) fn answered_at(headers: &HeaderMap, wall: impl FnOnce() -> Duration) -> Duration {
    let date = only(headers, &DATE).and_then(|value| self::date(value.as_bytes()));
    date.unwrap_or_else(wall)
}

/// The value of a field that stands in exactly one line: two may contradict each other.
pub(super) fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Some(value),
        _ => None,
    }
}

/// Digits and nothing else, but for the white space that may surround every field value. Numbers that
/// are too great for the type are as great as it can hold.
pub(super) fn digits(value: &[u8]) -> Option<u64> {
    // Of what this trims, a field value can hold space and tab only: the grammar's OWS.
    let digits = value.trim_ascii();
    // Not `str::parse`, which takes a sign.
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0_u64, |number, digit| {
        let digit = u64::from(digit - b'0');
        number.saturating_mul(10).saturating_add(digit)
    });
    Some(number)
}
