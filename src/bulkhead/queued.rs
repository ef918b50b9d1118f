//! The bulkheads that let calls wait.

use std::{
    borrow::Borrow,
    future::Future,
    hash::Hash,
    pin::Pin,
    task::{self, Poll, ready},
    time::Duration,
};

use pin_project::pin_project;
use tower::Service;

use super::{
    keyed::{Keys, OfKey},
    permit::{Entry, Permit, Wait},
    shared::{Shared, Source},
    weight::{Cost, One, Weight},
};
use crate::{
    context::Context,
    error::{FromRejected, Reason, Rejected},
    keyed::{Held, Key},
    oneshot::Oneshot,
    origin,
    permits::Doomed,
    pooled::PooledArc,
    sync::ConstArc,
    time::{self, Timer},
};

/// Lets calls wait while too many are in flight, and refuses them while too many wait.
///
/// Always ready itself: every call makes a clone of the inner service ready, once it holds its permit.
///
/// See the [module docs](super) for an example.
#[derive(Clone, Debug)]
pub struct QueuedBulkhead<S, W = One> {
    inner: S,
    shared: PooledArc<Shared>,
    max_wait: Duration,
    weight: W,
}

impl<S, W> QueuedBulkhead<S, W> {
    pub(super) const fn new(
        inner: S,
        shared: PooledArc<Shared>,
        max_wait: Duration,
        weight: W,
    ) -> Self {
        Self {
            inner,
            shared,
            max_wait,
            weight,
        }
    }

    inner_accessors!();
}

impl<S, W, Req> Service<Req> for QueuedBulkhead<S, W>
where
    S: Service<Req> + Clone,
    S::Error: FromRejected,
    W: Weight<Req>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = QueuedBulkheadFuture<S, Req, W::Cost>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        let cost = self.weight.weigh(&req);
        let source = self.shared.clone();
        QueuedBulkheadFuture {
            call: Call::ask(self.inner.clone(), req, source, cost, self.max_wait),
        }
    }
}

/// Lets calls wait while too many of the same key are in flight, and refuses them while too many wait.
///
/// Always ready itself: every call makes a clone of the inner service ready, once it holds its permit.
///
/// See the [module docs](super#keys) for an example.
#[derive(Debug)]
pub struct QueuedKeyedBulkhead<S, K, F, W = One> {
    inner: S,
    keys: ConstArc<Keys<K>>,
    key: F,
    weight: W,
    max_wait: Duration,
}

impl<S, K, F, W> QueuedKeyedBulkhead<S, K, F, W> {
    pub(super) const fn new(
        inner: S,
        keys: ConstArc<Keys<K>>,
        key: F,
        weight: W,
        max_wait: Duration,
    ) -> Self {
        Self {
            inner,
            keys,
            key,
            weight,
            max_wait,
        }
    }

    inner_accessors!();
}

impl<S: Clone, K, F: Clone, W: Clone> Clone for QueuedKeyedBulkhead<S, K, F, W> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            keys: self.keys.clone(),
            key: self.key.clone(),
            weight: self.weight.clone(),
            max_wait: self.max_wait,
        }
    }
}

impl<S, K, F, W, Req> Service<Req> for QueuedKeyedBulkhead<S, K, F, W>
where
    S: Service<Req> + Clone,
    S::Error: FromRejected,
    K: Hash + Eq + Clone + Borrow<F::Borrowed>,
    F: Key<Req, Owned = K>,
    W: Weight<Req>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = QueuedKeyedBulkheadFuture<S, Req, W::Cost>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        let cost = self.weight.weigh(&req);
        let of_key = self.key.with_key(&req, |key| self.keys.of(key));
        let call = match of_key {
            Some(of_key) => Call::ask(self.inner.clone(), req, of_key, cost, self.max_wait),
            None => Call::refused(self.keys.metrics.reject(Reason::BulkheadFull), cost),
        };
        QueuedKeyedBulkheadFuture { call }
    }
}

/// Response future of [`QueuedBulkhead`].
///
/// Takes its permit, or its place in the queue, when it is first polled. Dropping it leaves the queue,
/// or gives the permit back.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct QueuedBulkheadFuture<S: Service<Req>, Req, C: Cost = One> {
    #[pin]
    call: Call<S, Req, PooledArc<Shared>, C>,
}

opaque_debug!(QueuedBulkheadFuture<S, Req, C: Cost>);

/// Response future of [`QueuedKeyedBulkhead`].
///
/// Takes its permit, or its place in the queue, when it is first polled. Dropping it leaves the queue,
/// or gives the permit back. Its key is in use until then.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct QueuedKeyedBulkheadFuture<S: Service<Req>, Req, C: Cost = One> {
    #[pin]
    call: Call<S, Req, Held<OfKey>, C>,
}

opaque_debug!(QueuedKeyedBulkheadFuture<S, Req, C: Cost>);

