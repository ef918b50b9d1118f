//! Numbers that algorithms are set with, and that they share.

use std::time::Duration;

use super::limit::Sample;
use crate::error::InvalidSetting;

/// # Errors
///
/// If `value` is not in (0, 1].
pub(super) fn share(setting: &'static str, value: f64) -> Result<f64, InvalidSetting> {
    number(
        setting,
        value,
        value > 0.0 && value <= 1.0,
        "above 0 and at most 1",
    )
}

/// # Errors
///
/// If `value` is not in 1..=1000.
pub(super) fn factor(setting: &'static str, value: f64) -> Result<f64, InvalidSetting> {
    number(
        setting,
        value,
        (1.0..=1000.0).contains(&value),
        "in 1..=1000",
    )
}

fn number(
    setting: &'static str,
    value: f64,
    is_allowed: bool,
    allowed: &'static str,
) -> Result<f64, InvalidSetting> {
    if is_allowed {
        Ok(value)
    } else {
        Err(InvalidSetting::new(setting, value, allowed))
    }
}

/// The next limit, unless it would grow by calls that were all cut short: nothing was got done by them.
pub(super) fn earned(next: f64, limit: f64, sample: &Sample) -> f64 {
    if sample.completed > 0 {
        next
    } else {
        next.min(limit)
    }
}

/// The decimal logarithm of a limit, in whole numbers; at least one.
pub(super) fn log10(limit: f64) -> f64 {
    limit.log10().floor().max(1.0)
}

/// Seconds by which one can divide.
pub(super) fn seconds(latency: Duration) -> f64 {
    latency.as_secs_f64().max(1e-9)
}
