//! The bulkheads that let calls wait.

use std::{
    borrow::Borrow,
    future::Future,
    hash::Hash,
    pin::Pin,
    task::{self, Poll, ready},
};

use pin_project::pin_project;
use tower::Service;

use super::{
    keyed::{Keys, OfKey},
    permit::{HeldKeyedPermit, HeldPermit, Permit},
    shared::{Shared, Source},
    weight::{Cost, One, Weight, demand},
};
use crate::{
    classify::AnyError,
    error::{FromRejected, Reason, Rejected},
    keyed::{Held, Key},
    oneshot::Oneshot,
    origin,
    pooled::PooledArc,
    queue::{Entry, Wait},
    sync::ConstArc,
    until::{Answered, Guard, Until},
};

/// Lets calls wait while too many are in flight, and refuses them while too many wait.
///
/// Always ready itself: every call makes a clone of the inner service ready, once it holds its permit.
///
/// See the [module docs](super) for an example.
#[derive(Clone, Debug)]
pub struct QueuedBulkhead<S, W = One, U = Answered> {
    inner: S,
    shared: PooledArc<Shared>,
    weight: W,
    until: U,
}

impl<S, W, U> QueuedBulkhead<S, W, U> {
    pub(super) const fn new(inner: S, shared: PooledArc<Shared>, weight: W, until: U) -> Self {
        Self {
            inner,
            shared,
            weight,
            until,
        }
    }

    inner_accessors!();
}

impl<S, W, U, Req> Service<Req> for QueuedBulkhead<S, W, U>
where
    S: Service<Req> + Clone,
    S::Error: FromRejected,
    W: Weight<Req>,
    U: Until<S::Response> + Clone,
{
    type Response = U::Response<HeldPermit<W::Cost>>;
    type Error = S::Error;
    type Future = QueuedBulkheadFuture<S, Req, W::Cost, U>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        let cost = self.weight.weigh(&req);
        let source = self.shared.clone();
        QueuedBulkheadFuture {
            call: Call::ask(self.inner.clone(), req, source, cost),
            until: self.until.clone(),
        }
    }
}

/// Lets calls wait while too many of the same key are in flight, and refuses them while too many wait.
///
/// Always ready itself: every call makes a clone of the inner service ready, once it holds its permit.
///
/// See the [module docs](super#keys) for an example.
#[derive(Clone, Debug)]
pub struct QueuedKeyedBulkhead<S, K, F, W = One, U = Answered> {
    inner: S,
    keys: ConstArc<Keys<K>>,
    key: F,
    weight: W,
    until: U,
}

impl<S, K, F, W, U> QueuedKeyedBulkhead<S, K, F, W, U> {
    pub(super) const fn new(
        inner: S,
        keys: ConstArc<Keys<K>>,
        key: F,
        weight: W,
        until: U,
    ) -> Self {
        Self {
            inner,
            keys,
            key,
            weight,
            until,
        }
    }

    inner_accessors!();
}

impl<S, K, F, W, U, Req> Service<Req> for QueuedKeyedBulkhead<S, K, F, W, U>
where
    S: Service<Req> + Clone,
    S::Error: FromRejected,
    K: Hash + Eq + Clone + Borrow<F::Borrowed>,
    F: Key<Req, Owned = K>,
    W: Weight<Req>,
    U: Until<S::Response> + Clone,
{
    type Response = U::Response<HeldKeyedPermit<W::Cost>>;
    type Error = S::Error;
    type Future = QueuedKeyedBulkheadFuture<S, Req, W::Cost, U>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        let cost = self.weight.weigh(&req);
        let of_key = self.key.with_key(&req, |key| self.keys.of(key));
        let call = match of_key {
            Some(of_key) => Call::ask(self.inner.clone(), req, of_key, cost),
            None => Call::refused(
                self.keys.metrics.telemetry.reject(Reason::BulkheadFull),
                cost,
            ),
        };
        let until = self.until.clone();
        QueuedKeyedBulkheadFuture { call, until }
    }
}

/// Response future of [`QueuedBulkhead`].
///
/// Takes its permit, or its place in the queue, when it is first polled. Dropping it leaves the queue,
/// or gives the permit back.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct QueuedBulkheadFuture<S: Service<Req>, Req, C: Cost = One, U = Answered> {
    #[pin]
    call: Call<S, Req, PooledArc<Shared>, C>,
    until: U,
}

opaque_debug!(QueuedBulkheadFuture<S, Req, C: Cost, U>);

