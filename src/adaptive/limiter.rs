//! What a limiter decides with: permits, what is being seen of the calls, and the algorithm. Pure: it is
//! handed the time.

use std::{fmt, mem, time::Duration};

use super::{
    limit::{Limit, Sample},
    sampling::Pace,
    standing::Standing,
};
use crate::{
    foreign,
    permits::{Demand, Permits, Word},
    sync::{
        AtomicBool, AtomicU32, AtomicU64, Mutex, MutexGuard, Ordering::Relaxed, lock, try_lock,
    },
    time::nanos,
    window::{Estimate, Histogram, Sample as Took, Tally},
};

/// The bounds of a limit, and the limit within them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounded {
    pub(super) min: u32,
    pub(super) max: u32,
    pub(super) limit: f64,
}

impl Bounded {
    /// Sets the limit, or the bound that is nearest to it.
    pub(super) fn set(&mut self, limit: f64) {
        self.limit = limit.clamp(self.min.into(), self.max.into());
    }

    /// Sets the bounds, of which the caller has checked that they can be.
    pub(super) fn set_bounds(&mut self, min: u32, max: u32) {
        (self.min, self.max) = (min, max);
        self.set(self.limit);
    }

    /// How many calls may be in flight.
    pub(super) fn calls(self) -> usize {
        self.limit as usize
    }
}

/// What the end of a call says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// It was answered.
    Completed,
    /// It failed, and had it not would have taken longer.
    Failed,
    /// It was given up, and would have taken longer.
    Abandoned,
    /// It was not answered in time.
    TimedOut,
    /// The service had too much to do.
    Overloaded,
}

/// What a sample has led to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tuned {
    pub(super) sample: Sample,
    /// The limit before and after.
    pub(super) from: u32,
    pub(super) to: u32,
    /// The algorithm panicked.
    pub(super) panicked: bool,
}

/// Admission is one look and one compare-and-swap, and the end of a call is one more and a count. One call
/// in many finds a sample complete, and runs the algorithm; nobody waits for it.
pub(super) struct Limiter {
    permits: Permits,
    standing: AtomicU64,
    pace: Pace,
    seen: Seen,
    tuner: Mutex<Tuner>,
}

/// What is being seen of the calls until the sample is complete.
#[derive(Debug)]
struct Seen {
    /// The most calls in flight at once, as the ends of calls find it: what one brings there stands until
    /// the next gives a permit back.
    in_flight: AtomicU32,
    limited: AtomicBool,
    /// When the window may be over, in nanoseconds.
    due: AtomicU64,
    /// When it is in any case; all ones before any call has told anything.
    latest: AtomicU64,
    /// Until when a call that ends tells no latency, in nanoseconds: soon after a change only the short
    /// ones of those that began since can have ended.
    settled: AtomicU64,
    /// Answered calls that are not among the exact latencies, and calls that found the limit reached. Only
    /// ever added to.
    others: AtomicU32,
    turned_away: AtomicU32,
    /// The shortest that was exact, in nanoseconds.
    least: AtomicU64,
    latencies: Histogram,
}

/// Where the last sample ended, and the algorithm.
struct Tuner {
    algorithm: Box<dyn Limit>,
    bounded: Bounded,
    /// When the last sample was completed, in nanoseconds.
    since: u64,
    others_before: u32,
    turned_away_before: u32,
    latencies_before: Tally,
    /// The latency, as last known.
    latency: Option<Duration>,
    last: Option<Sample>,
}

impl Limiter {
    pub(super) fn new(
        permits: Permits,
        bounded: Bounded,
        pace: Pace,
        algorithm: Box<dyn Limit>,
    ) -> Self {
        let limiter = Self {
            permits,
            standing: AtomicU64::new(Standing::default().pack()),
            pace,
            seen: Seen {
                in_flight: AtomicU32::new(0),
                limited: AtomicBool::new(false),
                due: AtomicU64::new(0),
                latest: AtomicU64::new(0),
                settled: AtomicU64::new(0),
                others: AtomicU32::new(0),
                turned_away: AtomicU32::new(0),
                least: AtomicU64::new(u64::MAX),
                latencies: Histogram::new(),
            },
            tuner: Mutex::new(Tuner {
                algorithm,
                bounded,
                since: 0,
                others_before: 0,
                turned_away_before: 0,
                latencies_before: Tally::EMPTY,
                latency: None,
                last: None,
            }),
        };
        limiter.seen.begin(limiter.pace, 0);
        limiter
    }

