//! The experiments: each is a file, reproduces one that was published, and says which figure is to be
//! beaten. The report, the table and the tests are made of the same runs.

mod adaptive_limit;
mod amplification;
mod breaker_detection;
mod breaker_tuning;
mod capacity_loss;
mod client_throttle;
mod cold_cache;
mod collapse;
mod costly_refusals;
mod gates;
mod hangs;
mod limiters;
mod markov;
mod nested_retries;
mod occ_jitter;
mod peers;
mod prefetch_spike;
mod retry_policies;
mod retry_ramp;
mod retry_storm;
mod several_calls;
mod short_queue;
mod stable_timeout;
mod step_changes;
mod sudden_overload;

use std::{
    ops::Range,
    sync::{Arc, Mutex},
    time::Duration,
};

use steadfast::{
    Error,
    sim::{self, Answer, Fault, Report},
};
use tower::util::{BoxCloneService, MapRequestLayer};

/// How much of an experiment is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// All, for the report.
    Full,
    /// As little as still shows that the bars are met, for the tests.
    Fast,
}

impl Size {
    /// `full` of something, or `fast`.
    fn pick<T>(self, full: T, fast: T) -> T {
        match self {
            Self::Full => full,
            Self::Fast => fast,
        }
    }
}

/// An experiment that was published.
#[derive(Clone, Copy)]
pub(crate) struct Experiment {
    /// The name of its file.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// Who published it, and where.
    pub(crate) source: &'static str,
    pub(crate) run: fn(Size) -> Findings,
}

/// In the order of the report.
pub(crate) const ALL: &[Experiment] = &[
    occ_jitter::EXPERIMENT,
    retry_policies::EXPERIMENT,
    nested_retries::EXPERIMENT,
    retry_storm::EXPERIMENT,
    capacity_loss::EXPERIMENT,
    cold_cache::EXPERIMENT,
    collapse::EXPERIMENT,
    hangs::EXPERIMENT,
    retry_ramp::EXPERIMENT,
    amplification::EXPERIMENT,
    breaker_tuning::EXPERIMENT,
    breaker_detection::EXPERIMENT,
    adaptive_limit::EXPERIMENT,
    stable_timeout::EXPERIMENT,
    step_changes::EXPERIMENT,
    sudden_overload::EXPERIMENT,
    several_calls::EXPERIMENT,
    prefetch_spike::EXPERIMENT,
    costly_refusals::EXPERIMENT,
    client_throttle::EXPERIMENT,
    short_queue::EXPERIMENT,
];

/// What came out.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// What was done, and what is to be said of it.
    pub(crate) text: String,
    pub(crate) tables: Vec<Table>,
    pub(crate) bars: Vec<Bar>,
    pub(crate) charts: Vec<Chart>,
}

/// A table of the report.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) head: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    fn new<const N: usize>(head: [&str; N]) -> Self {
        Self {
            head: head.map(str::to_owned).to_vec(),
            rows: Vec::new(),
        }
    }

    fn row<const N: usize>(&mut self, row: [String; N]) {
        assert_eq!(N, self.head.len());
        self.rows.push(row.into());
    }
}

/// A figure that is to be beaten.
#[derive(Debug)]
pub(crate) struct Bar {
    pub(crate) measure: String,
    /// What was published, or is computed from what was.
    pub(crate) published: String,
    /// The peers' policy, as it fares here.
    pub(crate) peers: String,
    pub(crate) ours: String,
    pub(crate) bar: String,
    pub(crate) is_met: bool,
}

/// Lines over time, or over something else.
#[derive(Debug)]
pub(crate) struct Chart {
    pub(crate) title: String,
    pub(crate) x: &'static str,
    pub(crate) lines: Vec<(String, Vec<(f64, f64)>)>,
    /// A stretch to be shaded.
    pub(crate) trigger: Option<(f64, f64)>,
}

