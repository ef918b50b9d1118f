//! The limit that passed: the inner service may have acted.

use std::{error::Error as StdError, fmt, io, time::Duration};

/// A call that this crate stopped waiting for.
///
/// The inner service was called and *may have acted*, so sending the request again is safe only
/// if doing its work twice is.
///
/// The text printed by [`Display`](fmt::Display) is for people and may change in any release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedOut {
    layer: &'static str,
    limit: Limit,
    waited: Duration,
}

/// Which limit passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Limit {
    /// The layer's own timeout.
    Timeout,
    /// The deadline of the [`Context`](crate::Context), which lay before the layer's own timeout.
    Deadline,
    /// The layer's own limit on how long a body may keep its reader waiting between two frames.
    Idle,
    /// The layer's own limit on a whole body.
    Body,
}

impl Limit {
    /// The limit as metrics and events spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Deadline => "deadline",
            Self::Idle => "idle",
            Self::Body => "body",
        }
    }
}

impl TimedOut {
    /// A call given up by the layer called `layer` after `waited`. For layers of your own.
    #[must_use]
    pub const fn new(layer: &'static str, limit: Limit, waited: Duration) -> Self {
        Self {
            layer,
            limit,
            waited,
        }
    }

    /// The name of the layer that stopped waiting.
    #[must_use]
    pub const fn layer(&self) -> &'static str {
        self.layer
    }

    /// Which limit passed.
    #[must_use]
    pub const fn limit(&self) -> Limit {
        self.limit
    }

    /// How long the layer waited before it gave up.
    #[must_use]
    pub const fn waited(&self) -> Duration {
        self.waited
    }

    /// The expiry that `err` is, or that `err` was caused by.
    #[must_use]
    pub fn find<'a>(err: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        super::find(err)
    }
}

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (layer, limit, waited) = (self.layer, self.limit.as_str(), self.waited);
        write!(f, "`{layer}` gave up after {waited:?}: {limit} passed")
    }
}

impl StdError for TimedOut {}

impl From<TimedOut> for io::Error {
    fn from(timed_out: TimedOut) -> Self {
        Self::new(io::ErrorKind::TimedOut, timed_out)
    }
}
