//! Limits on how long a response body may take.

use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{self, Poll, ready},
    time::Duration,
};

use http::Response;
use http_body::Body;
use pin_project::pin_project;
use tower::{BoxError, Layer, Service};

use super::TimeoutBody;
use crate::{
    context::Context,
    error::{InvalidSetting, not_zero},
    pooled::PooledArc,
    telemetry::{Ending, Telemetry},
    time::Instant,
};

/// Applies [`BodyTimeout`] to a service.
///
/// A [timeout](crate::timeout) limits how long a response is in coming: its head. What is streamed after
/// that is limited here, apart: by how long the body may keep its reader waiting between two frames
/// ([`idle`](BodyTimeoutBuilder::idle)), how long it may take as a whole
/// ([`total`](BodyTimeoutBuilder::total)), and by the deadline of the [`Context`] in which the call was
/// made. Which of them are set is for each service to say; without one and with no deadline, nothing is
/// limited.
///
/// A body whose time is up is dropped, and its reader gets an error that holds a
/// [`TimedOut`](crate::TimedOut). Where a frame and the end of its time are there together, the frame
/// wins. The limits are watched while the body is polled: one that nobody reads is not cut.
///
/// # Example
///
/// ```
/// use std::{convert::Infallible, time::Duration};
/// use bytes::Bytes;
/// use http::Response;
/// use http_body::Frame;
/// use http_body_util::{BodyExt, StreamBody};
/// use steadfast::{Limit, TimedOut, http::BodyTimeoutLayer};
/// use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), BoxError> {
/// let secs = Duration::from_secs;
/// let svc = ServiceBuilder::new()
///     .layer(BodyTimeoutLayer::builder().idle(secs(2)).total(secs(60)).build()?)
///     .service(service_fn(|every: Duration| async move {
///         let ticks = futures_util::stream::unfold((), move |()| async move {
///             tokio::time::sleep(every).await;
///             Some((Ok::<_, Infallible>(Frame::data(Bytes::from("tick"))), ()))
///         });
///         Ok::<_, BoxError>(Response::new(Box::pin(StreamBody::new(ticks))))
///     }));
///
/// let why = |error: BoxError| TimedOut::find(&*error).unwrap().limit();
/// let slow = svc.clone().oneshot(secs(3)).await?.into_body();
/// assert_eq!(why(slow.collect().await.unwrap_err()), Limit::Idle);
/// let endless = svc.oneshot(secs(1)).await?.into_body();
/// assert_eq!(why(endless.collect().await.unwrap_err()), Limit::Body);
/// # Ok(())
/// # }
/// ```
#[must_use]
pub struct BodyTimeoutLayer<E = BoxError> {
    limits: Limits,
    shared: PooledArc<Shared>,
    error: PhantomData<fn() -> E>,
}

impl BodyTimeoutLayer {
    /// Begins a limit on bodies.
    pub const fn builder() -> BodyTimeoutBuilder {
        BodyTimeoutBuilder {
            name: "body_timeout",
            limits: Limits {
                idle: None,
                total: None,
            },
            error: PhantomData,
        }
    }
}

// Not derived: an error need not be `Clone` for that, nor `Debug`.
impl<E> Clone for BodyTimeoutLayer<E> {
    fn clone(&self) -> Self {
        Self {
            limits: self.limits,
            shared: self.shared.clone(),
            error: PhantomData,
        }
    }
}

impl<E> fmt::Debug for BodyTimeoutLayer<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("BodyTimeoutLayer");
        debug.field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl<S, E> Layer<S> for BodyTimeoutLayer<E> {
    type Service = BodyTimeout<S, E>;

    fn layer(&self, inner: S) -> Self::Service {
        let layer = self.clone();
        BodyTimeout { inner, layer }
    }
}

/// The settings of a limit on bodies; made by [`BodyTimeoutLayer::builder`].
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct BodyTimeoutBuilder<E = BoxError> {
    name: &'static str,
    limits: Limits,
    error: PhantomData<fn() -> E>,
}

