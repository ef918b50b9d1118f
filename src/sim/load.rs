//! Load: open, where calls come whether the ones before have been answered or not; and closed, where a
//! client makes its next call when the last has ended.

use std::{
    future::{Future, poll_fn},
    task::Poll,
    time::Duration,
};

use tokio::sync::Notify;
use tower::Service;

use super::{
    Call, Outcome, Random, Report, Times,
    run::{random_for, sleep, sleep_until},
};
use crate::{
    context::{Context, Criticality},
    error::Error,
    oneshot::Oneshot,
    rng::Use,
    sync::{Mutex, StdArc, lock},
    time::{self, Instant},
};

/// An open load: calls that come by the clock.
///
/// ```
/// # use std::time::Duration;
/// # use steadfast::sim::Load;
/// # let secs = Duration::from_secs;
/// // 40 a second, with five seconds of twice as much; then more and more.
/// let load = Load::poisson()
///     .rate(40.0, secs(20))
///     .rate(80.0, secs(5))
///     .rate(40.0, secs(20))
///     .ramp(40.0, 120.0, secs(60));
/// assert_eq!(load.length(), secs(105));
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Load {
    is_poisson: bool,
    segments: Vec<Segment>,
    terms: Terms,
}

/// A stretch of time in which the rate goes in a straight line.
#[derive(Clone, Copy, Debug)]
struct Segment {
    from: f64,
    to: f64,
    secs: f64,
}

/// What holds for each call.
#[derive(Clone, Copy, Debug)]
struct Terms {
    timeout: Option<Duration>,
    criticality: Criticality,
    good_within: Duration,
    patience: Duration,
}

impl Terms {
    const DEFAULT: Self = Self {
        timeout: None,
        criticality: Criticality::Critical,
        good_within: Duration::MAX,
        patience: Duration::from_secs(3600),
    };

    fn context(&self) -> Context {
        let context = Context::new().with_criticality(self.criticality);
        match self.timeout {
            Some(timeout) => context.with_timeout(timeout),
            None => context,
        }
    }
}

/// A call that is due.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Arrival {
    /// Counted from zero.
    pub number: u64,
    /// When it is due, from the beginning of the load on.
    pub at: Duration,
    /// For what else there is to be drawn: a key, or which of several services.
    pub random: u64,
}

macro_rules! terms {
    () => {
        /// Gives each call a [`Context`] with a deadline. It is for the layers to obey it. Default: none.
        pub const fn timeout(mut self, timeout: Duration) -> Self {
            self.terms.timeout = Some(timeout);
            self
        }

        /// Gives each call a [`Context`] with this criticality. Default: [`Criticality::Critical`].
        pub const fn criticality(mut self, criticality: Criticality) -> Self {
            self.terms.criticality = criticality;
            self
        }

        /// An answer that takes longer is [`Late`](Outcome::Late). Default: none is.
        pub const fn good_within(mut self, time: Duration) -> Self {
            self.terms.good_within = time;
            self
        }

        /// How long calls are waited for that have not ended when the load has. Default: an hour.
        pub const fn patience(mut self, patience: Duration) -> Self {
            self.terms.patience = patience;
            self
        }
    };
}

impl Load {
    /// Calls that come independently of one another.
    pub const fn poisson() -> Self {
        Self::new(true)
    }

    /// Calls that come evenly.
    pub const fn even() -> Self {
        Self::new(false)
    }

    const fn new(is_poisson: bool) -> Self {
        Self {
            is_poisson,
            segments: Vec::new(),
            terms: Terms::DEFAULT,
        }
    }

    /// Goes on with so many calls a second, for so long.
    pub fn rate(self, per_second: f64, length: Duration) -> Self {
        self.ramp(per_second, per_second, length)
    }

    /// Goes on with a rate that grows, or falls, in a straight line.
    pub fn ramp(mut self, from: f64, to: f64, length: Duration) -> Self {
        let (from, to, secs) = (from.max(0.0), to.max(0.0), length.as_secs_f64());
        self.segments.push(Segment { from, to, secs });
        self
    }

