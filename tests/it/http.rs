//! HTTP: the classifier, what may be sent twice, and refusals as responses.

use std::{
    convert::Infallible,
    future::{self, Future},
    io,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use axum::body::{Body, HttpBody as _};
use http::{
    Extensions, HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version,
    header::RETRY_AFTER,
};
use proptest::prelude::*;
use serde_json::Value;
use steadfast::{
    Classify, Error, LiftLayer, Limit, Reason, Rejected, TimedOut, Verdict,
    bulkhead::BulkheadLayer,
    classify::{Failure, FailureKind, Hint},
    http::{
        AnswerRefusals, AnswerRefusalsLayer, HttpClassifier, HttpClassifierBuilder,
        HttpClientClassifier, Idempotent, IdempotentBodyless, IntoRefusal, Refusal, is_idempotent,
        is_safe_to_retry, retry,
    },
    retry::CloneRequest,
    timeout::TimeoutLayer,
};
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt, service_fn};

// The classifier.

fn verdict(status: u16, headers: &HeaderMap) -> Verdict {
    HttpClassifier.verdict(StatusCode::from_u16(status).unwrap(), headers)
}

#[test]
fn every_status_has_its_verdict() {
    for status in 100..=999 {
        let expected = match status {
            408 | 504 => Failure::timeout().into(),
            429 | 503 => Failure::overload().into(),
            500 | 502 => Failure::transient().into(),
            501 | 505..=599 => Failure::permanent().into(),
            _ => Verdict::Success,
        };
        assert_eq!(verdict(status, &HeaderMap::new()), expected, "{status}");
    }
}

#[test]
fn any_body_and_any_error_can_be_judged() {
    struct Neither;
    let response = Response::builder().status(502).body(Neither).unwrap();
    let judged = HttpClassifier.classify(Ok::<_, &Neither>(&response));
    assert_eq!(judged, Failure::transient().into());
    let judged = HttpClassifier.classify(Err::<&Response<Neither>, _>(&Neither));
    assert_eq!(judged, Failure::transient().into());
}

#[test]
fn what_our_own_timeout_gave_up_is_a_timeout_failure() {
    let error = io::Error::from(io::ErrorKind::TimedOut);
    let classifier: &dyn Classify<Response<()>, io::Error> = &HttpClassifier;
    assert_eq!(
        classifier.classify_timed_out(&error),
        Failure::timeout().into()
    );
}

// The classifier with rules of one's own.

#[test]
fn the_last_rule_for_a_status_holds_and_the_others_are_the_defaults() {
    let built = HttpClassifier::builder()
        .failure(100..=999, FailureKind::Permanent)
        .success(400..=499)
        .failure(StatusCode::CONFLICT, FailureKind::Transient)
        .ignored(499)
        .build();
    let custom = built.unwrap();
    for status in 100..=999 {
        let expected = match status {
            409 => Failure::transient().into(),
            499 => Verdict::Ignored,
            400..=499 => Verdict::Success,
            _ => Failure::permanent().into(),
        };
        let status = StatusCode::from_u16(status).unwrap();
        assert_eq!(
            custom.verdict(status, &HeaderMap::new()),
            expected,
            "{status}"
        );
    }
    let unchanged = HttpClassifier::builder().build().unwrap();
    for status in 100..=999 {
        let status = StatusCode::from_u16(status).unwrap();
        let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static("9"))]);
        let default = HttpClassifier.verdict(status, &headers);
        assert_eq!(unchanged.verdict(status, &headers), default, "{status}");
    }
}

#[test]
fn a_range_that_is_empty_or_of_no_status_is_refused_by_the_name_of_its_setter() {
    let refused = |builder: HttpClassifierBuilder| {
        let error = builder.build().unwrap_err();
        (error.setting(), error.value().to_owned())
    };
    let builder = HttpClassifier::builder;
    let kind = FailureKind::Timeout;
    assert_eq!(
        refused(builder().success(99)),
        ("success", "99..=99".into())
    );
    assert_eq!(
        refused(builder().ignored(1000)),
        ("ignored", "1000..=1000".into())
    );
    #[allow(clippy::reversed_empty_ranges)]
    let reversed = builder().failure(500..=400, kind);
    assert_eq!(refused(reversed), ("failure", "500..=400".into()));
    assert_eq!(refused(builder().failure(0..=u16::MAX, kind)).0, "failure");
    assert!(builder().failure(100..=999, kind).build().is_ok());
}

