//! Limits on how long a body may take.

use std::panic::{AssertUnwindSafe, catch_unwind};

use metrics_util::debugging::DebuggingRecorder;
use steadfast::{
    Classify, Context as Ctx, InvalidSetting, Limit, TimedOut, Verdict,
    circuit_breaker::State,
    classify::Failure,
    http::{self, BodyTimeoutBuilder, BodyTimeoutLayer, ClassifyEnd, End},
    timeout::TimeoutLayer,
};
use tokio::time::{Instant, advance};
use tower::{BoxError, Layer, ServiceBuilder, ServiceExt, service_fn};

use super::{bulkhead::outcomes, *};

fn limited() -> BodyTimeoutBuilder<Error> {
    BodyTimeoutLayer::builder().error()
}

/// How long a body streamed, and what came of it: its frames, or the limit that passed.
async fn read(
    limits: BodyTimeoutBuilder<Error>,
    body: Given,
) -> (Duration, Result<usize, TimedOut>) {
    let layer = limits.name("bodies").build().unwrap();
    let before = Instant::now();
    let mut body = layer.layer(Giver).oneshot(body).await.unwrap().into_body();
    let mut frames = 0;
    let result = loop {
        match body.frame().await {
            Some(Ok(_)) => frames += 1,
            Some(Err(error)) => break Err(error.timed_out()),
            None => break Ok(frames),
        }
    };
    assert!(body.is_end_stream() || result.is_ok());
    assert!(
        result.is_ok() || body.frame().await.is_none(),
        "no more comes"
    );
    (before.elapsed(), result)
}

fn timed_out(limit: Limit, waited: Duration) -> Result<usize, TimedOut> {
    Err(TimedOut::new("bodies", limit, waited))
}

#[tokio::test(start_paused = true)]
async fn a_body_is_cut_when_it_keeps_its_reader_waiting_for_too_long_between_two_frames() {
    let idle = limited().idle(secs(2));
    assert_eq!(read(idle, ten_seconds()).await, (secs(10), Ok(10)));
    let falls_silent = pieces((0..3).map(|_| Piece::After(secs(1))).chain([Piece::Hang]));
    let expected = (secs(5), timed_out(Limit::Idle, secs(2)));
    assert_eq!(read(idle, falls_silent).await, expected);
    // A frame that is there together with the end of its time wins.
    let just = pieces([Piece::After(secs(2)), Piece::After(secs(2))]);
    assert_eq!(read(idle, just).await, (secs(4), Ok(2)));
}

