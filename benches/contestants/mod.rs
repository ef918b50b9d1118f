//! Who competes: the layers of this crate and those of tower, above the same services.

use std::{
    future::{Future, Ready, ready},
    hint::black_box,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use steadfast::{
    Classify, Rejected, Verdict,
    adaptive::{AdaptiveLayer, Gradient2, Vegas},
    backoff::Backoff,
    bulkhead::{BulkheadLayer, Queue},
    circuit_breaker::{
        CircuitBreaker, CircuitBreakerBuilder, CircuitBreakerLayer, LatencyQuantile, Thresholds,
    },
    classify::Failure,
    load_shed::{LoadShedBuilder, LoadShedLayer},
    partitions::Partitions,
    retry::RetryLayer,
    throttle::ThrottleLayer,
    timeout::TimeoutLayer,
};
use tower::{
    BoxError, Layer, Service, ServiceBuilder,
    limit::ConcurrencyLimitLayer,
    retry::{
        Policy,
        backoff::{Backoff as _, ExponentialBackoff, ExponentialBackoffMaker, MakeBackoff},
        budget::{Budget, TpsBudget},
    },
    util::rng::HasherRng,
};

/// Answers at once. Not to be inlined, as no real service would be: else the compiler proves of a
/// layer above it that the answer is there and that it is good.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prompt;

impl Service<u32> for Prompt {
    type Response = u32;
    type Error = BoxError;
    type Future = PromptFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    #[inline(never)]
    fn call(&mut self, req: u32) -> PromptFuture {
        PromptFuture(req)
    }
}

#[derive(Debug)]
pub(crate) struct PromptFuture(u32);

impl Future for PromptFuture {
    type Output = Result<u32, BoxError>;

    #[inline(never)]
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(self.0))
    }
}

/// Is pending once, and wakes its caller at once. Not to be inlined either.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Yielding;

impl Service<u32> for Yielding {
    type Response = u32;
    type Error = BoxError;
    type Future = YieldingFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    #[inline(never)]
    fn call(&mut self, req: u32) -> YieldingFuture {
        let has_yielded = false;
        YieldingFuture { req, has_yielded }
    }
}

#[derive(Debug)]
pub(crate) struct YieldingFuture {
    req: u32,
    has_yielded: bool,
}

impl Future for YieldingFuture {
    type Output = Result<u32, BoxError>;

    #[inline(never)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.has_yielded {
            return Poll::Ready(Ok(self.req));
        }
        self.has_yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// An error that does not allocate.
#[derive(Debug)]
pub(crate) enum Failed {
    Inner,
    #[allow(dead_code, reason = "what a caller would look at")]
    Rejected(Rejected),
}

impl From<Rejected> for Failed {
    fn from(rejected: Rejected) -> Self {
        Self::Rejected(rejected)
    }
}

/// Fails one request in so many, by their number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FailingOneIn(u32);

impl Service<u32> for FailingOneIn {
    type Response = u32;
    type Error = Failed;
    type Future = Ready<Result<u32, Failed>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        Poll::Ready(Ok(()))
    }

    #[inline(never)]
    fn call(&mut self, req: u32) -> Self::Future {
        let fails = req.is_multiple_of(self.0);
        ready(if fails { Err(Failed::Inner) } else { Ok(req) })
    }
}

/// Makes one call. Polls by hand, so that no executor is measured.
#[inline(never)]
fn call<S: Service<u32>>(service: &mut S, req: u32) -> Result<S::Response, S::Error> {
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(service.poll_ready(cx).is_ready());
    let mut future = pin!(service.call(black_box(req)));
    loop {
        if let Poll::Ready(result) = future.as_mut().poll(cx) {
            return black_box(result);
        }
    }
}

/// Makes so many calls, one after the other.
pub(crate) type Calls = Box<dyn FnMut(u32)>;

pub(crate) fn calls<S: Service<u32> + 'static>(mut service: S) -> Calls {
    Box::new(move |calls| (0..calls).for_each(|req| drop(call(&mut service, req))))
}

