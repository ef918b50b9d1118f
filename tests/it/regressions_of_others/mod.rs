//! What others get wrong, and that it goes right here: one file per pattern, and here what concerns
//! all layers.
//!
//! Each test says where the defect was seen: library and version, and the place in its source or the
//! issue that tells of it. What is said of tower-resilience 0.13 holds for 0.14 too; resilience4j is 2.3,
//! Polly 8.7, failsafe-go 0.9.7, Failsafe (Java) 3.3.2 where no other version is given.
//!
//! A defect of cost is tested where it can be counted. The rest, locks and time per call, is bounded by
//! `cargo bench --bench overhead -- --check`, and by `architecture.rs`, which finds locks on the way of a
//! call that is let through.

use std::{
    cell::Cell,
    future::{Future, ready},
    io,
    pin::{Pin, pin},
    rc::Rc,
    sync::Barrier,
    task::{Context, Poll},
    thread,
};

use allocation_counter::{AllocationInfo, measure};
use metrics::with_local_recorder;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use steadfast::{
    LiftLayer,
    backoff::Backoff,
    bulkhead::{BulkheadLayer, Queue, QueuedBulkheadLayer},
    circuit_breaker::CircuitBreakerLayer,
    retry::RetryLayer,
    timeout::TimeoutLayer,
};
use tokio::{runtime::Handle, time::advance};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

use crate::support::{Act, CountingWaker, Error, Scripted, ms, poll_once, secs, send};

mod budget;
mod bulkhead;
mod circuit_breaker;
mod retry;
mod timeout;

/// Makes a call and polls it once: it is under way.
async fn begin<S>(service: &mut S, act: Act) -> Pin<Box<S::Future>>
where
    S: Service<Act, Response = u32, Error = Error>,
{
    let mut call = Box::pin(service.ready().await.unwrap().call(act));
    assert!(poll_once(call.as_mut()).is_pending());
    call
}

/// What so many calls allocate that are answered at once, but for the first few.
fn allocated_by<S: Service<u32>>(calls: u32, service: &mut S) -> AllocationInfo {
    let mut call = |req| {
        let Poll::Ready(Ok(service)) = poll_once(pin!(service.ready())) else {
            panic!("not ready");
        };
        assert!(poll_once(pin!(service.call(req))).is_ready());
    };
    (0..1_000).for_each(&mut call);
    measure(|| (0..calls).for_each(&mut call))
}

/// What `build` makes, and the metrics that it registers.
fn recorded<T>(build: impl FnOnce() -> T) -> (T, Snapshotter) {
    let recorder = DebuggingRecorder::new();
    let built = with_local_recorder(&recorder, build);
    (built, recorder.snapshotter())
}

/// The series of the metric `name` that are not zero, each with its labels but for the layer's name.
fn series(metrics: &Snapshotter, name: &str) -> Vec<(String, f64)> {
    let all = metrics.snapshot().into_vec().into_iter();
    let found = all.filter_map(|(key, _, _, value)| {
        let key = key.key();
        let value = match value {
            DebugValue::Counter(count) => count as f64,
            DebugValue::Gauge(value) => value.into_inner(),
            DebugValue::Histogram(_) => return None,
        };
        let labels = key.labels().filter(|label| label.key() != "name");
        let labels: Vec<_> = labels.map(|label| label.value().to_owned()).collect();
        (key.name() == name && value != 0.0).then(|| (labels.join(" "), value))
    });
    found.collect()
}

/// A queue that no test fills or waits out.
fn queued(max: usize) -> QueuedBulkheadLayer {
    let queue = Queue::fifo(9, secs(3600));
    BulkheadLayer::builder(max).queue(queue).build()
}

/// Does `work` on so many threads at once, which go by the paused clock of this one.
fn on_threads(threads: usize, work: impl Fn() + Sync) {
    let runtime = Handle::current();
    let start = Barrier::new(threads);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let _entered = runtime.enter();
                start.wait();
                work();
            });
        }
    });
}

/// Four threads call `service` at once, hold what they got until all have asked, and go on calling and
/// giving up.
fn crowd<S: Service<Act> + Clone + Sync>(service: &S) {
    let all_asked = Barrier::new(4);
    on_threads(4, || {
        let mut service = service.clone();
        let mut ask = |hold: &dyn Fn()| {
            assert!(poll_once(pin!(service.ready())).is_ready());
            let mut call = pin!(service.call(Act::Hang));
            let _ = poll_once(call.as_mut());
            hold();
        };
        ask(&|| {
            all_asked.wait();
        });
        for _ in 0..1_000 {
            ask(&|| ());
            ask(&thread::yield_now);
        }
    });
}

