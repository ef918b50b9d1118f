//! The number of an attempt: in HTTP counted from one, in gRPC the attempts before it. Pure.

use std::num::NonZeroU32;

use http::HeaderName;

use super::digits;

/// As gRFC A6 has it: how many attempts went before; absent on the first.
pub(super) const GRPC_NAME: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");

pub(super) fn decode(value: &[u8]) -> Option<NonZeroU32> {
    let number = u32::try_from(digits::decode(value)?).ok()?;
    NonZeroU32::new(number)
}

pub(super) fn decode_previous(value: &[u8]) -> Option<NonZeroU32> {
    let previous = u32::try_from(digits::decode(value)?).ok()?;
    Some(NonZeroU32::MIN.saturating_add(previous))
}
