//! HTTP through nginx: from a client with this crate's layers to an axum server with them.

use std::{
    future::pending,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant as StdInstant},
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{HeaderMap, StatusCode},
    routing::get,
};
use bytes::Bytes;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, Error as ClientError},
    rt::TokioExecutor,
};
use steadfast::{
    Context, Criticality, Error, LiftLayer, Reason, Rejected, Verdict,
    budget::Budget,
    bulkhead::BulkheadHandle,
    classify::{Failure, Hint},
    deadline::{CallTimeout, DeadlineLayer, PropagateLayer},
    http::{AnswerRefusalsLayer, HttpClassifier, Refusal, bulkhead, circuit_breaker, retry},
    timeout::TimeoutLayer,
};
use tokio::{
    net::TcpListener,
    sync::mpsc::{self, UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::{Instant, sleep, timeout},
};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt};

use super::Nginx;
use crate::real::{every, ms, peer::Absent};

/// So long is nothing waited for that is to come at once.
const MINUTE: Duration = Duration::from_secs(60);

/// Serves `router` below the layers of a server, with places for `max`.
async fn serve(router: Router, max: usize) -> (SocketAddr, BulkheadHandle) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let handle = serve_on(listener, router, max);
    (address, handle)
}

fn serve_on(listener: TcpListener, router: Router, max: usize) -> BulkheadHandle {
    let deadline = DeadlineLayer::builder(60 * MINUTE).trust_headers();
    let bulkhead = bulkhead(max).build();
    let handle = bulkhead.handle();
    let app = router.layer(
        ServiceBuilder::new()
            .layer(AnswerRefusalsLayer::new())
            .layer(deadline.build().unwrap())
            .layer(bulkhead)
            .layer(LiftLayer::new()),
    );
    tokio::spawn(async { axum::serve(listener, app).await });
    handle
}

/// The layers of a client, which repeats what it may at once unless told when, and counts what it sends.
macro_rules! client {
    ($budget:expr, $sent:expr) => {{
        let sent = Arc::clone(&$sent);
        let retry = retry().max_attempts(10).backoff(every(Duration::ZERO));
        ServiceBuilder::new()
            .layer(retry.budget($budget).build().unwrap())
            .layer(circuit_breaker().consecutive_failures(100).build().unwrap())
            .layer(TimeoutLayer::new(MINUTE).unwrap())
            .layer(PropagateLayer::new())
            .map_request(move |request: Request| {
                sent.fetch_add(1, SeqCst);
                request
            })
            .layer(LiftLayer::new())
            .service(Client::builder(TokioExecutor::new()).build_http::<Body>())
    }};
}

/// A client without retries.
fn caller() -> impl Service<
    Request,
    Response = axum::http::Response<Incoming>,
    Error = Error<ClientError>,
    Future: Send,
> + Clone
+ Send
+ Sync {
    ServiceBuilder::new()
        .layer(PropagateLayer::new())
        .layer(LiftLayer::new())
        .service(Client::builder(TokioExecutor::new()).build_http())
}

/// So many retries and no more.
fn budget_of(retries: u32) -> Budget {
    let budget = Budget::new(0.1).unwrap().with_max_balance(retries).unwrap();
    let budget = budget.with_floor(0);
    for _ in 0..retries * 100 {
        budget.deposit();
    }
    budget
}

fn request(url: &str, left: Duration) -> Request {
    let mut request = Request::get(url).body(Body::empty()).unwrap();
    request.extensions_mut().insert(CallTimeout(left));
    request
}

/// Tells when it is dropped.
struct Guard(UnboundedSender<Instant>);

impl Drop for Guard {
    fn drop(&mut self) {
        let _gone = self.0.send(Instant::now());
    }
}

/// A handler that says that it has been reached, and when it was stopped, and never ends.
fn hung() -> (Router, UnboundedReceiver<()>, UnboundedReceiver<Instant>) {
    let (reach, reached) = unbounded_channel();
    let (stop, stopped) = unbounded_channel();
    let handler = move || async move {
        let _guard = Guard(stop);
        reach.send(()).unwrap();
        pending::<()>().await;
    };
    (Router::new().route("/", get(handler)), reached, stopped)
}

