//! A rate that is learned from throttling answers.

use steadfast::{
    keyed::by_ref,
    throttle::rate::{
        AdaptiveRate, AdaptiveRateBuilder, AdaptiveRateHandle, AdaptiveRateLayer, Mode as RateMode,
    },
};

use super::*;
use crate::support::Watch;

fn rate_builder() -> AdaptiveRateBuilder<Told> {
    AdaptiveRateLayer::builder(Told).name("api")
}

/// One below which 100 calls a second were made when one was throttled, and so with a rate of 70 and all
/// that may be saved up spent.
async fn limited(
    builder: AdaptiveRateBuilder<Told>,
) -> (AdaptiveRate<Scripted, Told>, AdaptiveRateHandle, Watch) {
    let layer = builder.build().unwrap();
    let (service, watch) = Scripted::new();
    let mut rate = layer.layer(service);
    for _ in 0..500 {
        advance(ms(10)).await;
        send(&mut rate, Act::Succeed).await.unwrap();
    }
    assert_eq!(layer.handle().snapshot().rate, None);
    let _ = send(&mut rate, overloaded()).await;
    let limit = layer.handle().snapshot().rate.unwrap();
    assert!((69.0..71.0).contains(&limit), "{limit}");
    send(&mut rate, say(Failure::never_sent()))
        .await
        .unwrap_err(); // has the first turn
    (rate, layer.handle(), watch)
}

/// How long it is from one call to the next.
const GAP: Duration = Duration::from_micros(14_286);

fn is_about(found: Duration, expected: Duration) {
    let off = found.abs_diff(expected);
    assert!(off < ms(1), "{found:?}, not {expected:?}");
}