const LIMIT: Duration = Duration::from_secs(10);
const MAX_IN_FLIGHT: usize = 50;

fn build(builder: CircuitBreakerBuilder) -> CircuitBreakerLayer {
    builder.build().expect("the settings are in range")
}

pub(crate) fn breaker_run() -> CircuitBreakerLayer {
    build(CircuitBreakerLayer::builder().consecutive_failures(5))
}

pub(crate) fn breaker_count() -> CircuitBreakerLayer {
    let half = Thresholds::failure_rate(0.5);
    build(CircuitBreakerLayer::builder().count_window(100, half))
}

pub(crate) fn breaker_time() -> CircuitBreakerLayer {
    let half = Thresholds::failure_rate(0.5);
    build(CircuitBreakerLayer::builder().time_window(Duration::from_secs(60), half))
}

fn breaker_slow() -> CircuitBreakerLayer {
    let half = Thresholds::slow_call_rate(0.5);
    build(CircuitBreakerLayer::builder().count_window(100, half))
}

fn breaker_ewma() -> CircuitBreakerLayer {
    let half = Thresholds::failure_rate(0.5);
    build(CircuitBreakerLayer::builder().ewma_window(Duration::from_secs(10), half))
}

fn breaker_latency() -> CircuitBreakerLayer {
    let p99 = LatencyQuantile::above(0.99, Duration::from_secs(1));
    build(CircuitBreakerLayer::builder().latency_window(Duration::from_secs(60), p99))
}

/// Over the last hundred calls.
fn breaker_own() -> CircuitBreakerLayer {
    let builder = CircuitBreakerLayer::builder();
    build(builder.trip_when(|it| it.count_window.is_some_and(|window| window.failed > 50)))
}

/// A breaker with a window of time above a service of which one call in a hundred fails.
pub(crate) fn breaker_time_with_failures() -> (CircuitBreakerLayer, CircuitBreaker<FailingOneIn>) {
    let layer = breaker_time();
    let service = layer.layer(FailingOneIn(100));
    (layer, service)
}

/// An open breaker above a service whose error does not allocate.
pub(crate) fn rejection() -> Calls {
    let hour = Backoff::constant(Duration::from_secs(3600));
    let breaker = CircuitBreakerLayer::builder()
        .consecutive_failures(1)
        .open_time(hour);
    let mut calls = calls(build(breaker).layer(FailingOneIn(1)));
    calls(1); // trips it
    calls
}

/// An adaptive limit that is reached, above the same.
pub(crate) fn limit_reached() -> Calls {
    let builder = AdaptiveLayer::builder()
        .algorithm(Gradient2::default())
        .max_limit(1);
    let mut service = builder.build().expect("in range").layer(FailingOneIn(2));
    std::mem::forget(service.call(1)); // holds the only permit
    calls(service)
}

/// A throttle whose every failure says that there is too much to do.
fn throttle<E: 'static>() -> ThrottleLayer<impl Classify<u32, E> + Clone + 'static> {
    let too_many = |result: Result<&u32, &E>| match result {
        Ok(_) => Verdict::Success,
        Err(_) => Failure::overload().into(),
    };
    let builder = ThrottleLayer::builder(too_many).minimum_rate(0.0);
    builder
        .max_probability(0.99)
        .build()
        .expect("the settings are in range")
}

/// A throttle above a service that refuses all it is sent: it passes one call in a hundred.
pub(crate) fn throttled() -> Calls {
    let mut calls = calls(throttle().layer(FailingOneIn(1)));
    calls(10_000);
    calls
}

fn load_shed() -> LoadShedBuilder {
    LoadShedLayer::builder().in_flight(MAX_IN_FLIGHT)
}

