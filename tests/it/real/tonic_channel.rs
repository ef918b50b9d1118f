//! tonic: the layers around a channel, around a generated client, and around a server.

use std::{
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
};

use futures_util::{Stream, stream};
use http::{Request, Response};
use steadfast::{
    LiftLayer, Reason, Rejected, TimedOut, Verdict,
    bulkhead::BulkheadLayer,
    circuit_breaker::State,
    grpc::{AnswerRefusalsLayer, GrpcClassifier},
    http as steadfast_http,
    retry::RetryLayer,
    timeout::TimeoutLayer,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tonic::{
    Code, Status,
    body::Body,
    codegen::BoxStream,
    transport::{Channel, Endpoint, Server},
};
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt};

use super::{breaker, every, ms, patience, peer::Absent};
use crate::relay::{
    Answer, Question,
    relay_client::RelayClient,
    relay_server::{Relay, RelayServer},
};

/// Answers a question as a function does, and follows one by asking that again and again, until it fails.
struct Asked<F>(Arc<F>);

#[tonic::async_trait]
impl<F, Fut> Relay for Asked<F>
where
    F: Fn(Question) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Answer, Status>> + Send,
{
    async fn ask(
        &self,
        question: tonic::Request<Question>,
    ) -> Result<tonic::Response<Answer>, Status> {
        let answer = (self.0)(question.into_inner()).await?;
        Ok(tonic::Response::new(answer))
    }

    type FollowStream = BoxStream<Answer>;

    async fn follow(
        &self,
        question: tonic::Request<Question>,
    ) -> Result<tonic::Response<Self::FollowStream>, Status> {
        let (ask, question) = (Arc::clone(&self.0), question.into_inner());
        let answers = stream::unfold((ask, question), |(ask, question)| async {
            Some((ask(question.clone()).await, (ask, question)))
        });
        Ok(tonic::Response::new(Box::pin(answers)))
    }
}

/// A generated server that answers as `ask` does.
pub(super) fn asked<F, Fut>(ask: F) -> RelayServer<impl Relay>
where
    F: Fn(Question) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Answer, Status>> + Send + 'static,
{
    RelayServer::new(Asked(Arc::new(ask)))
}

/// One that answers a question with its text.
pub(super) fn echo() -> RelayServer<impl Relay> {
    asked(async |Question { text }| Ok(Answer { text }))
}

/// The same, but that it answers the second question as `second` does.
pub(super) fn echo_but<F, Fut>(second: F) -> RelayServer<impl Relay>
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Answer, Status>> + Send + 'static,
{
    let questions = AtomicU32::new(0);
    asked(move |Question { text }| {
        let is_second = questions.fetch_add(1, SeqCst) == 1;
        let second = is_second.then(&second);
        async move {
            match second {
                Some(second) => second.await,
                None => Ok(Answer { text }),
            }
        }
    })
}

pub(super) fn connect(address: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}"));
    endpoint.unwrap().connect_lazy()
}

pub(super) fn question() -> Question {
    let text = "who?".to_owned();
    Question { text }
}

/// The connections that `absent` gets.
fn incoming(absent: Absent) -> impl Stream<Item = std::io::Result<TcpStream>> {
    stream::unfold(absent.listen(), |listener: TcpListener| async {
        let accepted = listener.accept().await.map(|(stream, _)| stream);
        Some((accepted, listener))
    })
}

/// Serves `svc` below `layer` on loopback until the test is over.
pub(super) fn serve<L, S, B>(absent: Absent, layer: L, svc: S) -> JoinHandle<()>
where
    S: Send + 'static,
    L: Layer<S> + Send + 'static,
    L::Service:
        Service<Request<Body>, Response = Response<B>, Future: Send> + Clone + Send + 'static,
    B: http_body::Body<Data = bytes::Bytes, Error: Into<BoxError>> + Send + 'static,
    <L::Service as Service<Request<Body>>>::Error: Into<BoxError> + Send + 'static,
{
    let incoming = incoming(absent);
    tokio::spawn(async move {
        let server = Server::builder().layer(layer);
        server.serve_with_incoming(svc, incoming).await.unwrap();
    })
}

