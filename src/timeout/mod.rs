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

mod future;
mod layer;
mod service;

pub use future::{ReadyTimeoutFuture, TimeoutFuture};
pub use layer::{Fixed, ReadyTimeoutLayer, TimeLimit, TimeoutBuilder, TimeoutLayer};
pub use service::{ReadyTimeout, Timeout};
