//! The service: finds the breaker of the key, asks it, then calls.

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
    super::{future::Watched, layer::Shared, service::run, unsettled::UnsettledKeyedCall},
    layer::Keys,
};
use crate::{
    classify::{AnyError, Classify},
    error::FromRejected,
    keyed::{Held, Key},
    sync::ConstArc,
    until::{Answered, Until},
};

/// Refuses calls of a key while those of the same key fail.
///
/// See the [module docs](super::super#keys) for an example.
#[derive(Clone, Debug)]
pub struct KeyedCircuitBreaker<S, K, F, C = AnyError, U = Answered> {
    inner: S,
    keys: ConstArc<Keys<K>>,
    key: F,
    classifier: C,
    until: U,
}

impl<S, K, F, C, U> KeyedCircuitBreaker<S, K, F, C, U> {
    pub(super) const fn new(
        inner: S,
        keys: ConstArc<Keys<K>>,
        key: F,
        classifier: C,
        until: U,
    ) -> Self {
        Self {
            inner,
            keys,
            key,
            classifier,
            until,
        }
    }

    inner_accessors!();
}

impl<S, K, F, C, U, Req> Service<Req> for KeyedCircuitBreaker<S, K, F, C, U>
where
    S: Service<Req>,
    S::Error: FromRejected,
    K: Hash + Eq + Clone + Borrow<F::Borrowed>,
    F: Key<Req, Owned = K>,
    C: Classify<S::Response, S::Error> + Clone,
    U: Until<S::Response, C> + Clone,
{
    type Response = U::Response<UnsettledKeyedCall>;
    type Error = S::Error;
    type Future = KeyedCircuitBreakerFuture<S::Future, C, U>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        let breaker = self.key.with_key(&req, |key| self.keys.of(key));
        let answer = breaker.machine.admit(&*breaker);
        let telemetry = &self.keys.around.telemetry;
        run(
            &mut self.inner,
            answer,
            || breaker,
            telemetry,
            (&self.classifier, &self.until),
            req,
            KeyedCircuitBreakerFuture,
        )
    }
}

/// Response future of [`KeyedCircuitBreaker`].
#[pin_project]
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct KeyedCircuitBreakerFuture<F, C, U = Answered>(#[pin] Watched<F, C, U, Held<Shared>>);

impl<F, C, U, T, E> Future for KeyedCircuitBreakerFuture<F, C, U>
where
    F: Future<Output = Result<T, E>>,
    E: FromRejected,
    C: Classify<T, E>,
    U: Until<T, C>,
{
    type Output = Result<U::Response<UnsettledKeyedCall>, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().0.poll(cx)
    }
}
