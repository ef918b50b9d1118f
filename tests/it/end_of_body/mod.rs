//! Calls that last until the end of a response body.

mod breaker;
mod bulkhead;
mod retry;
mod timeout;
#[cfg(feature = "grpc")]
mod trailers_only;

use std::{
    convert::Infallible,
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::UnsyncBoxBody};
use tokio::time::sleep;
use tower::Service;

use crate::support::{Error, ms, secs};

/// A body of any kind, as a request for it.
type Given = UnsyncBoxBody<Bytes, Error>;

/// What a body does next.
#[derive(Clone, Debug)]
enum Piece {
    /// A frame, after this time.
    After(Duration),
    Trailers(HeaderMap),
    Fail,
    Panic,
    /// Nothing, ever.
    Hang,
}

/// A body of pieces, that is known to be at its end only once it has said so.
fn pieces(pieces: impl IntoIterator<Item = Piece>) -> Given {
    let pieces: Vec<_> = pieces.into_iter().collect();
    let stream = stream::unfold(pieces.into_iter(), |mut pieces| async move {
        let frame = match pieces.next()? {
            Piece::After(duration) => {
                sleep(duration).await;
                Ok(Frame::data(Bytes::from_static(b"tick")))
            }
            Piece::Trailers(trailers) => Ok(Frame::trailers(trailers)),
            Piece::Fail => Err(Error::Failed(7)),
            Piece::Panic => panic!("as told"),
            Piece::Hang => std::future::pending().await,
        };
        Some((frame, pieces))
    });
    StreamBody::new(stream.fuse()).boxed_unsync()
}

/// Streams for ten seconds.
fn ten_seconds() -> Given {
    pieces((0..10).map(|_| Piece::After(secs(1))))
}

fn trailers(name: &'static str, value: &'static str) -> HeaderMap {
    let (name, value) = (
        HeaderName::from_static(name),
        HeaderValue::from_static(value),
    );
    HeaderMap::from_iter([(name, value)])
}

fn never<T>(never: Infallible) -> T {
    match never {}
}

fn full(text: &'static str) -> Given {
    Full::from(text).map_err(never).boxed_unsync()
}

fn empty() -> Given {
    Empty::new().map_err(never).boxed_unsync()
}

/// Answers with the body it is given.
#[derive(Clone, Debug)]
struct Giver;

impl Service<Given> for Giver {
    type Response = Response<Given>;
    type Error = Error;
    type Future = std::future::Ready<Result<Response<Given>, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, body: Given) -> Self::Future {
        std::future::ready(Ok(Response::new(body)))
    }
}

type Sent<B> = Result<Frame<<B as Body>::Data>, <B as Body>::Error>;

fn poll_frame<B: Body + Unpin>(body: &mut B) -> Poll<Option<Sent<B>>> {
    Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop()))
}

/// Counts how often it is dropped, and is a body that never ends.
struct Dropped(Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

impl Body for Dropped {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Poll::Pending
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(42)
    }
}

#[test]
fn every_type_is_send_sync_and_debug_where_what_it_wraps_is() {
    use steadfast::{
        bulkhead::{BulkheadFuture, HeldKeyedPermit, HeldPermit, One},
        circuit_breaker::{CircuitBreakerFuture, UnsettledCall, UnsettledKeyedCall},
        classify::AnyError,
        http::*,
        until::Answered,
    };

    type Fut = std::future::Ready<Result<Response<Full<Bytes>>, Error>>;
    fn send_sync_debug<T: Send + Sync + std::fmt::Debug>() {}
    send_sync_debug::<(
        HeldPermit,
        HeldKeyedPermit,
        UnsettledCall,
        UnsettledKeyedCall,
    )>();
    send_sync_debug::<(Answered, EndOfBody, End<'_, Error>)>();
    send_sync_debug::<(
        GuardedBody<Full<Bytes>, HeldPermit>,
        GuardedBody<Full<Bytes>, UnsettledCall, HttpClassifier>,
        TimeoutBody<Full<Bytes>>,
    )>();
    send_sync_debug::<(
        BodyTimeoutLayer,
        BodyTimeoutBuilder,
        BodyTimeout<Giver>,
        BodyTimeoutFuture<Fut>,
    )>();

    // To hold on to the end costs a future nothing.
    type Breaker<U> = CircuitBreakerFuture<Fut, AnyError, U>;
    assert_eq!(
        size_of::<BulkheadFuture<Fut, One, EndOfBody>>(),
        size_of::<BulkheadFuture<Fut>>()
    );
    assert_eq!(
        size_of::<Breaker<EndOfBody>>(),
        size_of::<Breaker<Answered>>()
    );
}