/// Response future of [`QueuedKeyedBulkhead`].
///
/// Takes its permit, or its place in the queue, when it is first polled. Dropping it leaves the queue,
/// or gives the permit back. Its key is in use until then.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct QueuedKeyedBulkheadFuture<S: Service<Req>, Req, C: Cost = One, U = Answered> {
    #[pin]
    call: Call<S, Req, Held<OfKey>, C>,
    until: U,
}

opaque_debug!(QueuedKeyedBulkheadFuture<S, Req, C: Cost, U>);

#[pin_project]
struct Call<S: Service<Req>, Req, P: Source, C: Cost> {
    /// Until the permit is there.
    request: Option<(S, Req)>,
    cost: C,
    #[pin]
    state: State<S, Req, P, C>,
}

#[pin_project(project = StateProj, project_replace = StateOwned)]
enum State<S: Service<Req>, Req, P: Source, C: Cost> {
    /// Empty only while it asks.
    Asking(Option<P>),
    Waiting(Wait<P>),
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
    fn ask(inner: S, req: Req, source: P, cost: C) -> Self {
        Self {
            request: Some((inner, req)),
            cost,
            state: State::Asking(Some(source)),
        }
    }

    fn refused(rejected: Rejected, cost: C) -> Self {
        Self {
            request: None,
            cost,
            state: State::Rejected(rejected),
        }
    }
}

impl<S, Req, P, C> Call<S, Req, P, C>
where
    S: Service<Req>,
    S::Error: FromRejected,
    P: Source,
    C: Cost,
{
    #[inline]
    fn poll<U, G>(
        self: Pin<&mut Self>,
        until: &U,
        cx: &mut task::Context<'_>,
    ) -> Poll<Result<U::Response<G>, S::Error>>
    where
        U: Until<S::Response>,
        G: Guard + From<Permit<P, C>>,
    {
        let mut this = self.project();
        let outcome = loop {
            let next = match this.state.as_mut().project() {
                StateProj::Asking(source) => {
                    let source = source.take().expect("asks once");
                    match Wait::enter(source, demand(*this.cost), cx.waker()) {
                        Entry::Taken(source) => Ok(source),
                        Entry::Rejected(rejected) => Err(rejected),
                        Entry::Waiting(wait) => {
                            this.state.set(State::Waiting(wait));
                            continue;
                        }
                    }
                }
                StateProj::Waiting(wait) => ready!(wait.poll(cx, demand(*this.cost))),
                StateProj::Admitted { future, permit } => {
                    break ready!(permit.course.watch(|| future.poll(cx)));
                }
                StateProj::Rejected(rejected) => Err(*rejected),
                StateProj::Done => panic!("future of a bulkhead polled after completion"),
            };
            match next {
                Ok(source) => {
                    let permit = Permit::taken(source, *this.cost);
                    let (service, req) = this.request.take().expect("kept until admitted");
                    let future = Oneshot::new(service, req);
                    this.state.set(State::Admitted { future, permit });
                }
                Err(rejected) => break Err(origin::reject(rejected)),
            }
        };
        *this.request = None;
        match outcome {
            Ok(response) if until.lasts(&response, &AnyError) => {
                let permit = this.state.take_permit().expect("it was admitted");
                Poll::Ready(Ok(until.hold(response, permit.into(), AnyError)))
            }
            outcome => {
                // Gives the permit back, or leaves the queue, now and not when the caller drops this
                // future.
                this.state.set(State::Done);
                Poll::Ready(until.pass(outcome))
            }
        }
    }
}

impl<S: Service<Req>, Req, P: Source, C: Cost> State<S, Req, P, C> {
    fn take_permit(self: Pin<&mut Self>) -> Option<Permit<P, C>> {
        match self.project_replace(Self::Done) {
            StateOwned::Admitted { permit, .. } => Some(permit),
            _ => None,
        }
    }
}

impl<S, Req, C, U> Future for QueuedBulkheadFuture<S, Req, C, U>
where
    S: Service<Req>,
    S::Error: FromRejected,
    C: Cost,
    U: Until<S::Response>,
{
    type Output = Result<U::Response<HeldPermit<C>>, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        this.call.poll(this.until, cx)
    }
}

impl<S, Req, C, U> Future for QueuedKeyedBulkheadFuture<S, Req, C, U>
where
    S: Service<Req>,
    S::Error: FromRejected,
    C: Cost,
    U: Until<S::Response>,
{
    type Output = Result<U::Response<HeldKeyedPermit<C>>, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        this.call.poll(this.until, cx)
    }
}
