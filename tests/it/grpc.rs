//! gRPC: the classifier, pushback, and refusals as statuses.

use std::{convert::Infallible, error::Error as _, future::ready, io, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use proptest::{prelude::*, test_runner::Config};
use steadfast::{
    Classify, Error, Limit, Reason, Rejected, TimedOut, Verdict,
    bulkhead::{Bulkhead, BulkheadLayer, Queue, QueuedBulkhead},
    circuit_breaker::{BackPressureCircuitBreaker, CircuitBreaker, CircuitBreakerLayer},
    classify::{Failure, FailureKind, Hint},
    error::Lift,
    grpc::{AnswerRefusalsLayer, GrpcClassifier, Replayable, StatusAnswer, TrailersOnly},
    http::{AnswerRefusals, EndOfBody, IntoRefusal, Refusal, Replay},
    retry::{ByVerdict, Retry, RetryLayer},
    timeout::{Detachable, FollowingTimeout, ReadyTimeout, Timeout, TimeoutLayer},
};
use tonic::{Code, Status, server::NamedService};
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt, service_fn};

#[test]
fn every_refusal_has_its_code() {
    let table = [
        (Reason::CircuitOpen, Code::Unavailable),
        (Reason::BulkheadFull, Code::Unavailable),
        (Reason::QueueTimeout, Code::Unavailable),
        (Reason::LimitReached, Code::Unavailable),
        (Reason::RateLimited, Code::ResourceExhausted),
        (Reason::Overloaded, Code::Unavailable),
        (Reason::Throttled, Code::Unavailable),
        (Reason::DeadlineExceeded, Code::DeadlineExceeded),
        (Reason::InvalidRequest, Code::InvalidArgument),
    ];
    for (reason, code) in table {
        let rejected = Rejected::new("door", reason);
        let status = Status::from(rejected);
        assert_eq!(status.code(), code, "{reason:?}");
        assert_eq!(status.message(), rejected.to_string());
        assert!(status.metadata().is_empty(), "no delay is known");
    }
}

#[test]
fn an_expiry_is_an_exceeded_deadline() {
    for limit in [Limit::Timeout, Limit::Deadline] {
        let timed_out = TimedOut::new("patience", limit, Duration::from_secs(1));
        let status = Status::from(timed_out);
        assert_eq!(status.code(), Code::DeadlineExceeded);
        assert_eq!(status.message(), timed_out.to_string());
    }
}

#[test]
fn the_refusal_is_found_again_behind_the_status() {
    let rejected = Rejected::new("door", Reason::Throttled);
    let status = Status::from(rejected);
    assert_eq!(Rejected::find(&status), Some(&rejected));
    assert_eq!(TimedOut::find(&status), None);

    let timed_out = TimedOut::new("patience", Limit::Timeout, Duration::ZERO);
    let status = Status::from(timed_out);
    assert_eq!(TimedOut::find(&status), Some(&timed_out));
    assert_eq!(Rejected::find(&status), None);
}

fn pushback(delay: Duration) -> Option<String> {
    let rejected = Rejected::new("door", Reason::CircuitOpen).with_retry_after(delay);
    let status = Status::from(rejected);
    let value = status.metadata().get("grpc-retry-pushback-ms")?;
    Some(value.to_str().unwrap().to_owned())
}

#[test]
fn pushback_is_in_milliseconds_rounded_up_and_fits_32_bits() {
    let nanos = Duration::from_nanos;
    assert_eq!(pushback(nanos(0)), None, "at once is no hint");
    assert_eq!(pushback(nanos(1)).unwrap(), "1");
    assert_eq!(pushback(nanos(1_000_000)).unwrap(), "1");
    assert_eq!(pushback(nanos(1_000_001)).unwrap(), "2");
    assert_eq!(
        pushback(Duration::from_millis(2_147_483_647)).unwrap(),
        "2147483647"
    );
    assert_eq!(
        pushback(Duration::from_millis(2_147_483_648)).unwrap(),
        "2147483647"
    );
    assert_eq!(pushback(Duration::MAX).unwrap(), "2147483647");
}

