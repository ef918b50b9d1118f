//! What every layer owes to the service below it and to the caller above it: laws, to be run over a layer of
//! your own.
//!
//! The laws are about what a layer does when it *does nothing*: it lets a call pass, and what is found out
//! is whether readiness, wakers, results and what is held get through it unharmed. They are run over every layer
//! of this crate. [`obeys`] runs all of them; each is a function too, for a test of its own.
//!
//! A [`Scripted`] service stands below the layer. It does as its requests, [`Act`]s, say, panics where it is
//! called without having been made ready, and is [watched](Watch). A layer over requests or responses of a type
//! of its own goes between two `map_request`, or `map_response`, of tower.
//!
//! # Example
//!
//! ```
//! use std::{task::{Context, Poll}, time::Duration};
//! use steadfast::{sim::laws::{self, Readiness}, timeout::TimeoutLayer};
//! use tower::{Layer, Service, layer::layer_fn};
//!
//! laws::obeys(Readiness::Inner, || TimeoutLayer::new(Duration::from_secs(1)).unwrap());
//!
//! /// Calls a clone of the service that it has made ready, as is easily done.
//! #[derive(Clone)]
//! struct Careless<S>(S);
//!
//! impl<S: Service<Req> + Clone, Req> Service<Req> for Careless<S> {
//!     type Response = S::Response;
//!     type Error = S::Error;
//!     type Future = S::Future;
//!
//!     fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
//!         self.0.poll_ready(cx)
//!     }
//!
//!     fn call(&mut self, req: Req) -> S::Future {
//!         self.0.clone().call(req)
//!     }
//! }
//!
//! # std::panic::set_hook(Box::new(|_| ()));
//! let judged = std::panic::catch_unwind(|| laws::obeys(Readiness::Inner, || layer_fn(Careless)));
//! assert!(judged.is_err());
//! ```

mod scripted;
mod waker;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    task::{Context, Poll, Waker},
};

use tokio::sync::Notify;
use tower::{Layer, Service};

pub use scripted::{Act, Error, Scripted, ScriptedFuture, Told, Watch};
pub use waker::{CountingWaker, poll_once};

use super::run;
use crate::sync::StdArc;

/// What a layer's readiness says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Readiness {
    /// That the inner service is ready.
    Inner,
    /// Nothing: the layer waits for the inner service after it was called.
    Always,
}

/// A service that the laws can be run over. Implemented for all of its kind.
pub trait Lawful: Service<Act, Response = u32, Error = Error> + Clone {}

impl<S: Service<Act, Response = u32, Error = Error> + Clone> Lawful for S {}

/// Runs every law over a layer, which is made anew for each.
///
/// # Panics
///
/// If it does not obey one; and within a runtime of tokio's.
pub fn obeys<L>(readiness: Readiness, layer: impl Fn() -> L)
where
    L: Layer<Scripted, Service: Lawful>,
{
    readiness_is_told_as_it_is(readiness, &layer);
    only_a_readied_service_is_called(readiness, &layer);
    nothing_is_kept_of_a_call_that_ends(readiness, &layer);
    an_answered_call_holds_nothing(readiness, &layer);
    wakers_are_neither_lost_nor_wasted(readiness, &layer);
    errors_pass_unchanged(readiness, &layer);
}

#[allow(clippy::needless_pass_by_value, reason = "made for it")]
fn apply<L: Layer<Scripted>>(layer: L) -> (L::Service, Watch) {
    let (service, watch) = Scripted::new();
    (layer.layer(service), watch)
}

fn make_ready(service: &mut impl Lawful) {
    let ready = service.poll_ready(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(ready, Poll::Ready(Ok(()))));
}

/// Readiness is the inner service's, or is always there; and while the inner service is not ready, the
/// caller is woken when it is.
///
/// # Panics
///
/// If it is not so; and within a runtime of tokio's.
pub fn readiness_is_told_as_it_is<L>(readiness: Readiness, layer: impl FnOnce() -> L)
where
    L: Layer<Scripted, Service: Lawful>,
{
    run(1, async {
        let (mut service, watch) = apply(layer());
        let (counter, waker) = CountingWaker::new();
        watch.be_unready(1);
        let ready = service.poll_ready(&mut Context::from_waker(&waker));
        match readiness {
            Readiness::Inner => {
                assert!(ready.is_pending());
                assert_eq!(
                    counter.woken(),
                    1,
                    "the inner service's waker is the caller's"
                );
            }
            Readiness::Always => {
                assert!(ready.is_ready());
                let mut call = pin!(service.call(Act::Succeed));
                let mut cx = Context::from_waker(&waker);
                assert!(call.as_mut().poll(&mut cx).is_pending());
                assert_eq!(
                    counter.woken(),
                    1,
                    "the inner service's waker is the caller's"
                );
                assert_eq!(call.poll(&mut cx), Poll::Ready(Ok(1)));
            }
        }
    });
}