#[tokio::test(start_paused = true)]
async fn a_body_is_cut_when_it_takes_too_long_as_a_whole() {
    let total = limited().total(secs(10));
    assert_eq!(read(total, ten_seconds()).await, (secs(10), Ok(10)));
    let endless = || pieces((0..100).map(|_| Piece::After(secs(3))));
    let expected = (secs(10), timed_out(Limit::Body, secs(10)));
    assert_eq!(read(total, endless()).await, expected);
    assert_eq!(read(total.idle(secs(4)), endless()).await, expected);
    let expected = (secs(2), timed_out(Limit::Idle, secs(2)));
    assert_eq!(read(total.idle(secs(2)), endless()).await, expected);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_of_the_call_is_that_of_its_body() {
    let context = Ctx::new().with_timeout(secs(5));
    let cut = context.scope(read(limited(), ten_seconds())).await;
    assert_eq!(cut, (secs(5), timed_out(Limit::Deadline, secs(5))));

    // Also where the body is read elsewhere, and by whichever comes first.
    for (total, expected) in [(secs(4), Limit::Body), (secs(6), Limit::Deadline)] {
        let layer = limited().total(total).build().unwrap();
        let context = Ctx::new().with_timeout(secs(5));
        let call = context.sync_scope(|| layer.layer(Giver).call(ten_seconds()));
        let read = call.await.unwrap().into_body().collect().await;
        assert_eq!(read.unwrap_err().timed_out().limit(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_limit_or_one_that_the_clock_can_reach_a_body_takes_as_long_as_it_likes() {
    let hour = || pieces([Piece::After(secs(3_600))]);
    let never = limited().idle(Duration::MAX).total(Duration::MAX);
    for limits in [limited(), never] {
        assert_eq!(read(limits, hour()).await, (secs(3_600), Ok(1)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_always_has_a_frame_is_cut_too_and_one_at_its_end_is_not() {
    let layer = limited().total(secs(1)).build().unwrap();
    let mut svc = layer.layer(Giver);
    let endless = pieces((0..100).map(|_| Piece::After(ms(0))));
    let mut body = svc.call(endless).await.unwrap().into_body();
    assert!(matches!(poll_frame(&mut body), Poll::Ready(Some(Ok(_)))));
    advance(secs(1)).await;
    assert!(matches!(poll_frame(&mut body), Poll::Ready(Some(Ok(_)))));
    advance(ms(1)).await;
    let Poll::Ready(Some(Err(error))) = poll_frame(&mut body) else {
        panic!("it is not cut")
    };
    assert_eq!(error.timed_out().limit(), Limit::Body);

    let body = svc.call(full("all")).await.unwrap().into_body();
    advance(secs(9)).await;
    assert_eq!(body.collect().await.unwrap().to_bytes(), "all");
}

#[tokio::test(start_paused = true)]
async fn what_is_cut_is_dropped_at_once() {
    let dropped: Arc<AtomicUsize> = Arc::default();
    let body = Dropped(Arc::clone(&dropped)).boxed_unsync();
    let layer = limited().idle(secs(2)).build().unwrap();
    let mut body = layer.layer(Giver).oneshot(body).await.unwrap().into_body();
    assert_eq!(
        (body.size_hint().exact(), body.is_end_stream()),
        (Some(42), false)
    );
    let _error = body.frame().await.unwrap().unwrap_err();
    assert_eq!(dropped.load(SeqCst), 1);
    assert_eq!(
        (body.size_hint().exact(), body.is_end_stream()),
        (Some(0), true)
    );
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_not_cut_by_the_limit_of_the_head() {
    let svc = ServiceBuilder::new()
        .layer(limited().idle(secs(2)).build().unwrap())
        .layer(TimeoutLayer::new(secs(3)).unwrap())
        .service(service_fn(async |(head, body): (Duration, Given)| {
            sleep(head).await;
            Ok::<_, Error>(Response::new(body))
        }));
    let late = svc.clone().oneshot((secs(4), ten_seconds())).await;
    assert_eq!(late.unwrap_err().timed_out().limit(), Limit::Timeout);
    // Nor does the idle limit look at the head.
    let response = svc.oneshot((ms(2_999), ten_seconds())).await.unwrap();
    response.into_body().collect().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_cut_is_a_failure_to_a_breaker_above_and_to_one_below() {
    let falls_silent = || pieces([Piece::After(ms(1)), Piece::Hang]);
    let (above, below) = (http::circuit_breaker(), http::circuit_breaker());
    let above = above.consecutive_failures(1).build().unwrap();
    let below = below.consecutive_failures(1).build().unwrap();
    let svc = ServiceBuilder::new()
        .layer(&above)
        .layer(limited().idle(ms(100)).build().unwrap())
        .layer(&below)
        .service(Giver);
    let body = svc.oneshot(falls_silent()).await.unwrap().into_body();
    body.collect().await.unwrap_err().timed_out();
    assert_eq!(above.handle().state(), State::Open);
    assert_eq!(below.handle().state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_zero_limit_is_refused_when_it_is_built() {
    let setting = |built: Result<_, InvalidSetting>| {
        let _: BodyTimeoutLayer<Error> = match built {
            Ok(_) => panic!("it was built"),
            Err(error) => return error.setting(),
        };
    };
    assert_eq!(setting(limited().idle(Duration::ZERO).build()), "idle");
    assert_eq!(setting(limited().total(Duration::ZERO).build()), "total");
}

#[tokio::test(start_paused = true)]
async fn errors_are_boxed_unless_told_otherwise() {
    let layer = BodyTimeoutLayer::builder().idle(secs(2)).build().unwrap();
    let svc = layer.layer(service_fn(async |fails: bool| {
        let body = pieces([if fails { Piece::Fail } else { Piece::Hang }]);
        let body = body.map_err(|_| std::io::Error::other("broken"));
        Ok::<_, Infallible>(Response::new(body))
    }));
    let error: BoxError = svc
        .clone()
        .oneshot(true)
        .await
        .unwrap()
        .collect()
        .await
        .unwrap_err();
    assert!(error.is::<std::io::Error>());
    let error: BoxError = svc
        .oneshot(false)
        .await
        .unwrap()
        .collect()
        .await
        .unwrap_err();
    assert_eq!(TimedOut::find(&*error).unwrap().limit(), Limit::Idle);
}

#[tokio::test(start_paused = true)]
async fn bodies_are_counted_by_how_they_ended() {
    let recorder = DebuggingRecorder::new();
    let layer = limited().idle(secs(2));
    let layer = metrics::with_local_recorder(&recorder, || layer.build().unwrap());
    let mut svc = layer.layer(Giver);
    for body in [empty(), full("all"), ten_seconds(), pieces([Piece::Fail])] {
        let _ = svc.call(body).await.unwrap().into_body().collect().await;
    }
    let mut dropped = svc.call(ten_seconds()).await.unwrap();
    dropped.body_mut().frame().await.unwrap().unwrap();
    drop(dropped);
    let silent = svc.call(pieces([Piece::Hang])).await.unwrap().into_body();
    silent.collect().await.unwrap_err();
    let mut panics = svc.call(pieces([Piece::Panic])).await.unwrap().into_body();
    let panicked = catch_unwind(AssertUnwindSafe(|| drop(poll_frame(&mut panics))));
    assert!(panicked.is_err());
    drop(panics);
    let expected = [
        ("abandoned", 1),
        ("completed", 4),
        ("panicked", 1),
        ("timed_out", 1),
    ];
    let expected = expected.map(|(outcome, bodies)| (outcome.to_owned(), bodies));
    assert_eq!(outcomes(&recorder), expected);
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_is_waited_for_allocates_no_timer_of_its_own() {
    let layer = limited().idle(secs(2)).total(secs(60)).build().unwrap();
    let mut svc = layer.layer(service_fn(|body: Sluggish| {
        std::future::ready(Ok::<_, Error>(Response::new(body)))
    }));
    let mut fetch = || {
        let mut cx = Context::from_waker(Waker::noop());
        let call = pin!(svc.call(Sluggish(6)));
        let Poll::Ready(Ok(response)) = call.poll(&mut cx) else {
            panic!("not answered")
        };
        let mut body = response.into_body();
        while !matches!(poll_frame(&mut body), Poll::Ready(None)) {}
    };
    (0..100).for_each(|_| fetch()); // makes the thread's pools
    let allocated = allocation_counter::measure(|| (0..1000).for_each(|_| fetch()));
    assert_eq!(allocated, allocation_counter::AllocationInfo::default());
}

/// Pending and with a frame by turns, so many times.
struct Sluggish(u32);

impl Body for Sluggish {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some(left) = self.0.checked_sub(1) else {
            return Poll::Ready(None);
        };
        self.0 = left;
        if left % 2 == 1 {
            return Poll::Pending;
        }
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"tick")))))
    }
}

#[tokio::test(start_paused = true)]
async fn a_classifier_is_told_a_body_that_was_cut_from_one_that_failed() {
    #[derive(Clone)]
    struct OnlyLate;
    impl<B> Classify<Response<B>, Error> for OnlyLate {
        fn classify(&self, _: Result<&Response<B>, &Error>) -> Verdict {
            Verdict::Success
        }
    }
    impl ClassifyEnd<Error> for OnlyLate {
        fn classify_end(&self, end: End<'_, Error>) -> Verdict {
            match end {
                End::TimedOut(Error::TimedOut(_)) => Failure::timeout().into(),
                _ => Verdict::Ignored,
            }
        }
    }
    for (last, state) in [(Piece::Fail, State::Closed), (Piece::Hang, State::Open)] {
        let breaker = http::circuit_breaker().classifier(OnlyLate);
        let breaker = breaker.consecutive_failures(1).build().unwrap();
        let svc = ServiceBuilder::new()
            .layer(&breaker)
            .layer(limited().idle(ms(100)).build().unwrap())
            .service(Giver);
        let body = svc.oneshot(pieces([last])).await.unwrap().into_body();
        body.collect().await.unwrap_err();
        assert_eq!(breaker.handle().state(), state);
    }
}