/// Calls to a server that is overloaded, of which one in a hundred passes.
pub(crate) fn shed() -> Calls {
    let layer = LoadShedLayer::builder().gauge("gauge", || 1e9).build();
    let layer = layer.expect("the settings are in range");
    let mut calls = calls(layer.layer(FailingOneIn(1)));
    while layer.handle().snapshot().shed_share < 1.0 {
        calls(1_000);
    }
    calls
}

/// What a user of tower's retry writes.
#[derive(Clone)]
struct TowerPolicy {
    left: u8,
    budget: Arc<TpsBudget>,
    backoff: ExponentialBackoff<HasherRng>,
}

impl TowerPolicy {
    fn new() -> Self {
        let (min, max) = (Duration::from_millis(25), Duration::from_secs(1));
        let maker = ExponentialBackoffMaker::new(min, max, 0.5, HasherRng::default());
        Self {
            left: 2,
            budget: Arc::new(TpsBudget::default()),
            backoff: maker.expect("the settings are in range").make_backoff(),
        }
    }
}

impl Policy<u32, u32, BoxError> for TowerPolicy {
    type Future = tokio::time::Sleep;

    fn retry(
        &mut self,
        _: &mut u32,
        result: &mut Result<u32, BoxError>,
    ) -> Option<tokio::time::Sleep> {
        match result {
            Ok(_) => {
                self.budget.deposit();
                None
            }
            Err(_) if self.left > 0 && self.budget.withdraw() => {
                self.left -= 1;
                Some(self.backoff.next_backoff())
            }
            Err(_) => None,
        }
    }

    fn clone_request(&mut self, req: &u32) -> Option<u32> {
        Some(*req)
    }
}

