//! A share of calls, exact at its boundary.

use crate::error::InvalidSetting;

const MILLION: u64 = 1_000_000;

/// A share in (0, 1], to the millionth.
///
/// Kept as an integer: in floating point 7 of 100 calls are not quite `0.07 * 100.0`, and a
/// threshold that is inclusive would be missed by one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ratio {
    millionths: u32,
}

impl Ratio {
    /// Refuses what is not a number in (0, 1], and what is less than a millionth.
    pub(crate) fn new(setting: &'static str, share: f64) -> Result<Self, InvalidSetting> {
        // Cut, not rounded: two thirds of 300 calls are 200, which 0.666667 would miss. What is added
        // makes up for a decimal that the float fell short of.
        let millionths = (share * MILLION as f64 + 0.001).floor();
        // Written so that a NaN is refused too.
        if !(millionths >= 1.0 && share <= 1.0) {
            return Err(InvalidSetting::new(setting, share, "in 0.000001..=1"));
        }
        let millionths = millionths as u32;
        Ok(Self { millionths })
    }

    /// Whether `part` of `whole` is this share or more. Nothing of nothing is not.
    pub(crate) const fn is_reached(self, part: u64, whole: u64) -> bool {
        let part = part as u128 * MILLION as u128;
        part != 0 && part >= self.millionths as u128 * whole as u128
    }

    /// The least part of `whole` that is this share or more; at least one.
    pub(crate) fn least_part(self, whole: u32) -> u32 {
        let part = (u64::from(self.millionths) * u64::from(whole)).div_ceil(MILLION);
        (part as u32).max(1)
    }

    /// Whether the quantile at this share of `whole` values lies above a bound that `above` of them
    /// exceed. It is that of the nearest rank: the least value that this share of all do not exceed.
    pub(crate) const fn quantile_exceeds(self, above: u64, whole: u64) -> bool {
        let rest = (MILLION - self.millionths as u64) as u128 * whole as u128;
        above as u128 * MILLION as u128 > rest
    }

    /// The least number of `whole` values for which it does; at most all.
    pub(crate) fn least_above(self, whole: u32) -> u32 {
        let rest = (MILLION - u64::from(self.millionths)) * u64::from(whole) / MILLION;
        rest as u32 + 1
    }

    /// The fewest values of which one alone may lie above the bound without the quantile doing so. 0
    /// where however many are too few, as they are for the greatest value.
    pub(crate) const fn least_to_spare_one(self) -> u32 {
        let rest = MILLION as u32 - self.millionths;
        if rest == 0 {
            0
        } else {
            (MILLION as u32).div_ceil(rest)
        }
    }

    /// What is left of the whole.
    pub(crate) fn tail(self) -> f64 {
        f64::from(MILLION as u32 - self.millionths) / 1e6
    }

    /// The share in millionths, for sums that must not drift.
    pub(crate) const fn millionths(self) -> u32 {
        self.millionths
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_written_in_decimals_is_reached_at_its_boundary() {
        for percent in 1..=100_u64 {
            let ratio = Ratio::new("share", percent as f64 / 100.0).unwrap();
            assert!(ratio.is_reached(percent, 100), "{percent} %");
            assert!(!ratio.is_reached(percent - 1, 100), "{percent} %");
            assert_eq!(ratio.least_part(100), percent as u32);
        }
    }

    #[test]
    fn what_is_not_a_share_is_refused_by_name() {
        for share in [0.0, -0.1, 1.000_001, f64::NAN, f64::INFINITY, 1e-9] {
            let error = Ratio::new("failure_rate", share).unwrap_err();
            assert_eq!(error.setting(), "failure_rate");
            assert_eq!(error.allowed(), "in 0.000001..=1");
        }
    }
}
