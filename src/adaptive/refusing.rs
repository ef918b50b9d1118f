//! The service that refuses at once.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project::pin_project;
use tower::Service;

use super::{
    call::{Call, HeldPermit},
    sampled::{All, SampleIf},
    shared::Shared,
};
use crate::{
    classify::{AnyError, Classify},
    error::{FromRejected, Reason, Rejected},
    partitions::{Divide, PartOf, Whole, demand},
    pooled::PooledArc,
    until::{Answered, Until},
    watched::Watched,
};

/// Refuses calls while as many are in flight as the service can take.
///
/// See the [module docs](super) for an example.
#[derive(Clone, Debug)]
pub struct Adaptive<S, C = AnyError, F = All, U = Answered, D = Whole> {
    inner: S,
    shared: PooledArc<Shared>,
    classifier: C,
    sampled: F,
    until: U,
    divided: D,
}

impl<S, C, F, U, D> Adaptive<S, C, F, U, D> {
    pub(super) const fn new(
        inner: S,
        shared: PooledArc<Shared>,
        classifier: C,
        sampled: F,
        until: U,
        divided: D,
    ) -> Self {
        Self {
            inner,
            shared,
            classifier,
            sampled,
            until,
            divided,
        }
    }

    inner_accessors!();
}

impl<S, C, F, U, D, Req> Service<Req> for Adaptive<S, C, F, U, D>
where
    S: Service<Req>,
    S::Error: FromRejected,
    C: Classify<S::Response, S::Error> + Clone,
    F: SampleIf<Req>,
    U: Until<S::Response, C> + Clone,
    D: Divide<Req>,
{
    type Response = U::Response<HeldPermit<D::Part>>;
    type Error = S::Error;
    type Future = AdaptiveFuture<S::Future, C, U, D::Part>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        // No permit is taken here: a service that is ready but never called would keep it from those
        // that have work to do.
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        let is_sampled = self.sampled.is_sampled(&req);
        let part = self.divided.part_of(&req);
        let until = self.until.clone();
        AdaptiveFuture(match self.shared.admit(demand(1, part)) {
            Some(pass) => {
                // Made before the call, so that a panic in it is accounted for.
                let call = Call::begin(self.shared.clone(), part, pass, is_sampled);
                let future = self.inner.call(req);
                Watched::admitted(future, call, self.classifier.clone(), until)
            }
            // The inner service keeps the readiness it reported; the next call admitted uses it.
            None => Watched::rejected(
                (self.shared.metrics).reject(part.number(), Reason::LimitReached),
                until,
            ),
        })
    }
}

/// Response future of [`Adaptive`].
///
/// Dropping it gives the permit back, and is observed as a call that would have taken longer.
#[pin_project]
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct AdaptiveFuture<F, C, U = Answered, P: PartOf = Whole>(
    #[pin] pub(super) Watched<F, C, U, Call<P>, Rejected>,
);

impl<F, C, U, P, T, E> Future for AdaptiveFuture<F, C, U, P>
where
    F: Future<Output = Result<T, E>>,
    E: FromRejected,
    C: Classify<T, E>,
    U: Until<T, C>,
    P: PartOf,
{
    type Output = Result<U::Response<HeldPermit<P>>, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().0.poll(cx)
    }
}
