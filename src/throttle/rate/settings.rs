//! The settings, and what is wrong with them. Pure.

use std::time::Duration;

use super::{Mode, learner::Bounds};
use crate::{error::InvalidSetting, time::nanos};

/// As given to the builder, whose methods say what each is.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) name: &'static str,
    pub(super) max_wait: Duration,
    pub(super) burst: Duration,
    pub(super) min_rate: f64,
    pub(super) forget_after: Duration,
    pub(super) mode: Mode,
}

impl Settings {
    pub(super) const DEFAULT: Self = Self {
        name: "adaptive_rate",
        max_wait: Duration::ZERO,
        burst: Duration::from_secs(1),
        min_rate: 0.5,
        forget_after: Duration::from_secs(300),
        mode: Mode::Enabled,
    };

    pub(super) fn check(&self) -> Result<Bounds, InvalidSetting> {
        let hour = Duration::from_secs(3600);
        for (setting, value) in [("max_wait", self.max_wait), ("burst", self.burst)] {
            if value > hour {
                return Err(InvalidSetting::new(setting, value, "at most 1h"));
            }
        }
        // As a range, for a NaN is in none.
        if !(0.001..=1e9).contains(&self.min_rate) {
            let allowed = "in 0.001..=1e9";
            return Err(InvalidSetting::new("min_rate", self.min_rate, allowed));
        }
        let second = Duration::from_secs(1);
        if self.forget_after < second {
            let allowed = "at least 1s";
            return Err(InvalidSetting::new(
                "forget_after",
                self.forget_after,
                allowed,
            ));
        }
        Ok(Bounds {
            min_rate: self.min_rate,
            burst: nanos(self.burst),
            max_wait: nanos(self.max_wait),
            forget_after: nanos(self.forget_after),
        })
    }
}