proptest! {
    #[test]
    fn pushback_never_shortens_the_delay(nanos in 1..=i32::MAX as u64 * 1_000_000) {
        let delay = Duration::from_nanos(nanos);
        let written: i32 = pushback(delay).unwrap().parse().unwrap();
        let written = Duration::from_millis(written.try_into().unwrap());
        prop_assert!(written >= delay && written - delay < Duration::from_millis(1));
    }
}

#[test]
fn a_lifted_error_becomes_the_status_of_what_it_holds() {
    let rejected = Rejected::new("door", Reason::RateLimited);
    let status = Status::from(Error::<Infallible>::from(rejected));
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(Rejected::find(&status), Some(&rejected));

    let timed_out = TimedOut::new("patience", Limit::Deadline, Duration::ZERO);
    let status = Status::from(Error::<Infallible>::from(timed_out));
    assert_eq!(status.code(), Code::DeadlineExceeded);

    let status = Status::from(Error::Inner(Status::not_found("no such greeting")));
    assert_eq!(status.code(), Code::NotFound);
    let status = Status::from(Error::Inner(io::Error::other("cable cut")));
    assert_eq!(status.code(), Code::Unknown);
    assert_eq!(status.source().unwrap().to_string(), "cable cut");
}

#[tokio::test(start_paused = true)]
async fn a_service_whose_error_is_a_status_takes_every_layer_as_it_is() {
    let bulkhead = BulkheadLayer::builder(1).queue(Queue::fifo(1, Duration::from_secs(1)));
    let breaker = CircuitBreakerLayer::builder().consecutive_failures(1);
    let svc = ServiceBuilder::new()
        .layer(bulkhead.build())
        .layer(BulkheadLayer::new(1))
        .layer(RetryLayer::builder().build().unwrap())
        .layer(breaker.build().unwrap())
        .layer(TimeoutLayer::new(Duration::from_secs(1)).unwrap())
        .service(service_fn(|takes: Duration| async move {
            tokio::time::sleep(takes).await;
            Ok::<_, Status>("hello")
        }));
    assert_eq!(svc.clone().oneshot(Duration::ZERO).await.unwrap(), "hello");

    // The timeout trips the breaker, which refuses the retry; the caller learns of the refusal.
    let status = svc.oneshot(Duration::from_secs(9)).await.unwrap_err();
    let rejected = Rejected::find(&status).unwrap();
    assert_eq!(rejected.reason(), Reason::CircuitOpen);
    assert_eq!(status.code(), Code::Unavailable);
    let pushback = status.metadata().get("grpc-retry-pushback-ms").unwrap();
    let millis: u128 = pushback.to_str().unwrap().parse().unwrap();
    assert_eq!(
        millis,
        rejected
            .retry_after()
            .unwrap()
            .as_nanos()
            .div_ceil(1_000_000)
    );
}

#[test]
fn a_refusal_that_is_not_to_be_tried_again_says_so_and_no_time() {
    let rejected = Rejected::new("door", Reason::Overloaded)
        .with_retry_after(Duration::from_secs(9))
        .non_retryable();
    let status = Status::from(rejected);
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(
        status.metadata().get("grpc-retry-pushback-ms").unwrap(),
        "-1"
    );
    let never = Failure::overload().with_hint(Hint::Never);
    assert_eq!(
        JUDGE.status(&status),
        never.into(),
        "our own client heeds it"
    );
}

// The classifier.

const JUDGE: GrpcClassifier = GrpcClassifier::new();

const CODES: std::ops::RangeInclusive<i32> = 0..=16;

