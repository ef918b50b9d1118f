//! How many retries a dependency may be sent.
//!
//! A [`Budget`] belongs to a dependency and bounds what retries add to its load, whoever makes them:
//! clones share it, and one budget may be given to many layers. There are five:
//!
//! | budget | a retry needs | comes back | as in |
//! |---|---|---|---|
//! | [`new`](Budget::new), the default | what earlier successes saved up | with further successes | Finagle, but fed by successes |
//! | [`quota`](Budget::quota) | tokens, as many as its kind of failure costs | when it succeeds; one for each success at the first try | the AWS SDKs |
//! | [`grpc_throttle`](Budget::grpc_throttle) | that more than half of the tokens are there; a failure takes one | with successes | gRPC (gRFC A6) |
//! | [`of_active`](Budget::of_active) | a place, of which there are a share of the calls now active | when the retry ends | Envoy's `retry_budget`, failsafe-go |
//! | [`concurrent`](Budget::concurrent) | a place, of a fixed number | when the retry ends | Envoy's `max_retries` |
//!
//! The first three are fed by the **successes** of calls. When the dependency fails altogether nothing
//! feeds them, and retrying ends by itself, but for [a floor](Budget::with_floor). A budget fed by
//! *attempts* goes on adding its share of load to a system that is down because of its load, and keeps
//! it there (Bronson et al., "Metastable Failures in Distributed Systems", HotOS'21). So does, in its
//! measure, one of active calls: the slower the dependency gets, the more calls are active. What the
//! latter two bound is how much of the dependency's concurrency retries may ever take.
//!
//! # Example
//!
//! ```
//! use steadfast::{budget::Budget, classify::FailureKind};
//!
//! # fn main() -> Result<(), steadfast::InvalidSetting> {
//! // One retry for every five successes, five at the most in a row, none for free.
//! let budget = Budget::new(0.2)?.with_max_balance(5)?.with_floor(0);
//! let may_retry = || budget.ticket().try_retry(FailureKind::Transient);
//!
//! assert!(!may_retry(), "it starts empty");
//! for _ in 0..1_000 {
//!     budget.deposit();
//! }
//! assert_eq!((0..10).filter(|_| may_retry()).count(), 5);
//!
//! // A place is held as long as the ticket is.
//! let budget = Budget::concurrent(1);
//! let (mut first, mut second) = (budget.ticket(), budget.ticket());
//! assert!(first.try_retry(FailureKind::Transient));
//! assert!(!second.try_retry(FailureKind::Transient));
//! drop(first);
//! assert!(second.try_retry(FailureKind::Transient));
//! # Ok(())
//! # }
//! ```

mod places;
mod savings;
mod throttle;
mod ticket;

#[cfg(all(test, steadfast_loom))]
mod loom_tests;
#[cfg(all(test, not(steadfast_loom)))]
mod tests;

use std::{fmt, num::NonZeroU32};

pub(crate) use ticket::Account;
pub use ticket::Ticket;

use self::{
    places::Places,
    savings::{Savings, Terms},
    throttle::Throttle,
};
use crate::{classify::FailureKind, error::InvalidSetting, sync::Arc, window::Ratio};

/// How many retries a dependency may be sent. Cloning shares it.
///
/// What a retry needs is taken in one atomic step, before the wait for the retry: no number of callers
/// gets more than there is. No lock is taken, nothing is allocated, and a success that finds the
/// balance full writes nothing.
///
/// Setters are for a budget that is not shared yet: each gives a new one, as it is at its start.
#[derive(Clone)]
pub struct Budget(Arc<Kind>);

enum Kind {
    Savings(Savings),
    Places(Places),
    Throttle(Throttle),
}

impl Budget {
    /// The share of successes that [`Budget::default`] allows as retries.
    pub const DEFAULT_RATIO: f64 = 0.1;
    /// The default of [`with_max_balance`](Self::with_max_balance).
    pub const DEFAULT_MAX_BALANCE: u32 = 50;
    /// The default of [`with_floor`](Self::with_floor) for the budgets that successes feed: a second.
    pub const DEFAULT_FLOOR: u32 = 1;
    /// The default of [`with_floor`](Self::with_floor) for a share of the active calls: at once. Envoy's.
    pub const DEFAULT_MIN_CONCURRENCY: u32 = 3;
    /// The most attempts of a call under [`grpc_throttle`](Self::grpc_throttle), the first included.
    pub const GRPC_MAX_ATTEMPTS: NonZeroU32 = NonZeroU32::new(5).unwrap();

