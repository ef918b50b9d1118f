//! Whether to try again, and when. Pure.

use std::{num::NonZeroU32, time::Duration};

use crate::{
    backoff::{Backoff, Position},
    budget::Budget,
    classify::{Failure, FailureKind, Hint},
};

/// Why a failed call is not tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    Attempts,
    Permanent,
    Hint,
    Budget,
    Deadline,
    NotCloneable,
}

impl Stop {
    pub(super) const ALL: [Self; 6] = [
        Self::Attempts,
        Self::Permanent,
        Self::Hint,
        Self::Budget,
        Self::Deadline,
        Self::NotCloneable,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Attempts => "attempts",
            Self::Permanent => "permanent",
            Self::Hint => "hint",
            Self::Budget => "budget",
            Self::Deadline => "deadline",
            Self::NotCloneable => "not_cloneable",
        }
    }
}

#[derive(Debug)]
pub(super) struct Policy {
    pub(super) max_attempts: NonZeroU32,
    pub(super) backoff: Backoff,
    pub(super) budget: Option<Budget>,
    pub(super) max_hint: Duration,
    pub(super) attempt_needs: Duration,
    pub(super) total_time: Option<Duration>,
}

impl Policy {
    /// How long to wait before the next attempt, or why there is to be none.
    ///
    /// `left` is what remains until the deadline, and is asked for only where it matters. The budget
    /// comes last: what is taken from it is used.
    pub(super) fn decide(
        &self,
        failure: Failure,
        position: &mut Position,
        random: impl FnOnce() -> u64,
        left: impl FnOnce() -> Option<Duration>,
    ) -> Result<Duration, Stop> {
        if failure.kind() == FailureKind::Permanent {
            return Err(Stop::Permanent);
        }
        let delay = match failure.hint() {
            Some(Hint::Never) => return Err(Stop::Hint),
            Some(Hint::After(delay)) if delay > self.max_hint => return Err(Stop::Hint),
            Some(Hint::After(delay)) => delay,
            None => self.backoff.next(position, random()),
        };
        // An attempt that would begin at the deadline itself is too late already.
        if left().is_some_and(|left| delay.saturating_add(self.attempt_needs) >= left) {
            return Err(Stop::Deadline);
        }
        match &self.budget {
            Some(budget) if !budget.try_take() => Err(Stop::Budget),
            _ => Ok(delay),
        }
    }
}
