//! Deadlines that travel, on the paused clock. Over sockets: `real/deadline.rs`.

use std::{
    future::pending,
    num::NonZeroU32,
    pin::pin,
    sync::{Arc, Mutex},
    task::Poll,
    thread::{self, ThreadId},
    time::Duration,
};

use http::{HeaderMap, HeaderName, Request, Response};
use proptest::prelude::*;
use steadfast::{
    Context, Criticality, LiftLayer, Limit, Reason, Rejected, ServiceBuilderExt, TimedOut,
    backoff::{Backoff, Jitter},
    bulkhead::{BulkheadLayer, Queue},
    circuit_breaker::{CircuitBreakerLayer, State},
    context,
    deadline::{
        CallTimeout, DeadlineBuilder, DeadlineLayer, HeaderNames, PropagateLayer, Protocol,
    },
    retry::RetryLayer,
    timeout::TimeoutLayer,
};
use tokio::time::{Instant, advance, sleep};
use tower::{
    BoxError, Layer, Service, ServiceBuilder, ServiceExt, service_fn, util::BoxCloneSyncService,
};

use tracing::{Span, span::Id};
use tracing_subscriber::layer::SubscriberExt;

use crate::support::{Act, Error, Scripted, Watch, ms, poll_once, secs, send};

const GRPC: &str = "grpc-timeout";
const HTTP: &str = "x-request-timeout-ms";
const ENVOY: &str = "x-envoy-expected-rq-timeout-ms";

fn server() -> DeadlineBuilder {
    DeadlineLayer::builder(secs(10)).name("edge")
}

fn request<B>(body: B, lines: &[(&str, &str)]) -> Request<B> {
    let mut builder = Request::get("/");
    for (name, value) in lines {
        builder = builder.header(*name, *value);
    }
    builder.body(body).unwrap()
}

/// `layer` above a service that does as the body says.
fn around<L, S>(layer: L) -> (S, Watch)
where
    L: Layer<tower::util::MapRequest<Scripted, fn(Request<Act>) -> Act>, Service = S>,
    S: Service<Request<Act>, Response = u32, Error = Error>,
{
    let (scripted, watch) = Scripted::new();
    let body: fn(Request<Act>) -> Act = Request::into_body;
    (layer.layer(scripted.map_request(body)), watch)
}

/// `layer` above a handler that says within which context it is run.
async fn context_below<L>(layer: L, request: Request<()>) -> Result<Context, Error>
where
    L: Layer<BoxCloneSyncService<Request<()>, Context, Error>>,
    L::Service: Service<Request<()>, Response = Context, Error = Error>,
{
    let handler = service_fn(|_: Request<()>| {
        let called = Context::current();
        async move {
            tokio::task::yield_now().await;
            assert_eq!(Context::current(), called, "also after an await");
            Ok(called)
        }
    });
    layer
        .layer(BoxCloneSyncService::new(handler))
        .oneshot(request)
        .await
}

/// How much time the handler has.
async fn left_below<L>(layer: L, request: Request<()>) -> Result<Duration, Error>
where
    L: Layer<BoxCloneSyncService<Request<()>, Context, Error>>,
    L::Service: Service<Request<()>, Response = Context, Error = Error>,
{
    let context = context_below(layer, request).await?;
    Ok(context.remaining().expect("there is a deadline"))
}

// The server's side.

#[tokio::test(start_paused = true)]
async fn the_handler_can_read_what_is_left_and_it_shrinks() {
    let layer = server().trust_headers().build().unwrap();
    let svc = layer.layer(service_fn(|_: Request<()>| async {
        sleep(ms(100)).await;
        Ok::<_, Error>(Context::current().remaining())
    }));
    let left = svc.oneshot(request((), &[(GRPC, "250m")])).await;
    assert_eq!(left, Ok(Some(ms(150))));
    assert_eq!(Context::current(), Context::new(), "and is left again");
}

#[tokio::test(start_paused = true)]
async fn headers_are_believed_only_where_told() {
    let lines = [
        (GRPC, "1S"),
        (HTTP, "1000"),
        (ENVOY, "1000"),
        ("x-request-attempt", "3"),
        ("x-request-criticality", "critical_plus"),
    ];
    let plain = || server().default_timeout(secs(4));
    let nobody = plain().build().unwrap();
    let context = context_below(nobody, request((), &lines)).await.unwrap();
    assert_eq!(context.remaining(), Some(secs(4)));
    assert_eq!(context.attempt(), NonZeroU32::MIN);
    assert_eq!(context.criticality(), Criticality::Critical);

    let everybody = plain().trust_headers().build().unwrap();
    let context = context_below(everybody, request((), &lines)).await.unwrap();
    assert_eq!(context.remaining(), Some(secs(1)));
    assert_eq!(context.attempt().get(), 3);
    assert_eq!(context.criticality(), Criticality::CriticalPlus);

    #[derive(Clone)]
    struct Friend;
    let is_friend = |req: &Request<()>| req.extensions().get::<Friend>().is_some();
    let friends = plain().trust_if(is_friend).build().unwrap();
    let stranger = request((), &lines);
    assert_eq!(left_below(friends.clone(), stranger).await, Ok(secs(4)));
    let mut friend = request((), &lines);
    friend.extensions_mut().insert(Friend);
    assert_eq!(left_below(friends, friend).await, Ok(secs(1)));
}