#[pin_project]
struct Call<S: Service<Req>, Req, P: Source, C: Cost> {
    /// Until the permit is there.
    request: Option<(S, Req)>,
    max_wait: Duration,
    cost: C,
    #[pin]
    state: State<S, Req, P, C>,
}

#[pin_project(project = StateProj)]
enum State<S: Service<Req>, Req, P: Source, C: Cost> {
    /// Empty only while it asks.
    Asking(Option<P>),
    Waiting {
        wait: Wait<P, C>,
        /// Why the call is refused when the timer fires, if there is to be one.
        timer: Option<Timer>,
        reason: Reason,
    },
    // In this order: the inner future is gone before its permit is given back.
    Admitted {
        #[pin]
        future: Oneshot<S, Req>,
        permit: Permit<P, C>,
    },
    Rejected(Rejected),
    Done,
}

impl<S: Service<Req>, Req, P: Source, C: Cost> Call<S, Req, P, C> {
    fn ask(inner: S, req: Req, source: P, cost: C, max_wait: Duration) -> Self {
        Self {
            request: Some((inner, req)),
            max_wait,
            cost,
            state: State::Asking(Some(source)),
        }
    }

    fn refused(rejected: Rejected, cost: C) -> Self {
        Self {
            request: None,
            max_wait: Duration::ZERO,
            cost,
            state: State::Rejected(rejected),
        }
    }
}

impl<S, Req, P, C> Future for Call<S, Req, P, C>
where
    S: Service<Req>,
    S::Error: FromRejected,
    P: Source,
    C: Cost,
{
    type Output = Result<S::Response, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let outcome = loop {
            let next = match this.state.as_mut().project() {
                StateProj::Asking(source) => {
                    let source = source.take().expect("asks once");
                    match Wait::enter(source, *this.cost, cx.waker()) {
                        Entry::Admitted(permit) => Ok(permit),
                        Entry::Full(source) => Err(source.metrics().reject(Reason::BulkheadFull)),
                        Entry::Waiting(wait) => {
                            let (timer, reason) = timer(*this.max_wait);
                            this.state.set(State::Waiting {
                                wait,
                                timer,
                                reason,
                            });
                            continue;
                        }
                    }
                }
                StateProj::Waiting {
                    wait,
                    timer,
                    reason,
                } => match wait.poll(cx) {
                    Poll::Ready(Ok(permit)) => {
                        if let Some(timer) = timer.take() {
                            timer.recycle();
                        }
                        Ok(permit)
                    }
                    Poll::Ready(Err(Doomed)) => {
                        Err(wait.source().metrics().reject(Reason::BulkheadFull))
                    }
                    Poll::Pending => {
                        // With no timer the wait ends with a permit only.
                        let Some(timer) = timer else {
                            return Poll::Pending;
                        };
                        ready!(timer.poll(cx));
                        Err(wait.source().metrics().reject(*reason))
                    }
                },
                StateProj::Admitted { future, permit } => {
                    break ready!(permit.course.watch(|| future.poll(cx)));
                }
                StateProj::Rejected(rejected) => Err(*rejected),
                StateProj::Done => panic!("future of a bulkhead polled after completion"),
            };
            match next {
                Ok(permit) => {
                    let (service, req) = this.request.take().expect("kept until admitted");
                    let future = Oneshot::new(service, req);
                    this.state.set(State::Admitted { future, permit });
                }
                Err(rejected) => break Err(origin::reject(rejected)),
            }
        };
        // Gives the permit back, or leaves the queue, now and not when the caller drops this future.
        this.state.set(State::Done);
        *this.request = None;
        Poll::Ready(outcome)
    }
}

impl<S, Req, C> Future for QueuedBulkheadFuture<S, Req, C>
where
    S: Service<Req>,
    S::Error: FromRejected,
    C: Cost,
{
    type Output = Result<S::Response, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        self.project().call.poll(cx)
    }
}

impl<S, Req, C> Future for QueuedKeyedBulkheadFuture<S, Req, C>
where
    S: Service<Req>,
    S::Error: FromRejected,
    C: Cost,
{
    type Output = Result<S::Response, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        self.project().call.poll(cx)
    }
}

/// When the wait is over, and why: the bound of the queue or the deadline, whichever comes first.
fn timer(max_wait: Duration) -> (Option<Timer>, Reason) {
    let bound = time::now().checked_add(max_wait);
    let deadline = Context::current().deadline();
    let (end, reason) = match (bound, deadline) {
        (Some(bound), Some(deadline)) if deadline < bound => {
            (Some(deadline), Reason::DeadlineExceeded)
        }
        (None, Some(deadline)) => (Some(deadline), Reason::DeadlineExceeded),
        (bound, _) => (bound, Reason::QueueTimeout),
    };
    (end.map(Timer::until), reason)
}
