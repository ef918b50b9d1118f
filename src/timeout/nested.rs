//! Limits that stand within one another, checked where they are made.
//!
//! Layers do not see one another, and a limit that can never pass, or a window too short to hold one
//! call, is not seen either. So the inner limit is made from the outer one.

use std::time::Duration;

use super::{Fixed, TimeoutBuilder, TimeoutLayer};
use crate::error::InvalidSetting;

impl TimeoutLayer {
    /// A layer that gives every call `limit`, to stand somewhere within `outer`: as the limit of an
    /// attempt stands within that of the whole request.
    ///
    /// # Errors
    ///
    /// If `limit` is zero, or longer than that of `outer`: it would never pass. They may be equal.
    pub fn within(outer: &Self, limit: Duration) -> Result<Self, InvalidSetting> {
        Ok(Self::builder_within(outer, limit)?.build())
    }

    /// Begins a timeout as [`within`](Self::within) does.
    ///
    /// # Errors
    ///
    /// If `limit` is zero, or longer than that of `outer`.
    pub fn builder_within(
        outer: &Self,
        limit: Duration,
    ) -> Result<TimeoutBuilder<Fixed>, InvalidSetting> {
        Self::builder(outer.not_longer("timeout", limit)?)
    }

    /// The limit of every call.
    #[must_use]
    pub const fn limit(&self) -> Duration {
        self.limit.0
    }

    /// Checks a duration that must end within the limit, such as the wait in a queue or the cap of a
    /// backoff below it, and gives it back. `setting` is what an error calls it.
    ///
    /// # Errors
    ///
    /// If `duration` is longer than the limit.
    pub fn not_longer(
        &self,
        setting: &'static str,
        duration: Duration,
    ) -> Result<Duration, InvalidSetting> {
        self.check(duration <= self.limit(), setting, duration, "at most")
    }

    /// Checks a duration that must hold a call of the full limit, such as the window of a circuit breaker
    /// above it, and gives it back. `setting` is what an error calls it.
    ///
    /// # Errors
    ///
    /// If `duration` is shorter than the limit: when the last of the calls that hang is given up, the
    /// first would be forgotten.
    pub fn not_shorter(
        &self,
        setting: &'static str,
        duration: Duration,
    ) -> Result<Duration, InvalidSetting> {
        self.check(duration >= self.limit(), setting, duration, "at least")
    }

    fn check(
        &self,
        fits: bool,
        setting: &'static str,
        duration: Duration,
        how: &str,
    ) -> Result<Duration, InvalidSetting> {
        if fits {
            return Ok(duration);
        }
        let (limit, name) = (self.limit(), self.shared.telemetry.name());
        let allowed = format!("{how} the {limit:?} of `{name}`");
        Err(InvalidSetting::new(setting, duration, allowed))
    }
}
