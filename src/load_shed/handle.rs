//! Seeing and steering a layer from outside.

use super::{Mode, shared::Shared};
use crate::{context::Criticality, pooled::PooledArc};

/// Sees and steers what a layer sheds; made by [`LoadShedLayer::handle`]. Cheap to clone.
///
/// What it shows is of the last sampling. It samples itself where that is due, so it shows the load of now
/// also while no calls come.
///
/// [`LoadShedLayer::handle`]: super::LoadShedLayer::handle
#[derive(Clone, Debug)]
pub struct LoadShedHandle {
    pub(super) shared: PooledArc<Shared>,
}

impl LoadShedHandle {
    /// The name of the layer.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.shared.telemetry.name()
    }

    /// What the layer may do by itself.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.shared.mode.get()
    }

    /// Sets the mode.
    pub fn set_mode(&self, mode: Mode) {
        self.shared.mode.set(mode, &self.shared.telemetry);
    }

    /// The load, as a ratio to what it is to be: of the signal that is loaded the most. 1 is at its target,
    /// and 0 where no signal says anything.
    #[must_use]
    pub fn load(&self) -> f64 {
        self.sampled().load()
    }

    /// Of how much of what it can do the server is asked: of twice as much, where half of the calls are to
    /// be shed. While none is, it is the [load](Self::load), at most 1.
    ///
    /// So above 1 it is as the calls go, however the signals grow with them; what is known of that is at most
    /// 1,000.
    #[must_use]
    pub fn utilization(&self) -> f64 {
        let shared = self.sampled();
        let admitted = shared.admitted_share_of_all();
        if admitted < 1.0 {
            1.0 / admitted.max(0.001)
        } else {
            shared.load().min(1.0)
        }
    }

    /// Which share of all calls is to be shed, those of them that pass nevertheless included.
    #[must_use]
    pub fn shed_share(&self) -> f64 {
        self.sampled().shed_share()
    }

    /// All there is to see at this moment.
    #[must_use]
    pub fn snapshot(&self) -> LoadShedSnapshot {
        let shared = self.sampled();
        LoadShedSnapshot {
            load: shared.load(),
            signals: shared
                .loads()
                .map(|(signal, load)| SignalLoad { signal, load })
                .collect(),
            shed_share: shared.shed_share(),
            in_flight: shared.in_flight(),
            mode: shared.mode.get(),
        }
    }

    /// Which share of the calls of this criticality passes, from 0 to 1; counted are those that pass
    /// [however loaded](super::LoadShedBuilder::min_admitted_share) the server is, too.
    ///
    /// Where [users](super::LoadShedBuilder::cohort_by) have cohorts, it is the share of cohorts. Where the
    /// [heaviest](super::LoadShedBuilder::heaviest_first) go first, it is that of the calls of the last second
    /// or so: most users may see none of it.
    #[must_use]
    pub fn admitted_share(&self, criticality: Criticality) -> f64 {
        self.sampled().admitted_share(criticality)
    }

    fn sampled(&self) -> &Shared {
        if self.shared.mode.get() != Mode::Disabled {
            self.shared.sample_if_due();
        }
        &self.shared
    }
}

/// A server's load at one moment; see [`LoadShedHandle::snapshot`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LoadShedSnapshot {
    /// The load; see [`LoadShedHandle::load`].
    pub load: f64,
    /// That of each signal, in the order in which they were given to the builder.
    pub signals: Vec<SignalLoad>,
    /// Which share of all calls is to be shed; see [`LoadShedHandle::shed_share`].
    pub shed_share: f64,
    /// How many calls are in flight. Calls that are exempt are not among them, nor those that passed a layer
    /// that only [observes](Mode::ObserveOnly), and would else have been refused.
    pub in_flight: u64,
    /// What the layer may do by itself.
    pub mode: Mode,
}

/// What one signal says.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct SignalLoad {
    /// The signal, as metrics spell it.
    pub signal: &'static str,
    /// Its load, as a ratio to its target; nothing where it is not known.
    pub load: Option<f64>,
}
