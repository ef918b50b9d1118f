//! Limits within limits.

use std::time::Duration;

use steadfast::{InvalidSetting, timeout::TimeoutLayer};
use tower::Layer;

use crate::support::{Act, Scripted, ms, secs, send};

fn total() -> TimeoutLayer {
    let builder = TimeoutLayer::builder(secs(2)).unwrap();
    builder.name("total").build()
}

fn told(error: &InvalidSetting) -> (&str, &str, &str) {
    (error.setting(), error.value(), error.allowed())
}

#[test]
fn the_limit_of_an_attempt_may_be_that_of_the_whole_but_not_longer() {
    let longer = secs(2) + Duration::from_nanos(1);
    assert_eq!(
        TimeoutLayer::within(&total(), secs(2)).unwrap().limit(),
        secs(2)
    );
    assert_eq!(
        TimeoutLayer::within(&total(), ms(1)).unwrap().limit(),
        ms(1)
    );
    let error = TimeoutLayer::within(&total(), longer).unwrap_err();
    let expected = ("timeout", "2.000000001s", "at most the 2s of `total`");
    assert_eq!(told(&error), expected);
    let error = TimeoutLayer::within(&total(), ms(0)).unwrap_err();
    assert_eq!(told(&error), ("timeout", "0ns", "longer than zero"));
}

#[tokio::test(start_paused = true)]
async fn an_attempts_limit_made_from_the_total_has_a_name_and_an_end_of_its_own() {
    let attempt = TimeoutLayer::builder_within(&total(), ms(300)).unwrap();
    let attempt = attempt.name("attempt").build();
    let mut service = (total(), attempt).layer(Scripted::new().0);
    let timed_out = send(&mut service, Act::Hang).await.unwrap_err().timed_out();
    assert_eq!(
        (timed_out.layer(), timed_out.waited()),
        ("attempt", ms(300))
    );
}

#[test]
fn what_must_end_within_a_limit_is_refused_where_it_is_longer() {
    assert_eq!(total().not_longer("max_wait", secs(2)), Ok(secs(2)));
    let error = total().not_longer("max_wait", ms(2_001)).unwrap_err();
    let expected = ("max_wait", "2.001s", "at most the 2s of `total`");
    assert_eq!(told(&error), expected);
}

#[test]
fn what_must_hold_a_call_of_the_full_limit_is_refused_where_it_is_shorter() {
    assert_eq!(total().not_shorter("time_window", secs(2)), Ok(secs(2)));
    let error = total().not_shorter("time_window", ms(1_999)).unwrap_err();
    let expected = ("time_window", "1.999s", "at least the 2s of `total`");
    assert_eq!(told(&error), expected);
}
