//! Holds the head of a response until it is seen what comes first of its body.

use std::{
    future::Future,
    mem,
    pin::Pin,
    task::{self, Poll, ready},
    time::Duration,
};

use http::{Response, StatusCode};
use http_body::Body;
use pin_project::pin_project;
use tonic::Status;
use tower::{Layer, Service};

use super::{TrailersOnlyBody, body::First};
use crate::time::{self, Timer};

/// Applies [`TrailersOnly`] to a service: at a client, **right below a retry**.
///
/// A gRPC server that fails before it has sent a message may say so in the head of its response, which is
/// then all of it: *trailers-only*. Or it sends a head first and the status in trailers, as servers do that
/// had begun to answer; and a retry, which looks at heads, would take that for a success. This layer makes
/// the second into the first. It holds a head that leaves the verdict open until the first frame:
///
/// - **Trailers** with any status but `OK` become part of the head, and the body is at its end. Where both
///   have a field, that of the trailers stands.
/// - **Anything else**, such as a message, is handed on behind the head at once. Nothing more is looked at,
///   and nothing but that one frame is kept.
///
/// # How long
///
/// The head of a response that streams its first message much later would be held for as long, and a caller
/// that waits for the head before it sends more would wait for ever. So a head is held for no longer than
/// the layer is told, counted from the head on; then it is handed on as it came. Calls with one response
/// have no use for a head alone: for those, [`Duration::MAX`] is right. With [`Duration::ZERO`] what is there
/// with the head is looked at, and nothing is waited for.
///
/// What a [timeout](crate::timeout) above measures, and a breaker takes for slow, then includes the first
/// frame. Dropping the call drops the body.
///
/// # Example
///
/// ```
/// use std::{convert::Infallible, time::Duration};
/// use bytes::Bytes;
/// use http::{HeaderMap, Response};
/// use http_body::{Body, Frame};
/// use http_body_util::StreamBody;
/// use steadfast::grpc::TrailersOnlyLayer;
/// use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let svc = ServiceBuilder::new()
///     .layer(TrailersOnlyLayer::new(Duration::MAX))
///     .service(service_fn(|()| async {
///         let trailers = HeaderMap::from_iter([("grpc-status".parse()?, "14".parse()?)]);
///         let frames = [Ok::<_, Infallible>(Frame::<Bytes>::trailers(trailers))];
///         Ok::<_, BoxError>(Response::new(StreamBody::new(futures_util::stream::iter(frames))))
///     }));
///
/// let response = svc.oneshot(()).await?;
/// assert_eq!(response.headers()["grpc-status"], "14");
/// assert!(response.body().is_end_stream());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct TrailersOnlyLayer {
    hold: Duration,
}

impl TrailersOnlyLayer {
    /// Holds heads for `hold` at the most. More than the clock can reach is for as long as it takes.
    pub const fn new(hold: Duration) -> Self {
        Self { hold }
    }
}

impl<S> Layer<S> for TrailersOnlyLayer {
    type Service = TrailersOnly<S>;

    fn layer(&self, inner: S) -> TrailersOnly<S> {
        let hold = self.hold;
        TrailersOnly { inner, hold }
    }
}

/// Makes errors that come in trailers before any message part of the head.
///
/// See [`TrailersOnlyLayer`] for an example.
#[derive(Clone, Copy, Debug)]
pub struct TrailersOnly<S> {
    inner: S,
    hold: Duration,
}

impl<S> TrailersOnly<S> {
    inner_accessors!();
}

impl<S, Req, B> Service<Req> for TrailersOnly<S>
where
    S: Service<Req, Response = Response<B>>,
    B: Body + Unpin,
{
    type Response = Response<TrailersOnlyBody<B>>;
    type Error = S::Error;
    type Future = TrailersOnlyFuture<S::Future, B>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Req) -> Self::Future {
        let state = State::Called(self.inner.call(req), self.hold);
        TrailersOnlyFuture { state }
    }
}

/// Response future of [`TrailersOnly`].
#[pin_project]
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct TrailersOnlyFuture<F, B> {
    #[pin]
    state: State<F, B>,
}

#[pin_project(project = StateProj)]
#[derive(Debug)]
enum State<F, B> {
    Called(#[pin] F, Duration),
    Held(Held<B>),
    Done,
}

impl<F, B, E> Future for TrailersOnlyFuture<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body + Unpin,
{
    type Output = Result<Response<TrailersOnlyBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        let result = loop {
            match state.as_mut().project() {
                StateProj::Called(future, hold) => match ready!(future.poll(cx)) {
                    Ok(response) if is_open(&response) => {
                        let held = Held {
                            response: Some(response),
                            wait: Wait::Unbegun(*hold),
                        };
                        state.set(State::Held(held));
                    }
                    result => break result.map(pass),
                },
                StateProj::Held(held) => break Ok(ready!(held.poll(cx))),
                StateProj::Done => panic!("`TrailersOnlyFuture` polled after completion"),
            }
        };
        state.set(State::Done);
        Poll::Ready(result)
    }
}

/// Whether the verdict on a response is still to come.
fn is_open<B: Body>(response: &Response<B>) -> bool {
    response.status() == StatusCode::OK
        && !response.headers().contains_key(Status::GRPC_STATUS)
        && !response.body().is_end_stream()
}

fn pass<B: Body>(response: Response<B>) -> Response<TrailersOnlyBody<B>> {
    response.map(TrailersOnlyBody::of)
}

/// A response whose first frame is waited for.
#[derive(Debug)]
struct Held<B> {
    /// There until it is handed on.
    response: Option<Response<B>>,
    wait: Wait,
}

#[derive(Debug)]
enum Wait {
    /// The body has not been found pending yet. It may be for so long.
    Unbegun(Duration),
    /// It has; there is no timer where the clock does not reach the end.
    Begun(Option<Timer>),
}

impl<B: Body + Unpin> Held<B> {
    fn poll(&mut self, cx: &mut task::Context<'_>) -> Poll<Response<TrailersOnlyBody<B>>> {
        let response = self.response.as_mut().expect("it is handed on once");
        let first = match First::poll(response.body_mut(), cx) {
            Poll::Ready(first) => Some(first),
            Poll::Pending => {
                ready!(self.wait.poll(cx));
                None
            }
        };
        if let Wait::Begun(Some(timer)) = mem::replace(&mut self.wait, Wait::Begun(None)) {
            timer.recycle();
        }
        let mut response = self.response.take().expect("it was there just now");
        Poll::Ready(match first {
            None => pass(response),
            Some(First::Error(trailers)) => {
                response.headers_mut().extend(trailers);
                response.map(|_| TrailersOnlyBody::ended())
            }
            Some(First::Frame(frame)) => {
                response.map(|body| TrailersOnlyBody::beginning_with(frame, body))
            }
            Some(First::End) => response.map(|_| TrailersOnlyBody::ended()),
        })
    }
}

impl Wait {
    /// Ready when the head has been held for long enough.
    fn poll(&mut self, cx: &mut task::Context<'_>) -> Poll<()> {
        if let Self::Unbegun(hold) = *self {
            if hold.is_zero() {
                return Poll::Ready(());
            }
            let end = time::now().checked_add(hold);
            *self = Self::Begun(end.map(Timer::until));
        }
        match self {
            Self::Begun(Some(timer)) => timer.poll(cx),
            Self::Begun(None) | Self::Unbegun(_) => Poll::Pending,
        }
    }
}