/// tower-resilience 0.13 allocates 10 times a call in a stack of four and 34 times with its metrics,
/// seatbelt 0.11 once a layer, resilience4j 272 bytes a call. Times: the bounds of `overhead`, "stack adds …".
#[test]
fn no_call_allocates_also_with_metrics_recorded() {
    let inner = service_fn(|req: u32| ready(Ok::<_, Error>(req)));
    let stack = || {
        ServiceBuilder::new()
            .layer(queued(1))
            .layer(BulkheadLayer::new(1))
            .layer(RetryLayer::builder().build().unwrap())
            .layer(CircuitBreakerLayer::builder().build().unwrap())
            .layer(TimeoutLayer::new(secs(1)).unwrap())
            .service(inner)
    };
    let (mut stack, metrics) = recorded(stack);
    let none = AllocationInfo::default();
    assert_eq!(allocated_by(1_000, &mut stack), none);
    assert!(!series(&metrics, "steadfast_calls_total").is_empty());
}

/// tower-resilience 0.13: 9 of 15 services box their futures and so want all of it `Send + 'static`;
/// seatbelt 0.11 wants the service `Sync` besides.
#[tokio::test(start_paused = true)]
async fn a_service_may_stay_on_its_thread_and_borrow_from_its_caller() {
    let calls = Cell::new(0);
    let inner = service_fn(|req: Rc<str>| {
        calls.set(calls.get() + 1);
        ready(Ok::<_, steadfast::Error<Rc<str>>>(req))
    });
    let mut stack = ServiceBuilder::new()
        .layer(queued(1))
        .layer(BulkheadLayer::new(1))
        .layer(RetryLayer::builder().build().unwrap())
        .layer(CircuitBreakerLayer::builder().build().unwrap())
        .layer(TimeoutLayer::new(secs(1)).unwrap().covering_readiness())
        .layer(TimeoutLayer::new(secs(1)).unwrap())
        .service(inner);
    let answer = stack.ready().await.unwrap().call("mine".into()).await;
    assert_eq!((answer.as_deref(), calls.get()), (Ok("mine"), 1));
}

#[derive(Debug, thiserror::Error)]
#[error("root")]
struct Root;