proptest! {
    #[test]
    fn the_deadline_in_force_is_the_least_of_all_that_is_said(
        [grpc, http, envoy, own, ambient] in any::<[Option<u16>; 5]>(),
        max in 1..=u16::MAX,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_time().start_paused(true).build().unwrap();
        let left = runtime.block_on(async {
            let max = ms(max.into());
            let layer = DeadlineLayer::builder(max).trust_headers().build().unwrap();
            let millis = |of: Option<u16>| of.map(|left| left.to_string());
            let lines = [
                (GRPC, grpc.map(|left| format!("{left}m"))),
                (HTTP, millis(http)),
                (ENVOY, millis(envoy)),
            ];
            let lines: Vec<_> = lines.iter().filter_map(|(n, v)| Some((*n, v.as_deref()?))).collect();
            let mut request = request((), &lines);
            if let Some(own) = own {
                request.extensions_mut().insert(CallTimeout(ms(own.into())));
            }
            let context = ambient.map_or(Context::new(), |left| {
                Context::new().with_timeout(ms(left.into()))
            });
            context.scope(left_below(layer, request)).await
        });
        let said = [grpc, http, envoy, own, ambient, Some(max)].into_iter().flatten().min();
        let expected = ms(said.unwrap().into());
        if expected.is_zero() {
            let reason = left.unwrap_err().rejected().reason();
            prop_assert_eq!(reason, Reason::DeadlineExceeded);
        } else {
            prop_assert_eq!(left.unwrap(), expected);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn when_the_deadline_passes_the_work_is_dropped_and_the_error_says_so() {
    let layer = server().trust_headers().build().unwrap();
    let (mut svc, watch) = around(layer);
    let mut call = {
        svc.ready().await.unwrap();
        Box::pin(svc.call(request(Act::Hang, &[(GRPC, "100m")])))
    };
    assert!(poll_once(call.as_mut()).is_pending());
    advance(ms(99)).await;
    assert!(poll_once(call.as_mut()).is_pending());
    assert_eq!(watch.in_flight(), 1);
    advance(ms(1)).await;
    let Poll::Ready(Err(error)) = poll_once(call.as_mut()) else {
        panic!("it is over")
    };
    assert_eq!(
        watch.in_flight(),
        0,
        "while the outer future is still there"
    );
    let timed_out = error.timed_out();
    assert_eq!(
        (timed_out.layer(), timed_out.limit()),
        ("edge", Limit::Deadline)
    );
    assert_eq!(timed_out.waited(), ms(100));
}

#[tokio::test(start_paused = true)]
async fn a_breaker_below_counts_what_the_deadline_cut() {
    let breaker = CircuitBreakerLayer::builder().consecutive_failures(1);
    let breaker = breaker.build().unwrap();
    let handle = breaker.handle();
    let below = breaker.layer(Scripted::new().0);
    // The breaker does not know of the deadline, so it must be told why the call is dropped.
    let svc = ServiceBuilder::new()
        .deadline(DeadlineLayer::new(ms(100)).unwrap())
        .propagate(PropagateLayer::new())
        .service_fn(move |req: Request<Act>| {
            let call = below.clone().oneshot(req.into_body());
            Context::current().without_deadline().scope(call)
        });
    let error = svc.oneshot(request(Act::Hang, &[])).await.unwrap_err();
    assert_eq!(error.timed_out().limit(), Limit::Deadline);
    assert_eq!(handle.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn where_the_response_and_the_deadline_are_there_together_the_response_wins() {
    let (mut svc, _) = around(DeadlineLayer::new(ms(100)).unwrap());
    let mut call = pin!(
        svc.ready()
            .await
            .unwrap()
            .call(request(Act::Take(ms(100)), &[]))
    );
    assert!(poll_once(call.as_mut()).is_pending());
    advance(ms(100)).await;
    assert_eq!(poll_once(call.as_mut()), Poll::Ready(Ok(1)));
}

#[tokio::test(start_paused = true)]
async fn a_handlers_error_is_its_own_however_late() {
    let (svc, _) = around(DeadlineLayer::new(ms(100)).unwrap());
    let result = svc.oneshot(request(Act::FailAfter(ms(100)), &[])).await;
    assert_eq!(result, Err(Error::Failed(0)));
}

#[tokio::test(start_paused = true)]
async fn a_call_timeout_is_taken_out_and_not_sent_on_with_the_request() {
    let svc = ServiceBuilder::new()
        .layer(DeadlineLayer::new(secs(10)).unwrap())
        .service_fn(|req: Request<()>| async move {
            assert_eq!(req.extensions().get::<CallTimeout>(), None);
            Ok::<_, Error>(Context::current().remaining())
        });
    let mut req = request((), &[]);
    req.extensions_mut().insert(CallTimeout(secs(1)));
    assert_eq!(svc.oneshot(req).await, Ok(Some(secs(1))));
}

#[tokio::test(start_paused = true)]
async fn what_arrives_too_late_is_refused_and_the_service_never_sees_it() {
    for (least, value, is_refused) in [
        (ms(0), "0n", true),
        (ms(0), "1n", false),
        (ms(50), "49m", true),
        (ms(50), "50m", false),
    ] {
        let layer = server().trust_headers().needs(least).build().unwrap();
        let (svc, watch) = around(layer);
        let result = svc.oneshot(request(Act::Succeed, &[(GRPC, value)])).await;
        assert_eq!(watch.calls(), usize::from(!is_refused), "{value}");
        if is_refused {
            let rejected = result.unwrap_err().rejected();
            assert_eq!(rejected.reason(), Reason::DeadlineExceeded);
            assert_eq!(rejected.layer(), "edge");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_margin_is_taken_off_what_the_caller_says_and_a_minimum_makes_it_enough() {
    let with_margin = || server().trust_headers().safety_margin(ms(20));
    let said = |value| request((), &[(GRPC, value)]);
    let layer = with_margin().build().unwrap();
    assert_eq!(left_below(layer.clone(), said("100m")).await, Ok(ms(80)));
    assert_eq!(
        left_below(layer.clone(), said("99999999H")).await,
        Ok(secs(10))
    );
    let rejected = left_below(layer, said("20m")).await.unwrap_err().rejected();
    assert_eq!(rejected.reason(), Reason::DeadlineExceeded);
    let layer = with_margin().min(ms(5)).build().unwrap();
    assert_eq!(left_below(layer, said("20m")).await, Ok(ms(5)));
}

#[tokio::test(start_paused = true)]
async fn no_more_than_a_share_is_refused_as_too_late_and_the_rest_runs_as_if_nothing_had_been_said()
{
    let layer = server()
        .trust_headers()
        .default_timeout(secs(3))
        .max_refused_share(0.2)
        .build()
        .unwrap();
    let mut refused = 0;
    for nth in 1..=100 {
        match left_below(layer.clone(), request((), &[(GRPC, "0n")])).await {
            Ok(left) => assert_eq!(left, secs(3)),
            Err(error) => {
                assert_eq!(error.rejected().reason(), Reason::DeadlineExceeded);
                refused += 1;
            }
        }
        assert_eq!(refused, nth / 5, "of {nth}");
    }
    // What was refused more than ten seconds ago is forgotten, and so is what was served.
    advance(secs(11)).await;
    for _ in 1..=4 {
        assert!(left_below(layer.clone(), request((), &[])).await.is_ok());
    }
    left_below(layer.clone(), request((), &[(GRPC, "0n")]))
        .await
        .unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_malformed_header_counts_as_not_there_or_has_the_request_refused() {
    let lines: [&[(&str, &str)]; 6] = [
        &[(GRPC, "100")],
        &[(GRPC, "-1S")],
        &[(GRPC, "999999999999H")],
        &[(HTTP, "soon")],
        &[(HTTP, "100"), (HTTP, "100")],
        &[(ENVOY, "1e3")],
    ];
    for lines in lines {
        let lenient = server()
            .trust_headers()
            .default_timeout(secs(4))
            .build()
            .unwrap();
        assert_eq!(
            left_below(lenient, request((), lines)).await,
            Ok(secs(4)),
            "{lines:?}"
        );
        let strict = server().trust_headers().refuse_malformed().build().unwrap();
        let (svc, watch) = around(strict);
        let rejected = svc
            .oneshot(request(Act::Succeed, lines))
            .await
            .unwrap_err()
            .rejected();
        assert_eq!(rejected.reason(), Reason::InvalidRequest);
        assert_eq!(watch.calls(), 0);
    }
    // Nobody else's headers are even looked at.
    let strict = server().refuse_malformed().build().unwrap();
    assert_eq!(
        left_below(strict, request((), &[(GRPC, "soon")])).await,
        Ok(secs(10))
    );
}

#[tokio::test(start_paused = true)]
async fn bytes_that_are_no_text_are_malformed_and_harm_nothing() {
    let layer = server().trust_headers().build().unwrap();
    for name in [
        GRPC,
        HTTP,
        ENVOY,
        "x-request-attempt",
        "x-request-criticality",
    ] {
        let mut request = request((), &[]);
        let value = http::HeaderValue::from_bytes(b"\xff\xfe1S").unwrap();
        request
            .headers_mut()
            .insert(HeaderName::from_static(name), value);
        assert_eq!(left_below(layer.clone(), request).await, Ok(secs(10)));
    }
}

#[tokio::test(start_paused = true)]
async fn the_context_is_in_the_extensions_where_asked_for() {
    for is_asked in [false, true] {
        let builder = if is_asked {
            server().fill_extensions()
        } else {
            server()
        };
        let svc = builder
            .build()
            .unwrap()
            .layer(service_fn(|req: Request<()>| async move {
                let found = req.extensions().get::<Context>().copied();
                assert!(found.is_none_or(|found| found == Context::current()));
                Ok::<_, Error>(found.is_some())
            }));
        assert_eq!(svc.oneshot(request((), &[])).await, Ok(is_asked));
    }
}

#[cfg(feature = "axum")]
#[tokio::test(start_paused = true)]
async fn a_handler_of_axums_gets_the_context_of_the_task_or_of_the_request() {
    use axum::extract::FromRequestParts;
    let now = Instant::now();
    let until = |secs_left| Context::new().with_deadline(now + secs(secs_left));
    let extracted = async |current: Context, filled: Option<Context>| {
        let (mut parts, ()) = request((), &[]).into_parts();
        filled.map(|context| parts.extensions.insert(context));
        let extract = Context::from_request_parts(&mut parts, &());
        let Ok(context) = current.scope(extract).await;
        context
    };
    assert_eq!(extracted(until(3), None).await, until(3));
    // In another task, where only the request has come.
    let sheddable = Context::new().with_criticality(Criticality::Sheddable);
    assert_eq!(extracted(Context::new(), Some(sheddable)).await, sheddable);
    assert_eq!(extracted(Context::new(), Some(until(3))).await, until(3));
    assert_eq!(extracted(until(5), Some(until(3))).await, until(3));
    assert_eq!(extracted(until(2), Some(until(3))).await, until(2));
}

#[tokio::test(start_paused = true)]
async fn a_time_beyond_the_clock_is_no_limit() {
    let layer = DeadlineLayer::builder(Duration::MAX)
        .trust_headers()
        .build()
        .unwrap();
    let (svc, _) = around(layer.clone());
    let patient = Act::Take(secs(1_000_000));
    assert_eq!(svc.oneshot(request(patient.clone(), &[])).await, Ok(1));
    for endless in [(GRPC, "99999999H"), (HTTP, "18446744073709551615")] {
        let (svc, _) = around(layer.clone());
        assert_eq!(
            svc.oneshot(request(patient.clone(), &[endless])).await,
            Ok(1)
        );
    }
}

#[test]
fn settings_that_cannot_work_are_refused_when_built() {
    let refused = |builder: DeadlineBuilder| builder.build().unwrap_err().setting();
    assert_eq!(refused(DeadlineLayer::builder(ms(0))), "max");
    assert_eq!(
        refused(server().default_timeout(secs(11))),
        "default_timeout"
    );
    assert_eq!(refused(server().min(secs(11))), "min");
    assert_eq!(refused(server().needs(secs(11))), "needs");
    for share in [0.0, -0.2, 1.1, f64::NAN] {
        assert_eq!(
            refused(server().max_refused_share(share)),
            "max_refused_share"
        );
    }
    let root = PropagateLayer::builder().root_timeout(ms(0));
    assert_eq!(root.build().unwrap_err().setting(), "root_timeout");
}

// The client's side.

/// The headers of all that was sent through it.
#[derive(Clone, Debug, Default)]
struct Sent(Arc<Mutex<Vec<HeaderMap>>>);

impl Sent {
    /// Above a service that does as the body says.
    fn through<L>(layer: L) -> (L::Service, Self, Watch)
    where
        L: Layer<BoxCloneSyncService<Request<Act>, u32, Error>>,
    {
        let (scripted, watch) = Scripted::new();
        let sent = Self::default();
        let record = Arc::clone(&sent.0);
        let inner = scripted.map_request(move |req: Request<Act>| {
            let (head, act) = req.into_parts();
            record.lock().unwrap().push(head.headers);
            act
        });
        (layer.layer(BoxCloneSyncService::new(inner)), sent, watch)
    }

    /// The values of a header over all requests, empty where there was none.
    fn all(&self, name: &str) -> Vec<String> {
        let sent = self.0.lock().unwrap();
        let value = |headers: &HeaderMap| {
            let values: Vec<_> = headers.get_all(name).iter().collect();
            assert!(values.len() <= 1, "{name} once");
            values
                .first()
                .map_or_else(String::new, |v| v.to_str().unwrap().to_owned())
        };
        sent.iter().map(value).collect()
    }
}

fn grpc(act: Act) -> Request<Act> {
    request(act, &[("content-type", "application/grpc")])
}

fn plain(act: Act) -> Request<Act> {
    request(act, &[])
}

#[tokio::test(start_paused = true)]
async fn each_attempt_says_what_is_left_when_it_is_made_and_which_one_it_is() {
    let retry = || {
        RetryLayer::builder()
            .max_attempts(3)
            .backoff(Backoff::constant(ms(100)).with_jitter(Jitter::None))
            .without_budget()
            .clone_request(|req: &Request<Act>| Some(req.clone()))
            .build()
            .unwrap()
    };
    let context = Context::new().with_timeout(secs(5));
    let (svc, sent, _) = Sent::through((retry(), PropagateLayer::new()));
    context
        .scope(svc.oneshot(grpc(Act::FailAfter(ms(400)))))
        .await
        .unwrap_err();
    assert_eq!(sent.all(GRPC), ["5000000u", "4500000u", "4000000u"]);
    assert_eq!(sent.all("grpc-previous-rpc-attempts"), ["", "1", "2"]);
    assert_eq!(sent.all(HTTP), ["", "", ""]);
    assert_eq!(sent.all("x-request-attempt"), ["", "", ""]);

    let context = Context::new().with_timeout(secs(5));
    let (svc, sent, _) = Sent::through((retry(), PropagateLayer::new()));
    context
        .scope(svc.oneshot(plain(Act::FailAfter(ms(400)))))
        .await
        .unwrap_err();
    assert_eq!(sent.all(HTTP), ["5000", "4500", "4000"]);
    assert_eq!(sent.all("x-request-attempt"), ["", "2", "3"]);
    assert_eq!(sent.all(GRPC), ["", "", ""]);
}

#[tokio::test(start_paused = true)]
async fn what_is_left_is_never_rounded_up() {
    let context = Context::new().with_timeout(Duration::from_nanos(1_999_999));
    let both = PropagateLayer::builder()
        .protocol(Protocol::Both)
        .build()
        .unwrap();
    let (svc, sent, _) = Sent::through(both);
    context
        .scope(svc.oneshot(plain(Act::Succeed)))
        .await
        .unwrap();
    assert_eq!(
        (sent.all(HTTP), sent.all(GRPC)),
        (vec!["1".into()], vec!["1999999n".into()])
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_with_nothing_left_is_refused_and_not_sent() {
    let nanos = Duration::from_nanos;
    for (left, req, is_sent) in [
        (nanos(0), plain(Act::Succeed), false),
        (nanos(999_999), plain(Act::Succeed), false),
        (nanos(1_000_000), plain(Act::Succeed), true),
        (nanos(0), grpc(Act::Succeed), false),
        (nanos(1), grpc(Act::Succeed), true),
    ] {
        let context = Context::new().with_timeout(left);
        let (svc, sent, _) = Sent::through(PropagateLayer::new());
        let result = context.scope(svc.oneshot(req)).await;
        assert_eq!(
            sent.0.lock().unwrap().len(),
            usize::from(is_sent),
            "{left:?}"
        );
        if !is_sent {
            let rejected = result.unwrap_err().rejected();
            assert_eq!(rejected.reason(), Reason::DeadlineExceeded);
            assert_eq!(rejected.layer(), "propagate");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_hung_service_is_left_at_the_deadline() {
    let (svc, _, watch) = Sent::through(PropagateLayer::new());
    let before = Instant::now();
    let context = Context::new().with_timeout(ms(300));
    let error = context
        .scope(svc.oneshot(plain(Act::Hang)))
        .await
        .unwrap_err();
    assert_eq!((before.elapsed(), watch.in_flight()), (ms(300), 0));
    let timed_out = error.timed_out();
    assert_eq!(
        (timed_out.layer(), timed_out.limit()),
        ("propagate", Limit::Deadline)
    );
    assert_eq!(timed_out.waited(), ms(300));
}

#[tokio::test(start_paused = true)]
async fn without_a_deadline_nothing_is_said_and_nothing_ends_but_with_a_root_one_begins() {
    let (svc, sent, _) = Sent::through(PropagateLayer::new());
    assert_eq!(svc.oneshot(plain(Act::Take(secs(1_000_000)))).await, Ok(1));
    assert_eq!(
        (sent.all(HTTP), sent.all(GRPC)),
        (vec![String::new()], vec![String::new()])
    );

    let root = || {
        PropagateLayer::builder()
            .root_timeout(secs(2))
            .build()
            .unwrap()
    };
    let (svc, sent, _) = Sent::through(root());
    svc.oneshot(plain(Act::Hang)).await.unwrap_err().timed_out();
    assert_eq!(sent.all(HTTP), ["2000"]);
    // One that is inherited is not cut short by it.
    let (svc, sent, _) = Sent::through(root());
    let context = Context::new().with_timeout(secs(5));
    context
        .scope(svc.oneshot(plain(Act::Take(secs(3)))))
        .await
        .unwrap();
    assert_eq!(sent.all(HTTP), ["5000"]);
}

#[tokio::test(start_paused = true)]
async fn a_call_may_have_less_time_than_is_left_and_never_more() {
    for (own, expected) in [
        (secs(1), "1000"),
        (secs(9), "5000"),
        (Duration::MAX, "5000"),
    ] {
        let context = Context::new().with_timeout(secs(5));
        let (svc, sent, _) = Sent::through(PropagateLayer::new());
        let mut req = plain(Act::Hang);
        req.extensions_mut().insert(CallTimeout(own));
        let before = Instant::now();
        context
            .scope(svc.oneshot(req))
            .await
            .unwrap_err()
            .timed_out();
        assert_eq!(sent.all(HTTP), [expected]);
        assert_eq!(before.elapsed(), own.min(secs(5)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_timeout_that_the_caller_wrote_is_kept_where_it_is_shorter_and_obeyed() {
    for (written, expected) in [("250", "250"), ("9000", "5000"), ("soon", "5000")] {
        let context = Context::new().with_timeout(secs(5));
        let (svc, sent, _) = Sent::through(PropagateLayer::new());
        let before = Instant::now();
        let req = request(Act::Hang, &[(HTTP, written)]);
        context
            .scope(svc.oneshot(req))
            .await
            .unwrap_err()
            .timed_out();
        assert_eq!(sent.all(HTTP), [expected]);
        assert_eq!(before.elapsed(), ms(expected.parse().unwrap()));
    }
    // Also where there is no other deadline.
    let (svc, sent, _) = Sent::through(PropagateLayer::new());
    let req = request(
        Act::Hang,
        &[("content-type", "application/grpc"), (GRPC, "1S")],
    );
    svc.oneshot(req).await.unwrap_err().timed_out();
    assert_eq!(sent.all(GRPC), ["1S"]);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_of_the_call_as_a_whole_is_taken_by_the_layer_outside_the_retry() {
    let retry = RetryLayer::builder()
        .max_attempts(2)
        .backoff(Backoff::none())
        .without_budget()
        .clone_request(|req: &Request<Act>| Some(req.clone()));
    let outer = DeadlineLayer::new(Duration::MAX).unwrap();
    let stack = (outer, retry.build().unwrap(), PropagateLayer::new());
    let (svc, sent, _) = Sent::through(stack);
    let mut req = plain(Act::FailAfter(ms(400)));
    req.extensions_mut().insert(CallTimeout(secs(1)));
    svc.oneshot(req).await.unwrap_err();
    assert_eq!(sent.all(HTTP), ["1000", "600"]);
}

#[tokio::test(start_paused = true)]
async fn an_error_that_comes_with_the_deadline_is_the_deadlines_and_any_other_stays() {
    let context = || Context::new().with_timeout(ms(300));
    let call = async |takes| {
        let (svc, ..) = Sent::through(PropagateLayer::new());
        context()
            .scope(svc.oneshot(plain(Act::FailAfter(takes))))
            .await
            .unwrap_err()
    };
    assert_eq!(call(ms(299)).await, Error::Failed(0));
    // As a transport that reads the same header ends the call: with an error of its own.
    let timed_out = call(ms(300)).await.timed_out();
    assert_eq!(
        (timed_out.limit(), timed_out.waited()),
        (Limit::Deadline, ms(300))
    );

    // What a layer below says is better known: this one was never sent.
    let full = BulkheadLayer::builder(0)
        .queue(Queue::fifo(1, secs(9)))
        .build();
    let (svc, ..) = Sent::through((PropagateLayer::new(), full));
    let error = context()
        .scope(svc.oneshot(plain(Act::Succeed)))
        .await
        .unwrap_err();
    assert_eq!(error.rejected().layer(), "bulkhead");
}

#[tokio::test(start_paused = true)]
async fn criticality_and_attempt_are_the_contexts_whatever_stands_in_the_request() {
    let context = Context::new().with_criticality(Criticality::Sheddable);
    let context = context.with_attempt(NonZeroU32::new(2).unwrap());
    let (svc, sent, _) = Sent::through(PropagateLayer::new());
    context
        .scope(svc.oneshot(plain(Act::Succeed)))
        .await
        .unwrap();
    assert_eq!(sent.all("x-request-criticality"), ["sheddable"]);
    assert_eq!(sent.all("x-request-attempt"), ["2"]);

    // A proxy that sends on what it got.
    let spoofed = [
        ("content-type", "application/grpc"),
        ("x-request-criticality", "critical_plus"),
        ("grpc-previous-rpc-attempts", "7"),
    ];
    let (svc, sent, _) = Sent::through(PropagateLayer::new());
    svc.oneshot(request(Act::Succeed, &spoofed)).await.unwrap();
    assert_eq!(sent.all("x-request-criticality"), [""]);
    assert_eq!(sent.all("grpc-previous-rpc-attempts"), [""]);
}

// Over hops. The wire is a request's headers.

type Hop = BoxCloneSyncService<Request<()>, (), BoxError>;

/// Where a chain of hops ends.
fn last() -> Hop {
    Hop::new(service_fn(|_: Request<()>| async { Ok::<_, BoxError>(()) }))
}

/// A server that believes its callers, and a handler that spends `takes` before it asks `next`; each
/// puts down by name how much time it had.
fn hop(name: &'static str, takes: Duration, next: Hop, log: &Log) -> Hop {
    let log = log.clone();
    let client = ServiceBuilder::new()
        .layer(PropagateLayer::new())
        .service(next);
    let server =
        ServiceBuilder::new()
            .layer(server_of(secs(60)))
            .service_fn(move |_: Request<()>| {
                let (client, log) = (client.clone(), log.clone());
                async move {
                    let left = Context::current().remaining().unwrap();
                    log.0.lock().unwrap().push((name, left, Instant::now()));
                    sleep(takes).await;
                    client.oneshot(request((), &[])).await
                }
            });
    Hop::new(server)
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Entry>>>);

/// Who had how much left, and when.
type Entry = (&'static str, Duration, Instant);

impl Log {
    fn left(&self) -> Vec<(&'static str, Duration)> {
        let log = self.0.lock().unwrap();
        log.iter().map(|(name, left, _)| (*name, *left)).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn all_calls_of_a_tree_share_one_deadline_and_nothing_begins_after_it() {
    // The Google SRE book's tree: 30 s; A spends 7 and asks B, which spends 4 and asks C.
    let tree = |c_takes| {
        let log = Log::default();
        let after_c = hop("after C", secs(0), last(), &log);
        let c = hop("C", c_takes, after_c, &log);
        let b = hop("B", secs(4), c, &log);
        (hop("A", secs(7), b, &log), log)
    };
    let (a, log) = tree(secs(18));
    a.oneshot(request((), &[(GRPC, "30S")])).await.unwrap();
    let seen = [
        ("A", secs(30)),
        ("B", secs(23)),
        ("C", secs(19)),
        ("after C", secs(1)),
    ];
    assert_eq!(log.left(), seen);

    // C takes longer than it has: it is stopped, all above give up, and nothing more begins, not even
    // long after.
    for takes in [secs(19), secs(20), secs(3_600)] {
        let (a, log) = tree(takes);
        let began = Instant::now();
        let error = a.oneshot(request((), &[(GRPC, "30S")])).await.unwrap_err();
        assert_eq!(began.elapsed(), secs(30));
        // Woken at the deadline itself, C can still ask, and is refused.
        let was_refused = Rejected::find(&*error).is_some();
        assert_eq!(was_refused, takes == secs(19), "{error}");
        assert_eq!(TimedOut::find(&*error).is_some(), !was_refused);
        sleep(secs(10_000)).await;
        assert_eq!(log.left(), seen[..3]);
        let all = log.0.lock().unwrap();
        assert!(all.iter().all(|(_, _, at)| *at < began + secs(30)));
    }
}

proptest! {
    /// Whatever each hop spends, the next one sees what is left, to the millisecond that HTTP can say;
    /// and none begins once nothing is.
    #[test]
    fn a_chain_of_any_length_sees_what_is_left(
        total in 1..2_000_000_u64,
        spent in prop::collection::vec(0..500_000_u64, 0..6),
    ) {
        let micros = Duration::from_micros;
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_time().start_paused(true).build().unwrap();
        let log = Log::default();
        runtime.block_on(async {
                let mut next = last();
            for spends in spent.iter().rev() {
                next = hop("hop", micros(*spends), next, &log);
            }
            let context = Context::new().with_timeout(micros(total));
            let client = PropagateLayer::new().layer(next);
            let _ = context.scope(client.oneshot(request((), &[]))).await;
        });
        let (mut left, mut began) = (micros(total), 0);
        for (at, (_, seen)) in log.left().into_iter().enumerate() {
            prop_assert!(seen <= left, "{seen:?} of {left:?}");
            // Timers are of whole milliseconds, and so is the header.
            prop_assert!(left - seen < ms(3), "{seen:?} of {left:?}");
            prop_assert!(!seen.is_zero());
            left = seen.saturating_sub(micros(spent[at]));
            began += 1;
        }
        let has_room = began == spent.len() || left < ms(3);
        prop_assert!(has_room, "{began} of {} with {left:?} left", spent.len());
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_came_in_by_one_protocol_goes_out_by_the_other() {
    for (came, content_type, went, value) in [
        ((HTTP, "30000"), "application/grpc", GRPC, "23000000u"),
        ((ENVOY, "30000"), "application/grpc", GRPC, "23000000u"),
        ((GRPC, "30S"), "application/json", HTTP, "23000"),
    ] {
        let (client, sent, _) = Sent::through(PropagateLayer::new());
        let server = server_of(secs(60)).layer(service_fn(move |_: Request<()>| {
            let client = client.clone();
            async move {
                sleep(secs(7)).await;
                let req = request(Act::Succeed, &[("content-type", content_type)]);
                client.oneshot(req).await
            }
        }));
        server.oneshot(request((), &[came])).await.unwrap();
        assert_eq!(sent.all(went), [value]);
    }
}

fn server_of(max: Duration) -> DeadlineLayer<steadfast::deadline::Everybody> {
    DeadlineLayer::builder(max).trust_headers().build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_callers_attempt_is_not_ours_and_its_criticality_is() {
    let (client, sent, _) = Sent::through(PropagateLayer::new());
    let server = server_of(secs(60)).layer(service_fn(move |_: Request<()>| {
        let client = client.clone();
        async move {
            assert_eq!(Context::current().attempt().get(), 3);
            client.oneshot(plain(Act::Succeed)).await
        }
    }));
    let lines = [
        ("x-request-attempt", "3"),
        ("x-request-criticality", "sheddable_plus"),
    ];
    server.oneshot(request((), &lines)).await.unwrap();
    assert_eq!(sent.all("x-request-attempt"), [""], "the first of this hop");
    assert_eq!(sent.all("x-request-criticality"), ["sheddable_plus"]);
}

#[tokio::test(start_paused = true)]
async fn both_ends_may_agree_on_names_of_their_own() {
    let names = || {
        let name = HeaderName::from_static;
        let names = HeaderNames::new()
            .with_timeout(name("x-acme-left-ms"))
            .unwrap();
        names
            .with_attempt(name("x-acme-try"))
            .with_criticality(name("x-acme-weight"))
    };
    let client = PropagateLayer::builder()
        .header_names(names())
        .build()
        .unwrap();
    let server = server()
        .trust_headers()
        .header_names(names())
        .build()
        .unwrap();
    let context = Context::new()
        .with_timeout(ms(1_234))
        .with_attempt(NonZeroU32::new(2).unwrap())
        .with_criticality(Criticality::CriticalPlus);
    let seen = context
        .scope(context_below((client, server), request((), &[])))
        .await
        .unwrap();
    assert_eq!(seen.remaining(), Some(ms(1_234)));
    assert_eq!(seen.attempt().get(), 2);
    assert_eq!(seen.criticality(), Criticality::CriticalPlus);
}

// What else waits, and what runs elsewhere.

#[tokio::test(start_paused = true)]
async fn every_wait_of_the_crate_ends_no_later_than_the_deadline() {
    async fn ends_in_time<S>(name: &str, mut svc: S, act: Act)
    where
        S: Service<Act, Response = u32, Error = Error>,
    {
        let before = Instant::now();
        let context = Context::new().with_timeout(ms(100));
        let result = context.scope(send(&mut svc, act)).await;
        assert!(result.is_err(), "{name}");
        assert!(
            before.elapsed() <= ms(100),
            "{name}: {:?}",
            before.elapsed()
        );
    }
    let scripted = || Scripted::new().0;
    let hour = secs(3_600);

    for queue in [Queue::fifo(8, hour), Queue::lifo(8, hour)] {
        let full = BulkheadLayer::builder(0).queue(queue).build();
        ends_in_time("a place in a queue", full.layer(scripted()), Act::Succeed).await;
    }
    let backoff = Backoff::constant(hour).with_jitter(Jitter::None);
    let retry = RetryLayer::builder().backoff(backoff).without_budget();
    let retry = retry.build().unwrap();
    ends_in_time("a backoff", retry.layer(scripted()), Act::Fail(1)).await;
    let slow = RetryLayer::builder()
        .backoff(Backoff::constant(ms(30)))
        .max_attempts(1_000);
    let slow = slow.without_budget().build().unwrap();
    ends_in_time("many backoffs", slow.layer(scripted()), Act::Fail(1)).await;
    let timeout = || TimeoutLayer::new(hour).unwrap();
    ends_in_time("a response", timeout().layer(scripted()), Act::Hang).await;
    let unready = ServiceBuilder::new()
        .layer(timeout().covering_readiness())
        .layer(
            BulkheadLayer::builder(0)
                .queue(Queue::fifo(1, hour))
                .build(),
        )
        .service(scripted());
    ends_in_time("readiness", unready, Act::Succeed).await;
    let over_http = ServiceBuilder::new()
        .map_request(|act: Act| Request::new(act))
        .layer(DeadlineLayer::new(hour).unwrap())
        .layer(PropagateLayer::new())
        .map_request(|req: Request<Act>| req.into_body())
        .service(scripted());
    ends_in_time("a handler", over_http, Act::Hang).await;
}

/// On which threads spans are entered.
#[derive(Clone, Default)]
struct Enters(Arc<Mutex<Vec<(Id, ThreadId)>>>);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Enters {
    fn on_enter(&self, id: &Id, _: tracing_subscriber::layer::Context<'_, S>) {
        let entered = (id.clone(), thread::current().id());
        self.0.lock().unwrap().push(entered);
    }
}

#[tokio::test(start_paused = true)]
async fn work_in_another_task_or_thread_keeps_the_deadline_and_the_span() {
    let enters = Enters::default();
    let subscriber = tracing_subscriber::registry().with(enters.clone());
    let _guard = tracing::subscriber::set_default(subscriber);

    let span = tracing::info_span!("request");
    let context = Context::new().with_timeout(secs(3));
    let spawn = || {
        let task = context::spawn(async {
            tokio::task::yield_now().await;
            (Context::current(), Span::current().id())
        });
        let thread = context::spawn_blocking(|| (Context::current(), thread::current().id()));
        (task, thread)
    };
    let (task, thread) = span.in_scope(|| context.sync_scope(spawn));
    assert_eq!(task.await.unwrap(), (context, span.id()));
    let (there, thread) = thread.await.unwrap();
    assert_eq!(there, context);
    assert_ne!(thread, thread::current().id());
    let entered = (span.id().unwrap(), thread);
    assert!(enters.0.lock().unwrap().contains(&entered));
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_without_the_deadline_is_finished_after_it() {
    let (client, sent, _) = Sent::through(PropagateLayer::new());
    let (done, finished) = tokio::sync::oneshot::channel();
    let checkpoint = async move {
        sleep(secs(60)).await;
        client.oneshot(plain(Act::Succeed)).await.unwrap();
        done.send(Instant::now()).unwrap();
    };
    let mut checkpoint = Some(checkpoint);
    let svc = DeadlineLayer::new(secs(1))
        .unwrap()
        .layer(service_fn(move |_: Request<()>| {
            let checkpoint = checkpoint.take().unwrap();
            async move {
                let context = Context::current().without_deadline();
                context::spawn(context.scope(checkpoint));
                pending::<()>().await;
                Ok::<_, Error>(())
            }
        }));
    let began = Instant::now();
    svc.oneshot(request((), &[])).await.unwrap_err().timed_out();
    assert_eq!(began.elapsed(), secs(1));
    assert_eq!(finished.await.unwrap(), began + secs(60));
    assert_eq!(sent.all(HTTP), [""]);
}

#[tokio::test(start_paused = true)]
async fn behind_the_layer_that_answers_refusals_they_are_504_and_400() {
    let status = async |lines: &[(&str, &str)], takes| {
        let svc = ServiceBuilder::new()
            .layer(steadfast::http::AnswerRefusalsLayer::new())
            .layer(server().trust_headers().refuse_malformed().build().unwrap())
            .layer(LiftLayer::new())
            .service_fn(move |_: Request<()>| async move {
                sleep(takes).await;
                Ok::<_, Rejected>(Response::new(String::new()))
            });
        svc.oneshot(request((), lines))
            .await
            .unwrap()
            .status()
            .as_u16()
    };
    assert_eq!(status(&[(HTTP, "100")], ms(99)).await, 200);
    assert_eq!(status(&[(HTTP, "100")], ms(101)).await, 504);
    assert_eq!(status(&[(HTTP, "0")], ms(0)).await, 504);
    assert_eq!(status(&[(HTTP, "soon")], ms(0)).await, 400);
}
