//! Errors in trailers before any message, made part of the head.

use std::{
    num::NonZeroU32,
    sync::{Mutex, atomic::AtomicU32},
};

use allocation_counter::{AllocationInfo, measure};
use http::Request;
use proptest::prelude::*;
use steadfast::{
    Classify, Verdict,
    backoff::Backoff,
    budget::Budget,
    circuit_breaker::{CircuitBreakerLayer, State},
    classify::Failure,
    grpc::{GrpcClassifier, TrailersOnlyBody, TrailersOnlyLayer, retry},
    http::{BodyTimeoutLayer, ClassifyEnd, End, EndOfBody, ReplayBody, ReplayLayer},
};
use tokio::time::Instant;
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};

use super::*;
use crate::support::{CountingWaker, poll_once};

async fn held(hold: Duration, body: Given) -> Response<TrailersOnlyBody<Given>> {
    let svc = TrailersOnlyLayer::new(hold).layer(Giver);
    svc.oneshot(body).await.unwrap()
}

fn failed() -> HeaderMap {
    let mut trailers = trailers("grpc-status", "14");
    trailers.insert("grpc-message", HeaderValue::from_static("gone"));
    trailers.append("x-told", HeaderValue::from_static("late"));
    trailers.append("x-told", HeaderValue::from_static("twice"));
    trailers
}

#[tokio::test]
async fn trailers_that_tell_of_an_error_become_part_of_the_head() {
    let layer = TrailersOnlyLayer::new(Duration::MAX);
    let svc = layer.layer(service_fn(async |body: Given| {
        let response = Response::builder().header("content-type", "application/grpc");
        Ok::<_, Error>(response.header("x-told", "early").body(body).unwrap())
    }));
    let response = svc.oneshot(pieces([Piece::Trailers(failed())])).await;
    let mut response = response.unwrap();
    let mut head = failed();
    head.insert("content-type", HeaderValue::from_static("application/grpc"));
    assert_eq!(*response.headers(), head);
    assert_eq!(response.body().size_hint().exact(), Some(0));
    assert!(response.body().is_end_stream());
    assert!(response.body_mut().frame().await.is_none());
}

#[test]
fn what_has_its_verdict_in_the_head_is_not_looked_into_and_no_hold_takes_no_timer() {
    let (none, all) = (Duration::ZERO, Duration::MAX);
    for (hold, status, name) in [
        (all, 200, "grpc-status"),
        (all, 502, "x-other"),
        (none, 200, "x-other"),
    ] {
        let svc = TrailersOnlyLayer::new(hold).layer(service_fn(async |body: Given| {
            let response = Response::builder().status(status).header(name, "0");
            Ok::<_, Error>(response.body(body).unwrap())
        }));
        // Outside of a runtime, where there are no timers.
        let polled = poll_once(pin!(svc.oneshot(pieces([Piece::Hang]))));
        let Poll::Ready(Ok(mut response)) = polled else {
            panic!("{hold:?}, {status}, {name}")
        };
        assert!(poll_frame(response.body_mut()).is_pending());
    }
}

fn piece() -> impl Strategy<Value = Piece> {
    prop_oneof![
        3 => (0..3_u64).prop_map(|seconds| Piece::After(secs(seconds))),
        1 => Just(Piece::Trailers(trailers("grpc-status", "0"))),
        1 => Just(Piece::Trailers(trailers("checksum", "7"))),
        1 => Just(Piece::Fail),
    ]
}

/// All frames, when they came, and what was said of the rest before each.
async fn watched<B>(mut body: B) -> Vec<(Duration, String, bool)>
where
    B: Body<Data = Bytes, Error = Error> + Unpin,
{
    let began = Instant::now();
    let mut frames = Vec::new();
    loop {
        let is_end = body.is_end_stream();
        let frame = body.frame().await;
        frames.push((began.elapsed(), format!("{frame:?}"), is_end));
        if frame.is_none() {
            return frames;
        }
    }
}

