//! The bulkheads that refuse at once.

use std::{
    borrow::Borrow,
    future::Future,
    hash::Hash,
    pin::Pin,
    task::{Context, Poll},
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
    origin,
    pooled::PooledArc,
    sync::ConstArc,
    until::{Answered, Guard, Until},
};

/// Refuses calls while too many are in flight.
///
/// See the [module docs](super) for an example.
#[derive(Clone, Debug)]
pub struct Bulkhead<S, W = One, U = Answered> {
    inner: S,
    shared: PooledArc<Shared>,
    weight: W,
    until: U,
}

impl<S, W, U> Bulkhead<S, W, U> {
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

impl<S, W, U, Req> Service<Req> for Bulkhead<S, W, U>
where
    S: Service<Req>,
    S::Error: FromRejected,
    W: Weight<Req>,
    U: Until<S::Response> + Clone,
{
    type Response = U::Response<HeldPermit<W::Cost>>;
    type Error = S::Error;
    type Future = BulkheadFuture<S::Future, W::Cost, U>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        // No permit is taken here: a service that is ready but never called would keep it from those
        // that have work to do.
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        let cost = self.weight.weigh(&req);
        let until = self.until.clone();
        if self.shared.permits.try_take(demand(cost)) {
            let permit = Permit::taken(self.shared.clone(), cost);
            BulkheadFuture::admitted(permit, || self.inner.call(req), until)
        } else {
            // The inner service keeps the readiness it reported; the next call admitted uses it.
            let part = cost.partition();
            let rejected = self.shared.metrics.reject(part, Reason::BulkheadFull);
            BulkheadFuture::rejected(rejected, until)
        }
    }
}

/// Refuses calls while too many of the same key are in flight.
///
/// See the [module docs](super#keys) for an example.
#[derive(Clone, Debug)]
pub struct KeyedBulkhead<S, K, F, W = One, U = Answered> {
    inner: S,
    keys: ConstArc<Keys<K>>,
    key: F,
    weight: W,
    until: U,
}

impl<S, K, F, W, U> KeyedBulkhead<S, K, F, W, U> {
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

impl<S, K, F, W, U, Req> Service<Req> for KeyedBulkhead<S, K, F, W, U>
where
    S: Service<Req>,
    S::Error: FromRejected,
    K: Hash + Eq + Clone + Borrow<F::Borrowed>,
    F: Key<Req, Owned = K>,
    W: Weight<Req>,
    U: Until<S::Response> + Clone,
{
    type Response = U::Response<HeldKeyedPermit<W::Cost>>;
    type Error = S::Error;
    type Future = KeyedBulkheadFuture<S::Future, W::Cost, U>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        let cost = self.weight.weigh(&req);
        let of_key = self.key.with_key(&req, |key| self.keys.of(key));
        let state = match of_key {
            Some(of_key) if of_key.permits.try_take(cost.permits()) => {
                State::admitted(Permit::taken(of_key, cost), || self.inner.call(req))
            }
            _ => State::Rejected(self.keys.metrics.telemetry.reject(Reason::BulkheadFull)),
        };
        let until = self.until.clone();
        KeyedBulkheadFuture { state, until }
    }
}

/// Response future of [`Bulkhead`].
#[pin_project]
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct BulkheadFuture<F, C: Cost = One, U = Answered> {
    #[pin]
    state: State<F, PooledArc<Shared>, C>,
    until: U,
}

/// Response future of [`KeyedBulkhead`].
#[pin_project]
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct KeyedBulkheadFuture<F, C: Cost = One, U = Answered> {
    #[pin]
    state: State<F, Held<OfKey>, C>,
    until: U,
}

impl<F, C: Cost, U> BulkheadFuture<F, C, U> {
    #[inline]
    pub(super) fn admitted(
        permit: Permit<PooledArc<Shared>, C>,
        call: impl FnOnce() -> F,
        until: U,
    ) -> Self {
        let state = State::admitted(permit, call);
        Self { state, until }
    }

    pub(super) const fn rejected(rejected: Rejected, until: U) -> Self {
        let state = State::Rejected(rejected);
        Self { state, until }
    }
}

#[pin_project(project = StateProj, project_replace = StateOwned)]
#[derive(Debug)]
enum State<F, P: Source, C: Cost> {
    // In this order: the inner future is gone before its permits are given back.
    Admitted {
        #[pin]
        future: F,
        permit: Permit<P, C>,
    },
    Rejected(Rejected),
    Done,
}

impl<F, P: Source, C: Cost> State<F, P, C> {
    #[inline]
    fn admitted(mut permit: Permit<P, C>, call: impl FnOnce() -> F) -> Self {
        let future = call();
        permit.course.called();
        Self::Admitted { future, permit }
    }

    #[inline]
    fn poll<T, E, U, G>(
        mut self: Pin<&mut Self>,
        until: &U,
        cx: &mut Context<'_>,
    ) -> Poll<Result<U::Response<G>, E>>
    where
        F: Future<Output = Result<T, E>>,
        E: FromRejected,
        U: Until<T>,
        G: Guard + From<Permit<P, C>>,
    {
        let result = match self.as_mut().project() {
            StateProj::Admitted { future, permit } => {
                let Poll::Ready(result) = permit.course.watch(|| future.poll(cx)) else {
                    return Poll::Pending;
                };
                result
            }
            StateProj::Rejected(rejected) => Err(origin::reject(*rejected)),
            StateProj::Done => panic!("future of a bulkhead polled after completion"),
        };
        match result {
            Ok(response) if until.lasts(&response, &AnyError) => {
                let permit = self.take_permit().expect("it was admitted");
                Poll::Ready(Ok(until.hold(response, permit.into(), AnyError)))
            }
            result => {
                // Gives the permits back now, not when the caller drops this future.
                self.set(Self::Done);
                Poll::Ready(until.pass(result))
            }
        }
    }

    fn take_permit(self: Pin<&mut Self>) -> Option<Permit<P, C>> {
        match self.project_replace(Self::Done) {
            StateOwned::Admitted { permit, .. } => Some(permit),
            StateOwned::Rejected(_) | StateOwned::Done => None,
        }
    }
}

impl<F, C, U, T, E> Future for BulkheadFuture<F, C, U>
where
    F: Future<Output = Result<T, E>>,
    C: Cost,
    U: Until<T>,
    E: FromRejected,
{
    type Output = Result<U::Response<HeldPermit<C>>, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        this.state.poll(this.until, cx)
    }
}

impl<F, C, U, T, E> Future for KeyedBulkheadFuture<F, C, U>
where
    F: Future<Output = Result<T, E>>,
    C: Cost,
    U: Until<T>,
    E: FromRejected,
{
    type Output = Result<U::Response<HeldKeyedPermit<C>>, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        this.state.poll(this.until, cx)
    }
}