/// What is to be made of a code by default, without and with a pushback.
fn expected(code: Code, pushback: Option<Hint>) -> Verdict {
    let with = |failure: Failure, hint: Option<Hint>| match hint {
        Some(hint) => failure.with_hint(hint).into(),
        None => failure.into(),
    };
    match code {
        Code::Unavailable if pushback.is_some() => with(Failure::overload(), pushback),
        Code::Unavailable => Failure::transient().into(),
        Code::ResourceExhausted if pushback.is_some() => with(Failure::overload(), pushback),
        Code::ResourceExhausted => Failure::overload().non_retryable().into(),
        Code::DeadlineExceeded => Failure::timeout().non_retryable().into(),
        Code::Unknown | Code::Unimplemented | Code::Internal | Code::DataLoss => {
            with(Failure::permanent(), pushback)
        }
        Code::Cancelled => Verdict::Ignored,
        _ => Verdict::Success,
    }
}

fn trailers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let line = |(name, value): &(&'static str, &str)| {
        (
            HeaderName::from_static(name),
            HeaderValue::from_str(value).unwrap(),
        )
    };
    let mut headers = HeaderMap::new();
    headers.extend(
        lines
            .iter()
            .map(line)
            .map(|(name, value)| (Some(name), value)),
    );
    headers
}

fn judge_head(status: u16, headers: HeaderMap) -> Verdict {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    *response.headers_mut() = headers;
    JUDGE.classify(Ok::<_, &Status>(&response))
}

#[test]
fn every_code_has_its_verdict_wherever_it_stands() {
    let pushbacks = [
        (None, None),
        (Some("250"), Some(Hint::After(Duration::from_millis(250)))),
        (Some("-1"), Some(Hint::Never)),
    ];
    for number in CODES {
        let code = Code::from(number);
        for (written, hint) in pushbacks {
            let expected = expected(code, hint);
            let number = number.to_string();
            let mut lines = vec![("grpc-status", &*number)];
            lines.extend(written.map(|written| ("grpc-retry-pushback-ms", written)));
            assert_eq!(JUDGE.trailers(&trailers(&lines)), expected, "{lines:?}");
            assert_eq!(
                judge_head(200, trailers(&lines)),
                expected,
                "trailers-only {lines:?}"
            );
            let whatever = judge_head(503, trailers(&lines));
            assert_eq!(whatever, expected, "the HTTP status is not asked {lines:?}");

            let mut status = Status::new(code, "");
            if let Some(written) = written {
                let written = written.parse().unwrap();
                status
                    .metadata_mut()
                    .insert("grpc-retry-pushback-ms", written);
            }
            assert_eq!(JUDGE.status(&status), expected, "{status}");
            let judged = JUDGE.classify(Err::<&Response<()>, _>(&status));
            assert_eq!(judged, expected, "{status}");
            let judged = JUDGE.classify(Err::<&tonic::Response<()>, _>(&status));
            assert_eq!(judged, expected, "{status}");
        }
    }
}

#[test]
fn what_is_no_code_is_unknown() {
    for status in ["17", "99", "-1", "00", "x", ""] {
        let headers = trailers(&[("grpc-status", status)]);
        assert_eq!(
            JUDGE.trailers(&headers),
            Failure::permanent().into(),
            "{status}"
        );
    }
    let without = JUDGE.trailers(&HeaderMap::new());
    assert_eq!(
        without,
        Failure::permanent().into(),
        "trailers owe a status"
    );
}

#[test]
fn a_head_without_a_status_leaves_the_verdict_to_the_trailers() {
    assert_eq!(JUDGE.head(StatusCode::OK, &HeaderMap::new()), None);
    assert_eq!(
        judge_head(200, HeaderMap::new()),
        Verdict::Success,
        "so far"
    );
    let message = tonic::Response::new(());
    assert_eq!(JUDGE.classify(Ok::<_, &Status>(&message)), Verdict::Success);
}

