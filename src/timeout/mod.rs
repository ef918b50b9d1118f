//! Stops waiting for a call that takes too long.
//!
//! The inner future is dropped when its limit has passed, so that its work stops, and the caller gets
//! a [`TimedOut`](crate::TimedOut) that says which limit it was and how long was waited. Where the
//! response and the end of the limit are there together, the response wins.
//!
//! The limit is the layer's own, or the deadline of the [`Context`](crate::Context) where that comes
//! first. A call whose deadline has passed already is refused, with
//! [`Reason::DeadlineExceeded`](crate::Reason::DeadlineExceeded), and the inner service never sees it.
//!
//! **When the clock starts.** A [`Timeout`] looks at the clock only once it has found the inner future
//! pending, and measures from there. A call that is answered at once costs neither a timer nor, where
//! there is no deadline, a look at the clock. One that is found pending takes a timer that an earlier
//! call of its thread has left, and moves its end, which takes no lock. A [`ReadyTimeout`], made by
//! [`covering_readiness`](TimeoutLayer::covering_readiness), begins with the wait for the inner service
//! to be ready, and so covers whatever queue lies behind it.
//!
//! **Limits within limits** are made from one another, so that one that could never pass is refused
//! when it is built: see [`TimeoutLayer::within`], [`not_longer`](TimeoutLayer::not_longer) and
//! [`not_shorter`](TimeoutLayer::not_shorter). What is known at run time only, such as a limit of each
//! request's own, needs no check: the outer limit passes first.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use steadfast::{TimedOut, timeout::TimeoutLayer};
//! use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! let limit = Duration::from_millis(100);
//! let svc = ServiceBuilder::new()
//!     .layer(TimeoutLayer::new(limit)?)
//!     .service(service_fn(|takes: Duration| async move {
//!         tokio::time::sleep(takes).await;
//!         Ok::<_, BoxError>("done")
//!     }));
//!
//! assert_eq!(svc.clone().oneshot(Duration::from_millis(99)).await?, "done");
//! let error = svc.oneshot(Duration::from_secs(9)).await.unwrap_err();
//! assert_eq!(TimedOut::find(&*error).unwrap().waited(), limit);
//!
//! // A limit of each request's own.
//! let patient = TimeoutLayer::per_request(|takes: &Duration| *takes * 2);
//! # let svc = ServiceBuilder::new().layer(patient).service(service_fn(|takes: Duration| async move {
//! #     tokio::time::sleep(takes).await;
//! #     Ok::<_, BoxError>("done")
//! # }));
//! # assert_eq!(svc.oneshot(Duration::from_secs(9)).await?, "done");
//! # Ok(())
//! # }
//! ```
//!
//! # A limit that follows
//!
//! Made by [`TimeoutLayer::following`], the limit is a quantile of how long calls took, times a padding,
//! between two bounds. What succeeds is observed for as long as it took; a call that is answered at once
//! took no time, and looks at no clock. Nobody knows how long the others would have taken, those that
//! timed out, failed, panicked or were dropped: each counts as longer than it ran, and so never as a fast
//! one, however early it was cut. Where so many are cut that the quantile cannot be told, it is not lowered,
//! and is at least the longest that any of them ran: while more time out than it leaves, the limit grows
//! by the padding in each sixth of the window, up to the upper bound. When too few calls succeed, or none
//! is made, it is the upper bound.
//!
//! The quantile is off by no more than 3.1 %. A call that waits costs two looks at the clock (a third where
//! it times out) and one write to memory that all calls share; the layer takes 32 KiB.
//!
//! ```
//! use std::time::Duration;
//! use steadfast::timeout::TimeoutLayer;
//! use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! let ms = Duration::from_millis;
//! let layer = TimeoutLayer::following(ms(50), ms(2_000))?;
//! let handle = layer.handle();
//! let mut svc = layer.layer(service_fn(|takes: Duration| async move {
//!     tokio::time::sleep(takes).await;
//!     Ok::<_, BoxError>("done")
//! }));
//!
//! assert_eq!(handle.limit(), ms(2_000)); // as long as nothing is known
//! for _ in 0..200 {
//!     svc.ready().await?.call(ms(100)).await?;
//! }
//! assert!(handle.limit() > ms(145) && handle.limit() < ms(155));
//! # Ok(())
//! # }
//! ```
//!
//! # Calls that run on
//!
//! After [`TimeoutLayer::detached`] a call whose limit passes, or that its caller drops, is not cut: it
//! runs on in a task of its own, within its [`Context`](crate::Context), for as long as it takes. At most
//! so many do at a time. What has never been polled has not begun, and is dropped. A panic reaches the
//! caller while it waits; afterwards it is counted and told as an event.
//!
//! Put it right above the service: layers below still obey the deadline. A call runs on in the
//! runtime in which it is dropped, until that ends; dropped outside of any, it is cut. Of what is bound to
//! the caller's task only the `Context` goes with it.
//!
//! Every call is boxed, and each that runs on is spawned: this is the one layer that allocates.
//!
//! ```
//! use std::time::Duration;
//! use steadfast::{TimedOut, timeout::TimeoutLayer};
//! use tower::{BoxError, Layer, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! let layer = TimeoutLayer::new(Duration::from_millis(100))?.detached(16);
//! let handle = layer.handle();
//! let (paid, mut receipts) = tokio::sync::mpsc::channel(1);
//! let svc = layer.layer(service_fn(move |amount: u32| {
//!     let paid = paid.clone();
//!     async move {
//!         tokio::time::sleep(Duration::from_secs(1)).await;
//!         Ok::<_, BoxError>(paid.send(amount).await?)
//!     }
//! }));
//!
//! let error = svc.oneshot(42).await.unwrap_err();
//! assert!(TimedOut::find(&*error).is_some());
//! assert_eq!(handle.detached(), 1);
//! assert_eq!(receipts.recv().await, Some(42));
//! # Ok(())
//! # }
//! ```

mod detached;
mod following;
mod future;
mod layer;
mod nested;
mod service;

pub use detached::{Detachable, DetachableFuture, DetachedTimeoutHandle, DetachedTimeoutLayer};
pub use following::{
    FollowingTimeout, FollowingTimeoutBuilder, FollowingTimeoutFuture, FollowingTimeoutHandle,
    FollowingTimeoutLayer,
};
pub use future::{ReadyTimeoutFuture, TimeoutFuture};
pub use layer::{Fixed, ReadyTimeoutLayer, TimeLimit, TimeoutBuilder, TimeoutLayer};
pub use service::{ReadyTimeout, Timeout};
