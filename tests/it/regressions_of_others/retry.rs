//! The retries of others.

use std::{
    collections::HashSet,
    future::ready,
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::future::join_all;
use steadfast::{
    Context,
    backoff::{Backoff, Jitter},
    circuit_breaker::{CircuitBreakerLayer, State},
    classify::{Failure, Hint},
    retry::{Retry, RetryBuilder, RetryLayer},
    timeout::TimeoutLayer,
};
use tokio::time::{Instant, sleep};
use tower::{
    Layer, ServiceBuilder, ServiceExt, limit::ConcurrencyLimitLayer, service_fn,
    util::MapRequestLayer,
};

use crate::support::{Act, Error, Scripted, Told, Watch, ms, secs, send};

fn builder() -> RetryBuilder {
    RetryLayer::builder().without_budget()
}

/// Waits exactly so long before each further attempt.
fn every(delay: Duration) -> RetryBuilder {
    builder().backoff(Backoff::constant(delay).with_jitter(Jitter::None))
}

fn build(builder: RetryBuilder) -> (Retry<Scripted>, Watch) {
    let (service, watch) = Scripted::new();
    (builder.build().unwrap().layer(service), watch)
}

/// How long a call takes that fails once.
async fn first_delay(mut retry: Retry<Scripted>) -> Duration {
    let before = Instant::now();
    assert_eq!(send(&mut retry, Act::FailTimes(1)).await, Ok(2));
    before.elapsed()
}

// Delays.

/// tower-resilience 0.13 jitters neither by default nor in its three presets: 20 of 20 sequences were the
/// same; off too in backon 1.6, resilience4j, Polly, failsafe-go. tower 0.5's
/// `ExponentialBackoffMaker` jitters and clones the generator: 50 backoffs drew the same first delay.
#[tokio::test(start_paused = true)]
async fn out_of_the_box_those_who_fail_together_do_not_come_back_together() {
    let one = build(builder()).0;
    let of_clones = join_all((0..50).map(|_| first_delay(one.clone()))).await;
    let of_layers = join_all((0..50).map(|_| first_delay(build(builder()).0))).await;
    for delays in [of_clones, of_layers] {
        let different: HashSet<_> = delays.into_iter().collect();
        assert!(different.len() > 10, "of 26 milliseconds: {different:?}");
    }
}

/// tower-resilience 0.13 has no longest delay unless told; reqwest 0.13's own retry has no delay at all.
#[tokio::test(start_paused = true)]
async fn out_of_the_box_it_waits_and_never_longer_than_a_second() {
    let attempts = Arc::new(Mutex::new(Vec::new()));
    let service = service_fn({
        let attempts = attempts.clone();
        move |()| {
            attempts.lock().unwrap().push(Instant::now());
            ready(Err::<(), _>(Error::Failed(1)))
        }
    });
    let layer = builder().max_attempts(50).seed(1).build().unwrap();
    layer.layer(service).oneshot(()).await.unwrap_err();
    let attempts = attempts.lock().unwrap();
    let longest = attempts.windows(2).map(|pair| pair[1] - pair[0]).max();
    // Timers are good to the millisecond.
    assert!(
        (ms(800)..=ms(1001)).contains(&longest.unwrap()),
        "{longest:?}"
    );
}

/// tower-resilience 0.13 drew 1.499 s under a cap of 1 s: the jitter comes after it. So in backon 1.6 (×1 to
/// 2), tokio-retry2 0.9 (×0.5 to 1.5), and gRPC's A6 (×0.8 to 1.2).
#[test]
fn no_delay_is_longer_than_its_cap_jitter_included() {
    let grows = Backoff::exponential(ms(100), secs(1)).unwrap();
    let jitters = [
        Jitter::None,
        Jitter::Full,
        Jitter::Equal,
        Jitter::Decorrelated,
    ];
    for backoff in jitters.map(|jitter| grows.clone().with_jitter(jitter)) {
        for random in [0, u64::MAX / 2, u64::MAX] {
            let mut delays = backoff.delays();
            assert!((0..2_000).all(|_| delays.next(random) <= secs(1)));
        }
        let mut delays = backoff.delays();
        assert!((0..9).any(|_| delays.next(u64::MAX) == secs(1)));
    }
}

// When it stops.

/// tower-resilience 0.13 tries again what its own breaker refused: twice, and 300 ms, on an open one.
#[tokio::test(start_paused = true)]
async fn an_open_breaker_below_is_asked_once_and_nothing_waited() {
    let breaker = CircuitBreakerLayer::builder().build().unwrap();
    breaker.handle().force_open();
    let asked = Arc::new(AtomicUsize::new(0));
    let mut retry = ServiceBuilder::new()
        .layer(builder().build().unwrap())
        .layer(MapRequestLayer::new({
            let asked = asked.clone();
            move |act: Act| {
                asked.fetch_add(1, SeqCst);
                act
            }
        }))
        .layer(breaker)
        .service(Scripted::new().0);
    let before = Instant::now();
    send(&mut retry, Act::Succeed).await.unwrap_err().rejected();
    assert_eq!((asked.load(SeqCst), before.elapsed()), (1, ms(0)));
}

/// The same, where the breaker opens between two attempts.
#[tokio::test(start_paused = true)]
async fn the_breaker_that_its_own_attempts_open_ends_it() {
    let breaker = CircuitBreakerLayer::builder().consecutive_failures(2);
    let breaker = breaker.build().unwrap();
    let (service, watch) = Scripted::new();
    let mut retry = ServiceBuilder::new()
        .layer(every(ms(10)).max_attempts(9).build().unwrap())
        .layer(breaker.clone())
        .service(service);
    let before = Instant::now();
    send(&mut retry, Act::Fail(1)).await.unwrap_err().rejected();
    assert_eq!((watch.calls(), before.elapsed()), (2, ms(20)));
    assert_eq!(breaker.handle().state(), State::Open);
}

/// linkerd#2369: five hours of retries under a total timeout of five seconds; tokio-retry#34 asks for one.
/// reqwest-retry 0.9 measures it by the wall clock; this one is paused.
#[tokio::test(start_paused = true)]
async fn all_attempts_and_delays_together_end_within_the_total_time() {
    let endless = every(ms(500)).max_attempts(1_000).total_time(secs(5));
    let (service, watch) = Scripted::new();
    let mut retry = ServiceBuilder::new()
        .layer(endless.build().unwrap())
        .layer(TimeoutLayer::new(secs(2)).unwrap())
        .service(service);
    let before = Instant::now();
    send(&mut retry, Act::Hang).await.unwrap_err().timed_out();
    // 0..2, 2.5..4.5, and nothing at 5.
    assert_eq!((watch.calls(), before.elapsed()), (2, ms(4_500)));
}

/// failsafe-go 0.9.7 and Failsafe 3.3.2 cut a delay to what is left of `WithMaxDuration`, and so try again
/// too early.
#[tokio::test(start_paused = true)]
async fn a_delay_for_which_there_is_no_time_is_not_shortened_to_fit() {
    let (mut retry, watch) = build(every(secs(10)).total_time(secs(5)));
    let before = Instant::now();
    send(&mut retry, Act::Fail(1)).await.unwrap_err();
    assert_eq!((watch.calls(), before.elapsed()), (1, ms(0)));
}

/// How often a service is called that fails and asks to be left alone for `hint`, and how long that takes.
async fn hinted(hint: Hint, deadline: Duration) -> (usize, Duration) {
    let (service, watch) = Scripted::new();
    let layer = every(ms(10)).classifier(Told).max_attempts(2);
    let mut retry = layer.build().unwrap().layer(service);
    let before = Instant::now();
    let act = Act::Say(Failure::overload().with_hint(hint).into());
    let call = Context::new().with_timeout(deadline).scope(async {
        send(&mut retry, act).await.unwrap_err();
    });
    call.await;
    (watch.calls(), before.elapsed())
}

/// dotnet/extensions#7001: tried again earlier than told; failsafe-go 0.9.7 jitters what it was told. And
/// both, like Microsoft's handler, wait for however long they are told.
#[tokio::test(start_paused = true)]
async fn what_the_service_asks_for_is_never_shortened_and_has_a_bound() {
    for seconds in [1, 7, 30] {
        let asked = Hint::After(secs(seconds));
        assert_eq!(hinted(asked, secs(3600)).await, (2, secs(seconds)));
    }
    let too_long = Hint::After(secs(31)); // the default is 30
    assert_eq!(hinted(too_long, secs(3600)).await, (1, ms(0)));
}

/// dotnet/extensions#7701: waits as the service asks, though the total timeout comes first, then times out.
#[tokio::test(start_paused = true)]
async fn what_the_service_asks_for_beyond_the_deadline_ends_it_at_once() {
    let asked = Hint::After(secs(20));
    assert_eq!(hinted(asked, secs(10)).await, (1, ms(0)));
}

// Attempts.

/// seatbelt 0.11 calls a clone that was never polled; tower's `ConcurrencyLimit` below it panics.
#[tokio::test(start_paused = true)]
async fn every_attempt_is_made_on_a_service_that_was_made_ready_for_it() {
    let mut retry = ServiceBuilder::new()
        .layer(every(ms(10)).build().unwrap())
        .layer(ConcurrencyLimitLayer::new(1))
        .service(Scripted::new().0);
    assert_eq!(send(&mut retry, Act::FailTimes(2)).await, Ok(3));
}

/// dotnet/extensions#6167: the same request again, with what the first attempt has done to it.
#[tokio::test(start_paused = true)]
async fn an_attempt_sees_nothing_of_what_an_earlier_one_did_to_the_request() {
    let seen = Mutex::new(Vec::new());
    let consumes = service_fn(|mut req: Vec<u8>| {
        seen.lock().unwrap().push(req.clone());
        req.clear();
        ready(Err::<(), _>(Error::Failed(1)))
    });
    let retry = builder().build().unwrap().layer(consumes);
    retry.oneshot(b"body".to_vec()).await.unwrap_err();
    assert_eq!(*seen.lock().unwrap(), [b"body"; 3]);
}

/// envoy#13196: every attempt is told of the whole timeout, whatever the earlier ones have taken of it.
#[tokio::test(start_paused = true)]
async fn an_attempt_is_told_what_the_earlier_ones_have_left_of_the_deadline() {
    let left = Mutex::new(Vec::new());
    let slow = service_fn(|()| async {
        left.lock().unwrap().push(Context::current().remaining());
        sleep(secs(2)).await;
        Err::<(), _>(Error::Failed(1))
    });
    let layer = every(secs(1)).total_time(secs(10)).build().unwrap();
    layer.layer(slow).oneshot(()).await.unwrap_err();
    let left = left.lock().unwrap();
    assert_eq!(*left, [Some(secs(10)), Some(secs(7)), Some(secs(4))]);
}

// What can be sent, and again.

/// Neither `Clone` nor `Send` nor `Sync`.
#[derive(Debug)]
struct Once(Rc<u32>);

/// tower-resilience 0.13 does not compile for a request that is not `Clone` (nor do others fit tonic's:
/// tower#790, grpc-rust#733, kube#1857, octocrab#842); reqwest-retry 0.9 refuses such a body outright.
#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_be_cloned_goes_once() {
    let calls = AtomicUsize::new(0);
    let fails = service_fn(|req: Once| {
        calls.fetch_add(1, SeqCst);
        ready(Err::<(), _>(*req.0))
    });
    let layer = builder().clone_request(|_: &Once| None).build().unwrap();
    let failed = layer.layer(fails).oneshot(Once(Rc::new(7))).await;
    assert_eq!((failed, calls.into_inner()), (Err(7), 1));
}