proptest! {
    /// Whatever the body is, and for however long the head is held, all comes as it would have.
    #[test]
    fn all_else_comes_unchanged_and_when_it_came(
        body in prop::collection::vec(piece(), 0..5),
        hold in prop_oneof![Just(Duration::ZERO), Just(secs(1)), Just(Duration::MAX)],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let bare = watched(pieces(body.clone())).await;
            let began = Instant::now();
            let response = held(hold, pieces(body)).await;
            prop_assert!(response.headers().is_empty());
            // The head waits for the first frame, and no longer than it may.
            let waited = began.elapsed();
            prop_assert_eq!(waited, bare[0].0.min(hold));
            let mut through = watched(response.into_body()).await;
            through.iter_mut().for_each(|(at, ..)| *at += waited);
            let frames = |all: &[(Duration, String, bool)]| -> Vec<_> {
                all.iter().map(|(at, frame, _)| (*at, frame.clone())).collect()
            };
            prop_assert_eq!(frames(&through), frames(&bare));
            // A body is at its end only where there is nothing left to come.
            prop_assert!(through.iter().all(|(_, frame, is_end)| !is_end || frame == "None"));
            Ok(())
        })?;
    }
}

/// A body that counts how often it is asked, and always has a frame.
struct Asked(Arc<AtomicU32>);

impl Body for Asked {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.0.fetch_add(1, SeqCst);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"tick")))))
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = SizeHint::new();
        hint.set_lower(100);
        hint.set_upper(200);
        hint
    }
}

