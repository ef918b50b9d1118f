//! Answers refusals with responses.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Response;
use pin_project::pin_project;
use tower::{Layer, Service};

use super::{IntoRefusal, Refusal};

/// Makes the response to a refusal. Implemented for closures `Fn(&Refusal) -> Response<B>`.
///
/// [`ProblemDetails`] is the one for HTTP, and [`StatusAnswer`](crate::grpc::StatusAnswer) that for gRPC.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot answer a refusal with a body that is a `{B}`",
    note = "`ProblemDetails` makes bodies that are `From<String>`; for any other: \
            `AnswerRefusalsLayer::with(|refusal: &Refusal| -> Response<{B}> {{ .. }})`"
)]
pub trait Answer<B> {
    /// The response that says so.
    fn answer(&self, refusal: &Refusal) -> Response<B>;
}

impl<F, B> Answer<B> for F
where
    F: Fn(&Refusal) -> Response<B>,
{
    fn answer(&self, refusal: &Refusal) -> Response<B> {
        self(refusal)
    }
}

/// Answers with [a problem document](Refusal::to_response), in bodies that can be made of a `String`.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::exhaustive_structs, reason = "the name says all that it does")]
pub struct ProblemDetails;

impl<B: From<String>> Answer<B> for ProblemDetails {
    fn answer(&self, refusal: &Refusal) -> Response<B> {
        refusal.to_response()
    }
}

/// Applies [`AnswerRefusals`] to a service: **outermost at a server's edge**.
///
/// See the [module docs](super) for an example.
#[derive(Clone, Copy, Debug, Default)]
pub struct AnswerRefusalsLayer<A = ProblemDetails> {
    answer: A,
}

impl AnswerRefusalsLayer {
    /// Creates the layer, which answers with [`ProblemDetails`].
    #[must_use]
    pub const fn new() -> Self {
        Self::with(ProblemDetails)
    }
}

impl<A> AnswerRefusalsLayer<A> {
    /// Creates a layer that answers as `answer` does.
    ///
    /// ```
    /// use axum::{Router, body::Body, extract::Request, response::Response, routing::get};
    /// use steadfast::{
    ///     LiftLayer, bulkhead::BulkheadLayer, http::{AnswerRefusalsLayer, Refusal},
    /// };
    /// use tower::{BoxError, ServiceBuilder, ServiceExt};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), BoxError> {
    /// let plainly = |refusal: &Refusal| -> Response {
    ///     refusal.to_response::<String>().map(|_| Body::from("come back later"))
    /// };
    /// let app = Router::new().route("/", get(|| async { "hello" })).layer(
    ///     ServiceBuilder::new()
    ///         .layer(AnswerRefusalsLayer::with(plainly))
    ///         .layer(BulkheadLayer::new(0)) // refuses every call
    ///         .layer(LiftLayer::new()),
    /// );
    /// let response = app.oneshot(Request::new(Body::empty())).await?;
    /// assert_eq!(response.status(), 503);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub const fn with(answer: A) -> Self {
        Self { answer }
    }
}

impl<S, A: Clone> Layer<S> for AnswerRefusalsLayer<A> {
    type Service = AnswerRefusals<S, A>;

    fn layer(&self, inner: S) -> Self::Service {
        AnswerRefusals::new(inner, self.answer.clone())
    }
}

/// Answers what the layers below it refused, or gave up, with the response that says so. Every other
/// error is passed on.
///
/// Over a service whose error is [`steadfast::Error<E>`](crate::Error), its own error is `E`. So above
/// an axum `Route` or `Router` with a [`LiftLayer`](crate::LiftLayer) it is `Infallible` again, and
/// fits into `Router::layer`. Over a service whose error is `BoxError` it is `BoxError`; a refusal
/// anywhere in the chain of sources is answered there, also one by a client that the handler used.
///
/// **A refusal from `poll_ready`**, which no layer of this crate makes, cannot be answered there, for
/// want of a request. The service then calls itself ready, and answers the next call with it without
/// calling the inner service. A call that is not preceded by such a `poll_ready` is not affected.
#[derive(Debug)]
pub struct AnswerRefusals<S, A = ProblemDetails> {
    inner: S,
    answer: A,
    /// What `poll_ready` last came back with, to be answered by the next call.
    refused: Option<Refusal>,
}

impl<S, A> AnswerRefusals<S, A> {
    pub(crate) const fn new(inner: S, answer: A) -> Self {
        Self {
            inner,
            answer,
            refused: None,
        }
    }

    inner_accessors!();
}

impl<S: Clone, A: Clone> Clone for AnswerRefusals<S, A> {
    /// A clone asks for readiness itself.
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), self.answer.clone())
    }
}

impl<S, A, Req, B> Service<Req> for AnswerRefusals<S, A>
where
    S: Service<Req, Response = Response<B>>,
    S::Error: IntoRefusal,
    A: Answer<B> + Clone,
{
    type Response = Response<B>;
    type Error = <S::Error as IntoRefusal>::Other;
    type Future = AnswerRefusalsFuture<S::Future, A>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.refused = match ready!(self.inner.poll_ready(cx)) {
            Ok(()) => None,
            Err(error) => Some(error.into_refusal()?),
        };
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: Req) -> Self::Future {
        let state = match self.refused {
            None => State::Called(self.inner.call(req)),
            Some(refusal) => State::Refused(refusal),
        };
        let answer = self.answer.clone();
        AnswerRefusalsFuture { state, answer }
    }
}

/// Response future of [`AnswerRefusals`].
#[pin_project]
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct AnswerRefusalsFuture<F, A = ProblemDetails> {
    #[pin]
    state: State<F>,
    answer: A,
}

#[pin_project(project = StateProj)]
#[derive(Debug)]
enum State<F> {
    Called(#[pin] F),
    Refused(Refusal),
}

impl<F, A, B, E> Future for AnswerRefusalsFuture<F, A>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: IntoRefusal,
    A: Answer<B>,
{
    type Output = Result<Response<B>, E::Other>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let refusal = match this.state.project() {
            StateProj::Called(future) => match ready!(future.poll(cx)) {
                Ok(response) => return Poll::Ready(Ok(response)),
                Err(error) => error.into_refusal()?,
            },
            StateProj::Refused(refusal) => *refusal,
        };
        Poll::Ready(Ok(this.answer.answer(&refusal)))
    }
}
