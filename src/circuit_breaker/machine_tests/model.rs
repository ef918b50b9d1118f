//! A circuit breaker as one would explain it: it keeps every outcome, and counts anew each time.

use crate::{
    circuit_breaker::{self, Cause, Counts, State, Statistics, machine::Change},
    window::{EwmaWindow, Outcome, WeightedCounts},
};
use std::time::Duration;

/// The settings, as a person would give them. Shares are in percent, times in nanoseconds.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) run: Option<u32>,
    pub(super) count: Option<(u16, Bounds)>,
    /// The length of a slice, of which the window has ten.
    pub(super) time: Option<(u64, Bounds)>,
    /// The time constant.
    pub(super) ewma: Option<(u64, Bounds)>,
    /// The length of a slice, the quantile in percent, and the minimum of calls.
    pub(super) latency: Option<(u64, u64, u32)>,
    /// At how much trouble the rule of the user's own trips; see [`has_trouble`].
    pub(super) own: Option<u64>,
    pub(super) probes: u8,
    pub(super) probe_nanos: u64,
    pub(super) open_base: u64,
    pub(super) open_cap: u64,
    pub(super) jitter: bool,
    /// The shares of the steps, and how long each takes.
    pub(super) ramp: Option<(Vec<u64>, u64)>,
    pub(super) lasting_nanos: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) failures: Option<u32>,
    pub(super) failed: Option<u64>,
    pub(super) slow: Option<u64>,
    pub(super) minimum: u32,
}

impl Settings {
    fn bounds(&self) -> impl Iterator<Item = Bounds> {
        let count = self.count.map(|(_, bounds)| bounds);
        let time = self.time.map(|(_, bounds)| bounds);
        let ewma = self.ewma.map(|(_, bounds)| bounds);
        [count, time, ewma].into_iter().flatten()
    }

    /// Whether a rule looks at failures, of which probes could be told.
    fn looks_at_failures(&self) -> bool {
        let looks = |bounds: Bounds| bounds.failures.is_some() || bounds.failed.is_some();
        self.run.is_some() || self.bounds().any(looks)
    }

    /// Whether a rule looks at how long calls take.
    fn looks_at_times(&self) -> bool {
        self.latency.is_some() || self.bounds().any(|bounds| bounds.slow.is_some())
    }
}

/// A rule such as a user could have, that looks at all there is.
pub(super) fn has_trouble(statistics: &Statistics, limit: u64) -> bool {
    let windows = [
        statistics.count_window,
        statistics.time_window,
        statistics.latency_window,
    ];
    let bad = |counts: Counts| counts.failed + counts.slow;
    let of_windows: u64 = windows.into_iter().flatten().map(bad).sum();
    let weighted = statistics.ewma_window.unwrap_or_default();
    let faded = (weighted.calls() - weighted.failed()) as u64;
    u64::from(statistics.consecutive_failures) + of_windows + faded >= limit
}

/// Every outcome since a state began, and its time.
type All = Vec<(u64, Outcome)>;

pub(super) enum Mode {
    Closed(All),
    Open {
        until: u64,
    },
    HalfOpen {
        in_flight: Vec<u32>,
        ended: Vec<Outcome>,
        admitted_last: u64,
    },
    Recovering {
        all: All,
        began: u64,
        /// The shares at which calls asked to pass, in percent, and how many did.
        asked: u64,
        passed: u64,
    },
    ForcedOpen {
        until: Option<u64>,
    },
    ForcedClosed {
        all: All,
        until: Option<u64>,
    },
    Disabled,
}

/// An admitted call, and how many changes of state it has seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    id: u32,
    era: usize,
}

pub(super) struct Model {
    settings: Settings,
    pub(super) now: u64,
    pub(super) random: u64,
    pub(super) mode: Mode,
    pub(super) changes: Vec<Change>,
    pub(super) observes: bool,
    pub(super) spared: u64,
    open_since: Option<u64>,
    admitted: u32,
    /// How often it has opened since its open time last started over.
    trips: u32,
    closed_at: u64,
    /// New in each state. Whether it weighs rightly is shown where windows are tested.
    ewma: Option<EwmaWindow>,
}

