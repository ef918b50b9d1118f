//! Which priorities calls have had of late, and where to cut them. Pure.

use std::{array, iter};

use super::priority::{COHORTS, LEVELS, Threshold};
use crate::{
    context::Criticality,
    sync::{AtomicU32, Ordering::Relaxed},
};

/// Counts the calls of each level until they are taken.
#[derive(Debug)]
pub(super) struct Counts(Box<[AtomicU32]>);

impl Counts {
    pub(super) fn new() -> Self {
        Self::of(LEVELS)
    }

    fn of(levels: usize) -> Self {
        Self(iter::repeat_with(AtomicU32::default).take(levels).collect())
    }

    // Relaxed, here and below: each count is for itself, and nothing else is read by it.
    #[inline]
    pub(super) fn count(&self, level: usize) {
        self.0[level].fetch_add(1, Relaxed);
    }

    /// Takes what has been counted since the last time. For one at a time.
    fn take(&self, level: usize) -> u32 {
        let counted = self.0[level].load(Relaxed);
        if counted > 0 {
            self.0[level].fetch_sub(counted, Relaxed);
        }
        counted
    }

    /// Takes all.
    pub(super) fn take_all(&self) -> Taken {
        Taken(array::from_fn(|level| self.take(level)))
    }
}

/// The calls of a sampling interval by their level.
#[derive(Debug)]
pub(super) struct Taken(pub(super) [u32; LEVELS]);

impl Taken {
    pub(super) fn total(&self) -> u64 {
        self.0.iter().map(|&count| u64::from(count)).sum()
    }
}

/// The levels of the calls of late, of which the latest count the most.
#[derive(Debug)]
pub(super) struct Distribution {
    weights: Box<[f64; LEVELS]>,
}

impl Distribution {
    pub(super) fn new() -> Self {
        Self {
            weights: Box::new([0.0; LEVELS]),
        }
    }

    /// Adds the calls of an interval, and keeps this share of those before.
    pub(super) fn absorb(&mut self, taken: &Taken, keep: f64) {
        for (weight, &count) in self.weights.iter_mut().zip(&taken.0) {
            *weight = *weight * keep + f64::from(count);
        }
    }

    /// Cuts off this share of the calls, from the least critical up. A level through which the cut goes is
    /// cut by chance.
    pub(super) fn cut(&self, shed: f64) -> Threshold {
        if shed <= 0.0 {
            return Threshold::NONE;
        }
        let total: f64 = self.weights.iter().sum();
        let mut left = total * (1.0 - shed);
        for (level, &weight) in self.weights.iter().enumerate() {
            if weight > left {
                return Threshold::within(level, left / weight);
            }
            left -= weight;
        }
        Threshold::NONE
    }

    /// Which share of the calls of a criticality a threshold admits; of its cohorts, where there are no calls.
    pub(super) fn admitted(&self, criticality: Criticality, threshold: Threshold) -> f64 {
        let levels = criticality as usize * COHORTS..(criticality as usize + 1) * COHORTS;
        let admitted = |level| self.weights[level] * threshold.share_of_level(level);
        let all: f64 = self.weights[levels.clone()].iter().sum();
        if all > 0.0 {
            levels.map(admitted).sum::<f64>() / all
        } else {
            threshold.share_of(criticality)
        }
    }
}

#[cfg(all(test, steadfast_loom))]
mod loom_tests {
    use loom::thread;

    use super::*;
    use crate::sync::ConstArc;

    #[test]
    fn loom_each_call_is_taken_once() {
        loom::model(|| {
            let counts = ConstArc::new(Counts::of(1));
            let calls = [(); 2].map(|()| {
                let counts = counts.clone();
                thread::spawn(move || counts.count(0))
            });
            let before = counts.take(0);
            let between = counts.take(0);
            calls.into_iter().for_each(|call| call.join().unwrap());
            assert_eq!(before + between + counts.take(0), 2);
        });
    }
}