    pub(super) const fn permits(&self) -> &Permits {
        &self.permits
    }

    fn standing(&self) -> Standing {
        // Relaxed: the word is all there is to it.
        Standing::unpack(self.standing.load(Relaxed))
    }

    /// That in which a call begins. To be asked when it has its permit; what comes before it has begun
    /// makes it one of an earlier generation, and so counts for less, never for more.
    #[inline]
    pub(super) fn generation(&self) -> u32 {
        self.standing().generation
    }

    /// Gives a permit back.
    #[inline]
    pub(super) fn give_back(&self, demand: impl Into<Demand>) {
        let left = self.permits.give_back_and_look(demand);
        self.seen.in_flight(left.taken + 1, left);
    }

    /// A call found the limit reached.
    pub(super) fn turn_away(&self) {
        // Relaxed: the number is all there is to it.
        self.seen.turned_away.fetch_add(1, Relaxed);
    }

    /// A call has been answered, and holds its permit on: its end may be far.
    pub(super) fn look_in_flight(&self) {
        let word = self.permits.load();
        self.seen.in_flight(word.taken, word);
    }

    /// A call of this generation ended at `now`, after so many nanoseconds. To be told when it has given
    /// its permit back. What comes of it is handed to `tell`, outside of any lock.
    #[inline]
    pub(super) fn ended(
        &self,
        generation: u32,
        told: Told,
        nanos: u64,
        now: u64,
        tell: impl FnOnce(&Tuned),
    ) {
        let is_of_now = self.generation() == generation;
        match self.pace {
            Pace::EveryCall => {
                self.count(generation, told);
                if is_of_now {
                    self.sample_call(generation, told, nanos, now, tell);
                }
            }
            Pace::Windows { .. } => {
                let is_telling = is_of_now && now >= self.seen.settled.load(Relaxed);
                if told == Told::Completed && is_telling {
                    self.seen.latency(nanos);
                } else {
                    self.count(generation, told);
                    if is_telling && told != Told::Overloaded {
                        self.seen.latencies.add(Took::Cut(nanos));
                    }
                }
                if self.seen.is_due(is_of_now, self.pace, now) {
                    self.sample_window(now, tell);
                }
            }
        }
    }

    /// Counts what does not go into the latencies.
    fn count(&self, generation: u32, told: Told) {
        match told {
            Told::Completed | Told::Failed => {
                // Relaxed: the number is all there is to it.
                self.seen.others.fetch_add(1, Relaxed);
            }
            Told::Abandoned => {}
            Told::TimedOut | Told::Overloaded => {
                self.update(|standing| standing.with_drop(generation));
            }
        }
    }

    fn sample_call(
        &self,
        generation: u32,
        told: Told,
        nanos: u64,
        now: u64,
        tell: impl FnOnce(&Tuned),
    ) {
        let Some(mut tuner) = try_lock(&self.tuner) else {
            return;
        };
        if self.generation() != generation {
            return; // the limit has changed just now
        }
        let took = Duration::from_nanos(nanos);
        let is_exact = told == Told::Completed;
        // Of one that was cut only that it would have taken longer, which is news where it took long.
        let is_news = is_exact || tuner.latency.is_some_and(|known| took > known);
        let latency = (is_news && told != Told::Overloaded).then_some(took);
        if latency.is_none() && self.standing().dropped == 0 {
            return;
        }
        let sample = Sample {
            latency,
            min_latency: is_exact.then_some(took),
            mean_latency: latency,
            measured: latency.is_some().into(),
            completed: self.take_others(&mut tuner),
            ..self.sample(&tuner, now)
        };
        self.tune(tuner, sample, now, tell);
    }