    terms!();

    /// How long the load lasts.
    #[must_use]
    pub fn length(&self) -> Duration {
        let secs = self.segments.iter().map(|segment| segment.secs).sum();
        Duration::from_secs_f64(secs)
    }

    /// When the calls come.
    fn arrivals(&self, random: Random) -> impl Iterator<Item = Arrival> {
        let mut segments = self.segments.iter().copied();
        let (mut segment, mut began) = (segments.next(), 0.0);
        let is_poisson = self.is_poisson;
        // So many calls of the present segment have come: a number that is not whole, by which the one to
        // come is found whatever the rate does meanwhile.
        // An even load begins, and ends, half a gap from the edge: there no rounding decides what comes.
        let mut come = if is_poisson { 0.0 } else { -0.5 };
        (0..).map_while(move |number| {
            come += if is_poisson {
                random.exponential()
            } else {
                1.0
            };
            while come > segment?.calls() {
                let over = segment?;
                come -= over.calls();
                began += over.secs;
                segment = segments.next();
            }
            Some(Arrival {
                number,
                at: Duration::from_secs_f64(began + segment?.when(come)),
                random: random.draw(),
            })
        })
    }

    /// Sends the load to clones of `service`, a request for each call, and waits until all have ended.
    ///
    /// # Panics
    ///
    /// Outside of a [`run`](super::run), and when a call panics.
    pub async fn send<S, Req, E>(
        &self,
        service: S,
        mut request: impl FnMut(Arrival) -> Req,
    ) -> Report
    where
        S: Service<Req, Error = Error<E>> + Clone + Send + 'static,
        S::Future: Send,
        Req: Send + 'static,
        E: Send + 'static,
    {
        self.each(move |arrival| {
            let call = Oneshot::new(service.clone(), request(arrival));
            async move { call.await.into() }
        })
        .await
    }

    /// The same, with a future of your own for each call.
    ///
    /// # Panics
    ///
    /// Outside of a [`run`](super::run), and when a call panics.
    pub async fn each<F>(&self, mut call: impl FnMut(Arrival) -> F) -> Report
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let log = Log::new(self.terms);
        for arrival in self.arrivals(random_for(Use::Load)) {
            sleep_until(log.began + arrival.at).await;
            let context = self.terms.context();
            let call = context.sync_scope(|| call(arrival));
            tokio::spawn(context.scope(log.begin().watch(call)));
        }
        sleep_until(log.began + self.length()).await;
        log.report(self.length()).await
    }
}

impl Segment {
    /// How many calls come in it.
    fn calls(self) -> f64 {
        (self.from + self.to) / 2.0 * self.secs
    }

    /// When so many have come, in seconds.
    fn when(self, calls: f64) -> f64 {
        // from t + growth t^2 / 2 = calls, solved so that nothing is divided by a growth of zero.
        let growth = (self.to - self.from) / self.secs;
        let root = (self.from * self.from + 2.0 * growth * calls)
            .max(0.0)
            .sqrt();
        (2.0 * calls / (self.from + root)).min(self.secs)
    }
}

/// A closed load: clients each of which makes one call after another.
#[derive(Clone, Debug)]
#[must_use]
pub struct Clients {
    clients: u64,
    length: Duration,
    think: Times,
    terms: Terms,
}

impl Clients {
    /// So many clients, for so long: none begins a call after that.
    pub const fn new(clients: u64, length: Duration) -> Self {
        Self {
            clients,
            length,
            think: Times::constant(Duration::ZERO),
            terms: Terms::DEFAULT,
        }
    }

    /// How long a client waits before each call, the first among them. Default: no time. **A call that ends
    /// at once, and no time in between, would never end.**
    pub fn think(mut self, times: Times) -> Self {
        self.think = times;
        self
    }

    terms!();

