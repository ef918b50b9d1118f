//! Refuses the least critical calls while the server is overloaded, and of those just enough.
//!
//! A server that is offered more than it can do answers everything late, and at the end nothing in time. A
//! [`LoadShed`] at its door refuses what is beyond, at once, with
//! [`Reason::Overloaded`](crate::Reason::Overloaded) and a time to come back: 503 with `Retry-After`, or
//! `UNAVAILABLE` with pushback, at an edge that [answers refusals](crate::http::AnswerRefusalsLayer).
//!
//! **When.** While the load is above what it is to be. The [signals](LoadShedBuilder) are calls in flight, a
//! queueing delay, the lag of the runtime, the use of the processors, and a gauge of your own; the one that is
//! loaded the most decides. They are looked at at an interval, by the first call after it.
//!
//! **How many.** As many as a PI controller says, whose error is how far the load lies from its target, and
//! which takes what the server gets done for what it can do: so the share is right one interval after an
//! overload begins, does not swing, and is gone as soon as less is offered.
//!
//! **Which.** First those of the lowest [criticality](crate::Criticality). Within one, [by
//! user](LoadShedBuilder::cohort_by), where wanted [the heaviest first](LoadShedBuilder::heaviest_first), or at
//! random. The layer knows how the priorities of the calls of the last
//! second or so were distributed, and refuses those below the quantile that is the share to be shed, as Uber's
//! Cinnamon does. A [small share](LoadShedBuilder::min_admitted_share) of these passes all the same. Whoever may
//! write a header may not make itself critical by it: the criticality of a [`Context`](crate::Context)
//! comes from headers only where they are [trusted](crate::deadline).
//!
//! **Who is told.** Those refused are, and with a [`LoadReport`](crate::http::LoadReportLayer) whoever is
//! answered over HTTP: how loaded the server is, and what would pass. A [throttle](crate::throttle#reports) of a
//! caller's heeds that before it sends.
//!
//! **A service that is not ready.** By default readiness is the inner service's, and calls wait for it. With
//! [a bound](LoadShedBuilder::refuse_unready_after) they are refused once it has lasted too long, or at once.
//!
//! **At a server, below** what reads the context and **above** what queues. A call that passes holds nothing
//! but its place among those in flight, until it ends, fails, panics or is dropped.
//!
//! **Cost.** A call that passes reads the clock once, draws a random number, and writes two lines of memory
//! that calls of other threads write, too; four more, where the heaviest users go first.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use steadfast::{Criticality, Reason, Rejected, load_shed::LoadShedLayer};
//! use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! let layer = LoadShedLayer::builder()
//!     .in_flight(2)
//!     .criticality(|path: &&str| match *path {
//!         "/pay" => Criticality::CriticalPlus,
//!         _ => Criticality::Sheddable,
//!     })
//!     .exempt(|path: &&str| *path == "/health")
//!     .min_admitted_share(0.0)
//!     .build()?;
//! let mut svc = layer.layer(service_fn(|path: &'static str| async move {
//!     tokio::time::sleep(Duration::from_secs(1)).await;
//!     Ok::<_, BoxError>(path)
//! }));
//!
//! // More comes in than is done, until the load is looked at.
//! let mut calls = Vec::new();
//! for _ in 0..8 {
//!     calls.push(svc.ready().await?.call("/prefetch"));
//! }
//! tokio::time::advance(Duration::from_millis(20)).await;
//! let error = svc.ready().await?.call("/prefetch").await.unwrap_err();
//! assert_eq!(Rejected::find(&*error).unwrap().reason(), Reason::Overloaded);
//! assert_eq!(layer.handle().load(), 4.0);
//!
//! assert_eq!(svc.ready().await?.call("/health").await?, "/health");
//! # Ok(())
//! # }
//! ```

mod builder;
mod controller;
#[cfg(feature = "cpu")]
mod cpu;
mod future;
mod handle;
mod held;
mod layer;
mod priorities;
mod priority;
mod probe;
mod seen;
mod service;
mod settings;
mod shared;
mod signal;
#[cfg(all(test, not(steadfast_loom)))]
mod tests;
mod unready;
mod usage;

pub use crate::mode::Mode;
pub use builder::LoadShedBuilder;
pub use future::LoadShedFuture;
pub use handle::{LoadShedHandle, LoadShedSnapshot, SignalLoad};
pub use held::HeldCall;
pub use layer::LoadShedLayer;
pub use priorities::{
    AtRandom, ByUsage, ByUser, CohortOf, CriticalityOf, Exempt, FromContext, NoneExempt,
    Priorities, Prioritize,
};
pub use service::LoadShed;
