//! Finds how many calls a service can take at once, and refuses the rest.
//!
//! A fixed limit is right until the service, its hosts or its dependencies change. An [`Adaptive`] one is
//! found from what calls tell: how long they take, and how many the service drops. It refuses at once,
//! with [`Reason::LimitReached`](crate::Reason::LimitReached). A [`QueuedAdaptive`] one lets calls wait, in a
//! [`Queue`](crate::queue::Queue) of bounded length.
//!
//! **Algorithm and admission are apart.** A [`Limit`] is handed a [`Sample`] and says the next limit; it is
//! pure, and one of your own is a few lines. All else is the layer's: it never lets more calls be in flight
//! than the limit, under any interleaving, and keeps the limit within its bounds.
//!
//! **What a call tells.** The [classifier](AdaptiveBuilder::classifier) judges it. A call that is answered
//! tells how long it took. One that is refused as overload, or not answered in time, is a drop: because
//! the service says so, because a [timeout](crate::timeout) of this crate stopped waiting, or because it
//! was dropped when the deadline of its [`Context`](crate::Context) had passed. One that is dropped before,
//! or fails, or panics, would have taken longer than it did, which is what it counts as: it does not pull
//! the latency down. What a layer below refused tells nothing.
//!
//! **What is not used to judge a limit.** Calls that began before it last changed, by a tenth or more or for a
//! drop: they tell of the limit before. So there is at most one decrease in a round trip, however many
//! calls are dropped in it.
//!
//! **Where a permit is held.** As in a [bulkhead](crate::bulkhead): a call takes it in
//! [`call`](tower::Service::call), not in `poll_ready`, and gives it back when it ends, fails, panics or
//! is dropped, or [until](AdaptiveBuilder::until) the end of a body.
//!
//! **Partitions.** The limit may be divided into [shares](crate::partitions), lent to the others while they are
//! idle.
//!
//! **Back-pressure.** In [another form](AdaptiveLayer::back_pressure) readiness is the reservation: what takes
//! its requests from a queue then takes as much as the service can do.
//!
//! **Modes.** A layer may do as its algorithm says, only observe what it would refuse, or be disabled; see
//! [`Mode`]. A [handle](AdaptiveHandle) sets mode, limit and bounds while calls run.
//!
//! # Algorithms
//!
//! | algorithm | goes by |
//! |---|---|
//! | [`Knee`], the default | how many calls wait in the service, by Little's law; drops |
//! | [`Aimd`] | drops |
//! | [`Vegas`] | how many calls queue, by the latency over the shortest |
//! | [`Gradient`] | the shortest latency over the present one |
//! | [`Gradient2`] | a long average of the latency over the present one |
//! | [`EnvoyGradient`] | a latency that is measured from time to time, over the present one |
//! | [`LittlesLaw`] | a latency to aim at, and the throughput |
//! | [`Bbr`] | the greatest throughput times the least latency, while under load |
//! | [`Correlated`] | what more calls in flight get done, before another algorithm |
//!
//! Each has its source and its known weakness in its docs. The originals of the first four are told of answered
//! calls only; here they are also told of such as were cut short, and raise no limit by them alone.
//!
//! # Cost
//!
//! A call reads the clock at both ends, and writes shared memory thrice: to take its permit, to give it
//! back, and to be counted. One call in a window also runs the algorithm, for which nobody waits. A refusal
//! reads no clock, and writes no more than that it was one.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use steadfast::{
//!     Reason, Rejected, Verdict, adaptive::{AdaptiveLayer, Aimd}, classify::Failure,
//! };
//! use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! // Two at a time is all that it can take.
//! let busy = std::sync::Arc::new(tokio::sync::Semaphore::new(2));
//! let service = service_fn(move |()| {
//!     let busy = busy.clone();
//!     async move {
//!         let _served = busy.try_acquire()?;
//!         tokio::time::sleep(Duration::from_millis(10)).await;
//!         Ok::<_, BoxError>(())
//!     }
//! });
//! let overload = |result: Result<&(), &BoxError>| match result {
//!     Ok(()) => Verdict::Success,
//!     Err(_) => Failure::overload().into(),
//! };
//! let layer = AdaptiveLayer::builder().algorithm(Aimd::default())
//!     .name("users-db")
//!     .initial_limit(8)
//!     .classifier(overload)
//!     .build()?;
//! let mut svc = layer.layer(service);
//!
//! // Eight callers, round after round: the limit falls until the service keeps up.
//! for round in 0..20 {
//!     let mut calls = Vec::new();
//!     for _ in 0..8 {
//!         calls.push(svc.ready().await?.call(()));
//!     }
//!     futures_util::future::join_all(calls).await;
//! }
//! assert!(layer.handle().limit() <= 3);
//! # Ok(())
//! # }
//! ```

mod aimd;
#[cfg(all(test, not(steadfast_loom)))]
mod algorithm_tests;
mod back_pressure;
mod bbr;
mod builder;
mod call;
mod correlated;
mod envoy;
mod gradient;
mod gradient2;
mod handle;
mod jitter;
mod knee;
#[cfg(all(test, not(steadfast_loom)))]
mod knee_tests;
mod layer;
mod limit;
mod limiter;
#[cfg(all(test, not(steadfast_loom)))]
mod limiter_tests;
mod little;
#[cfg(all(test, steadfast_loom))]
mod loom_tests;
mod numbers;
mod queued;
mod refusing;
mod sampled;
mod sampling;
mod shared;
mod standing;
mod vegas;

pub use crate::mode::Mode;
pub use aimd::Aimd;
pub use back_pressure::{BackPressureAdaptive, BackPressureAdaptiveLayer};
pub use bbr::Bbr;
pub use builder::AdaptiveBuilder;
pub use call::HeldPermit;
pub use correlated::Correlated;
pub use envoy::EnvoyGradient;
pub use gradient::Gradient;
pub use gradient2::Gradient2;
pub use handle::{AdaptiveHandle, AdaptiveSnapshot};
pub use knee::Knee;
pub use layer::{AdaptiveLayer, QueuedAdaptiveLayer};
pub use limit::{Limit, Sample};
pub use little::LittlesLaw;
pub use queued::{QueuedAdaptive, QueuedAdaptiveFuture};
pub use refusing::{Adaptive, AdaptiveFuture};
pub use sampled::{All, SampleIf};
pub use sampling::{Sampling, Windows};
pub use vegas::Vegas;
