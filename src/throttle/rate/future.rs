//! The future.

use std::{
    future::Future,
    ops::Deref,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project::pin_project;
use tower::Service;

use super::{
    call::{Call, UntoldCall},
    shared::{Answer, Shared},
    wait::Wait,
};
use crate::{
    classify::Classify,
    error::{FromRejected, Rejected},
    oneshot::Oneshot,
    pooled::PooledArc,
    until::{Answered, Guard, Until},
    watched::Watched,
};

/// Response future of [`AdaptiveRate`](super::AdaptiveRate).
///
/// Takes its turn when it is first polled. Dropping it before the turn has come gives it back: who comes
/// next comes earlier.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct AdaptiveRateFuture<S: Service<Req>, Req, C, U = Answered>(
    #[pin] pub(super) Timed<S, Req, C, U, PooledArc<Shared>>,
);

opaque_debug!(AdaptiveRateFuture<S, Req, C, U>);

/// A call that is made when its turn comes. `P` is its hold on the rate.
#[pin_project]
pub(super) struct Timed<S: Service<Req>, Req, C, U, P: Deref<Target = Shared>> {
    /// Until it is known whether the call is made.
    unmade: Option<Unmade<S, Req, C, U>>,
    #[pin]
    state: State<S, Req, C, U, P>,
}

struct Unmade<S, Req, C, U> {
    service: S,
    req: Req,
    classifier: C,
    until: U,
}

#[pin_project(project = StateProj)]
enum State<S: Service<Req>, Req, C, U, P: Deref<Target = Shared>> {
    /// Empty only while it asks.
    Asking(Option<P>),
    Waiting(Wait<P>),
    /// It is known.
    Watched(#[pin] Watched<Oneshot<S, Req>, C, U, Call<P>, Rejected>),
}

impl<S: Service<Req>, Req, C, U, P: Deref<Target = Shared>> Timed<S, Req, C, U, P> {
    #[inline]
    pub(super) fn new(service: S, req: Req, (classifier, until): (C, U), rate: P) -> Self {
        let unmade = Unmade {
            service,
            req,
            classifier,
            until,
        };
        Self {
            unmade: Some(unmade),
            state: State::Asking(Some(rate)),
        }
    }
}

impl<S, Req, C, U, P> Timed<S, Req, C, U, P>
where
    S: Service<Req>,
    S::Error: FromRejected,
    C: Classify<S::Response, S::Error>,
    U: Until<S::Response, C>,
    P: Deref<Target = Shared>,
{
    #[inline]
    pub(super) fn poll<G>(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<U::Response<G>, S::Error>>
    where
        G: Guard + From<Call<P>>,
    {
        let mut this = self.project();
        loop {
            let known = match this.state.as_mut().project() {
                StateProj::Asking(rate) => {
                    let rate = rate.take().expect("asks once");
                    match rate.ask() {
                        Answer::Passes(pass) => Ok((rate, pass)),
                        Answer::Refused(rejected) => Err(rejected),
                        Answer::Waits(phase, turn) => {
                            let wait = Wait::begin(rate, phase, turn);
                            this.state.set(State::Waiting(wait));
                            continue;
                        }
                    }
                }
                StateProj::Waiting(wait) => ready!(wait.poll(cx)),
                StateProj::Watched(watched) => return watched.poll(cx),
            };
            let Unmade {
                service,
                req,
                classifier,
                until,
            } = this.unmade.take().expect("known once");
            let watched = match known {
                Ok((rate, pass)) => {
                    let call = Call::begin(rate, pass);
                    Watched::admitted(Oneshot::new(service, req), call, classifier, until)
                }
                Err(rejected) => Watched::rejected(rejected, until),
            };
            this.state.set(State::Watched(watched));
        }
    }
}

impl<S, Req, C, U> Future for AdaptiveRateFuture<S, Req, C, U>
where
    S: Service<Req>,
    S::Error: FromRejected,
    C: Classify<S::Response, S::Error>,
    U: Until<S::Response, C>,
{
    type Output = Result<U::Response<UntoldCall>, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().0.poll(cx)
    }
}
