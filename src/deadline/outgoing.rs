//! What is written into the headers of a request. Pure.

use std::{num::NonZeroU32, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, header::CONTENT_TYPE};

use super::{attempt, criticality, digits::Text, grpc_timeout, millis, names::HeaderNames};
use crate::context::Criticality;

/// In whose headers the deadline and the attempt are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protocol {
    /// gRPC's for a request whose `content-type` begins with `application/grpc`, else HTTP's.
    #[default]
    Detect,
    /// gRPC's: `grpc-timeout` and `grpc-previous-rpc-attempts`.
    Grpc,
    /// HTTP's: see [`HeaderNames`].
    Http,
    /// Both.
    Both,
}

/// The headers to write.
#[derive(Clone, Copy, Debug)]
pub(super) struct Format<'a> {
    is_grpc: bool,
    is_http: bool,
    names: &'a HeaderNames,
}

impl<'a> Format<'a> {
    pub(super) fn of(headers: &HeaderMap, protocol: Protocol, names: &'a HeaderNames) -> Self {
        let (is_grpc, is_http) = match protocol {
            Protocol::Detect => {
                let is_grpc = has_grpc_content(headers);
                (is_grpc, !is_grpc)
            }
            Protocol::Grpc => (true, false),
            Protocol::Http => (false, true),
            Protocol::Both => (true, true),
        };
        Self {
            is_grpc,
            is_http,
            names,
        }
    }

    /// The shortest time that can be written.
    pub(super) const fn least(self) -> Duration {
        if self.is_http {
            Duration::from_millis(1)
        } else {
            Duration::from_nanos(1)
        }
    }

    /// What the headers say already, where they say it properly.
    pub(super) fn timeout_in(self, headers: &HeaderMap) -> Option<Duration> {
        let of_grpc = self
            .is_grpc
            .then(|| single(headers, &grpc_timeout::NAME).and_then(grpc_timeout::decode));
        let of_http = self
            .is_http
            .then(|| single(headers, &self.names.timeout).and_then(millis::decode));
        let found = [of_grpc.flatten(), of_http.flatten()];
        found.into_iter().flatten().min()
    }

    /// Writes `left` over whatever is there and not shorter.
    pub(super) fn write_timeout(self, headers: &mut HeaderMap, left: Duration) {
        if self.is_grpc {
            let decode = grpc_timeout::decode;
            write_if_longer(
                headers,
                &grpc_timeout::NAME,
                decode,
                left,
                grpc_timeout::encode,
            );
        }
        if self.is_http {
            let name = &self.names.timeout;
            write_if_longer(headers, name, millis::decode, left, millis::encode);
        }
    }

    /// Writes the number of an attempt after the first; else sees to it that none is there.
    pub(super) fn write_attempt(self, headers: &mut HeaderMap, attempt: NonZeroU32) {
        let is_first = attempt == NonZeroU32::MIN;
        if self.is_grpc {
            let previous = (!is_first).then(|| attempt.get() - 1);
            put(
                headers,
                &attempt::GRPC_NAME,
                previous.map(HeaderValue::from),
            );
        }
        if self.is_http {
            let number = (!is_first).then(|| attempt.get());
            put(headers, &self.names.attempt, number.map(HeaderValue::from));
        }
    }

    /// Writes a criticality other than the default; else sees to it that none is there.
    pub(super) fn write_criticality(self, headers: &mut HeaderMap, criticality: Criticality) {
        let is_default = criticality == Criticality::default();
        let value = (!is_default).then(|| criticality::encode(criticality));
        put(
            headers,
            &self.names.criticality,
            value.map(HeaderValue::from_static),
        );
    }
}

fn has_grpc_content(headers: &HeaderMap) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    let content_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let beginning = content_type.and_then(|value| value.get(..GRPC.len()));
    beginning.is_some_and(|value| value.eq_ignore_ascii_case(GRPC))
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Some(value.as_bytes()),
        _ => None,
    }
}

fn write_if_longer(
    headers: &mut HeaderMap,
    name: &HeaderName,
    decode: impl FnOnce(&[u8]) -> Option<Duration>,
    left: Duration,
    encode: impl FnOnce(Duration) -> Text,
) {
    let there = single(headers, name).and_then(decode);
    if there.is_none_or(|there| there > left) {
        headers.insert(name, encode(left).into_value());
    }
}

fn put(headers: &mut HeaderMap, name: &HeaderName, value: Option<HeaderValue>) {
    match value {
        Some(value) => drop(headers.insert(name, value)),
        None => drop(headers.remove(name)),
    }
}
