//! How bodies end, and what that says about the service.

use http::{HeaderMap, Response, StatusCode};
use http_body::Body;

use super::GuardedBody;
use crate::{
    classify::{AnyError, Failure, Verdict},
    http::{CustomHttpClassifier, HttpClassifier, HttpClientClassifier},
    throttle::Heeding,
    until::{Guard, Until},
};

/// A call lasts until the end of the response's body.
///
/// The end is there once the last frame has been polled, or the trailers, or an error, or as soon as the
/// body [says so](Body::is_end_stream). A body that is at its end from the start is held for no longer
/// than its head. A body that is dropped before its end is a call given up. Nothing of it is kept back: the
/// [`GuardedBody`] around it hands on each frame as it comes.
///
/// To be given to layers as their `until`, at clients and at servers alike:
///
/// - A **[bulkhead](crate::bulkhead::BulkheadBuilder::until)** so counts a response that is streamed as in
///   flight. [`bulkhead`](super::super::bulkhead) begins one that does.
/// - A **[circuit breaker](crate::circuit_breaker::CircuitBreakerBuilder::until)** so takes its verdict at
///   the end, where the head is not a failure already; its classifier must also be a [`ClassifyEnd`].
///   [`circuit_breaker`](super::super::circuit_breaker) begins one that does.
/// - A **[retry](crate::retry::RetryBuilder::until)** so feeds its budget at the end. It tries no call
///   again of which the head was good.
///
/// The body must be polled to its end, or dropped, for either to find out.
///
/// # Example
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::{BodyExt, Full};
/// use steadfast::{bulkhead::BulkheadLayer, http::EndOfBody};
/// use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let layer = BulkheadLayer::builder(1).until(EndOfBody).build();
/// let mut svc = layer.layer(service_fn(|_: Request<()>| async {
///     Ok::<_, BoxError>(Response::new(Full::new(Bytes::from("hello"))))
/// }));
///
/// let response = svc.ready().await?.call(Request::new(())).await?;
/// assert_eq!(layer.handle().in_flight(), 1);
/// assert_eq!(response.into_body().collect().await?.to_bytes(), "hello");
/// assert_eq!(layer.handle().in_flight(), 0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::exhaustive_structs, reason = "the name says all that it does")]
pub struct EndOfBody;

impl<B, C> Until<Response<B>, C> for EndOfBody
where
    B: Body,
    C: ClassifyEnd<B::Error>,
{
    type Response<G: Guard> = Response<GuardedBody<B, G, C>>;

    fn lasts(&self, response: &Response<B>, classifier: &C) -> bool {
        !classifier.is_final(response.status(), response.headers())
    }

    fn hold<G: Guard>(&self, response: Response<B>, guard: G, classifier: C) -> Self::Response<G> {
        response.map(|body| GuardedBody::guarded(body, guard, classifier))
    }

    fn pass<G: Guard, E>(&self, result: Result<Response<B>, E>) -> Result<Self::Response<G>, E> {
        result.map(|response| response.map(GuardedBody::unguarded))
    }
}

/// How a body ended.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum End<'a, E> {
    /// It is complete, with these trailers if it had any.
    Complete(Option<&'a HeaderMap>),
    /// It failed.
    Failed(&'a E),
    /// A layer of this crate stopped waiting for it, and made this error of it.
    TimedOut(&'a E),
}

/// Judges calls by how the body of their response ended.
///
/// For [classifiers](crate::Classify) of HTTP responses, which judge the head. What they take for a failure
/// there, or ignore, is so; of what they take for a success, the end has the last word. `E` is the error of
/// the body.
///
/// # Example
///
/// ```
/// use http::{HeaderMap, Response, StatusCode};
/// use steadfast::{Classify, Verdict, classify::{AnyError, Failure}, http::{ClassifyEnd, End}};
///
/// /// A service that tells in a trailer whether it could send all.
/// #[derive(Clone)]
/// struct Told;
///
/// impl<B, E> Classify<Response<B>, E> for Told {
///     fn classify(&self, result: Result<&Response<B>, &E>) -> Verdict {
///         AnyError.classify(result)
///     }
/// }
///
/// impl<E> ClassifyEnd<E> for Told {
///     fn classify_end(&self, end: End<'_, E>) -> Verdict {
///         match end {
///             End::Complete(Some(trailers)) if trailers.contains_key("truncated") => {
///                 Failure::transient().into()
///             }
///             other => AnyError.classify_end(other),
///         }
///     }
/// }
///
/// let trailers = HeaderMap::from_iter([("truncated".parse().unwrap(), "1".parse().unwrap())]);
/// let end = End::<std::io::Error>::Complete(Some(&trailers));
/// assert_eq!(Told.classify_end(end), Failure::transient().into());
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot judge how a body ends",
    note = "`HttpClassifier` can, and so can a type of your own that implements \
            `steadfast::http::ClassifyEnd<{E}>`; a closure judges heads only"
)]
pub trait ClassifyEnd<E> {
    /// Whether a response with this head says by it all there is to say, so that its end is not waited
    /// for. `false` unless implemented otherwise; a failure is final without being asked.
    fn is_final(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        let _ = (status, headers);
        false
    }

    /// What this end says about the service.
    fn classify_end(&self, end: End<'_, E>) -> Verdict;
}

/// Takes every error for a [`Failure::transient`], and every body that is complete for a success.
impl<E> ClassifyEnd<E> for AnyError {
    fn classify_end(&self, end: End<'_, E>) -> Verdict {
        match end {
            End::Complete(_) => Verdict::Success,
            End::Failed(_) => Failure::transient().into(),
            End::TimedOut(_) => Failure::timeout().into(),
        }
    }
}

/// Judges as [`AnyError`] does: HTTP has nothing to say of itself in trailers.
impl<E> ClassifyEnd<E> for HttpClassifier {
    fn classify_end(&self, end: End<'_, E>) -> Verdict {
        AnyError.classify_end(end)
    }
}

/// Judges as its classifier does.
impl<C: ClassifyEnd<E>, R, E> ClassifyEnd<E> for Heeding<C, R> {
    fn is_final(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        self.classifier.is_final(status, headers)
    }

    fn classify_end(&self, end: End<'_, E>) -> Verdict {
        self.classifier.classify_end(end)
    }
}

/// Judges as [`HttpClassifier`] does.
impl<E> ClassifyEnd<E> for HttpClientClassifier {
    fn classify_end(&self, end: End<'_, E>) -> Verdict {
        AnyError.classify_end(end)
    }
}

/// Judges as [`HttpClassifier`] does.
impl<C, E> ClassifyEnd<E> for CustomHttpClassifier<C> {
    fn classify_end(&self, end: End<'_, E>) -> Verdict {
        AnyError.classify_end(end)
    }
}
