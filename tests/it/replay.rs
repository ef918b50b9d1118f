//! Request bodies that are sent again.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::{Pin, pin},
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use allocation_counter::measure;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Empty, Full};
use proptest::prelude::*;
use steadfast::{
    backoff::Backoff,
    classify::Failure,
    http::{ReplayBody, ReplayError, ReplayLayer, Replayable},
    retry::RetryLayer,
};
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};

use crate::support::CountingWaker;

/// What a body does when it is polled.
#[derive(Clone, Debug)]
enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
    Fail,
    /// Pending, and never woken.
    Wait,
}

/// A body of pieces, which says no more of its length than that it has one.
struct Pieces(VecDeque<Piece>);

fn pieces(pieces: impl IntoIterator<Item = Piece>) -> Pieces {
    Pieces(pieces.into_iter().collect())
}

fn data(text: &'static str) -> Piece {
    Piece::Data(Bytes::from_static(text.as_bytes()))
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        Poll::Ready(match self.0.pop_front() {
            Some(Piece::Data(data)) => Some(Ok(Frame::data(data))),
            Some(Piece::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
            Some(Piece::Fail) => Some(Err("broken")),
            Some(Piece::Wait) => return Poll::Pending,
            None => None,
        })
    }
}

type Sent<B> = Result<Frame<<B as Body>::Data>, <B as Body>::Error>;

fn poll<B: Body + Unpin>(body: &mut B) -> Poll<Option<Sent<B>>> {
    Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop()))
}

fn trailers() -> HeaderMap {
    HeaderMap::from_iter([(
        http::HeaderName::from_static("checksum"),
        HeaderValue::from_static("7"),
    )])
}

async fn all<B: Body<Data = Bytes, Error = ReplayError<E>>, E>(
    body: B,
) -> Result<(Bytes, Option<HeaderMap>), ReplayError<E>> {
    let collected = body.collect().await?;
    let trailers = collected.trailers().cloned();
    Ok((collected.to_bytes(), trailers))
}

#[tokio::test]
async fn a_body_is_sent_again_byte_for_byte_with_its_trailers() {
    let ten_kib: Vec<u8> = (0..10_240_u32).map(|i| (i * 31 % 251) as u8).collect();
    let chunks = ten_kib.chunks(1000).map(Bytes::copy_from_slice);
    let source = chunks.map(Piece::Data).chain([Piece::Trailers(trailers())]);
    let first = ReplayBody::new(pieces(source), 16 * 1024);
    let again = first.clone();
    let (sent, with) = all(first).await.unwrap();
    assert_eq!((&*sent, with), (&*ten_kib, Some(trailers())));
    for _ in 0..2 {
        let (sent, with) = all(again.clone()).await.unwrap();
        assert_eq!((&*sent, with), (&*ten_kib, Some(trailers())));
    }
}

#[tokio::test]
async fn what_was_not_sent_before_is_streamed_by_the_next() {
    let mut first = ReplayBody::new(pieces([data("one "), data("two "), data("three")]), 1024);
    let again = first.clone();
    assert!(poll(&mut first).is_ready());
    drop(first);
    assert_eq!(all(again).await.unwrap().0, "one two three");
}

#[tokio::test]
async fn a_recorded_body_shares_its_bytes() {
    let page = Bytes::from(vec![1; 4096]);
    let mut first = ReplayBody::new(Full::new(page.clone()), 4096);
    let mut again = first.clone();
    for body in [&mut first, &mut again] {
        let Poll::Ready(Some(Ok(frame))) = poll(body) else {
            panic!("there is a frame")
        };
        assert_eq!(frame.into_data().unwrap().as_ptr(), page.as_ptr());
    }
}

#[tokio::test]
async fn a_body_over_the_cap_goes_once_and_holds_no_more_than_the_cap() {
    const MIB: usize = 1 << 20;
    /// Ten MiB, of which 16 KiB exist at a time.
    struct Upload(usize);
    impl Body for Upload {
        type Data = Bytes;
        type Error = Infallible;
        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.0 += 16 * 1024;
            let chunk = || Ok(Frame::data(Bytes::from(vec![7; 16 * 1024])));
            Poll::Ready((self.0 <= 10 * MIB).then(chunk))
        }
    }

    let cap = 64 * 1024;
    let first = ReplayBody::new(Upload(0), cap);
    let again = first.clone();
    let mut sent = 0;
    let memory = measure(|| {
        let mut first = pin!(first);
        while let Poll::Ready(Some(frame)) = poll(&mut first) {
            sent += frame.unwrap().into_data().unwrap().len();
        }
    });
    assert_eq!(sent, 10 * MIB);
    assert!(memory.bytes_max < 2 * cap as u64, "{memory:?}");
    assert!(!again.is_replayable());
    assert_eq!(all(again).await, Err(ReplayError::Lost));
}