#[tokio::test]
async fn what_is_left_of_a_deadline_passes_each_hop_and_shrinks_by_what_was_spent() {
    type Seen = (HeaderMap, Context, Instant);
    let (see, mut seen) = unbounded_channel::<Seen>();
    let last = {
        let see = see.clone();
        get(move |context: Context, headers: HeaderMap| async move {
            see.send((headers, context, Instant::now())).unwrap();
            "done"
        })
    };
    let (last, _) = serve(Router::new().route("/", last), 8).await;
    let Some(before_last) = Nginx::before(last).await else {
        return;
    };
    let asks = before_last.url();
    let edge = get(move |context: Context, headers: HeaderMap| async move {
        see.send((headers, context, Instant::now())).unwrap();
        sleep(ms(40)).await;
        let request = Request::get(asks).body(Body::empty()).unwrap();
        let response = caller().oneshot(request).await.unwrap();
        response.status()
    });
    let (edge, _) = serve(Router::new().route("/", edge), 8).await;
    let nginx = Nginx::before(edge).await.unwrap();

    let sent = Instant::now();
    let total = ms(5_432);
    let context = Context::new().with_criticality(Criticality::Sheddable);
    let call = caller().oneshot(request(&nginx.url(), total));
    let response = context.scope(call).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);

    let written = |headers: &HeaderMap| -> u64 {
        let value = headers["x-request-timeout-ms"].to_str().unwrap();
        value.parse().unwrap()
    };
    let (at_edge, edges, reached) = seen.recv().await.unwrap();
    let (at_last, lasts, began) = seen.recv().await.unwrap();
    assert!(written(&at_edge) <= 5_432, "{at_edge:?}");
    assert!(written(&at_last) <= written(&at_edge) - 40, "{at_last:?}");
    for (headers, context) in [(&at_edge, edges), (&at_last, lasts)] {
        assert_eq!(headers["x-request-criticality"], "sheddable");
        assert_eq!(context.criticality(), Criticality::Sheddable);
    }
    // Truncated to milliseconds at each hop, and later by what the way there took, and by no more.
    for (deadline, at, hops) in [(edges, reached, 1), (lasts, began, 2)] {
        let deadline = deadline.deadline().unwrap();
        assert!(deadline + ms(hops) > sent + total);
        assert!(deadline <= at + total);
    }
}

#[tokio::test]
async fn at_the_deadline_and_when_the_caller_hangs_up_the_work_behind_it_stops() {
    let (router, mut reached, mut stopped) = hung();
    let (address, server) = serve(router, 1).await;
    let Some(nginx) = Nginx::before(address).await else {
        return;
    };

    let (began, total) = (Instant::now(), ms(150));
    let error = caller().oneshot(request(&nginx.url(), total)).await;
    assert!(error.unwrap_err().timed_out().is_some());
    reached.recv().await.unwrap();
    let at = timeout(MINUTE, stopped.recv()).await.unwrap().unwrap();
    assert!(at + ms(1) >= began + total, "{:?}", at - began);

    let call = tokio::spawn(caller().oneshot(request(&nginx.url(), 30 * MINUTE)));
    reached.recv().await.unwrap();
    assert_eq!(server.in_flight(), 1);
    call.abort();
    timeout(MINUTE, stopped.recv()).await.unwrap().unwrap();
    while server.in_flight() > 0 {
        sleep(ms(1)).await;
    }
}

#[tokio::test]
async fn a_stream_holds_its_place_at_both_ends_until_it_is_over_or_nobody_reads_it() {
    let (requests, mut sent) = unbounded_channel();
    let answer = get(move || async move {
        let (sender, pieces) = mpsc::unbounded_channel::<&'static str>();
        requests.send(sender).unwrap();
        let pieces = futures_util::stream::unfold(pieces, |mut pieces| async {
            let frame = Frame::data(Bytes::from(pieces.recv().await?));
            Some((Ok::<_, BoxError>(frame), pieces))
        });
        Body::new(StreamBody::new(pieces))
    });
    let (address, server) = serve(Router::new().route("/", answer), 1).await;
    let Some(nginx) = Nginx::before(address).await else {
        return;
    };
    let layer = bulkhead(8).build();
    let client = layer.handle();
    let mut svc = ServiceBuilder::new().layer(layer).service(caller());
    let mut ask = async || {
        let call = svc.ready().await.unwrap();
        call.call(request(&nginx.url(), MINUTE)).await.unwrap()
    };

    let mut body = ask().await.into_body();
    let sender = sent.recv().await.unwrap();
    for piece in ["one", "two"] {
        sender.send(piece).unwrap();
        // It comes while the stream goes on: nothing between keeps it back.
        let frame = body.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), piece);
        assert_eq!((server.in_flight(), client.in_flight()), (1, 1));
    }
    let refused = ask().await;
    assert_eq!(refused.status(), 503);
    assert_eq!(
        refused.headers()["content-type"],
        "application/problem+json"
    );
    refused.into_body().collect().await.unwrap();
    drop(sender);
    assert_eq!(body.collect().await.unwrap().to_bytes(), "");
    assert_eq!(client.in_flight(), 0);
    while server.in_flight() > 0 {
        sleep(ms(1)).await;
    }

    // One that goes away before the end.
    let response = ask().await;
    let sender = sent.recv().await.unwrap();
    assert_eq!((server.in_flight(), client.in_flight()), (1, 1));
    drop(response);
    assert_eq!(client.in_flight(), 0);
    timeout(MINUTE, sender.closed()).await.unwrap();
    while server.in_flight() > 0 {
        sleep(ms(1)).await;
    }
}

