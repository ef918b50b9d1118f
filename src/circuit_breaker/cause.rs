//! Why a breaker changes its state.

/// Why a breaker changed its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// So many calls failed in a row.
    ConsecutiveFailures,
    /// Too many of the last calls failed.
    CountFailures,
    /// Too large a share of the last calls failed.
    CountFailureRate,
    /// Too large a share of the last calls was slow.
    CountSlowCallRate,
    /// Too many of the calls of the last seconds failed.
    TimeFailures,
    /// Too large a share of the calls of the last seconds failed.
    TimeFailureRate,
    /// Too large a share of the calls of the last seconds was slow.
    TimeSlowCallRate,
    /// Too many calls failed, each weighed by its age.
    EwmaFailures,
    /// Too large a share of the calls failed, each weighed by its age.
    EwmaFailureRate,
    /// A quantile of the latency is too long.
    LatencyQuantile,
    /// [A rule of the user's own](super::CircuitBreakerBuilder::trip_when) said so.
    TripWhen,
    /// The open time is over.
    OpenTimeOver,
    /// Enough probes went well.
    ProbesSucceeded,
    /// Too many probes failed, were slow, or hung.
    ProbesFailed,
    /// Its [ramp](super::Ramp) is over.
    RampOver,
    /// A person or a program said so.
    Forced,
    /// The time for which it was said is over.
    ForcedTimeOver,
    /// A person or a program reset the breaker.
    Reset,
}

impl Cause {
    /// The cause as events spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConsecutiveFailures => "consecutive_failures",
            Self::CountFailures => "count_failures",
            Self::CountFailureRate => "count_failure_rate",
            Self::CountSlowCallRate => "count_slow_call_rate",
            Self::TimeFailures => "time_failures",
            Self::TimeFailureRate => "time_failure_rate",
            Self::TimeSlowCallRate => "time_slow_call_rate",
            Self::EwmaFailures => "ewma_failures",
            Self::EwmaFailureRate => "ewma_failure_rate",
            Self::LatencyQuantile => "latency_quantile",
            Self::TripWhen => "trip_when",
            Self::OpenTimeOver => "open_time_over",
            Self::ProbesSucceeded => "probes_succeeded",
            Self::ProbesFailed => "probes_failed",
            Self::RampOver => "ramp_over",
            Self::Forced => "forced",
            Self::ForcedTimeOver => "forced_time_over",
            Self::Reset => "reset",
        }
    }
}
