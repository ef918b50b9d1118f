//! The one door to randomness: seedable, and the same from any thread without a lock.

use rand::{Rng as _, SeedableRng, rngs::SmallRng};

use crate::sync::{AtomicU64, Ordering};

/// A source of random numbers. With a seed, the *n*-th number drawn is always the same.
///
/// Every draw makes a generator of its own from the seed and the number of the draw. That costs a
/// few nanoseconds and needs no lock; numbers are drawn only for a retry or a tripped breaker.
#[derive(Debug)]
pub(crate) struct Rng {
    seed: u64,
    drawn: AtomicU64,
}

impl Rng {
    /// Seeded as told, or else within a simulation by that, or else from the operating system.
    pub(crate) fn new(seed: Option<u64>) -> Self {
        #[allow(clippy::disallowed_methods, reason = "this is the door")]
        let seed = seed
            .or_else(|| dealt(Use::Layer))
            .unwrap_or_else(rand::random);
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

#[cfg(not(all(feature = "sim", not(steadfast_loom))))]
fn dealt(_: Use) -> Option<u64> {
    None
}

#[cfg(all(feature = "sim", not(steadfast_loom)))]
pub(crate) use dealer::{Dealing, dealt};

/// What a seed is for.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(
    not(all(feature = "sim", not(steadfast_loom))),
    allow(dead_code, reason = "what is not a layer is simulated")
)]
pub(crate) enum Use {
    Layer,
    Load,
    Server,
    Link,
    Other,
}

/// Within a simulation, all seeds that nobody gave come from the one of the simulation.
#[cfg(all(feature = "sim", not(steadfast_loom)))]
mod dealer {
    use std::{cell::Cell, marker::PhantomData};

    use super::{Rng, Use};
    use crate::sync::AtomicU64;

    thread_local! {
        static DEALER: Cell<Option<Dealer>> = const { Cell::new(None) };
    }

    /// The seed of the simulation on this thread, and how many have been dealt from it for each use.
    #[derive(Clone, Copy, Debug)]
    struct Dealer {
        seed: u64,
        dealt: [u64; Use::Other as usize + 1],
    }

    /// The next seed of the simulation on this thread, if there is one. Uses are apart: what one of them
    /// is dealt does not depend on the others, so that a layer more leaves the load as it was.
    pub(crate) fn dealt(what_for: Use) -> Option<u64> {
        let mut dealer = DEALER.get()?;
        let what_for = what_for as usize;
        let drawn = AtomicU64::new(dealer.dealt[what_for]);
        dealer.dealt[what_for] += 1;
        DEALER.set(Some(dealer));
        // The seed of a use is the first draw of a sequence that begins where no count gets to.
        let apart = AtomicU64::new(u64::MAX - what_for as u64);
        let seed = dealer.seed;
        let seed = Rng { seed, drawn: apart }.draw();
        Some(Rng { seed, drawn }.draw())
    }

    /// Deals seeds to what is built on this thread, until it is dropped.
    #[derive(Debug)]
    pub(crate) struct Dealing {
        outer: Option<Dealer>,
        not_send: PhantomData<*const ()>,
    }

    impl Dealing {
        pub(crate) fn from_seed(seed: u64) -> Self {
            let dealt = [0; Use::Other as usize + 1];
            Self {
                outer: DEALER.replace(Some(Dealer { seed, dealt })),
                not_send: PhantomData,
            }
        }
    }

    impl Drop for Dealing {
        fn drop(&mut self) {
            DEALER.set(self.outer);
        }
    }
}

#[cfg(all(test, not(steadfast_loom)))]
mod tests {
    use super::*;

    fn draws(seed: Option<u64>, count: usize) -> Vec<u64> {
        let rng = Rng::new(seed);
        (0..count).map(|_| rng.draw()).collect()
    }

    #[test]
    fn a_seed_repeats_its_numbers() {
        assert_eq!(draws(Some(1), 100), draws(Some(1), 100));
    }

    #[test]
    fn neighbouring_seeds_share_no_number_and_without_a_seed_none_is_repeated() {
        let mut all: Vec<_> = (0..100).flat_map(|seed| draws(Some(seed), 100)).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 100 * 100);
        assert_ne!(draws(None, 2), draws(None, 2));
    }

    #[test]
    fn the_numbers_are_uniform_in_every_bit_and_every_sixteenth() {
        let draws = draws(Some(3), 16_000);
        // Five standard deviations each.
        for bit in 0..u64::BITS {
            let ones = draws.iter().filter(|draw| *draw >> bit & 1 == 1).count();
            assert!(ones.abs_diff(8_000) < 317, "bit {bit}: {ones}");
        }
        for part in 0..16 {
            let hits = draws.iter().filter(|draw| *draw >> 60 == part).count();
            assert!(hits.abs_diff(1_000) < 154, "part {part}: {hits}");
        }
    }
}
