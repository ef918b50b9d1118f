//! What a call holds of a budget.

use std::mem;

use super::{Budget, Kind};
use crate::classify::FailureKind;

/// A call's part in a [`Budget`]; made by [`Budget::ticket`].
///
/// Dropping it, also by a panic, ends the call: it gives back the place of a retry, and the call is no
/// longer active. What was taken from a balance is spent, unless the call [succeeded](Self::succeed).
///
/// # Example
///
/// ```
/// use steadfast::{budget::Budget, classify::FailureKind};
///
/// # fn main() -> Result<(), steadfast::InvalidSetting> {
/// let budget = Budget::quota(500)?;
/// let mut call = budget.ticket();
/// assert!(call.try_retry(FailureKind::Timeout));
/// assert!(call.try_retry(FailureKind::Transient));
/// assert_eq!(budget.balance(), 500.0 - 10.0 - 5.0);
/// call.succeed();
/// assert_eq!(budget.balance(), 490.0, "the last retry gives back what it took");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "dropping it ends the call"]
pub struct Ticket {
    budget: Budget,
    account: Account,
}

impl Ticket {
    pub(super) fn new(budget: Budget) -> Self {
        let account = Account::open(&budget);
        Self { budget, account }
    }

    /// Takes what a retry after this kind of failure needs, if it is there. A call has one place, which
    /// a further retry takes anew.
    #[must_use]
    pub fn try_retry(&mut self, failure: FailureKind) -> bool {
        self.account.try_retry(&self.budget, failure)
    }

    /// The call ends well.
    pub fn succeed(mut self) {
        self.account.succeed(&self.budget);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.account.close(&self.budget);
    }
}

/// A [`Ticket`] without its budget, for who has that anyway: all calls are to name the same one, and
/// the last is to be [`succeed`](Self::succeed) or [`close`](Self::close).
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// What the last retry took, in tokens or in its one place.
    taken: Option<u32>,
    /// Whether the call is counted among the active.
    is_active: bool,
}

impl Account {
    /// A call begins.
    #[inline]
    pub(crate) fn open(budget: &Budget) -> Self {
        let mut account = Self::default();
        if let Kind::Places(places) = &*budget.0
            && places.counts_active()
        {
            places.enter();
            account.is_active = true;
        }
        account
    }

    pub(crate) fn try_retry(&mut self, budget: &Budget, failure: FailureKind) -> bool {
        let taken = match &*budget.0 {
            Kind::Savings(savings) => savings.try_take(failure),
            Kind::Places(places) => {
                if self.taken.take().is_some() {
                    places.leave(true, false);
                }
                places.try_take().then_some(1)
            }
            Kind::Throttle(throttle) => throttle.may_retry().then_some(0),
        };
        if taken.is_some() {
            self.taken = taken;
        }
        taken.is_some()
    }

    /// The retry that was taken last is not made after all.
    pub(crate) fn untake(&mut self, budget: &Budget) {
        if let Some(taken) = self.taken.take() {
            match &*budget.0 {
                Kind::Savings(savings) => savings.give_back(taken),
                Kind::Places(places) => places.leave(true, false),
                Kind::Throttle(_) => {} // which retries take nothing of
            }
        }
    }

    /// The call ends well.
    #[inline]
    pub(crate) fn succeed(&mut self, budget: &Budget) {
        match &*budget.0 {
            Kind::Savings(savings) => savings.succeeded(self.taken.take()),
            Kind::Places(_) => self.close(budget),
            Kind::Throttle(throttle) => throttle.succeeded(),
        }
    }

    /// The call ends. Once it has ended, nothing is left to do.
    #[inline]
    pub(crate) fn close(&mut self, budget: &Budget) {
        let holds_place = self.taken.take().is_some();
        let is_active = mem::take(&mut self.is_active);
        if (holds_place || is_active)
            && let Kind::Places(places) = &*budget.0
        {
            places.leave(holds_place, is_active);
        }
    }
}
