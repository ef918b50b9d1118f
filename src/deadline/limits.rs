//! How much time a request gets. Pure.

use std::time::Duration;

use crate::error::{InvalidSetting, not_zero};

/// What is configured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) max: Duration,
    pub(super) min: Duration,
    /// The maximum where `None`.
    pub(super) default: Option<Duration>,
    pub(super) margin: Duration,
    pub(super) needs: Duration,
}

impl Limits {
    pub(super) const fn new(max: Duration) -> Self {
        Self {
            max,
            min: Duration::ZERO,
            default: None,
            margin: Duration::ZERO,
            needs: Duration::ZERO,
        }
    }

    pub(super) fn check(&self) -> Result<(), InvalidSetting> {
        not_zero("max", self.max)?;
        let default = not_zero("default_timeout", self.default())?;
        let not_above = |setting, value: Duration, bound, allowed| {
            if value > bound {
                return Err(InvalidSetting::new(setting, value, allowed));
            }
            Ok(())
        };
        not_above("min", self.min, self.max, "at most `max`")?;
        not_above("default_timeout", default, self.max, "at most `max`")?;
        not_above("needs", self.needs, default, "at most the default timeout")
    }

    pub(super) fn default(&self) -> Duration {
        self.default.unwrap_or(self.max)
    }

    /// How long a request may take whose caller waits for `incoming`, and to which this process itself
    /// gives `own`.
    pub(super) fn allotted(&self, incoming: Option<Duration>, own: Option<Duration>) -> Duration {
        let incoming = incoming.map(|left| {
            let left = left.saturating_sub(self.margin);
            left.clamp(self.min, self.max)
        });
        let given = incoming.into_iter().chain(own).min();
        given.map_or_else(|| self.default(), |given| given.min(self.max))
    }

    /// Whether `left` is too little to begin.
    pub(super) fn is_too_late(&self, left: Duration) -> bool {
        left.is_zero() || left < self.needs
    }
}
