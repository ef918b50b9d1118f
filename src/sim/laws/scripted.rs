//! A service that does as its requests say, and watches how it is treated.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::sync::Notify;
use tower::Service;

use crate::{
    classify::{Classify, Failure, Verdict},
    context,
    error::{Rejected, TimedOut},
    sim::run::sleep,
    sync::{AtomicU64, Ordering::SeqCst, StdArc},
};

/// What a request asks the service to do.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Act {
    /// Succeeds at once, with the number of the attempt.
    Succeed,
    /// Fails with this number.
    Fail(u32),
    /// Succeeds after a while.
    Take(Duration),
    /// Fails after a while.
    FailAfter(Duration),
    /// Succeeds once notified.
    Await(StdArc<Notify>),
    /// Never answers.
    Hang,
    /// Panics when it is polled.
    Panic,
    /// Panics when it is called.
    PanicInCall,
    /// Answers with a verdict of its own, for [`Told`] to read.
    Say(Verdict),
    /// Fails so many times, each with the number of the attempt; succeeds after.
    FailTimes(u32),
    /// Fails at the first attempt, and then hangs.
    FailThenHang,
    /// Fails at the first attempt, and then panics.
    FailThenPanic,
}

/// What the service says, and what layers may: an error type as anybody may have one, with a `From` impl for
/// each thing that a layer may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// As [`Act::Fail`] told it to.
    Failed(u32),
    /// As [`Act::Say`] told it to.
    Said(Verdict),
    /// Refused by a layer.
    Rejected(Rejected),
    /// Given up by a layer.
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
    /// The refusal.
    ///
    /// # Panics
    ///
    /// If it is none.
    #[allow(clippy::must_use_candidate, reason = "asserts that it is one")]
    #[track_caller]
    pub fn rejected(self) -> Rejected {
        match self {
            Self::Rejected(rejected) => rejected,
            other => panic!("not rejected: {other:?}"),
        }
    }

    /// The expiry.
    ///
    /// # Panics
    ///
    /// If it is none.
    #[allow(clippy::must_use_candidate, reason = "asserts that it is one")]
    #[track_caller]
    pub fn timed_out(self) -> TimedOut {
        match self {
            Self::TimedOut(timed_out) => timed_out,
            other => panic!("not timed out: {other:?}"),
        }
    }
}

/// Takes the verdict that [`Act::Say`] asked for.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::exhaustive_structs, reason = "the name says all that it does")]
pub struct Told;

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
pub struct Scripted {
    watch: Watch,
    readied: bool,
}

/// What a [`Scripted`] saw, over all its clones.
#[derive(Clone, Debug, Default)]
pub struct Watch(StdArc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    calls: AtomicU64,
    in_flight: AtomicU64,
    most: AtomicU64,
    /// Where above zero, `poll_ready` is pending and counts it down.
    unready: AtomicU64,
}

impl Watch {
    /// How often it was called.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.0.calls.load(SeqCst) as usize
    }

    /// How many calls have neither ended nor been dropped.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.0.in_flight.load(SeqCst) as usize
    }

    /// The most that were so at a time.
    #[must_use]
    pub fn most(&self) -> usize {
        self.0.most.load(SeqCst) as usize
    }

    /// Lets the next so many polls for readiness find it pending.
    pub fn be_unready(&self, polls: usize) {
        self.0.unready.store(polls as u64, SeqCst);
    }
}

impl Scripted {
    /// One, and what it will see.
    #[must_use]
    pub fn new() -> (Self, Watch) {
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
    type Future = ScriptedFuture;

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
        let future = async move {
            let _in_flight = in_flight;
            let attempt = context::Context::current().attempt().get();
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
        };
        ScriptedFuture {
            future: Box::pin(future),
        }
    }
}

/// Response future of [`Scripted`].
#[must_use = "futures do nothing unless polled"]
pub struct ScriptedFuture {
    future: Pin<Box<dyn Future<Output = Result<u32, Error>> + Send + Sync>>,
}

impl fmt::Debug for ScriptedFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptedFuture").finish_non_exhaustive()
    }
}

impl Future for ScriptedFuture {
    type Output = Result<u32, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.future.as_mut().poll(cx)
    }
}

#[cfg(feature = "http")]
impl crate::http::IntoRefusal for Error {
    type Other = Self;

    fn into_refusal(self) -> Result<crate::http::Refusal, Self> {
        match self {
            Self::Rejected(rejected) => Ok(rejected.into()),
            Self::TimedOut(timed_out) => Ok(timed_out.into()),
            other => Err(other),
        }
    }
}