#[test]
fn errors_go_to_a_classifier_of_their_own() {
    let by_kind = |result: Result<&Response<()>, &io::Error>| match result.unwrap_err().kind() {
        io::ErrorKind::InvalidInput => Verdict::Ignored,
        _ => Failure::permanent().into(),
    };
    let custom = HttpClassifier::builder().errors(by_kind).build().unwrap();
    let judge = |kind| custom.classify(Err(&io::Error::from(kind)));
    assert_eq!(judge(io::ErrorKind::InvalidInput), Verdict::Ignored);
    assert_eq!(
        judge(io::ErrorKind::BrokenPipe),
        Failure::permanent().into()
    );
    let response = Response::builder().status(502).body(()).unwrap();
    assert_eq!(custom.classify(Ok(&response)), Failure::transient().into());
    let error = io::Error::from(io::ErrorKind::TimedOut);
    assert_eq!(custom.classify_timed_out(&error), Failure::timeout().into());

    /// Takes even expiries for nothing.
    struct Blind;
    impl Classify<Response<()>, io::Error> for Blind {
        fn classify(&self, _: Result<&Response<()>, &io::Error>) -> Verdict {
            Verdict::Ignored
        }
        fn classify_timed_out(&self, _: &io::Error) -> Verdict {
            Verdict::Ignored
        }
    }
    let blind = HttpClassifier::builder().errors(Blind).build().unwrap();
    assert_eq!(blind.classify_timed_out(&error), Verdict::Ignored);
}

// What may be sent twice.

#[test]
fn the_idempotent_methods_are_those_of_the_standard() {
    use Method as M;
    for method in [M::GET, M::HEAD, M::OPTIONS, M::TRACE, M::PUT, M::DELETE] {
        assert!(is_idempotent(&method), "{method}");
    }
    let own = Method::from_bytes(b"get").unwrap();
    for method in [M::POST, M::PATCH, M::CONNECT, own] {
        assert!(!is_idempotent(&method), "{method}");
    }
}

#[test]
fn a_key_makes_any_method_safe_if_it_is_one() {
    let safe = |keys: &[&'static str]| {
        let mut headers = HeaderMap::new();
        for key in keys {
            headers.append("Idempotency-Key", HeaderValue::from_static(key));
        }
        is_safe_to_retry(&Method::POST, &headers)
    };
    assert!(safe(&["\"8e03978e\""]));
    assert!(!safe(&[]));
    assert!(!safe(&[""]), "a blank key names nothing");
    assert!(!safe(&["\t "]));
    assert!(!safe(&["a", "b"]), "two keys name two things");
    assert!(is_safe_to_retry(&Method::GET, &HeaderMap::new()));
}

/// A request in which everything that can be set is set.
fn full_request<B>(method: Method, body: B) -> Request<B> {
    Request::builder()
        .method(method)
        .uri("http://localhost:1/a?b")
        .version(Version::HTTP_10)
        .header("x-many", "1")
        .header("x-many", "2")
        .extension(7_u8)
        .body(body)
        .unwrap()
}

fn extension(extensions: &Extensions) -> Option<u8> {
    extensions.get().copied()
}

fn assert_same_head<A, B>(copy: &Request<A>, request: &Request<B>) {
    assert_eq!(copy.method(), request.method());
    assert_eq!(copy.uri(), request.uri());
    assert_eq!(copy.version(), request.version());
    assert_eq!(copy.headers(), request.headers());
    assert_eq!(
        extension(copy.extensions()),
        extension(request.extensions())
    );
}

#[test]
fn a_copy_has_the_whole_head() {
    let put = full_request(Method::PUT, "body");
    let copy = Idempotent.clone_request(&put).unwrap();
    assert_same_head(&copy, &put);
    assert_eq!(copy.body(), put.body());

    let delete = full_request(Method::DELETE, Body::empty());
    let copy = IdempotentBodyless.clone_request(&delete).unwrap();
    assert_same_head(&copy, &delete);
    assert!(copy.body().is_end_stream());
}

#[test]
fn a_key_lets_a_post_be_repeated_and_without_one_it_is_not() {
    let mut post = full_request(Method::POST, Body::empty());
    assert!(!IdempotentBodyless.may_repeat(&post));
    assert!(!Idempotent.may_repeat(&full_request(Method::POST, ())));
    assert!(IdempotentBodyless.may_repeat(&full_request(Method::GET, Body::empty())));
    let key = HeaderValue::from_static("\"k\"");
    post.headers_mut().insert("idempotency-key", key);
    assert!(IdempotentBodyless.may_repeat(&post));
    assert!(Idempotent.may_repeat(&post.map(|_| ())));
}

