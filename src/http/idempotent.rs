//! Which requests may be sent twice, and how they are copied for it.

use http::{HeaderMap, Method, Request};
use http_body::Body;

use super::HttpClassifier;
use crate::retry::{CloneRequest, RetryBuilder, RetryLayer};

/// Begins a retry for HTTP: failures are what [`HttpClassifier`] takes for them, and only requests
/// that are [safe to repeat](is_safe_to_retry) and have no body are; all others go once. What else
/// there is to set is as in [`RetryLayer::builder`].
///
/// A request that was never sent is safe to send in any case. Which those are, the classifier must see:
/// `.classifier(HttpClientClassifier)`; see [`HttpClientClassifier`](super::HttpClientClassifier).
///
/// A body that is [`Clone`], such as `Full<Bytes>`, can be repeated too:
/// `steadfast::http::retry().clone_request(Idempotent)`; see [`Idempotent`].
///
/// # Example
///
/// ```
/// use axum::body::Body;
/// use http::{Request, Response, StatusCode};
/// use steadfast::Context;
/// use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), BoxError> {
/// let svc = ServiceBuilder::new()
///     .layer(steadfast::http::retry().build()?)
///     .service(service_fn(|_: Request<Body>| async {
///         let is_first = Context::current().attempt().get() == 1;
///         let status = if is_first { StatusCode::BAD_GATEWAY } else { StatusCode::OK };
///         Ok::<_, BoxError>(Response::builder().status(status).body(())?)
///     }));
///
/// let get = Request::get("/").body(Body::empty())?;
/// assert_eq!(svc.clone().oneshot(get).await?.status(), 200);
///
/// let post = Request::post("/").body(Body::empty())?;
/// assert_eq!(svc.oneshot(post).await?.status(), 502);
/// # Ok(())
/// # }
/// ```
pub fn retry() -> RetryBuilder<HttpClassifier, IdempotentBodyless> {
    RetryLayer::builder()
        .classifier(HttpClassifier)
        .clone_request(IdempotentBodyless)
}

/// Whether doing it twice is meant to be the same as doing it once: GET, HEAD, OPTIONS, TRACE, PUT and
/// DELETE, as RFC 9110 has it in section 9.2.2. Methods from elsewhere are taken not to be.
#[must_use]
pub fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    )
}

/// Whether a request may be sent twice: its method [is idempotent](is_idempotent), or it carries an
/// `Idempotency-Key`, by which the server knows it again.
///
/// The key must stand in exactly one field line and not be blank: a server that does not understand
/// it would do the work twice. *What* makes a key is between client and server.
#[must_use]
pub fn is_safe_to_retry(method: &Method, headers: &HeaderMap) -> bool {
    is_idempotent(method) || has_idempotency_key(headers)
}

fn has_idempotency_key(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all("idempotency-key").iter();
    match (values.next(), values.next()) {
        (Some(key), None) => !key.as_bytes().trim_ascii().is_empty(),
        _ => false,
    }
}

/// Clones requests whose body is [`Clone`], and repeats those that are
/// [safe to repeat](is_safe_to_retry). The copy of any other is used only if the request is known
/// [never to have been sent](crate::classify::Failure::never_sent).
///
/// That the clone of a body is a body with the same content is for the body to keep; `Full<Bytes>`,
/// `String` and `Bytes` do, and share the bytes or copy them.
///
/// # Example
///
/// ```
/// use http::Request;
/// use steadfast::{http::Idempotent, retry::CloneRequest};
///
/// let put = Request::put("/orders/7").body("two loaves").unwrap();
/// assert_eq!(Idempotent.clone_request(&put).unwrap().body(), &"two loaves");
///
/// assert!(Idempotent.may_repeat(&put));
/// let post = Request::post("/orders").body("two loaves").unwrap();
/// assert!(!Idempotent.may_repeat(&post), "unless it was never sent");
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::exhaustive_structs, reason = "the name says all that it does")]
pub struct Idempotent;

impl<B: Clone> CloneRequest<Request<B>> for Idempotent {
    fn clone_request(&self, req: &Request<B>) -> Option<Request<B>> {
        Some(req.clone())
    }

    fn may_repeat(&self, req: &Request<B>) -> bool {
        is_safe_to_retry(req.method(), req.headers())
    }
}

/// Copies requests that have no body, for bodies that are not [`Clone`]: axum's, reqwest's, tonic's and
/// boxed ones; and repeats them as [`Idempotent`] does.
///
/// A request has no body if [`Body::is_end_stream`] says so at once. The copy has the same head,
/// extensions included, and `B::default()` for a body, which must be the empty one.
///
/// # Example
///
/// ```
/// use axum::body::Body;
/// use http::Request;
/// use steadfast::{http::IdempotentBodyless, retry::CloneRequest};
///
/// let get = Request::get("/orders/7").header("accept", "text/plain").body(Body::empty()).unwrap();
/// let copy = IdempotentBodyless.clone_request(&get).unwrap();
/// assert_eq!(copy.headers(), get.headers());
///
/// let put = Request::put("/orders/7").body(Body::from("two loaves")).unwrap();
/// assert!(IdempotentBodyless.clone_request(&put).is_none(), "it has a body");
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::exhaustive_structs, reason = "the name says all that it does")]
pub struct IdempotentBodyless;

impl<B: Body + Default> CloneRequest<Request<B>> for IdempotentBodyless {
    fn clone_request(&self, req: &Request<B>) -> Option<Request<B>> {
        if !req.body().is_end_stream() {
            return None;
        }
        let mut copy = Request::new(B::default());
        *copy.method_mut() = req.method().clone();
        *copy.uri_mut() = req.uri().clone();
        *copy.version_mut() = req.version();
        *copy.headers_mut() = req.headers().clone();
        *copy.extensions_mut() = req.extensions().clone();
        Some(copy)
    }

    fn may_repeat(&self, req: &Request<B>) -> bool {
        is_safe_to_retry(req.method(), req.headers())
    }
}