#[test]
fn without_a_status_of_grpc_that_of_http_counts() {
    for status in (100..=999).filter(|status| *status != 200) {
        let code = match status {
            400 => Code::Internal,
            401 => Code::Unauthenticated,
            403 => Code::PermissionDenied,
            404 => Code::Unimplemented,
            429 | 502 | 503 | 504 => Code::Unavailable,
            _ => Code::Unknown,
        };
        assert_eq!(
            judge_head(status, HeaderMap::new()),
            expected(code, None),
            "{status}"
        );
    }
    let hint = Some(Hint::After(Duration::from_secs(3)));
    let of_a_proxy = judge_head(503, trailers(&[("retry-after", "3")]));
    assert_eq!(of_a_proxy, expected(Code::Unavailable, hint));
    let both = trailers(&[("retry-after", "9"), ("grpc-retry-pushback-ms", "3000")]);
    assert_eq!(judge_head(503, both), expected(Code::Unavailable, hint));
    let of_a_server = trailers(&[("retry-after", "3"), ("grpc-status", "14")]);
    assert_eq!(
        judge_head(200, of_a_server),
        expected(Code::Unavailable, None)
    );
}

#[test]
fn rules_of_ones_own_replace_the_defaults() {
    let judge = GrpcClassifier::new()
        .failure(Code::Aborted, FailureKind::Transient)
        .failure(Code::DeadlineExceeded, FailureKind::Timeout)
        .failure(Code::ResourceExhausted, FailureKind::Overload)
        .failure(Code::Cancelled, FailureKind::Permanent)
        .success(Code::Unimplemented)
        .ignored(Code::Unauthenticated);
    let set = [
        (Code::Aborted, Failure::transient().into()),
        (Code::DeadlineExceeded, Failure::timeout().into()),
        (Code::ResourceExhausted, Failure::overload().into()),
        (Code::Cancelled, Failure::permanent().into()),
        (Code::Unimplemented, Verdict::Success),
        (Code::Unauthenticated, Verdict::Ignored),
    ];
    for code in CODES.map(Code::from) {
        let own = set.iter().find(|(set, _)| *set == code);
        let expected = own.map_or_else(|| expected(code, None), |(_, verdict)| *verdict);
        assert_eq!(judge.status(&Status::new(code, "")), expected, "{code:?}");
    }
    let pushed = trailers(&[("grpc-status", "10"), ("grpc-retry-pushback-ms", "7")]);
    let hint = Hint::After(Duration::from_millis(7));
    assert_eq!(
        judge.trailers(&pushed),
        Failure::transient().with_hint(hint).into()
    );

    let mut cut_off = Status::cancelled("");
    cut_off.set_source(std::sync::Arc::new(io::Error::other("cable cut")));
    assert_eq!(
        judge.status(&cut_off),
        Failure::permanent().into(),
        "also of a connection"
    );
}

#[test]
fn a_cancellation_that_tonic_made_itself_is_a_failure() {
    let cut_off = |error: BoxError| {
        let mut status = Status::cancelled("");
        status.set_source(error.into());
        JUDGE.status(&status)
    };
    assert_eq!(
        cut_off("connection closed".into()),
        Failure::transient().into()
    );
    let timeout = io::Error::other(tonic::TimeoutExpired(()));
    assert_eq!(cut_off(timeout.into()), Failure::timeout().into());
    let said = Status::cancelled("by the client of the server");
    assert_eq!(JUDGE.status(&said), Verdict::Ignored);
}

#[test]
fn a_status_is_found_in_errors_that_hold_one_and_all_others_are_transient() {
    fn judge<E: 'static>(error: &E) -> Verdict {
        JUDGE.classify(Err::<&Response<()>, _>(error))
    }
    let not_found = || Status::not_found("no such greeting");
    let boxed = || BoxError::from(io::Error::other(not_found()));
    assert_eq!(judge(&not_found()), Verdict::Success);
    assert_eq!(judge(&Error::Inner(not_found())), Verdict::Success);
    assert_eq!(judge(&boxed()), Verdict::Success);
    assert_eq!(judge(&Error::Inner(boxed())), Verdict::Success);

    let transient = Failure::transient().into();
    assert_eq!(judge(&io::Error::other("cable cut")), transient);
    assert_eq!(
        judge(&Error::Inner(io::Error::other("cable cut"))),
        transient
    );
    assert_eq!(judge(&BoxError::from("cable cut")), transient);
    let timeout = BoxError::from(io::Error::other(tonic::TimeoutExpired(())));
    assert_eq!(judge(&timeout), Failure::timeout().into());
}

