//! Numbers as headers write them: ASCII digits and nothing else. Pure.

use http::HeaderValue;

/// The number that `digits` spell, the greatest `u64` where it is greater; `None` for nothing, a sign,
/// a space, a fraction, or anything else that is no digit.
pub(super) fn decode(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    // Not `str::parse`, which takes a sign.
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        Some(number.saturating_mul(10).saturating_add(digit))
    })
}

/// A number, with or without a unit behind it, written on the stack.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text {
    bytes: [u8; Self::LONGEST],
    start: usize,
}

impl Text {
    /// The digits of `u64::MAX`, and a unit.
    const LONGEST: usize = 21;

    pub(super) const fn number(number: u64) -> Self {
        Self::write(number, Self::LONGEST)
    }

    pub(super) const fn with_unit(number: u64, unit: u8) -> Self {
        let mut text = Self::write(number, Self::LONGEST - 1);
        text.bytes[Self::LONGEST - 1] = unit;
        text
    }

    /// The digits, so that they end before `end`.
    const fn write(mut number: u64, end: usize) -> Self {
        let mut bytes = [0; Self::LONGEST];
        let mut start = end;
        loop {
            start -= 1;
            bytes[start] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return Self { bytes, start };
            }
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Allocates, as every header value does that is not a literal.
    pub(super) fn into_value(self) -> HeaderValue {
        HeaderValue::from_bytes(self.as_bytes()).expect("digits and letters make a header value")
    }
}