/// Layers for requests of HTTP's, above a service for numbers, with what making a request costs without
/// them: one with no header, and one that says how much time is left. Nothing is left to propagate.
#[cfg(feature = "http")]
fn above_over_http<S>(service: &S) -> Vec<(&'static str, Calls)>
where
    S: Service<u32, Response = u32, Error = BoxError> + Clone + 'static,
{
    use http::{HeaderValue, Request};
    use steadfast::deadline::{DeadlineLayer, PropagateLayer};
    use tower::util::MapRequestLayer;

    let body = MapRequestLayer::new(Request::<u32>::into_body);
    let bare = || MapRequestLayer::new(Request::<u32>::new);
    // Made once: making it costs more than all that is measured.
    let mut head = Request::new(());
    let value = HeaderValue::from_static("5000000u");
    head.headers_mut().insert("grpc-timeout", value);
    let told = || {
        let head = head.clone();
        MapRequestLayer::new(move |req: u32| {
            let mut request = Request::new(req);
            request.headers_mut().clone_from(head.headers());
            request
        })
    };
    let deadline = || DeadlineLayer::builder(LIMIT);
    let untrusting = deadline().build().expect("the settings are in range");
    let trusting = deadline().trust_headers().build();
    let trusting = trusting.expect("the settings are in range");
    vec![
        (
            "http-bare",
            calls((bare(), body.clone()).layer(service.clone())),
        ),
        (
            "http-told",
            calls((told(), body.clone()).layer(service.clone())),
        ),
        (
            "deadline",
            calls((bare(), untrusting, body.clone()).layer(service.clone())),
        ),
        (
            "deadline-told",
            calls((told(), trusting, body.clone()).layer(service.clone())),
        ),
        (
            "propagate",
            calls((bare(), PropagateLayer::new(), body).layer(service.clone())),
        ),
    ]
}

/// All that may stand above `service`, by name; first the service itself.
pub(crate) fn above<S>(service: &S) -> Vec<(&'static str, Calls)>
where
    S: Service<u32, Response = u32, Error = BoxError> + Clone + 'static,
{
    fn layered<S, L>(layer: L, service: &S) -> Calls
    where
        S: Clone,
        L: Layer<S>,
        L::Service: Service<u32> + 'static,
    {
        calls(layer.layer(service.clone()))
    }

    let bulkhead = || BulkheadLayer::new(MAX_IN_FLIGHT);
    let queue = Queue::fifo(MAX_IN_FLIGHT, LIMIT);
    let adaptive = AdaptiveLayer::builder().algorithm(Gradient2::default());
    let adaptive_queued = adaptive.clone().queue(queue).build().expect("in range");
    let adaptive = adaptive.build().expect("in range");
    let adaptive_each = AdaptiveLayer::builder().algorithm(Vegas::default());
    let adaptive_each = adaptive_each.build().expect("in range");
    let queued = BulkheadLayer::builder(MAX_IN_FLIGHT).queue(queue).build();
    let halves = Partitions::by(|req: &u32| ["even", "odd"][*req as usize % 2]);
    let divided =
        BulkheadLayer::builder(MAX_IN_FLIGHT).partitions(halves.share("even", 1).share("odd", 1));
    let divided = divided.build().expect("the shares are in range");
    let timeout = || TimeoutLayer::new(LIMIT).expect("the limit is not zero");
    let following = TimeoutLayer::following(Duration::from_millis(1), LIMIT);
    let following = following.expect("the bounds are in range");
    let retry = || {
        let layer = RetryLayer::builder().max_attempts(3).build();
        layer.expect("the settings are in range")
    };
    let stack = ServiceBuilder::new()
        .layer(bulkhead())
        .layer(retry())
        .layer(breaker_run())
        .layer(timeout());

    let concurrency_limit = ConcurrencyLimitLayer::new(MAX_IN_FLIGHT);
    let tower_timeout = tower::timeout::TimeoutLayer::new(LIMIT);
    let tower_retry = tower::retry::RetryLayer::new(TowerPolicy::new());
    let tower_stack = ServiceBuilder::new()
        .timeout(LIMIT)
        .retry(TowerPolicy::new())
        .load_shed()
        .concurrency_limit(MAX_IN_FLIGHT);

    #[allow(unused_mut, reason = "without `http` that is all")]
    let mut all = vec![
        ("bare", calls(service.clone())),
        ("breaker-run", layered(breaker_run(), service)),
        ("breaker-count", layered(breaker_count(), service)),
        ("breaker-time", layered(breaker_time(), service)),
        ("breaker-slow", layered(breaker_slow(), service)),
        ("breaker-ewma", layered(breaker_ewma(), service)),
        ("breaker-latency", layered(breaker_latency(), service)),
        ("breaker-own", layered(breaker_own(), service)),
        ("adaptive", layered(adaptive, service)),
        ("adaptive-queued", layered(adaptive_queued, service)),
        ("adaptive-each", layered(adaptive_each, service)),
        ("bulkhead", layered(bulkhead(), service)),
        ("bulkhead-queued", layered(queued, service)),
        ("bulkhead-parts", layered(divided, service)),
        (
            "load-shed",
            layered(
                load_shed().build().expect("the settings are in range"),
                service,
            ),
        ),
        (
            "load-shed-users",
            layered(
                load_shed()
                    .cohort_by(|req: &u32| *req)
                    .build()
                    .expect("the settings are in range"),
                service,
            ),
        ),
        (
            "load-shed-heaviest",
            layered(
                load_shed()
                    .cohort_by(|req: &u32| *req)
                    .heaviest_first()
                    .build()
                    .expect("the settings are in range"),
                service,
            ),
        ),
        ("tower-limit", layered(concurrency_limit, service)),
        ("timeout", layered(timeout(), service)),
        (
            "timeout-ready",
            layered(timeout().covering_readiness(), service),
        ),
        ("timeout-follows", layered(following, service)),
        ("tower-timeout", layered(tower_timeout, service)),
        ("throttle", layered(throttle(), service)),
        ("retry", layered(retry(), service)),
        ("tower-retry", layered(tower_retry, service)),
        ("stack", layered(stack, service)),
        ("tower-stack", layered(tower_stack, service)),
    ];
    #[cfg(feature = "http")]
    all.extend(above_over_http(service));
    all
}
