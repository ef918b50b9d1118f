//! How much a layer may do by itself.

/// What a layer that refuses calls may do.
///
/// | mode | calls | what becomes of them |
/// |---|---|---|
/// | [`Enabled`](Self::Enabled) | refused, or made to wait, as the layer decides | counts |
/// | [`ObserveOnly`](Self::ObserveOnly) | all pass at once | counts, of those that it would have let pass |
/// | [`Disabled`](Self::Disabled) | all pass at once | neither counts nor is told |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mode {
    /// Does what it is for. The default.
    #[default]
    Enabled,
    /// Runs as a shadow: it decides as if it were enabled, but lets every call pass. Calls that it would
    /// have refused are counted as such, and have no say in what it decides next.
    ///
    /// To try settings out on real traffic. The shadow sees more of an overload than an enabled layer
    /// would, and is never better off than one: the service keeps its full load.
    ObserveOnly,
    /// As if it were not there: calls pass, and nothing of them is counted or told, not even in
    /// [metrics](crate::telemetry). The classifier is asked, and whatever it says is dropped.
    Disabled,
}

impl Mode {
    pub(crate) const ALL: [Self; 3] = [Self::Enabled, Self::ObserveOnly, Self::Disabled];

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
