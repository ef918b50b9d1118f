//! The algorithm of choice: as many calls as the service works on, and a few more.

use std::time::Duration;

use super::{
    jitter::Jitter,
    limit::{Limit, Sample},
};

/// Finds the knee: the number of calls from which on more of them only wait. The default.
///
/// How many calls wait in the service follows from Little's law: its throughput, times by how much its
/// latency exceeds that of a service in which nothing waits; by no more than one sample differs from the next is
/// chance, and not a queue. What is in flight less what waits is the knee,
/// and the limit is set a little above it, so that the service never runs out of work: by 1.5 + 1.2 √knee,
/// as in square-root staffing, or a sixteenth of the knee, finer than which no latency is sampled.
///
/// - **A burst is not an overload.** As long as few calls are turned away the limit leaves room for up to
///   five times as many that wait, as random arrivals need it; the more are turned away, the less, down to
///   the plain headroom where it is one in ten.
/// - **No drift.** The latency of a service in which nothing waits cannot be seen while it is overloaded. So
///   every 20 to 24 seconds of overload, and sooner where the latency is not what it was, the limit is lowered for
///   one sample to half the knee, or a third of what is in flight where that is more. Where throughput falls with
///   it, nothing waited, and the latency seen is the one looked for; where it does not, the knee lies lower, and
///   the next sample may look lower yet. A healthy service, whose limit is not reached, is never probed: its
///   samples say when that latency has fallen, and only a probe that it has risen.
/// - **Not reached, not raised.** The limit moves only on samples in which it was reached.
/// - **Drops.** Where more than one call in ten is dropped, the limit falls by their share, at most by half,
///   and at most once in a round trip. Where all calls time out it falls to its minimum.
///
/// Meant for windows, not for a sample of every call. Latency is judged by a median, or the quantile of the
/// [sampling](super::Sampling); one whose median says nothing of its load, since few slow calls
/// make nearly all of the work, is limited too tightly.
#[derive(Debug)]
pub struct Knee {
    /// The latency of a service in which nothing waits, in seconds, once one was seen.
    unloaded: Option<f64>,
    /// By how much the latency of one sample differs from that of the next, in seconds.
    noise: f64,
    last_latency: Option<f64>,
    /// Calls per second, smoothed.
    throughput: Option<f64>,
    /// The share of calls that were turned away, smoothed.
    turned_away: f64,
    probe: Option<Probe>,
    /// When the last one began, and when the next one is due, in seconds.
    last_probe: f64,
    next_probe: f64,
    jitter: Jitter,
}

/// The limit is lowered for one sample.
#[derive(Debug)]
struct Probe {
    /// Where the limit was, where it is to be if nothing new is found, and at which throughput.
    before: f64,
    after: f64,
    throughput: f64,
    knee: f64,
}

/// A sample of calls that were measured, in seconds.
struct Measured<'a> {
    sample: &'a Sample,
    now: f64,
    elapsed: f64,
    latency: f64,
    mean: f64,
    throughput: f64,
}

/// How it stands with the service while the limit is reached.
struct Load {
    /// In flight, of which so many wait.
    busy: f64,
    queue: f64,
    knee: f64,
    headroom: f64,
    /// Where the limit is to be.
    target: f64,
}

/// The share of calls from which on those that are dropped lower the limit.
const DROPS: f64 = 0.1;
/// The share of calls that are turned away which makes an overload, and the one that makes it plain.
const OVERLOAD: f64 = 0.05;
const PLAIN_OVERLOAD: f64 = 0.1;
/// At how many times the headroom the limit is where no call is turned away.
const BURST: f64 = 5.0;
/// Seconds from one probe to the next: regularly, where the queue is a surprise, and where the
/// latency looked for has proved wrong.
const PROBE_EVERY: f64 = 20.0;
const PROBE_SURPRISED: f64 = 10.0;
const PROBE_AGAIN: f64 = 1.0;
/// A probe is to cost no more than a hundredth of the time, however long a sample takes.
const PROBE_SHARE: f64 = 100.0;