    /// A budget of `ratio` retries for each success. It starts empty, holds
    /// [a maximum](Self::with_max_balance), and a retry takes one.
    ///
    /// # Errors
    ///
    /// If `ratio` is not a number in 0.000001..=1.
    pub fn new(ratio: f64) -> Result<Self, InvalidSetting> {
        let ratio = Ratio::new("budget.ratio", ratio)?;
        Ok(Self::of(Kind::Savings(Terms::ratio(ratio).open())))
    }

    /// A budget of so many tokens, all there at the start: the AWS SDKs', who have 500. A retry takes
    /// [what its kind of failure costs](Self::with_cost), 10 for a timeout and 5 for any other, and gives
    /// it back if it succeeds. A call that succeeds at the first try gives 1.
    ///
    /// What costs more than the quota holds is left to the floor.
    ///
    /// # Errors
    ///
    /// If it is zero.
    pub fn quota(tokens: u32) -> Result<Self, InvalidSetting> {
        not_none("budget.quota", tokens)?;
        Ok(Self::of(Kind::Savings(Terms::quota(tokens).open())))
    }

    /// A budget that is gRPC's retry throttle, token for token (gRFC A6): of `max_tokens`, all there at
    /// the start, **each failure** takes one, whether tried again or not, and each success brings
    /// `token_ratio` of one, of which three decimals count. Retries are made while **more than half** of
    /// the tokens are there; they take nothing themselves. gRFC A6 has 10 tokens and 0.1 for its example.
    ///
    /// Failures that count are those which the classifier would see tried again, and those of which the
    /// service said [not to](crate::classify::Hint::Never); not one that was
    /// [never sent](crate::classify::Failure::never_sent), when it is sent again. As gRPC has it, a call
    /// makes at most [5 attempts](Self::GRPC_MAX_ATTEMPTS) in all, whatever its layer allows.
    ///
    /// # Errors
    ///
    /// If `max_tokens` is not in 1..=1000, or `token_ratio` not a number in 0.001..=1000.
    ///
    /// # Example
    ///
    /// ```
    /// use steadfast::{budget::Budget, classify::FailureKind};
    ///
    /// # fn main() -> Result<(), steadfast::InvalidSetting> {
    /// let budget = Budget::grpc_throttle(4, 0.5)?;
    /// let may_retry = || {
    ///     budget.failed();
    ///     budget.ticket().try_retry(FailureKind::Transient)
    /// };
    /// assert!(may_retry(), "three are left");
    /// assert!(!may_retry(), "two are half");
    /// budget.deposit();
    /// budget.deposit();
    /// budget.deposit();
    /// assert_eq!(budget.balance(), 3.5);
    /// assert!(may_retry());
    /// # Ok(())
    /// # }
    /// ```
    pub fn grpc_throttle(max_tokens: u32, token_ratio: f64) -> Result<Self, InvalidSetting> {
        Ok(Self::of(Kind::Throttle(Throttle::new(
            max_tokens,
            token_ratio,
        )?)))
    }

    /// A budget of as many retries at once as are `share` of the calls now active, those retried among
    /// them, but [a few](Self::with_floor) in any case. Envoy has 0.2.
    ///
    /// A retry holds its place from before its delay to its end. Counting costs every call two writes
    /// to memory that all calls share.
    ///
    /// # Errors
    ///
    /// If `share` is not a number in 0.000001..=1.
    pub fn of_active(share: f64) -> Result<Self, InvalidSetting> {
        let share = Ratio::new("budget.share", share)?;
        let places = Places::new(share.millionths(), Self::DEFAULT_MIN_CONCURRENCY);
        Ok(Self::of(Kind::Places(places)))
    }

    /// A budget of at most `max` retries at once; zero for none at all. Envoy has 3.
    ///
    /// A retry holds its place from before its delay to its end.
    #[must_use]
    pub fn concurrent(max: u32) -> Self {
        Self::of(Kind::Places(Places::new(0, max)))
    }

    fn of(kind: Kind) -> Self {
        Self(Arc::new(kind))
    }

    /// Sets how many retries successes can save up. Default: 50.
    ///
    /// # Errors
    ///
    /// If it is zero (a budget of the floor alone has a tiny ratio instead), or the budget is not
    /// [a ratio of successes](Self::new).
    pub fn with_max_balance(self, retries: u32) -> Result<Self, InvalidSetting> {
        not_none("budget.max_balance", retries)?;
        match &*self.0 {
            Kind::Savings(savings) if !savings.terms().is_quota() => {
                let terms = savings.terms().with_max_balance(retries);
                Ok(Self::of(Kind::Savings(terms.open())))
            }
            _ => {
                let allowed = "for a budget of a ratio of successes";
                Err(InvalidSetting::new("budget.max_balance", retries, allowed))
            }
        }
    }

