//! Logarithm and exponential from the four operations of arithmetic alone.
//!
//! Those of `std` are the platform's, and may differ in the last bit from one to the next: enough for two
//! machines to simulate two different histories from one seed.

use std::f64::consts::{LN_2, LOG2_E, SQRT_2};

/// The part of [`LN_2`] that its first 32 bits hold, and what is left of the number itself: so that a small
/// multiple of the first is exact.
const LN_2_HIGH: f64 = 6.931_471_803_691_238e-1;
const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;

const MANTISSA_BITS: u32 = f64::MANTISSA_DIGITS - 1;
const BIAS: i64 = f64::MAX_EXP as i64 - 1;

/// The natural logarithm of a positive, normal number.
pub(super) fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let mut exponent = (bits >> MANTISSA_BITS) as i64 - BIAS;
    let mantissa = bits & ((1 << MANTISSA_BITS) - 1) | (BIAS as u64) << MANTISSA_BITS;
    let mut mantissa = f64::from_bits(mantissa);
    if mantissa > SQRT_2 {
        mantissa /= 2.0;
        exponent += 1;
    }
    // 2 artanh(s) = 2 (s + s^3/3 + s^5/5 + …), where s is at most 0.172.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let series = (0..12).rev().fold(0.0, |sum, term| {
        sum * square + 1.0 / f64::from(2 * term + 1)
    });
    exponent as f64 * LN_2 + 2.0 * s * series
}

/// e to the power of a number between -700 and 700; what lies beyond counts as the nearer of the two.
pub(super) fn exp(x: f64) -> f64 {
    let x = x.clamp(-700.0, 700.0);
    let power = (x * LOG2_E).round();
    let rest = (x - power * LN_2_HIGH) - power * LN_2_LOW;
    // 1 + r (1 + r/2 (1 + r/3 (…))), where r is at most 0.347.
    let series = (1..18)
        .rev()
        .fold(1.0, |sum, term| 1.0 + sum * rest / f64::from(term));
    let two_to_the_power = f64::from_bits(((power as i64 + BIAS) as u64) << MANTISSA_BITS);
    series * two_to_the_power
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn assert_near(ours: f64, std: f64, of: f64) {
        let error = (ours - std).abs() / std.abs().max(1.0);
        assert!(error < 4e-15, "of {of}: {ours} and not {std}");
    }

    #[test]
    fn they_are_those_of_std_but_for_the_last_bits() {
        let rng = Rng::new(Some(1));
        for _ in 0..100_000 {
            let unit = (rng.draw() >> 11) as f64 / (1_u64 << 53) as f64;
            for x in [unit + f64::EPSILON, 1e12 * unit + 1.0] {
                assert_near(ln(x), x.ln(), x);
            }
            let x = 60.0 * unit - 30.0;
            let (ours, std) = (exp(x), x.exp());
            assert!(
                (ours / std - 1.0).abs() < 4e-15,
                "of {x}: {ours} and not {std}"
            );
        }
        assert_eq!((ln(1.0), exp(0.0)), (0.0, 1.0));
        assert_near(ln(f64::MIN_POSITIVE), f64::MIN_POSITIVE.ln(), 0.0);
        assert!(exp(-1e9) > 0.0 && exp(1e9).is_finite());
    }
}
