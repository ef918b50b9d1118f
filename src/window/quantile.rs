//! A quantile of the durations of the last *t* seconds.

use std::{collections::VecDeque, num::NonZeroU64};

use super::Ratio;
use crate::sync::{AtomicU32, AtomicU64, Mutex, Ordering::Relaxed, try_lock};

/// How many slices a window has.
const SLICES: u64 = 6;

/// What is shorter counts as this, in nanoseconds as a power of two: 1.02 µs.
const FLOOR: u32 = 10;
/// What is as long or longer counts as just below this: 73 minutes.
const CEILING: u32 = if cfg!(steadfast_loom) { 12 } else { 42 };
/// Buckets from one power of two to the next, as a power of two. Loom has only a few to explore.
const STEPS: u32 = if cfg!(steadfast_loom) { 0 } else { 4 };

const BUCKETS: usize = ((CEILING - FLOOR) << STEPS) as usize;

/// What is known of a duration, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sample {
    /// It was so long.
    Exact(u64),
    /// It was cut short, and would have been longer.
    Cut(u64),
}

/// The index of a bucket: those between two powers of two are equally wide, as in HdrHistogram.
#[derive(Clone, Copy, Debug)]
struct Bucket(usize);

impl Bucket {
    const fn of(nanos: u64) -> Self {
        let nanos = match nanos {
            short if short < 1 << FLOOR => 1 << FLOOR,
            long if long >= 1 << CEILING => (1 << CEILING) - 1,
            nanos => nanos,
        };
        let power = nanos.ilog2();
        let step = nanos >> (power - STEPS); // the leading one, and the step in the bits below it
        Self((((power - FLOOR) as usize) << STEPS) + step as usize - (1 << STEPS))
    }

    const fn start(self) -> u64 {
        let (power, step) = (self.0 >> STEPS, self.0 as u64 % (1 << STEPS));
        (step + (1 << STEPS)) << (power as u32 + FLOOR - STEPS)
    }

    const fn end(self) -> u64 {
        Self(self.0 + 1).start()
    }

    /// No duration in it is further from here than a 32nd of itself.
    const fn middle(self) -> u64 {
        self.start().midpoint(self.end())
    }
}

/// How many durations of each bucket were exact, and how many cut.
type Tally = [[u32; 2]; BUCKETS];

/// All that was ever recorded. No count is taken back: what a slice holds is what has been added since
/// it began, so nothing has to be emptied while others add to it. Counts go round at 2^32, which is
/// harmless as long as no window holds as many.
// On cache lines of its own: every call writes here, and reads what stands beside it.
#[repr(align(64))]
#[derive(Debug)]
struct Counts([[AtomicU32; 2]; BUCKETS]);

impl Counts {
    fn new() -> Self {
        Self(std::array::from_fn(|_| Default::default()))
    }

    #[inline]
    fn add(&self, sample: Sample) {
        let (nanos, kind) = match sample {
            Sample::Exact(nanos) => (nanos, 0),
            Sample::Cut(nanos) => (nanos, 1),
        };
        // Relaxed: a sample brings nothing with it that others would have to see.
        self.0[Bucket::of(nanos).0][kind].fetch_add(1, Relaxed);
    }

    fn read(&self) -> Tally {
        std::array::from_fn(|bucket| self.0[bucket].each_ref().map(|count| count.load(Relaxed)))
    }
}

/// A slice of time has begun.
#[derive(Debug)]
struct Begun {
    slice: u64,
    /// All that had been recorded before.
    before: Tally,
}

/// A quantile of the durations of the last six slices of time, each a sixth of the window.
///
/// It is computed when a slice is over, by who first records in the next, and stands until that one is
/// over: a duration comes in within a sixth of the window, and is forgotten when it is between six and
/// seven sixths old. Off by no more than a 32nd (3.1 %) of the true one, from 1 µs to an hour. 32 KiB, at
/// any traffic.
///
/// A duration that was cut short is not lost, and is not taken for a short one: it counts as longer than
/// it was, by the product-limit estimator (Kaplan and Meier, "Nonparametric Estimation from Incomplete
/// Observations", 1958). Without any the estimate is the plain quantile: the least duration that is as
/// long as that share of all, or longer.
#[derive(Debug)]
pub(crate) struct RollingQuantile {
    /// The share of durations that are longer.
    tail: f64,
    minimum: u64,
    slice_nanos: u64,
    /// When the present slice is over.
    turns_at: AtomicU64,
    /// What was computed last; zero for nothing.
    value: AtomicU64,
    counts: Counts,
    /// The present slice, last, and those before it that are in the window and in which anything was
    /// recorded.
    begun: Mutex<VecDeque<Begun>>,
}