#[tokio::test]
async fn a_message_is_handed_on_at_once_and_nothing_behind_it_is_asked_for() {
    let polls = Arc::<AtomicU32>::default();
    let body = Asked(Arc::clone(&polls)).boxed_unsync();
    let mut response = held(Duration::MAX, body).await;
    assert_eq!(polls.load(SeqCst), 1);
    let hint = response.body().size_hint();
    assert_eq!((hint.lower(), hint.upper()), (104, Some(204)));
    assert!(poll_frame(response.body_mut()).is_ready());
    assert_eq!(polls.load(SeqCst), 1);
    assert_eq!(response.body().size_hint().lower(), 100);
    assert!(poll_frame(response.body_mut()).is_ready());
    assert_eq!(polls.load(SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_held_head_is_dropped_with_its_call() {
    let drops = Arc::<AtomicUsize>::default();
    let mut svc = TrailersOnlyLayer::new(secs(1)).layer(Giver);
    let body = Dropped(Arc::clone(&drops)).boxed_unsync();
    let mut call = Box::pin(svc.call(body));
    let (counter, waker) = CountingWaker::new();
    assert!(
        call.as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
    );
    assert_eq!((drops.load(SeqCst), counter.woken()), (0, 0));
    drop(call);
    assert_eq!(drops.load(SeqCst), 1);
}

#[tokio::test]
async fn readiness_is_the_inner_services() {
    let waits = tower::util::MapRequest::new(NeverReady, |body: Given| body);
    let mut svc = TrailersOnlyLayer::new(secs(1)).layer(waits);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(svc.poll_ready(&mut cx).is_pending());
}

struct NeverReady;

impl Service<Given> for NeverReady {
    type Response = Response<Given>;
    type Error = Error;
    type Future = std::future::Ready<Result<Response<Given>, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Pending
    }

    fn call(&mut self, _: Given) -> Self::Future {
        unreachable!("it is never ready")
    }
}

// The retry above it.

fn trailers_alone(name: &'static str, value: &'static str) -> Given {
    let mut trailers = trailers("grpc-status", "14");
    trailers.insert(name, HeaderValue::from_static(value));
    pieces([Piece::Trailers(trailers)])
}

fn unavailable() -> Given {
    trailers_alone("grpc-message", "gone")
}

fn message(then: &'static str) -> Given {
    let status = Piece::Trailers(trailers("grpc-status", then));
    pieces([Piece::After(Duration::ZERO), status])
}

fn budget_of(retries: u32) -> Budget {
    let budget = Budget::new(0.1).unwrap().with_max_balance(5).unwrap();
    let budget = budget.with_floor(0);
    (0..retries * 10).for_each(|_| budget.deposit());
    budget
}

const REQUEST: &str = "sixteen thousand";

/// Makes a call through a retry, above `$layer`, each attempt of which is answered with the body for its
/// number. What it ends with, and how many attempts that took.
macro_rules! retried {
    ($layer:expr, $retry:expr, $cap:expr, $answer:expr) => {{
        let answer: fn(u32) -> Given = $answer;
        let attempts = Arc::<AtomicU32>::default();
        let counted = Arc::clone(&attempts);
        let svc = ServiceBuilder::new()
            .layer(ReplayLayer::new($cap))
            .layer(
                $retry
                    .max_attempts(9)
                    .backoff(Backoff::none())
                    .build()
                    .unwrap(),
            )
            .layer($layer)
            .service(service_fn(move |req: Request<ReplayBody<Full<Bytes>>>| {
                let attempt = counted.fetch_add(1, SeqCst) + 1;
                async move {
                    let sent = req.into_body().collect().await.unwrap();
                    assert_eq!(sent.to_bytes(), REQUEST);
                    Ok::<_, Error>(Response::new(answer(attempt)))
                }
            }));
        let response = svc.oneshot(
            Request::post("/relay.Relay/Ask")
                .body(REQUEST.into())
                .unwrap(),
        );
        let response = response.await.unwrap();
        (response, attempts.load(SeqCst))
    }};
    ($retry:expr, $answer:expr) => {
        retried!(TrailersOnlyLayer::new(Duration::MAX), $retry, 1024, $answer)
    };
}

#[tokio::test]
async fn an_error_in_trailers_before_any_message_is_tried_again_within_the_budget() {
    let third_time = |attempt| match attempt {
        1 | 2 => unavailable(),
        _ => message("0"),
    };
    let (response, attempts) = retried!(retry().budget(budget_of(2)), third_time);
    let body = response.into_body().collect().await.unwrap();
    assert_eq!(
        (attempts, body.trailers()),
        (3, Some(&trailers("grpc-status", "0")))
    );
    assert_eq!(body.to_bytes(), "tick");

    let (response, attempts) = retried!(retry().budget(budget_of(1)), third_time);
    assert_eq!(
        (attempts, &response.headers()["grpc-message"]),
        (2, &"gone".parse().unwrap())
    );

    // A retry that sees heads alone takes it for a success.
    let bare = tower::layer::util::Identity::new();
    let (response, attempts) = retried!(bare, retry().budget(budget_of(2)), 1024, third_time);
    assert_eq!((attempts, response.headers().len()), (1, 0));
}

#[tokio::test]
async fn nothing_is_tried_again_of_which_a_message_has_come() {
    let (response, attempts) = retried!(retry().without_budget(), |_| message("14"));
    let body = response.into_body().collect().await.unwrap();
    assert_eq!(
        (attempts, body.trailers()),
        (1, Some(&trailers("grpc-status", "14")))
    );
}

#[tokio::test(start_paused = true)]
async fn what_trailers_say_about_coming_back_is_kept_to() {
    let began = Instant::now();
    let (_, attempts) = retried!(retry().without_budget(), |attempt| match attempt {
        1 => trailers_alone("grpc-retry-pushback-ms", "7000"),
        _ => message("0"),
    });
    assert_eq!((attempts, began.elapsed()), (2, secs(7)));
    for never in ["-1", "soon", ""] {
        let answer = match never {
            "-1" => |_| trailers_alone("grpc-retry-pushback-ms", "-1"),
            "soon" => |_| trailers_alone("grpc-retry-pushback-ms", "soon"),
            _ => |_| trailers_alone("grpc-retry-pushback-ms", ""),
        };
        let (_, attempts) = retried!(retry().without_budget(), answer);
        assert_eq!(attempts, 1, "{never:?}");
    }
}

#[tokio::test]
async fn a_call_is_made_once_where_its_status_its_method_or_its_request_does_not_allow_more() {
    let (_, attempts) = retried!(retry().without_budget(), |_| {
        pieces([Piece::Trailers(trailers("grpc-status", "13"))])
    });
    assert_eq!(attempts, 1, "INTERNAL");

    let once = |req: &Request<ReplayBody<Full<Bytes>>>| {
        let is_ask = req.uri().path() == "/relay.Relay/Ask";
        is_ask.then_some(NonZeroU32::MIN)
    };
    let retry_but_ask = retry().without_budget().max_attempts_per_request(once);
    let (_, attempts) = retried!(retry_but_ask, |_| unavailable());
    assert_eq!(attempts, 1, "it may not be done twice");

    let layer = TrailersOnlyLayer::new(Duration::MAX);
    let cap = REQUEST.len() - 1;
    let (_, attempts) = retried!(layer, retry().without_budget(), cap, |_| unavailable());
    assert_eq!(attempts, 1, "it is too long to be recorded");
    let (_, attempts) = retried!(layer, retry().without_budget(), cap + 1, |_| unavailable());
    assert_eq!(attempts, 9);
}

// The other layers beside it.

#[tokio::test]
async fn breakers_above_and_below_see_the_same() {
    let breaker = || {
        let breaker = CircuitBreakerLayer::builder().consecutive_failures(1);
        let breaker = breaker.classifier(GrpcClassifier::new()).until(EndOfBody);
        breaker.build().unwrap()
    };
    for (body, state) in [(unavailable(), State::Open), (message("0"), State::Closed)] {
        let (above, below) = (breaker(), breaker());
        let svc = ServiceBuilder::new()
            .layer(&above)
            .layer(TrailersOnlyLayer::new(Duration::MAX))
            .layer(&below)
            .service(Giver);
        let response = svc.oneshot(body).await.unwrap();
        response.into_body().collect().await.unwrap();
        assert_eq!(
            (above.handle().state(), below.handle().state()),
            (state, state)
        );
    }
}

/// Asks of a body that fails whether it was cut.
#[derive(Clone)]
struct CutOrNot(Arc<Mutex<Option<bool>>>);

impl<B, E> Classify<Response<B>, E> for CutOrNot {
    fn classify(&self, _: Result<&Response<B>, &E>) -> Verdict {
        Verdict::Success
    }
}

impl<E> ClassifyEnd<E> for CutOrNot {
    fn classify_end(&self, end: End<'_, E>) -> Verdict {
        *self.0.lock().unwrap() = match end {
            End::TimedOut(_) => Some(true),
            End::Failed(_) => Some(false),
            _ => None,
        };
        Failure::transient().into()
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_that_was_kept_is_still_known_for_whose_it_is() {
    for (body, is_cut) in [
        (pieces([Piece::Hang]), true),
        (pieces([Piece::Fail]), false),
    ] {
        let classifier = CutOrNot(Arc::default());
        let breaker = CircuitBreakerLayer::builder().consecutive_failures(1);
        let breaker = breaker.classifier(classifier.clone()).until(EndOfBody);
        let limit = BodyTimeoutLayer::builder().idle(secs(1)).error::<Error>();
        let svc = ServiceBuilder::new()
            .layer(breaker.build().unwrap())
            .layer(TrailersOnlyLayer::new(Duration::MAX))
            .layer(limit.build().unwrap())
            .service(Giver);
        let response = svc.oneshot(body).await.unwrap();
        let error = response.into_body().collect().await.unwrap_err();
        assert_eq!(matches!(error, Error::TimedOut(_)), is_cut);
        assert_eq!(*classifier.0.lock().unwrap(), Some(is_cut));
    }
}

#[test]
fn looking_at_the_first_frame_allocates_nothing() {
    let mut svc = TrailersOnlyLayer::new(Duration::MAX).layer(service_fn(async |()| {
        Ok::<_, Error>(Response::new(Full::new(Bytes::from_static(b"message"))))
    }));
    let allocated = measure(|| {
        let mut call = pin!(svc.call(()));
        let Poll::Ready(Ok(mut response)) =
            call.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        else {
            panic!("it is there")
        };
        assert!(poll_frame(response.body_mut()).is_ready());
    });
    assert_eq!(allocated, AllocationInfo::default());
}
