//! A hyper-util client below the layers, and faults below the client.

use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use steadfast::{
    Error, LiftLayer, Reason,
    bulkhead::BulkheadLayer,
    circuit_breaker::State,
    http::{self as steadfast_http, HttpClassifier, HttpClientClassifier, Idempotent},
    retry::RetryLayer,
    timeout::TimeoutLayer,
};
use tower::{Service, ServiceBuilder, ServiceExt};

use super::{
    breaker, every, ms, patience,
    peer::{Absent, Act, Peer, url},
};

type ClientError = hyper_util::client::legacy::Error;

fn client<B>() -> Client<HttpConnector, B>
where
    B: http_body::Body + Send,
    B::Data: Send,
{
    Client::builder(TokioExecutor::new()).build_http()
}

fn get(url: &str) -> Request<Body> {
    Request::get(url).body(Body::empty()).unwrap()
}

fn post(url: &str) -> Request<Body> {
    Request::post(url).body(Body::empty()).unwrap()
}

async fn text(response: Response<Incoming>) -> String {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

/// Retries as they are by default, except that they are quick and that nothing limits them.
fn quick_retry(
    max_attempts: u32,
) -> RetryLayer<HttpClassifier, steadfast_http::IdempotentBodyless> {
    let retry = steadfast_http::retry().max_attempts(max_attempts);
    retry
        .backoff(every(ms(10)))
        .without_budget()
        .build()
        .unwrap()
}

#[tokio::test]
async fn each_layer_alone_lets_calls_through() {
    let peer = Peer::new(|_| Act::ok());
    macro_rules! check {
        ($name:literal, $layer:expr) => {
            let svc = ServiceBuilder::new()
                .layer($layer)
                .layer(LiftLayer::new())
                .service(client::<Body>());
            let response = svc.oneshot(get(&peer.url())).await.unwrap();
            assert_eq!(text(response).await, "fine", $name);
        };
    }
    with_each_layer!(check, retry: quick_retry(2));
}

/// The whole client stack.
fn stack(
    attempts: u32,
    attempt_timeout: Duration,
) -> impl Service<Request<Body>, Response = Response<Incoming>, Error = Error<ClientError>, Future: Send>
+ Clone
+ Send {
    let breaker = breaker(100_000).classifier(HttpClassifier);
    ServiceBuilder::new()
        .layer(BulkheadLayer::new(8))
        .layer(quick_retry(attempts))
        .layer(breaker.build().unwrap())
        .layer(TimeoutLayer::new(attempt_timeout).unwrap())
        .layer(LiftLayer::new())
        .service(client())
}

#[tokio::test]
async fn a_get_gets_through_what_a_post_does_not() {
    let peer = Peer::new(|nth| match nth {
        1 => Act::Cut,
        2 => Act::Hang,
        3 => Act::unavailable(""),
        4 => Act::ok(),
        _ => Act::Cut,
    });
    let client = stack(4, ms(1_000));

    let response = client.clone().oneshot(get(&peer.url())).await.unwrap();
    assert_eq!(text(response).await, "fine");
    assert_eq!(peer.requests(), 4);

    let error = client.oneshot(post(&peer.url())).await.unwrap_err();
    assert!(error.inner().is_some(), "the cut connection, as it is");
    assert_eq!(peer.requests(), 5, "a POST goes once");
}

#[tokio::test]
async fn a_post_with_a_key_is_repeated() {
    let peer = Peer::new(|nth| if nth == 1 { Act::Cut } else { Act::ok() });
    let mut request = post(&peer.url());
    let headers = request.headers_mut();
    headers.insert("idempotency-key", "\"order-7\"".parse().unwrap());
    let response = stack(2, ms(30_000)).oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(peer.requests(), 2);
}

#[tokio::test]
async fn a_body_that_can_be_cloned_is_sent_again() {
    let peer = Peer::new(|nth| if nth == 1 { Act::Cut } else { Act::ok() });
    let retry = steadfast_http::retry().backoff(every(ms(10)));
    let client = ServiceBuilder::new()
        .layer(retry.clone_request(Idempotent).build().unwrap())
        .service(client::<Full<Bytes>>());

    let put = Request::put(peer.url()).body("two loaves".into()).unwrap();
    assert_eq!(client.oneshot(put).await.unwrap().status(), 200);
    let put = ("PUT".to_owned(), "two loaves".to_owned());
    assert_eq!(peer.seen(), [put.clone(), put]);
}

#[tokio::test]
async fn the_last_real_response_comes_back_when_the_attempts_are_over() {
    let peer = Peer::new(|nth| Act::unavailable(format!("no, {nth}")));
    let response = stack(3, ms(30_000)).oneshot(get(&peer.url())).await;
    let response = response.unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(text(response).await, "no, 3");
    assert_eq!(peer.requests(), 3);
}

#[tokio::test]
async fn a_retry_comes_when_the_server_said_and_not_before() {
    let peer = Peer::new(|nth| match nth {
        1 => Act::Answer(
            "503 Service Unavailable",
            "retry-after: 1\r\n",
            String::new(),
        ),
        _ => Act::ok(),
    });
    let began = Instant::now();
    let response = stack(2, ms(30_000)).oneshot(get(&peer.url())).await;
    assert_eq!(response.unwrap().status(), 200);
    assert!(began.elapsed() >= Duration::from_secs(1), "not after 10 ms");
}

#[tokio::test]
async fn a_retry_is_not_made_where_the_server_said_much_later() {
    let line = "retry-after: 86400\r\n";
    let peer = Peer::new(move |_| Act::Answer("429 Too Many Requests", line, String::new()));
    let response = stack(3, ms(30_000)).oneshot(get(&peer.url())).await;
    assert_eq!(response.unwrap().status(), 429);
    assert_eq!(peer.requests(), 1);
}

#[tokio::test]
async fn retries_get_through_once_the_server_is_back() {
    let absent = Absent::new();
    let url = url(absent.address());
    let client = stack(10_000, ms(30_000));
    let call = tokio::spawn(client.oneshot(get(&url)));
    tokio::time::sleep(ms(50)).await;
    assert!(!call.is_finished());

    let peer = absent.appear(|_| Act::ok());
    assert_eq!(call.await.unwrap().unwrap().status(), 200);
    assert_eq!(peer.requests(), 1);
}

#[tokio::test]
async fn a_post_gets_through_once_the_server_is_back_since_it_was_never_sent() {
    let absent = Absent::new();
    let url = url(absent.address());
    let retry = steadfast_http::retry()
        .classifier(HttpClientClassifier)
        .max_attempts(10_000)
        .backoff(every(ms(10)));
    let client = ServiceBuilder::new()
        .layer(retry.without_budget().build().unwrap())
        .layer(LiftLayer::new())
        .service(client());
    let call = tokio::spawn(client.clone().oneshot(post(&url)));
    tokio::time::sleep(ms(50)).await;
    assert!(!call.is_finished());

    let peer = absent.appear(|nth| if nth == 1 { Act::ok() } else { Act::Cut });
    assert_eq!(call.await.unwrap().unwrap().status(), 200);
    assert_eq!(peer.requests(), 1);
    // One that arrived and was not answered is another matter.
    client.oneshot(post(&url)).await.unwrap_err();
    assert_eq!(peer.requests(), 2);
}

#[tokio::test]
async fn the_breaker_opens_on_refused_connections_and_closes_when_the_server_is_back() {
    let absent = Absent::new();
    let url = url(absent.address());
    let layer = breaker(3).build().unwrap();
    let handle = layer.handle();
    let mut client = ServiceBuilder::new()
        .layer(layer)
        .layer(patience())
        .layer(LiftLayer::new())
        .service(client());
    for _ in 0..3 {
        assert_eq!(handle.state(), State::Closed);
        let error = client.ready().await.unwrap().call(get(&url)).await;
        assert!(error.unwrap_err().inner().unwrap().is_connect());
    }
    let error = client.ready().await.unwrap().call(get(&url)).await;
    let rejected = *error.unwrap_err().rejected().unwrap();
    assert_eq!(rejected.reason(), Reason::CircuitOpen);

    let peer = absent.appear(|_| Act::ok());
    tokio::time::sleep(rejected.retry_after().unwrap()).await;
    let response = client.ready().await.unwrap().call(get(&url)).await;
    assert_eq!(response.unwrap().status(), 200);
    assert_eq!(handle.state(), State::Closed);
    assert_eq!(peer.requests(), 1, "the probe");
}

#[tokio::test]
async fn the_breaker_opens_on_hangs_through_the_timeout_inside() {
    let peer = Peer::new(|_| Act::Hang);
    let layer = breaker(2).build().unwrap();
    let handle = layer.handle();
    let mut client = ServiceBuilder::new()
        .layer(layer)
        .layer(TimeoutLayer::new(ms(100)).unwrap())
        .layer(LiftLayer::new())
        .service(client());
    for _ in 0..2 {
        assert_eq!(handle.state(), State::Closed);
        let call = client.ready().await.unwrap().call(get(&peer.url()));
        assert!(call.await.unwrap_err().timed_out().is_some());
    }
    assert_eq!(handle.state(), State::Open);
}

#[tokio::test]
async fn the_breaker_opens_on_bad_statuses_and_not_on_what_callers_did_wrong() {
    let peer = Peer::new(|nth| match nth {
        1..=5 => Act::Answer("404 Not Found", "", String::new()),
        _ => Act::unavailable(""),
    });
    let layer = breaker(2).classifier(HttpClassifier);
    let layer = layer.build().unwrap();
    let handle = layer.handle();
    let mut client = ServiceBuilder::new()
        .layer(layer)
        .layer(LiftLayer::new())
        .service(client());
    for _ in 1..=7 {
        assert_eq!(handle.state(), State::Closed);
        let call = client.ready().await.unwrap().call(get(&peer.url()));
        call.await.unwrap();
    }
    assert_eq!(handle.state(), State::Open);
}

#[tokio::test]
async fn a_retry_is_not_sent_into_the_breaker_that_opened_meanwhile() {
    let absent = Absent::new();
    let url = url(absent.address());
    let client = ServiceBuilder::new()
        .layer(quick_retry(100))
        .layer(breaker(3).build().unwrap())
        .layer(LiftLayer::new())
        .service(client());
    let error = client.oneshot(get(&url)).await.unwrap_err();
    assert_eq!(error.rejected().unwrap().reason(), Reason::CircuitOpen);
}

#[tokio::test]
async fn clones_made_for_each_request_share_one_bulkhead() {
    let peer = Peer::new(|nth| if nth == 1 { Act::Hang } else { Act::ok() });
    let layer = BulkheadLayer::new(1);
    let handle = layer.handle();
    let client = ServiceBuilder::new()
        .layer(layer)
        .layer(LiftLayer::new())
        .service(client());

    let hung = tokio::spawn(client.clone().oneshot(get(&peer.url())));
    peer.reached_by(1).await;
    let error = client.clone().oneshot(get(&peer.url())).await.unwrap_err();
    assert_eq!(error.rejected().unwrap().reason(), Reason::BulkheadFull);

    hung.abort();
    assert!(hung.await.unwrap_err().is_cancelled());
    assert_eq!(handle.in_flight(), 0, "what was held is back");
    let response = client.oneshot(get(&peer.url())).await.unwrap();
    assert_eq!(response.status(), 200);
}
