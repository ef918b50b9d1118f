//! A place in a bulkhead is held until the end of the body.

use std::panic::{AssertUnwindSafe, catch_unwind};

use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use steadfast::{
    Reason,
    bulkhead::{BulkheadBuilder, BulkheadLayer, Queue},
    http::{self, AnswerRefusalsLayer, EndOfBody},
    until::Answered,
};
use tokio::time::Instant;
use tower::{Layer, ServiceBuilder, ServiceExt};

use super::*;

/// Sends `body` through a service, which is ready.
async fn fetch<S>(svc: &mut S, body: Given) -> S::Response
where
    S: Service<Given, Error = Error>,
{
    svc.ready().await.unwrap().call(body).await.unwrap()
}

/// What holds for all four forms: `$check` is handed a service and a function that counts what is in
/// flight.
macro_rules! for_each_form {
    ($check:expr) => {
        let queue = Queue::fifo(8, secs(60));
        let layer = http::bulkhead(1).build();
        let handle = layer.handle();
        $check("refusing", layer.layer(Giver), &|| handle.in_flight()).await;
        let layer = http::bulkhead(1).queue(queue).build();
        let handle = layer.handle();
        $check("queued", layer.layer(Giver), &|| handle.in_flight()).await;
        let layer = http::bulkhead(1).keyed(1, |_: &Given| 'k').build().unwrap();
        let handle = layer.handle();
        $check("keyed", layer.layer(Giver), &|| {
            handle.get(&'k').map_or(0, |of_key| of_key.in_flight)
        })
        .await;
        let layer = http::bulkhead(1).keyed(1, |_: &Given| 'k').queue(queue);
        let layer = layer.build().unwrap();
        let handle = layer.handle();
        $check("queued, keyed", layer.layer(Giver), &|| {
            handle.get(&'k').map_or(0, |of_key| of_key.in_flight)
        })
        .await;
    };
}

