//! Budgets that successes feed: a balance, and a floor of so many retries a second.

use std::fmt;

use crate::{
    classify::FailureKind,
    sync::{
        AtomicU64,
        Ordering::{AcqRel, Acquire, Relaxed},
    },
    time::Epoch,
    window::Ratio,
};

/// A retry, or a token, in millionths: as exact as a ratio is.
const ONE: u64 = 1_000_000;

/// What a budget of this kind was told.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    /// What a success pays in, in millionths, as is the maximum.
    deposit: u64,
    max_balance: u64,
    /// What a retry takes, by the kind of the failure, in whole tokens.
    costs: [u32; FailureKind::COUNT],
    /// Whether it starts full, and a retry that succeeds gives back what it took.
    is_quota: bool,
    floor: u32,
}

impl Terms {
    pub(super) fn ratio(ratio: Ratio) -> Self {
        Self {
            deposit: ratio.millionths().into(),
            max_balance: u64::from(super::Budget::DEFAULT_MAX_BALANCE) * ONE,
            costs: [1; FailureKind::COUNT],
            is_quota: false,
            floor: super::Budget::DEFAULT_FLOOR,
        }
    }

    /// With the figures of the AWS SDKs' standard retry mode.
    pub(super) fn quota(tokens: u32) -> Self {
        let terms = Self {
            deposit: ONE,
            max_balance: u64::from(tokens) * ONE,
            costs: [5; FailureKind::COUNT],
            is_quota: true,
            floor: super::Budget::DEFAULT_FLOOR,
        };
        terms.with_cost(FailureKind::Timeout, 10)
    }

    pub(super) const fn is_quota(&self) -> bool {
        self.is_quota
    }

    pub(super) fn with_max_balance(mut self, retries: u32) -> Self {
        self.max_balance = u64::from(retries) * ONE;
        self
    }

    pub(super) const fn with_floor(mut self, per_second: u32) -> Self {
        self.floor = per_second;
        self
    }

    pub(super) const fn with_cost(mut self, kind: FailureKind, tokens: u32) -> Self {
        self.costs[kind as usize] = tokens;
        self
    }

    /// A budget with these terms, at its start.
    pub(super) fn open(self) -> Savings {
        let balance = if self.is_quota { self.max_balance } else { 0 };
        Savings {
            terms: self,
            balance: AtomicU64::new(balance),
            floor: Floor::new(self.floor),
            epoch: Epoch::start(),
        }
    }
}

impl fmt::Debug for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct(if self.is_quota { "Quota" } else { "Ratio" });
        if self.is_quota {
            debug
                .field("tokens", &(self.max_balance / ONE))
                .field("costs", &self.costs);
        } else {
            debug
                .field("ratio", &(self.deposit as f64 / ONE as f64))
                .field("max_balance", &(self.max_balance / ONE));
        }
        debug.field("floor", &self.floor).finish()
    }
}

pub(super) struct Savings {
    terms: Terms,
    balance: AtomicU64,
    floor: Floor,
    epoch: Epoch,
}

impl Savings {
    pub(super) const fn terms(&self) -> &Terms {
        &self.terms
    }

    pub(super) fn balance(&self) -> f64 {
        self.balance.load(Relaxed) as f64 / ONE as f64
    }

    /// Takes what a retry costs, and says how many tokens that were: none where the floor gave it.
    /// Reads the clock only where the balance has not enough.
    pub(super) fn try_take(&self, kind: FailureKind) -> Option<u32> {
        let cost = self.terms.costs[kind as usize];
        let mut old = self.balance.load(Acquire);
        while let Some(new) = old.checked_sub(u64::from(cost) * ONE) {
            match self
                .balance
                .compare_exchange_weak(old, new, AcqRel, Acquire)
            {
                Ok(_) => return Some(cost),
                Err(newer) => old = newer,
            }
        }
        let gives = self.terms.floor > 0 && self.floor.try_take(self.epoch.nanos_now());
        gives.then_some(0)
    }

    /// A call succeeded, the last retry of which took so many tokens; `None` at the first try.
    #[inline]
    pub(super) fn succeeded(&self, taken: Option<u32>) {
        match taken {
            Some(tokens) if self.terms.is_quota => self.give_back(tokens),
            _ => self.pay_in(self.terms.deposit),
        }
    }

    /// A retry that was paid for was not made. What the floor gave is lost.
    pub(super) fn give_back(&self, tokens: u32) {
        self.pay_in(u64::from(tokens) * ONE);
    }

    #[inline]
    fn pay_in(&self, amount: u64) {
        let max_balance = self.terms.max_balance;
        let mut old = self.balance.load(Relaxed);
        // A full balance is the healthy state. Not writing it is what keeps the line shared.
        while old < max_balance {
            let new = (old + amount).min(max_balance);
            match self
                .balance
                .compare_exchange_weak(old, new, AcqRel, Relaxed)
            {
                Ok(_) => return,
                Err(newer) => old = newer,
            }
        }
    }
}

/// So many a second, a second's worth at once: the generic cell rate algorithm (ITU-T I.371) on one
/// word, the theoretical arrival time.
pub(super) struct Floor {
    per_second: u32,
    arrival: AtomicU64,
}

impl Floor {
    const SECOND: u64 = 1_000_000_000;

    pub(super) fn new(per_second: u32) -> Self {
        let arrival = AtomicU64::new(0);
        Self {
            per_second,
            arrival,
        }
    }

    pub(super) fn try_take(&self, now: u64) -> bool {
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
