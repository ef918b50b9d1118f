//! The settings of a throttle, and what is wrong with them.

use std::time::Duration;

use super::{Mode, rule::Rule};
use crate::{
    classify::{FailureKind, Judgement, Verdict},
    error::InvalidSetting,
    time::nanos,
    window::RequestWindow,
};

/// As given to the builder, whose methods say what each is.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) name: &'static str,
    pub(super) multiplier: f64,
    pub(super) window: Duration,
    pub(super) max_probability: f64,
    pub(super) minimum_rate: f64,
    pub(super) not_accepted: Kinds,
    pub(super) by_criticality: bool,
    pub(super) heeds_load: bool,
    pub(super) mode: Mode,
    pub(super) seed: Option<u64>,
}

impl Settings {
    pub(super) const DEFAULT: Self = Self {
        name: "throttle",
        multiplier: 2.0,
        window: Duration::from_secs(120),
        max_probability: 0.9,
        minimum_rate: 1.0,
        not_accepted: Kinds::NONE.with(FailureKind::Overload),
        by_criticality: true,
        heeds_load: false,
        mode: Mode::Enabled,
        seed: None,
    };

    pub(super) fn check(&self) -> Result<Rule, InvalidSetting> {
        let window_nanos = nanos(self.window);
        if !(RequestWindow::LEAST_NANOS..=RequestWindow::MOST_NANOS).contains(&window_nanos) {
            let allowed = "in 10ms..=1h";
            return Err(InvalidSetting::new("window", self.window, allowed));
        }
        // As ranges, for a NaN is in none.
        let numbers = [
            (
                "multiplier",
                self.multiplier,
                1.01..=f64::MAX,
                "a finite number of at least 1.01",
            ),
            (
                "max_probability",
                self.max_probability,
                0.01..=0.99,
                "in 0.01..=0.99",
            ),
            (
                "minimum_rate",
                self.minimum_rate,
                0.0..=f64::MAX,
                "a finite number of at least 0",
            ),
        ];
        for (setting, value, range, allowed) in numbers {
            if !range.contains(&value) {
                return Err(InvalidSetting::new(setting, value, allowed));
            }
        }
        if self.not_accepted == Kinds::NONE {
            let allowed = "at least one kind";
            return Err(InvalidSetting::new("not_accepted", [(); 0], allowed));
        }
        // The window never holds less than this share of its length.
        let share = (RequestWindow::SLICES - 1) as f64 / RequestWindow::SLICES as f64;
        let least_requests = self.minimum_rate * self.window.as_secs_f64() * share;
        // What binary makes of nine tenths may be a little more.
        let least_requests = (least_requests - 1e-6).ceil() as u64;
        let (multiplier, max_probability) = (self.multiplier, self.max_probability);
        Ok(Rule::new(
            multiplier,
            max_probability,
            least_requests,
            window_nanos,
        ))
    }
}

/// Some kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kinds(u8);

impl Kinds {
    pub(super) const NONE: Self = Self(0);

    pub(super) const fn with(self, kind: FailureKind) -> Self {
        Self(self.0 | 1 << kind as u8)
    }

    #[inline]
    pub(super) const fn contains(self, kind: FailureKind) -> bool {
        self.0 & 1 << kind as u8 != 0
    }

    /// What a judgement says to one for whom these kinds were not accepted.
    #[inline]
    pub(super) const fn count(self, judgement: Judgement) -> Option<Counted> {
        match judgement {
            Judgement::Seen(Verdict::Success) => Some(Counted::Accepted),
            Judgement::Seen(Verdict::Failure(failure)) => match failure.kind() {
                kind if self.contains(kind) => Some(Counted::Overloaded),
                // The service did not see it.
                FailureKind::NeverSent => None,
                _ => Some(Counted::Accepted),
            },
            Judgement::Seen(Verdict::Ignored) | Judgement::RejectedBelow => None,
        }
    }
}

/// What a request counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    /// The service accepted it.
    Accepted,
    /// The service had too many.
    Overloaded,
    /// The service was not asked.
    Refused,
}

impl Counted {
    pub(super) const ALL: [Self; 3] = [Self::Accepted, Self::Overloaded, Self::Refused];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Overloaded => "overloaded",
            Self::Refused => "refused",
        }
    }
}
