//! The service that lets calls wait.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project::pin_project;
use tower::Service;

use super::{
    Mode,
    call::{Call, HeldPermit},
    sampled::{All, SampleIf},
    shared::{Pass, Shared},
};
use crate::{
    classify::{AnyError, Classify},
    error::{FromRejected, Rejected},
    oneshot::Oneshot,
    partitions::{Divide, PartOf, Whole, demand},
    permits::Demand,
    pooled::PooledArc,
    queue::{Entry, Wait},
    until::{Answered, Until},
    watched::Watched,
};

/// Lets calls wait while as many are in flight as the service can take, and refuses them while too many
/// wait.
///
/// Always ready itself: every call makes a clone of the inner service ready, once it holds its permit. How
/// long it waited is no part of its latency.
///
/// See the [module docs](super) for an example.
#[derive(Clone, Debug)]
pub struct QueuedAdaptive<S, C = AnyError, F = All, U = Answered, D = Whole> {
    inner: S,
    shared: PooledArc<Shared>,
    classifier: C,
    sampled: F,
    until: U,
    divided: D,
}

impl<S, C, F, U, D> QueuedAdaptive<S, C, F, U, D> {
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

impl<S, C, F, U, D, Req> Service<Req> for QueuedAdaptive<S, C, F, U, D>
where
    S: Service<Req> + Clone,
    S::Error: FromRejected,
    C: Classify<S::Response, S::Error> + Clone,
    F: SampleIf<Req>,
    U: Until<S::Response, C> + Clone,
    D: Divide<Req>,
{
    type Response = U::Response<HeldPermit<D::Part>>;
    type Error = S::Error;
    type Future = QueuedAdaptiveFuture<S, Req, C, U, D::Part>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        QueuedAdaptiveFuture {
            part: self.divided.part_of(&req),
            unmade: Some(Unmade {
                is_sampled: self.sampled.is_sampled(&req),
                service: self.inner.clone(),
                req,
                classifier: self.classifier.clone(),
                until: self.until.clone(),
            }),
            state: State::Asking(Some(self.shared.clone())),
        }
    }
}

/// Response future of [`QueuedAdaptive`].
///
/// Takes its permit, or its place in the queue, when it is first polled. Dropping it leaves the queue; or
/// gives the permit back, and is observed as a call that would have taken longer.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct QueuedAdaptiveFuture<S: Service<Req>, Req, C = AnyError, U = Answered, P: PartOf = Whole>
{
    part: P,
    /// Until it is known whether the call is made.
    unmade: Option<Unmade<S, Req, C, U>>,
    #[pin]
    state: State<S, Req, C, U, P>,
}

struct Unmade<S, Req, C, U> {
    is_sampled: bool,
    service: S,
    req: Req,
    classifier: C,
    until: U,
}

opaque_debug!(QueuedAdaptiveFuture<S, Req, C, U, P: PartOf>);

#[pin_project(project = StateProj)]
enum State<S: Service<Req>, Req, C, U, P: PartOf> {
    /// Empty only while it asks.
    Asking(Option<PooledArc<Shared>>),
    Waiting(Wait<PooledArc<Shared>>),
    /// It is known.
    Watched(#[pin] Watched<Oneshot<S, Req>, C, U, Call<P>, Rejected>),
}

/// What came of asking for a permit.
enum Asked {
    Passed(PooledArc<Shared>, Pass),
    Waits(Wait<PooledArc<Shared>>),
    Rejected(Rejected),
}

/// Only a layer that is enabled makes anybody wait.
#[inline]
fn ask(shared: PooledArc<Shared>, demand: Demand, cx: &Context<'_>) -> Asked {
    if shared.mode.get() != Mode::Enabled {
        // It may have been enabled just now: then the call asks as any other.
        if let Some(pass) = shared.admit(demand) {
            return Asked::Passed(shared, pass);
        }
    }
    match Wait::enter(shared, demand, cx.waker()) {
        Entry::Taken(shared) => Asked::Passed(shared, Pass::Admitted),
        Entry::Waiting(wait) => Asked::Waits(wait),
        Entry::Rejected(rejected) => Asked::Rejected(rejected),
    }
}

impl<S, Req, C, U, P> Future for QueuedAdaptiveFuture<S, Req, C, U, P>
where
    S: Service<Req>,
    S::Error: FromRejected,
    C: Classify<S::Response, S::Error>,
    U: Until<S::Response, C>,
    P: PartOf,
{
    type Output = Result<U::Response<HeldPermit<P>>, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let demand = demand(1, *this.part);
        loop {
            let asked = match this.state.as_mut().project() {
                StateProj::Asking(shared) => ask(shared.take().expect("asks once"), demand, cx),
                StateProj::Waiting(wait) => match ready!(wait.poll(cx, demand)) {
                    Ok(shared) => Asked::Passed(shared, Pass::Admitted),
                    Err(rejected) => Asked::Rejected(rejected),
                },
                StateProj::Watched(watched) => return watched.poll(cx),
            };
            let mut unmade = || this.unmade.take().expect("known once");
            // Each set where it is made, or it would be moved there.
            match asked {
                Asked::Waits(wait) => this.state.set(State::Waiting(wait)),
                Asked::Passed(shared, pass) => {
                    let call = unmade();
                    let held = Call::begin(shared, *this.part, pass, call.is_sampled);
                    let future = Oneshot::new(call.service, call.req);
                    let watched = Watched::admitted(future, held, call.classifier, call.until);
                    this.state.set(State::Watched(watched));
                }
                Asked::Rejected(rejected) => {
                    let watched = Watched::rejected(rejected, unmade().until);
                    this.state.set(State::Watched(watched));
                }
            }
        }
    }
}