    /// Sets how many retries are allowed in any case.
    ///
    /// - For [`new`](Self::new) and [`quota`](Self::quota): how many a second, where the balance has not
    ///   enough for one. They do not add up: after a minute without any, a second's worth can be had at
    ///   once. Default: 1; zero for none.
    /// - For [`grpc_throttle`](Self::grpc_throttle): how many a second, where it would have none. gRPC knows
    ///   no such thing. Default: zero.
    /// - For [`of_active`](Self::of_active): how many at once, however few calls are active. Default: 3.
    /// - For [`concurrent`](Self::concurrent): its number, anew.
    #[must_use]
    pub fn with_floor(self, retries: u32) -> Self {
        Self::of(match &*self.0 {
            Kind::Savings(savings) => Kind::Savings(savings.terms().with_floor(retries).open()),
            Kind::Places(places) => Kind::Places(places.with_floor(retries)),
            Kind::Throttle(throttle) => Kind::Throttle(throttle.with_floor(retries)),
        })
    }

    /// Sets how many tokens a retry after this kind of failure takes. Default: 10 after
    /// [`FailureKind::Timeout`], 5 after any other.
    ///
    /// # Errors
    ///
    /// If it is zero, or the budget is not [a quota](Self::quota).
    pub fn with_cost(self, kind: FailureKind, tokens: u32) -> Result<Self, InvalidSetting> {
        not_none("budget.cost", tokens)?;
        match &*self.0 {
            Kind::Savings(savings) if savings.terms().is_quota() => {
                let terms = savings.terms().with_cost(kind, tokens);
                Ok(Self::of(Kind::Savings(terms.open())))
            }
            _ => {
                let allowed = "for a budget with a quota";
                Err(InvalidSetting::new("budget.cost", tokens, allowed))
            }
        }
    }

    /// Feeds the budget: a call, for which nobody holds a [`Ticket`], succeeded at its first try. A
    /// budget of places is not fed.
    pub fn deposit(&self) {
        match &*self.0 {
            Kind::Savings(savings) => savings.succeeded(None),
            Kind::Throttle(throttle) => throttle.succeeded(),
            Kind::Places(_) => {}
        }
    }

    /// Counts a failure, before a retry is asked for or where there is to be none. It is what
    /// [gRPC's throttle](Self::grpc_throttle) goes by; to the others, of which a retry itself takes, it
    /// makes no difference. A [retry layer](crate::retry) does it itself.
    pub fn failed(&self) {
        if let Kind::Throttle(throttle) = &*self.0 {
            throttle.failed();
        }
    }

    /// The most attempts that a call on this budget may make.
    pub(crate) fn max_attempts(&self) -> NonZeroU32 {
        match &*self.0 {
            Kind::Throttle(_) => Self::GRPC_MAX_ATTEMPTS,
            Kind::Savings(_) | Kind::Places(_) => NonZeroU32::MAX,
        }
    }

    /// Begins a call, for retries that are made by hand. A [retry layer](crate::retry) does it itself.
    pub fn ticket(&self) -> Ticket {
        Ticket::new(self.clone())
    }

    /// What there is at the moment: retries that successes have saved up, tokens of a quota or a throttle,
    /// or places for further retries at once. Without the floor, where that is by the second.
    #[must_use]
    pub fn balance(&self) -> f64 {
        match &*self.0 {
            Kind::Savings(savings) => savings.balance(),
            Kind::Places(places) => places.free().into(),
            Kind::Throttle(throttle) => throttle.tokens(),
        }
    }
}

fn not_none(setting: &'static str, number: u32) -> Result<(), InvalidSetting> {
    if number == 0 {
        return Err(InvalidSetting::new(setting, number, "at least 1"));
    }
    Ok(())
}

impl Default for Budget {
    /// One retry for ten successes, at most 50 saved up, and one a second in any case.
    fn default() -> Self {
        Self::new(Self::DEFAULT_RATIO).expect("the default ratio is one")
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Budget");
        match &*self.0 {
            Kind::Savings(savings) => debug.field("terms", savings.terms()),
            Kind::Places(places) => debug.field("places", places),
            Kind::Throttle(throttle) => debug.field("throttle", throttle),
        };
        debug.field("balance", &self.balance()).finish()
    }
}