// Pushback as it comes in.

fn pushed(lines: &[&[u8]]) -> Option<Hint> {
    let mut headers = trailers(&[("grpc-status", "14")]);
    for line in lines {
        headers.append(
            "grpc-retry-pushback-ms",
            HeaderValue::from_bytes(line).unwrap(),
        );
    }
    match JUDGE.trailers(&headers) {
        Verdict::Failure(failure) => failure.hint(),
        other => panic!("UNAVAILABLE is a failure, not {other:?}"),
    }
}

#[test]
fn pushback_is_the_delay_and_what_is_not_understood_is_never() {
    let after = |millis| Some(Hint::After(Duration::from_millis(millis)));
    assert_eq!(pushed(&[]), None);
    assert_eq!(pushed(&[b"0"]), after(0));
    assert_eq!(pushed(&[b"1"]), after(1));
    assert_eq!(pushed(&[b"2147483647"]), after(2_147_483_647));
    let never: [&[u8]; 17] = [
        b"-1",
        b"-0",
        b"-2147483648",
        b"2147483648",
        b"99999999999999999999",
        b"007",
        b"00",
        b"+7",
        b"7.5",
        b"7ms",
        b" 7",
        b"7 ",
        b"",
        b"0x7",
        b"1e3",
        b"\xd9\xa7", // ARABIC-INDIC DIGIT SEVEN
        b"soon",
    ];
    for line in never {
        assert_eq!(
            pushed(&[line]),
            Some(Hint::Never),
            "{:?}",
            line.escape_ascii()
        );
    }
    assert_eq!(
        pushed(&[b"7", b"7"]),
        Some(Hint::Never),
        "even if they agree"
    );
}

proptest! {
    #![proptest_config(Config::with_cases(Config::default().cases.max(2_000)))]

    #[test]
    fn pushback_comes_back_as_it_was_sent(millis in 1..=i32::MAX) {
        let delay = Duration::from_millis(millis.unsigned_abs().into());
        prop_assert_eq!(pushed(&[pushback(delay).unwrap().as_bytes()]), Some(Hint::After(delay)));
    }

    #[test]
    fn any_bytes_are_a_delay_of_31_bits_or_never(
        line in prop_oneof![
            proptest::collection::vec(prop_oneof![0x20..=0x7e_u8, 0x80..=0xff_u8], 0..14),
            "[-+0 ]?[0-9]{1,11}[ .]?".prop_map(String::into_bytes),
        ],
        status in prop_oneof!["[0-9]{1,3}", "\\PC{0,4}"],
    ) {
        let written = str::from_utf8(&line).ok().and_then(|text| text.parse::<i32>().ok());
        let exact = written.filter(|millis| millis.to_string().as_bytes() == line && *millis >= 0);
        let expected = match exact {
            Some(millis) => Hint::After(Duration::from_millis(millis.unsigned_abs().into())),
            None => Hint::Never,
        };
        prop_assert_eq!(pushed(&[&line]), Some(expected));
        if let Ok(status) = HeaderValue::from_bytes(status.as_bytes()) {
            let headers = HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), status)]);
            let _does_not_panic = JUDGE.trailers(&headers);
        }
    }
}

// Refusals as answers.

/// What a service that ends with `error` answers.
async fn answered<E: IntoRefusal>(error: E) -> Result<Response<String>, E::Other> {
    let mut error = Some(error);
    let inner = service_fn(move |()| ready(Err::<Response<String>, _>(error.take().unwrap())));
    let mut svc = AnswerRefusalsLayer::new().layer(inner);
    let Ok(svc) = svc.ready().await else {
        unreachable!("it is ready")
    };
    svc.call(()).await
}

