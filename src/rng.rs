//! The one door to randomness: seedable, and the same from any thread without a lock.

use rand::{Rng as _, SeedableRng, rngs::SmallRng};

use crate::sync::{AtomicU64, Ordering};

/// A source of random numbers. With a seed, the *n*-th number drawn is always the same.
///
/// Every draw makes a generator of its own from the seed and the number of the draw. That costs some
/// ten nanoseconds and needs no lock; numbers are drawn only for a retry or a tripped breaker.
#[derive(Debug)]
pub(crate) struct Rng {
    seed: u64,
    drawn: AtomicU64,
}

impl Rng {
    /// Seeded as told, or else from the operating system.
    pub(crate) fn new(seed: Option<u64>) -> Self {
        #[allow(clippy::disallowed_methods, reason = "this is the door")]
        let seed = seed.unwrap_or_else(rand::random);
        let drawn = AtomicU64::new(0);
        Self { seed, drawn }
    }

    /// The next number, uniform over all of `u64`.
    pub(crate) fn draw(&self) -> u64 {
        let draw = self.drawn.fetch_add(1, Ordering::Relaxed);
        // `seed_from_u64` scrambles its argument, so neighbouring draws are independent; the
        // multiplier (odd, so a bijection) keeps the sequences of neighbouring seeds apart.
        let seed = self.seed ^ draw.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        SmallRng::seed_from_u64(seed).next_u64()
    }
}
