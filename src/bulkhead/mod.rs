//! Caps how many calls a dependency has in flight, so that a slow one cannot take all that its caller
//! has.
//!
//! A full [`Bulkhead`] refuses at once, with [`Reason::BulkheadFull`](crate::Reason::BulkheadFull). A
//! [`QueuedBulkhead`] lets a bounded number of calls wait for a bounded time, in an order, and with an end
//! to what has waited too long, that its [`queue`](crate::queue) decides; never past the deadline of
//! their [`Context`](crate::Context).
//!
//! **Where a permit is held.** A call takes its permit in [`call`](tower::Service::call), not in
//! `poll_ready`: a clone that is ready and idle holds nothing. The permit comes back when the call
//! ends, fails, panics or is dropped, whichever comes first; that of a response that is streamed, where
//! [`until`](BulkheadBuilder::until) says so, only with the end of the stream. A `Bulkhead` is ready when
//! the inner service is. A `QueuedBulkhead` is always ready, and makes a clone of the inner service ready only
//! once it holds the permit, so that a call in the queue holds nothing of the inner service's either.
//!
//! **Back-pressure.** In [another form](BulkheadLayer::back_pressure) readiness is the reservation: what takes
//! its requests from a stream then takes no more than there is room for.
//!
//! **Resizing.** The [handle](BulkheadHandle) changes the limit at any time. Calls in flight keep their
//! permits; a lower limit takes effect as they end.
//!
//! **Overload** shows as a queue that does not drain, and [the handle](BulkheadHandle::queue_delay) tells it.
//!
//! **Weights.** A request may take [several permits](BulkheadBuilder::weight).
//!
//! **Partitions.** The limit may be divided into [shares](crate::partitions), lent to the others while they are
//! idle.
//!
//! # Keys
//!
//! One layer may give each host, tenant or route [a limit of its own](BulkheadBuilder::keyed), so that
//! one of them cannot take what is there for all. The number of keys is bounded, and keys that are not
//! in use are forgotten; see [`keyed`](crate::keyed) for how, and for what a call costs.
//!
//! ```
//! use steadfast::{bulkhead::BulkheadLayer, keyed::by_ref};
//! use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
//!
//! struct Get { host: String, parts: usize }
//! fn get(host: &str, parts: usize) -> Get {
//!     Get { host: host.to_owned(), parts }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let layer = BulkheadLayer::builder(8)
//!     .keyed(10_000, by_ref(|get: &Get| get.host.as_str()))
//!     .weight(|get: &Get| get.parts)
//!     .build()?;
//! let mut svc = layer.layer(service_fn(|_: Get| async { Ok::<_, BoxError>(()) }));
//!
//! let six = svc.ready().await?.call(get("a.example", 6));
//! assert!(svc.ready().await?.call(get("a.example", 3)).await.is_err());
//! svc.ready().await?.call(get("a.example", 2)).await?;
//! svc.ready().await?.call(get("b.example", 8)).await?; // has a limit of its own
//! assert_eq!(layer.handle().get("a.example").unwrap().in_flight, 6);
//! # drop(six);
//! # Ok(())
//! # }
//! ```
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use steadfast::{Reason, Rejected, bulkhead::{BulkheadLayer, Queue}};
//! use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! let slow = service_fn(|id: u32| async move {
//!     tokio::time::sleep(Duration::from_secs(1)).await;
//!     Ok::<_, BoxError>(id)
//! });
//!
//! let mut svc = BulkheadLayer::builder(1).name("users-db").build().layer(slow);
//! let first = svc.ready().await?.call(1); // holds the only permit
//! let error = svc.ready().await?.call(2).await.unwrap_err();
//! assert_eq!(Rejected::find(&*error).unwrap().reason(), Reason::BulkheadFull);
//! assert_eq!(first.await?, 1); // gives it back
//! assert_eq!(svc.ready().await?.call(3).await?, 3);
//!
//! // One may wait, for at most 100 ms.
//! let layer = BulkheadLayer::builder(1).queue(Queue::fifo(1, Duration::from_millis(100))).build();
//! let mut svc = layer.layer(slow);
//! let (first, second, third) = tokio::join!(svc.call(1), svc.call(2), svc.call(3));
//! assert_eq!(first?, 1);
//! let why = |error: BoxError| Rejected::find(&*error).unwrap().reason();
//! assert_eq!(why(second.unwrap_err()), Reason::QueueTimeout);
//! assert_eq!(why(third.unwrap_err()), Reason::BulkheadFull);
//! # Ok(())
//! # }
//! ```

mod back_pressure;
mod builder;
mod handle;
mod keyed;
mod layer;
mod permit;
mod queued;
mod refusing;
mod shared;
mod weight;

pub use crate::queue::Queue;
pub use back_pressure::{BackPressureBulkhead, BackPressureBulkheadLayer};
pub use builder::{BulkheadBuilder, Keyed};
pub use handle::{BulkheadHandle, BulkheadSnapshot, KeyedBulkheadHandle};
pub use keyed::{KeyedBulkheadLayer, QueuedKeyedBulkheadLayer};
pub use layer::{BulkheadLayer, QueuedBulkheadLayer};
pub use permit::{HeldKeyedPermit, HeldPermit};
pub use queued::{
    QueuedBulkhead, QueuedBulkheadFuture, QueuedKeyedBulkhead, QueuedKeyedBulkheadFuture,
};
pub use refusing::{Bulkhead, BulkheadFuture, KeyedBulkhead, KeyedBulkheadFuture};
pub use weight::{Cost, OfPartition, One, Partitioned, Several, Weight};