#[tokio::test]
async fn a_body_that_says_it_is_over_the_cap_is_not_recorded_but_may_still_go_once() {
    let first = ReplayBody::new(Full::new(Bytes::from(vec![0; 101])), 100);
    let again = first.clone();
    assert!(first.is_replayable(), "nothing has been sent");
    assert_eq!(all(first).await.unwrap().0.len(), 101);
    assert!(!again.is_replayable());
}

#[tokio::test]
async fn a_body_of_tiny_pieces_is_not_recorded_in_many_times_its_size() {
    let tiny = |count| pieces((0..count).map(|_| data("x")));
    let of = async |count| {
        let first = ReplayBody::new(tiny(count), 6400);
        let again = first.clone();
        all(first).await.unwrap();
        again.is_replayable()
    };
    assert!(of(101).await);
    assert!(!of(102).await);
    let empty = pieces((0..10_000).map(|_| data("")));
    let first = ReplayBody::new(empty, 0);
    let again = first.clone();
    all(first).await.unwrap();
    assert!(again.is_replayable(), "nothing weighs nothing");
}

#[test]
fn who_sends_is_woken_and_told_when_a_later_sending_begins() {
    let source = pieces([data("one"), Piece::Wait, data("two")]);
    let mut first = ReplayBody::new(source, 1024);
    let mut second = first.clone();
    let (count, waker) = CountingWaker::new();
    let cx = &mut Context::from_waker(&waker);
    assert!(Pin::new(&mut first).poll_frame(cx).is_ready());
    assert!(Pin::new(&mut first).poll_frame(cx).is_pending());
    assert_eq!(count.woken(), 0);
    assert!(matches!(poll(&mut second), Poll::Ready(Some(Ok(_)))));
    assert_eq!(count.woken(), 1);
    assert!(matches!(
        poll(&mut first),
        Poll::Ready(Some(Err(ReplayError::Superseded)))
    ));
    assert!(matches!(poll(&mut first), Poll::Ready(None)));
    assert!(matches!(poll(&mut second), Poll::Ready(Some(Ok(_)))));
}

#[tokio::test]
async fn a_body_that_failed_says_so_first_with_its_error_and_then_that_it_is_lost() {
    let first = ReplayBody::new(pieces([data("one"), Piece::Fail]), 1024);
    let again = first.clone();
    assert_eq!(all(first).await, Err(ReplayError::Body("broken")));
    assert!(!again.is_replayable());
    assert_eq!(all(again).await, Err(ReplayError::Lost));
}

#[test]
fn a_body_without_content_costs_nothing_to_replay() {
    let allocated = measure(|| {
        let body = ReplayBody::new(Empty::<Bytes>::new(), 1024);
        assert!(body.is_end_stream() && body.is_replayable());
        assert_eq!(body.size_hint().exact(), Some(0));
        drop(body.clone());
    });
    assert_eq!(allocated.count_total, 0);
}

#[test]
fn the_size_is_known_where_that_of_the_recorded_body_is() {
    let exact = |body: &ReplayBody<Full<Bytes>>| (body.size_hint().exact(), body.is_end_stream());
    let mut first = ReplayBody::new(Full::new(Bytes::from_static(b"12345")), 1024);
    let mut second = first.clone();
    assert_eq!(exact(&first), (Some(5), false));
    assert!(poll(&mut first).is_ready());
    assert_eq!(exact(&first), (Some(0), true));
    assert_eq!(exact(&second), (Some(5), false));
    assert!(poll(&mut second).is_ready());
    assert_eq!(exact(&second), (Some(0), true));
}

#[tokio::test]
async fn a_body_with_trailers_says_no_more_of_its_length_when_it_is_sent_again() {
    for (with, length) in [(false, Some(5)), (true, None)] {
        let trailers = with.then(|| Piece::Trailers(trailers()));
        let first = ReplayBody::new(pieces([data("12345")].into_iter().chain(trailers)), 1024);
        let again = first.clone();
        assert_eq!(first.size_hint().exact(), None);
        all(first).await.unwrap();
        assert_eq!(again.size_hint().exact(), length);
        assert_eq!(again.size_hint().lower(), 5);
    }
}

