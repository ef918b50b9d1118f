//! A service that does as its requests say and watches how it is treated, and a waker that counts.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use steadfast::{Classify, Rejected, TimedOut, Verdict, classify::Failure};
use tokio::{sync::Notify, time::sleep};
use tower::{Service, ServiceExt};

/// What a request asks the service to do.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Succeed,
    /// Fails with this number.
    Fail(u32),
    /// Succeeds after a while.
    Take(Duration),
    /// Fails after a while.
    FailAfter(Duration),
    /// Succeeds once notified.
    Await(Arc<Notify>),
    Hang,
    Panic,
    PanicInCall,
    /// Answers with a verdict of its own, for [`Told`] to read.
    Say(Verdict),
    /// Fails with the first number at the first attempt, with the next at the second, …; succeeds after.
    FailTimes(u32),
    /// Fails at the first attempt, and then hangs.
    FailThenHang,
    /// Fails at the first attempt, and then panics.
    FailThenPanic,
}

/// An error type of a user's own: one `From` impl for each thing that a layer may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Error {
    Failed(u32),
    Said(Verdict),
    Rejected(Rejected),
    TimedOut(TimedOut),
}

impl From<Rejected> for Error {
    fn from(rejected: Rejected) -> Self {
        Self::Rejected(rejected)
    }
}

impl From<TimedOut> for Error {
    fn from(timed_out: TimedOut) -> Self {
        Self::TimedOut(timed_out)
    }
}

impl Error {
    pub(crate) fn rejected(self) -> Rejected {
        match self {
            Self::Rejected(rejected) => rejected,
            other => panic!("not rejected: {other:?}"),
        }
    }

    pub(crate) fn timed_out(self) -> TimedOut {
        match self {
            Self::TimedOut(timed_out) => timed_out,
            other => panic!("not timed out: {other:?}"),
        }
    }
}

/// Takes the verdict that [`Act::Say`] asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told;

impl<T> Classify<T, Error> for Told {
    fn classify(&self, result: Result<&T, &Error>) -> Verdict {
        match result {
            Ok(_) => Verdict::Success,
            Err(Error::Said(verdict)) => *verdict,
            Err(_) => Failure::transient().into(),
        }
    }
}

/// A service that must be made ready before each call, or panics; its clones start unready.
#[derive(Debug)]
pub(crate) struct Scripted {
    watch: Watch,
    readied: bool,
}

/// What a [`Scripted`] saw, over all its clones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watch(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    calls: AtomicUsize,
    in_flight: AtomicUsize,
    most: AtomicUsize,
    /// Where above zero, `poll_ready` is pending and counts it down.
    unready: AtomicUsize,
}

impl Watch {
    pub(crate) fn calls(&self) -> usize {
        self.0.calls.load(SeqCst)
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.0.in_flight.load(SeqCst)
    }

    pub(crate) fn most(&self) -> usize {
        self.0.most.load(SeqCst)
    }

    /// Lets the next so many polls for readiness find it pending.
    pub(crate) fn be_unready(&self, polls: usize) {
        self.0.unready.store(polls, SeqCst);
    }
}

impl Scripted {
    pub(crate) fn new() -> (Self, Watch) {
        let watch = Watch::default();
        let service = Self {
            watch: watch.clone(),
            readied: false,
        };
        (service, watch)
    }
}

impl Clone for Scripted {
    fn clone(&self) -> Self {
        Self {
            watch: self.watch.clone(),
            readied: false,
        }
    }
}

/// A call in flight.
struct InFlight(Watch);

impl InFlight {
    fn begin(watch: &Watch) -> Self {
        watch.0.calls.fetch_add(1, SeqCst);
        let now = watch.0.in_flight.fetch_add(1, SeqCst) + 1;
        watch.0.most.fetch_max(now, SeqCst);
        Self(watch.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.0.in_flight.fetch_sub(1, SeqCst);
    }
}

impl Service<Act> for Scripted {
    type Response = u32;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<u32, Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let unready = &self.watch.0.unready;
        if unready.load(SeqCst) > 0 {
            unready.fetch_sub(1, SeqCst);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.readied = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, act: Act) -> Self::Future {
        assert!(self.readied, "called without having been made ready");
        self.readied = false;
        let in_flight = InFlight::begin(&self.watch);
        if matches!(act, Act::PanicInCall) {
            panic!("as told, in call");
        }
        Box::pin(async move {
            let _in_flight = in_flight;
            let attempt = steadfast::Context::current().attempt().get();
            match act {
                Act::Succeed => Ok(attempt),
                Act::Fail(number) => Err(Error::Failed(number)),
                Act::Take(duration) => {
                    sleep(duration).await;
                    Ok(attempt)
                }
                Act::FailAfter(duration) => {
                    sleep(duration).await;
                    Err(Error::Failed(0))
                }
                Act::Await(notify) => {
                    notify.notified().await;
                    Ok(attempt)
                }
                Act::Hang => std::future::pending().await,
                Act::Panic => panic!("as told"),
                Act::PanicInCall => unreachable!(),
                Act::Say(Verdict::Success) => Ok(attempt),
                Act::Say(verdict) => Err(Error::Said(verdict)),
                Act::FailTimes(times) if attempt <= times => Err(Error::Failed(attempt)),
                Act::FailTimes(_) => Ok(attempt),
                Act::FailThenHang | Act::FailThenPanic if attempt == 1 => Err(Error::Failed(1)),
                Act::FailThenHang => std::future::pending().await,
                Act::FailThenPanic => panic!("as told, at last"),
            }
        })
    }
}

/// Makes `service` ready and calls it.
pub(crate) async fn send<S>(service: &mut S, act: Act) -> Result<u32, Error>
where
    S: Service<Act, Response = u32, Error = Error>,
{
    service.ready().await?.call(act).await
}

/// The same as a task of its own, so that a panic in it is contained.
pub(crate) async fn send_contained<S>(service: &S, act: Act) -> Result<u32, ()>
where
    S: Service<Act, Response = u32, Error = Error> + Clone + Send + 'static,
    S::Future: Send,
{
    let mut service = service.clone();
    let task = tokio::spawn(async move { send(&mut service, act).await });
    task.await.unwrap_or(Err(Error::Failed(0))).map_err(|_| ())
}

/// Calls `service`, polls once, and drops the call.
pub(crate) async fn send_and_drop<S>(service: &mut S, act: Act)
where
    S: Service<Act, Response = u32, Error = Error>,
{
    let call = service.ready().await.unwrap().call(act);
    let _ = poll_once(pin!(call));
}

pub(crate) fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Counts how often it is woken.
#[derive(Debug, Default)]
pub(crate) struct CountingWaker(AtomicUsize);

impl Wake for CountingWaker {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

impl CountingWaker {
    pub(crate) fn new() -> (Arc<Self>, Waker) {
        let counter = Arc::new(Self::default());
        (counter.clone(), counter.into())
    }

    pub(crate) fn woken(&self) -> usize {
        self.0.load(SeqCst)
    }
}

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}
