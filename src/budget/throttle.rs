//! gRPC's retry throttle.

use std::fmt;

use super::savings::Floor;
use crate::{
    error::InvalidSetting,
    sync::{AtomicU32, Ordering::Relaxed},
    time::Epoch,
};

/// A token, in thousandths: gRPC goes by three decimals.
const ONE: u32 = 1_000;

/// The retry throttle of gRFC A6: a failure takes a token, a success brings a part of one, and retries
/// are made while more than half of them are there.
pub(super) struct Throttle {
    /// In thousandths, as all that is counted here.
    max_tokens: u32,
    ratio: u32,
    /// Nothing else is read or written by what it says, so no order is asked of the memory around it.
    tokens: AtomicU32,
    floor: Floor,
    floor_per_second: u32,
    epoch: Epoch,
}

impl Throttle {
    pub(super) fn new(max_tokens: u32, token_ratio: f64) -> Result<Self, InvalidSetting> {
        if !(1..=1_000).contains(&max_tokens) {
            let setting = "budget.max_tokens";
            return Err(InvalidSetting::new(setting, max_tokens, "in 1..=1000"));
        }
        if !(0.001..=1_000.0).contains(&token_ratio) {
            let setting = "budget.token_ratio";
            return Err(InvalidSetting::new(
                setting,
                token_ratio,
                "a number in 0.001..=1000",
            ));
        }
        // The millionth is for decimals of which binary falls short: a thousand times 0.57 is not 570.
        let ratio = (token_ratio * f64::from(ONE) + 1e-6) as u32;
        Ok(Self::with(max_tokens * ONE, ratio, 0))
    }

    fn with(max_tokens: u32, ratio: u32, floor: u32) -> Self {
        Self {
            max_tokens,
            ratio,
            tokens: AtomicU32::new(max_tokens),
            floor: Floor::new(floor),
            floor_per_second: floor,
            epoch: Epoch::start(),
        }
    }

    pub(super) fn with_floor(&self, per_second: u32) -> Self {
        Self::with(self.max_tokens, self.ratio, per_second)
    }

    pub(super) fn tokens(&self) -> f64 {
        f64::from(self.tokens.load(Relaxed)) / f64::from(ONE)
    }

    /// Whether a retry may be made. It takes nothing: the failure before it has.
    pub(super) fn may_retry(&self) -> bool {
        let is_open = self.tokens.load(Relaxed) > self.max_tokens / 2;
        is_open || (self.floor_per_second > 0 && self.floor.try_take(self.epoch.nanos_now()))
    }

    /// A call failed in a way that may be tried again.
    pub(super) fn failed(&self) {
        self.change(|tokens| tokens.saturating_sub(ONE));
    }

    #[inline]
    pub(super) fn succeeded(&self) {
        self.change(|tokens| (tokens + self.ratio).min(self.max_tokens));
    }

    /// What changes nothing is not written: a full count is the healthy state, and its line stays
    /// shared.
    #[inline]
    fn change(&self, change: impl Fn(u32) -> u32) {
        let mut old = self.tokens.load(Relaxed);
        loop {
            let new = change(old);
            if new == old {
                return;
            }
            match self
                .tokens
                .compare_exchange_weak(old, new, Relaxed, Relaxed)
            {
                Ok(_) => return,
                Err(newer) => old = newer,
            }
        }
    }
}

impl fmt::Debug for Throttle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Throttle")
            .field("max_tokens", &(self.max_tokens / ONE))
            .field("token_ratio", &(f64::from(self.ratio) / f64::from(ONE)))
            .field("floor", &self.floor_per_second)
            .finish()
    }
}
