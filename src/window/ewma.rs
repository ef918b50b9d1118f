//! The share of failures in which a call weighs less the older it is.

use super::WeightedCounts;
use crate::sync::{AtomicU64, Ordering::Relaxed};

/// How many steps a time constant has. Calls of one step are of one age.
const STEPS: u64 = 16;

/// Calls, and those of them that failed, each weighing e^(-age / time constant): the exponentially
/// weighted average over irregular intervals, as Finagle judges success rates, kept as two sums so that
/// it is known of how many calls it is.
///
/// Step, scale and both sums are one word, so a call enters in one step, and nobody sees a failure
/// without its call. The sums fade when the first call of a later step comes, by all the steps that have
/// passed at once; calls of one step are added as whole numbers. So ages are wrong by less than a step,
/// a sixteenth of the time constant, and weights by less than 7 %. Fading cuts: the sums are too small by up to
/// 0.11 % of the calls, or a sixtieth of one where they are few, and never too large; and where all calls
/// failed they are the same number.
///
/// No more than 32,767 calls are held. Where another comes both sums are halved, so that under such
/// traffic it is their number rather than time that makes it forget: it then is the rate of the last
/// 16,384 calls or more.
///
/// From one era to the next the steps skip so many that all that was recorded before weighs nothing.
#[derive(Debug)]
pub(crate) struct EwmaWindow {
    step_nanos: u64,
    word: AtomicU64,
}

/// A step. They go round a circle of 2^30: two years of the shortest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step(u64);

impl Step {
    const BITS: u32 = 30;
    const MASK: u64 = (1 << Self::BITS) - 1;
    /// How many lie between two eras. The largest sum weighs nothing after 278.
    const PER_ERA: u64 = 1 << 10;
    /// What is behind by less is a straggler: of the same era, or of one of the 63 before.
    const LAG: u64 = 64 * Self::PER_ERA;

    /// How many steps `self` is ahead of `other`; none ahead reads as almost a circle.
    const fn ahead_of(self, other: Self) -> u64 {
        self.0.wrapping_sub(other.0) & Self::MASK
    }
}

/// What a call weighs that is so many steps old.
fn weight(steps: u64) -> f64 {
    (-(steps as f64) / STEPS as f64).exp()
}

/// Both sums: 15 bits each, in units that the scale doubles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sums {
    /// 0 where a unit is 1/1024 of a call, 10 where it is a call.
    scale: u32,
    calls: u32,
    failed: u32,
}

impl Sums {
    const BITS: u32 = 15;
    const FULL: u32 = (1 << Self::BITS) - 1;
    const COARSEST: u32 = WeightedCounts::CALL.ilog2();

    /// The sums so many steps later.
    fn fade(self, steps: u64) -> Self {
        if steps == 0 {
            return self;
        }
        let weight = weight(steps);
        let calls = f64::from(self.calls) * weight;
        let unused_bits = (calls as u32).leading_zeros() - (u32::BITS - Self::BITS);
        let finer = self.scale.min(unused_bits);
        let fade = |sum: u32| (f64::from(sum) * weight * f64::from(1_u32 << finer)) as u32;
        Self {
            scale: self.scale - finer,
            calls: fade(self.calls),
            failed: fade(self.failed),
        }
    }

    /// The sums with a call more, of this weight.
    fn add(self, weight: u32, failed: bool) -> Self {
        let mut sums = self;
        if sums.calls + (weight >> sums.scale) > Self::FULL {
            // Either the unit doubles or, if it cannot, the sums are halved.
            sums.scale = (sums.scale + 1).min(Self::COARSEST);
            sums.calls /= 2;
            sums.failed /= 2;
        }
        let weight = weight >> sums.scale;
        sums.calls += weight;
        sums.failed += if failed { weight } else { 0 };
        sums
    }

    const fn counts(self) -> WeightedCounts {
        WeightedCounts {
            calls: self.calls << self.scale,
            failed: self.failed << self.scale,
        }
    }
}

const fn pack(step: Step, sums: Sums) -> u64 {
    step.0 << 34 | (sums.scale as u64) << 30 | (sums.calls as u64) << 15 | sums.failed as u64
}

const fn unpack(word: u64) -> (Step, Sums) {
    let sums = Sums {
        scale: (word >> 30) as u32 & 0xf,
        calls: (word >> Sums::BITS) as u32 & Sums::FULL,
        failed: word as u32 & Sums::FULL,
    };
    (Step(word >> 34), sums)
}

impl EwmaWindow {
    /// The shortest time constant.
    pub(crate) const LEAST_NANOS: u64 = 1_000_000_000;
    /// As many calls as it holds under any traffic that brings as many.
    pub(crate) const MOST_CALLS: u32 = Sums::FULL.div_ceil(2);

    /// With a time constant of so many nanoseconds.
    pub(crate) fn new(nanos: u64) -> Self {
        Self {
            step_nanos: nanos / STEPS,
            word: AtomicU64::new(0),
        }
    }

    fn step(&self, era: u32, now: u64) -> Step {
        let eras = u64::from(era) * Step::PER_ERA;
        Step((now / self.step_nanos).wrapping_add(eras) & Step::MASK)
    }

    /// Records an outcome, at `now`, of a call of `era`. Returns the counts after it, or `None` where it
    /// weighs nothing because the window is in a later era.
    pub(crate) fn record(&self, era: u32, failed: bool, now: u64) -> Option<WeightedCounts> {
        let step = self.step(era, now);
        // All there is to see is in this word, so it publishes nothing else.
        let mut old = self.word.load(Relaxed);
        loop {
            let (last, sums) = unpack(old);
            let behind = last.ahead_of(step);
            let is_straggler = sums.calls > 0 && behind > 0 && behind < Step::LAG;
            let (step, sums) = if is_straggler {
                let weight = (f64::from(WeightedCounts::CALL) * weight(behind)) as u32;
                if weight == 0 {
                    return None;
                }
                (last, sums.add(weight, failed))
            } else {
                let faded = sums.fade(step.ahead_of(last));
                (step, faded.add(WeightedCounts::CALL, failed))
            };
            let new = pack(step, sums);
            match self.word.compare_exchange_weak(old, new, Relaxed, Relaxed) {
                Ok(_) => return Some(sums.counts()),
                Err(newer) => old = newer,
            }
        }
    }

    /// What the window of `era` holds at `now`.
    pub(crate) fn counts(&self, era: u32, now: u64) -> WeightedCounts {
        let (last, sums) = unpack(self.word.load(Relaxed));
        let step = self.step(era, now);
        let behind = last.ahead_of(step);
        if behind < Step::LAG {
            return sums.counts(); // another thread's clock is ahead of ours
        }
        sums.fade(step.ahead_of(last)).counts()
    }
}