/// tower-resilience 0.13 asks that errors are `Clone` and responses `Clone` or `Sync`, which those of
/// reqwest, tonic and axum are not.
#[tokio::test(start_paused = true)]
async fn neither_answers_nor_errors_need_be_cloned_or_sent() {
    let calls = AtomicUsize::new(0);
    let service = service_fn(|number: u32| {
        let answer = Once(Rc::new(number));
        let fails = calls.fetch_add(1, SeqCst) < 2;
        ready(if fails { Err(answer) } else { Ok(answer) })
    });
    let retry = builder().build().unwrap().layer(service);
    assert_eq!(*retry.oneshot(7).await.unwrap().0, 7);
}

/// Counts its clones.
struct Counted(Arc<AtomicUsize>);

impl Clone for Counted {
    fn clone(&self) -> Self {
        self.0.fetch_add(1, SeqCst);
        Self(self.0.clone())
    }
}

/// tower-resilience 0.13 clones for the last attempt too, and for the only one.
#[tokio::test(start_paused = true)]
async fn the_last_attempt_takes_the_request_itself() {
    for attempts in [1, 3] {
        let clones = Arc::new(AtomicUsize::new(0));
        let fails = service_fn(|_: Counted| ready(Err::<(), _>(Error::Failed(1))));
        let layer = builder().max_attempts(attempts).build().unwrap();
        let request = Counted(clones.clone());
        layer.layer(fails).oneshot(request).await.unwrap_err();
        assert_eq!(clones.load(SeqCst), attempts as usize - 1);
    }
}

