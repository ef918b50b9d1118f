//! Tries a failed call again, where that is safe, may help, and does no harm.
//!
//! A call is tried again only if all of these hold; else its **last real result** is returned as it is.
//!
//! - The [classifier](crate::Classify) takes the result for a failure that is not permanent. What a
//!   layer of this crate refused below is no such failure: the refusal comes back at once.
//! - The request could be [cloned](CloneRequest). One that cannot, or must not be sent twice, goes once.
//! - [Attempts](RetryBuilder::max_attempts) are left; the first try counts.
//! - The [budget](RetryBuilder::budget) has a retry to spare. It is fed by successes and shared by all
//!   clones; taking from it is one step, before the delay.
//! - The delay, and [what an attempt needs](RetryBuilder::attempt_needs), end before the deadline of the
//!   [`Context`](crate::Context) and within [the total time](RetryBuilder::total_time).
//! - The service did not say *never*, nor *later* than [the cap](RetryBuilder::max_hint).
//!
//! What the service said about when to come back replaces the delay of the backoff, and is never
//! shortened. A zero delay touches no timer. Every attempt after the first is made on a clone of the
//! inner service that was made ready for it, and runs in a `Context` that knows its
//! [number](crate::Context::attempt). A request is not cloned where no further attempt is possible.
//!
//! Dropping the future drops the attempt, or the wait, that it is in.
//!
//! # Example
//!
//! ```
//! use std::{sync::{Arc, atomic::{AtomicU32, Ordering}}, time::Duration};
//! use steadfast::{Context, backoff::Backoff, retry::RetryLayer};
//! use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! let svc = ServiceBuilder::new()
//!     .layer(
//!         RetryLayer::builder()
//!             .max_attempts(2)
//!             .backoff(Backoff::exponential(Duration::from_millis(50), Duration::from_secs(1))?)
//!             .build()?,
//!     )
//!     .service(service_fn(|id: u32| async move {
//!         match Context::current().attempt().get() {
//!             1 => Err(BoxError::from("connection reset")),
//!             attempt => Ok((id, attempt)),
//!         }
//!     }));
//!
//! assert_eq!(svc.oneshot(7).await?, (7, 2));
//! # Ok(())
//! # }
//! ```

mod decide;
mod future;
mod layer;
mod policy;
mod request;
mod service;

pub use decide::{ByVerdict, Decide, RestoreRequest, RetryIf};
pub use future::RetryFuture;
pub use layer::{RetryBuilder, RetryLayer};
pub use request::{CloneRequest, Cloned, WithMaxAttempts};
pub use service::Retry;