/// Whatever was sent of it before, and by how many, the sending begun last sends the whole body.
fn the_last_sending_is_whole(lengths: &[usize], stops: &[usize], has_trailers: bool) {
    let mut content = Vec::new();
    let mut source = VecDeque::new();
    for (i, length) in lengths.iter().enumerate() {
        let bytes = vec![i as u8; *length];
        content.extend_from_slice(&bytes);
        source.push_back(Piece::Data(bytes.into()));
    }
    source.extend(has_trailers.then(|| Piece::Trailers(trailers())));
    let body = ReplayBody::new(Pieces(source), usize::MAX);
    let held = Arc::new(Mutex::new(Vec::new()));
    for stop in stops {
        let mut sending = body.clone();
        for _ in 0..*stop {
            let hint: SizeHint = sending.size_hint();
            match poll(&mut sending) {
                Poll::Ready(Some(frame)) => {
                    let frame = frame.unwrap();
                    let length = frame.data_ref().map_or(0, Bytes::len) as u64;
                    assert!(hint.lower() <= content.len() as u64);
                    assert!(hint.upper().is_none_or(|upper| length <= upper));
                    assert!(hint.lower() == 0 || length > 0);
                }
                Poll::Ready(None) => break,
                Poll::Pending => panic!("the pieces are all there"),
            }
        }
        held.lock().unwrap().push(sending); // as a connection may hold on to it
    }
    let mut last = body.clone();
    let (mut sent, mut with) = (Vec::new(), None);
    while let Poll::Ready(Some(frame)) = poll(&mut last) {
        match frame.unwrap().into_data() {
            Ok(data) => sent.extend_from_slice(&data),
            Err(frame) => with = frame.into_trailers().ok(),
        }
    }
    assert_eq!(sent, content);
    assert_eq!(with, has_trailers.then(trailers));
    assert!(last.is_end_stream());
}

proptest! {
    #[test]
    fn the_sending_begun_last_sends_the_whole_body(
        lengths in prop::collection::vec(0..100_usize, 0..8),
        stops in prop::collection::vec(0..12_usize, 0..5),
        has_trailers in any::<bool>(),
    ) {
        the_last_sending_is_whole(&lengths, &stops, has_trailers);
    }
}

type Sending = ReplayBody<Full<Bytes>>;

/// Sends a PUT of this body, to a service that reads it and then fails twice. Returns what was read.
async fn put_with_retry(body: &'static [u8], method: Method, failure: Failure) -> Vec<Bytes> {
    let read = Arc::new(Mutex::new(Vec::new()));
    let service = service_fn(|req: Request<Sending>| {
        let read = read.clone();
        async move {
            let body = req.into_body().collect().await?.to_bytes();
            read.lock().unwrap().push(body);
            Err::<Response<()>, _>(BoxError::from("no answer"))
        }
    });
    let judge = move |_: Result<&Response<()>, &BoxError>| failure.into();
    let retry = RetryLayer::builder()
        .classifier(judge)
        .clone_request(Replayable);
    let stack = ServiceBuilder::new()
        .layer(ReplayLayer::new(10))
        .layer(
            retry
                .backoff(Backoff::none())
                .max_attempts(2)
                .build()
                .unwrap(),
        )
        .service(service);
    let req = Request::builder().method(method);
    let error = stack
        .oneshot(req.body(Full::from(body)).unwrap())
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "no answer", "the last real result");
    std::mem::take(&mut *read.lock().unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_retry_sends_a_recorded_body_again_and_one_too_long_once() {
    let transient = Failure::transient();
    let sent = put_with_retry(b"0123456789", Method::PUT, transient).await;
    assert_eq!(sent, ["0123456789"; 2]);
    let sent = put_with_retry(b"0123456789X", Method::PUT, transient).await;
    assert_eq!(sent, ["0123456789X"]);
    let sent = put_with_retry(b"0123456789", Method::POST, transient).await;
    assert_eq!(sent, ["0123456789"], "it is not safe to repeat");
}

#[tokio::test(start_paused = true)]
async fn what_was_never_sent_is_sent_again_only_with_its_whole_body() {
    let never = Failure::never_sent();
    let sent = put_with_retry(b"01234", Method::POST, never).await;
    assert!(sent.len() > 1, "a POST, too");
    let sent = put_with_retry(b"0123456789X", Method::POST, never).await;
    assert_eq!(sent.len(), 1, "of which some had left");
}
