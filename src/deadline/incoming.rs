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

/// Finds the headers that are read.
///
/// Looking up six names by their hashes costs more than going through all headers of a request once,
/// nearly all of which have a name of another length.
#[derive(Debug)]
pub(super) struct Reader {
    names: [HeaderName; Field::ALL.len()],
    /// One bit for the length of each name.
    lengths: u64,
}

impl Reader {
    pub(super) fn new(names: &HeaderNames) -> Self {
        let names = Field::ALL.map(|field| match field {
            Field::GrpcTimeout => grpc_timeout::NAME,
            Field::Timeout => names.timeout.clone(),
            Field::EnvoyTimeout => ENVOY_TIMEOUT,
            Field::GrpcAttempts => attempt::GRPC_NAME,
            Field::Attempt => names.attempt.clone(),
            Field::Criticality => names.criticality.clone(),
        });
        let lengths = names.iter().map(length_bit).fold(0, |all, bit| all | bit);
        Self { names, lengths }
    }

    pub(super) fn read(&self, headers: &HeaderMap) -> Incoming {
        let mut found = [const { None }; Field::ALL.len()];
        let mut malformed = 0;
        for (name, value) in headers {
            if self.lengths & length_bit(name) == 0 {
                continue;
            }
            let Some(field) = self.names.iter().position(|own| own == name) else {
                continue;
            };
            // Of two lines nobody knows which one counts.
            if found[field].replace(value.as_bytes()).is_some() {
                malformed |= 1 << field;
            }
        }
        Incoming::decode(found, malformed)
    }
}

/// All lengths beyond the last bit share it.
fn length_bit(name: &HeaderName) -> u64 {
    1 << name.as_str().len().min(63)
}

impl Incoming {
    /// Of the `found` headers those that are not known to be `malformed`.
    fn decode(found: [Option<&[u8]>; Field::ALL.len()], malformed: u8) -> Self {
        let mut this = Self {
            malformed,
            ..Self::default()
        };
        let timeouts = [
            this.take(&found, Field::GrpcTimeout, grpc_timeout::decode),
            this.take(&found, Field::Timeout, millis::decode),
            this.take(&found, Field::EnvoyTimeout, millis::decode),
        ];
        this.left = timeouts.into_iter().flatten().min();
        let of_grpc = this.take(&found, Field::GrpcAttempts, attempt::decode_previous);
        let of_http = this.take(&found, Field::Attempt, attempt::decode);
        this.attempt = of_grpc.max(of_http);
        this.criticality = this.take(&found, Field::Criticality, criticality::decode);
        this
    }

    fn take<T>(
        &mut self,
        found: &[Option<&[u8]>; Field::ALL.len()],
        field: Field,
        decode: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Option<T> {
        let value = found[field as usize]?;
        let bit = 1 << field as u8;
        if self.malformed & bit != 0 {
            return None;
        }
        let decoded = decode(value);
        if decoded.is_none() {
            self.malformed |= bit;
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
