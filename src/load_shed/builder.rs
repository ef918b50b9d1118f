//! Setting load shedding up.

use std::time::Duration;

use super::{
    AtRandom, ByUsage, ByUser, FromContext, LoadShedLayer, Mode, NoneExempt, Priorities,
    settings::Settings,
    signal::{Read, Signal},
};
use crate::{
    context::Criticality, error::InvalidSetting, keyed::Key, sync::ConstArc, until::Answered,
};

/// The settings of load shedding; made by [`LoadShedLayer::builder`].
///
/// Signals of load may be given alone or together: the one that is loaded the most decides. One that is
/// given again replaces itself.
#[derive(Clone, Debug)]
#[must_use]
pub struct LoadShedBuilder<C = FromContext, K = AtRandom, X = NoneExempt, U = Answered> {
    settings: Settings,
    priorities: Priorities<C, K, X>,
    until: U,
}

impl LoadShedBuilder {
    pub(super) const fn new() -> Self {
        Self {
            settings: Settings::DEFAULT,
            priorities: Priorities {
                criticality: FromContext,
                cohort: AtRandom,
                exempt: NoneExempt,
            },
            until: Answered,
        }
    }
}

impl<C, K, X, U> LoadShedBuilder<C, K, X, U> {
    /// Names the layer, for metrics, events and refusals. Default: `"load_shed"`.
    pub const fn name(mut self, name: &'static str) -> Self {
        self.settings.name = name;
        self
    }

    /// A signal: calls in flight in this layer, of which there are to be `max`, at least 1. For a server
    /// that works on so many at a time twice that many is a queue as long as the work.
    ///
    /// It is no limit: more are let in between one sampling and the next. For that there is the
    /// [bulkhead](crate::bulkhead).
    pub fn in_flight(self, max: usize) -> Self {
        self.signal(Signal::InFlight { max })
    }

    /// A signal: how long calls wait in a queue further in, as `read` says, which is to be `target`; longer
    /// than zero.
    ///
    /// `read` is a closure around the handle of a layer that has a queue, or of whatever else calls wait for.
    /// It is called at every sampling, by the call that finds it due: it must not block. One that panics
    /// says nothing, and a signal that says nothing sheds nothing.
    pub fn queueing_delay<F>(self, target: Duration, read: F) -> Self
    where
        F: Fn() -> Duration + Send + Sync + 'static,
    {
        let read = Read(ConstArc::new(read));
        self.signal(Signal::QueueingDelay { target, read })
    }

    /// A signal: how late the runtime runs a task whose time has come, which is to be `target`; at least
    /// 2 ms. Tokio's timers are a millisecond late without any load, so 10 ms is a good deal, and 5 ms tells
    /// of a server whose latency is in the single milliseconds.
    ///
    /// What fills a runtime is work that does not wait: parsing, hashing, encoding. The lag is measured by
    /// one task of the layer, which begins with the first call, in the runtime of that call, and ends a second
    /// after the last. The runtime must have its time enabled.
    pub fn runtime_lag(self, target: Duration) -> Self {
        self.signal(Signal::RuntimeLag { target })
    }

    /// A signal: how much of the processors is used, of which `target` is to be, in 0.01..=1.
    ///
    /// On Linux, where a control group sets a limit, as for a container, it is what all that runs in that
    /// group uses of the limit, read from its files (of both versions of control groups, where they usually
    /// are mounted). Elsewhere it is the time that this process has used, of the processors that it may run
    /// on; what other processes use is not seen. On platforms other than Unix nothing can be read.
    ///
    /// It is read every 100 ms, by the task that also measures the [lag](Self::runtime_lag). Of
    /// a queue it says nothing: all processors are used, by twice too many calls as by twelve times. Have
    /// another signal with it.
    #[cfg(feature = "cpu")]
    pub fn cpu(self, target: f64) -> Self {
        self.signal(Signal::Cpu { target })
    }

