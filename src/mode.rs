//! How much a layer may do by itself, where that can be switched while it runs.

use crate::{
    sync::{AtomicU32, Mutex, Ordering::Relaxed, lock},
    telemetry::{Gauge, Telemetry, show},
};

/// What a layer may do by itself.
///
/// | mode | calls | results |
/// |---|---|---|
/// | [`Enabled`](Self::Enabled) | refused where they are to be | counted |
/// | [`ObserveOnly`](Self::ObserveOnly) | all pass | counted, of those it would have let pass |
/// | [`Disabled`](Self::Disabled) | all pass | none |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mode {
    /// Does what it is for. The default.
    #[default]
    Enabled,
    /// Runs as a shadow: it counts and decides as if it were enabled and tells of that, but lets every
    /// call pass. What it would have refused counts as refused, whatever becomes of it.
    ///
    /// To try settings out on real traffic. The service keeps its full load.
    ObserveOnly,
    /// As if it were not there: calls pass, and nothing of them is counted or told, not even in
    /// [metrics](crate::telemetry).
    Disabled,
}

impl Mode {
    const ALL: [Self; 3] = [Self::Enabled, Self::ObserveOnly, Self::Disabled];

    /// The mode as metrics and events spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::ObserveOnly => "observe_only",
            Self::Disabled => "disabled",
        }
    }
}

/// The mode of a layer, and the gauges that show it.
#[derive(Debug)]
pub(crate) struct Switch {
    mode: AtomicU32,
    gauges: Mutex<[Gauge; Mode::ALL.len()]>,
}

impl Switch {
    /// `metric` is the gauge, which gets the label `mode`.
    pub(crate) fn new(mode: Mode, metric: &'static str, telemetry: &Telemetry) -> Self {
        let gauges = telemetry.gauges(metric, "mode", Mode::ALL.map(Mode::as_str));
        show(&gauges, &Mode::ALL, &mode);
        Self {
            mode: AtomicU32::new(mode as u32),
            gauges: Mutex::new(gauges),
        }
    }

    #[inline]
    pub(crate) fn get(&self) -> Mode {
        // Relaxed: nothing else is read by what it says.
        match self.mode.load(Relaxed) {
            enabled if enabled == Mode::Enabled as u32 => Mode::Enabled,
            observes if observes == Mode::ObserveOnly as u32 => Mode::ObserveOnly,
            _ => Mode::Disabled,
        }
    }

    pub(crate) fn set(&self, mode: Mode, telemetry: &Telemetry) {
        let gauges = lock(&self.gauges);
        let from = self.get();
        self.mode.store(mode as u32, Relaxed);
        show(&gauges, &Mode::ALL, &mode);
        drop(gauges); // what is told of it may come back to us
        if from != mode {
            telemetry.mode_changed(from.as_str(), mode.as_str());
        }
    }
}