    /// Lets each client call a clone of `service`, and waits until all calls have ended. The clients are
    /// numbered from zero.
    ///
    /// # Panics
    ///
    /// Outside of a [`run`](super::run), and when a call panics.
    pub async fn send<S, Req, E>(
        &self,
        service: S,
        request: impl Fn(u64) -> Req + Clone + Send + 'static,
    ) -> Report
    where
        S: Service<Req, Error = Error<E>> + Clone + Send + 'static,
        S::Future: Send,
        Req: Send + 'static,
        E: Send + 'static,
    {
        self.each(move |client| {
            let call = Oneshot::new(service.clone(), request(client));
            async move { call.await.into() }
        })
        .await
    }

    /// The same, with a future of your own for each call.
    ///
    /// # Panics
    ///
    /// Outside of a [`run`](super::run), and when a call panics.
    pub async fn each<F>(&self, call: impl Fn(u64) -> F + Clone + Send + 'static) -> Report
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let log = Log::new(self.terms);
        let end = log.began + self.length;
        for client in 0..self.clients {
            let (log, call) = (log.clone(), call.clone());
            let (think, random) = (self.think.clone(), random_for(Use::Load));
            tokio::spawn(async move {
                loop {
                    sleep(think.draw(&random)).await;
                    if time::now() >= end {
                        return;
                    }
                    let context = log.terms.context();
                    let call = context.sync_scope(|| call(client));
                    context.scope(log.begin().watch(call)).await;
                }
            });
        }
        sleep_until(end).await;
        log.report(self.length).await
    }
}

/// Where the calls of a load are written down.
#[derive(Clone)]
struct Log {
    began: Instant,
    terms: Terms,
    entries: StdArc<Entries>,
}

struct Entries {
    calls: Mutex<Calls>,
    idle: Notify,
}

#[derive(Default)]
struct Calls {
    all: Vec<Call>,
    running: usize,
    has_panicked: bool,
}

impl Log {
    fn new(terms: Terms) -> Self {
        Self {
            began: time::now(),
            terms,
            entries: StdArc::new(Entries {
                calls: Mutex::default(),
                idle: Notify::new(),
            }),
        }
    }

    /// A call begins.
    fn begin(&self) -> Watch {
        let began = time::now();
        let mut calls = lock(&self.entries.calls);
        let index = calls.all.len();
        calls.all.push(Call::begun(began - self.began));
        calls.running += 1;
        Watch {
            entries: StdArc::clone(&self.entries),
            index,
            began,
            good_within: self.terms.good_within,
            outcome: Outcome::Pending,
        }
    }

    /// Waits until all have ended, or patience has.
    async fn report(self, length: Duration) -> Report {
        let mut patience = std::pin::pin!(sleep(self.terms.patience));
        while lock(&self.entries.calls).running > 0 {
            let mut idle = std::pin::pin!(self.entries.idle.notified());
            let is_over = poll_fn(|cx| match idle.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(false),
                Poll::Pending => patience.as_mut().poll(cx).map(|()| true),
            });
            if is_over.await {
                break;
            }
        }
        let calls = lock(&self.entries.calls);
        assert!(!calls.has_panicked, "a call of the load panicked");
        // Copied, since those that still run will be written down.
        Report::new(calls.all.clone(), length)
    }
}

/// A call that has begun, and that is written down when it ends.
struct Watch {
    entries: StdArc<Entries>,
    index: usize,
    began: Instant,
    good_within: Duration,
    outcome: Outcome,
}

impl Watch {
    async fn watch(mut self, call: impl Future<Output = Outcome>) {
        self.outcome = call.await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let took = time::now().saturating_duration_since(self.began);
        let mut calls = lock(&self.entries.calls);
        let call = &mut calls.all[self.index];
        call.took = took;
        call.outcome = match self.outcome {
            Outcome::Good if took > self.good_within => Outcome::Late,
            outcome => outcome,
        };
        calls.has_panicked |= std::thread::panicking();
        calls.running -= 1;
        if calls.running == 0 {
            self.entries.idle.notify_waiters();
        }
    }
}