#[cfg(feature = "http")]
mod over_http {
    use std::{convert::Infallible, future::pending, io};

    use axum::{Router, body::Body};
    use futures_util::stream;
    use http::{Method, Request, Response, header::RETRY_AFTER};
    use steadfast::{
        Error, LiftLayer, Verdict,
        http::{HttpClassifier, IdempotentBodyless, is_safe_to_retry, retry},
    };
    use tower::{BoxError, Service};

    use super::*;

    fn at_once() -> RetryBuilder<HttpClassifier, IdempotentBodyless> {
        retry().without_budget().backoff(Backoff::none())
    }

    fn request(method: Method, body: Body) -> Request<Body> {
        Request::builder().method(method).body(body).unwrap()
    }

    /// How often a server that answers 503 gets `request`.
    async fn sent(request: Request<Body>) -> usize {
        let calls = AtomicUsize::new(0);
        let busy = service_fn(|_: Request<Body>| {
            calls.fetch_add(1, SeqCst);
            let busy = Response::builder().status(503).body(());
            ready(Ok::<_, Infallible>(busy.unwrap()))
        });
        let retry = at_once().build().unwrap().layer(busy);
        assert_eq!(retry.oneshot(request).await.unwrap().status(), 503);
        calls.into_inner()
    }

    /// tower-resilience 0.13: of 11 layers the retry is among those that fit neither axum's, nor reqwest's,
    /// nor tonic's types.
    #[tokio::test]
    async fn it_fits_axum_reqwest_and_tonic() {
        fn fits<Req>(_: impl Service<Req>) {}
        let layer = || at_once().build().unwrap();
        fits::<Request<Body>>(layer().layer(Router::new()));

        let channel = tonic::transport::Endpoint::from_static("http://[::1]:1");
        let channel = layer().layer(channel.connect_lazy());
        fits::<Request<tonic::body::Body>>(channel);

        let judge = |result: Result<&reqwest::Response, &reqwest::Error>| match result {
            Ok(response) => HttpClassifier.verdict(response.status(), response.headers()),
            Err(_) => Verdict::from(Failure::transient()),
        };
        let copy = |request: &reqwest::Request| {
            let is_safe = is_safe_to_retry(request.method(), request.headers());
            is_safe.then(|| request.try_clone()).flatten()
        };
        let layer = at_once().classifier(judge).clone_request(copy);
        fits::<reqwest::Request>(layer.build().unwrap().layer(reqwest::Client::new()));
    }