/// The service that was made ready is the one that is called, whatever its clones do. The inner service
/// panics where that is not so.
///
/// # Panics
///
/// If it is not so; and within a runtime of tokio's.
pub fn only_a_readied_service_is_called<L>(_: Readiness, layer: impl FnOnce() -> L)
where
    L: Layer<Scripted, Service: Lawful>,
{
    run(1, async {
        let (mut service, watch) = apply(layer());
        for calls in 1..=3 {
            make_ready(&mut service);
            let mut clone = service.clone();
            assert_eq!(
                poll_once(pin!(service.call(Act::Succeed))),
                Poll::Ready(Ok(1))
            );
            make_ready(&mut clone);
            assert_eq!(
                poll_once(pin!(clone.call(Act::Succeed))),
                Poll::Ready(Ok(1))
            );
            assert_eq!(watch.calls(), 2 * calls);
        }
    });
}

/// However a call ends, nothing of it is left: each way is gone through more often than any layer here
/// has room for calls.
///
/// # Panics
///
/// If it is not so; and within a runtime of tokio's.
pub fn nothing_is_kept_of_a_call_that_ends<L>(_: Readiness, layer: impl FnOnce() -> L)
where
    L: Layer<Scripted, Service: Lawful>,
{
    run(1, async {
        let (mut service, watch) = apply(layer());
        for _ in 0..20 {
            // Dropped before it is polled.
            make_ready(&mut service);
            drop(service.call(Act::Hang));
            assert_eq!(watch.in_flight(), 0);
            // Dropped while it waits.
            make_ready(&mut service);
            {
                let mut call = pin!(service.call(Act::Hang));
                assert!(poll_once(call.as_mut()).is_pending());
                assert_eq!(watch.in_flight(), 1);
            }
            assert_eq!(watch.in_flight(), 0);
            // Panics, in the future and in the call.
            for act in [Act::Panic, Act::PanicInCall] {
                make_ready(&mut service);
                let panicked = catch_unwind(AssertUnwindSafe(|| {
                    let _ = poll_once(pin!(service.call(act)));
                }));
                assert!(panicked.is_err(), "a panic is the caller's to see");
                assert_eq!(watch.in_flight(), 0);
            }
        }
        make_ready(&mut service);
        assert_eq!(
            poll_once(pin!(service.call(Act::Succeed))),
            Poll::Ready(Ok(1))
        );
    });
}

/// A call that has answered holds nothing, though its future is still there.
///
/// # Panics
///
/// If it is not so; and within a runtime of tokio's.
pub fn an_answered_call_holds_nothing<L>(_: Readiness, layer: impl FnOnce() -> L)
where
    L: Layer<Scripted, Service: Lawful>,
{
    run(1, async {
        let (mut service, watch) = apply(layer());
        let mut answered = Vec::new();
        for _ in 0..20 {
            make_ready(&mut service);
            let mut call = Box::pin(service.call(Act::Succeed));
            assert_eq!(poll_once(call.as_mut()), Poll::Ready(Ok(1)));
            answered.push(call);
        }
        assert_eq!(watch.in_flight(), 0);
    });
}

/// A pending call wakes whoever polled it last, when there is something to do, and not before.
///
/// # Panics
///
/// If it is not so; and within a runtime of tokio's.
pub fn wakers_are_neither_lost_nor_wasted<L>(_: Readiness, layer: impl FnOnce() -> L)
where
    L: Layer<Scripted, Service: Lawful>,
{
    run(1, async {
        let (mut service, _) = apply(layer());
        let notify = StdArc::new(Notify::new());
        make_ready(&mut service);
        let mut call = pin!(service.call(Act::Await(notify.clone())));

        let (first, waker) = CountingWaker::new();
        assert!(
            call.as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
        );
        let (second, waker) = CountingWaker::new();
        let mut cx = Context::from_waker(&waker);
        assert!(call.as_mut().poll(&mut cx).is_pending());
        tokio::task::yield_now().await;
        assert_eq!((first.woken(), second.woken()), (0, 0), "woken for nothing");

        notify.notify_one();
        assert_eq!((first.woken(), second.woken()), (0, 1));
        assert_eq!(call.poll(&mut cx), Poll::Ready(Ok(1)));
    });
}

/// The inner service's error comes back as it was.
///
/// # Panics
///
/// If it is not so; and within a runtime of tokio's.
pub fn errors_pass_unchanged<L>(_: Readiness, layer: impl FnOnce() -> L)
where
    L: Layer<Scripted, Service: Lawful>,
{
    run(1, async {
        let (mut service, _) = apply(layer());
        make_ready(&mut service);
        let result = poll_once(pin!(service.call(Act::Fail(42))));
        assert_eq!(result, Poll::Ready(Err(Error::Failed(42))));
    });
}
