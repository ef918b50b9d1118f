//! A throttle for each key.

use steadfast::{
    classify::Failure,
    keyed::by_ref,
    throttle::{KeyedThrottleHandle, Mode},
};

use super::*;

/// A request to a host.
#[derive(Clone, Debug)]
struct To(&'static str, Act);

fn host(to: &To) -> &str {
    to.0
}

/// A throttle for each of two hosts, above a scripted service.
fn two() -> (
    impl Service<To, Response = u32, Error = Error>,
    KeyedThrottleHandle<String>,
) {
    let layer = builder().keyed(2, by_ref(host)).build().unwrap();
    let act = |To(_, act)| act;
    (
        layer.layer(Scripted::new().0.map_request(act)),
        layer.handle(),
    )
}

async fn refused<S>(service: &mut S, host: &'static str, act: Act, calls: u32) -> u32
where
    S: Service<To, Response = u32, Error = Error>,
{
    let mut refused = 0;
    for _ in 0..calls {
        let result = service
            .ready()
            .await
            .unwrap()
            .call(To(host, act.clone()))
            .await;
        refused += u32::from(matches!(result, Err(Error::Rejected(_))));
    }
    refused
}

#[tokio::test(start_paused = true)]
async fn a_host_pays_for_its_own_overload_alone() {
    let (mut throttle, handle) = two();
    assert!(refused(&mut throttle, "busy", overloaded(), 100).await > 50);
    assert_eq!(refused(&mut throttle, "idle", Act::Succeed, 100).await, 0);
    let of = |host: &str| counts(&handle.get(host).unwrap(), CRITICAL);
    assert_eq!((of("busy"), of("idle")), ((100, 0), (100, 100)));
    assert_eq!((handle.key_count(), handle.keys().len()), (2, 2));
    assert_eq!((handle.name(), handle.get("other").is_none()), ("db", true));
}

#[tokio::test(start_paused = true)]
async fn the_key_of_which_nothing_is_refused_is_forgotten_first() {
    let (mut throttle, handle) = two();
    refused(&mut throttle, "busy", overloaded(), 100).await;
    refused(&mut throttle, "idle", Act::Succeed, 100).await;
    for host in ["a", "b", "c"] {
        refused(&mut throttle, host, Act::Succeed, 1).await;
        assert!(handle.get("busy").is_some());
        assert!(handle.get("idle").is_none());
    }
    advance(secs(10)).await;
    for host in ["d", "e"] {
        refused(&mut throttle, host, Act::Succeed, 1).await;
    }
    assert!(handle.get("busy").is_none(), "it was at rest by then");
}

#[tokio::test(start_paused = true)]
async fn a_key_without_room_passes() {
    let (mut throttle, handle) = two();
    for host in ["a", "b"] {
        refused(&mut throttle, host, overloaded(), 10).await;
    }
    let pins = ["a", "b"].map(|host| handle.get(host).unwrap());
    assert_eq!(refused(&mut throttle, "c", overloaded(), 100).await, 0);
    assert_eq!(handle.key_count(), 2);
    drop(pins);
}

#[tokio::test(start_paused = true)]
async fn the_mode_is_that_of_all_keys() {
    let (mut throttle, handle) = two();
    refused(&mut throttle, "a", overloaded(), 100).await;
    handle.set_mode(Mode::ObserveOnly);
    assert_eq!(refused(&mut throttle, "a", overloaded(), 100).await, 0);
    assert_eq!(refused(&mut throttle, "b", overloaded(), 100).await, 0);
    handle.get("a").unwrap().set_mode(Mode::Enabled);
    assert_eq!(handle.mode(), Mode::Enabled);
    assert!(refused(&mut throttle, "b", overloaded(), 100).await > 50);
    handle.get("a").unwrap().reset();
    assert_eq!(counts(&handle.get("a").unwrap(), CRITICAL), (0, 0));
}

#[test]
fn no_keys_are_refused_by_name() {
    let error = builder().keyed(0, by_ref(host)).build().unwrap_err();
    assert_eq!(
        (error.setting(), error.allowed()),
        ("max_keys", "at least 1")
    );
    let bad = builder().multiplier(0.5).keyed(1, by_ref(host));
    assert_eq!(bad.build().unwrap_err().setting(), "multiplier");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_was_idle_for_long_is_forgotten_when_another_comes() {
    let keyed = builder().keyed(10, by_ref(host)).idle_time(secs(60));
    let layer = keyed.build().unwrap();
    let mut throttle = layer.layer(Scripted::new().0.map_request(|To(_, act)| act));
    refused(&mut throttle, "a", say(Failure::transient()), 1).await;
    for host in ["b", "c", "d"] {
        advance(secs(60)).await;
        refused(&mut throttle, host, Act::Succeed, 1).await;
    }
    assert!(layer.handle().get("a").is_none());
}