#[tokio::test]
async fn its_own_502_is_tried_again_within_the_budget_and_until_the_server_is_there() {
    let absent = Absent::new();
    let Some(nginx) = Nginx::before(absent.address()).await else {
        return;
    };
    let sent = Arc::<AtomicUsize>::default();
    let svc = client!(budget_of(3), sent);
    for attempts in [4, 5] {
        let response = svc.clone().oneshot(request(&nginx.url(), MINUTE)).await;
        let response = response.unwrap();
        assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
        let verdict = HttpClassifier.verdict(response.status(), response.headers());
        assert_eq!(verdict, Failure::transient().into());
        assert_eq!(sent.load(SeqCst), attempts, "the budget is spent");
    }

    let retry = retry().max_attempts(10_000).backoff(every(ms(5)));
    let svc = ServiceBuilder::new()
        .layer(retry.without_budget().build().unwrap())
        .service(caller());
    let call = tokio::spawn(svc.oneshot(request(&nginx.url(), MINUTE)));
    sleep(ms(50)).await;
    assert!(!call.is_finished());
    let router = Router::new().route("/", get(async || "there"));
    serve_on(absent.listen(), router, 8);
    let response = call.await.unwrap().unwrap();
    let body = response.into_body().collect().await.unwrap();
    assert_eq!(body.to_bytes(), "there");
}

#[tokio::test]
async fn its_own_504_is_a_timeout_that_is_tried_again_within_the_budget() {
    let (router, _reached, mut stopped) = hung();
    let (address, _) = serve(router, 8).await;
    let Some(nginx) = Nginx::waiting(address, "50ms").await else {
        return;
    };
    let sent = Arc::<AtomicUsize>::default();
    let svc = client!(budget_of(1), sent);
    let response = svc.oneshot(request(&nginx.url(), MINUTE)).await.unwrap();
    assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    let verdict = HttpClassifier.verdict(response.status(), response.headers());
    assert_eq!(verdict, Failure::timeout().into());
    assert_eq!(sent.load(SeqCst), 2);
    for _ in 0..2 {
        timeout(MINUTE, stopped.recv()).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn when_to_come_back_passes_and_is_kept_to() {
    let (see, mut seen) = unbounded_channel();
    let answer = get(move |headers: HeaderMap| async move {
        let attempt = headers.get("x-request-attempt").cloned();
        let is_first = attempt.is_none();
        see.send(attempt).unwrap();
        if is_first {
            let rejected = Rejected::new("door", Reason::Overloaded).with_retry_after(ms(900));
            return Refusal::from(rejected).to_response::<Body>();
        }
        axum::http::Response::new(Body::from("done"))
    });
    let (address, _) = serve(Router::new().route("/", answer), 8).await;
    let Some(nginx) = Nginx::before(address).await else {
        return;
    };
    let began = StdInstant::now();
    let hints = Arc::new(std::sync::Mutex::new(Vec::new()));
    let noted = Arc::clone(&hints);
    let classifier = move |result: Result<&axum::http::Response<_>, &Error<ClientError>>| {
        let verdict = steadfast::Classify::classify(&HttpClassifier, result);
        if let Verdict::Failure(failure) = verdict {
            noted.lock().unwrap().push(failure.hint());
        }
        verdict
    };
    let retry = retry().classifier(classifier).backoff(every(60 * MINUTE));
    let svc = ServiceBuilder::new()
        .layer(retry.budget(budget_of(1)).build().unwrap())
        .service(caller());
    let response = svc.oneshot(request(&nginx.url(), MINUTE)).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert!(began.elapsed() >= Duration::from_secs(1));
    let second = Hint::After(Duration::from_secs(1)); // rounded up by the server
    assert_eq!(*hints.lock().unwrap(), [Some(second)]);
    assert_eq!(seen.recv().await.unwrap(), None);
    assert_eq!(seen.recv().await.unwrap().unwrap(), "2");
}
