//! Gives requests a body that can be sent again.

use std::task::{Context, Poll};

use http::Request;
use http_body::Body;
use tower::{Layer, Service};

use super::ReplayBody;
use crate::{http::is_safe_to_retry, retry::CloneRequest};

/// Applies [`Replay`] to a service: right above a retry that copies with [`Replayable`].
///
/// The body is streamed on the first attempt, and recorded while it is, up to a cap. A body that turns out
/// to be longer is let go of, and goes once.
///
/// # Example
///
/// ```
/// use http::{Request, Response};
/// use http_body_util::{BodyExt, Full};
/// use steadfast::{backoff::Backoff, Context, http::{ReplayBody, ReplayLayer, Replayable, retry}};
/// use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// type Body = Full<bytes::Bytes>;
/// let svc = ServiceBuilder::new()
///     .layer(ReplayLayer::new(64 * 1024))
///     .layer(retry().clone_request(Replayable).backoff(Backoff::none()).build()?)
///     .service(service_fn(|req: Request<ReplayBody<Body>>| async {
///         let body = req.into_body().collect().await?.to_bytes();
///         match Context::current().attempt().get() {
///             1 => Err(BoxError::from("connection reset")),
///             _ => Ok(Response::new(body)),
///         }
///     }));
///
/// let put = Request::put("/orders/7").body(Body::from("two loaves"))?;
/// assert_eq!(svc.oneshot(put).await?.into_body(), "two loaves");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct ReplayLayer {
    cap: usize,
}

impl ReplayLayer {
    /// Records up to `cap` bytes of each body.
    pub const fn new(cap: usize) -> Self {
        Self { cap }
    }
}

impl<S> Layer<S> for ReplayLayer {
    type Service = Replay<S>;

    fn layer(&self, inner: S) -> Replay<S> {
        let cap = self.cap;
        Replay { inner, cap }
    }
}

/// Calls a service with requests whose bodies are [`ReplayBody`].
///
/// See [`ReplayLayer`] for an example.
#[derive(Clone, Copy, Debug)]
pub struct Replay<S> {
    inner: S,
    cap: usize,
}

impl<S> Replay<S> {
    inner_accessors!();
}

impl<S, B> Service<Request<B>> for Replay<S>
where
    S: Service<Request<ReplayBody<B>>>,
    B: Body,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Request<B>) -> S::Future {
        self.inner
            .call(req.map(|body| ReplayBody::new(body, self.cap)))
    }
}

/// Copies requests whose body is a [`ReplayBody`]; those that are not
/// [safe to repeat](is_safe_to_retry) are sent again only where they were never sent.
///
/// A copy costs that of the head; the body is shared. Where it has turned out to be too long to be
/// recorded, the request is not sent again, and its result returned whatever it is.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::exhaustive_structs, reason = "the name says all that it does")]
pub struct Replayable;

impl<B: Body> CloneRequest<Request<ReplayBody<B>>> for Replayable {
    fn clone_request(&self, req: &Request<ReplayBody<B>>) -> Option<Request<ReplayBody<B>>> {
        Some(req.clone())
    }

    fn may_repeat(&self, req: &Request<ReplayBody<B>>) -> bool {
        is_safe_to_retry(req.method(), req.headers())
    }

    fn is_intact(&self, req: &Request<ReplayBody<B>>) -> bool {
        req.body().is_replayable()
    }
}
