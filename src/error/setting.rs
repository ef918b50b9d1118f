//! A setting that cannot work.

use std::{borrow::Cow, fmt, time::Duration};

/// A setting outside its allowed range, found when the layer, or a part of it, was built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid `{setting}`: {value} is not {allowed}")]
pub struct InvalidSetting {
    setting: &'static str,
    value: String,
    allowed: Cow<'static, str>,
}

impl InvalidSetting {
    /// Says that `value` is not `allowed` (for example "in 1..=100") for `setting`.
    pub(crate) fn new(
        setting: &'static str,
        value: impl fmt::Debug,
        allowed: impl Into<Cow<'static, str>>,
    ) -> Self {
        let (value, allowed) = (format!("{value:?}"), allowed.into());
        Self {
            setting,
            value,
            allowed,
        }
    }

    /// The name of the setting, as its setter is called.
    #[must_use]
    pub const fn setting(&self) -> &'static str {
        self.setting
    }

    /// The value that was refused.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// What is allowed instead.
    #[must_use]
    pub fn allowed(&self) -> &str {
        &self.allowed
    }
}

/// Refuses a zero duration where waiting no time at all cannot be meant.
pub(crate) fn not_zero(setting: &'static str, value: Duration) -> Result<Duration, InvalidSetting> {
    if value.is_zero() {
        return Err(InvalidSetting::new(setting, value, "longer than zero"));
    }
    Ok(value)
}