    /// A signal of your own: any number that grows with the load, and is 1 where that is as it is to be.
    ///
    /// Memory, connections of a pool, depth of a queue elsewhere; several, each by its `name`, for metrics and
    /// the handle. `read` is called as told of [`queueing_delay`](Self::queueing_delay). A NaN says nothing,
    /// and less than zero is zero.
    pub fn gauge<F>(self, name: &'static str, read: F) -> Self
    where
        F: Fn() -> f64 + Send + Sync + 'static,
    {
        let read = Read(ConstArc::new(read));
        self.signal(Signal::Gauge { name, read })
    }

    fn signal(mut self, signal: Signal) -> Self {
        let signals = &mut self.settings.signals;
        signals.retain(|other| other.name() != signal.name());
        signals.push(signal);
        self
    }

    /// How often the load is looked at, 1 ms to 10 s. Default: 20 ms.
    ///
    /// The first call after that time does it; it takes about a microsecond, and what the closures given
    /// as signals take. A sudden overload is met one interval late: what has been let in by then must be
    /// worked off, twelve times the load over 20 ms being a quarter of a second of work.
    pub const fn sampling_interval(mut self, interval: Duration) -> Self {
        self.settings.sampling_interval = interval;
        self
    }

    /// Refuses calls for which the inner service is not ready, once it has not been for so long; zero
    /// refuses them at once. Default: calls wait, as the inner service would have them.
    ///
    /// The layer then calls itself ready, and the call is refused; whether the inner service is ready again
    /// is asked before each. So no call waits longer than this for readiness, and while that lasts none
    /// waits at all, instead of each its turn. The time counts from when any service of the layer first found
    /// the inner service not ready until one finds it ready, as long as calls come. Calls that are
    /// exempt are refused, too: there is nobody to take them. A bound longer than zero needs a runtime with its
    /// time enabled.
    pub const fn refuse_unready_after(mut self, bound: Duration) -> Self {
        self.settings.unready_for = Some(bound);
        self
    }

    /// How critical a request is: by its route, say. Default: what its [`Context`](crate::Context) says.
    pub fn criticality<Req, F>(self, criticality: F) -> LoadShedBuilder<F, K, X, U>
    where
        F: Fn(&Req) -> Criticality,
    {
        self.map(|_, cohort, exempt| (criticality, cohort, exempt))
    }

    /// Who makes a request. Default: each request is shed, or not, for itself.
    ///
    /// All requests of a user are then in the same of 128 cohorts, and those of one criticality are shed by
    /// cohorts: some users get all that they ask for, and others nothing, where otherwise nobody who makes ten
    /// requests for a page would get them all. With each hour, by the clock on the wall, the cohorts change.
    /// Servers with the same [seed](Self::seed), built with the same version of Rust, agree on
    /// them, which matters where a request passes several. See [`keyed`](crate::keyed) for users that
    /// are borrowed from the request. Take what has been authenticated: who may choose his name may choose
    /// his cohort.
    ///
    /// From DAGOR (Zhou et al., SoCC 2018).
    pub fn cohort_by<Req, F>(mut self, user: F) -> LoadShedBuilder<C, ByUser<F>, X, U>
    where
        F: Key<Req>,
    {
        self.settings.usage_half_life = None; // of users who were named before
        self.map(|criticality, _, exempt| (criticality, ByUser(user), exempt))
    }

    /// Which requests are never shed, and for which the layer is as if it were not there: health checks. They
    /// are neither in flight, nor in any metric. Default: none.
    pub fn exempt<Req, F>(self, exempt: F) -> LoadShedBuilder<C, K, F, U>
    where
        F: Fn(&Req) -> bool,
    {
        self.exempting(exempt)
    }

    /// The same, for what is no closure.
    pub(crate) fn exempting<Y>(self, exempt: Y) -> LoadShedBuilder<C, K, Y, U> {
        self.map(|criticality, cohort, _| (criticality, cohort, exempt))
    }

    /// Which share of the calls that would be shed passes all the same, at random, in 0..=0.5. Default: 0.01.
    ///
    /// So no kind of call starves, however long the overload, and whoever sends only such calls sees when it
    /// is over. Where more than a hundred times of what the server can do is offered, it is more than that.
    pub const fn min_admitted_share(mut self, share: f64) -> Self {
        self.settings.min_admitted_share = share;
        self
    }

    /// After which time calls that are refused may come back, at the earliest. Zero does not say. Default:
    /// 1 s.
    ///
    /// Each is told a time of its own, between this and twice this, so that they do not come back together.
    pub const fn retry_after(mut self, delay: Duration) -> Self {
        self.settings.retry_after = delay;
        self
    }

    /// What the layer may do by itself, until [told otherwise](super::LoadShedHandle::set_mode). Default:
    /// [`Mode::Enabled`].
    pub const fn mode(mut self, mode: Mode) -> Self {
        self.settings.mode = mode;
        self
    }

    /// Makes it repeatable which calls are shed, and [which users](Self::cohort_by) go first. By default it is
    /// seeded by the operating system.
    pub const fn seed(mut self, seed: u64) -> Self {
        self.settings.seed = Some(seed);
        self
    }

    /// Until when a call is in flight. Default: until it is [`Answered`]. For responses that are streamed over
    /// HTTP: until the [`EndOfBody`](crate::http::EndOfBody).
    pub fn until<V>(self, until: V) -> LoadShedBuilder<C, K, X, V> {
        LoadShedBuilder {
            settings: self.settings,
            priorities: self.priorities,
            until,
        }
    }

    fn map<D, L, Y>(self, f: impl FnOnce(C, K, X) -> (D, L, Y)) -> LoadShedBuilder<D, L, Y, U> {
        let Priorities {
            criticality,
            cohort,
            exempt,
        } = self.priorities;
        let (criticality, cohort, exempt) = f(criticality, cohort, exempt);
        LoadShedBuilder {
            settings: self.settings,
            priorities: Priorities {
                criticality,
                cohort,
                exempt,
            },
            until: self.until,
        }
    }

    /// Checks the settings and builds the layer.
    ///
    /// # Errors
    ///
    /// If a setting is outside its range, or there is neither a signal nor a
    /// [bound](Self::refuse_unready_after) for a service that is not ready; the error names it.
    pub fn build(self) -> Result<LoadShedLayer<Priorities<C, K, X>, U>, InvalidSetting> {
        LoadShedLayer::with(self.settings, self.priorities, self.until)
    }
}

impl<C, F, X, U> LoadShedBuilder<C, ByUser<F>, X, U> {
    /// Sheds the users first who have asked for the most of late, within each criticality. Default: which
    /// users go first is chance, for an hour.
    ///
    /// What counts is calls, those refused among them: whoever goes on asking does not become a light user by
    /// being refused. The calls of exempt requests do not, nor how long a call takes. A call counts half
    /// after [some seconds](Self::usage_half_life), so that whoever asks for less is soon admitted again:
    /// for a tenth, after little more than three times that.
    ///
    /// **Users are compared with one another,** by the logarithm of what they ask for. Of two of whom one
    /// asks for more than four times as much, he is shed before the other. Within that chance has its part,
    /// the less the more they differ. Users who ask alike are so spread over 16 cohorts, anew each hour,
    /// and those of one of them are neither admitted nor shed as a whole. Servers do not tell one another what
    /// they have seen, and may not agree.
    ///
    /// **Memory is fixed**, at 32 KiB, however many users there are: they are counted in a count-min sketch. So
    /// none is taken for lighter than he is, but for calls of the same instant, and no more than one in 50 for heavier by more than one in
    /// 350 of all calls. With a million users who ask alike all are, and none is shed for it; of whoever
    /// asks for less than that part of all it cannot be told that he is heavy. The hash is seeded, so that
    /// nobody chooses whom he is taken for.
    ///
    /// As in failsafe-go's usage tracker a user's share decides within a priority; the sketch is
    /// Cormode's and Muthukrishnan's (2005), updated as by Estan and Varghese (2002).
    pub fn heaviest_first(mut self) -> LoadShedBuilder<C, ByUsage<F>, X, U> {
        self.settings.usage_half_life = Some(Duration::from_secs(5));
        self.map(|criticality, user, exempt| (criticality, ByUsage(user), exempt))
    }
}

impl<C, F, X, U> LoadShedBuilder<C, ByUsage<F>, X, U> {
    /// After which time a call counts half, 100 ms to 1 h. Default: 5 s.
    ///
    /// A user is known by his calls of about one and a half of these: where that is less than ten, users who
    /// ask alike are taken for heavier and lighter by turns.
    pub const fn usage_half_life(mut self, half_life: Duration) -> Self {
        self.settings.usage_half_life = Some(half_life);
        self
    }
}
