//! The service: asks whether the call passes, then calls.

use std::task::{Context, Poll};

use tower::Service;

use super::{
    Mode, Priorities, Prioritize,
    future::{Call, LoadShedFuture},
    held::HeldCall,
    shared::{Pass, Refused, Shared},
    unready::Unready,
};
use crate::{
    classify::AnyError,
    error::FromRejected,
    pooled::PooledArc,
    time::Timer,
    until::{Answered, Until},
    watched::Watched,
};

/// Refuses the least critical calls while the server is overloaded.
///
/// See the [module docs](super) for an example.
#[derive(Debug)]
pub struct LoadShed<S, P = Priorities, U = Answered> {
    inner: S,
    shared: PooledArc<Shared>,
    priorities: P,
    until: U,
    waiting: Waiting,
}

/// What the last look at the inner service's readiness came to.
#[derive(Debug, Default)]
struct Waiting {
    /// It has not been ready for too long, so the next call is refused.
    fails_fast: bool,
    /// Ends when it will have been.
    timer: Option<Timer>,
}

impl<S, P, U> LoadShed<S, P, U> {
    pub(super) fn new(inner: S, shared: PooledArc<Shared>, priorities: P, until: U) -> Self {
        Self {
            inner,
            shared,
            priorities,
            until,
            waiting: Waiting::default(),
        }
    }

    inner_accessors!();
}

impl<S: Clone, P: Clone, U: Clone> Clone for LoadShed<S, P, U> {
    /// A clone asks for readiness itself.
    fn clone(&self) -> Self {
        let (inner, shared) = (self.inner.clone(), self.shared.clone());
        Self::new(inner, shared, self.priorities.clone(), self.until.clone())
    }
}

impl<S, P, U> LoadShed<S, P, U> {
    /// Whether, and why, the call may not be made.
    #[inline]
    fn ask<Req>(&self, req: &Req) -> Result<Pass, Refused>
    where
        P: Prioritize<Req>,
    {
        let shared = &*self.shared;
        if self.waiting.fails_fast {
            return Err(shared.refuse_unready());
        }
        let mode = shared.mode.get();
        if mode == Mode::Disabled {
            return Ok(Pass::Unwatched);
        }
        let salt = || {
            if P::BY_USAGE {
                shared.seed()
            } else {
                shared.salt()
            }
        };
        match self.priorities.prioritize(req, salt) {
            Some((criticality, user)) => {
                let user = if P::BY_USAGE {
                    user.map(|user| shared.by_usage(user))
                } else {
                    user
                };
                shared.ask(mode, criticality, user)
            }
            None => Ok(Pass::Unwatched),
        }
    }
}

impl<S, P, U, Req> Service<Req> for LoadShed<S, P, U>
where
    S: Service<Req>,
    S::Error: FromRejected,
    P: Prioritize<Req>,
    U: Until<S::Response> + Clone,
{
    type Response = U::Response<HeldCall>;
    type Error = S::Error;
    type Future = LoadShedFuture<S::Future, U>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        let polled = self.inner.poll_ready(cx);
        let Some(unready) = &self.shared.unready else {
            return polled;
        };
        self.waiting.fails_fast = false;
        if polled.is_ready() {
            unready.is_ready();
            self.waiting.timer = None;
            return polled;
        }
        if self.shared.mode.get() != Mode::Enabled {
            return polled;
        }
        self.waiting.poll(unready, &self.shared, cx).map(Ok)
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        let until = self.until.clone();
        LoadShedFuture(match self.ask(&req) {
            Ok(pass) => {
                // Made before the call, so that a panic in it is accounted for.
                let call = Call::begin(self.shared.clone(), pass);
                Watched::admitted(self.inner.call(req), call, AnyError, until)
            }
            // The inner service keeps the readiness it reported, if it did; the next call let in uses it.
            Err(refused) => Watched::rejected(refused, until),
        })
    }
}

impl Waiting {
    /// The inner service is not ready. Ready when it has not been for too long.
    #[cold]
    fn poll(&mut self, unready: &Unready, shared: &Shared, cx: &mut Context<'_>) -> Poll<()> {
        let epoch = shared.epoch();
        loop {
            let Some(end) = unready.is_pending(epoch.nanos_now()) else {
                self.fails_fast = true;
                self.timer = None;
                return Poll::Ready(());
            };
            let end = epoch.instant_at(end);
            let timer = match &mut self.timer {
                Some(timer) if timer.end() == end => timer,
                timer => timer.insert(Timer::until(end)),
            };
            if timer.poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.timer = None;
        }
    }
}
