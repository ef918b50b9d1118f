//! reqwest's client, with its own request and response types.

use reqwest::{Client, Method, Request, Response};
use steadfast::{
    LiftLayer, Reason, Verdict,
    bulkhead::BulkheadLayer,
    circuit_breaker::State,
    classify::{AnyError, Classify},
    http::{HttpClassifier, is_safe_to_retry},
    retry::RetryLayer,
    timeout::TimeoutLayer,
};
use tower::{Service, ServiceBuilder, ServiceExt};

use super::{
    breaker, every, ms,
    peer::{Absent, Act, Peer, url},
};

type Error = steadfast::Error<reqwest::Error>;

fn client() -> Client {
    Client::builder().no_proxy().build().unwrap()
}

fn request(method: Method, url: &str) -> Request {
    Request::new(method, url.parse().unwrap())
}

fn judge(result: Result<&Response, &Error>) -> Verdict {
    match result {
        Ok(response) => HttpClassifier.verdict(response.status(), response.headers()),
        error => AnyError.classify(error),
    }
}

fn copy(request: &Request) -> Option<Request> {
    let is_safe = is_safe_to_retry(request.method(), request.headers());
    is_safe.then(|| request.try_clone()).flatten()
}

#[tokio::test]
async fn each_layer_alone_lets_calls_through() {
    let peer = Peer::new(|_| Act::ok());
    macro_rules! check {
        ($name:literal, $layer:expr) => {
            let svc = ServiceBuilder::new()
                .layer($layer)
                .layer(LiftLayer::new())
                .service(client());
            let response = svc.oneshot(request(Method::GET, &peer.url())).await;
            assert_eq!(response.unwrap().text().await.unwrap(), "fine", $name);
        };
    }
    let retry = RetryLayer::builder().classifier(judge).clone_request(copy);
    with_each_layer!(check, retry: retry.build().unwrap());
}

#[tokio::test]
async fn the_whole_stack_gets_a_get_through_and_sends_a_post_once() {
    let peer = Peer::new(|nth| match nth {
        1 => Act::Cut,
        2 => Act::Hang,
        3 => Act::unavailable(""),
        4 => Act::ok(),
        _ => Act::unavailable("no"),
    });
    let retry = RetryLayer::builder().classifier(judge).clone_request(copy);
    let retry = retry.max_attempts(4).backoff(every(ms(10)));
    let bulkhead = BulkheadLayer::new(1);
    let handle = bulkhead.handle();
    let mut client = ServiceBuilder::new()
        .layer(bulkhead)
        .layer(retry.without_budget().build().unwrap())
        .layer(breaker(100_000).classifier(judge).build().unwrap())
        .layer(TimeoutLayer::new(ms(1_000)).unwrap())
        .layer(LiftLayer::new())
        .service(client());

    let get = request(Method::GET, &peer.url());
    let response = client.ready().await.unwrap().call(get).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(peer.requests(), 4);

    let post = request(Method::POST, &peer.url());
    let response = client.ready().await.unwrap().call(post).await.unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(peer.requests(), 5);
    assert_eq!(handle.in_flight(), 0);
}

#[tokio::test]
async fn the_breaker_opens_on_refused_connections() {
    let absent = Absent::new();
    let layer = breaker(2).classifier(judge).build().unwrap();
    let handle = layer.handle();
    let mut client = ServiceBuilder::new()
        .layer(layer)
        .layer(LiftLayer::new())
        .service(client());
    let mut get = async || {
        let get = request(Method::GET, &url(absent.address()));
        client.ready().await.unwrap().call(get).await.unwrap_err()
    };
    for _ in 0..2 {
        assert_eq!(handle.state(), State::Closed);
        assert!(get().await.inner().unwrap().is_connect());
    }
    let error = get().await;
    assert_eq!(error.rejected().unwrap().reason(), Reason::CircuitOpen);
}
