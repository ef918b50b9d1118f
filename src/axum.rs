//! axum: the context of a request as an argument of its handler.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use axum::{Router, body::Body, extract::Request, routing::get};
//! use steadfast::{Context, LiftLayer, deadline::DeadlineLayer, http::AnswerRefusalsLayer};
//! use tower::{ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! async fn plan(context: Context) -> &'static str {
//!     match context.remaining() {
//!         Some(left) if left < Duration::from_secs(1) => "in haste",
//!         _ => "at leisure",
//!     }
//! }
//!
//! let app = Router::new().route("/", get(plan)).layer(
//!     ServiceBuilder::new()
//!         .layer(AnswerRefusalsLayer::new())
//!         .layer(DeadlineLayer::builder(Duration::from_secs(10)).trust_headers().build()?)
//!         .layer(LiftLayer::new()),
//! );
//! let request = Request::get("/").header("x-request-timeout-ms", "500").body(Body::empty())?;
//! let body = app.oneshot(request).await?.into_body();
//! assert_eq!(axum::body::to_bytes(body, 1024).await?, "in haste");
//! # Ok(())
//! # }
//! ```

use std::convert::Infallible;

use axum_core::extract::FromRequestParts;
use http::request::Parts;

use crate::context::Context;

/// The context of the request: what is in the [extensions], where something is, with the deadline of the
/// [current](Context::current) one where that comes first; else the current one.
///
/// [extensions]: crate::deadline::DeadlineBuilder::fill_extensions
impl<S: Sync> FromRequestParts<S> for Context {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let current = Self::current();
        Ok(match (parts.extensions.get::<Self>(), current.deadline()) {
            (None, _) => current,
            (Some(context), None) => *context,
            (Some(context), Some(deadline)) => context.with_deadline(deadline),
        })
    }
}
