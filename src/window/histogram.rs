//! How many durations of about which length: counts that are only ever added to, and quantiles of what was
//! added between two looks at them.

use crate::sync::{AtomicU32, Ordering::Relaxed};

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

/// All durations that were ever recorded, by length, up to one 32nd (3.1 %) from 1 µs to an hour. 4 KiB.
///
/// No count is taken back: what a time holds is what has been [added since](Tally::since) it began, so
/// nothing has to be emptied while others add to it. Counts go round at 2^32, which is harmless as long as
/// no such time holds as many.
// On cache lines of its own: every call writes here, and reads what stands beside it.
#[repr(align(64))]
#[derive(Debug)]
pub(crate) struct Histogram([[AtomicU32; 2]; BUCKETS]);

impl Histogram {
    pub(crate) fn new() -> Self {
        Self(std::array::from_fn(|_| Default::default()))
    }

    #[inline]
    pub(crate) fn add(&self, sample: Sample) {
        let (nanos, kind) = match sample {
            Sample::Exact(nanos) => (nanos, 0),
            Sample::Cut(nanos) => (nanos, 1),
        };
        // Relaxed: a sample brings nothing with it that others would have to see.
        self.0[Bucket::of(nanos).0][kind].fetch_add(1, Relaxed);
    }

    pub(crate) fn read(&self) -> Tally {
        Tally(std::array::from_fn(|bucket| {
            self.0[bucket].each_ref().map(|count| count.load(Relaxed))
        }))
    }
}

/// How many durations of each bucket were exact, and how many cut.
#[derive(Clone, Debug)]
pub(crate) struct Tally([[u32; 2]; BUCKETS]);

/// Where a quantile lies, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Estimate {
    At(u64),
    /// So many were cut that it lies beyond all that was seen: beyond this.
    Beyond(u64),
}

impl Tally {
    pub(crate) const EMPTY: Self = Self([[0; 2]; BUCKETS]);

    /// What has come since `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        Self(std::array::from_fn(|bucket| {
            let ([exact, cut], [exact_before, cut_before]) = (self.0[bucket], before.0[bucket]);
            [
                exact.wrapping_sub(exact_before),
                cut.wrapping_sub(cut_before),
            ]
        }))
    }

    pub(crate) fn exact(&self) -> u64 {
        self.0.iter().map(|[exact, _]| u64::from(*exact)).sum()
    }

    pub(crate) fn all(&self) -> u64 {
        self.0.iter().flatten().map(|count| u64::from(*count)).sum()
    }

    /// The mean, in nanoseconds: each in the middle of its bucket, and what was cut as long as it was seen.
    pub(crate) fn mean(&self) -> Option<u64> {
        let (mut sum, mut all) = (0_u128, 0_u128);
        for (bucket, counts) in self.0.iter().enumerate() {
            let count = counts.iter().map(|count| u128::from(*count)).sum::<u128>();
            sum += count * u128::from(Bucket(bucket).middle());
            all += count;
        }
        (sum.checked_div(all)).map(|mean| mean as u64)
    }

    /// The quantile beyond which `tail` of the durations lie.
    ///
    /// A duration that was cut short is not lost, and is not taken for a short one: it counts as longer than
    /// it was, by the product-limit estimator (Kaplan and Meier, "Nonparametric Estimation from Incomplete
    /// Observations", 1958). Without any the estimate is the plain quantile: the least duration that is as
    /// long as that share of all, or longer.
    pub(crate) fn quantile(&self, tail: f64) -> Estimate {
        // The share of durations that outlast the bucket, and how many are known to have reached it.
        let mut outlasting = 1.0;
        let mut reached = self.all();
        let mut longest = 0;
        for (bucket, [exact, cut]) in self.0.iter().enumerate() {
            let (exact, cut) = (u64::from(*exact), u64::from(*cut));
            if exact > 0 {
                outlasting *= 1.0 - exact as f64 / reached as f64;
                // For what is lost in rounding.
                if outlasting <= tail + 1e-12 {
                    return Estimate::At(Bucket(bucket).middle());
                }
            }
            reached -= exact + cut;
            if cut > 0 {
                longest = Bucket(bucket).end();
            }
        }
        Estimate::Beyond(longest)
    }
}
