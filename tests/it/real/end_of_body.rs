//! Streams that are served, and read, by those who really do.

use axum::{Router, body::Body, routing::get};
use bytes::Bytes;
use futures_util::stream;
use http::Request;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use steadfast::{
    LiftLayer,
    bulkhead::BulkheadHandle,
    circuit_breaker::State,
    http::{AnswerRefusalsLayer, bulkhead, circuit_breaker},
};
use tokio::{net::TcpListener, sync::mpsc};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt};

use super::ms;

type Pieces = mpsc::UnboundedReceiver<Result<Frame<Bytes>, &'static str>>;
type Send = mpsc::UnboundedSender<Result<Frame<Bytes>, &'static str>>;

/// A body that is what is sent.
fn streamed(
    pieces: Pieces,
) -> StreamBody<impl stream::Stream<Item = Result<Frame<Bytes>, BoxError>>> {
    StreamBody::new(stream::unfold(pieces, |mut pieces| async {
        let piece = pieces.recv().await?;
        Some((piece.map_err(BoxError::from), pieces))
    }))
}

fn send(sender: &Send, text: &'static str) {
    sender.send(Ok(Frame::data(Bytes::from(text)))).unwrap();
}

/// An axum server with a place for one call, that streams what is sent, to each request anew.
async fn serve() -> (String, BulkheadHandle, mpsc::UnboundedReceiver<Send>) {
    let (requests, sent) = mpsc::unbounded_channel();
    let layer = bulkhead(1).build();
    let handle = layer.handle();
    let answer = move || async move {
        let (sender, pieces) = mpsc::unbounded_channel();
        requests.send(sender).unwrap();
        Body::new(streamed(pieces))
    };
    let app = Router::new().route("/", get(answer)).layer(
        ServiceBuilder::new()
            .layer(AnswerRefusalsLayer::new())
            .layer(layer)
            .layer(LiftLayer::new()),
    );
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, app).await });
    (url, handle, sent)
}

async fn is_left(handle: &BulkheadHandle) {
    while handle.in_flight() > 0 {
        tokio::time::sleep(ms(1)).await;
    }
}

fn request(url: &str) -> Request<Body> {
    Request::get(url).body(Body::empty()).unwrap()
}

#[tokio::test]
async fn a_stream_of_axum_holds_its_place_at_server_and_client_until_it_is_read() {
    let (url, server, mut requests) = serve().await;
    let layer = bulkhead(8).build();
    let client = layer.handle();
    let mut svc = ServiceBuilder::new()
        .layer(layer)
        .layer(LiftLayer::new())
        .service(Client::builder(TokioExecutor::new()).build_http());

    let response = svc
        .ready()
        .await
        .unwrap()
        .call(request(&url))
        .await
        .unwrap();
    let sender = requests.recv().await.unwrap();
    let mut body = response.into_body();
    send(&sender, "one");
    body.frame().await.unwrap().unwrap();
    assert_eq!((server.in_flight(), client.in_flight()), (1, 1));
    // There is no place for a second, and that is answered.
    let refused = svc.call(request(&url)).await.unwrap();
    assert_eq!(refused.status(), 503);
    refused.into_body().collect().await.unwrap();
    assert_eq!(client.in_flight(), 1);

    send(&sender, "two");
    drop(sender);
    assert_eq!(body.collect().await.unwrap().to_bytes(), "two");
    assert_eq!(client.in_flight(), 0);
    is_left(&server).await;

    // A client that goes away.
    let response = svc.call(request(&url)).await.unwrap();
    let sender = requests.recv().await.unwrap();
    assert_eq!((server.in_flight(), client.in_flight()), (1, 1));
    drop(response);
    assert_eq!(client.in_flight(), 0);
    is_left(&server).await;
    assert!(sender.is_closed());
}

#[tokio::test]
async fn a_body_that_breaks_off_opens_the_breaker_of_a_client() {
    let (url, _, mut requests) = serve().await;
    let layer = circuit_breaker().consecutive_failures(1).build().unwrap();
    let breaker = layer.handle();
    let mut svc = ServiceBuilder::new()
        .layer(layer)
        .layer(LiftLayer::new())
        .service(Client::builder(TokioExecutor::new()).build_http());
    for (ends_well, state) in [(true, State::Closed), (false, State::Open)] {
        let response = svc.ready().await.unwrap().call(request(&url)).await;
        let sender = requests.recv().await.unwrap();
        send(&sender, "one");
        if !ends_well {
            sender.send(Err("no more")).unwrap();
        }
        drop(sender);
        assert_eq!(breaker.state(), State::Closed);
        let read: Result<_, hyper::Error> = response.unwrap().into_body().collect().await;
        assert_eq!((read.is_ok(), breaker.state()), (ends_well, state));
    }
}

#[cfg(feature = "grpc")]
mod grpc {
    use std::future::pending;

    use steadfast::grpc::GrpcClassifier;
    use tonic::{Code, Status};

    use super::*;
    use crate::{
        real::{
            peer::Absent,
            tonic_channel::{connect, echo_but, question, serve},
        },
        relay::relay_client::RelayClient,
    };

    #[tokio::test]
    async fn a_stream_of_tonic_holds_its_place_at_server_and_client_until_it_ends() {
        let absent = Absent::new();
        let channel = connect(absent.address());
        let layer = bulkhead(1).build();
        let server = layer.handle();
        let layer = ServiceBuilder::new()
            .map_err(Status::from)
            .layer(layer)
            .layer(LiftLayer::new());
        serve(absent, layer, echo_but(pending));

        let layer = bulkhead(8).build();
        let client = layer.handle();
        let svc = ServiceBuilder::new()
            .map_err(Status::from)
            .layer(layer)
            .layer(LiftLayer::new())
            .service(channel);
        let mut asks = RelayClient::new(svc);
        let answer = asks.follow(question()).await.unwrap();
        let mut answers = answer.into_inner();
        assert_eq!(answers.message().await.unwrap().unwrap().text, "who?");
        assert_eq!((server.in_flight(), client.in_flight()), (1, 1));
        let refused = asks.ask(question()).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable);

        drop(answers);
        assert_eq!(client.in_flight(), 0);
        is_left(&server).await;
        asks.ask(question()).await.unwrap();
        assert_eq!(client.in_flight(), 0, "a call that is over");
    }

    #[tokio::test]
    async fn a_status_in_trailers_reaches_the_breaker_of_a_channel() {
        let absent = Absent::new();
        let channel = connect(absent.address());
        let fails_late = echo_but(async || Err(Status::unavailable("no more")));
        serve(absent, tower::layer::util::Identity::new(), fails_late);
        let layer = circuit_breaker().classifier(GrpcClassifier::new());
        let layer = layer.consecutive_failures(1).build().unwrap();
        let breaker = layer.handle();
        let svc = ServiceBuilder::new()
            .map_err(Status::from)
            .layer(layer)
            .layer(LiftLayer::new())
            .service(channel);
        let answers = RelayClient::new(svc).follow(question()).await;
        let mut answers = answers.unwrap().into_inner();
        assert_eq!(answers.message().await.unwrap().unwrap().text, "who?");
        assert_eq!(breaker.state(), State::Closed);
        let status = answers.message().await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(breaker.state(), State::Open);
    }
}