#[tokio::test]
async fn a_refusal_is_answered_by_its_status_in_a_head_without_a_body() {
    let rejected = Rejected::new("door", Reason::BulkheadFull);
    let hinted = rejected.with_retry_after(Duration::from_micros(1_500));
    let response = answered(Error::<Infallible>::from(hinted)).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.body(), "");
    let headers = response.headers();
    assert_eq!(headers["content-type"], "application/grpc");
    assert_eq!(headers["grpc-status"], "14");
    assert_eq!(headers["grpc-retry-pushback-ms"], "2");
    let status = Status::from_header_map(headers).unwrap();
    assert_eq!(status.message(), hinted.to_string());
    assert_eq!(response.extensions().get(), Some(&Refusal::from(hinted)));

    let timed_out = TimedOut::new("patience", Limit::Timeout, Duration::ZERO);
    let response = answered(BoxError::from(timed_out)).await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "4");

    let response = answered(Status::from(rejected)).await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "14");
    let status = answered(Status::not_found("who?")).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "no refusal");
}

struct Named;

impl NamedService for Named {
    const NAME: &'static str = "helloworld.Greeter";
}

#[test]
fn every_service_keeps_the_name_of_what_it_wraps() {
    fn assert_named<S: NamedService>() {
        assert_eq!(
            S::NAME,
            "helloworld.Greeter",
            "{}",
            std::any::type_name::<S>()
        );
    }
    assert_named::<AnswerRefusals<Named>>();
    assert_named::<AnswerRefusals<Named, StatusAnswer>>();
    assert_named::<Bulkhead<Named>>();
    assert_named::<QueuedBulkhead<Named>>();
    assert_named::<CircuitBreaker<Named, GrpcClassifier>>();
    assert_named::<Retry<Named, GrpcClassifier>>();
    type Lasting<S> = Retry<S, GrpcClassifier, Replayable, ByVerdict, EndOfBody>;
    assert_named::<Lasting<Named>>();
    assert_named::<TrailersOnly<Named>>();
    assert_named::<Timeout<Named>>();
    assert_named::<ReadyTimeout<Named>>();
    assert_named::<BackPressureCircuitBreaker<Named>>();
    assert_named::<steadfast::bulkhead::BackPressureBulkhead<Named>>();
    assert_named::<steadfast::adaptive::BackPressureAdaptive<Named>>();
    assert_named::<Lift<Named>>();
    assert_named::<steadfast::deadline::Deadline<Named>>();
    assert_named::<steadfast::deadline::Propagate<Named>>();
    assert_named::<Detachable<Named>>();
    assert_named::<FollowingTimeout<Named>>();
    assert_named::<Replay<Named>>();
}

#[test]
fn what_the_head_left_open_is_judged_at_the_end_of_the_body() {
    use steadfast::http::{ClassifyEnd, End};

    let classifier = GrpcClassifier::new();
    let is_final =
        |status, headers: &HeaderMap| ClassifyEnd::<Status>::is_final(&classifier, status, headers);
    let failed = HeaderMap::from_iter([(
        http::HeaderName::from_static("grpc-status"),
        http::HeaderValue::from_static("14"),
    )]);
    assert!(!is_final(StatusCode::OK, &HeaderMap::new()));
    assert!(is_final(StatusCode::OK, &failed));
    assert!(is_final(StatusCode::BAD_GATEWAY, &HeaderMap::new()));

    let end = |end: End<'_, Status>| classifier.classify_end(end);
    let unavailable = Status::unavailable("gone");
    assert_eq!(
        end(End::Complete(Some(&failed))),
        Failure::transient().into()
    );
    assert_eq!(end(End::Complete(None)), Failure::permanent().into());
    assert_eq!(end(End::Failed(&unavailable)), Failure::transient().into());
}