impl Default for Knee {
    fn default() -> Self {
        Self::new(Jitter::default())
    }
}

impl Knee {
    /// Seeds the jitter, for probes that come at the same times every time. Default: seeded by the
    /// operating system.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.jitter = Jitter::seeded(seed);
        self
    }

    fn new(jitter: Jitter) -> Self {
        Self {
            unloaded: None,
            noise: 0.0,
            last_latency: None,
            throughput: None,
            turned_away: 0.0,
            probe: None,
            last_probe: f64::NEG_INFINITY,
            next_probe: 0.0,
            jitter,
        }
    }

    /// What the probe has shown, and the limit after it.
    fn conclude(&mut self, probe: &Probe, limit: f64, seen: &Measured<'_>) -> f64 {
        if !seen.sample.limited {
            return limit;
        }
        let unloaded = self.unloaded.unwrap_or(seen.latency);
        // By Little's law: so many calls at the old throughput take less time than these took.
        let ran_dry = seen.mean * probe.throughput > 1.25 * limit.floor() || limit < 2.0;
        if ran_dry {
            let slower =
                seen.latency > 1.3 * unloaded && seen.latency > unloaded + 3.0 * self.noise;
            if slower {
                self.unloaded = Some(seen.latency);
                self.next_probe = seen.now + PROBE_AGAIN;
                return probe.before;
            }
            let faster = seen.latency < unloaded - 2.0 * self.noise;
            self.unloaded = Some(if faster {
                seen.latency
            } else {
                f64::midpoint(unloaded, seen.latency)
            });
            self.next_probe = self.due(seen);
            return probe.after.max(0.7 * probe.before);
        }
        self.lower(seen);
        if limit < 0.8 * probe.knee {
            // The knee lies lower than thought, and to stay here costs nothing.
            self.next_probe = seen.now;
            return limit;
        }
        self.next_probe = self.due(seen);
        probe.after
    }

    fn due(&mut self, seen: &Measured<'_>) -> f64 {
        let interval = PROBE_EVERY.max(PROBE_SHARE * seen.elapsed);
        seen.now + interval * (1.0 + 0.2 * self.jitter.uniform())
    }

    /// A latency below the unloaded one, by more than chance, shows that it has fallen.
    fn lower(&mut self, seen: &Measured<'_>) {
        match self.unloaded {
            Some(unloaded) if seen.latency < unloaded - 2.0 * self.noise => {
                self.unloaded = Some(f64::midpoint(unloaded, seen.latency));
                self.next_probe = self.next_probe.min(seen.now + PROBE_AGAIN);
            }
            Some(_) => {}
            None => self.unloaded = Some(seen.latency),
        }
    }

    fn track(&mut self, seen: &Measured<'_>) {
        let Sample {
            completed,
            turned_away,
            limited,
            ..
        } = *seen.sample;
        let calls = f64::from(turned_away) + f64::from(completed);
        if calls > 0.0 {
            // Over about half a second, or a hundred calls if they take longer.
            let weight = 1.0 - (-(seen.elapsed / 0.5).min(calls / 100.0)).exp();
            self.turned_away += weight * (f64::from(turned_away) / calls - self.turned_away);
        }
        self.throughput = match self.throughput {
            Some(before) if limited => Some(before + 0.3 * (seen.throughput - before)),
            _ => Some(seen.throughput),
        };
        self.lower(seen);
    }

    fn load(&self, limit: f64, seen: &Measured<'_>) -> Load {
        let throughput = self.throughput.unwrap_or(seen.throughput);
        let waited = seen.latency - self.unloaded.unwrap_or(seen.latency);
        let busy = (seen.throughput * seen.mean).min(limit).max(1.0);
        // The unloaded latency is among the lowest that were seen, so that chance alone would show a queue
        // most of the time.
        let waited = if waited > self.noise { waited } else { 0.0 };
        let queue = (throughput * waited).min(busy - 1.0);
        let knee = busy - queue;
        let headroom = 1.5 + (1.2 * knee.sqrt()).max(knee / 16.0);
        let spared = (1.0 - self.turned_away / PLAIN_OVERLOAD).max(0.0);
        let room = headroom * (1.0 + (BURST - 1.0) * spared);
        let target = knee + room.min(headroom + 3.0 * knee);
        Load {
            busy,
            queue,
            knee,
            headroom,
            target,
        }
    }

    fn is_probe_due(&self, limit: f64, load: &Load, seen: &Measured<'_>) -> bool {
        let since = seen.now - self.last_probe;
        let overloaded = self.turned_away > OVERLOAD;
        let surprises = load.queue > 0.6 * load.busy && load.queue > 2.0 * load.headroom;
        // Less than one call would do: the latency looked for is not the service's any more.
        let unloaded = self.unloaded.unwrap_or(seen.latency);
        let contradicts = overloaded && 0.8 * seen.latency > unloaded * limit;
        limit > 1.0
            && (overloaded && seen.now >= self.next_probe
                || surprises && since >= PROBE_SURPRISED
                || contradicts && since >= PROBE_AGAIN)
    }

    fn begin_probe(&mut self, limit: f64, load: &Load, seen: &Measured<'_>) -> f64 {
        let lowered = (load.knee / 2.0).max(load.busy / 3.0).max(1.0);
        let throughput = self.throughput.unwrap_or(seen.throughput);
        self.last_probe = seen.now;
        self.probe = Some(Probe {
            before: limit,
            after: load.target.min(limit).max(lowered),
            throughput: throughput.min(seen.throughput),
            knee: load.knee,
        });
        lowered
    }

    fn steer(&self, limit: f64, load: &Load, rises: bool) -> f64 {
        if load.queue < load.headroom / 4.0 && self.turned_away > PLAIN_OVERLOAD {
            // Nothing waits while many are turned away: below the knee, and far below while more calls in
            // flight also get more done.
            return limit
                + if rises {
                    load.headroom.max(limit / 4.0)
                } else {
                    load.headroom
                };
        }
        limit + ((load.target - limit) / 2.0).max(-0.3 * limit)
    }
}

