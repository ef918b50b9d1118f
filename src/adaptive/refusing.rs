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
    classify::{AnyError, Classify, judge},
    error::{FromRejected, Reason, Rejected},
    origin,
    pooled::PooledArc,
    until::{Answered, Until},
};

/// Refuses calls while as many are in flight as the service can take.
///
/// See the [module docs](super) for an example.
#[derive(Clone, Debug)]
pub struct Adaptive<S, C = AnyError, F = All, U = Answered> {
    inner: S,
    shared: PooledArc<Shared>,
    classifier: C,
    sampled: F,
    until: U,
}

impl<S, C, F, U> Adaptive<S, C, F, U> {
    pub(super) const fn new(
        inner: S,
        shared: PooledArc<Shared>,
        classifier: C,
        sampled: F,
        until: U,
    ) -> Self {
        Self {
            inner,
            shared,
            classifier,
            sampled,
            until,
        }
    }

    inner_accessors!();
}

impl<S, C, F, U, Req> Service<Req> for Adaptive<S, C, F, U>
where
    S: Service<Req>,
    S::Error: FromRejected,
    C: Classify<S::Response, S::Error> + Clone,
    F: SampleIf<Req>,
    U: Until<S::Response, C> + Clone,
{
    type Response = U::Response<HeldPermit>;
    type Error = S::Error;
    type Future = AdaptiveFuture<S::Future, C, U>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        // No permit is taken here: a service that is ready but never called would keep it from those
        // that have work to do.
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        let is_sampled = self.sampled.is_sampled(&req);
        let state = match self.shared.admit() {
            Some(pass) => {
                let mut call = Call::begin(self.shared.clone(), pass, is_sampled);
                let future = self.inner.call(req);
                call.called();
                let classifier = self.classifier.clone();
                State::Admitted {
                    future,
                    call,
                    classifier,
                }
            }
            // The inner service keeps the readiness it reported; the next call admitted uses it.
            None => State::Rejected(self.shared.metrics.telemetry.reject(Reason::LimitReached)),
        };
        let until = self.until.clone();
        AdaptiveFuture { state, until }
    }
}

/// Response future of [`Adaptive`].
///
/// Dropping it gives the permit back, and is observed as a call that would have taken longer.
#[pin_project]
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct AdaptiveFuture<F, C, U = Answered> {
    #[pin]
    state: State<F, C>,
    until: U,
}

#[pin_project(project = StateProj, project_replace = StateOwned)]
#[derive(Debug)]
enum State<F, C> {
    // In this order: the inner future is gone before its permit is given back.
    Admitted {
        #[pin]
        future: F,
        call: Call,
        classifier: C,
    },
    Rejected(Rejected),
    Done,
}

impl<F, C, U, T, E> Future for AdaptiveFuture<F, C, U>
where
    F: Future<Output = Result<T, E>>,
    E: FromRejected,
    C: Classify<T, E>,
    U: Until<T, C>,
{
    type Output = Result<U::Response<HeldPermit>, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let (mut state, until) = (this.state, this.until);
        let result = match state.as_mut().project() {
            StateProj::Admitted {
                future,
                call,
                classifier,
            } => {
                origin::clear();
                let Poll::Ready(result) = call.watch(|| future.poll(cx)) else {
                    return Poll::Pending;
                };
                let judgement = judge(classifier, &result);
                match result {
                    Ok(response)
                        if judgement.is_success() && until.lasts(&response, classifier) =>
                    {
                        let (call, classifier) = state.take_call().expect("it was admitted");
                        return Poll::Ready(Ok(until.hold(response, call.answered(), classifier)));
                    }
                    result => {
                        call.settle(judgement);
                        result
                    }
                }
            }
            StateProj::Rejected(rejected) => Err(origin::reject(*rejected)),
            StateProj::Done => panic!("`AdaptiveFuture` polled after completion"),
        };
        // Drops the inner future, and then gives the permit back.
        state.set(State::Done);
        Poll::Ready(until.pass(result))
    }
}

impl<F, C> State<F, C> {
    fn take_call(self: Pin<&mut Self>) -> Option<(Call, C)> {
        match self.project_replace(Self::Done) {
            StateOwned::Admitted {
                call, classifier, ..
            } => Some((call, classifier)),
            StateOwned::Rejected(_) | StateOwned::Done => None,
        }
    }
}
