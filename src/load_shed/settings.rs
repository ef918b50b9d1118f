//! The settings of a layer, and what is wrong with them.

use std::time::Duration;

use super::{Mode, probe::Probe, signal::Signal};
use crate::{error::InvalidSetting, sync::ConstArc, time::Epoch};

/// As given to the builder, whose methods say what each is.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) name: &'static str,
    pub(super) signals: Vec<Signal>,
    pub(super) sampling_interval: Duration,
    pub(super) min_admitted_share: f64,
    pub(super) retry_after: Duration,
    pub(super) unready_for: Option<Duration>,
    pub(super) mode: Mode,
    pub(super) seed: Option<u64>,
    /// In what time usage halves, where that decides.
    pub(super) usage_half_life: Option<Duration>,
}

impl Settings {
    pub(super) const DEFAULT: Self = Self {
        name: "load_shed",
        signals: Vec::new(),
        sampling_interval: Duration::from_millis(20),
        min_admitted_share: 0.01,
        retry_after: Duration::from_secs(1),
        unready_for: None,
        mode: Mode::Enabled,
        seed: None,
        usage_half_life: None,
    };

    pub(super) fn check(&self) -> Result<(), InvalidSetting> {
        self.signals.iter().try_for_each(Signal::check)?;
        if self.signals.is_empty() && self.unready_for.is_none() {
            return Err(InvalidSetting::new(
                "signals",
                [(); 0],
                "at least one, or a bound for what is not ready",
            ));
        }
        let intervals = Duration::from_millis(1)..=Duration::from_secs(10);
        if !intervals.contains(&self.sampling_interval) {
            return Err(InvalidSetting::new(
                "sampling_interval",
                self.sampling_interval,
                "in 1ms..=10s",
            ));
        }
        // Written so that a NaN is refused too.
        if !(0.0..=0.5).contains(&self.min_admitted_share) {
            return Err(InvalidSetting::new(
                "min_admitted_share",
                self.min_admitted_share,
                "in 0..=0.5",
            ));
        }
        let half_lives = Duration::from_millis(100)..=Duration::from_secs(3600);
        if let Some(half_life) = self.usage_half_life
            && !half_lives.contains(&half_life)
        {
            return Err(InvalidSetting::new(
                "usage_half_life",
                half_life,
                "in 100ms..=1h",
            ));
        }
        Ok(())
    }

    /// What measures for those signals that need it.
    pub(super) fn probe(&self, epoch: Epoch) -> Option<ConstArc<Probe>> {
        self.signals.iter().any(Signal::wants_probe).then(|| {
            ConstArc::new(Probe::new(
                epoch,
                self.sampling_interval,
                #[cfg(feature = "cpu")]
                self.signals
                    .iter()
                    .any(|signal| matches!(signal, Signal::Cpu { .. })),
            ))
        })
    }
}
