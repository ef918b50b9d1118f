//! What the headers of a request say of what travels with it. Pure.

use std::{num::NonZeroU32, time::Duration};

use http::{HeaderMap, HeaderName};

use super::{
    attempt, criticality, grpc_timeout, millis,
    names::{ENVOY_TIMEOUT, HeaderNames},
};
use crate::context::Criticality;

/// A header that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    GrpcTimeout,
    Timeout,
    EnvoyTimeout,
    GrpcAttempts,
    Attempt,
    Criticality,
}

impl Field {
    pub(super) const ALL: [Self; 6] = [
        Self::GrpcTimeout,
        Self::Timeout,
        Self::EnvoyTimeout,
        Self::GrpcAttempts,
        Self::Attempt,
        Self::Criticality,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::GrpcTimeout => "grpc-timeout",
            Self::Timeout => "timeout",
            Self::EnvoyTimeout => "envoy-timeout",
            Self::GrpcAttempts => "grpc-attempts",
            Self::Attempt => "attempt",
            Self::Criticality => "criticality",
        }
    }
}

/// What was found, and what could not be understood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Incoming {
    /// The least of all that the headers say.
    pub(super) left: Option<Duration>,
    pub(super) attempt: Option<NonZeroU32>,
    pub(super) criticality: Option<Criticality>,
    /// One bit for each [`Field`].
    malformed: u8,
}

impl Incoming {
    pub(super) fn read(headers: &HeaderMap, names: &HeaderNames) -> Self {
        let mut this = Self::default();
        if headers.is_empty() {
            return this;
        }
        let timeouts = [
            this.take(
                headers,
                &grpc_timeout::NAME,
                Field::GrpcTimeout,
                grpc_timeout::decode,
            ),
            this.take(headers, &names.timeout, Field::Timeout, millis::decode),
            this.take(headers, &ENVOY_TIMEOUT, Field::EnvoyTimeout, millis::decode),
        ];
        this.left = timeouts.into_iter().flatten().min();
        let previous = attempt::decode_previous;
        let of_grpc = this.take(headers, &attempt::GRPC_NAME, Field::GrpcAttempts, previous);
        let of_http = this.take(headers, &names.attempt, Field::Attempt, attempt::decode);
        this.attempt = of_grpc.max(of_http);
        this.criticality = this.take(
            headers,
            &names.criticality,
            Field::Criticality,
            criticality::decode,
        );
        this
    }

    /// What `decode` makes of the header, which must stand in exactly one line: of two nobody knows
    /// which one counts.
    fn take<T>(
        &mut self,
        headers: &HeaderMap,
        name: &HeaderName,
        field: Field,
        decode: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Option<T> {
        let mut values = headers.get_all(name).iter();
        let first = values.next()?;
        let is_only = values.next().is_none();
        let decoded = is_only.then(|| decode(first.as_bytes())).flatten();
        if decoded.is_none() {
            self.malformed |= 1 << field as u8;
        }
        decoded
    }

    pub(super) const fn is_malformed(self) -> bool {
        self.malformed != 0
    }

    pub(super) fn malformed(self) -> impl Iterator<Item = Field> {
        let is_malformed = move |field: &Field| self.malformed & 1 << *field as u8 != 0;
        Field::ALL.into_iter().filter(is_malformed)
    }
}
