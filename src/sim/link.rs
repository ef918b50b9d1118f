//! The network between two services.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{self, Poll},
    time::Duration,
};

use tokio::{sync::Notify, task::JoinHandle};
use tower::{Layer, Service};

use super::{
    Random, Times,
    run::{random_for, sleep},
};
use crate::{
    context::Context,
    oneshot::Oneshot,
    rng::Use,
    sync::{Mutex, StdArc, lock},
};

/// A network: a layer that puts distance between a client and a server.
///
/// Each request goes on its way in a task of its own, so **a caller that hangs up is not noticed beyond**:
/// see [`carrying_hang_ups`](Self::carrying_hang_ups). Of the caller's [`Context`] nothing arrives either,
/// unless it is [carried](Self::carrying_context).
///
/// Clones are the same network.
#[derive(Clone)]
#[must_use]
pub struct Link {
    shared: StdArc<Shared>,
    carries_context: bool,
    carries_hang_ups: bool,
}

struct Shared {
    delay: Mutex<Times>,
    random: Random,
    is_cut: Mutex<bool>,
    mended: Notify,
}

impl Link {
    /// A network on which a message takes no time.
    ///
    /// # Panics
    ///
    /// Outside of a [`run`](super::run).
    pub fn new() -> Self {
        Self {
            shared: StdArc::new(Shared {
                delay: Mutex::new(Times::constant(Duration::ZERO)),
                random: random_for(Use::Link),
                is_cut: Mutex::new(false),
                mended: Notify::new(),
            }),
            carries_context: false,
            carries_hang_ups: false,
        }
    }

    /// How long a message takes, each way. Default: no time.
    pub fn delay(self, times: Times) -> Self {
        self.set_delay(times);
        self
    }

    /// Carries the context: what is left until the deadline when the request is sent is left when it
    /// arrives, as with a timeout in a header; and the criticality, and the number of the attempt.
    pub const fn carrying_context(mut self) -> Self {
        self.carries_context = true;
        self
    }

    /// Drops a request at the server, or wherever it is by then, when its caller drops it.
    pub const fn carrying_hang_ups(mut self) -> Self {
        self.carries_hang_ups = true;
        self
    }

    /// Changes how long messages take that are sent from now on.
    pub fn set_delay(&self, times: Times) {
        *lock(&self.shared.delay) = times;
    }

    /// Holds all messages, both ways, until it is [mended](Self::mend).
    pub fn cut(&self) {
        *lock(&self.shared.is_cut) = true;
    }

    /// Delivers what was held, in the order in which it was sent, and all that comes.
    pub fn mend(&self) {
        *lock(&self.shared.is_cut) = false;
        self.shared.mended.notify_waiters();
    }
}

impl Default for Link {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("delay", &*lock(&self.shared.delay))
            .field("is_cut", &*lock(&self.shared.is_cut))
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// A message is on its way.
    async fn pass(&self) {
        let delay = lock(&self.delay).draw(&self.random);
        if !delay.is_zero() {
            sleep(delay).await;
        }
        while *lock(&self.is_cut) {
            self.mended.notified().await;
        }
    }
}

impl<S> Layer<S> for Link {
    type Service = Linked<S>;

    fn layer(&self, inner: S) -> Linked<S> {
        let link = self.clone();
        Linked { inner, link }
    }
}

/// A service beyond a [`Link`].
///
/// Always ready itself: each request makes a clone of the inner service ready when it arrives.
#[derive(Clone, Debug)]
pub struct Linked<S> {
    inner: S,
    link: Link,
}

impl<S, Req> Service<Req> for Linked<S>
where
    S: Service<Req, Response: Send, Error: Send, Future: Send> + Clone + Send + 'static,
    S::Response: 'static,
    S::Error: 'static,
    Req: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = LinkedFuture<S::Response, S::Error>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: Req) -> Self::Future {
        let shared = StdArc::clone(&self.link.shared);
        let inner = self.inner.clone();
        let sent = self.link.carries_context.then(Sent::now);
        let task = tokio::spawn(async move {
            shared.pass().await;
            let context = sent.map_or_else(Context::new, Sent::received);
            let result = context.scope(Oneshot::new(inner, req)).await;
            shared.pass().await;
            result
        });
        let carries_hang_ups = self.link.carries_hang_ups;
        LinkedFuture {
            task,
            carries_hang_ups,
        }
    }
}

/// What goes with a request.
struct Sent {
    context: Context,
    left: Option<Duration>,
}

impl Sent {
    fn now() -> Self {
        let context = Context::current();
        let left = context.remaining();
        Self { context, left }
    }

    fn received(self) -> Context {
        let received = Context::new()
            .with_criticality(self.context.criticality())
            .with_inherited_attempt(self.context.outgoing_attempt());
        match self.left {
            Some(left) => received.with_timeout(left),
            None => received,
        }
    }
}

/// Response future of [`Linked`].
///
/// Dropping it stops nothing beyond the link, unless that [carries](Link::carrying_hang_ups) it.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct LinkedFuture<T, E> {
    task: JoinHandle<Result<T, E>>,
    carries_hang_ups: bool,
}

impl<T, E> Future for LinkedFuture<T, E> {
    type Output = Result<T, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.task).poll(cx).map(|ended| match ended {
            Ok(result) => result,
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        })
    }
}

impl<T, E> Drop for LinkedFuture<T, E> {
    fn drop(&mut self) {
        if self.carries_hang_ups {
            self.task.abort();
        }
    }
}