/// An error of a client's, around what the connection said.
#[derive(Debug, thiserror::Error)]
#[error("client error (Connect)")]
struct ClientError(#[source] Option<io::Error>);

#[test]
fn a_refused_connection_is_seen_however_deep_it_lies_and_nothing_else_is() {
    let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
    let all = [
        (Some(refused()), true),
        (Some(io::Error::other(refused())), true),
        (Some(io::Error::other(ClientError(Some(refused())))), true),
        (
            Some(io::Error::new(io::ErrorKind::ConnectionRefused, "no")),
            true,
        ),
        (Some(io::ErrorKind::ConnectionReset.into()), false),
        (Some(io::ErrorKind::HostUnreachable.into()), false),
        (Some(io::ErrorKind::TimedOut.into()), false),
        (None, false),
    ];
    for (io_error, is_never_sent) in all {
        let error = ClientError(io_error);
        assert_eq!(
            steadfast::http::is_never_sent(&error),
            is_never_sent,
            "{error:?}"
        );
        let expected = if is_never_sent {
            Failure::never_sent()
        } else {
            Failure::transient()
        };
        let judge = |error| HttpClientClassifier.classify(Err::<&Response<()>, _>(error));
        assert_eq!(judge(&error), expected.into());
        assert_eq!(
            HttpClassifier.classify(Err::<&Response<()>, _>(&error)),
            Failure::transient().into()
        );
    }
    let response = Response::builder().status(503).body(()).unwrap();
    let judged = HttpClientClassifier.classify(Ok::<_, &io::Error>(&response));
    assert_eq!(judged, Failure::overload().into());
}

#[tokio::test(start_paused = true)]
async fn a_post_is_sent_again_if_it_was_never_sent_and_not_if_it_may_have_arrived() {
    let error = |kind: io::ErrorKind| ClientError(Some(kind.into()));
    for (kind, calls) in [
        (io::ErrorKind::ConnectionRefused, 4),
        (io::ErrorKind::ConnectionReset, 1),
    ] {
        let count = std::cell::Cell::new(0);
        let svc = ServiceBuilder::new()
            .layer(
                retry()
                    .without_budget()
                    .classifier(HttpClientClassifier)
                    .build()
                    .unwrap(),
            )
            .service(service_fn(|_: Request<Body>| {
                count.set(count.get() + 1);
                std::future::ready(Err::<Response<()>, _>(error(kind)))
            }));
        let post = Request::post("/").body(Body::empty()).unwrap();
        svc.oneshot(post).await.unwrap_err();
        assert_eq!(count.get(), calls, "{kind:?}");
    }
}

#[test]
fn a_body_that_cannot_be_cloned_is_not_dropped() {
    let put = full_request(Method::PUT, Body::from("body"));
    assert!(IdempotentBodyless.clone_request(&put).is_none());
}

#[test]
fn the_bodies_of_the_clients_can_be_copied_when_empty() {
    fn copies<B: Default>() -> bool
    where
        IdempotentBodyless: CloneRequest<Request<B>>,
    {
        let get = full_request(Method::GET, B::default());
        IdempotentBodyless.clone_request(&get).is_some()
    }
    assert!(copies::<Body>());
    assert!(copies::<reqwest::Body>());
    assert!(copies::<http_body_util::Full<bytes::Bytes>>());
    #[cfg(feature = "grpc")]
    assert!(copies::<tonic::body::Body>());
}

#[tokio::test(start_paused = true)]
async fn the_ready_made_retry_repeats_what_is_safe_and_ends_with_the_last_response() {
    let count = std::cell::Cell::new(0);
    let mut svc = retry()
        .max_attempts(3)
        .build()
        .unwrap()
        .layer(service_fn(|_: Request<Body>| {
            count.set(count.get() + 1);
            future::ready(Ok::<_, Infallible>(
                Response::builder().status(503).body(count.get()).unwrap(),
            ))
        }));
    let get = Request::get("/").body(Body::empty()).unwrap();
    let response = svc.ready().await.unwrap().call(get).await.unwrap();
    // The default budget's floor, one a second, pays for one retry; there is no success to feed it.
    assert_eq!((response.status().as_u16(), *response.body()), (503, 2));

    let post = Request::post("/").body(Body::empty()).unwrap();
    let response = svc.ready().await.unwrap().call(post).await.unwrap();
    assert_eq!(*response.body(), 3, "once");
}

// Refusals as responses.

const REASONS: [(Reason, u16); 9] = [
    (Reason::CircuitOpen, 503),
    (Reason::BulkheadFull, 503),
    (Reason::QueueTimeout, 503),
    (Reason::LimitReached, 503),
    (Reason::RateLimited, 429),
    (Reason::Overloaded, 503),
    (Reason::Throttled, 503),
    (Reason::DeadlineExceeded, 504),
    (Reason::InvalidRequest, 400),
];

fn problem(response: &Response<String>) -> Value {
    serde_json::from_str(response.body()).expect("valid JSON")
}

#[test]
fn every_refusal_has_its_response() {
    for (reason, status) in REASONS {
        let rejected = Rejected::new("door", reason);
        let response = Refusal::from(rejected).to_response::<String>();
        assert_eq!(response.status(), status, "{reason:?}");
        assert_eq!(
            response.headers()["content-type"],
            "application/problem+json"
        );
        assert_eq!(response.headers().len(), 1, "and no `Retry-After`");
        // Of those that the IETF's draft of rate limits has, or none.
        let of_ietf = |name| format!("https://iana.org/assignments/http-problem-types#{name}");
        let (kind, title) = match reason {
            Reason::RateLimited => (of_ietf("quota-exceeded"), "Quota Exceeded"),
            Reason::Overloaded => (
                of_ietf("temporary-reduced-capacity"),
                "Temporary Reduced Capacity",
            ),
            _ => {
                let title = response.status().canonical_reason().unwrap();
                ("about:blank".to_owned(), title)
            }
        };
        let mut expected = serde_json::json!({
            "type": kind,
            "title": title,
            "status": status,
            "detail": rejected.to_string(),
            "layer": "door",
            "reason": reason.as_str(),
        });
        if reason == Reason::RateLimited {
            expected["violated-policies"] = serde_json::json!(["door"]);
        }
        assert_eq!(problem(&response), expected);
    }
}

#[test]
fn every_expiry_is_a_gateway_timeout() {
    for limit in [Limit::Timeout, Limit::Deadline] {
        let timed_out = TimedOut::new("patience", limit, Duration::from_millis(1_500));
        let response = Refusal::from(timed_out).to_response::<String>();
        assert_eq!(response.status(), 504);
        assert_eq!(response.headers().get(RETRY_AFTER), None);
        let problem = problem(&response);
        assert_eq!(problem["layer"], "patience");
        assert_eq!(problem["reason"], limit.as_str());
        assert_eq!(problem["detail"], timed_out.to_string());
    }
}

#[test]
fn a_refusal_that_is_not_to_be_tried_again_says_so_and_no_time() {
    for (reason, status) in REASONS {
        let rejected = Rejected::new("door", reason).with_retry_after(Duration::from_secs(9));
        let response = Refusal::from(rejected.non_retryable()).to_response::<String>();
        assert_eq!(response.status(), status);
        assert_eq!(response.headers()["x-envoy-overloaded"], "true");
        assert_eq!(response.headers().get(RETRY_AFTER), None);
        match verdict(status, response.headers()) {
            Verdict::Failure(failure) => {
                assert_eq!(failure.hint(), Some(Hint::Never), "our own client heeds it");
            }
            verdict => assert_eq!((status, verdict), (400, Verdict::Success)),
        }

        let response = Refusal::from(rejected).to_response::<String>();
        assert_eq!(response.headers().get("x-envoy-overloaded"), None);
    }
}

fn written(delay: Duration) -> Option<String> {
    let rejected = Rejected::new("door", Reason::CircuitOpen).with_retry_after(delay);
    let response = Refusal::from(rejected).to_response::<String>();
    let value = response.headers().get(RETRY_AFTER)?;
    Some(value.to_str().unwrap().to_owned())
}

#[test]
fn retry_after_is_rounded_up_and_never_zero() {
    let nanos = Duration::from_nanos;
    assert_eq!(written(nanos(0)), None, "at once is no hint");
    assert_eq!(written(nanos(1)).unwrap(), "1");
    assert_eq!(written(nanos(1_000_000_000)).unwrap(), "1");
    assert_eq!(written(nanos(1_000_000_001)).unwrap(), "2");
    assert_eq!(written(Duration::MAX).unwrap(), "2147483647");
}

proptest! {
    #[test]
    fn a_delay_survives_the_wire_never_shortened(delay in 1_u64..=i32::MAX as u64 * 1_000_000_000) {
        let delay = Duration::from_nanos(delay);
        let refusal = Refusal::from(REJECTED.with_retry_after(delay));
        let response = refusal.to_response::<String>();
        let Verdict::Failure(failure) = verdict(503, response.headers()) else {
            panic!("a 503 is a failure");
        };
        let Some(Hint::After(read)) = failure.hint() else {
            panic!("{response:?} is not read");
        };
        prop_assert!(read >= delay && read - delay < Duration::from_secs(1));
    }

    #[test]
    fn any_name_makes_a_valid_document(name: String) {
        let name: &'static str = name.leak();
        let response = Refusal::from(Rejected::new(name, Reason::Overloaded)).to_response();
        prop_assert_eq!(&problem(&response)["layer"], name);
    }
}

#[test]
fn names_are_escaped() {
    let name = "a \"quoted\\\" name\n\r\t\0\u{1}\u{1f}\u{7f} \u{2028} ü 🦀";
    let rejected = Rejected::new(name, Reason::Overloaded);
    let response = Refusal::from(rejected).to_response();
    let problem = problem(&response);
    assert_eq!(problem["layer"], name);
    assert_eq!(problem["detail"], rejected.to_string());
}

#[test]
fn a_refusal_is_found_again_on_its_response() {
    let refusal = Refusal::from(Rejected::new("door", Reason::Throttled));
    let response = refusal.to_response::<String>();
    assert_eq!(response.extensions().get(), Some(&refusal));
}

type Answer = Result<Response<String>, BoxError>;

/// What is made of `result` over a service that comes back with it.
async fn answered<E: IntoRefusal>(
    result: Result<Response<String>, E>,
) -> Result<Response<String>, E::Other> {
    let mut result = Some(result);
    let inner = service_fn(move |()| future::ready(result.take().unwrap()));
    let mut svc = AnswerRefusalsLayer::new().layer(inner);
    let Ok(svc) = svc.ready().await else {
        unreachable!("it is ready")
    };
    svc.call(()).await
}

const REJECTED: Rejected = Rejected::new("door", Reason::BulkheadFull);
const TIMED_OUT: TimedOut = TimedOut::new("door", Limit::Timeout, Duration::ZERO);

#[tokio::test]
async fn a_lifted_error_is_answered_or_unwrapped() {
    type E = Error<&'static str>;
    let answer = answered(Err(E::Rejected(REJECTED))).await.unwrap();
    assert_eq!(answer.status(), 503);
    let answer = answered(Err(E::TimedOut(TIMED_OUT))).await.unwrap();
    assert_eq!(answer.status(), 504);
    let error: &str = answered(Err(E::Inner("broken"))).await.unwrap_err();
    assert_eq!(error, "broken");
    let answer = answered::<E>(Ok(Response::new("fine".into()))).await;
    assert_eq!(answer.unwrap().body(), "fine");
}

#[derive(Debug, thiserror::Error)]
#[error("could not serve")]
struct Because(#[source] BoxError);

#[tokio::test]
async fn a_refusal_anywhere_in_the_chain_of_a_boxed_error_is_answered() {
    let answered = |error: BoxError| answered(Err(error));
    let status = |answer: Answer| answer.unwrap().status().as_u16();

    assert_eq!(status(answered(REJECTED.into()).await), 503);
    assert_eq!(status(answered(TIMED_OUT.into()).await), 504);
    let deep = Because(Because(REJECTED.into()).into());
    assert_eq!(status(answered(deep.into()).await), 503);
    let deep = Because(io::Error::from(TIMED_OUT).into());
    assert_eq!(status(answered(deep.into()).await), 504);
}

#[tokio::test]
async fn a_boxed_lifted_error_is_answered_too() {
    let rejected: Error<io::Error> = REJECTED.into();
    assert_eq!(
        answered(Err(BoxError::from(rejected)))
            .await
            .unwrap()
            .status(),
        503
    );
    let timed_out: Error<io::Error> = TIMED_OUT.into();
    let deep = Because(timed_out.into());
    assert_eq!(
        answered(Err(BoxError::from(deep))).await.unwrap().status(),
        504
    );
}

#[tokio::test]
async fn any_other_boxed_error_is_passed_on_as_it_is() {
    let other: BoxError = Because("disk full".into()).into();
    let error = answered(Err(other)).await.unwrap_err();
    assert!(error.is::<Because>());
}

#[tokio::test(start_paused = true)]
async fn above_layers_and_lift_an_infallible_service_is_infallible_again() {
    let full = BulkheadLayer::new(0);
    let handle = full.handle();
    let svc = ServiceBuilder::new()
        .layer(AnswerRefusalsLayer::new())
        .layer(full)
        .layer(TimeoutLayer::new(Duration::from_secs(1)).unwrap())
        .layer(LiftLayer::new())
        .service(service_fn(|takes: Duration| async move {
            tokio::time::sleep(takes).await;
            Ok::<_, Infallible>(Response::new(String::new()))
        }));
    let status = async |takes| {
        let Ok(response): Result<_, Infallible> = svc.clone().oneshot(takes).await;
        response.status().as_u16()
    };
    assert_eq!(status(Duration::ZERO).await, 503);
    handle.resize(1);
    assert_eq!(status(Duration::ZERO).await, 200);
    assert_eq!(status(Duration::from_secs(9)).await, 504);
}

/// A service whose `poll_ready` comes back with what it is told, and that panics if it is called
/// without having been ready.
#[derive(Clone)]
struct Moody {
    next: Result<(), Error<&'static str>>,
    is_ready: bool,
}

impl Service<()> for Moody {
    type Response = Response<String>;
    type Error = Error<&'static str>;
    type Future = future::Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.is_ready = self.next.is_ok();
        Poll::Ready(self.next)
    }

    fn call(&mut self, (): ()) -> Self::Future {
        assert!(
            std::mem::take(&mut self.is_ready),
            "called without being ready"
        );
        future::ready(Ok(Response::new(String::new())))
    }
}

#[tokio::test]
async fn a_closure_can_answer_instead() {
    let plainly = |refusal: &Refusal| Response::new(refusal.reason());
    let inner = service_fn(|()| future::ready(Err::<Response<&str>, _>(BoxError::from(REJECTED))));
    let svc = AnswerRefusalsLayer::with(plainly).layer(inner);
    assert_eq!(svc.oneshot(()).await.unwrap().body(), &"bulkhead_full");
}

fn poll_ready(svc: &mut AnswerRefusals<Moody>) -> Poll<Result<(), &'static str>> {
    svc.poll_ready(&mut Context::from_waker(Waker::noop()))
}

