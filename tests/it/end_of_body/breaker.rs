//! A circuit breaker that takes its verdict at the end of the body.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ::http::{StatusCode, response};
use steadfast::{
    Classify, Context as Ctx, Verdict,
    backoff::{Backoff, Jitter},
    circuit_breaker::{
        CircuitBreakerBuilder, CircuitBreakerHandle, CircuitBreakerLayer, Counts, Mode, State,
        Thresholds,
    },
    classify::{AnyError, Failure},
    http::{self, ClassifyEnd, End, EndOfBody, HttpClassifier},
};
use tokio::time::advance;
use tower::{Layer, ServiceExt, service_fn};

use super::*;

/// Answers with the response it is given, after a while.
type Told = (Duration, Response<Given>);

async fn answer((takes, response): Told) -> Result<Response<Given>, Error> {
    sleep(takes).await;
    Ok(response)
}

fn ok(body: Given) -> Told {
    (Duration::ZERO, Response::new(body))
}

fn head(name: &str, value: &str, body: Given) -> Told {
    let head: response::Builder = Response::builder().header(name, value);
    (Duration::ZERO, head.body(body).unwrap())
}

/// The status of a call stands in the head, or else in the trailers.
#[derive(Clone, Debug)]
struct GrpcLike;

fn status(headers: &HeaderMap) -> Verdict {
    match headers.get("grpc-status") {
        Some(code) if code == "0" => Verdict::Success,
        Some(code) if code == "1" => Verdict::Ignored,
        _ => Failure::transient().into(),
    }
}

impl<B, E> Classify<Response<B>, E> for GrpcLike {
    fn classify(&self, result: Result<&Response<B>, &E>) -> Verdict {
        match result {
            Ok(response) if response.headers().contains_key("grpc-status") => {
                status(response.headers())
            }
            other => AnyError.classify(other),
        }
    }
}

impl<E> ClassifyEnd<E> for GrpcLike {
    fn is_final(&self, _: StatusCode, headers: &HeaderMap) -> bool {
        headers.contains_key("grpc-status")
    }

    fn classify_end(&self, end: End<'_, E>) -> Verdict {
        match end {
            End::Complete(Some(trailers)) => status(trailers),
            End::Complete(None) => Failure::permanent().into(),
            other => AnyError.classify_end(other),
        }
    }
}

fn grpc() -> CircuitBreakerBuilder<GrpcLike, EndOfBody> {
    counting(http::circuit_breaker().classifier(GrpcLike))
}

/// Counts all calls, opens at the first failure, for a second, and closes after one good probe.
fn counting<C, U>(breaker: CircuitBreakerBuilder<C, U>) -> CircuitBreakerBuilder<C, U> {
    breaker
        .consecutive_failures(1)
        .count_window(100, Thresholds::watch_only())
        .open_time(Backoff::constant(secs(1)).with_jitter(Jitter::None))
        .half_open_probes(1)
}

fn counts(handle: &CircuitBreakerHandle) -> Counts {
    let snapshot = handle.snapshot();
    snapshot.statistics.count_window.unwrap()
}

fn grpc_status(code: &'static str) -> Piece {
    Piece::Trailers(trailers("grpc-status", code))
}

/// A service below a breaker, that answers as it is told.
macro_rules! told {
    ($layer:expr) => {{
        let layer = $layer.build().unwrap();
        (layer.layer(service_fn(answer)), layer.handle())
    }};
}

#[tokio::test(start_paused = true)]
async fn an_error_that_arrives_only_in_trailers_opens_the_breaker() {
    let (mut svc, handle) = told!(grpc());
    let good = ok(pieces([Piece::After(secs(3)), grpc_status("0")]));
    let response = svc.ready().await.unwrap().call(good).await.unwrap();
    assert_eq!(counts(&handle).calls, 0, "not judged by its head");
    response.into_body().collect().await.unwrap();
    assert_eq!((counts(&handle).calls, handle.state()), (1, State::Closed));

    let bad = ok(pieces([Piece::After(secs(3)), grpc_status("14")]));
    let mut body = svc.call(bad).await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    assert_eq!(handle.state(), State::Closed);
    let last = body.frame().await.unwrap().unwrap();
    assert_eq!(last.trailers_ref().unwrap()["grpc-status"], "14");
    assert_eq!(handle.state(), State::Open);
    // Once, whatever is still asked of the body.
    assert!(body.frame().await.is_none());
    drop(body);
    assert!(
        svc.call(ok(empty()))
            .await
            .unwrap_err()
            .rejected()
            .retry_after()
            .is_some()
    );
}

