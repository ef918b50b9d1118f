//! A server of so many workers behind a queue, and callers who do not wait for it: the loop closed around the
//! pure parts, in a time of its own.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
};

use super::super::{
    controller::{Controller, Observed},
    priority::{Chance, Priority, Share, Threshold},
    seen::{Counts, Distribution},
};
use crate::{context::Criticality, rng::Rng};

/// The signal that the controller is given.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sensor {
    /// Of so many in flight.
    InFlight(f64),
    /// The oldest in the queue, of so many seconds.
    Delay(f64),
    /// The workers in use, of this share of all.
    Use(f64),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Server {
    pub(super) workers: usize,
    /// Seconds that a call takes.
    pub(super) service: f64,
    pub(super) sensor: Sensor,
    /// Seconds between samplings.
    pub(super) interval: f64,
    /// Whether arrivals are a Poisson process and service times exponential, or all is regular.
    pub(super) is_random: bool,
}

impl Server {
    pub(super) fn capacity(&self) -> f64 {
        self.workers as f64 / self.service
    }
}

/// What is offered for a while. Rates are multiples of the server's capacity.
#[derive(Clone, Copy, Debug)]
pub(super) struct Phase {
    pub(super) seconds: f64,
    /// By criticality.
    pub(super) offered: [f64; 4],
    /// How many times as long as usual a call takes.
    pub(super) slowness: f64,
}

impl Phase {
    pub(super) fn new(seconds: f64, offered: [f64; 4]) -> Self {
        Self {
            seconds,
            offered,
            slowness: 1.0,
        }
    }
}

/// What came of a phase.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    pub(super) seconds: f64,
    pub(super) offered: [u64; 4],
    pub(super) shed: [u64; 4],
    /// Answered within a second.
    pub(super) in_time: [u64; 4],
    pub(super) late: [u64; 4],
    /// When, into the phase, and the share that was shed from then on.
    pub(super) shares: Vec<(f64, f64)>,
}

impl Outcome {
    /// Answered in time, of those answered in time, late or refused.
    pub(super) fn success(&self, criticality: Criticality) -> f64 {
        let class = criticality as usize;
        let good = self.in_time[class] as f64;
        good / (good + self.late[class] as f64 + self.shed[class] as f64)
    }

    /// Calls a second answered in time.
    pub(super) fn goodput(&self) -> f64 {
        self.in_time.iter().sum::<u64>() as f64 / self.seconds
    }

    /// Mean and standard deviation of the share in the second half.
    pub(super) fn steady(&self) -> (f64, f64) {
        let half = self
            .shares
            .iter()
            .filter(|(at, _)| *at > self.seconds / 2.0);
        let half: Vec<_> = half.map(|(_, share)| *share).collect();
        let count = half.len() as f64;
        let mean = half.iter().sum::<f64>() / count;
        let variance = half.iter().map(|share| (share - mean).powi(2)).sum::<f64>() / count;
        (mean, variance.sqrt())
    }

    /// When the share, averaged over the last half second, was last further than this from its mean.
    pub(super) fn settled(&self, within: f64) -> f64 {
        let (mean, _) = self.steady();
        let mut last = 0.0_f64;
        for &(at, _) in self.shares.iter().filter(|(at, _)| *at > 0.5) {
            let recent = self
                .shares
                .iter()
                .filter(|(then, _)| *then > at - 0.5 && *then <= at);
            let recent: Vec<_> = recent.map(|(_, share)| *share).collect();
            let average = recent.iter().sum::<f64>() / recent.len() as f64;
            if (average - mean).abs() > within {
                last = at;
            }
        }
        last
    }

    /// When anything was last shed.
    pub(super) fn last_shed(&self) -> f64 {
        let shedding = self.shares.iter().filter(|(_, share)| *share > 0.0);
        shedding.map(|(at, _)| *at).fold(0.0, f64::max)
    }
}

struct Chances(Rng);

