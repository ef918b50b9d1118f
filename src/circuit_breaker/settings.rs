//! The settings of a breaker, and what is wrong with them.

use std::{
    num::{NonZeroU16, NonZeroU32},
    time::Duration,
};

use super::{
    always::Always,
    changes::Listener,
    machine::Rules,
    mode::Mode,
    own::Own,
    ramp::Ramp,
    rules::{LatencyQuantile, ProbeRule, Quantile, Rates, Thresholds},
    trip::{Run, Trip},
};
use crate::{
    backoff::{Backoff, Jitter},
    error::{InvalidSetting, not_zero},
    time::nanos,
    window::{CountWindow, EwmaWindow, TimeWindow},
};

/// As given to the builder, whose methods say what each is.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) name: &'static str,
    pub(super) consecutive_failures: Option<u32>,
    pub(super) count_window: Option<(u32, Thresholds)>,
    pub(super) time_window: Option<(Duration, Thresholds)>,
    pub(super) ewma_window: Option<(Duration, Thresholds)>,
    pub(super) latency_window: Option<(Duration, LatencyQuantile)>,
    pub(super) trip_when: Option<Own>,
    pub(super) slow_call_duration: Duration,
    pub(super) open_time: Option<Backoff>,
    pub(super) open_time_from_hint: Option<Duration>,
    pub(super) lasting_close: Option<Duration>,
    pub(super) half_open_probes: u32,
    pub(super) half_open_timeout: Duration,
    pub(super) ramp: Option<Ramp>,
    pub(super) mode: Mode,
    pub(super) listeners: Vec<Listener>,
    pub(super) seed: Option<u64>,
}

impl Settings {
    pub(super) const DEFAULT: Self = Self {
        name: "circuit_breaker",
        consecutive_failures: None,
        count_window: None,
        time_window: None,
        ewma_window: None,
        latency_window: None,
        trip_when: None,
        slow_call_duration: Duration::from_secs(1),
        open_time: None,
        open_time_from_hint: None,
        lasting_close: None,
        half_open_probes: 3,
        half_open_timeout: Duration::from_secs(10),
        ramp: None,
        mode: Mode::Enabled,
        listeners: Vec::new(),
        seed: None,
    };

    /// The settings, checked, as the machine takes them.
    pub(super) fn rules(&self) -> Result<Rules, InvalidSetting> {
        let trip = self.trip()?;
        let open_time = self.open_time()?;
        let half_open_timeout = not_zero("half_open_timeout", self.half_open_timeout)?;
        let longest_asked = self.open_time_from_hint;
        let longest_asked = longest_asked.map(|cap| not_zero("open_time_from_hint", cap));
        Ok(Rules {
            probes: trip.probe_rule(self.probes()?),
            trip,
            probe_nanos: nanos(half_open_timeout),
            ramp: self.ramp.as_ref().map(Ramp::check).transpose()?,
            lasting_nanos: nanos(self.lasting_close.unwrap_or(open_time.cap())),
            longest_asked_nanos: longest_asked.transpose()?.map_or(0, nanos),
            open_time,
        })
    }

    pub(super) fn slow(&self) -> Result<Duration, InvalidSetting> {
        not_zero("slow_call_duration", self.slow_call_duration)
    }

    /// What a rule for a quantile of the latency takes for too long.
    pub(super) fn latency_bound(&self) -> Result<Option<Duration>, InvalidSetting> {
        let quantile = self.latency_window.map(|(_, quantile)| quantile);
        quantile.map(LatencyQuantile::bound).transpose()
    }

    fn trip(&self) -> Result<Trip, InvalidSetting> {
        let always = Always {
            time: self.time_window.map(time).transpose()?,
            ewma: self.ewma_window.map(ewma).transpose()?,
            latency: self.latency_window.map(latency).transpose()?,
            own: self.trip_when.clone(),
        };
        let has_window = always.time.is_some() || always.ewma.is_some() || always.latency.is_some();
        let count_window = match self.count_window {
            None if has_window || self.consecutive_failures.is_some() => None,
            None if always.own.is_some() => Some((100, Thresholds::watch_only())),
            None => Some((100, Thresholds::failure_rate(0.5))),
            given => given,
        };
        Ok(Trip {
            run: self.consecutive_failures.map(run).transpose()?,
            count: count_window.map(count).transpose()?,
            always: (!always.is_empty()).then(|| Box::new(always)),
        })
    }

    fn probes(&self) -> Result<u8, InvalidSetting> {
        match u8::try_from(self.half_open_probes) {
            Ok(probes) if (1..=ProbeRule::MAX_PROBES).contains(&probes) => Ok(probes),
            _ => {
                let probes = self.half_open_probes;
                Err(InvalidSetting::new(
                    "half_open_probes",
                    probes,
                    "in 1..=254",
                ))
            }
        }
    }

    fn open_time(&self) -> Result<Backoff, InvalidSetting> {
        let open_time = match &self.open_time {
            Some(backoff) => backoff.clone(),
            None => Backoff::exponential(Duration::from_secs(5), Duration::from_secs(60))?
                .with_jitter(Jitter::Equal),
        };
        not_zero("open_time", open_time.cap())?;
        Ok(open_time)
    }
}

fn run(failures: u32) -> Result<Run, InvalidSetting> {
    let limit = NonZeroU32::new(failures)
        .ok_or_else(|| InvalidSetting::new("consecutive_failures", 0, "at least 1"))?;
    Ok(Run::new(limit))
}

fn count((calls, thresholds): (u32, Thresholds)) -> Result<(CountWindow, Rates), InvalidSetting> {
    let size = u16::try_from(calls).ok().and_then(NonZeroU16::new);
    let size = size.ok_or_else(|| InvalidSetting::new("count_window", calls, "in 1..=65535"))?;
    let rates = Rates::check(thresholds, Some(calls))?;
    Ok((CountWindow::new(size), rates))
}

fn time(
    (duration, thresholds): (Duration, Thresholds),
) -> Result<(TimeWindow, Rates), InvalidSetting> {
    let window = time_window("time_window", duration)?;
    Ok((window, Rates::check(thresholds, None)?))
}

fn latency(
    (duration, quantile): (Duration, LatencyQuantile),
) -> Result<(TimeWindow, Quantile), InvalidSetting> {
    let window = time_window("latency_window", duration)?;
    Ok((window, Quantile::check(quantile)?))
}

fn time_window(setting: &'static str, duration: Duration) -> Result<TimeWindow, InvalidSetting> {
    let length = nanos(duration);
    if length < TimeWindow::LEAST_NANOS {
        return Err(InvalidSetting::new(setting, duration, "at least 10 ms"));
    }
    Ok(TimeWindow::new(length))
}

fn ewma(
    (time_constant, thresholds): (Duration, Thresholds),
) -> Result<(EwmaWindow, Rates), InvalidSetting> {
    let length = nanos(time_constant);
    if length < EwmaWindow::LEAST_NANOS {
        return Err(InvalidSetting::new(
            "ewma_window",
            time_constant,
            "at least 1 s",
        ));
    }
    if let Some(share) = thresholds.slow_call_rate {
        let allowed = "for an `ewma_window`, which counts failures only";
        return Err(InvalidSetting::new("slow_call_rate", share, allowed));
    }
    let rates = Rates::check(thresholds, Some(EwmaWindow::MOST_CALLS))?;
    Ok((EwmaWindow::new(length), rates))
}
