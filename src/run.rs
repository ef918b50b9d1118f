//! The patterns without a service: around an `async` block, a function, or blocking code.
//!
//! A layer, or a stack of layers, is a policy. [`Run`] lets it guard whatever is at hand. What is run so
//! shares its state with the services that the same layer has made: one breaker, one bulkhead, one budget.
//!
//! | what is run | how often |
//! |---|---|
//! | [`run`](Run::run): a future | once, so not under a [retry](crate::retry) |
//! | [`run_fn`](Run::run_fn): a function that makes a future | as often as the policy likes |
//! | [`run_blocking`](Run::run_blocking): a function that blocks | as often as the policy likes |
//!
//! Errors are those of what is run, and so must be able to hold a [`Rejected`](crate::Rejected) where
//! the policy may refuse. With a [`LiftLayer`](crate::LiftLayer) innermost any error will do.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use steadfast::{
//!     LiftLayer, Run, backoff::Backoff, circuit_breaker::CircuitBreakerLayer, retry::RetryLayer,
//!     timeout::TimeoutLayer,
//! };
//! use tower::ServiceBuilder;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let breaker = CircuitBreakerLayer::builder().consecutive_failures(3).build()?;
//! let answer = breaker.run(async { Ok::<_, std::io::Error>(42) }).await?;
//! assert_eq!(answer, 42);
//!
//! // Several layers, outer to inner, and an error that knows nothing of refusals.
//! let policy = ServiceBuilder::new()
//!     .layer(RetryLayer::builder().backoff(Backoff::none()).build()?)
//!     .layer(breaker.clone())
//!     .layer(TimeoutLayer::new(Duration::from_millis(300))?)
//!     .layer(LiftLayer::new());
//! let tries = std::cell::Cell::new(0);
//! let answer = policy
//!     .run_fn(|| async {
//!         tries.set(tries.get() + 1);
//!         if tries.get() < 2 { Err("not yet") } else { Ok("there") }
//!     })
//!     .await;
//! assert_eq!((answer.unwrap(), tries.get()), ("there", 2));
//! # Ok(())
//! # }
//! ```

use std::{
    future::{Future, Ready, ready},
    pin::{Pin, pin},
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
};

use pin_project::pin_project;
use tower::{Layer, Service};

use crate::{oneshot::Oneshot, sync::ConstArc};

/// Runs code of any kind under a layer or a stack of layers. Implemented for all of them.
///
/// See the [module docs](self) for an example.
pub trait Run: Layer<Direct> {
    /// Runs `future`, once.
    ///
    /// Nothing happens, and no permit is taken, before the first poll. A future that is refused is
    /// dropped without being polled.
    fn run<F>(&self, future: F) -> Running<Self::Service, Given<F>>
    where
        Self::Service: Service<Given<F>>,
    {
        Running::new(self.layer(Direct), Given(future))
    }

    /// Runs the future that `make` makes, and for each further try another one.
    ///
    /// Under a [retry](crate::retry) the function must be [`Clone`], as all are that borrow what they
    /// use or own what is itself `Clone`.
    fn run_fn<G>(&self, make: G) -> Running<Self::Service, Made<G>>
    where
        Self::Service: Service<Made<G>>,
    {
        Running::new(self.layer(Direct), Made(make))
    }

    /// Runs `work`, which may block, on this thread, and blocks it too while the policy waits: for a
    /// permit, or before a further try. Not for async code, as nothing that blocks is; within tokio
    /// call it on [a thread for blocking work](tokio::task::spawn_blocking).
    ///
    /// What waits with a timer, as a retry does before a further try, needs to be within a runtime.
    /// Nothing can stop `work` once it runs, so a timeout has no effect on it.
    ///
    /// # Errors
    ///
    /// That of `work`, or what a layer refuses with.
    fn run_blocking<G, T, E>(&self, work: G) -> Result<T, E>
    where
        Self::Service: Service<Blocking<G>, Response = T, Error = E>,
    {
        block_on(Running::new(self.layer(Direct), Blocking(work)))
    }
}

impl<L: Layer<Direct>> Run for L {}

/// The service at the bottom of a policy: it runs what it is given, and is always ready.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Direct;

/// A future to be run, as a request to [`Direct`].
#[derive(Debug)]
pub struct Given<F>(F);

/// A function that makes futures to be run, as a request to [`Direct`].
#[derive(Clone, Debug)]
pub struct Made<G>(G);

/// A function to be run that may block, as a request to [`Direct`].
#[derive(Clone, Debug)]
pub struct Blocking<G>(G);

impl<F, T, E> Service<Given<F>> for Direct
where
    F: Future<Output = Result<T, E>>,
{
    type Response = T;
    type Error = E;
    type Future = F;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, Given(future): Given<F>) -> F {
        future
    }
}

impl<G, F, T, E> Service<Made<G>> for Direct
where
    G: FnOnce() -> F,
    F: Future<Output = Result<T, E>>,
{
    type Response = T;
    type Error = E;
    type Future = F;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, Made(make): Made<G>) -> F {
        make()
    }
}

impl<G, T, E> Service<Blocking<G>> for Direct
where
    G: FnOnce() -> Result<T, E>,
{
    type Response = T;
    type Error = E;
    type Future = Ready<Result<T, E>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, Blocking(work): Blocking<G>) -> Self::Future {
        ready(work())
    }
}

/// Code that runs under a policy; made by [`Run`].
///
/// Dropping it drops what runs, as dropping the future of any of the policy's services does.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct Running<S: Service<Req>, Req> {
    #[pin]
    call: Oneshot<S, Req>,
}

opaque_debug!(Running<S, Req>);

impl<S: Service<Req>, Req> Running<S, Req> {
    const fn new(service: S, req: Req) -> Self {
        let call = Oneshot::new(service, req);
        Self { call }
    }
}

impl<S: Service<Req>, Req> Future for Running<S, Req> {
    type Output = Result<S::Response, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().call.poll(cx)
    }
}

/// Wakes a thread that sleeps in [`block_on`].
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: ConstArc<Self>) {
        self.0.unpark();
    }
}

thread_local! {
    static UNPARK: Waker = ConstArc::new(Unpark(thread::current())).into();
}

/// Runs `future` on this thread, which sleeps while there is nothing to do.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = UNPARK.with(Waker::clone);
    let cx = &mut Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
