//! How many retries a dependency may be sent.
//!
//! A [`Budget`] belongs to a dependency. It is fed by the successes of calls to it and drained by
//! retries, whoever makes them: clones share it, and one budget may be given to many layers. When the
//! dependency fails altogether nothing feeds it, and retrying ends by itself. A budget fed by
//! *attempts* goes on adding its share of load to a system that is down because of its load, and keeps
//! it there (Bronson et al., "Metastable Failures in Distributed Systems", HotOS'21).
//!
//! # Example
//!
//! ```
//! use steadfast::budget::Budget;
//!
//! # fn main() -> Result<(), steadfast::InvalidSetting> {
//! // One retry for every five successes, five at the most in a row, none for free.
//! let budget = Budget::new(0.2)?.with_max_balance(5)?.with_floor(0);
//!
//! assert!(!budget.try_take(), "it starts empty");
//! for _ in 0..1_000 {
//!     budget.deposit();
//! }
//! assert_eq!((0..10).filter(|_| budget.try_take()).count(), 5);
//! # Ok(())
//! # }
//! ```

#[cfg(all(test, steadfast_loom))]
mod loom_tests;
#[cfg(all(test, not(steadfast_loom)))]
mod tests;

use std::fmt;

use crate::{
    error::InvalidSetting,
    sync::{
        Arc, AtomicU64,
        Ordering::{AcqRel, Acquire, Relaxed},
    },
    time::Epoch,
    window::Ratio,
};

/// Retries for a share of successes, with a floor for low traffic. Cloning shares it.
///
/// A success deposits [the share](Self::new), a retry takes one. The balance never exceeds
/// [a maximum](Self::with_max_balance), and starts at zero. Where it holds less than one,
/// [a few retries a second](Self::with_floor) are allowed all the same.
///
/// Taking is one atomic step, done before the wait for the retry; nothing is held while waiting. A
/// success that finds the balance full writes nothing.
#[derive(Clone)]
pub struct Budget(Arc<State>);

struct State {
    /// What a success deposits, in millionths of a retry, as is the balance.
    deposit: u64,
    max_balance: u64,
    balance: AtomicU64,
    floor: Floor,
    epoch: Epoch,
}

/// A retry in millionths.
const ONE: u64 = 1_000_000;

impl Budget {
    /// The share of successes that [`Budget::default`] allows as retries.
    pub const DEFAULT_RATIO: f64 = 0.1;
    /// The default of [`with_max_balance`](Self::with_max_balance).
    pub const DEFAULT_MAX_BALANCE: u32 = 50;
    /// The default of [`with_floor`](Self::with_floor).
    pub const DEFAULT_FLOOR: u32 = 1;

    /// A budget of `ratio` retries for each success.
    ///
    /// # Errors
    ///
    /// If `ratio` is not a number in 0.000001..=1.
    pub fn new(ratio: f64) -> Result<Self, InvalidSetting> {
        let ratio = Ratio::new("budget.ratio", ratio)?;
        Ok(Self::from_parts(
            ratio.millionths().into(),
            u64::from(Self::DEFAULT_MAX_BALANCE) * ONE,
            Self::DEFAULT_FLOOR,
        ))
    }

    fn from_parts(deposit: u64, max_balance: u64, floor: u32) -> Self {
        Self(Arc::new(State {
            deposit,
            max_balance,
            balance: AtomicU64::new(0),
            floor: Floor::new(floor),
            epoch: Epoch::start(),
        }))
    }

    /// Sets how many retries successes can save up. Default: 50.
    ///
    /// To be set before the budget is shared: the result is a new budget, with nothing in it.
    ///
    /// # Errors
    ///
    /// If it is zero; a budget of the floor alone has a tiny ratio instead.
    pub fn with_max_balance(self, retries: u32) -> Result<Self, InvalidSetting> {
        if retries == 0 {
            let allowed = "at least 1";
            return Err(InvalidSetting::new("budget.max_balance", retries, allowed));
        }
        let State { deposit, floor, .. } = &*self.0;
        Ok(Self::from_parts(
            *deposit,
            u64::from(retries) * ONE,
            floor.per_second,
        ))
    }

    /// Sets how many retries a second are allowed where successes have saved up none. They do not add
    /// up: after a minute without any, a second's worth can be had at once. Default: 1; zero for none.
    ///
    /// To be set before the budget is shared: the result is a new budget, with nothing in it.
    #[must_use]
    pub fn with_floor(self, per_second: u32) -> Self {
        let State {
            deposit,
            max_balance,
            ..
        } = &*self.0;
        Self::from_parts(*deposit, *max_balance, per_second)
    }

    /// Feeds the budget: a call succeeded.
    pub fn deposit(&self) {
        let State {
            deposit,
            max_balance,
            balance,
            ..
        } = &*self.0;
        let mut old = balance.load(Relaxed);
        // A full balance is the healthy state. Not writing it is what keeps the line shared.
        while old < *max_balance {
            let new = (old + deposit).min(*max_balance);
            match balance.compare_exchange_weak(old, new, AcqRel, Relaxed) {
                Ok(_) => return,
                Err(newer) => old = newer,
            }
        }
    }

    /// Takes one retry, if there is one. Reads the clock only where the balance holds none.
    #[must_use]
    pub fn try_take(&self) -> bool {
        let State {
            balance,
            floor,
            epoch,
            ..
        } = &*self.0;
        let mut old = balance.load(Acquire);
        while let Some(new) = old.checked_sub(ONE) {
            match balance.compare_exchange_weak(old, new, AcqRel, Acquire) {
                Ok(_) => return true,
                Err(newer) => old = newer,
            }
        }
        floor.per_second > 0 && floor.try_take(epoch.nanos_now())
    }

    /// How many retries successes have saved up.
    #[must_use]
    pub fn balance(&self) -> f64 {
        self.0.balance.load(Relaxed) as f64 / ONE as f64
    }
}

impl Default for Budget {
    /// One retry for ten successes, at most 50 saved up, and one a second in any case.
    fn default() -> Self {
        Self::new(Self::DEFAULT_RATIO).expect("the default ratio is one")
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget")
            .field("ratio", &(self.0.deposit as f64 / ONE as f64))
            .field("max_balance", &(self.0.max_balance / ONE))
            .field("floor", &self.0.floor.per_second)
            .field("balance", &self.balance())
            .finish()
    }
}

/// So many a second, a second's worth at once: the generic cell rate algorithm (ITU-T I.371) on one
/// word, the theoretical arrival time.
struct Floor {
    per_second: u32,
    arrival: AtomicU64,
}

impl Floor {
    const SECOND: u64 = 1_000_000_000;

    fn new(per_second: u32) -> Self {
        let arrival = AtomicU64::new(0);
        Self {
            per_second,
            arrival,
        }
    }

    fn try_take(&self, now: u64) -> bool {
        let interval = (Self::SECOND / u64::from(self.per_second)).max(1);
        let mut old = self.arrival.load(Acquire);
        loop {
            let new = old.max(now) + interval;
            if new > now + Self::SECOND {
                return false;
            }
            match self
                .arrival
                .compare_exchange_weak(old, new, AcqRel, Acquire)
            {
                Ok(_) => return true,
                Err(newer) => old = newer,
            }
        }
    }
}