fn rejected(result: Result<u32, Error>) -> Rejected {
    match result {
        Err(Error::Rejected(rejected)) => rejected,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn all_calls_pass_until_one_is_throttled() {
    let layer = rate_builder().build().unwrap();
    let mut rate = layer.layer(Scripted::new().0);
    for _ in 0..10_000 {
        send(&mut rate, Act::Succeed).await.unwrap();
        let _ = send(&mut rate, say(Failure::transient())).await;
    }
    assert_eq!(layer.handle().snapshot().rate, None);
}

#[tokio::test(start_paused = true)]
async fn what_has_no_turn_is_refused_at_once_and_told_when_there_is_one() {
    let (mut rate, _, watch) = limited(rate_builder()).await;
    let calls = watch.calls();
    let refusal = rejected(send(&mut rate, Act::Succeed).await);
    assert_eq!(
        (refusal.layer(), refusal.reason()),
        ("api", Reason::Throttled)
    );
    assert_eq!(watch.calls(), calls, "it is not sent");
    let after = refusal.retry_after().unwrap();
    is_about(after, GAP);
    advance(after - Duration::from_nanos(1)).await;
    rejected(send(&mut rate, Act::Succeed).await);
    advance(Duration::from_nanos(1)).await;
    send(&mut rate, Act::Succeed).await.unwrap();
    rejected(send(&mut rate, Act::Succeed).await);
}

#[tokio::test(start_paused = true)]
async fn what_is_saved_up_goes_at_once() {
    for (burst, expected) in [(secs(1), 70), (ms(100), 7), (Duration::ZERO, 1)] {
        let (mut rate, handle, _) = limited(rate_builder().burst(burst)).await;
        advance(secs(4)).await;
        let mut passed = 0_u32;
        // Ignored answers change no rate.
        while !matches!(
            send(&mut rate, Act::Say(Verdict::Ignored)).await,
            Err(Error::Rejected(_))
        ) {
            passed += 1;
        }
        let limit = handle.snapshot().rate.unwrap();
        assert!((69.0..71.0).contains(&limit), "{limit}");
        assert!(passed.abs_diff(expected) <= 1, "{burst:?}: {passed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_for_its_turn_and_no_longer_than_it_may() {
    let (rate, _, watch) = limited(rate_builder().max_wait(ms(50))).await;
    let calls = watch.calls();
    let began = tokio::time::Instant::now();
    let mut waiting = Vec::new();
    for _ in 0..5 {
        let mut rate = rate.clone();
        waiting.push(tokio::spawn(async move {
            let result = send(&mut rate, Act::Succeed).await;
            (began.elapsed(), result)
        }));
        tokio::task::yield_now().await;
    }
    assert_eq!(watch.calls(), calls);
    for (n, call) in waiting.into_iter().enumerate() {
        let (after, result) = call.await.unwrap();
        if n < 3 {
            result.unwrap();
            // Timers have a grain of a millisecond.
            let expected = GAP * (n as u32 + 1);
            assert!(
                after >= expected - ms(1) && after < expected + ms(2),
                "{n}: {after:?}"
            );
        } else {
            assert_eq!(after, Duration::ZERO, "it is known at once");
            is_about(rejected(result).retry_after().unwrap(), GAP * 4);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_does_not_wait_for_a_turn_after_its_deadline() {
    let (mut rate, _, _) = limited(rate_builder().max_wait(secs(1))).await;
    let mut within = async |timeout| {
        let context = Context::new().with_timeout(timeout);
        context.scope(send(&mut rate, Act::Succeed)).await
    };
    let began = tokio::time::Instant::now();
    let refusal = rejected(within(ms(14)).await);
    assert_eq!(refusal.reason(), Reason::Throttled);
    assert_eq!(began.elapsed(), Duration::ZERO);
    // It has passed at the deadline itself.
    let after = refusal.retry_after().unwrap();
    assert_eq!(rejected(within(after).await).reason(), Reason::Throttled);
    assert_eq!(began.elapsed(), Duration::ZERO);
    within(ms(16)).await.unwrap();
    // Where there is a turn, the deadline is for others to look at.
    advance(secs(1)).await;
    within(Duration::ZERO).await.unwrap();
}

/// Polls once, so that the call has its turn.
async fn begin<S>(rate: &mut S, act: Act) -> std::pin::Pin<Box<S::Future>>
where
    S: Service<Act, Response = u32, Error = Error>,
{
    let mut call = Box::pin(rate.ready().await.unwrap().call(act));
    assert!(poll_once(call.as_mut()).is_pending());
    call
}

/// When the next call would go.
async fn next_turn<S>(rate: &mut S) -> Duration
where
    S: Service<Act, Response = u32, Error = Error>,
{
    let context = Context::new().with_timeout(Duration::ZERO);
    let result = context.scope(send(rate, Act::Succeed)).await;
    rejected(result).retry_after().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_while_it_waits_gives_its_turn_back() {
    let (mut rate, _, watch) = limited(rate_builder().max_wait(secs(1))).await;
    let calls = watch.calls();
    is_about(next_turn(&mut rate).await, GAP);
    let first = begin(&mut rate, Act::Succeed).await;
    let mut second = begin(&mut rate, Act::Succeed).await;
    is_about(next_turn(&mut rate).await, GAP * 3);
    drop(first);
    is_about(next_turn(&mut rate).await, GAP * 2);
    // Who waits goes as told.
    advance(GAP).await;
    assert!(poll_once(second.as_mut()).is_pending());
    advance(GAP + ms(2)).await;
    assert!(poll_once(second.as_mut()).is_ready());
    assert_eq!(watch.calls(), calls + 1);
}

#[tokio::test(start_paused = true)]
async fn a_turn_is_taken_when_the_call_is_first_polled_and_spent_once_it_is_made() {
    let (mut rate, _, watch) = limited(rate_builder().max_wait(secs(1))).await;
    drop(rate.ready().await.unwrap().call(Act::Succeed));
    is_about(next_turn(&mut rate).await, GAP);
    advance(secs(1)).await;
    let calls = watch.calls();
    let hanging = begin(&mut rate, Act::Hang).await;
    assert_eq!(watch.calls(), calls + 1);
    // All that is saved up but one.
    let mut made = 0;
    while poll_once(pin!(
        rate.ready().await.unwrap().call(Act::Say(Verdict::Ignored))
    ))
    .is_ready()
    {
        made += 1;
    }
    assert!((68..=70).contains(&made), "{made}");
    let before = next_turn(&mut rate).await;
    drop(hanging);
    assert_eq!(next_turn(&mut rate).await, before);
}

#[tokio::test(start_paused = true)]
async fn who_sleeps_through_the_deadline_is_refused_and_his_turn_given_back() {
    let (mut rate, _, watch) = limited(rate_builder().max_wait(secs(1))).await;
    let calls = watch.calls();
    let context = Context::new().with_timeout(ms(20));
    let mut call = Box::pin(context.scope(async {
        let call = rate.ready().await.unwrap().call(Act::Succeed);
        call.await
    }));
    assert!(poll_once(call.as_mut()).is_pending());
    advance(ms(20)).await;
    let refusal = rejected(call.await);
    assert_eq!(refusal.reason(), Reason::DeadlineExceeded);
    assert_eq!(watch.calls(), calls);
    send(&mut rate, Act::Succeed).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn only_what_the_service_answers_is_measured() {
    let layer = rate_builder().build().unwrap();
    let mut rate = layer.layer(Scripted::new().0);
    let measured = || layer.handle().snapshot().measured_rate;
    let unheard = [
        Act::Say(Verdict::Ignored),
        say(Failure::never_sent()),
        Act::Hang,
    ];
    for act in unheard {
        send_and_drop(&mut rate, act).await;
    }
    send_contained(&rate, Act::Panic).await.unwrap_err();
    send_contained(&rate, Act::PanicInCall).await.unwrap_err();
    assert_eq!(measured(), 0.0);
    let answered = [
        Act::Succeed,
        Act::Fail(1),
        say(Failure::timeout()),
        say(Failure::permanent()),
    ];
    for act in answered {
        let _ = send(&mut rate, act).await;
    }
    assert_eq!(measured(), 8.0, "in half a second");
}

#[tokio::test(start_paused = true)]
async fn one_that_only_observes_makes_nobody_wait_and_tells_what_it_would_refuse() {
    let (mut rate, handle, watch) = limited(rate_builder().max_wait(ms(50))).await;
    handle.set_mode(RateMode::ObserveOnly);
    let (calls, before) = (watch.calls(), handle.snapshot().rate);
    let began = tokio::time::Instant::now();
    for _ in 0..100 {
        send(&mut rate, Act::Succeed).await.unwrap();
    }
    // What it would have refused tells nothing.
    send(&mut rate, overloaded()).await.unwrap_err();
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(watch.calls(), calls + 101);
    assert_eq!(handle.snapshot().rate, before);
    handle.set_mode(RateMode::Enabled);
    rejected(send(&mut rate, Act::Succeed).await);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_disabled_is_as_if_it_were_not_there() {
    let layer = rate_builder().mode(RateMode::Disabled).build().unwrap();
    let mut rate = layer.layer(Scripted::new().0);
    let _ = send(&mut rate, overloaded()).await;
    send(&mut rate, Act::Succeed).await.unwrap();
    let snapshot = layer.handle().snapshot();
    assert_eq!((snapshot.rate, snapshot.measured_rate), (None, 0.0));
    assert_eq!(layer.handle().mode(), RateMode::Disabled);
    layer.handle().set_mode(RateMode::Enabled);
    let _ = send(&mut rate, overloaded()).await;
    assert!(layer.handle().snapshot().rate.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_limit_ends_when_it_is_told_to_and_when_all_went_well_for_long() {
    let (mut rate, handle, _) = limited(rate_builder().forget_after(secs(60))).await;
    assert_eq!(handle.name(), "api");
    handle.reset();
    assert_eq!(handle.snapshot().rate, None);
    for _ in 0..1_000 {
        send(&mut rate, Act::Succeed).await.unwrap();
    }
    let _ = send(&mut rate, overloaded()).await;
    assert!(handle.snapshot().rate.is_some());
    advance(secs(60)).await;
    for _ in 0..10_000 {
        send(&mut rate, Act::Succeed).await.unwrap();
    }
    assert_eq!(handle.snapshot().rate, None);
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let hours = secs(3601);
    let refused = [
        (rate_builder().max_wait(hours), "max_wait"),
        (rate_builder().max_wait(Duration::MAX), "max_wait"),
        (rate_builder().burst(hours), "burst"),
        (rate_builder().min_rate(0.0), "min_rate"),
        (rate_builder().min_rate(f64::NAN), "min_rate"),
        (rate_builder().min_rate(f64::INFINITY), "min_rate"),
        (rate_builder().forget_after(ms(999)), "forget_after"),
    ];
    for (builder, setting) in refused {
        assert_eq!(builder.build().unwrap_err().setting(), setting);
    }
    let widest = rate_builder().max_wait(secs(3600)).burst(secs(3600));
    let widest = widest.min_rate(1e9).forget_after(Duration::MAX);
    let _ = widest.build().unwrap();
    let _ = rate_builder()
        .burst(Duration::ZERO)
        .min_rate(0.001)
        .build()
        .unwrap();
}

/// A request to a host.
#[derive(Clone, Debug)]
struct To(&'static str, Act);

#[tokio::test(start_paused = true)]
async fn a_key_pays_for_its_own_throttling_alone_and_is_kept_while_it_does() {
    let keyed = rate_builder().min_rate(1.0).forget_after(secs(60));
    let keyed = keyed.keyed(2, by_ref(|To(host, _): &To| *host));
    let layer = keyed.build().unwrap();
    let act = |To(_, act)| act;
    let mut rate = layer.layer(Scripted::new().0.map_request(act));
    let mut send = async |host, act| rate.ready().await.unwrap().call(To(host, act)).await;
    let handle = layer.handle();
    send("busy", overloaded()).await.unwrap_err();
    rejected(match send("busy", Act::Succeed).await {
        Ok(_) => send("busy", Act::Succeed).await,
        refused => refused,
    });
    for host in ["a", "b", "c"] {
        for _ in 0..100 {
            send(host, Act::Succeed).await.unwrap();
        }
        assert_eq!(handle.get(host).unwrap().snapshot().rate, None);
        let busy = handle.get("busy").expect("it says something worth keeping");
        assert!(busy.snapshot().rate.is_some());
    }
    assert_eq!((handle.name(), handle.key_count()), ("api", 2));
    assert_eq!(handle.keys().len(), 2);
    handle.set_mode(RateMode::Disabled);
    assert_eq!(handle.mode(), RateMode::Disabled);
    for _ in 0..100 {
        send("busy", Act::Succeed).await.unwrap();
    }
    handle.set_mode(RateMode::Enabled);
    // When all went well for long it may go.
    advance(secs(60)).await;
    for host in ["d", "e"] {
        send(host, Act::Succeed).await.unwrap();
    }
    assert!(handle.get("busy").is_none());
}

#[test]
fn no_keys_are_refused_by_name() {
    let none = rate_builder().keyed(0, by_ref(|To(host, _): &To| *host));
    assert_eq!(none.build().unwrap_err().setting(), "max_keys");
    let bad = rate_builder()
        .min_rate(0.0)
        .keyed(1, by_ref(|To(host, _): &To| *host));
    assert_eq!(bad.build().unwrap_err().setting(), "min_rate");
}
