//! A limit that follows how long calls take.

use std::{pin::pin, time::Duration};

use steadfast::{
    Context, Limit, Verdict,
    bulkhead::BulkheadLayer,
    classify::Failure,
    timeout::{FollowingTimeout, FollowingTimeoutBuilder, FollowingTimeoutHandle, TimeoutLayer},
};
use tokio::time::{Instant, advance};
use tower::{Layer, Service, ServiceExt};

use crate::support::{
    Act, Error, Scripted, Told, ms, poll_once, secs, send, send_and_drop, send_contained,
};

const MIN: Duration = ms(20);
const MAX: Duration = ms(5_000);
/// A slice of the window.
const SIXTH: Duration = secs(10);

fn builder() -> FollowingTimeoutBuilder {
    TimeoutLayer::builder_following(MIN, MAX).minimum_calls(10)
}

/// Follows the median, which many fast calls bring down at once.
fn median() -> FollowingTimeoutBuilder {
    builder().quantile(0.5)
}

fn build(builder: FollowingTimeoutBuilder) -> (FollowingTimeout<Scripted>, FollowingTimeoutHandle) {
    let layer = builder.build().unwrap();
    (layer.layer(Scripted::new().0), layer.handle())
}

/// Calls for a sixth of the window, and begins the next, in which the limit follows.
async fn for_a_sixth<S>(service: &mut S, act: Act)
where
    S: Service<Act, Response = u32, Error = Error>,
{
    let end = Instant::now() + SIXTH;
    while Instant::now() < end {
        let _ = send(service, act.clone()).await;
    }
}

#[track_caller]
fn assert_near(limit: Duration, expected: Duration) {
    let ratio = limit.as_secs_f64() / expected.as_secs_f64();
    assert!((0.96..1.04).contains(&ratio), "{limit:?} for {expected:?}");
}

#[tokio::test(start_paused = true)]
async fn it_is_the_longest_until_enough_is_known_and_then_half_as_long_again_as_the_quantile() {
    let (mut service, handle) = build(builder());
    assert_eq!((handle.limit(), handle.observed()), (MAX, None));
    for _ in 0..9 {
        send(&mut service, Act::Take(ms(100))).await.unwrap();
    }
    advance(SIXTH).await;
    send(&mut service, Act::Take(ms(100))).await.unwrap();
    assert_eq!(handle.limit(), MAX, "nine of ten");
    advance(SIXTH).await;
    send(&mut service, Act::Take(ms(100))).await.unwrap();
    assert_near(handle.observed().unwrap(), ms(100));
    assert_near(handle.limit(), ms(150));

    let before = Instant::now();
    let timed_out = send(&mut service, Act::Hang).await.unwrap_err().timed_out();
    assert_eq!(timed_out.limit(), Limit::Timeout);
    assert_near(before.elapsed(), ms(150));
}

#[tokio::test(start_paused = true)]
async fn it_follows_the_quantile_and_the_padding_it_is_told() {
    let (mut service, handle) = build(builder().quantile(0.5).padding(3.0).window(secs(6)));
    for call in 0..200 {
        let takes = if call % 5 < 3 { ms(30) } else { ms(40) };
        send(&mut service, Act::Take(takes)).await.unwrap();
    }
    assert_near(handle.limit(), ms(90));
}

#[tokio::test(start_paused = true)]
async fn it_is_never_below_its_lower_nor_above_its_upper_bound() {
    let (mut service, handle) = build(builder());
    for_a_sixth(&mut service, Act::Take(ms(10))).await;
    send(&mut service, Act::Take(ms(10))).await.unwrap();
    assert_eq!(handle.limit(), MIN, "15 ms");

    let (mut service, handle) = build(builder().minimum_calls(1));
    for_a_sixth(&mut service, Act::Take(ms(4_000))).await;
    send(&mut service, Act::Take(ms(4_000))).await.unwrap();
    assert!(handle.observed() > Some(ms(3_800)));
    assert_eq!(handle.limit(), MAX, "6 s");
}