impl Limit for Knee {
    fn next(&mut self, limit: f64, sample: &Sample) -> f64 {
        let dropped = f64::from(sample.dropped);
        let share = dropped / (dropped + f64::from(sample.completed)).max(1.0);
        if share > DROPS {
            self.probe = None;
            return limit * (1.0 - share).max(0.5);
        }
        let Some(seen) = Measured::of(sample) else {
            return limit;
        };
        if let Some(last) = self.last_latency.replace(seen.latency) {
            // A change of the service is no noise: more than three times what is usual counts as that.
            let step = (seen.latency - last)
                .abs()
                .min(3.0 * self.noise + 0.01 * seen.latency);
            self.noise += 0.1 * (step - self.noise);
        }
        if let Some(probe) = self.probe.take() {
            return self.conclude(&probe, limit, &seen);
        }
        let before = self.throughput.unwrap_or_default();
        let rises = seen.throughput > 1.05 * before;
        self.track(&seen);
        if !sample.limited {
            return limit;
        }
        let load = self.load(limit, &seen);
        if self.is_probe_due(limit, &load, &seen) {
            self.begin_probe(limit, &load, &seen)
        } else {
            self.steer(limit, &load, rises)
        }
    }
}

impl<'a> Measured<'a> {
    fn of(sample: &'a Sample) -> Option<Self> {
        let elapsed = sample.elapsed.as_secs_f64();
        if sample.elapsed == Duration::ZERO {
            return None;
        }
        Some(Self {
            sample,
            now: sample.now.as_secs_f64(),
            elapsed,
            latency: sample.latency?.as_secs_f64(),
            mean: sample.mean_latency?.as_secs_f64(),
            throughput: f64::from(sample.completed) / elapsed,
        })
    }
}
