//! A retry, and the bodies of the responses that it hands out or not.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ::http::{Request, StatusCode};
use metrics_util::debugging::DebuggingRecorder;
use steadfast::{
    Context as Ctx,
    backoff::{Backoff, Jitter},
    budget::Budget,
    circuit_breaker::State,
    classify::FailureKind,
    http::{self, EndOfBody, GuardedBody},
    retry::RetryLayer,
};
use tokio::time::Instant;
use tower::{ServiceBuilder, ServiceExt, service_fn};

use super::{bulkhead::outcomes, *};

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

/// A retry that tells its budget at the end of the body, above a service that fails so many times first.
fn of_budget(
    budget: Budget,
    fails: u32,
    body: impl Fn() -> Given,
) -> impl Service<
    Request<Full<Bytes>>,
    Response = Response<impl Body<Data = Bytes, Error = Error> + Unpin>,
    Error = Error,
> {
    let retry = http::retry().backoff(Backoff::none()).budget(budget);
    ServiceBuilder::new()
        .layer(retry.until(EndOfBody).build().unwrap())
        .service(Fails {
            fails,
            body: std::rc::Rc::new(body),
        })
}

struct Fails<F> {
    fails: u32,
    body: std::rc::Rc<F>,
}

impl<F> Clone for Fails<F> {
    fn clone(&self) -> Self {
        let body = std::rc::Rc::clone(&self.body);
        Self {
            fails: self.fails,
            body,
        }
    }
}

impl<F: Fn() -> Given> Service<Request<Full<Bytes>>> for Fails<F> {
    type Response = Response<Given>;
    type Error = Error;
    type Future = std::future::Ready<Result<Response<Given>, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Full<Bytes>>) -> Self::Future {
        let mut response = Response::new((self.body)());
        if Ctx::current().attempt().get() <= self.fails {
            *response.status_mut() = StatusCode::BAD_GATEWAY;
        }
        std::future::ready(Ok(response))
    }
}

#[tokio::test(start_paused = true)]
async fn a_budget_is_fed_by_bodies_that_end_well() {
    let budget = Budget::new(1.0).unwrap().with_floor(0);
    let mut svc = of_budget(budget.clone(), 0, ten_seconds);
    let dropped = svc.call(get()).await.unwrap();
    let response = svc.call(get()).await.unwrap();
    drop(dropped);
    assert_eq!(budget.balance(), 0.0);
    response.into_body().collect().await.unwrap();
    assert_eq!(budget.balance(), 1.0);

    let mut svc = of_budget(budget.clone(), 0, || {
        pieces([Piece::After(secs(1)), Piece::Fail])
    });
    let response = svc.call(get()).await.unwrap();
    response.into_body().collect().await.unwrap_err();
    assert_eq!(budget.balance(), 1.0);
    // One that is at its end is over with its head.
    of_budget(budget.clone(), 0, empty)
        .call(get())
        .await
        .unwrap();
    assert_eq!(budget.balance(), 2.0);
}

#[tokio::test(start_paused = true)]
async fn grpcs_throttle_is_told_of_bodies_that_break_off() {
    let budget = Budget::grpc_throttle(10, 0.1).unwrap();
    let breaks_off = || pieces([Piece::After(secs(1)), Piece::Fail]);
    let mut svc = of_budget(budget.clone(), 0, breaks_off);
    let response = svc.call(get()).await.unwrap();
    assert_eq!(budget.balance(), 10.0);
    response.into_body().collect().await.unwrap_err();
    assert_eq!(budget.balance(), 9.0);
}

#[tokio::test(start_paused = true)]
async fn a_retry_holds_its_place_until_the_end_of_the_body() {
    let budget = Budget::concurrent(1);
    let is_free = || budget.ticket().try_retry(FailureKind::Transient);
    let mut svc = of_budget(budget.clone(), 1, ten_seconds);
    let response = svc.call(get()).await.unwrap();
    assert!(!is_free());
    response.into_body().collect().await.unwrap();
    assert!(is_free());
    let response = svc.call(get()).await.unwrap();
    assert!(!is_free());
    drop(response);
    assert!(is_free());
}

#[tokio::test(start_paused = true)]
async fn a_retried_call_is_counted_once_when_it_is_over() {
    let recorder = DebuggingRecorder::new();
    let bodies: [(_, fn() -> Given); 4] = [
        ("success", ten_seconds),
        ("failure", || pieces([Piece::Fail])),
        ("abandoned", || pieces([Piece::After(secs(0)), Piece::Hang])),
        ("panicked", || pieces([Piece::Panic])),
    ];
    for (outcome, body) in bodies {
        let budget = Budget::concurrent(1);
        let mut svc = metrics::with_local_recorder(&recorder, || of_budget(budget, 1, body));
        let before = outcomes(&recorder);
        let mut body = svc.call(get()).await.unwrap().into_body();
        assert_eq!(outcomes(&recorder), before);
        let _panicked = catch_unwind(AssertUnwindSafe(|| drop(poll_frame(&mut body))));
        if outcome != "abandoned" && outcome != "panicked" {
            let _ = body.collect().await;
        } else {
            drop(body);
        }
        let after = outcomes(&recorder);
        assert_eq!(after.len(), before.len() + 1);
        assert!(
            after.contains(&(outcome.to_owned(), 1)),
            "{outcome}: {after:?}"
        );
    }
}
