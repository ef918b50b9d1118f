//! gRPC's retry between a generated client and a channel.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use steadfast::{
    LiftLayer,
    budget::Budget,
    circuit_breaker::State,
    grpc::{GrpcClassifier, Replayable, TrailersOnlyBody, TrailersOnlyLayer, retry},
    http::{ReplayBody, ReplayLayer, circuit_breaker},
    retry::RetryBuilder,
};
use tonic::{Code, Status, body::Body, metadata::MetadataMap};
use tower::{BoxError, Service, ServiceBuilder};

use super::{
    every, ms,
    peer::Absent,
    tonic_channel::{asked, connect, echo_but, question, serve},
};
use crate::relay::{
    Answer, Question,
    relay_client::RelayClient,
    relay_server::{Relay, RelayServer},
};

/// A generated client above a retry above a channel.
pub(super) fn retrying<S, B>(
    channel: S,
    retry: RetryBuilder<GrpcClassifier, Replayable>,
) -> RelayClient<
    impl Service<Request<Body>, Response = Response<TrailersOnlyBody<B>>, Error = Status, Future: Send>
    + Clone
    + Send
    + 'static,
>
where
    S: Service<
            Request<Body>,
            Response = Response<B>,
            Error: Into<BoxError> + 'static,
            Future: Send,
        > + Clone
        + Send
        + 'static,
    B: http_body::Body<Data = Bytes, Error = Status> + Unpin + Send + 'static,
{
    RelayClient::new(
        ServiceBuilder::new()
            .map_err(Status::from)
            .layer(ReplayLayer::new(1024))
            .layer(retry.build().unwrap())
            .layer(TrailersOnlyLayer::new(Duration::MAX))
            .map_request(|req: Request<ReplayBody<Body>>| req.map(Body::new))
            .layer(LiftLayer::new())
            .service(channel),
    )
}

/// Says in trailers what a server says in a head that is all of its answer, as do those whose handler had
/// begun to answer.
fn in_trailers(response: Response<Body>) -> Response<Body> {
    let is_trailers_only = response.headers().contains_key(Status::GRPC_STATUS);
    if !is_trailers_only {
        return response;
    }
    let (mut head, _) = response.into_parts();
    let mut trailers = std::mem::take(&mut head.headers);
    let content_type = trailers.remove("content-type").unwrap();
    head.headers.insert("content-type", content_type);
    let frames = [Ok::<_, Status>(Frame::<Bytes>::trailers(trailers))];
    Response::from_parts(head, Body::new(StreamBody::new(stream::iter(frames))))
}

/// Fails its first questions with a status, and echoes the rest. How many there were.
fn failing(first: u32, status: Status) -> (RelayServer<impl Relay>, Arc<AtomicU32>) {
    let questions = Arc::<AtomicU32>::default();
    let counted = Arc::clone(&questions);
    let server = asked(move |Question { text }| {
        let fails = counted.fetch_add(1, SeqCst) < first;
        let status = status.clone();
        async move {
            match fails {
                true => Err(status),
                false => Ok(Answer { text }),
            }
        }
    });
    (server, questions)
}

fn budget_of(retries: u32) -> Budget {
    let budget = Budget::new(0.1).unwrap().with_max_balance(9).unwrap();
    let budget = budget.with_floor(0);
    (0..retries * 10).for_each(|_| budget.deposit());
    budget
}

fn quick(budget: Budget) -> RetryBuilder<GrpcClassifier, Replayable> {
    retry().max_attempts(9).backoff(every(ms(1))).budget(budget)
}

/// A client of a server that answers in heads, or where it is late, in trailers.
macro_rules! client_of {
    ($server:expr, $is_late:expr, $retry:expr) => {{
        let (absent, is_late) = (Absent::new(), $is_late);
        let channel = connect(absent.address());
        let layer = ServiceBuilder::new().map_response(move |response| match is_late {
            true => in_trailers(response),
            false => response,
        });
        serve(absent, layer, $server);
        retrying(channel, $retry)
    }};
}