#[derive(Debug, thiserror::Error)]
#[error("failed")]
struct Failed(#[source] Root);

/// tower-resilience 0.13: five layers nest five error types, whose text repeats itself and whose
/// `source()` is `None`; its `.unified()` knows 6 of 12 (its #443). tower boxes instead (tower#131).
#[tokio::test(start_paused = true)]
async fn a_stack_has_the_error_of_its_service_with_its_text_and_its_source() {
    let inner = service_fn(|()| ready(Err::<(), _>(Failed(Root))));
    let stack = ServiceBuilder::new()
        .layer(TimeoutLayer::new(secs(9)).unwrap())
        .layer(RetryLayer::builder().max_attempts(1).build().unwrap())
        .layer(CircuitBreakerLayer::builder().build().unwrap())
        .layer(queued(1))
        .layer(TimeoutLayer::new(secs(1)).unwrap())
        .layer(LiftLayer::new())
        .service(inner);
    let error: steadfast::Error<Failed> = stack.oneshot(()).await.unwrap_err();
    assert_eq!(error.to_string(), "failed");
    assert!(std::error::Error::source(&error).unwrap().is::<Root>());
}

/// tower-resilience#286, #293: layers called a clone that had not been made ready. The scripted service
/// panics then.
#[tokio::test(start_paused = true)]
async fn every_layer_calls_the_instance_that_it_made_ready() {
    async fn assert_readied<L>(layer: L, act: Act, attempts: u32)
    where
        L: Layer<Scripted>,
        L::Service: Service<Act, Response = u32, Error = Error> + Clone,
    {
        let mut service = layer.layer(Scripted::new().0);
        for _ in 0..3 {
            let mut clone = service.clone();
            assert_eq!(send(&mut service, act.clone()).await, Ok(attempts));
            assert_eq!(send(&mut clone, act.clone()).await, Ok(attempts));
        }
    }
    let succeed = Act::Succeed;
    let breaker = CircuitBreakerLayer::builder().build().unwrap();
    let timeout = TimeoutLayer::new(secs(1)).unwrap();
    let covering = timeout.clone().covering_readiness();
    let retry = RetryLayer::builder().without_budget().build().unwrap();
    assert_readied(queued(1), succeed.clone(), 1).await;
    assert_readied(BulkheadLayer::new(1), succeed.clone(), 1).await;
    assert_readied(breaker, succeed.clone(), 1).await;
    assert_readied(timeout, succeed.clone(), 1).await;
    assert_readied(covering, succeed, 1).await;
    assert_readied(retry, Act::FailTimes(2), 3).await;
}

/// tower-resilience 0.13 `outlier/src/service.rs:84`, `coalesce/src/service.rs:304`: who waits wakes
/// himself at once and so keeps a processor busy.
#[tokio::test(start_paused = true)]
async fn who_waits_is_left_asleep() {
    async fn assert_asleep<S: Service<Act>>(mut service: S, act: Act) {
        let (counter, waker) = CountingWaker::new();
        let cx = &mut Context::from_waker(&waker);
        assert!(service.poll_ready(cx).is_ready());
        let mut call = pin!(service.call(act));
        assert!(call.as_mut().poll(cx).is_pending());
        advance(ms(10)).await;
        assert_eq!(counter.woken(), 0);
    }
    let inner = Scripted::new().0;
    let full = queued(1);
    let _running = begin(&mut full.layer(inner.clone()), Act::Hang).await;
    let second = Backoff::from_fn(secs(1), |_| secs(1));
    let waits = RetryLayer::builder().backoff(second).build().unwrap();
    let breaker = CircuitBreakerLayer::builder().build().unwrap();
    let timeout = TimeoutLayer::new(secs(1)).unwrap();

    assert_asleep(full.layer(inner.clone()), Act::Succeed).await;
    assert_asleep(waits.layer(inner.clone()), Act::Fail(1)).await;
    assert_asleep(breaker.layer(inner.clone()), Act::Hang).await;
    assert_asleep(timeout.layer(inner), Act::Hang).await;
}

/// tower-resilience 0.13: `use …::bulkhead::*` brings a `Result` that takes the place of std's.
#[test]
fn a_glob_import_shadows_nothing_of_the_prelude() {
    #[allow(unused_imports, reason = "what they do not bring is the point")]
    mod user {
        use steadfast::{
            backoff::*, budget::*, bulkhead::*, circuit_breaker::*, classify::*, context::*,
            error::*, retry::*, run::*, telemetry::*, timeout::*,
        };
        pub(super) fn answer() -> Result<Option<Box<u8>>, String> {
            Ok(Some(Box::new(7)))
        }
    }
    assert_eq!(user::answer(), Ok(Some(Box::new(7))));
}

/// tower-resilience 0.13: `RetryLayer::<Req, Res, E>` must spell the nested error of all that is below.
#[tokio::test(start_paused = true)]
async fn one_layer_serves_services_of_different_types() {
    let retry = RetryLayer::builder().build().unwrap();
    let number = service_fn(|req: u32| ready(Ok::<_, io::Error>(req)));
    let text = service_fn(|req: String| ready(Err::<(), _>(req)));
    assert_eq!(retry.layer(number).oneshot(7).await.unwrap(), 7);
    let failed = retry.layer(text).oneshot("no".to_owned()).await;
    assert_eq!(failed, Err("no".to_owned()));
}

/// Where a service must not fail: axum asks for `Infallible`, and so do tonic's servers.
#[cfg(feature = "http")]
mod infallible {
    use axum::{Router, body::Body, extract::Request, routing::get};
    use steadfast::{circuit_breaker::Thresholds, http::AnswerRefusalsLayer};

    use super::*;

    /// Layers that cannot be put around an axum router: acton-service#33, tower-resilience#124, #198; and
    /// no way to shed with a typed error where the service's is `Infallible`: iota#12137.
    #[tokio::test(start_paused = true)]
    async fn every_layer_stands_around_a_router_and_its_refusal_is_an_answer() {
        let breaker = CircuitBreakerLayer::builder()
            .count_window(9, Thresholds::failure_rate(0.5))
            .build()
            .unwrap();
        let handle = breaker.handle();
        let layers = ServiceBuilder::new()
            .layer(AnswerRefusalsLayer::new())
            .layer(queued(1))
            .layer(BulkheadLayer::new(1))
            .layer(steadfast::http::retry().build().unwrap())
            .layer(breaker)
            .layer(TimeoutLayer::new(secs(1)).unwrap())
            .layer(LiftLayer::new());
        let app = Router::new().route("/", get(|| async { "hello" }));
        let app: Router = app.layer(layers);
        let get = || app.clone().oneshot(Request::new(Body::empty()));
        assert_eq!(get().await.unwrap().status(), 200);
        handle.force_open_for(ms(1));
        let refused = get().await.unwrap();
        assert_eq!(refused.status(), 503);
        assert_eq!(
            refused.headers()["retry-after"],
            "1",
            "rounded up, not to 0"
        );
    }
}