#[tokio::test(start_paused = true)]
async fn a_streamed_response_holds_its_place_while_it_streams_and_not_a_moment_longer() {
    async fn check<S, B>(form: &str, mut svc: S, in_flight: &dyn Fn() -> usize)
    where
        S: Service<Given, Response = Response<B>, Error = Error>,
        B: Body<Data = Bytes, Error = Error> + Unpin,
    {
        let before = Instant::now();
        let mut body = fetch(&mut svc, ten_seconds()).await.into_body();
        for second in 1..=10 {
            body.frame().await.unwrap().unwrap();
            assert_eq!((before.elapsed(), in_flight()), (secs(second), 1), "{form}");
        }
        assert!(body.frame().await.is_none());
        // The body is still there; its place is not.
        assert_eq!((before.elapsed(), in_flight()), (secs(10), 0), "{form}");
        assert!(
            body.frame().await.is_none(),
            "{form}: it can be asked again"
        );
        drop(body);
        assert_eq!(in_flight(), 0, "{form}");
    }
    for_each_form!(check);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_away_leaves_its_place_at_once() {
    async fn check<S, B>(form: &str, mut svc: S, in_flight: &dyn Fn() -> usize)
    where
        S: Service<Given, Response = Response<B>, Error = Error>,
        B: Body<Data = Bytes, Error = Error> + Unpin,
    {
        let mut body = fetch(&mut svc, ten_seconds()).await.into_body();
        for _ in 0..3 {
            body.frame().await.unwrap().unwrap();
        }
        assert_eq!(in_flight(), 1, "{form}");
        drop(body);
        assert_eq!(in_flight(), 0, "{form}");
        // Without having begun to read.
        let response = fetch(&mut svc, ten_seconds()).await;
        assert_eq!(in_flight(), 1, "{form}");
        drop(response);
        assert_eq!(in_flight(), 0, "{form}");
    }
    for_each_form!(check);
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_is_let_in_when_the_body_before_it_has_ended() {
    let layer = http::bulkhead(1).queue(Queue::fifo(1, secs(60))).build();
    let mut svc = layer.layer(Giver);
    let before = Instant::now();
    let first = fetch(&mut svc, ten_seconds()).await;
    let second = tokio::spawn(svc.call(empty()));
    first.into_body().collect().await.unwrap();
    second.await.unwrap().unwrap();
    assert_eq!(before.elapsed(), secs(10));
}

#[tokio::test(start_paused = true)]
async fn however_a_body_ends_its_place_is_free_with_its_last_frame() {
    let ends = [
        ("a frame that is known to be the last", full("all")),
        ("trailers", pieces([Piece::Trailers(trailers("a", "b"))])),
        ("an error", pieces([Piece::Fail, Piece::Hang])),
        ("the end of a body of no frames", pieces([])),
    ];
    for (name, body) in ends {
        let layer = http::bulkhead(1).build();
        let mut body = fetch(&mut layer.layer(Giver), body).await.into_body();
        assert_eq!(layer.handle().in_flight(), 1, "{name}");
        let _last = body.frame().await;
        assert_eq!(layer.handle().in_flight(), 0, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_all_there_gives_its_place_back_with_the_head() {
    let layer = http::bulkhead(1).build();
    let mut svc = layer.layer(Giver);
    let _first = fetch(&mut svc, empty()).await;
    let _second = fetch(&mut svc, empty()).await;
    assert_eq!(layer.handle().in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn it_is_a_switch() {
    let until_the_head = [
        http::bulkhead(1).until(Answered).build(),
        BulkheadLayer::builder(1).build(),
    ];
    for layer in until_the_head {
        let response: Response<Given> = fetch(&mut layer.layer(Giver), ten_seconds()).await;
        assert_eq!(layer.handle().in_flight(), 0);
        drop(response);
    }
    let layer = BulkheadLayer::builder(1).until(EndOfBody).build();
    let _response = fetch(&mut layer.layer(Giver), ten_seconds()).await;
    assert_eq!(layer.handle().in_flight(), 1);
}

#[tokio::test(start_paused = true)]
async fn weights_are_held_whole() {
    let layer = http::bulkhead(8).weight(|_: &Given| 5).build();
    let mut svc = layer.layer(Giver);
    let response = fetch(&mut svc, ten_seconds()).await;
    assert_eq!(layer.handle().in_flight(), 5);
    let refused = svc.call(empty()).await.unwrap_err().rejected();
    assert_eq!(refused.reason(), Reason::BulkheadFull);
    response.into_body().collect().await.unwrap();
    assert_eq!(layer.handle().in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_key_is_in_use_until_the_end_of_the_body() {
    let layer = http::bulkhead(1).keyed(1, Given::is_end_stream);
    let layer = layer.build().unwrap();
    let mut svc = layer.layer(Giver);
    let streaming = fetch(&mut svc, ten_seconds()).await;
    // There is no room for another key while the first one is in use.
    let refused = svc.call(empty()).await.unwrap_err().rejected();
    assert_eq!(refused.reason(), Reason::BulkheadFull);
    drop(streaming);
    fetch(&mut svc, empty()).await;
}

#[tokio::test(start_paused = true)]
async fn frames_trailers_errors_and_hints_pass_as_they_are() {
    let layer = http::bulkhead(8).build();
    let mut svc = layer.layer(Giver);
    let whole = [
        Piece::After(secs(1)),
        Piece::After(secs(0)),
        Piece::Trailers(trailers("checksum", "7")),
    ];
    let collected = fetch(&mut svc, pieces(whole)).await.into_body().collect();
    let collected = collected.await.unwrap();
    assert_eq!(collected.trailers(), Some(&trailers("checksum", "7")));
    assert_eq!(collected.to_bytes(), "ticktick");

    let broken = fetch(&mut svc, pieces([Piece::Fail])).await.into_body();
    assert_eq!(broken.collect().await.unwrap_err(), Error::Failed(7));

    let body = fetch(&mut svc, full("four")).await.into_body();
    assert_eq!(
        (body.size_hint().exact(), body.is_end_stream()),
        (Some(4), false)
    );
    let dropped = Arc::default();
    let body = Dropped(Arc::clone(&dropped)).boxed_unsync();
    let body = fetch(&mut svc, body).await.into_body();
    assert_eq!(
        (body.size_hint().exact(), body.is_end_stream()),
        (Some(42), false)
    );
    drop(body);
    assert_eq!(dropped.load(SeqCst), 1);
    assert!(fetch(&mut svc, empty()).await.into_body().is_end_stream());
}

/// How many calls ended in which way.
pub(super) fn outcomes(recorder: &DebuggingRecorder) -> Vec<(String, u64)> {
    let metrics = recorder.snapshotter().snapshot().into_vec();
    let mut outcomes: Vec<_> = metrics
        .into_iter()
        .filter(|(key, ..)| key.key().name() == "steadfast_calls_total")
        .filter_map(|(key, _, _, value)| {
            let outcome = key.key().labels().find(|label| label.key() == "outcome");
            match value {
                DebugValue::Counter(0) => None,
                DebugValue::Counter(calls) => Some((outcome.unwrap().value().to_owned(), calls)),
                other => panic!("{other:?}"),
            }
        })
        .collect();
    outcomes.sort();
    outcomes
}

#[tokio::test(start_paused = true)]
async fn a_call_is_counted_once_when_it_is_over_by_how_its_body_ended() {
    let recorder = DebuggingRecorder::new();
    let layer = metrics::with_local_recorder(&recorder, || http::bulkhead(8).build());
    let mut svc = layer.layer(Giver);

    let mut unpolled = fetch(&mut svc, ten_seconds()).await;
    assert!(poll_frame(unpolled.body_mut()).is_pending());
    assert_eq!(outcomes(&recorder), []);
    let mut half_read = fetch(&mut svc, full("all")).await.into_body();
    drop(unpolled);
    assert!(poll_frame(&mut half_read).is_ready());
    drop(half_read); // it has ended before
    let mut half_read = fetch(&mut svc, pieces([Piece::After(secs(0)), Piece::Hang])).await;
    half_read.body_mut().frame().await.unwrap().unwrap();
    drop(half_read);
    let panicking = fetch(&mut svc, pieces([Piece::Panic])).await;
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _ = poll_frame(&mut panicking.into_body());
    }));
    assert!(panicked.is_err(), "a panic is the reader's to see");
    let failing = fetch(&mut svc, pieces([Piece::Fail])).await.into_body();
    failing.collect().await.unwrap_err();

    let expected = [("abandoned", 2), ("completed", 2), ("panicked", 1)];
    let expected = expected.map(|(outcome, calls)| (outcome.to_owned(), calls));
    assert_eq!(outcomes(&recorder), expected);
    assert_eq!(layer.handle().in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn refusals_are_answered_above_it() {
    let full = |bulkhead: BulkheadBuilder<(), _, (), _>| bulkhead.name("front-door").build();
    let svc = ServiceBuilder::new()
        .layer(AnswerRefusalsLayer::new())
        .layer(full(http::bulkhead(0)))
        .layer(steadfast::LiftLayer::new())
        .service(tower::service_fn(async |_: ()| {
            Ok::<_, Infallible>(Response::new(String::new()))
        }));
    let response = svc.oneshot(()).await.unwrap();
    assert_eq!(response.status(), 503);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(problem["layer"], "front-door");
}

#[test]
fn holding_a_place_until_the_end_allocates_nothing() {
    let layer = http::bulkhead(1).build();
    let mut svc = layer.layer(tower::service_fn(|body: Full<Bytes>| {
        std::future::ready(Ok::<_, Error>(Response::new(body)))
    }));
    let mut fetch = || {
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Service::<Full<Bytes>>::poll_ready(&mut svc, &mut cx).is_ready());
        let call = pin!(svc.call(Full::from("all")));
        let Poll::Ready(Ok(response)) = call.poll(&mut cx) else {
            panic!("not admitted")
        };
        let mut body = response.into_body();
        assert_eq!(layer.handle().in_flight(), 1);
        assert!(poll_frame(&mut body).is_ready());
        assert_eq!(layer.handle().in_flight(), 0);
    };
    fetch(); // makes the thread's pools
    let allocated = allocation_counter::measure(|| (0..1000).for_each(|_| fetch()));
    assert_eq!(allocated, allocation_counter::AllocationInfo::default());
}