pub(super) fn count(outcomes: &[Outcome]) -> Counts {
    let number = |is: fn(&Outcome) -> bool| outcomes.iter().filter(|it| is(it)).count() as u64;
    Counts {
        calls: outcomes.len() as u64,
        failed: number(|it| it.failed),
        slow: number(|it| it.slow),
    }
}

/// The longest run of failures.
fn longest_run(outcomes: &[Outcome]) -> usize {
    let runs = outcomes.split(|it| !it.failed).map(<[_]>::len);
    runs.max().unwrap_or(0)
}

fn is_share(part: u64, whole: u64, percent: Option<u64>) -> bool {
    percent.is_some_and(|percent| part > 0 && part * 100 >= percent * whole)
}

impl Model {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            ewma: settings.ewma.map(|(length, _)| EwmaWindow::new(length)),
            settings,
            now: 0,
            random: 0,
            mode: Mode::Closed(Vec::new()),
            changes: Vec::new(),
            observes: false,
            spared: 0,
            open_since: None,
            admitted: 0,
            trips: 0,
            closed_at: 0,
        }
    }

    pub(super) fn state(&self) -> State {
        match self.mode {
            Mode::Closed(_) => State::Closed,
            Mode::Open { .. } => State::Open,
            Mode::HalfOpen { .. } => State::HalfOpen,
            Mode::Recovering { .. } => State::Recovering,
            Mode::ForcedOpen { .. } => State::ForcedOpen,
            Mode::ForcedClosed { .. } => State::ForcedClosed,
            Mode::Disabled => State::Disabled,
        }
    }

    /// What it may do by itself.
    pub(super) fn mode(&self) -> circuit_breaker::Mode {
        match self.mode {
            Mode::ForcedOpen { .. } => circuit_breaker::Mode::ForcedOpen,
            Mode::ForcedClosed { .. } => circuit_breaker::Mode::ForcedClosed,
            Mode::Disabled => circuit_breaker::Mode::Disabled,
            _ if self.observes => circuit_breaker::Mode::ObserveOnly,
            _ => circuit_breaker::Mode::Enabled,
        }
    }

    pub(super) fn until(&self) -> Option<u64> {
        match self.mode {
            Mode::Closed(_) | Mode::HalfOpen { .. } | Mode::Disabled => None,
            Mode::Open { until } => Some(until),
            Mode::Recovering { began, .. } => {
                let (shares, step) = self.settings.ramp.as_ref().unwrap();
                Some(began + step * shares.len() as u64)
            }
            Mode::ForcedOpen { until } | Mode::ForcedClosed { until, .. } => until,
        }
    }

    pub(super) fn admit(&mut self) -> Result<Ticket, Option<u64>> {
        let answer = self.ask();
        if answer.is_err() && self.mode() == circuit_breaker::Mode::ObserveOnly {
            self.spared += 1;
            let no_era = usize::MAX;
            return Ok(Ticket {
                era: no_era,
                ..self.ticket()
            });
        }
        answer
    }

    fn ask(&mut self) -> Result<Ticket, Option<u64>> {
        let is_over = self.until().is_some_and(|until| self.now >= until);
        let left = self.until().map(|until| until.saturating_sub(self.now));
        let (now, probes) = (self.now, usize::from(self.settings.probes));
        let late = self.settings.probe_nanos;
        match &mut self.mode {
            Mode::Closed(_) | Mode::Disabled => Ok(self.ticket()),
            Mode::ForcedClosed { .. } if !is_over => Ok(self.ticket()),
            Mode::Open { .. } | Mode::ForcedOpen { .. } if !is_over => Err(left),
            Mode::Recovering {
                began,
                asked,
                passed,
                ..
            } if !is_over => {
                let (shares, step) = self.settings.ramp.as_ref().unwrap();
                let nth = (now - *began) / step;
                *asked += shares[nth as usize];
                if *passed * 100 < *asked {
                    *passed += 1;
                    Ok(self.ticket())
                } else {
                    Err(Some(*began + (nth + 1) * step - now))
                }
            }
            Mode::Recovering { .. } => {
                self.close(Cause::RampOver);
                self.ask()
            }
            Mode::ForcedClosed { .. } => {
                self.close(Cause::ForcedTimeOver);
                self.ask()
            }
            Mode::ForcedOpen { .. } => {
                self.half_open(Cause::ForcedTimeOver);
                self.ask()
            }
            Mode::Open { .. } => {
                self.half_open(Cause::OpenTimeOver);
                self.ask()
            }
            Mode::HalfOpen {
                in_flight,
                ended,
                admitted_last,
            } => {
                if in_flight.len() + ended.len() < probes {
                    in_flight.push(self.admitted);
                    *admitted_last = now;
                    Ok(self.ticket())
                } else if now >= *admitted_last + late {
                    let hung = in_flight.drain(..).map(|_| Outcome::HUNG);
                    ended.extend(hung);
                    self.judge_probes();
                    self.ask()
                } else {
                    Err(None)
                }
            }
        }
    }

    fn ticket(&mut self) -> Ticket {
        self.admitted += 1;
        Ticket {
            id: self.admitted - 1,
            era: self.changes.len(),
        }
    }

    pub(super) fn settle(&mut self, ticket: Ticket, outcome: Outcome) {
        if ticket.era != self.changes.len() {
            return;
        }
        match &mut self.mode {
            Mode::Closed(all) | Mode::Recovering { all, .. } | Mode::ForcedClosed { all, .. } => {
                all.push((self.now, outcome));
                if let Some(window) = &self.ewma {
                    window.record(0, outcome.failed, self.now);
                }
                let is_forced = self.state() == State::ForcedClosed;
                if let Some(cause) = self.tripped().filter(|_| !is_forced) {
                    self.open(cause);
                }
            }
            Mode::HalfOpen {
                in_flight, ended, ..
            } => {
                in_flight.retain(|id| *id != ticket.id);
                ended.push(outcome);
                self.judge_probes();
            }
            _ => {}
        }
    }

    pub(super) fn forgo(&mut self, ticket: Ticket) {
        if let Mode::HalfOpen { in_flight, .. } = &mut self.mode {
            in_flight.retain(|id| *id != ticket.id);
        }
    }

    /// What it counts, in a state in which it does.
    pub(super) fn counted(&self) -> Option<&All> {
        match &self.mode {
            Mode::Closed(all) | Mode::Recovering { all, .. } | Mode::ForcedClosed { all, .. } => {
                Some(all)
            }
            _ => None,
        }
    }

    fn all(&self) -> Vec<Outcome> {
        let all = self.counted().into_iter().flatten();
        all.map(|(_, outcome)| *outcome).collect()
    }

    pub(super) fn failures_in_a_row(&self) -> u32 {
        let all = self.all();
        all.iter().rev().take_while(|it| it.failed).count() as u32
    }

    pub(super) fn count_window(&self) -> Option<Counts> {
        let (size, _) = self.settings.count?;
        let all = self.all();
        Some(count(&all[all.len().saturating_sub(size.into())..]))
    }

    /// What a window of ten such slices holds.
    fn seen_in(&self, slice: u64) -> Vec<Outcome> {
        let Some(all) = self.counted() else {
            return Vec::new();
        };
        let is_seen = |time: u64| self.now / slice - time / slice < 10;
        let seen = all.iter().filter(|(time, _)| is_seen(*time));
        seen.map(|(_, outcome)| *outcome).collect()
    }

    pub(super) fn time_window(&self) -> Option<Counts> {
        let (slice, _) = self.settings.time?;
        Some(count(&self.seen_in(slice)))
    }

    pub(super) fn latency_window(&self) -> Option<Counts> {
        let (slice, ..) = self.settings.latency?;
        let mut seen = self.seen_in(slice);
        seen.iter_mut().for_each(|it| it.slow = it.tail);
        Some(count(&seen))
    }

    pub(super) fn ewma_window(&self) -> Option<WeightedCounts> {
        Some(self.ewma.as_ref()?.counts(0, self.now))
    }

    pub(super) fn statistics(&self) -> Statistics {
        if self.counted().is_none() {
            return Statistics::default();
        }
        let run = self.settings.run.map(|_| self.failures_in_a_row());
        Statistics {
            consecutive_failures: run.unwrap_or(0),
            count_window: self.count_window(),
            time_window: self.time_window(),
            ewma_window: self.ewma_window(),
            latency_window: self.latency_window(),
        }
    }

    fn tripped(&self) -> Option<Cause> {
        let Settings {
            run,
            count,
            time,
            ewma,
            latency,
            own,
            ..
        } = self.settings;
        if run.is_some_and(|run| self.failures_in_a_row() >= run) {
            return Some(Cause::ConsecutiveFailures);
        }
        let judge = |counts: Option<Counts>, bounds: Option<Bounds>, causes: [Cause; 3]| {
            let (counts, bounds) = (counts?, bounds?);
            let failures = bounds.failures.map(u64::from);
            let enough = counts.calls >= bounds.minimum.into();
            if failures.is_some_and(|failures| counts.failed >= failures) {
                Some(causes[0])
            } else if enough && is_share(counts.failed, counts.calls, bounds.failed) {
                Some(causes[1])
            } else if enough && is_share(counts.slow, counts.calls, bounds.slow) {
                Some(causes[2])
            } else {
                None
            }
        };
        let by_count = judge(
            self.count_window(),
            count.map(|(_, bounds)| bounds),
            [
                Cause::CountFailures,
                Cause::CountFailureRate,
                Cause::CountSlowCallRate,
            ],
        );
        let by_time = judge(
            self.time_window(),
            time.map(|(_, bounds)| bounds),
            [
                Cause::TimeFailures,
                Cause::TimeFailureRate,
                Cause::TimeSlowCallRate,
            ],
        );
        let by_ewma = || {
            let (counts, (_, bounds)) = (self.ewma_window()?, ewma?);
            let (calls, failed) = (counts.calls(), counts.failed());
            let share = bounds.failed.map(|percent| percent as f64 / 100.0);
            if bounds
                .failures
                .is_some_and(|number| failed >= number.into())
            {
                return Some(Cause::EwmaFailures);
            }
            let is_share = share.is_some_and(|share| failed > 0.0 && failed >= share * calls);
            let trips = calls >= bounds.minimum.into() && is_share;
            trips.then_some(Cause::EwmaFailureRate)
        };
        let by_latency = || {
            let (counts, (_, percent, minimum)) = (self.latency_window()?, latency?);
            let rest = 100 - percent;
            let trips = counts.calls >= minimum.into() && counts.slow * 100 > rest * counts.calls;
            trips.then_some(Cause::LatencyQuantile)
        };
        let by_own = || {
            let trips = own.is_some_and(|limit| has_trouble(&self.statistics(), limit));
            trips.then_some(Cause::TripWhen)
        };
        by_count
            .or(by_time)
            .or_else(by_ewma)
            .or_else(by_latency)
            .or_else(by_own)
    }

    /// Whether these probes open the breaker again, of as many as the round has.
    fn probes_fail(&self, ended: &[Outcome]) -> bool {
        let settings = &self.settings;
        let probes = u64::from(settings.probes);
        let Counts { failed, slow, .. } = count(ended);
        let tail = ended.iter().filter(|it| it.tail).count() as u64;
        let run = settings.run.map(|run| probes.min(run.into()) as usize);
        let is_blind =
            !settings.looks_at_failures() && (settings.own.is_some() || !settings.looks_at_times());
        run.is_some_and(|run| longest_run(ended) >= run)
            || settings.bounds().any(|bounds| {
                let failures = bounds.failures.map(|number| probes.min(number.into()));
                failures.is_some_and(|failures| failed >= failures)
                    || is_share(failed, probes, bounds.failed)
                    || is_share(slow, probes, bounds.slow)
            })
            || settings
                .latency
                .is_some_and(|(_, percent, _)| tail * 100 > (100 - percent) * probes)
            || is_blind && failed * 2 >= probes
    }

    fn judge_probes(&mut self) {
        let Mode::HalfOpen { ended, .. } = &self.mode else {
            return;
        };
        let mut at_worst = ended.clone();
        at_worst.resize(self.settings.probes.into(), Outcome::HUNG);
        if self.probes_fail(ended) {
            self.open(Cause::ProbesFailed);
        } else if !self.probes_fail(&at_worst) {
            match self.settings.ramp {
                Some(_) => self.recover(),
                None => self.close(Cause::ProbesSucceeded),
            }
        }
    }

    fn recover(&mut self) {
        let ramp = Mode::Recovering {
            all: Vec::new(),
            began: self.now,
            asked: 0,
            passed: 0,
        };
        self.enter(ramp, Cause::ProbesSucceeded);
    }

    fn enter(&mut self, mode: Mode, cause: Cause) {
        let from = self.state();
        self.mode = mode;
        let ewma = self.settings.ewma;
        self.ewma = ewma.map(|(length, _)| EwmaWindow::new(length));
        let to = self.state();
        let passes_all = matches!(
            self.mode,
            Mode::Closed(_) | Mode::ForcedClosed { .. } | Mode::Disabled
        );
        let since = if passes_all {
            self.open_since.take()
        } else {
            self.open_since.get_or_insert(self.now);
            None
        };
        let ns = Duration::from_nanos;
        self.changes.push(Change {
            number: self.changes.len() as u64 + 1,
            from,
            to,
            cause,
            mode: self.mode(),
            at: self.now,
            ends_in: self.until().map(|until| ns(until.saturating_sub(self.now))),
            open_for: since.map(|since| ns(self.now - since)),
        });
    }

    fn open(&mut self, cause: Cause) {
        let closed_for = self.now - self.closed_at;
        let has_lasted = closed_for >= self.settings.lasting_nanos;
        if self.state() == State::Closed && has_lasted {
            self.trips = 0;
        }
        self.trips += 1;
        let (base, cap) = (self.settings.open_base, self.settings.open_cap);
        let mut expo = base;
        for _ in 1..self.trips {
            expo = cap.min(expo * 2);
        }
        let drawn = ((u128::from(expo) + 1) * u128::from(self.random)) >> 64;
        let delay = if self.settings.jitter {
            drawn as u64
        } else {
            expo
        };
        let until = self.now + delay;
        self.enter(Mode::Open { until }, cause);
    }

    fn half_open(&mut self, cause: Cause) {
        let round = Mode::HalfOpen {
            in_flight: Vec::new(),
            ended: Vec::new(),
            admitted_last: 0,
        };
        self.enter(round, cause);
    }

    fn close(&mut self, cause: Cause) {
        self.closed_at = self.now;
        self.enter(Mode::Closed(Vec::new()), cause);
    }

    pub(super) fn force(&mut self, to: State, nanos: Option<u64>) {
        let until = nanos.map(|nanos| self.now.saturating_add(nanos).min(u64::MAX - 1));
        let mode = match to {
            State::ForcedOpen => Mode::ForcedOpen { until },
            State::ForcedClosed => Mode::ForcedClosed {
                all: Vec::new(),
                until,
            },
            _ => Mode::Disabled,
        };
        self.enter(mode, Cause::Forced);
    }

    pub(super) fn run_by_rules(&mut self, observes: bool) {
        self.observes = observes;
        match self.mode {
            Mode::ForcedOpen { .. } => self.half_open(Cause::Forced),
            Mode::ForcedClosed { .. } | Mode::Disabled => self.close(Cause::Forced),
            _ => {}
        }
    }

    pub(super) fn reset(&mut self) {
        self.trips = 0;
        self.close(Cause::Reset);
    }
}