#[tokio::test(start_paused = true)]
async fn in_an_outage_it_grows_by_its_padding_up_to_its_bound_and_comes_back_after_it() {
    let (mut service, handle) = build(builder());
    for_a_sixth(&mut service, Act::Take(ms(100))).await;
    let mut last = ms(149);
    let mut limits = Vec::new();
    for _ in 0..10 {
        for_a_sixth(&mut service, Act::Hang).await;
        send(&mut service, Act::Hang).await.unwrap_err();
        assert!(handle.limit() >= last && handle.limit() <= MAX);
        last = handle.limit();
        limits.push(last);
    }
    // 150 ms, 225 ms, …: what was cut at a limit is told by the end of its bucket.
    for pair in limits[..5].windows(2) {
        let growth = pair[1].as_secs_f64() / pair[0].as_secs_f64();
        assert!((1.45..1.65).contains(&growth), "{limits:?}");
    }
    assert_eq!(last, MAX);
    for _ in 0..8 {
        for_a_sixth(&mut service, Act::Take(ms(100))).await;
    }
    assert_near(handle.limit(), ms(150));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_becomes_slower_than_the_limit_is_followed() {
    let (mut service, handle) = build(builder());
    for_a_sixth(&mut service, Act::Take(ms(100))).await;
    for _ in 0..20 {
        for_a_sixth(&mut service, Act::Take(ms(1_000))).await;
    }
    assert_near(handle.limit(), ms(1_500));
}

/// Runs what is said of `$service` so often that it fills the window but for one sixth.
macro_rules! assert_not_lowered_by {
    ($service:ident => $what:expr) => {
        let (mut $service, handle) = build(median());
        for_a_sixth(&mut $service, Act::Take(ms(100))).await;
        send(&mut $service, Act::Take(ms(100))).await.unwrap();
        assert_near(handle.limit(), ms(150));
        for _ in 0..5 {
            for _ in 0..1_000 {
                $what;
            }
            advance(SIXTH).await;
            send(&mut $service, Act::Take(ms(100))).await.unwrap();
            assert_near(handle.limit(), ms(150));
        }
    };
}

#[tokio::test(start_paused = true)]
async fn calls_that_fail_do_not_count_as_fast() {
    assert_not_lowered_by!(service => send(&mut service, Act::Fail(1)).await.unwrap_err());
    assert_not_lowered_by!(service => {
        send(&mut service, Act::FailAfter(ms(1))).await.unwrap_err()
    });
}

#[tokio::test(start_paused = true)]
async fn calls_that_are_dropped_or_cut_by_their_deadline_do_not_count_as_fast() {
    assert_not_lowered_by!(service => {
        let mut call = pin!(service.ready().await.unwrap().call(Act::Hang));
        assert!(poll_once(call.as_mut()).is_pending());
        advance(ms(1)).await;
    });
    assert_not_lowered_by!(service => send_and_drop(&mut service, Act::Hang).await);
    assert_not_lowered_by!(service => {
        let context = Context::new().with_timeout(ms(1));
        let result = context.scope(send(&mut service, Act::Hang)).await;
        assert_eq!(result.unwrap_err().timed_out().limit(), Limit::Deadline);
    });
}

#[tokio::test(start_paused = true)]
async fn calls_that_are_dropped_late_count_as_slow() {
    let (mut service, handle) = build(builder().quantile(0.9));
    for _ in 0..100 {
        send(&mut service, Act::Take(ms(100))).await.unwrap();
        let call = service.ready().await.unwrap().call(Act::Hang);
        tokio::time::timeout(secs(1), call).await.unwrap_err();
    }
    // Half of them take longer than a second, and nobody knows how long.
    assert_eq!((handle.limit(), handle.observed()), (MAX, None));
}

#[tokio::test(start_paused = true)]
async fn calls_that_panic_or_are_refused_below_do_not_count_as_fast() {
    assert_not_lowered_by!(service => {
        send_contained(&service, Act::Panic).await.unwrap_err();
    });

    let layer = median().build().unwrap();
    let full = BulkheadLayer::new(1);
    let bulkhead = full.handle();
    let mut service = (layer.clone(), full).layer(Scripted::new().0);
    for_a_sixth(&mut service, Act::Take(ms(100))).await;
    bulkhead.resize(0);
    for _ in 0..10_000 {
        send(&mut service, Act::Succeed)
            .await
            .unwrap_err()
            .rejected();
    }
    bulkhead.resize(1);
    for_a_sixth(&mut service, Act::Take(ms(100))).await;
    send(&mut service, Act::Take(ms(100))).await.unwrap();
    assert_near(layer.handle().limit(), ms(150));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_judged_a_failure_does_not_count_as_fast() {
    let all_but_one = |result: Result<&u32, &Error>| match result {
        Ok(1) => Verdict::Success,
        _ => Failure::transient().into(),
    };
    let layer = median().classifier(all_but_one).build().unwrap();
    let mut service = layer.layer(tower::service_fn(|act: Act| async move {
        match act {
            Act::Take(takes) => {
                tokio::time::sleep(takes).await;
                Ok(1)
            }
            _ => Ok::<_, Error>(500),
        }
    }));
    for_a_sixth(&mut service, Act::Take(ms(100))).await;
    for _ in 0..10_000 {
        assert_eq!(send(&mut service, Act::Succeed).await, Ok(500));
    }
    for_a_sixth(&mut service, Act::Take(ms(100))).await;
    send(&mut service, Act::Take(ms(100))).await.unwrap();
    assert_near(layer.handle().limit(), ms(150));
}

#[tokio::test(start_paused = true)]
async fn an_error_that_is_judged_a_success_counts_whatever_was_refused_elsewhere() {
    let layer = builder().classifier(|_: Result<&u32, &Error>| Verdict::Success);
    let layer = layer.build().unwrap();
    let mut service = layer.layer(Scripted::new().0);
    let mut refusing = BulkheadLayer::new(0).layer(Scripted::new().0);
    for _ in 0..101 {
        let mut call = pin!(service.ready().await.unwrap().call(Act::FailAfter(ms(100))));
        assert!(poll_once(call.as_mut()).is_pending());
        advance(ms(100)).await;
        send(&mut refusing, Act::Succeed)
            .await
            .unwrap_err()
            .rejected();
        assert!(poll_once(call).is_ready());
    }
    assert_near(layer.handle().limit(), ms(150));
}

#[tokio::test(start_paused = true)]
async fn calls_that_are_answered_at_once_count_as_fast() {
    let (mut service, handle) = build(builder().quantile(0.9));
    for _ in 0..100 {
        send(&mut service, Act::Succeed).await.unwrap();
    }
    for _ in 0..10 {
        send(&mut service, Act::Take(ms(1_000))).await.unwrap();
    }
    assert!(handle.observed().unwrap() < ms(1));
    assert_eq!(handle.limit(), MIN);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_answered_at_once_needs_no_runtime() {
    let (mut service, _) = build(builder());
    let answered = std::thread::spawn(move || {
        let _ = poll_once(pin!(service.ready()));
        poll_once(pin!(service.call(Act::Succeed)))
    });
    assert_eq!(answered.join().unwrap(), std::task::Poll::Ready(Ok(1)));
}

#[tokio::test(start_paused = true)]
async fn all_services_of_a_layer_follow_together() {
    let layer = builder().build().unwrap();
    let mut first = layer.layer(Scripted::new().0);
    for_a_sixth(&mut first, Act::Take(ms(100))).await;
    send(&mut first, Act::Take(ms(100))).await.unwrap();
    let mut second = layer.clone().layer(Scripted::new().0);
    let timed_out = send(&mut second, Act::Hang).await.unwrap_err().timed_out();
    assert_near(timed_out.waited(), ms(150));
}

#[tokio::test(start_paused = true)]
async fn after_a_pause_the_first_calls_find_the_limit_from_before_and_the_next_the_longest() {
    let (mut service, handle) = build(builder());
    for_a_sixth(&mut service, Act::Take(ms(100))).await;
    send(&mut service, Act::Take(ms(100))).await.unwrap();
    advance(secs(3600)).await;
    assert_near(handle.limit(), ms(150));
    send(&mut service, Act::Take(ms(100))).await.unwrap();
    assert_eq!(handle.limit(), MAX);
}

#[test]
fn every_wrong_setting_is_refused_by_name_with_what_is_allowed() {
    #[track_caller]
    fn assert_refused<C>(builder: FollowingTimeoutBuilder<C>, setting: &str, allowed: &str) {
        let error = match builder.build() {
            Err(error) => error,
            Ok(_) => panic!("{setting} is not refused"),
        };
        assert_eq!((error.setting(), error.allowed()), (setting, allowed));
    }
    let bounds = TimeoutLayer::builder_following;
    assert_refused(bounds(ms(0), MAX), "min", "longer than zero");
    assert_refused(bounds(ms(3), ms(2)), "min", "at most the 2ms of `max`");
    assert!(bounds(ms(2), ms(2)).build().is_ok());
    assert!(bounds(ms(2), Duration::MAX).build().is_ok());
    for padding in [0.99, -1.0, f64::NAN, f64::INFINITY, 1000.1] {
        assert_refused(builder().padding(padding), "padding", "in 1..=1000");
    }
    assert!(builder().padding(1.0).build().is_ok());
    for quantile in [0.0, -0.5, 1.01, f64::NAN] {
        assert_refused(builder().quantile(quantile), "quantile", "in 0.000001..=1");
    }
    assert_refused(builder().window(ms(99)), "window", "at least 100 ms");
    assert!(builder().window(ms(100)).build().is_ok());
    assert!(builder().window(Duration::MAX).build().is_ok());
    assert_refused(builder().minimum_calls(0), "minimum_calls", "at least 1");
    assert!(builder().classifier(Told).build().is_ok());
}