    /// reqwest-retry 0.9 (kittycad.rs#1042), Microsoft's standard handler (dotnet/extensions#5248,
    /// aspire#4631) and failsafe-go's HTTP helper send a POST again unless told not to.
    #[tokio::test(start_paused = true)]
    async fn a_post_goes_once() {
        assert_eq!(sent(request(Method::POST, Body::empty())).await, 1);
        assert_eq!(sent(request(Method::GET, Body::empty())).await, 3);
    }

    /// dotnet/extensions#6548, #6708: told not to, it does after a timeout: there is no response, and the method
    /// was read from that.
    #[tokio::test(start_paused = true)]
    async fn a_post_that_times_out_goes_once() {
        for (method, times) in [(Method::POST, 1), (Method::GET, 3)] {
            let calls = AtomicUsize::new(0);
            let hangs = service_fn(|_: Request<Body>| {
                calls.fetch_add(1, SeqCst);
                pending::<Result<Response<()>, Infallible>>()
            });
            let retry = ServiceBuilder::new()
                .layer(at_once().build().unwrap())
                .layer(TimeoutLayer::new(secs(1)).unwrap())
                .layer(LiftLayer::new())
                .service(hangs);
            let late = retry.oneshot(request(method, Body::empty())).await;
            assert!(matches!(late, Err(Error::TimedOut(_))));
            assert_eq!(calls.into_inner(), times);
        }
    }

    /// reqwest-middleware#44, #214, reqwest#2416: a body that can be read once is an error before it is
    /// ever sent.
    #[tokio::test(start_paused = true)]
    async fn a_body_that_can_be_read_once_is_sent_once() {
        let stream = || stream::once(ready(Ok::<_, io::Error>("body")));
        let streamed = Body::from_stream(stream());
        assert_eq!(sent(request(Method::PUT, streamed)).await, 1);
    }

    /// reqwest-middleware#146, reqwest#925; the retry of tower-resilience 0.13 is told the number of the attempt
    /// alone, linkerd2-proxy reads the field for its load balancer.
    #[tokio::test(start_paused = true)]
    async fn retry_after_says_when() {
        let busy_once = service_fn(|_: Request<Body>| {
            let is_first = Context::current().attempt().get() == 1;
            let answer = Response::builder().status(if is_first { 429 } else { 200 });
            ready(
                answer
                    .header(RETRY_AFTER, "7")
                    .body(())
                    .map_err(BoxError::from),
            )
        });
        let retry = at_once().build().unwrap().layer(busy_once);
        let before = Instant::now();
        let answer = retry.oneshot(request(Method::GET, Body::empty())).await;
        assert_eq!(answer.unwrap().status(), 200);
        assert_eq!(before.elapsed(), secs(7));
    }
}
