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

/// Applies [`AnswerRefusals`] to a service: **outermost at a server's edge**.
///
/// See the [module docs](super) for an example.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct AnswerRefusalsLayer;

impl AnswerRefusalsLayer {
    /// Creates the layer.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

impl<S> Layer<S> for AnswerRefusalsLayer {
    type Service = AnswerRefusals<S>;

    fn layer(&self, inner: S) -> AnswerRefusals<S> {
        AnswerRefusals::new(inner)
    }
}

/// Answers what the layers below it refused, or gave up, with [the response](Refusal::to_response)
/// that says so. Every other error is passed on.
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
pub struct AnswerRefusals<S> {
    inner: S,
    /// What `poll_ready` last came back with, to be answered by the next call.
    refused: Option<Refusal>,
}

impl<S> AnswerRefusals<S> {
    const fn new(inner: S) -> Self {
        let refused = None;
        Self { inner, refused }
    }

    inner_accessors!();
}

impl<S: Clone> Clone for AnswerRefusals<S> {
    /// A clone asks for readiness itself.
    fn clone(&self) -> Self {
        Self::new(self.inner.clone())
    }
}

impl<S, Req, B> Service<Req> for AnswerRefusals<S>
where
    S: Service<Req, Response = Response<B>>,
    S::Error: IntoRefusal,
    B: From<String>,
{
    type Response = Response<B>;
    type Error = <S::Error as IntoRefusal>::Other;
    type Future = AnswerRefusalsFuture<S::Future>;

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
        AnswerRefusalsFuture { state }
    }
}

/// Response future of [`AnswerRefusals`].
#[pin_project]
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct AnswerRefusalsFuture<F> {
    #[pin]
    state: State<F>,
}

#[pin_project(project = StateProj)]
#[derive(Debug)]
enum State<F> {
    Called(#[pin] F),
    Refused(Refusal),
}

impl<F, B, E> Future for AnswerRefusalsFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: IntoRefusal,
    B: From<String>,
{
    type Output = Result<Response<B>, E::Other>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let refusal = match self.project().state.project() {
            StateProj::Called(future) => match ready!(future.poll(cx)) {
                Ok(response) => return Poll::Ready(Ok(response)),
                Err(error) => error.into_refusal()?,
            },
            StateProj::Refused(refusal) => *refusal,
        };
        Poll::Ready(Ok(refusal.to_response()))
    }
}
