//! What a failed response says about trying again. Pure.

use std::time::Duration;

use http::{HeaderMap, HeaderName, StatusCode};

use super::{rate_limit, retry_after};
use crate::classify::Hint;

/// Says "not at all", whatever its value: Envoy's word for a service that has too much to do, after
/// which Envoy itself does not try again.
pub(super) const OVERLOADED: HeaderName = HeaderName::from_static("x-envoy-overloaded");
/// The same from a Finagle server, on a 503.
const NACK: HeaderName = HeaderName::from_static("finagle-http-nonretryable-nack");

/// More would not be within the reach of every clock.
const LONGEST: Duration = Duration::from_secs(u32::MAX as u64);

/// What the head of a failed response says about trying again. `wall` is the time since the Unix epoch,
/// and asked for only where there is a date and the response does not have its own.
pub(crate) fn read(
    status: StatusCode,
    headers: &HeaderMap,
    wall: impl Fn() -> Duration,
) -> Option<Hint> {
    let is_unavailable = status == StatusCode::SERVICE_UNAVAILABLE;
    if headers.contains_key(OVERLOADED) || (is_unavailable && headers.contains_key(NACK)) {
        return Some(Hint::Never);
    }
    let delay = retry_after::read(headers, &wall).or_else(|| {
        let is_of_quota = is_unavailable || status == StatusCode::TOO_MANY_REQUESTS;
        is_of_quota
            .then(|| rate_limit::read(headers, wall))
            .flatten()
    });
    delay.map(|delay| Hint::After(delay.min(LONGEST)))
}
