//! When a quota that is used up comes back: the `RateLimit` field of the IETF's
//! draft-ietf-httpapi-ratelimit-headers, as it stood in September 2025, and `X-RateLimit-Reset`, of which
//! there is no standard. Pure.

use std::time::Duration;

use http::{HeaderMap, HeaderName, header::AGE};
use sfv::{
    BareItemFromInput, KeyRef, Parser,
    visitor::{
        EntryVisitor, Ignored, InnerListVisitor, ItemVisitor, ListVisitor, ParameterVisitor,
    },
};

use super::field;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const X_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
const X_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");

/// The delay after which there is quota again.
pub(super) fn read(headers: &HeaderMap, wall: impl FnOnce() -> Duration) -> Option<Duration> {
    standard(headers).or_else(|| customary(headers, wall))
}

/// The longest `t` among the policies whose `r` is zero: `"burst";r=0;t=3, "daily";r=900;t=50000` is
/// three seconds.
fn standard(headers: &HeaderMap) -> Option<Duration> {
    // Out of a cache it tells of another moment.
    if headers.contains_key(AGE) {
        return None;
    }
    let mut quotas = Quotas::default();
    for line in headers.get_all(RATE_LIMIT) {
        Parser::new(line)
            .parse_list_with_visitor(&mut quotas)
            .ok()?;
    }
    quotas.reset.map(Duration::from_secs)
}

/// Numbers from here on can be no delay, which would be of 31 years, and are dates since 2001.
const EARLIEST_DATE: u64 = 1_000_000_000;
/// The end of the year 9999, the last that a date in HTTP can tell.
const LATEST_DATE: u64 = 253_402_300_799;

/// Some write seconds to go, as Envoy does, and others, as GitHub, seconds since the Unix epoch. Where
/// it is said that quota remains, it is not what the answer is for.
fn customary(headers: &HeaderMap, wall: impl FnOnce() -> Duration) -> Option<Duration> {
    if headers.contains_key(X_REMAINING) {
        let remaining = field::only(headers, &X_REMAINING)?;
        if field::digits(remaining.as_bytes())? > 0 {
            return None;
        }
    }
    let seconds = field::digits(field::only(headers, &X_RESET)?.as_bytes())?;
    match seconds {
        0..EARLIEST_DATE => Some(Duration::from_secs(seconds)),
        EARLIEST_DATE..=LATEST_DATE => {
            let now = field::answered_at(headers, wall);
            Some(Duration::from_secs(seconds).saturating_sub(now))
        }
        _ => None,
    }
}

/// What there is in the field lines that have been parsed.
#[derive(Default)]
struct Quotas {
    /// The longest time until one that is used up is there again.
    reset: Option<u64>,
}

/// Well-formed as a structured field, but no `RateLimit`.
#[derive(Debug, thiserror::Error)]
#[error("not a list of policies")]
struct Malformed;

impl<'de> ListVisitor<'de> for &mut Quotas {
    type Out = ();
    type Error = Malformed;

    fn entry(&mut self) -> Result<impl EntryVisitor<'de>, Malformed> {
        Ok(Policy {
            quotas: self,
            remaining: None,
            reset: None,
        })
    }

    fn finish(self) -> Result<(), Malformed> {
        Ok(())
    }
}

/// A policy, which is a string with parameters.
struct Policy<'a> {
    quotas: &'a mut Quotas,
    remaining: Option<u64>,
    reset: Option<u64>,
}

impl<'de> EntryVisitor<'de> for Policy<'_> {
    type Error = Malformed;

    fn item(self) -> Result<impl ItemVisitor<'de>, Malformed> {
        Ok(self)
    }

    fn inner_list(self) -> Result<impl InnerListVisitor<'de>, Malformed> {
        Err::<Ignored, _>(Malformed)
    }
}

impl<'de> ItemVisitor<'de> for Policy<'_> {
    type Out = ();
    type Error = Malformed;

    fn bare_item(
        self,
        name: BareItemFromInput<'de>,
    ) -> Result<impl ParameterVisitor<'de, Out = ()>, Malformed> {
        match name {
            BareItemFromInput::String(_) => Ok(self),
            _ => Err(Malformed),
        }
    }
}

impl<'de> ParameterVisitor<'de> for Policy<'_> {
    type Out = ();
    type Error = Malformed;

    /// Of a parameter that is repeated, the last one counts (RFC 9651, section 4.2.3.2).
    fn parameter(
        &mut self,
        key: &'de KeyRef,
        value: BareItemFromInput<'de>,
    ) -> Result<(), Malformed> {
        let place = match key.as_str() {
            "r" => &mut self.remaining,
            "t" => &mut self.reset,
            _ => return Ok(()),
        };
        let BareItemFromInput::Integer(number) = value else {
            return Err(Malformed);
        };
        *place = Some(number.try_into().map_err(|_| Malformed)?);
        Ok(())
    }

    fn finish(self) -> Result<(), Malformed> {
        if self.remaining.ok_or(Malformed)? == 0 {
            self.quotas.reset = self.quotas.reset.max(self.reset);
        }
        Ok(())
    }
}
