//! axum: the layers below `Router::layer`, around whole routers, and around handlers.

use std::{convert::Infallible, future::pending, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::Request,
    handler::HandlerWithoutStateExt,
    response::Response,
    routing::{MethodRouter, get},
};
use reqwest::Client;
use serde_json::Value;
use steadfast::{
    LiftLayer,
    bulkhead::BulkheadLayer,
    http::{self, AnswerRefusalsLayer, HttpClassifier},
    timeout::TimeoutLayer,
};
use tokio::{net::TcpListener, sync::Notify};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, util::BoxCloneSyncService};

use super::{breaker, ms, patience};

type Route = BoxCloneSyncService<Request, Response, Infallible>;

/// Serves on loopback until the test is over.
async fn serve(app: Router) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, app).await });
    format!("http://{address}")
}

fn client() -> Client {
    Client::builder().no_proxy().build().unwrap()
}

async fn fetch(url: String) -> reqwest::Response {
    client().get(url).send().await.unwrap()
}

async fn problem(response: reqwest::Response) -> Value {
    assert_eq!(
        response.headers()["content-type"],
        "application/problem+json"
    );
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

async fn hello() -> &'static str {
    "hello"
}

/// Says that it has been reached, and never answers.
fn hang(reached: &Arc<Notify>) -> MethodRouter {
    let reached = Arc::clone(reached);
    get(async move || {
        reached.notify_one();
        pending::<()>().await;
    })
}

#[tokio::test]
async fn each_layer_alone_fits_the_routes_of_a_router() {
    macro_rules! check {
        ($name:literal, $layer:expr) => {
            let app = Router::new().route("/", get(hello)).layer(
                ServiceBuilder::new()
                    .layer(AnswerRefusalsLayer::new())
                    .layer($layer)
                    .layer(LiftLayer::new()),
            );
            let response = fetch(serve(app).await).await;
            assert_eq!(response.text().await.unwrap(), "hello", $name);
        };
    }
    with_each_layer!(check, retry: http::retry().build().unwrap());
}

#[tokio::test]
async fn each_layer_alone_fits_handlers_method_routers_and_whole_routers() {
    async fn check(mut svc: Route, name: &str) {
        let request = Request::new(axum::body::Body::empty());
        let response = svc.ready().await.unwrap().call(request).await.unwrap();
        assert_eq!(response.status(), 200, "{name}");
    }
    macro_rules! check {
        ($name:literal, $layer:expr) => {
            let stack = ServiceBuilder::new()
                .layer(AnswerRefusalsLayer::new())
                .layer($layer)
                .layer(LiftLayer::new());
            let router = Router::new().route("/", get(hello));
            check(
                Route::new(stack.clone().service(hello.into_service())),
                $name,
            )
            .await;
            check(Route::new(stack.clone().service(get(hello))), $name).await;
            check(Route::new(stack.clone().service(router)), $name).await;
        };
    }
    with_each_layer!(check, retry: http::retry().build().unwrap());
}

#[tokio::test]
async fn the_whole_stack_stands_around_a_router_that_is_then_served() {
    let reached = Arc::new(Notify::new());
    let router = Router::new()
        .route("/", get(hello))
        .route("/hang", hang(&reached));
    let breaker = breaker(100).classifier(HttpClassifier);
    let svc = ServiceBuilder::new()
        .layer(AnswerRefusalsLayer::new())
        .layer(BulkheadLayer::new(1))
        .layer(http::retry().max_attempts(1).build().unwrap())
        .layer(breaker.build().unwrap())
        .layer(TimeoutLayer::new(ms(1_000)).unwrap())
        .layer(LiftLayer::new())
        .service(router);
    let url = serve(Router::new().fallback_service(svc)).await;
    assert_eq!(fetch(url.clone()).await.text().await.unwrap(), "hello");
    let response = fetch(format!("{url}/hang")).await;
    assert_eq!(response.status(), 504);
    let problem = problem(response).await;
    assert_eq!(
        (&problem["layer"], &problem["reason"]),
        (&"timeout".into(), &"timeout".into())
    );
}

#[tokio::test]
async fn one_layer_value_applied_to_many_routes_shares_one_state() {
    let reached = Arc::new(Notify::new());
    let bulkhead = BulkheadLayer::builder(1).name("front-door").build();
    let handle = bulkhead.handle();
    let app = Router::new()
        .route("/hang", hang(&reached))
        .route("/", get(hello))
        .layer(
            ServiceBuilder::new()
                .layer(AnswerRefusalsLayer::new())
                .layer(bulkhead)
                .layer(LiftLayer::new()),
        );
    let url = serve(app).await;

    let hung = tokio::spawn(fetch(format!("{url}/hang")));
    reached.notified().await;
    let response = fetch(url.clone()).await;
    assert_eq!(response.status(), 503);
    assert_eq!(
        response.headers().get("retry-after"),
        None,
        "it is not known when"
    );
    let problem = problem(response).await;
    assert_eq!(problem["layer"], "front-door");
    assert_eq!(problem["reason"], "bulkhead_full");

    // The caller hangs up, and its place is free.
    hung.abort();
    while handle.in_flight() > 0 {
        tokio::time::sleep(ms(1)).await;
    }
    assert_eq!(fetch(url).await.status(), 200);
}

#[tokio::test]
async fn an_open_breaker_tells_clients_when_to_come_back() {
    let layer = breaker(1).build().unwrap();
    layer.handle().force_open_for(Duration::from_secs(86_400));
    let app = Router::new().route("/", get(hello)).layer(
        ServiceBuilder::new()
            .layer(AnswerRefusalsLayer::new())
            .layer(layer)
            .layer(LiftLayer::new()),
    );
    let response = fetch(serve(app).await).await;
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["retry-after"], "86400");
}

#[tokio::test]
async fn a_handler_that_was_refused_further_down_is_answered_too() {
    // A service behind the server, whose breaker is open, and whose error the handler passes on.
    let downstream = breaker(1).name("downstream").build().unwrap();
    downstream.handle().force_open();
    let downstream = ServiceBuilder::new()
        .layer(downstream)
        .service_fn(|()| async { Ok::<_, BoxError>(()) });
    let handler = tower::service_fn(move |_: Request| {
        let downstream = downstream.clone();
        async move {
            downstream.oneshot(()).await?;
            Ok::<_, BoxError>(Response::new(axum::body::Body::empty()))
        }
    });
    let svc = ServiceBuilder::new()
        .layer(AnswerRefusalsLayer::new())
        .layer(patience())
        .service(handler);
    let request = Request::new(axum::body::Body::empty());
    let response = svc.oneshot(request).await.unwrap();
    assert_eq!(response.status(), 503);
    let body = axum::body::to_bytes(response.into_body(), 1024).await;
    let problem: Value = serde_json::from_slice(&body.unwrap()).unwrap();
    assert_eq!(problem["layer"], "downstream");
}
