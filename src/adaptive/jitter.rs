//! Chance for algorithms: so that those of many hosts do not probe together.

use crate::rng::Rng;

/// Random numbers, the same for the same seed (Vigna's SplitMix64).
#[derive(Clone, Debug)]
pub(super) struct Jitter(u64);

impl Default for Jitter {
    /// Seeded by the operating system.
    fn default() -> Self {
        Self(Rng::new(None).draw())
    }
}

impl Jitter {
    pub(super) const fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number, uniform in 0..1.
    pub(super) fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ mixed >> 31) >> 11) as f64 / (1_u64 << 53) as f64
    }
}
