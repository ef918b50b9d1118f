//! Tries a failed call again, where that is safe, may help, and does no harm.
//!
//! A call is tried again only if all of these hold; else its **last real result** is returned as it is.
//!
//! - No retry [above](#nested-retries) has the say.
//! - The [classifier](crate::Classify) takes the result for a failure that
//!   [may be tried again](crate::classify::Failure::is_retryable), or
//!   [`retry_if`](RetryBuilder::retry_if), which has the request before it too, says so in its place.
//!   What a layer of this crate refused below comes back at once, unasked.
//! - There is a request to try again with: a [copy](CloneRequest), or the one that the error
//!   [hands back](RetryBuilder::restore_request). It may be [repeated](CloneRequest::may_repeat), or is
//!   known never to have been sent.
//! - [Attempts](RetryBuilder::max_attempts) are left; the first try counts.
//! - The service did not say *never*, nor *later* than [the cap](RetryBuilder::max_hint).
//! - The delay, and [what an attempt needs](RetryBuilder::attempt_needs), end before the deadline of the
//!   [`Context`](crate::Context) and within [the total time](RetryBuilder::total_time).
//! - The [budget](RetryBuilder::budget) has a retry to spare. It is shared by all clones; taking from it
//!   is one step, before the delay. What a retry holds of it comes back with the end of the call, also
//!   when it is dropped or panics.
//!
//! What the service said about when to come back replaces the delay of the backoff, is never
//! shortened, and lets the backoff start afresh. A zero delay touches no timer. Every attempt after the first is made on a clone of the
//! inner service that was made ready for it, and runs in a `Context` that knows its
//! [number](crate::Context::attempt). A request is not cloned where no further attempt is possible.
//!
//! Dropping the future drops the attempt, or the wait, that it is in.
//!
//! # Never sent
//!
//! A request that is known [never to have been sent](crate::classify::Failure::never_sent) is sent again
//! at once, with the same number, and takes nothing from the budget: it has cost the service nothing.
//! This is done once in a call, as gRPC does for what may have left the client; what cannot be sent twice
//! in a row counts from then on as a failure like any other. The deadline, and what the service said,
//! hold as ever. Where no copy was made, as for a last attempt, there is nothing to send again.
//!
//! # Nested retries
//!
//! Retries that are stacked multiply: five layers of three attempts make 243 at the bottom. So a retry
//! inside of an attempt of another makes one attempt, and leaves the rest to the **outermost that can
//! try again**: that one sees the whole call, and its attempts are all there are at the bottom. An outer
//! retry that makes a single attempt, or has no request to make another with, leaves it to the next one
//! inside; one that is at its last attempt does not, since the request has had its attempts. It is told
//! by the [`Context`](crate::Context::is_retried_above), so work that is handed to another task must
//! enter it there.
//!
//! The price is that an outer retry around several calls repeats those that went well along with the one
//! that failed. Where that is worse than more attempts, say so: at the inner retry with
//! [`retry_when_nested`](RetryBuilder::retry_when_nested), or for a part of the work with
//! [`Context::with_retried_above`](crate::Context::with_retried_above).
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
pub use future::{LastingCall, RetryFuture};
pub use layer::{RetryBuilder, RetryLayer};
pub use request::{CloneRequest, Cloned, WithMaxAttempts};
pub use service::Retry;
