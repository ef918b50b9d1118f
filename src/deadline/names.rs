//! The names of the headers that are not gRPC's.

use http::HeaderName;

use crate::error::InvalidSetting;

/// Written by Envoy: how long it will wait for the service behind it.
pub(super) const ENVOY_TIMEOUT: HeaderName =
    HeaderName::from_static("x-envoy-expected-rq-timeout-ms");

/// The names of the HTTP headers in which deadline, attempt and criticality travel. Both ends of a hop
/// must agree on them.
///
/// | header | default | value |
/// |---|---|---|
/// | [timeout](Self::with_timeout) | `x-request-timeout-ms` | milliseconds until the deadline: digits, nothing else |
/// | [attempt](Self::with_attempt) | `x-request-attempt` | which attempt this is, counted from one; absent on the first |
/// | [criticality](Self::with_criticality) | `x-request-criticality` | `critical_plus`, `critical`, `sheddable_plus` or `sheddable`; absent for `critical` |
#[derive(Clone, Debug)]
#[must_use]
pub struct HeaderNames {
    pub(super) timeout: HeaderName,
    pub(super) attempt: HeaderName,
    pub(super) criticality: HeaderName,
}

impl HeaderNames {
    /// The default names.
    pub const fn new() -> Self {
        Self {
            timeout: HeaderName::from_static("x-request-timeout-ms"),
            attempt: HeaderName::from_static("x-request-attempt"),
            criticality: HeaderName::from_static("x-request-criticality"),
        }
    }

    /// Names the header for the time left.
    ///
    /// # Errors
    ///
    /// If the name does not end in `-ms`: it is to say the unit to whoever reads it.
    pub fn with_timeout(mut self, name: HeaderName) -> Result<Self, InvalidSetting> {
        if !name.as_str().ends_with("-ms") {
            let allowed = "a name that ends in `-ms`";
            return Err(InvalidSetting::new("timeout", name, allowed));
        }
        self.timeout = name;
        Ok(self)
    }

    /// Names the header for the number of the attempt.
    pub fn with_attempt(mut self, name: HeaderName) -> Self {
        self.attempt = name;
        self
    }

    /// Names the header for the criticality.
    pub fn with_criticality(mut self, name: HeaderName) -> Self {
        self.criticality = name;
        self
    }
}

impl Default for HeaderNames {
    fn default() -> Self {
        Self::new()
    }
}
