//! At which rate calls are answered. Pure.

use crate::sync::{AtomicU64, Ordering::Relaxed};

/// Answers a second, smoothed from one half second to the next: the clock of rates in the SDKs of AWS.
#[derive(Debug)]
pub(super) struct Measured {
    /// The number of the half second (the upper 32 bits, enough for 68 years), and the answers in it.
    current: AtomicU64,
    /// As of the half seconds before it; bits of an `f64`, which are zero for zero.
    per_second: AtomicU64,
}

impl Measured {
    const BUCKET_NANOS: u64 = 500_000_000;
    const BUCKETS_A_SECOND: f64 = 2.0;
    /// How much the latest counts.
    const SMOOTHING: f64 = 0.8;
    const COUNT: u64 = u32::MAX as u64;

    pub(super) fn new() -> Self {
        Self {
            current: AtomicU64::new(0),
            per_second: AtomicU64::new(0),
        }
    }

    /// Counts an answer. Returns what is then measured.
    ///
    /// The first of a new half second is counted to those before, as it is there.
    // Relaxed: who counts for a half second that is just over counts for the next, and who reads a rate
    // that is just being replaced reads that of a moment ago.
    #[inline]
    pub(super) fn count(&self, now: u64) -> f64 {
        let bucket = now / Self::BUCKET_NANOS;
        let before = self.current.fetch_add(1, Relaxed);
        if bucket > before >> 32 {
            self.turn(bucket);
        }
        self.per_second()
    }

    /// Begins a half second, where no other answer has.
    #[cold]
    fn turn(&self, bucket: u64) {
        let mut old = self.current.load(Relaxed);
        loop {
            let last = old >> 32;
            if bucket <= last {
                return;
            }
            match self
                .current
                .compare_exchange_weak(old, bucket << 32, Relaxed, Relaxed)
            {
                Ok(_) => break self.smooth(bucket - last, old & Self::COUNT),
                Err(newer) => old = newer,
            }
        }
    }

    fn smooth(&self, buckets: u64, count: u64) {
        let latest = count as f64 * Self::BUCKETS_A_SECOND / buckets as f64;
        let before = f64::from_bits(self.per_second.load(Relaxed));
        let smoothed = Self::SMOOTHING * latest + (1.0 - Self::SMOOTHING) * before;
        self.per_second.store(smoothed.to_bits(), Relaxed);
    }

    /// What is measured. Until anything is, the answers of the half second that has begun are: else what
    /// throttles at once would leave nothing to go by.
    #[inline]
    pub(super) fn per_second(&self) -> f64 {
        match self.per_second.load(Relaxed) {
            0 => (self.current.load(Relaxed) & Self::COUNT) as f64 * Self::BUCKETS_A_SECOND,
            bits => f64::from_bits(bits),
        }
    }
}
