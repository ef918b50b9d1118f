//! How much a breaker may do by itself.

use super::word::State;

/// What a breaker may do by itself.
///
/// | mode | calls | results | changes its state by itself |
/// |---|---|---|---|
/// | [`Enabled`](Self::Enabled) | refused where it is not closed | counted and judged | yes |
/// | [`ObserveOnly`](Self::ObserveOnly) | all pass | counted and judged, of those it would have let pass | yes |
/// | [`ForcedClosed`](Self::ForcedClosed) | all pass | counted, judged by no rule | no |
/// | [`ForcedOpen`](Self::ForcedOpen) | all refused | none | no |
/// | [`Disabled`](Self::Disabled) | all pass | neither counted nor told | no |
///
/// Set when the breaker is built, by [`mode`](super::CircuitBreakerBuilder::mode), and while it runs,
/// by [`set_mode`](super::CircuitBreakerHandle::set_mode). The forced ones can be set for a time, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mode {
    /// Does what its rules say. The default.
    #[default]
    Enabled,
    /// Runs as a shadow: it changes its state as if it were enabled and tells of that, but lets every
    /// call pass. Calls that it would have refused are counted as such, and have no say in its state.
    ///
    /// To try rules out on real traffic. The shadow sees more of an outage than an enabled breaker would,
    /// and is never better off than one: the service keeps its full load.
    ObserveOnly,
    /// Lets every call pass. What it counts can be seen, and trips it by no rule.
    ForcedClosed,
    /// Refuses every call.
    ForcedOpen,
    /// As if it were not there: calls pass, and nothing of them is counted or told, not even in
    /// [metrics](crate::telemetry). The classifier is asked, and whatever it says is dropped.
    Disabled,
}

impl Mode {
    pub(super) const ALL: [Self; 5] = [
        Self::Enabled,
        Self::ObserveOnly,
        Self::ForcedClosed,
        Self::ForcedOpen,
        Self::Disabled,
    ];

    /// The mode as metrics and events spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::ObserveOnly => "observe_only",
            Self::ForcedClosed => "forced_closed",
            Self::ForcedOpen => "forced_open",
            Self::Disabled => "disabled",
        }
    }

    /// The mode of a breaker in `state`; `observes` is what it does while its rules run it.
    pub(super) const fn of(state: State, observes: bool) -> Self {
        match state {
            State::ForcedClosed => Self::ForcedClosed,
            State::ForcedOpen => Self::ForcedOpen,
            State::Disabled => Self::Disabled,
            _ if observes => Self::ObserveOnly,
            _ => Self::Enabled,
        }
    }

    /// The state that it stands for, where its rules do not run it.
    pub(super) const fn held_state(self) -> Option<State> {
        match self {
            Self::ForcedClosed => Some(State::ForcedClosed),
            Self::ForcedOpen => Some(State::ForcedOpen),
            Self::Disabled => Some(State::Disabled),
            Self::Enabled | Self::ObserveOnly => None,
        }
    }
}
