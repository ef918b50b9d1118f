//! The timeout as its users see it.

mod detached;
mod following;
mod nested;

use std::{pin::pin, task::Poll, time::Duration};

use steadfast::{
    Context, Limit, Reason,
    bulkhead::{BulkheadLayer, Queue},
    timeout::{Timeout, TimeoutLayer},
};
use tokio::time::{Instant, advance};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, limit::ConcurrencyLimitLayer, service_fn};

use crate::support::{Act, Error, Scripted, Watch, ms, poll_once, secs, send};

fn timeout(limit: Duration) -> (Timeout<Scripted>, Watch) {
    let layer = TimeoutLayer::builder(limit)
        .unwrap()
        .name("attempt")
        .build();
    let (service, watch) = Scripted::new();
    (layer.layer(service), watch)
}

#[tokio::test(start_paused = true)]
async fn a_call_that_takes_too_long_is_given_up_and_says_which_limit_and_how_long() {
    let (mut service, watch) = timeout(ms(100));
    let before = Instant::now();
    let timed_out = send(&mut service, Act::Hang).await.unwrap_err().timed_out();
    assert_eq!(before.elapsed(), ms(100));
    assert_eq!(timed_out.layer(), "attempt");
    assert_eq!(
        (timed_out.limit(), timed_out.waited()),
        (Limit::Timeout, ms(100))
    );
    assert_eq!(watch.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_inner_future_is_dropped_at_expiry_not_with_the_outer_one() {
    let (mut service, watch) = timeout(ms(100));
    let mut call = Box::pin(service.ready().await.unwrap().call(Act::Hang));
    assert!(poll_once(call.as_mut()).is_pending());
    assert_eq!(watch.in_flight(), 1);
    advance(ms(100)).await;
    assert!(poll_once(call.as_mut()).is_ready());
    assert_eq!(
        watch.in_flight(),
        0,
        "while the outer future is still there"
    );
}

#[tokio::test(start_paused = true)]
async fn one_that_covers_readiness_drops_what_it_waits_for_at_expiry() {
    let (service, watch) = Scripted::new();
    let busy = ConcurrencyLimitLayer::new(1).layer(service);
    let layer = TimeoutLayer::new(ms(100)).unwrap().covering_readiness();
    let mut service = layer.layer(busy);
    let mut running = Box::pin(service.call(Act::Hang));
    let mut waiting = Box::pin(service.call(Act::Hang));
    assert!(poll_once(running.as_mut()).is_pending());
    assert!(poll_once(waiting.as_mut()).is_pending());
    assert_eq!((watch.calls(), watch.in_flight()), (1, 1));
    advance(ms(100)).await;
    assert!(poll_once(waiting.as_mut()).is_ready());
    assert!(poll_once(running.as_mut()).is_ready());
    assert_eq!((watch.calls(), watch.in_flight()), (1, 0));
    // Nothing of them is left while their futures are: the only permit is free.
    assert_eq!(send(&mut service, Act::Succeed).await, Ok(1));
    drop((running, waiting));
}

#[tokio::test(start_paused = true)]
async fn where_response_and_expiry_are_there_together_the_response_wins() {
    let (mut service, _) = timeout(ms(100));
    let mut call = pin!(service.ready().await.unwrap().call(Act::Take(ms(100))));
    assert!(poll_once(call.as_mut()).is_pending());
    advance(secs(3600)).await;
    assert_eq!(poll_once(call.as_mut()), Poll::Ready(Ok(1)));
}

#[tokio::test(start_paused = true)]
async fn a_request_may_have_a_limit_of_its_own() {
    let limit = |act: &Act| {
        if matches!(act, Act::Take(_)) {
            ms(500)
        } else {
            ms(50)
        }
    };
    let mut service = TimeoutLayer::per_request(limit).layer(Scripted::new().0);
    assert_eq!(send(&mut service, Act::Take(ms(400))).await, Ok(1));
    let timed_out = send(&mut service, Act::Hang).await.unwrap_err().timed_out();
    assert_eq!(timed_out.waited(), ms(50));
}

#[tokio::test(start_paused = true)]
async fn a_limit_may_come_from_an_extension_or_a_header_of_the_request() {
    type Request = http::Request<()>;
    let header = |req: &Request| {
        req.headers()
            .get("x-timeout-ms")?
            .to_str()
            .ok()?
            .parse()
            .ok()
    };
    let limit = move |req: &Request| match req.extensions().get::<Duration>() {
        Some(limit) => *limit,
        None => ms(header(req).unwrap_or(300)),
    };
    let service = TimeoutLayer::per_request(limit).layer(service_fn(|_: Request| async {
        std::future::pending::<Result<(), Error>>().await
    }));
    let request = Request::default;
    let mut by_extension = request();
    by_extension.extensions_mut().insert(ms(100));
    let mut by_header = request();
    let value = http::HeaderValue::from_static("200");
    by_header.headers_mut().insert("x-timeout-ms", value);
    for (request, limit) in [(by_extension, 100), (by_header, 200), (request(), 300)] {
        let error = service.clone().oneshot(request).await.unwrap_err();
        assert_eq!(error.timed_out().waited(), ms(limit));
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_zero_for_a_request_leaves_time_for_what_is_there_at_once() {
    let mut service = TimeoutLayer::per_request(|_: &Act| ms(0)).layer(Scripted::new().0);
    assert_eq!(send(&mut service, Act::Succeed).await, Ok(1));
    let timed_out = send(&mut service, Act::Hang).await.unwrap_err().timed_out();
    assert!(timed_out.waited() <= ms(1));
}

#[tokio::test(start_paused = true)]
async fn the_deadline_cuts_the_limit_short_and_never_makes_it_longer() {
    let (mut service, _) = timeout(ms(100));
    let mut with_deadline = async |after| {
        let context = Context::new().with_timeout(after);
        let result = context.scope(send(&mut service, Act::Hang)).await;
        let timed_out = result.unwrap_err().timed_out();
        (timed_out.limit(), timed_out.waited())
    };
    assert_eq!(with_deadline(ms(30)).await, (Limit::Deadline, ms(30)));
    assert_eq!(with_deadline(ms(300)).await, (Limit::Timeout, ms(100)));
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_deadline_has_passed_is_refused_and_never_made() {
    let (mut service, watch) = timeout(ms(100));
    let context = Context::new().with_timeout(ms(30));
    advance(ms(30)).await;
    let result = context.scope(send(&mut service, Act::Succeed)).await;
    let rejected = result.unwrap_err().rejected();
    assert_eq!(rejected.reason(), Reason::DeadlineExceeded);
    assert_eq!(watch.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_answered_at_once_needs_no_runtime() {
    let (mut service, _) = timeout(ms(100));
    let answered = std::thread::spawn(move || {
        // No runtime on this thread: a timer could not even be made.
        let _ = poll_once(pin!(service.ready()));
        poll_once(pin!(service.call(Act::Succeed)))
    });
    assert_eq!(answered.join().unwrap(), Poll::Ready(Ok(1)));
}

#[tokio::test(start_paused = true)]
async fn a_plain_timeout_does_not_count_the_wait_for_readiness_and_one_that_covers_it_does() {
    let busy = || {
        let service = ServiceBuilder::new()
            .layer(ConcurrencyLimitLayer::new(1))
            .service(Scripted::new().0);
        let mut other = service.clone();
        let holder = tokio::spawn(async move { send(&mut other, Act::Take(secs(10))).await });
        (service, holder)
    };
    let layer = || TimeoutLayer::new(secs(1)).unwrap();

    let (service, _holder) = busy();
    tokio::task::yield_now().await;
    let before = Instant::now();
    assert_eq!(send(&mut layer().layer(service), Act::Succeed).await, Ok(1));
    assert_eq!(before.elapsed(), secs(10));

    let (service, _holder) = busy();
    tokio::task::yield_now().await;
    let before = Instant::now();
    let mut service = layer().covering_readiness().layer(service);
    let timed_out = send(&mut service, Act::Succeed)
        .await
        .unwrap_err()
        .timed_out();
    assert_eq!((before.elapsed(), timed_out.waited()), (secs(1), secs(1)));
}

#[tokio::test(start_paused = true)]
async fn a_total_limit_covers_the_wait_for_a_permit_and_the_attempt() {
    let mut service = ServiceBuilder::new()
        .layer(TimeoutLayer::new(secs(1)).unwrap())
        .layer(
            BulkheadLayer::builder(1)
                .queue(Queue::fifo(9, secs(9)))
                .build(),
        )
        .layer(TimeoutLayer::new(ms(700)).unwrap())
        .service(Scripted::new().0);
    let mut first = pin!(service.ready().await.unwrap().call(Act::Hang));
    assert!(poll_once(first.as_mut()).is_pending());
    let before = Instant::now();
    let second = service.ready().await.unwrap().call(Act::Hang);
    // The first is given up after 700 ms; the second then has 300 ms left.
    let (first, second) = tokio::join!(first, second);
    assert_eq!(first.unwrap_err().timed_out().waited(), ms(700));
    assert_eq!(second.unwrap_err().timed_out().waited(), secs(1));
    assert_eq!(before.elapsed(), secs(1));
}

#[tokio::test(start_paused = true)]
async fn endless_limits_never_fire_and_never_panic() {
    let (mut service, _) = timeout(Duration::MAX);
    assert_eq!(send(&mut service, Act::Take(secs(1_000_000))).await, Ok(1));
    let (mut service, _) = timeout(secs(u64::from(u32::MAX)));
    assert_eq!(send(&mut service, Act::Take(secs(1_000_000))).await, Ok(1));
}

#[test]
fn a_zero_timeout_is_refused_when_built() {
    let error = TimeoutLayer::new(ms(0)).unwrap_err();
    assert_eq!(
        (error.setting(), error.allowed()),
        ("timeout", "longer than zero")
    );
}

#[tokio::test(start_paused = true)]
async fn its_error_is_not_the_inner_services_own_timeout() {
    let mut service = TimeoutLayer::new(secs(1)).unwrap().layer(Scripted::new().0);
    assert_eq!(
        send(&mut service, Act::Fail(408)).await,
        Err(Error::Failed(408))
    );
}
