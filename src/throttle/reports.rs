//! Which share of the calls fits, as the service reports of its load. Pure.

use crate::{
    context::Criticality,
    reported::ReportedLoad,
    sync::{AtomicU64, Mutex, Ordering::Relaxed, lock, try_lock},
};

const CLASSES: usize = Criticality::ALL.len();

/// What reports came to, and how they do.
///
/// A report is of what the service was sent, which is only a share of what there was to send. With it, it is
/// an estimate of the share that would just fit, whatever was sent; and of these estimates the mean is kept.
#[derive(Debug)]
pub(super) struct Reports {
    /// The least share that is sent.
    least: f64,
    /// Whether a class is a criticality; else all are in the first.
    is_by_criticality: bool,
    shares: [Share; CLASSES],
    known: Mutex<AllKnown>,
}

/// What is sent of the calls of a class.
#[derive(Debug)]
struct Share {
    /// As bits of an `f64`.
    passes: AtomicU64,
    /// Until when, in nanoseconds.
    until: AtomicU64,
}

#[derive(Debug)]
struct AllKnown {
    classes: [Known; CLASSES],
    /// When the last report came, of whatever class.
    at: u64,
}

/// What is known of the calls of a class.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// The share that fits.
    fits: f64,
    /// When the last report of it came.
    at: u64,
    /// Reports, of which those long ago count the less.
    weight: f64,
}

impl Reports {
    /// What is sent for each call that fits: so much too much, or it would not be noticed that more does.
    const HEADROOM: f64 = 1.1;
    /// A service that is idle is sent at most so many times as much as it is.
    const MAX_GROWTH: f64 = 2.0;
    /// Over which time reports are smoothed. Most of what makes them differ is chance in what was sent.
    const MEMORY_NANOS: f64 = 250e6;
    /// How long a report counts.
    const EXPIRY_NANOS: u64 = 1_000_000_000;

    pub(super) fn new(max_probability: f64, is_by_criticality: bool) -> Self {
        let unknown = Known {
            fits: 1.0,
            at: 0,
            weight: 0.0,
        };
        Self {
            least: 1.0 - max_probability,
            is_by_criticality,
            shares: std::array::from_fn(|_| Share {
                passes: AtomicU64::new(0),
                until: AtomicU64::new(0),
            }),
            known: Mutex::new(AllKnown {
                classes: [unknown; CLASSES],
                at: 0,
            }),
        }
    }

    /// Which share of the calls of a class is sent at `now`.
    #[inline]
    pub(super) fn share(&self, class: Criticality, now: u64) -> f64 {
        let share = &self.shares[class as usize];
        // Relaxed: which of two reports that come together is heeded does not matter.
        if now < share.until.load(Relaxed) {
            f64::from_bits(share.passes.load(Relaxed))
        } else {
            1.0
        }
    }

    /// Heeds the report that came with the answer to a call of this class, when this share of those was sent.
    /// Returns which is from now on. Where another is being heeded, this one is not.
    pub(super) fn heed(&self, class: Criticality, sent: f64, load: &ReportedLoad, now: u64) -> f64 {
        let Some(mut all) = try_lock(&self.known) else {
            return self.share(class, now);
        };
        let left = Self::keep(now.saturating_sub(all.at));
        all.at = now;
        let known = &mut all.classes;
        let index = class as usize;
        for other in &mut *known {
            other.weight *= left;
        }
        known[index].weight += 1.0;
        let fitting = sent * self.fitting(load, class, known);

        let this = &mut known[index];
        let since = now.saturating_sub(this.at);
        let keep = if since >= Self::EXPIRY_NANOS {
            0.0
        } else {
            Self::keep(since)
        };
        this.fits = keep * this.fits + (1.0 - keep) * fitting.min(1.0);
        this.at = now;
        let passes = (Self::HEADROOM * this.fits).clamp(self.least, 1.0);
        let share = &self.shares[index];
        share.passes.store(passes.to_bits(), Relaxed);
        share
            .until
            .store(now.saturating_add(Self::EXPIRY_NANOS), Relaxed);
        passes
    }

    /// What is left of something after so long.
    fn keep(nanos: u64) -> f64 {
        Self::MEMORY_NANOS / (Self::MEMORY_NANOS + nanos as f64)
    }

    /// How much of what is sent of a class fits, which is more than all of it where there is room.
    fn fitting(&self, load: &ReportedLoad, class: Criticality, known: &[Known; CLASSES]) -> f64 {
        let utilization = load.utilization();
        if utilization <= 1.0 {
            return 1.0 / utilization.max(1.0 / Self::MAX_GROWTH);
        }
        let admitted = self.is_by_criticality.then(|| load.admitted(class));
        admitted.flatten().unwrap_or_else(|| {
            // As many as fit, the most critical first.
            let weight = |known: &[Known]| known.iter().map(|known| known.weight).sum::<f64>();
            let fit = weight(known) / utilization;
            let left = fit - weight(&known[..class as usize]);
            (left / known[class as usize].weight).clamp(0.0, 1.0)
        })
    }

    pub(super) fn forget(&self) {
        let mut known = lock(&self.known);
        for (known, share) in known.classes.iter_mut().zip(&self.shares) {
            known.fits = 1.0;
            share.until.store(0, Relaxed);
        }
    }
}

/// Which share of the calls of its class was sent when a call was: in 32nds of a halving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent(u8);

impl Sent {
    pub(super) const ALL: Self = Self(0);
    const A_HALVING: f64 = 32.0;

    pub(super) fn new(share: f64) -> Self {
        Self((-Self::A_HALVING * share.log2()).round() as u8)
    }

    pub(super) fn share(self) -> f64 {
        (-f64::from(self.0) / Self::A_HALVING).exp2()
    }
}
