//! Sentinel's BBR: the greatest throughput times the least latency.

use std::{collections::VecDeque, fmt, time::Duration};

use super::limit::{Limit, Sample};

/// Lets as many calls be in flight as the service had at its best, while it is under load.
///
/// The system rule of Alibaba's Sentinel, after TCP BBR (N. Cardwell et al., "BBR: Congestion-Based Congestion
/// Control", 2016): the greatest throughput of the last ten seconds times the least latency of them. It holds
/// only while the service is under load, which `is_loaded` says; at other times the limit is the greatest there
/// is, and so the throughput of a service that is idle does not become its limit. Sentinel looks at the load
/// average of the machine, kratos at its CPU.
///
/// | | limit |
/// |---|---|
/// | `is_loaded` says no | the greatest |
/// | else | `⌊throughput · latency⌋ + 1` |
///
/// Needs windows: a single call tells no throughput.
///
/// **Where it is weak.** It is as good as `is_loaded`: one that turns now on, now off has the limit do the same.
/// It does not heed drops. It settles at the number of calls without any queue, and so refuses some of a load
/// that comes in bursts.
pub struct Bbr {
    is_loaded: Box<dyn FnMut(&Sample) -> bool + Send>,
    /// When each came, its throughput in calls per second, and its least latency.
    seen: VecDeque<(Duration, f64, Option<Duration>)>,
}

impl Bbr {
    /// How long a sample counts.
    const WINDOW: Duration = Duration::from_secs(10);
    /// How many are kept: more do not come in ten seconds but by a sampling of one's own.
    const KEPT: usize = 128;

    /// Limits while `is_loaded` says that there is load, as of this sample or of the machine. It is called
    /// within the call that completes the sample, and must not block.
    #[must_use]
    pub fn when(is_loaded: impl FnMut(&Sample) -> bool + Send + 'static) -> Self {
        Self {
            is_loaded: Box::new(is_loaded),
            seen: VecDeque::with_capacity(Self::KEPT),
        }
    }

    fn see(&mut self, sample: &Sample) {
        let is_old = |(at, ..): &(Duration, f64, _)| *at + Self::WINDOW < sample.now;
        while self.seen.front().is_some_and(is_old) || self.seen.len() == Self::KEPT {
            self.seen.pop_front();
        }
        if !sample.elapsed.is_zero() {
            let throughput = f64::from(sample.completed) / sample.elapsed.as_secs_f64();
            let seen = (sample.now, throughput, sample.min_latency);
            self.seen.push_back(seen);
        }
    }
}

impl Limit for Bbr {
    fn next(&mut self, limit: f64, sample: &Sample) -> f64 {
        self.see(sample);
        if !(self.is_loaded)(sample) {
            return f64::MAX;
        }
        let throughput = self.seen.iter().map(|(_, throughput, _)| *throughput);
        let throughput = throughput.fold(0.0, f64::max);
        let latency = self.seen.iter().filter_map(|(.., latency)| *latency).min();
        match latency {
            Some(latency) if throughput > 0.0 => (throughput * latency.as_secs_f64()).floor() + 1.0,
            _ => limit,
        }
    }
}

impl fmt::Debug for Bbr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bbr").finish_non_exhaustive()
    }
}
