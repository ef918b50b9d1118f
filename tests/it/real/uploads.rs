//! Request bodies that are sent again, and those that are not, over a socket.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use allocation_counter::measure;
use axum::{
    Router,
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode},
    routing::put,
};
use bytes::{Buf, Bytes};
use futures_util::stream;
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, StreamBody};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use steadfast::{
    LiftLayer,
    deadline::PropagateLayer,
    http::{ReplayLayer, Replayable, retry},
};
use tokio::{net::TcpListener, sync::mpsc::unbounded_channel};
use tower::{ServiceBuilder, ServiceExt};

use super::{every, ms};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const PIECE: usize = 16 * KIB;

/// The nth piece of a body, in which no eight bytes are like any others.
fn piece(nth: usize) -> Bytes {
    let words = (nth * PIECE / 8..).take(PIECE / 8);
    words.flat_map(|word| (word as u64).to_be_bytes()).collect()
}

/// A body of so many bytes, never more than a piece of which is in memory.
struct Upload {
    length: usize,
    sent: usize,
    says_its_length: bool,
}

impl Upload {
    const fn of(length: usize) -> Self {
        Self {
            length,
            sent: 0,
            says_its_length: false,
        }
    }
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let is_left = self.sent < self.length;
        let frame = is_left.then(|| Ok(Frame::data(piece(self.sent / PIECE))));
        self.sent += PIECE;
        Poll::Ready(frame)
    }

    fn size_hint(&self) -> SizeHint {
        if self.says_its_length {
            SizeHint::with_exact(self.length.saturating_sub(self.sent) as u64)
        } else {
            SizeHint::new()
        }
    }
}

/// What arrived of an upload: how much, all of it as it was sent; and how much its head says it is.
type Arrived = (usize, Option<String>);

async fn arrived(request: Request) -> Arrived {
    let says = request.headers().get("content-length");
    let says = says.map(|value| value.to_str().unwrap().to_owned());
    let (mut length, mut expected) = (0, Bytes::new());
    let mut body = request.into_body();
    while let Some(frame) = body.frame().await {
        let mut data = frame.unwrap().into_data().unwrap();
        while data.has_remaining() {
            if expected.is_empty() {
                expected = piece(length / PIECE);
            }
            let both = data.len().min(expected.len());
            assert!(
                data.split_to(both) == expected.split_to(both),
                "at {length}"
            );
            length += both;
        }
    }
    (length, says)
}

async fn bind(router: Router) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, router).await });
    super::peer::url(address)
}

/// Uploads to a server that has no use for it, through a retry that records up to `cap`, or none. What
/// arrived, and the most that was in memory at a time for client and server, which are on one thread.
fn upload(body: Upload, cap: Option<usize>) -> (Vec<Arrived>, usize) {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    let (see, mut seen) = unbounded_channel();
    let receive = put(async move |request: Request| {
        see.send(arrived(request).await).unwrap();
        StatusCode::SERVICE_UNAVAILABLE
    });
    let allocated = measure(|| {
        runtime.block_on(async {
            let url = bind(Router::new().route("/", receive)).await;
            let request = Request::put(url).body(body).unwrap();
            let executor = TokioExecutor::new();
            let response = match cap {
                None => {
                    Client::builder(executor)
                        .build_http()
                        .request(request)
                        .await
                }
                Some(cap) => {
                    let retry = retry().clone_request(Replayable).backoff(every(ms(1)));
                    let svc = ServiceBuilder::new()
                        .layer(ReplayLayer::new(cap))
                        .layer(retry.without_budget().build().unwrap())
                        .service(Client::builder(executor).build_http());
                    svc.oneshot(request).await
                }
            };
            assert_eq!(response.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
        });
    });
    let mut all = Vec::new();
    while let Ok(one) = seen.try_recv() {
        all.push(one);
    }
    (all, allocated.bytes_max.try_into().unwrap())
}

#[test]
fn an_upload_over_the_cap_goes_once_untouched_and_is_never_held_beyond_the_cap() {
    let (length, cap) = (10 * MIB, 4 * MIB);
    let (_, bare) = upload(Upload::of(length), None);

    let (arrived, peak) = upload(Upload::of(length), Some(cap));
    assert_eq!(arrived, [(length, None)]);
    let held = bare + cap / 2..bare + cap + 2 * PIECE;
    assert!(held.contains(&peak), "{peak} beside {bare}");
    let (arrived, longer) = upload(Upload::of(2 * length), Some(cap));
    assert_eq!(arrived, [(2 * length, None)]);
    assert!(longer < peak + PIECE, "{longer} beside {peak}");

    // Of one that says beforehand that it is longer, nothing is held at all.
    let says_its_length = true;
    let told = Upload {
        says_its_length,
        ..Upload::of(length)
    };
    let (arrived, peak) = upload(told, Some(cap));
    assert_eq!(arrived, [(length, Some(length.to_string()))]);
    assert!(peak < bare + 2 * PIECE, "{peak} beside {bare}");
}

#[test]
fn one_within_the_cap_is_sent_as_often_as_there_are_attempts() {
    let (arrived, _) = upload(Upload::of(MIB), Some(MIB));
    // By the second time it is known how long it is.
    let known = (MIB, Some(MIB.to_string()));
    assert_eq!(arrived, [(MIB, None), known.clone(), known]);
}

/// A body of 10 KiB with trailers.
fn with_trailers() -> impl http_body::Body<Data = Bytes, Error = Infallible> + Send {
    let body = piece(0).slice(..10 * KIB);
    let pieces: Vec<_> = (0..10)
        .map(|kib| body.slice(kib * KIB..(kib + 1) * KIB))
        .collect();
    let frames = pieces.into_iter().map(Frame::data);
    let frames = frames.chain([Frame::trailers(trailers())]);
    StreamBody::new(stream::iter(frames.map(Ok)))
}

fn trailers() -> HeaderMap {
    let (name, value) = ("checksum", "7; of ten");
    let name = HeaderName::from_static(name);
    HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
}

#[tokio::test]
async fn a_body_with_trailers_is_sent_again_byte_for_byte_with_them() {
    let (see, mut seen) = unbounded_channel();
    let receive = put(async move |request: Request| {
        let attempt = request.headers().get("x-request-attempt").cloned();
        let mut body = request.into_body();
        if attempt.is_none() {
            body.frame().await.unwrap().unwrap(); // and no more of it
            return StatusCode::BAD_GATEWAY;
        }
        let body = body.collect().await.unwrap();
        let trailers = body.trailers().cloned();
        see.send((body.to_bytes(), trailers)).unwrap();
        if attempt.unwrap() == "2" {
            StatusCode::BAD_GATEWAY
        } else {
            StatusCode::OK
        }
    });
    let url = bind(Router::new().route("/", receive)).await;
    let retry = retry().clone_request(Replayable).backoff(every(ms(1)));
    let svc = ServiceBuilder::new()
        .layer(ReplayLayer::new(16 * KIB))
        .layer(retry.without_budget().build().unwrap())
        .layer(PropagateLayer::new())
        .layer(LiftLayer::new())
        .service(Client::builder(TokioExecutor::new()).build_http());
    // HTTP/1.1 sends the trailers that the head announces.
    let request = Request::put(url).header("trailer", "checksum");
    let response = svc.oneshot(request.body(with_trailers()).unwrap()).await;
    assert_eq!(response.unwrap().status(), StatusCode::OK);
    let sent = (piece(0).slice(..10 * KIB), Some(trailers()));
    for nth in ["second", "third"] {
        assert!(seen.recv().await.unwrap() == sent, "the {nth} attempt");
    }
    assert!(seen.is_empty());
}