    #[cold]
    #[inline(never)]
    fn sample_window(&self, now: u64, tell: impl FnOnce(&Tuned)) {
        let Pace::Windows {
            least_calls, tail, ..
        } = self.pace
        else {
            return;
        };
        let Some(mut tuner) = try_lock(&self.tuner) else {
            return;
        };
        if now < self.seen.due.load(Relaxed) {
            return; // another was faster
        }
        let all = self.seen.latencies.read();
        let seen = all.since(&tuner.latencies_before);
        let sample = self.sample(&tuner, now);
        let measured = seen.all();
        let is_enough = measured + u64::from(sample.dropped) >= least_calls;
        if !is_enough && now < self.seen.latest.load(Relaxed) {
            return;
        }
        let least = self.seen.least();
        let latency = match seen.quantile(tail) {
            _ if measured == 0 => None,
            Estimate::At(nanos) => Some(Duration::from_nanos(nanos)),
            // It has not become shorter by that so many were cut.
            Estimate::Beyond(longest) => {
                let known = tuner.latency.or(least);
                known.map(|known| known.max(Duration::from_nanos(longest)))
            }
        };
        let sample = Sample {
            latency,
            min_latency: least,
            mean_latency: seen.mean().map(Duration::from_nanos),
            measured: measured as u32,
            completed: self
                .take_others(&mut tuner)
                .saturating_add(seen.exact() as u32),
            ..sample
        };
        tuner.latencies_before = all;
        self.tune(tuner, sample, now, tell);
    }

    /// A sample but for what is known of latencies.
    fn sample(&self, tuner: &Tuner, now: u64) -> Sample {
        Sample {
            now: Duration::from_nanos(now),
            elapsed: Duration::from_nanos(now.saturating_sub(tuner.since)),
            dropped: self.standing().dropped,
            in_flight: self.seen.in_flight.load(Relaxed),
            turned_away: (self.seen.turned_away.load(Relaxed))
                .wrapping_sub(tuner.turned_away_before),
            limited: self.seen.limited.load(Relaxed),
            ..Sample::default()
        }
    }

    /// Those since this was last asked. Looked at once: what another adds in between is in the next
    /// sample.
    fn take_others(&self, tuner: &mut Tuner) -> u32 {
        let others = self.seen.others.load(Relaxed);
        others.wrapping_sub(mem::replace(&mut tuner.others_before, others))
    }

    /// Runs the algorithm, and begins the next sample.
    fn tune(
        &self,
        mut tuner: MutexGuard<'_, Tuner>,
        sample: Sample,
        now: u64,
        tell: impl FnOnce(&Tuned),
    ) {
        let limit = tuner.bounded.limit;
        let next = foreign::run(|| tuner.algorithm.next(limit, &sample));
        if let Some(next) = next.filter(|next| next.is_finite()) {
            tuner.bounded.set(next);
        }
        tuner.latency = sample.latency.or(tuner.latency);
        tuner.last = Some(sample);
        let from = self.permits.load().limit;
        let word = self.begin(&mut tuner, &sample, now);
        drop(tuner);
        self.serve(word);
        tell(&Tuned {
            sample,
            from,
            to: word.limit,
            panicked: next.is_none(),
        });
    }

    /// Sets the limit as it is now, and begins the next sample, after `told`.
    fn begin(&self, tuner: &mut Tuner, told: &Sample, now: u64) -> Word {
        let calls = tuner.bounded.calls();
        let mut word = self.permits.load();
        let before = word.limit as usize;
        if before != calls {
            word = self.permits.set_limit(calls);
        }
        // Calls that began before a small change tell of the limit after it as well. But for a drop there
        // is to be one decrease.
        let is_small = 10 * before.abs_diff(calls) < before;
        let is_windowed = matches!(self.pace, Pace::Windows { .. });
        if before == calls || is_windowed && is_small && told.dropped == 0 {
            self.update(|standing| Some(standing.without_drops(told.dropped)));
        } else {
            self.renew();
            let settling = told.mean_latency.unwrap_or_default().saturating_mul(2);
            // Relaxed: who still sees the old one tells of one call too many, or too few.
            self.seen
                .settled
                .store(now.saturating_add(nanos(settling)), Relaxed);
        }
        tuner.since = now;
        tuner.turned_away_before = tuner.turned_away_before.wrapping_add(told.turned_away);
        self.seen.begin(self.pace, now);
        word
    }