/// A server that is simply there.
fn served() -> SocketAddr {
    let absent = Absent::new();
    let address = absent.address();
    serve(absent, tower::layer::util::Identity::new(), echo());
    address
}

/// Asks once, through whatever stack.
async fn ask<S>(svc: S) -> Result<Answer, Status>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Status>,
{
    let answer = RelayClient::new(svc).ask(question()).await;
    answer.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn each_layer_alone_fits_a_channel() {
    let address = served();
    macro_rules! check {
        ($name:literal, $layer:expr) => {
            let svc = ServiceBuilder::new()
                .map_err(Status::from)
                .layer($layer)
                .layer(LiftLayer::new())
                .service(connect(address));
            assert_eq!(ask(svc).await.unwrap().text, "who?", $name);
        };
    }
    with_each_layer!(check, retry: steadfast_http::retry().build().unwrap());
}

#[tokio::test]
async fn a_channel_whose_error_is_a_status_takes_each_layer_without_a_lift() {
    let address = served();
    macro_rules! check {
        ($name:literal, $layer:expr) => {
            let svc = ServiceBuilder::new()
                .layer($layer)
                .map_err(|error: tonic::transport::Error| Status::from_error(error.into()))
                .service(connect(address));
            assert_eq!(ask(svc).await.unwrap().text, "who?", $name);
        };
    }
    with_each_layer!(check, retry: steadfast_http::retry().build().unwrap());
}

#[tokio::test]
async fn each_layer_alone_fits_a_server() {
    macro_rules! check {
        ($name:literal, $layer:expr) => {
            let absent = Absent::new();
            let channel = connect(absent.address());
            let layer = ServiceBuilder::new()
                .layer(AnswerRefusalsLayer::new())
                .layer($layer)
                .layer(LiftLayer::new());
            serve(absent, layer, echo());
            let svc = ServiceBuilder::new()
                .map_err(from_transport)
                .service(channel);
            assert_eq!(ask(svc).await.unwrap().text, "who?", $name);
        };
    }
    with_each_layer!(check, retry: steadfast_http::retry().build().unwrap());
}

fn from_transport(error: tonic::transport::Error) -> Status {
    Status::from_error(error.into())
}

/// A generated client as a service of messages, its error a `Status`.
pub(super) fn messages<S>(
    channel: S,
) -> impl Service<Question, Response = Answer, Error = Status, Future: Future + Send> + Clone
where
    S: Service<Request<Body>, Response = Response<Body>, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send,
{
    tower::service_fn(move |question: Question| {
        let mut client = RelayClient::new(channel.clone());
        async move { Ok(client.ask(question).await?.into_inner()) }
    })
}

#[tokio::test]
async fn above_a_generated_client_calls_are_retried_until_the_server_is_back() {
    let absent = Absent::new();
    let retry = RetryLayer::builder().max_attempts(10_000);
    let svc = ServiceBuilder::new()
        .layer(BulkheadLayer::new(8))
        .layer(
            retry
                .backoff(every(ms(10)))
                .without_budget()
                .build()
                .unwrap(),
        )
        .layer(breaker(100_000).build().unwrap())
        .layer(patience())
        .service(messages(connect(absent.address())));
    let call = tokio::spawn(svc.oneshot(question()));
    tokio::time::sleep(ms(50)).await;
    assert!(!call.is_finished());

    serve(absent, tower::layer::util::Identity::new(), echo());
    assert_eq!(call.await.unwrap().unwrap().text, "who?");
}

#[tokio::test]
async fn the_breaker_opens_on_refused_connections_and_closes_when_the_server_is_back() {
    let absent = Absent::new();
    let layer = breaker(2).build().unwrap();
    let handle = layer.handle();
    let svc = ServiceBuilder::new()
        .map_err(Status::from)
        .layer(layer)
        .layer(patience())
        .layer(LiftLayer::new())
        .service(connect(absent.address()));
    for _ in 0..2 {
        assert_eq!(handle.state(), State::Closed);
        let status = ask(svc.clone()).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        assert_eq!(Rejected::find(&status), None);
    }
    let status = ask(svc.clone()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let rejected = *Rejected::find(&status).unwrap();
    assert_eq!(rejected.reason(), Reason::CircuitOpen);

    serve(absent, tower::layer::util::Identity::new(), echo());
    tokio::time::sleep(rejected.retry_after().unwrap()).await;
    assert_eq!(ask(svc).await.unwrap().text, "who?");
    assert_eq!(handle.state(), State::Closed);
}

#[tokio::test]
async fn the_breaker_opens_on_hangs_through_the_timeout_inside() {
    let absent = Absent::new();
    let address = absent.address();
    let _accepts_and_says_nothing = absent.listen();
    let layer = breaker(2).build().unwrap();
    let handle = layer.handle();
    let svc = ServiceBuilder::new()
        .map_err(Status::from)
        .layer(layer)
        .layer(TimeoutLayer::new(ms(100)).unwrap())
        .layer(LiftLayer::new())
        .service(connect(address));
    for _ in 0..2 {
        assert_eq!(handle.state(), State::Closed);
        let status = ask(svc.clone()).await.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded);
        assert!(TimedOut::find(&status).is_some());
    }
    assert_eq!(handle.state(), State::Open);
}

#[tokio::test]
async fn a_connection_that_is_cut_is_an_error_that_a_retry_repeats() {
    let absent = Absent::new();
    let address = absent.address();
    let listener = absent.listen();
    tokio::spawn(async move {
        drop(listener.accept().await); // the first, cut
        let incoming = stream::unfold(listener, |listener| async {
            let accepted = listener.accept().await.map(|(stream, _)| stream);
            Some((accepted, listener))
        });
        let server = Server::builder().serve_with_incoming(echo(), incoming);
        server.await.unwrap();
    });
    let calls = RetryLayer::builder().backoff(every(ms(10)));
    let svc = ServiceBuilder::new()
        .layer(calls.without_budget().max_attempts(100).build().unwrap())
        .service(messages(connect(address)));
    assert_eq!(svc.oneshot(question()).await.unwrap().text, "who?");
}

/// What a client is told by a server that has `layer` around its services.
macro_rules! told_by_a_server_with {
    ($layer:expr, $svc:expr) => {{
        let absent = Absent::new();
        let channel = connect(absent.address());
        let layer = ServiceBuilder::new()
            .layer(AnswerRefusalsLayer::new())
            .layer($layer)
            .layer(LiftLayer::new());
        serve(absent, layer, $svc);
        let svc = ServiceBuilder::new()
            .map_err(from_transport)
            .service(channel);
        ask(svc).await.unwrap_err()
    }};
}

#[tokio::test]
async fn a_refusal_goes_over_the_wire_as_a_status_with_pushback() {
    let full = BulkheadLayer::builder(0).name("front-door").build();
    let status = told_by_a_server_with!(full, echo());
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("front-door"), "{status}");
    assert_eq!(status.metadata().get("grpc-retry-pushback-ms"), None);

    let open = breaker(1).build().unwrap();
    open.handle().force_open_for(std::time::Duration::MAX);
    let status = told_by_a_server_with!(open, echo());
    assert_eq!(status.code(), Code::Unavailable);
    let pushback = status.metadata().get("grpc-retry-pushback-ms");
    assert_eq!(pushback.unwrap(), "2147483647");
}

