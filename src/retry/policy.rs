//! Whether to try again, and when. Pure.

use std::{num::NonZeroU32, time::Duration};

use crate::{
    backoff::{Backoff, Position},
    budget::{Account, Budget},
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
    NotRepeatable,
    RetryIf,
    Nested,
}

impl Stop {
    pub(super) const ALL: [Self; 9] = [
        Self::Attempts,
        Self::Permanent,
        Self::Hint,
        Self::Budget,
        Self::Deadline,
        Self::NotCloneable,
        Self::NotRepeatable,
        Self::RetryIf,
        Self::Nested,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Attempts => "attempts",
            Self::Permanent => "permanent",
            Self::Hint => "hint",
            Self::Budget => "budget",
            Self::Deadline => "deadline",
            Self::NotCloneable => "not_cloneable",
            Self::NotRepeatable => "not_repeatable",
            Self::RetryIf => "retry_if",
            Self::Nested => "nested",
        }
    }
}

#[derive(Debug)]
pub(super) struct Policy {
    pub(super) max_attempts: NonZeroU32,
    /// What the budget allows, also of a request that has a number of its own.
    pub(super) most_attempts: NonZeroU32,
    pub(super) backoff: Backoff,
    pub(super) budget: Option<Budget>,
    pub(super) max_hint: Duration,
    pub(super) attempt_needs: Duration,
    pub(super) total_time: Option<Duration>,
    pub(super) retries_nested: bool,
}

/// What a call has behind it.
#[derive(Debug)]
pub(super) struct Past {
    position: Position,
    account: Account,
    is_resent: bool,
}

impl Past {
    pub(super) fn new(account: Account) -> Self {
        Self {
            position: Position::START,
            account,
            is_resent: false,
        }
    }

    /// Whether what was never sent is to be sent again as the same attempt.
    fn is_resendable(&self, failure: Failure) -> bool {
        failure.kind() == FailureKind::NeverSent && !self.is_resent && failure.hint().is_none()
    }
}

/// How to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// At once and as the same attempt: what was sent did not arrive.
    Resend,
    /// By a further attempt, after a delay.
    Retry(Duration),
}

impl Policy {
    /// How to go on after a failure, or why not to. Whether there is a request to go on with, and
    /// whether `may_repeat` it, is the caller's to know.
    ///
    /// `left` is what remains until the deadline, and is asked for only where it matters. The budget
    /// comes last: what is taken from it is used.
    pub(super) fn decide(
        &self,
        failure: Failure,
        may_repeat: bool,
        past: &mut Past,
        random: impl FnOnce() -> u64,
        left: impl FnOnce() -> Option<Duration>,
    ) -> Result<Step, Stop> {
        // An attempt that would begin at the deadline itself is too late already.
        let is_late = |delay: Duration| {
            left().is_some_and(|left| delay.saturating_add(self.attempt_needs) >= left)
        };
        match failure.kind() {
            _ if !failure.is_retryable() => return Err(Stop::Permanent),
            FailureKind::NeverSent if past.is_resendable(failure) => {
                // Once in a call. What cannot be sent twice in a row is down, and a dependency that is
                // down is what attempts, backoff and budget are for. gRPC (gRFC A6) has the same once
                // for what may have left the client.
                past.is_resent = true;
                return if is_late(Duration::ZERO) {
                    Err(Stop::Deadline)
                } else {
                    Ok(Step::Resend)
                };
            }
            FailureKind::NeverSent => {}
            _ if !may_repeat => return Err(Stop::NotRepeatable),
            _ => {}
        }
        let delay = match failure.hint() {
            Some(Hint::Never) => return Err(Stop::Hint),
            Some(Hint::After(delay)) if delay > self.max_hint => return Err(Stop::Hint),
            Some(Hint::After(delay)) => {
                // The service has spoken: what was guessed before it did no longer counts.
                past.position = Position::START;
                delay
            }
            None => self.backoff.next(&mut past.position, random()),
        };
        if is_late(delay) {
            return Err(Stop::Deadline);
        }
        match &self.budget {
            Some(budget) if !past.account.try_retry(budget, failure.kind()) => Err(Stop::Budget),
            _ => Ok(Step::Retry(delay)),
        }
    }

    /// An attempt failed. To be said before it is decided how to go on, and also where nothing is to be
    /// decided.
    pub(super) fn failed(&self, failure: Failure, past: &Past) {
        if let Some(budget) = &self.budget
            && failure.is_retryable()
            && !past.is_resendable(failure)
        {
            budget.failed();
        }
    }

    /// The step that was decided on is not taken after all.
    pub(super) fn undo(&self, step: Step, past: &mut Past) {
        if let (Step::Retry(_), Some(budget)) = (step, &self.budget) {
            past.account.untake(budget);
        }
    }

    /// A call begins.
    #[inline]
    pub(super) fn open(&self) -> Past {
        Past::new(self.budget.as_ref().map(Account::open).unwrap_or_default())
    }

    /// A call ends, and gives back what it holds. Once it has, nothing is left to do.
    #[inline]
    pub(super) fn close(&self, past: &mut Past, is_success: bool) {
        match &self.budget {
            Some(budget) if is_success => past.account.succeed(budget),
            Some(budget) => past.account.close(budget),
            None => {}
        }
    }
}
