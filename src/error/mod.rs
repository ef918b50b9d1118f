//! What this crate says when a call does not reach, or does not return from, the inner service.
//!
//! Two facts matter to a caller, and each has its type. [`Rejected`]: the inner service never saw
//! the call, so it may safely be sent again or elsewhere. [`TimedOut`]: this crate stopped waiting,
//! and the inner service *may have acted*.
//!
//! A layer never changes the error type of the service it wraps. It only asks that the error can
//! be [built from](FromRejected) the two above. `BoxError` and [`std::io::Error`] can; an error
//! type of your own can with one `From` impl for each; every other service can after one
//! [`LiftLayer`] at the bottom of the stack, which gives [`Error<E>`]. So a stack of ten layers has
//! the same error type as a stack of one.
//!
//! # Example
//!
//! ```
//! use std::convert::Infallible;
//! use steadfast::{LiftLayer, Reason, Rejected, bulkhead::BulkheadLayer};
//! use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! // A bulkhead of zero refuses every call. This service cannot fail, so it is lifted.
//! let lifted = ServiceBuilder::new()
//!     .layer(BulkheadLayer::new(0))
//!     .layer(LiftLayer::new())
//!     .service(service_fn(|()| async { Ok::<_, Infallible>(()) }));
//! let error = lifted.oneshot(()).await.unwrap_err();
//! assert_eq!(error.rejected().unwrap().reason(), Reason::BulkheadFull);
//!
//! // This one already speaks `BoxError`, and keeps it.
//! let boxed = ServiceBuilder::new()
//!     .layer(BulkheadLayer::new(0))
//!     .service(service_fn(|()| async { Ok::<_, BoxError>(()) }));
//! let error = boxed.oneshot(()).await.unwrap_err();
//! assert_eq!(Rejected::find(&*error).unwrap().layer(), "bulkhead");
//! # }
//! ```

mod bound;
mod flat;
mod lift;
mod rejected;
mod setting;
mod timed_out;

pub use bound::{FromRejected, FromTimedOut};
pub use flat::Error;
pub use lift::{Lift, LiftFuture, LiftLayer};
pub use rejected::{Reason, Rejected};
pub use setting::InvalidSetting;
pub(crate) use setting::not_zero;
pub use timed_out::{Limit, TimedOut};

/// The first `T` in the chain of sources that starts at `err`.
pub(crate) fn find<'a, T: std::error::Error + 'static>(
    err: &'a (dyn std::error::Error + 'static),
) -> Option<&'a T> {
    chain(err).find_map(|err| err.downcast_ref())
}

/// The chain of sources that starts at `err`.
///
/// An [`std::io::Error`] hides what it carries from `source`, so it is opened on the way.
pub(crate) fn chain<'a>(
    err: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(err), |err| {
        match err.downcast_ref::<std::io::Error>() {
            Some(io) => io.get_ref().map(|inner| inner as _),
            None => err.source(),
        }
    })
}
