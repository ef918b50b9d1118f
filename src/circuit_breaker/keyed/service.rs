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
    super::{future::Watched, layer::Shared, service::run},
    layer::Keys,
};
use crate::{
    classify::{AnyError, Classify},
    error::FromRejected,
    keyed::{Held, Key},
    sync::ConstArc,
};

/// Refuses calls of a key while those of the same key fail.
///
/// See the [module docs](super::super#keys) for an example.
#[derive(Debug)]
pub struct KeyedCircuitBreaker<S, K, F, C = AnyError> {
    inner: S,
    keys: ConstArc<Keys<K>>,
    key: F,
    classifier: C,
}

impl<S, K, F, C> KeyedCircuitBreaker<S, K, F, C> {
    pub(super) const fn new(inner: S, keys: ConstArc<Keys<K>>, key: F, classifier: C) -> Self {
        Self {
            inner,
            keys,
            key,
            classifier,
        }
    }

    inner_accessors!();
}

impl<S: Clone, K, F: Clone, C: Clone> Clone for KeyedCircuitBreaker<S, K, F, C> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            keys: self.keys.clone(),
            key: self.key.clone(),
            classifier: self.classifier.clone(),
        }
    }
}

impl<S, K, F, C, Req> Service<Req> for KeyedCircuitBreaker<S, K, F, C>
where
    S: Service<Req>,
    S::Error: FromRejected,
    K: Hash + Eq + Clone + Borrow<F::Borrowed>,
    F: Key<Req, Owned = K>,
    C: Classify<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = KeyedCircuitBreakerFuture<S::Future, C>;

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
            &self.classifier,
            req,
            KeyedCircuitBreakerFuture,
        )
    }
}

/// Response future of [`KeyedCircuitBreaker`].
#[pin_project]
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct KeyedCircuitBreakerFuture<F, C>(#[pin] Watched<F, C, Held<Shared>>);

impl<F, C, T, E> Future for KeyedCircuitBreakerFuture<F, C>
where
    F: Future<Output = Result<T, E>>,
    E: FromRejected,
    C: Classify<T, E>,
{
    type Output = Result<T, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().0.poll(cx)
    }
}