#[tokio::test]
async fn an_expiry_goes_over_the_wire_as_an_exceeded_deadline() {
    let hung = asked(|_| std::future::pending());
    let status = told_by_a_server_with!(TimeoutLayer::new(ms(50)).unwrap(), hung);
    assert_eq!(status.code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_refusal_answered_in_add_service_or_by_map_err_is_the_same_to_the_client() {
    let full = || BulkheadLayer::builder(0).name("front-door").build();
    let absent = Absent::new();
    let channel = connect(absent.address());
    let svc = ServiceBuilder::new()
        .layer(AnswerRefusalsLayer::new())
        .layer(full())
        .layer(LiftLayer::new())
        .service(echo());
    let incoming = incoming(absent);
    tokio::spawn(async move {
        let server = Server::builder().add_service(svc);
        server.serve_with_incoming(incoming).await.unwrap();
    });
    let client = ServiceBuilder::new().map_err(from_transport);
    let answered = ask(client.service(channel)).await.unwrap_err();
    assert_eq!(answered.code(), Code::Unavailable);
    assert!(answered.message().contains("front-door"), "{answered}");

    let absent = Absent::new();
    let channel = connect(absent.address());
    let layer = ServiceBuilder::new()
        .map_err(Status::from)
        .layer(full())
        .layer(LiftLayer::new());
    serve(absent, layer, echo());
    let client = ServiceBuilder::new().map_err(from_transport);
    let mapped = ask(client.service(channel)).await.unwrap_err();
    assert_eq!(
        (mapped.code(), mapped.message()),
        (answered.code(), answered.message())
    );
}

/// A server that refuses as `rejected` says, its first `refusals` calls.
fn refusing(refusals: u32, rejected: Rejected) -> (SocketAddr, Arc<AtomicU32>) {
    let absent = Absent::new();
    let address = absent.address();
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let layer = ServiceBuilder::new()
        .layer(AnswerRefusalsLayer::new())
        .filter(
            move |request| match counted.fetch_add(1, SeqCst) < refusals {
                true => Err::<Request<Body>, BoxError>(rejected.into()),
                false => Ok(request),
            },
        );
    serve(absent, layer, echo());
    (address, calls)
}

/// A client that asks up to three times, and a minute apart unless the server says otherwise.
fn asking_again(address: SocketAddr) -> impl Service<Question, Response = Answer, Error = Status> {
    let retry = RetryLayer::builder()
        .classifier(|result: Result<&Answer, &Status>| match result {
            Ok(_) => Verdict::Success,
            Err(status) => GrpcClassifier::new().status(status),
        })
        .backoff(every(std::time::Duration::from_secs(60)))
        .without_budget();
    let retry = retry.build().unwrap();
    ServiceBuilder::new()
        .layer(retry)
        .service(messages(connect(address)))
}

#[tokio::test]
async fn a_client_comes_back_when_the_server_said_and_not_when_it_said_never() {
    let rejected = Rejected::new("door", Reason::Overloaded).with_retry_after(ms(20));
    let (address, calls) = refusing(2, rejected);
    // The backoff is of minutes: it is the pushback that brings it back.
    let answer = asking_again(address).oneshot(question()).await;
    assert_eq!((&*answer.unwrap().text, calls.load(SeqCst)), ("who?", 3));

    let (address, calls) = refusing(2, rejected.non_retryable());
    let status = asking_again(address).oneshot(question()).await.unwrap_err();
    assert_eq!((status.code(), calls.load(SeqCst)), (Code::Unavailable, 1));
}

#[tokio::test]
async fn the_breaker_opens_on_statuses_in_heads_and_not_on_those_of_the_caller() {
    for (code, state) in [
        (Code::Unavailable, State::Open),
        (Code::NotFound, State::Closed),
    ] {
        let svc = asked(move |_| async move { Err(Status::new(code, "as told")) });
        let absent = Absent::new();
        let channel = connect(absent.address());
        serve(absent, tower::layer::util::Identity::new(), svc);
        let layer = breaker(2)
            .classifier(GrpcClassifier::new())
            .build()
            .unwrap();
        let handle = layer.handle();
        let svc = ServiceBuilder::new()
            .map_err(Status::from)
            .layer(layer)
            .layer(LiftLayer::new())
            .service(channel);
        for _ in 0..2 {
            let status = ask(svc.clone()).await.unwrap_err();
            assert_eq!(status.code(), code);
        }
        assert_eq!(handle.state(), state, "{code:?}");
    }
}