impl<E> BodyTimeoutBuilder<E> {
    /// Names the layer, for metrics, events and errors. Default: `"body_timeout"`.
    pub const fn name(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    /// How long a body may keep its reader waiting for a frame, from when it is first found pending. Not
    /// zero. Default: no limit.
    pub const fn idle(mut self, limit: Duration) -> Self {
        self.limits.idle = Some(limit);
        self
    }

    /// How long a body may take from the head to its end, also if there always is a frame ready, and
    /// whether it is the body or its reader that is slow. Not zero. Default: no limit.
    pub const fn total(mut self, limit: Duration) -> Self {
        self.limits.total = Some(limit);
        self
    }

    /// What becomes of the body's own error, and of a [`TimedOut`](crate::TimedOut): any type that both can
    /// be turned into. Default: [`BoxError`], which suits axum and hyper.
    ///
    /// For tonic, which so answers with the right code: `.error::<tonic::Status>()`.
    pub const fn error<F>(self) -> BodyTimeoutBuilder<F> {
        BodyTimeoutBuilder {
            name: self.name,
            limits: self.limits,
            error: PhantomData,
        }
    }

    /// Checks the settings and builds the layer.
    ///
    /// # Errors
    ///
    /// If a limit is zero.
    pub fn build(self) -> Result<BodyTimeoutLayer<E>, InvalidSetting> {
        let Limits { idle, total } = self.limits;
        idle.map(|idle| not_zero("idle", idle)).transpose()?;
        total.map(|total| not_zero("total", total)).transpose()?;
        Ok(BodyTimeoutLayer {
            limits: self.limits,
            shared: PooledArc::new(Shared::new(self.name)),
            error: PhantomData,
        })
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) idle: Option<Duration>,
    pub(super) total: Option<Duration>,
}

/// What all services of a layer share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) telemetry: Telemetry,
}

pooled!(Shared);

impl Shared {
    fn new(name: &'static str) -> Self {
        let endings = [
            Ending::Completed,
            Ending::TimedOut,
            Ending::Abandoned,
            Ending::Panicked,
        ];
        let telemetry = Telemetry::new("body_timeout", name, &endings, &[]);
        Self { telemetry }
    }
}

/// Limits how long the bodies of responses may take.
///
/// See [`BodyTimeoutLayer`] for an example.
#[derive(Debug)]
pub struct BodyTimeout<S, E = BoxError> {
    inner: S,
    layer: BodyTimeoutLayer<E>,
}

impl<S, E> BodyTimeout<S, E> {
    inner_accessors!();
}

impl<S: Clone, E> Clone for BodyTimeout<S, E> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            layer: self.layer.clone(),
        }
    }
}

impl<S, Req, B, E> Service<Req> for BodyTimeout<S, E>
where
    S: Service<Req, Response = Response<B>>,
    B: Body,
{
    type Response = Response<TimeoutBody<B, E>>;
    type Error = S::Error;
    type Future = BodyTimeoutFuture<S::Future, E>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Req) -> Self::Future {
        let deadline = Context::current().deadline();
        BodyTimeoutFuture {
            inner: self.inner.call(req),
            layer: self.layer.clone(),
            deadline,
        }
    }
}

/// Response future of [`BodyTimeout`].
#[pin_project]
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct BodyTimeoutFuture<F, E = BoxError> {
    #[pin]
    inner: F,
    layer: BodyTimeoutLayer<E>,
    deadline: Option<Instant>,
}

impl<F, B, E, Err> Future for BodyTimeoutFuture<F, E>
where
    F: Future<Output = Result<Response<B>, Err>>,
    B: Body,
{
    type Output = Result<Response<TimeoutBody<B, E>>, Err>;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.inner.poll(cx))?;
        let BodyTimeoutLayer { limits, shared, .. } = this.layer;
        let timed = |body| TimeoutBody::new(body, *limits, *this.deadline, shared.clone());
        Poll::Ready(Ok(response.map(timed)))
    }
}
