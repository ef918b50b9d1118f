//! Until when a call lasts: until it is answered, or until all of its answer has come.
//!
//! A response that is streamed has only begun when the service returns it. What a layer holds for a call,
//! such as the permit of a [bulkhead](crate::bulkhead), it may give back then ([`Answered`], the default
//! everywhere), or at the end of the stream ([`EndOfBody`](crate::http::EndOfBody), for HTTP). Layers that
//! can do both take an [`Until`], by a setter of that name.
//!
//! # Example
//!
//! An `Until` for responses of your own, which hold what there is to hold until they are dropped:
//!
//! ```
//! use steadfast::{bulkhead::BulkheadLayer, until::{Guard, Until}};
//! use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
//!
//! struct Rows<G>(Vec<u32>, Option<G>);
//! type Bare = Rows<std::convert::Infallible>;
//!
//! #[derive(Clone)]
//! struct RowsAreDropped;
//!
//! impl<C> Until<Bare, C> for RowsAreDropped {
//!     type Response<G: Guard> = Rows<G>;
//!
//!     fn lasts(&self, rows: &Bare, _: &C) -> bool {
//!         !rows.0.is_empty()
//!     }
//!
//!     fn hold<G: Guard>(&self, rows: Bare, guard: G, _: C) -> Rows<G> {
//!         Rows(rows.0, Some(guard))
//!     }
//!
//!     fn pass<G: Guard, E>(&self, result: Result<Bare, E>) -> Result<Rows<G>, E> {
//!         result.map(|rows| Rows(rows.0, None))
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let layer = BulkheadLayer::builder(8).until(RowsAreDropped).build();
//! let mut svc = layer.layer(service_fn(|rows: u32| async move {
//!     Ok::<_, BoxError>(Rows((0..rows).collect(), None))
//! }));
//!
//! let rows = svc.ready().await?.call(3).await?;
//! let none = svc.ready().await?.call(0).await?;
//! assert_eq!(layer.handle().in_flight(), 1);
//! drop(rows);
//! assert_eq!(layer.handle().in_flight(), 0);
//! # drop(none);
//! # Ok(())
//! # }
//! ```

use std::task::Poll;

use crate::classify::{AnyError, Verdict};

/// Says until when a call lasts, of which the service has returned a response of type `Res`. `C` is the
/// classifier of the layer; of one that has none, [`AnyError`].
///
/// Implemented by [`Answered`] and, for HTTP, by [`EndOfBody`](crate::http::EndOfBody).
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not know when a response of type `{Res}` ends",
    note = "`EndOfBody` asks for a response of HTTP, whose body is a `Body`, and for a classifier that \
            is a `ClassifyEnd`, which a closure is not"
)]
pub trait Until<Res, C = AnyError> {
    /// The response as the layer returns it, which may hold a guard.
    type Response<G: Guard>;

    /// Whether a call lasts on after this response, which the classifier takes for a success.
    fn lasts(&self, response: &Res, classifier: &C) -> bool;

    /// Has the response hold the guard of a call that lasts on, until it is over. Where it is already, the
    /// guard is [ended](Guard::end) at once.
    fn hold<G: Guard>(&self, response: Res, guard: G, classifier: C) -> Self::Response<G>;

    /// The result of a call that does not last on: there is nothing to hold.
    ///
    /// # Errors
    ///
    /// That of the result.
    fn pass<G: Guard, E>(&self, result: Result<Res, E>) -> Result<Self::Response<G>, E>;
}

/// What a layer holds for a call that lasts on. To drop it is to give the call up.
pub trait Guard {
    /// Polls for what there is still to come of the response. A panic in `poll` is one of the service.
    fn watch<T>(&mut self, poll: impl FnOnce() -> Poll<T>) -> Poll<T>;

    /// The call is over. The verdict on it is asked for where the layer cares.
    fn end(self, verdict: impl FnOnce() -> Verdict);
}

/// A call lasts until the service has returned a response, or an error.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::exhaustive_structs, reason = "the name says all that it does")]
pub struct Answered;

impl<Res, C> Until<Res, C> for Answered {
    type Response<G: Guard> = Res;

    #[inline]
    fn lasts(&self, _: &Res, _: &C) -> bool {
        false
    }

    #[inline]
    fn hold<G: Guard>(&self, response: Res, guard: G, _: C) -> Res {
        guard.end(|| Verdict::Success);
        response
    }

    #[inline]
    fn pass<G: Guard, E>(&self, result: Result<Res, E>) -> Result<Res, E> {
        result
    }
}