impl RollingQuantile {
    /// The shortest window.
    pub(crate) const LEAST_NANOS: u64 = 100_000_000;

    /// Says nothing while fewer than `minimum` durations in the window are exact.
    pub(crate) fn new(quantile: Ratio, nanos: u64, minimum: u32) -> Self {
        let slice_nanos = nanos / SLICES;
        let mut begun = VecDeque::with_capacity(SLICES as usize + 1);
        begun.push_back(Begun {
            slice: 0,
            before: [[0; 2]; BUCKETS],
        });
        Self {
            tail: f64::from(1_000_000 - quantile.millionths()) / 1e6,
            minimum: minimum.into(),
            slice_nanos,
            turns_at: AtomicU64::new(slice_nanos),
            value: AtomicU64::new(0),
            counts: Counts::new(),
            begun: Mutex::new(begun),
        }
    }

    /// The quantile in nanoseconds as computed last, if there was enough to tell by.
    #[inline]
    pub(crate) fn get(&self) -> Option<u64> {
        // Relaxed: the value is all there is to it.
        NonZeroU64::new(self.value.load(Relaxed)).map(NonZeroU64::get)
    }

    /// Records at `now`. Returns whether the quantile was computed anew.
    #[inline]
    pub(crate) fn record(&self, sample: Sample, now: u64) -> bool {
        // Relaxed: who still sees the old end of the slice finds out in `turn`, or counts into the
        // slice that was.
        let turned = now >= self.turns_at.load(Relaxed) && self.turn(now);
        self.counts.add(sample);
        turned
    }

    /// Records what took next to no time, in the slice that was the present one when the clock was last
    /// looked at.
    #[inline]
    pub(crate) fn record_at_once(&self) {
        self.counts.add(Sample::Exact(0));
    }

    /// Begins the slice of `now`.
    #[cold]
    #[inline(never)]
    fn turn(&self, now: u64) -> bool {
        // Nobody waits: whoever finds another at it leaves it to the other.
        let Some(mut begun) = try_lock(&self.begun) else {
            return false;
        };
        let slice = now / self.slice_nanos;
        if begun.back().is_some_and(|present| present.slice >= slice) {
            return false; // another was faster
        }
        while begun.front().is_some_and(|b| slice - b.slice > SLICES) {
            begun.pop_front();
        }
        let before = self.counts.read();
        let value = begun.front().and_then(|oldest| {
            let since = |bucket: usize, kind: usize| -> u64 {
                before[bucket][kind]
                    .wrapping_sub(oldest.before[bucket][kind])
                    .into()
            };
            self.estimate(|bucket| [since(bucket, 0), since(bucket, 1)])
        });
        begun.push_back(Begun { slice, before });
        // Relaxed, and in any order: each is right by itself.
        self.value.store(value.unwrap_or(0), Relaxed);
        let end = (slice + 1).saturating_mul(self.slice_nanos);
        self.turns_at.store(end, Relaxed);
        true
    }

    /// The quantile of what `held` says of each bucket: how many were exact and how many cut.
    fn estimate(&self, held: impl Fn(usize) -> [u64; 2]) -> Option<u64> {
        let all = || (0..BUCKETS).map(&held);
        if all().map(|[exact, _]| exact).sum::<u64>() < self.minimum {
            return None;
        }
        // The share of durations that outlast the bucket, and how many are known to have reached it.
        let mut outlasting = 1.0;
        let mut reached: u64 = all().map(|[exact, cut]| exact + cut).sum();
        let mut longest = 0;
        for (bucket, [exact, cut]) in all().enumerate() {
            if exact > 0 {
                outlasting *= 1.0 - exact as f64 / reached as f64;
                // For what is lost in rounding.
                if outlasting <= self.tail + 1e-12 {
                    return Some(Bucket(bucket).middle());
                }
            }
            reached -= exact + cut;
            if cut > 0 {
                longest = Bucket(bucket).end();
            }
        }
        // So many were cut that it lies beyond all that was seen. It has not become shorter by that; and
        // where it was not known, it still is not.
        self.get().map(|last| last.max(longest))
    }
}
