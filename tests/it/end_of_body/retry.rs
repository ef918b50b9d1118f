//! A retry, and the bodies of the responses that it hands out or not.

use ::http::{Request, StatusCode};
use steadfast::{
    Context as Ctx,
    backoff::{Backoff, Jitter},
    circuit_breaker::State,
    http::{self, GuardedBody},
    retry::RetryLayer,
};
use tokio::time::Instant;
use tower::{ServiceBuilder, ServiceExt, service_fn};

use super::*;

fn retry() -> RetryLayer<http::HttpClassifier, http::IdempotentBodyless> {
    let every = Backoff::constant(secs(10)).with_jitter(Jitter::None);
    let retry = http::retry().backoff(every).without_budget();
    retry.build().unwrap()
}

fn get() -> Request<Full<Bytes>> {
    Request::get("/").body(Full::default()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_failed_response_is_gone_before_the_delay_and_with_it_what_it_held() {
    let dropped: Arc<AtomicUsize> = Arc::default();
    let bulkhead = http::bulkhead(1).build();
    let handle = bulkhead.handle();
    let svc = ServiceBuilder::new()
        .layer(retry())
        .layer(bulkhead)
        .service(service_fn(|_: Request<Full<Bytes>>| {
            let mut response = Response::new(Dropped(Arc::clone(&dropped)));
            if Ctx::current().attempt().get() == 1 {
                *response.status_mut() = StatusCode::BAD_GATEWAY;
            }
            std::future::ready(Ok::<_, Error>(response))
        }));
    let before = Instant::now();
    let mut call = pin!(svc.oneshot(get()));
    assert!(poll(call.as_mut()).is_pending());
    assert_eq!((dropped.load(SeqCst), handle.in_flight()), (1, 0));
    let response = call.await.unwrap();
    assert_eq!(
        (response.status(), before.elapsed()),
        (StatusCode::OK, secs(10))
    );
    assert_eq!((dropped.load(SeqCst), handle.in_flight()), (1, 1));
}

fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test(start_paused = true)]
async fn a_failure_in_the_head_is_tried_again_and_one_after_it_is_not() {
    let calls = AtomicUsize::new(0);
    let breaker = http::circuit_breaker().consecutive_failures(2);
    let breaker = breaker.build().unwrap();
    let handle = breaker.handle();
    let svc = ServiceBuilder::new()
        .layer(retry())
        .layer(breaker)
        .service(service_fn(|_: Request<Full<Bytes>>| {
            let mut response = Response::new(pieces([Piece::After(secs(1)), Piece::Fail]));
            if calls.fetch_add(1, SeqCst) == 0 {
                *response.status_mut() = StatusCode::BAD_GATEWAY;
            }
            std::future::ready(Ok::<_, Error>(response))
        }));
    let response: Response<GuardedBody<_, _, _>> = svc.oneshot(get()).await.unwrap();
    assert_eq!((response.status(), calls.load(SeqCst)), (StatusCode::OK, 2));
    assert_eq!(handle.state(), State::Closed);
    // The head is with the caller; the breaker is told of what comes after, and the retry is not.
    response.into_body().collect().await.unwrap_err();
    assert_eq!((handle.state(), calls.load(SeqCst)), (State::Open, 2));
}

#[tokio::test(start_paused = true)]
async fn a_body_is_handed_on_frame_by_frame_through_a_stack() {
    let svc = ServiceBuilder::new()
        .layer(http::bulkhead(1).build())
        .layer(retry())
        .layer(http::circuit_breaker().build().unwrap())
        .layer(steadfast::timeout::TimeoutLayer::new(secs(1)).unwrap())
        .service(service_fn(async |_: Request<Full<Bytes>>| {
            Ok::<_, Error>(Response::new(ten_seconds()))
        }));
    let before = Instant::now();
    let mut body = svc.oneshot(get()).await.unwrap().into_body();
    for second in 1..=10 {
        body.frame().await.unwrap().unwrap();
        // Not held back; nor cut by the limit of the head once it has begun.
        assert_eq!(before.elapsed(), secs(second));
    }
}