#[tokio::test(start_paused = true)]
async fn what_the_head_says_is_settled_at_the_head() {
    let failures = [
        (
            "trailers-only",
            head("grpc-status", "14", pieces([Piece::Hang])),
        ),
        ("at its end, without a status", ok(empty())),
    ];
    for (name, told) in failures {
        let (svc, handle) = told!(grpc());
        let response = svc.oneshot(told).await.unwrap();
        assert_eq!(handle.state(), State::Open, "{name}");
        drop(response);
        assert_eq!(handle.state(), State::Open, "{name}");
    }
    let (mut svc, handle) = told!(grpc());
    let good = head("grpc-status", "0", pieces([Piece::Fail]));
    let response = svc.ready().await.unwrap().call(good).await.unwrap();
    assert_eq!(counts(&handle).calls, 1);
    response.into_body().collect().await.unwrap_err();
    let ignored = head("grpc-status", "1", pieces([grpc_status("14")]));
    let response = svc.call(ignored).await.unwrap();
    response.into_body().collect().await.unwrap();
    assert_eq!((counts(&handle).calls, handle.state()), (1, State::Closed));

    let (svc, handle) = told!(counting(http::circuit_breaker()));
    let mut busy = ok(pieces([Piece::Hang]));
    *busy.1.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    let _response = svc.oneshot(busy).await.unwrap();
    assert_eq!(handle.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_complete_is_a_success_of_http_and_one_that_fails_a_failure() {
    let (mut svc, handle) = told!(counting(http::circuit_breaker()));
    for body in [empty(), full("all"), ten_seconds()] {
        let response = svc.ready().await.unwrap().call(ok(body)).await.unwrap();
        response.into_body().collect().await.unwrap();
    }
    assert_eq!((counts(&handle).calls, handle.state()), (3, State::Closed));
    let broken = pieces([Piece::After(secs(1)), Piece::Fail]);
    let response = svc.call(ok(broken)).await.unwrap();
    assert_eq!(handle.state(), State::Closed);
    response.into_body().collect().await.unwrap_err();
    assert_eq!(handle.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_body_is_a_failure() {
    let (svc, handle) = told!(counting(http::circuit_breaker()));
    let response = svc.oneshot(ok(pieces([Piece::Panic]))).await.unwrap();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _ = poll_frame(&mut response.into_body());
    }));
    assert!(panicked.is_err(), "a panic is the reader's to see");
    assert_eq!(handle.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_classifier_that_panics_at_the_end_is_a_failure_counted_once() {
    #[derive(Clone)]
    struct Panics;
    impl<B> Classify<Response<B>, Error> for Panics {
        fn classify(&self, _: Result<&Response<B>, &Error>) -> Verdict {
            Verdict::Success
        }
    }
    impl ClassifyEnd<Error> for Panics {
        fn classify_end(&self, _: End<'_, Error>) -> Verdict {
            panic!("as told")
        }
    }
    let (svc, handle) = told!(counting(http::circuit_breaker().classifier(Panics)));
    let mut body = svc.oneshot(ok(full("all"))).await.unwrap().into_body();
    let panicked = catch_unwind(AssertUnwindSafe(|| drop(poll_frame(&mut body))));
    assert!(panicked.is_err());
    assert_eq!(handle.state(), State::Open);
    drop(body);
}

#[tokio::test(start_paused = true)]
async fn a_long_stream_is_not_a_slow_call_and_a_slow_head_is() {
    let slow = Thresholds::slow_call_rate(1.0).minimum_calls(100);
    let (mut svc, handle) = told!(http::circuit_breaker().count_window(100, slow));
    let response = svc.ready().await.unwrap().call(ok(ten_seconds())).await;
    response.unwrap().into_body().collect().await.unwrap();
    assert_eq!((counts(&handle).calls, counts(&handle).slow), (1, 0));

    let late = (secs(2), Response::new(ten_seconds()));
    let response = svc.call(late).await.unwrap();
    response.into_body().collect().await.unwrap();
    assert_eq!((counts(&handle).calls, counts(&handle).slow), (2, 1));
}

/// A service that streams and then falls silent, of which three frames have been read.
macro_rules! three_seconds_of {
    ($svc:expr) => {{
        let body = pieces((0..3).map(|_| Piece::After(secs(1))).chain([Piece::Hang]));
        let mut body = $svc
            .ready()
            .await
            .unwrap()
            .call(ok(body))
            .await
            .unwrap()
            .into_body();
        for _ in 0..3 {
            body.frame().await.unwrap().unwrap();
        }
        body
    }};
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_dropped_says_nothing_unless_it_had_kept_its_reader_waiting() {
    let (mut svc, handle) = told!(counting(http::circuit_breaker()));
    drop(three_seconds_of!(svc));
    let mut body = three_seconds_of!(svc);
    assert!(poll_frame(&mut body).is_pending());
    advance(secs(1)).await;
    drop(body);
    // A reader that takes its time was not kept waiting.
    let body = three_seconds_of!(svc);
    advance(secs(60)).await;
    drop(body);
    assert_eq!((counts(&handle).calls, handle.state()), (0, State::Closed));

    let mut body = three_seconds_of!(svc);
    assert!(poll_frame(&mut body).is_pending());
    advance(secs(1) + Duration::from_nanos(1)).await;
    drop(body);
    assert_eq!(handle.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_dropped_after_its_deadline_is_a_failure() {
    let (mut svc, handle) = told!(counting(http::circuit_breaker()));
    let context = Ctx::new().with_timeout(secs(5));
    let body = context.scope(async { three_seconds_of!(svc) }).await;
    // The reader need not be within the context.
    advance(secs(2)).await;
    drop(body);
    assert_eq!(handle.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn an_end_that_comes_after_the_state_has_changed_decides_nothing() {
    let (mut svc, handle) = told!(grpc());
    let bad = || ok(pieces([Piece::After(secs(60)), grpc_status("14")]));
    let early = svc.ready().await.unwrap().call(bad()).await.unwrap();
    handle.force_open_for(Duration::ZERO);
    let good = svc.call(head("grpc-status", "0", empty())).await;
    good.unwrap();
    assert_eq!(handle.state(), State::Closed);
    early.into_body().collect().await.unwrap();
    assert_eq!(handle.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_probe_is_judged_by_its_trailers_and_gives_its_place_back_when_dropped() {
    for (code, state) in [("0", State::Closed), ("14", State::Open)] {
        let (mut svc, handle) = told!(grpc());
        handle.force_open_for(Duration::ZERO);
        let dropped = ok(pieces([Piece::Hang]));
        let dropped = svc.ready().await.unwrap().call(dropped).await.unwrap();
        assert_eq!(handle.state(), State::HalfOpen);
        svc.call(ok(empty())).await.unwrap_err().rejected();
        drop(dropped);

        let probe = ok(pieces([Piece::After(secs(1)), grpc_status(code)]));
        let probe = svc.call(probe).await.unwrap();
        assert_eq!(handle.state(), State::HalfOpen);
        probe.into_body().collect().await.unwrap();
        assert_eq!(handle.state(), state);
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_streams_on_is_good_once_it_has_for_longer_than_a_call_may_take() {
    let (mut svc, handle) = told!(grpc().half_open_timeout(secs(5)));
    handle.force_open_for(Duration::ZERO);
    let probe = pieces(
        (0..10)
            .map(|_| Piece::After(secs(1)))
            .chain([grpc_status("14")]),
    );
    let mut probe = svc
        .ready()
        .await
        .unwrap()
        .call(ok(probe))
        .await
        .unwrap()
        .into_body();
    probe.frame().await.unwrap().unwrap();
    probe.frame().await.unwrap().unwrap();
    assert_eq!(handle.state(), State::HalfOpen);
    probe.frame().await.unwrap().unwrap();
    assert_eq!(handle.state(), State::Closed);
    // It has been counted.
    probe.collect().await.unwrap();
    assert_eq!(handle.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_gives_no_sign_is_written_off() {
    let (mut svc, handle) = told!(grpc().half_open_timeout(secs(5)));
    handle.force_open_for(Duration::ZERO);
    let silent = ok(pieces([Piece::Hang]));
    let mut silent = svc
        .ready()
        .await
        .unwrap()
        .call(silent)
        .await
        .unwrap()
        .into_body();
    for _ in 0..5 {
        assert!(poll_frame(&mut silent).is_pending());
        advance(secs(1)).await;
    }
    assert_eq!(handle.state(), State::HalfOpen);
    svc.call(ok(empty())).await.unwrap_err().rejected();
    assert_eq!(handle.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn breakers_by_key_and_those_whose_readiness_is_the_reservation_do_so_too() {
    let bad = || ok(pieces([grpc_status("14")]));
    let layer = grpc().keyed(1, |told: &Told| told.0).build().unwrap();
    let response = layer.layer(service_fn(answer)).oneshot(bad()).await;
    let breaker = layer.handle().get(&Duration::ZERO).unwrap();
    assert_eq!(breaker.state(), State::Closed);
    response.unwrap().into_body().collect().await.unwrap();
    assert_eq!(breaker.state(), State::Open);

    let layer = grpc().build().unwrap();
    let svc = layer.back_pressure().layer(service_fn(answer));
    let response = svc.oneshot(bad()).await.unwrap();
    assert_eq!(layer.handle().state(), State::Closed);
    response.into_body().collect().await.unwrap();
    assert_eq!(layer.handle().state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_breaker_that_is_disabled_watches_no_body() {
    let (svc, handle) = told!(grpc().mode(Mode::Disabled));
    let bad = ok(pieces([grpc_status("14")]));
    let response = svc.oneshot(bad).await.unwrap();
    response.into_body().collect().await.unwrap();
    handle.set_mode(Mode::Enabled);
    assert_eq!((counts(&handle).calls, handle.state()), (0, State::Closed));
}

#[test]
fn judging_at_the_end_allocates_nothing() {
    let layer = counting(http::circuit_breaker()).build().unwrap();
    let mut svc = layer.layer(service_fn(|body: Full<Bytes>| {
        std::future::ready(Ok::<_, Error>(Response::new(body)))
    }));
    let mut fetch = || {
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Service::<Full<Bytes>>::poll_ready(&mut svc, &mut cx).is_ready());
        let call = pin!(svc.call(Full::from("all")));
        let Poll::Ready(Ok(response)) = call.poll(&mut cx) else {
            panic!("not admitted")
        };
        assert!(poll_frame(&mut response.into_body()).is_ready());
    };
    (0..200).for_each(|_| fetch()); // makes the thread's pools, and fills the window
    let allocated = allocation_counter::measure(|| (0..1000).for_each(|_| fetch()));
    assert_eq!(allocated, allocation_counter::AllocationInfo::default());
    assert_eq!(counts(&layer.handle()).calls, 100);
}

#[test]
fn a_classifier_of_heads_alone_is_still_one() {
    // Until it is answered, nothing more is asked of a classifier.
    let heads = |_: Result<&Response<Given>, &Error>| Verdict::Success;
    let layer = CircuitBreakerLayer::builder().classifier(heads).build();
    drop(
        layer
            .unwrap()
            .layer(service_fn(answer))
            .oneshot(ok(empty())),
    );
    assert_eq!(
        HttpClassifier.classify_end(End::<Error>::Complete(None)),
        Verdict::Success
    );
    let timed_out = HttpClassifier.classify_end(End::TimedOut(&Error::Failed(1)));
    assert_eq!(timed_out, Failure::timeout().into());
}

#[tokio::test(start_paused = true)]
async fn how_long_the_head_took_is_not_held_against_a_stream_that_is_dropped() {
    let (svc, handle) = told!(counting(http::circuit_breaker()));
    let late = (ms(900), Response::new(pieces([Piece::Hang])));
    let mut body = svc.oneshot(late).await.unwrap().into_body();
    assert!(poll_frame(&mut body).is_pending());
    advance(ms(900)).await;
    drop(body);
    assert_eq!(handle.state(), State::Closed);
}