fn call(svc: &mut AnswerRefusals<Moody>) -> u16 {
    let polled = pin!(svc.call(())).poll(&mut Context::from_waker(Waker::noop()));
    match polled {
        Poll::Ready(Ok(response)) => response.status().as_u16(),
        other => panic!("answered at once, not {other:?}"),
    }
}

fn moody(next: Result<(), Error<&'static str>>) -> AnswerRefusals<Moody> {
    let is_ready = false;
    AnswerRefusalsLayer::new().layer(Moody { next, is_ready })
}

#[test]
fn a_refusal_to_be_ready_is_answered_by_the_next_call_alone() {
    let mut svc = moody(Err(REJECTED.into()));
    assert_eq!(poll_ready(&mut svc), Poll::Ready(Ok(())));
    assert_eq!(call(&mut svc), 503, "and the inner service is not called");

    svc.get_mut().next = Ok(());
    assert_eq!(poll_ready(&mut svc), Poll::Ready(Ok(())));
    assert_eq!(call(&mut svc), 200);
}

#[test]
fn a_refusal_to_be_ready_is_forgotten_once_the_service_is_ready() {
    let mut svc = moody(Err(REJECTED.into()));
    assert_eq!(poll_ready(&mut svc), Poll::Ready(Ok(())));
    svc.get_mut().next = Ok(());
    assert_eq!(poll_ready(&mut svc), Poll::Ready(Ok(())));
    assert_eq!(call(&mut svc), 200);
}

#[test]
fn a_clone_does_not_inherit_a_refusal_to_be_ready() {
    let mut svc = moody(Err(TIMED_OUT.into()));
    assert_eq!(poll_ready(&mut svc), Poll::Ready(Ok(())));
    let mut clone = svc.clone();
    clone.get_mut().is_ready = true;
    assert_eq!(call(&mut clone), 200);
    assert_eq!(call(&mut svc), 504);
}

#[test]
fn any_other_error_of_readiness_is_passed_on() {
    let mut svc = moody(Err(Error::Inner("gone")));
    assert_eq!(poll_ready(&mut svc), Poll::Ready(Err("gone")));
}