impl Chart {
    fn new(title: &str, x: &'static str) -> Self {
        Self {
            title: title.to_owned(),
            x,
            lines: Vec::new(),
            trigger: None,
        }
    }

    fn shading(mut self, from: Duration, to: Duration) -> Self {
        self.trigger = Some((from.as_secs_f64(), to.as_secs_f64()));
        self
    }

    fn line(&mut self, name: &str, points: Vec<(f64, f64)>) {
        self.lines.push((name.replace("**", ""), points));
    }

    /// Good answers a second, counted by slot, up to `end`.
    fn goodput(&mut self, name: &str, report: &Report, slot: Duration, end: Duration) {
        let middle = |number: usize| (number as f64 + 0.5) * slot.as_secs_f64();
        let slots = (end.as_secs_f64() / slot.as_secs_f64()) as usize;
        let parts = report.by_slot(slot).take(slots).enumerate();
        let points = parts.map(|(number, part)| (middle(number), part.goodput()));
        self.line(name, points.collect());
    }
}

/// Counts what passes, by second.
#[derive(Clone, Default)]
struct Tally(Arc<Mutex<Vec<u64>>>);

impl Tally {
    /// To be put where requests pass.
    fn count(&self) {
        let second = sim::elapsed().as_secs() as usize;
        let mut counts = self.0.lock().unwrap();
        if second >= counts.len() {
            counts.resize(second + 1, 0);
        }
        counts[second] += 1;
    }

    /// How many passed in a part of the run, in whole seconds.
    fn during(&self, part: Range<Duration>) -> u64 {
        let counts = self.0.lock().unwrap();
        let second = |time: Duration| (time.as_secs() as usize).min(counts.len());
        counts[second(part.start)..second(part.end)].iter().sum()
    }

    fn layer(&self) -> MapRequestLayer<impl FnMut(()) + Clone + Send + use<>> {
        let tally = self.clone();
        MapRequestLayer::new(move |()| tally.count())
    }
}

/// A number that is looked at from time to time while a run goes on.
struct Trace(Arc<Mutex<Vec<(Duration, f64)>>>);

impl Trace {
    /// Looks at it every so often, until the run is over.
    fn every(interval: Duration, look: impl Fn() -> f64 + Send + 'static) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let trace = Self(Arc::clone(&seen));
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(interval).await;
                seen.lock().unwrap().push((sim::elapsed(), look()));
            }
        });
        trace
    }

    /// For a chart: its mean in each slot.
    fn points(&self, slot: Duration) -> Vec<(f64, f64)> {
        let seen = self.0.lock().unwrap();
        let slots = seen.chunk_by(|(one, _), (other, _)| {
            one.as_nanos() / slot.as_nanos() == other.as_nanos() / slot.as_nanos()
        });
        let mean = |of: fn(&(Duration, f64)) -> f64, slot: &[_]| {
            slot.iter().map(of).sum::<f64>() / slot.len() as f64
        };
        slots
            .map(|slot| {
                (
                    mean(|(at, _)| at.as_secs_f64(), slot),
                    mean(|(_, number)| *number, slot),
                )
            })
            .collect()
    }

    /// What it was in a part of the run.
    fn during(&self, part: Range<Duration>) -> Vec<f64> {
        let seen = self.0.lock().unwrap();
        let part = seen.iter().filter(|(at, _)| part.contains(at));
        part.map(|(_, number)| *number).collect()
    }
}

/// A service at any height of a stack.
type Stack = BoxCloneService<(), Answer, Error<Fault>>;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Seconds after the trigger, or that it never happened.
fn after(recovery: Option<Duration>) -> String {
    recovery.map_or("never".to_owned(), |time| format!("{} s", time.as_secs()))
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// Mean and standard deviation.
fn moments(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares = values.iter().map(|value| (value - mean) * (value - mean));
    (mean, (squares.sum::<f64>() / count).sqrt())
}