#[tokio::test]
async fn a_status_in_a_head_and_one_in_trailers_are_tried_again_within_the_budget() {
    for is_late in [false, true] {
        let (server, questions) = failing(2, Status::unavailable("not yet"));
        let mut asks = client_of!(server, is_late, quick(budget_of(2)));
        let answer = asks.ask(question()).await.unwrap();
        assert_eq!(answer.into_inner().text, "who?");
        assert_eq!(questions.load(SeqCst), 3);

        let (server, questions) = failing(9, Status::unavailable("never"));
        let mut asks = client_of!(server, is_late, quick(budget_of(2)));
        let status = asks.ask(question()).await.unwrap_err();
        assert_eq!(
            (status.code(), status.message()),
            (Code::Unavailable, "never")
        );
        assert_eq!(questions.load(SeqCst), 3);

        let (server, questions) = failing(9, Status::not_found("who?"));
        let mut asks = client_of!(server, is_late, quick(budget_of(2)));
        let status = asks.ask(question()).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound);
        assert_eq!(questions.load(SeqCst), 1, "an answer");
    }
}

#[tokio::test]
async fn pushback_is_kept_to_wherever_it_stands() {
    for is_late in [false, true] {
        let refused = |pushback: &str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-retry-pushback-ms", pushback.parse().unwrap());
            Status::with_metadata(Code::Unavailable, "later", metadata)
        };
        let began = Instant::now();
        let (server, questions) = failing(1, refused("120"));
        let mut asks = client_of!(server, is_late, quick(budget_of(2)));
        asks.ask(question()).await.unwrap();
        assert_eq!(questions.load(SeqCst), 2);
        assert!(began.elapsed() >= ms(120));

        for pushback in ["-1", "soon"] {
            let (server, questions) = failing(1, refused(pushback));
            let mut asks = client_of!(server, is_late, quick(budget_of(2)));
            asks.ask(question()).await.unwrap_err();
            assert_eq!(questions.load(SeqCst), 1, "{pushback}");
        }
    }
}

#[tokio::test]
async fn a_stream_that_fails_before_its_first_message_is_tried_again_and_none_is_kept_back() {
    // The generated server sends a head, and then the status in trailers.
    let (server, questions) = failing(2, Status::unavailable("not yet"));
    let mut asks = client_of!(server, false, quick(budget_of(2)));
    let mut answers = asks.follow(question()).await.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap().text, "who?");
    assert!(questions.load(SeqCst) >= 3);

    // The second message never comes, and the first is there.
    let mut asks = client_of!(echo_but(pending), false, quick(budget_of(2)));
    let mut answers = asks.follow(question()).await.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap().text, "who?");

    // What comes behind a message is the caller's to see.
    let fails = echo_but(async || Err(Status::unavailable("no more")));
    let mut asks = client_of!(fails, false, quick(budget_of(2)));
    let mut answers = asks.follow(question()).await.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap().text, "who?");
    let status = answers.message().await.unwrap_err();
    assert_eq!(status.message(), "no more");
}

#[tokio::test]
async fn the_breaker_below_it_opens_on_what_is_said_in_trailers() {
    let absent = Absent::new();
    let channel = connect(absent.address());
    let (server, questions) = failing(9, Status::unavailable("never"));
    serve(
        absent,
        ServiceBuilder::new().map_response(in_trailers),
        server,
    );
    let breaker = circuit_breaker().classifier(GrpcClassifier::new());
    let breaker = breaker.consecutive_failures(2).build().unwrap();
    let handle = breaker.handle();
    let channel = ServiceBuilder::new()
        .map_err(Status::from)
        .layer(breaker)
        .layer(LiftLayer::new())
        .service(channel);
    let mut asks = retrying(channel, quick(budget_of(9)));
    let status = asks.ask(question()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!((handle.state(), questions.load(SeqCst)), (State::Open, 2));
}