impl Chances {
    fn uniform(&self) -> f64 {
        (self.0.draw() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Of mean one.
    fn spell(&self, is_random: bool) -> f64 {
        if is_random {
            -(1.0 - self.uniform()).ln()
        } else {
            1.0
        }
    }
}

/// A moment that can be ordered.
fn key(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}

/// Runs the phases one after another; those in flight at the end of one are counted in the next.
pub(super) fn run(server: &Server, phases: &[Phase]) -> Vec<Outcome> {
    const SPARED: f64 = 0.01;
    let chances = Chances(Rng::new(Some(7)));
    let mut controller = Controller::new(SPARED);
    let mut distribution = Distribution::new();
    let counts = Counts::new();
    let mut threshold = Threshold::NONE;

    let mut queue: VecDeque<(f64, usize)> = VecDeque::new();
    // When it ends, when it came, its class.
    let mut busy: BinaryHeap<Reverse<(u64, u64, usize)>> = BinaryHeap::new();
    let (mut done, mut work, mut sampled, mut begin) = (0, 0.0, 0.0, 0.0);
    let mut outcomes = Vec::new();
    for phase in phases {
        let mut outcome = Outcome {
            seconds: phase.seconds,
            ..Outcome::default()
        };
        let multiple: f64 = phase.offered.iter().sum();
        let rate = server.capacity() * multiple;
        let service = server.service * phase.slowness;
        let mut arrival = begin + chances.spell(server.is_random) / rate;
        // How much each class still has to come, where all is regular.
        let mut due = [0.0; 4];
        loop {
            let end = busy
                .peek()
                .map_or(f64::INFINITY, |Reverse((end, ..))| *end as f64 / 1e9);
            let now = arrival.min(end);
            if now > begin + phase.seconds {
                break;
            }
            let begin_work = |busy: &mut BinaryHeap<_>, came: f64, class, work: &mut f64| {
                let spell = service * chances.spell(server.is_random);
                *work += spell;
                busy.push(Reverse((key(now + spell), key(came), class)));
            };
            if end <= arrival {
                let Reverse((_, came, class)) = busy.pop().unwrap();
                done += 1;
                if now - came as f64 / 1e9 <= 1.0 {
                    outcome.in_time[class] += 1;
                } else {
                    outcome.late[class] += 1;
                }
                if let Some((came, class)) = queue.pop_front() {
                    begin_work(&mut busy, came, class, &mut work);
                }
                continue;
            }
            arrival = now + chances.spell(server.is_random) / rate;
            // As the layer does: the call that finds the interval over samples, and is then asked about.
            if now - sampled >= server.interval {
                let seconds = now - sampled;
                let in_flight = (busy.len() + queue.len()) as f64;
                let (load, drain) = match server.sensor {
                    Sensor::InFlight(max) => (
                        in_flight / max,
                        (controller.done_per_second() > 0.0)
                            .then(|| max / controller.done_per_second()),
                    ),
                    Sensor::Delay(target) => {
                        let oldest = queue.front().map_or(0.0, |(came, _)| now - came);
                        (oldest / target, Some(target))
                    }
                    Sensor::Use(target) => {
                        let used = work / (seconds * server.workers as f64);
                        (used.min(1.0) / target, None)
                    }
                };
                let taken = counts.take_all();
                let shed = controller.observe(&Observed {
                    seconds,
                    load,
                    drain,
                    offered: taken.total(),
                    done,
                });
                distribution.absorb(&taken, controller.keep(seconds));
                threshold = distribution.cut(shed);
                outcome.shares.push((now - begin, shed));
                (done, work, sampled) = (0, 0.0, now);
            }
            let class = if server.is_random {
                let mut left = chances.uniform() * multiple;
                let is_it = |offered: &f64| {
                    left -= offered;
                    left < 0.0
                };
                phase.offered.iter().position(is_it).unwrap_or(3)
            } else {
                for (due, offered) in due.iter_mut().zip(phase.offered) {
                    *due += offered / multiple;
                }
                let most = (0..4)
                    .max_by(|a, b| f64::total_cmp(&due[*a], &due[*b]))
                    .unwrap();
                due[most] -= 1.0;
                most
            };
            outcome.offered[class] += 1;
            let chance = Chance(chances.0.draw());
            let priority = Priority::new(Criticality::ALL[class], None, chance);
            counts.count(priority.level());
            if !threshold.admits(priority) && !chance.is_among(Share::new(SPARED)) {
                outcome.shed[class] += 1;
            } else if busy.len() < server.workers {
                begin_work(&mut busy, now, class, &mut work);
            } else {
                queue.push_back((now, class));
            }
        }
        begin += phase.seconds;
        outcomes.push(outcome);
    }
    outcomes
}