    /// Begins a generation, under the lock of the tuner.
    fn renew(&self) {
        let next = self.standing().next();
        // Relaxed, and a plain store: what another counts in between is of the generation that is over.
        self.standing.store(next.pack(), Relaxed);
    }

    /// Lets in who waits, outside of the lock of the tuner: what is woken may run here and now.
    fn serve(&self, word: Word) {
        if word.waiting > 0 {
            self.permits.hand_on();
        }
    }

    /// Changes bounds and limit, and begins with what is seen from now on.
    pub(super) fn intervene(&self, now: u64, change: impl FnOnce(&mut Bounded)) -> Word {
        let mut tuner = lock(&self.tuner);
        change(&mut tuner.bounded);
        tuner.latencies_before = self.seen.latencies.read();
        self.take_others(&mut tuner);
        tuner.turned_away_before = self.seen.turned_away.load(Relaxed);
        let word = self.begin(&mut tuner, &Sample::default(), now);
        self.renew();
        drop(tuner);
        self.serve(word);
        word
    }

    /// The limit with its bounds, and the last sample.
    pub(super) fn look(&self) -> (Bounded, Option<Sample>) {
        let tuner = lock(&self.tuner);
        (tuner.bounded, tuner.last)
    }

    /// Applies `change` in one step, unless it declines.
    fn update(&self, change: impl Fn(Standing) -> Option<Standing>) {
        let mut old = self.standing.load(Relaxed);
        while let Some(new) = change(Standing::unpack(old)) {
            // Relaxed: the word is all there is to it.
            match self
                .standing
                .compare_exchange_weak(old, new.pack(), Relaxed, Relaxed)
            {
                Ok(_) => return,
                Err(newer) => old = newer,
            }
        }
    }
}

impl Seen {
    #[inline]
    fn latency(&self, nanos: u64) {
        self.latencies.add(Took::Exact(nanos));
        // Relaxed, and looked at first: as in `in_flight`.
        if nanos < self.least.load(Relaxed) {
            self.least.fetch_min(nanos, Relaxed);
        }
    }

    /// Whether the window may be over, with a call that has ended now. One that tells nothing of the
    /// present limit need not look whether there is enough.
    #[inline]
    fn is_due(&self, is_of_now: bool, pace: Pace, now: u64) -> bool {
        // Relaxed: who sees an old value finds out under the lock, or leaves it to the next.
        let mut latest = self.latest.load(Relaxed);
        if let (true, u64::MAX, Pace::Windows { greatest, .. }) = (is_of_now, latest, pace) {
            latest = now.saturating_add(greatest);
            self.latest.store(latest, Relaxed);
        }
        now >= self.due.load(Relaxed) && (is_of_now || now >= latest)
    }

    fn least(&self) -> Option<Duration> {
        let least = self.least.load(Relaxed);
        (least < u64::MAX).then(|| Duration::from_nanos(least))
    }

    /// So many were in flight when a call ended, and this is what is left.
    #[inline]
    fn in_flight(&self, in_flight: u32, left: Word) {
        // Relaxed: each is right by itself. Looked at first, since a write that changes nothing would
        // take the line from all others.
        if in_flight > self.in_flight.load(Relaxed) {
            self.in_flight.fetch_max(in_flight, Relaxed);
        }
        let is_limited = in_flight >= left.limit || left.waiting > 0;
        if is_limited && !self.limited.load(Relaxed) {
            self.limited.store(true, Relaxed);
        }
    }

    /// Nothing has been seen yet; those in flight are by the next call that ends. What another sees at this
    /// moment may be in no sample: it is one of many, and none of them is counted.
    fn begin(&self, pace: Pace, now: u64) {
        self.in_flight.store(0, Relaxed);
        self.limited.store(false, Relaxed);
        self.least.store(u64::MAX, Relaxed);
        if let Pace::Windows { least, .. } = pace {
            self.due.store(now.saturating_add(least), Relaxed);
            self.latest.store(u64::MAX, Relaxed);
        }
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter")
            .field("permits", &self.permits)
            .field("standing", &self.standing())
            .finish_non_exhaustive()
    }
}
