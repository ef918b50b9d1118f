//! What the layers tell: metrics by name and label, one event for each decision.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use metrics::with_local_recorder;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use steadfast::{
    Context, Criticality,
    adaptive::{self, AdaptiveLayer, Limit, Sample, Sampling},
    backoff::{Backoff, Jitter},
    budget::Budget,
    bulkhead::{BulkheadLayer, Queue, QueuedBulkheadLayer},
    circuit_breaker::{CircuitBreakerLayer, Mode},
    classify::Failure,
    load_shed::{LoadShedLayer, Mode as LoadShedMode},
    partitions::Partitions,
    retry::{CloneRequest, RetryLayer},
    throttle::{self, ThrottleLayer, rate::AdaptiveRateLayer},
    timeout::TimeoutLayer,
};
use tokio::time::advance;
use tower::{Layer, Service, ServiceExt};
use tracing_subscriber::{Layer as _, layer::SubscriberExt};

use crate::support::{
    Act, Error, Scripted, Told, ms, poll_once, secs, send, send_and_drop, send_contained,
};

/// Copies every request, and says of none that it may be repeated.
#[derive(Clone, Copy, Debug)]
struct Unsafe;

impl CloneRequest<Act> for Unsafe {
    fn clone_request(&self, act: &Act) -> Option<Act> {
        Some(act.clone())
    }

    fn may_repeat(&self, _: &Act) -> bool {
        false
    }
}

/// What a recorder holds, as `name{label=value,…}` in the order of the labels, `name` left out.
struct Metrics(Snapshotter);

impl Metrics {
    fn record<T>(build: impl FnOnce() -> T) -> (T, Self) {
        let recorder = DebuggingRecorder::new();
        let built = with_local_recorder(&recorder, build);
        (built, Self(recorder.snapshotter()))
    }

    /// Everything that is not zero; of a histogram the sum. Counters, and gauges that are only moved,
    /// start again from zero.
    fn take(&self) -> BTreeMap<String, f64> {
        let mut all = BTreeMap::new();
        for (key, _, _, value) in self.0.snapshot().into_vec() {
            let value = match value {
                DebugValue::Counter(count) => count as f64,
                DebugValue::Gauge(value) => value.into_inner(),
                DebugValue::Histogram(values) => {
                    values.iter().map(|value| value.into_inner()).sum()
                }
            };
            let key = key.key();
            let mut labels: Vec<_> = key.labels().map(|l| (l.key(), l.value())).collect();
            labels.sort_unstable();
            let named = labels.contains(&("name", "db"));
            assert!(named, "{} lacks the layer's name", key.name());
            let rest = labels.iter().filter(|(name, _)| *name != "name");
            let rest: Vec<_> = rest.map(|(_, value)| *value).collect();
            if value != 0.0 {
                let name = key.name().trim_start_matches("steadfast_");
                all.insert(format!("{name}{rest:?}"), value);
            }
        }
        all
    }
}

/// The counts in `expected`, and no others, under `prefix`.
#[track_caller]
fn assert_metrics(all: &BTreeMap<String, f64>, prefix: &str, expected: &[(&str, f64)]) {
    let found: Vec<_> = all
        .iter()
        .filter(|(key, _)| key.starts_with(prefix))
        .collect();
    let found: Vec<_> = found
        .into_iter()
        .map(|(key, value)| (key.as_str(), *value))
        .collect();
    assert_eq!(found, expected);
}

#[tokio::test(start_paused = true)]
async fn a_breaker_tells_how_calls_end_and_which_one_state_it_is_in() {
    let (layer, metrics) = Metrics::record(|| {
        CircuitBreakerLayer::builder()
            .name("db")
            .consecutive_failures(2)
            .open_time(Backoff::constant(secs(1)).with_jitter(Jitter::None))
            .half_open_probes(1)
            .build()
            .unwrap()
    });
    let state = "circuit_breaker_state";
    assert_metrics(
        &metrics.take(),
        state,
        &[(r#"circuit_breaker_state["closed"]"#, 1.0)],
    );

    let mut breaker = layer.layer(Scripted::new().0);
    send(&mut breaker, Act::Succeed).await.unwrap();
    send_and_drop(&mut breaker, Act::Hang).await;
    send(&mut breaker, Act::Fail(1)).await.unwrap_err();
    send_contained(&breaker, Act::Panic).await.unwrap_err();
    send(&mut breaker, Act::Succeed).await.unwrap_err();
    send(&mut breaker, Act::Succeed).await.unwrap_err();
    let all = metrics.take();
    let calls = [
        (r#"calls_total["circuit_breaker", "abandoned"]"#, 1.0),
        (r#"calls_total["circuit_breaker", "failure"]"#, 1.0),
        (r#"calls_total["circuit_breaker", "panicked"]"#, 1.0),
        (r#"calls_total["circuit_breaker", "rejected"]"#, 2.0),
        (r#"calls_total["circuit_breaker", "success"]"#, 1.0),
    ];
    assert_metrics(&all, "calls", &calls);
    let rejected = [(r#"rejected_total["circuit_breaker", "circuit_open"]"#, 2.0)];
    assert_metrics(&all, "rejected", &rejected);
    assert_metrics(&all, state, &[(r#"circuit_breaker_state["open"]"#, 1.0)]);
    let transitions = "circuit_breaker_transitions";
    assert_metrics(
        &all,
        transitions,
        &[(r#"circuit_breaker_transitions_total["open"]"#, 1.0)],
    );

    advance(secs(1)).await;
    let mut probe = Box::pin(breaker.ready().await.unwrap().call(Act::Take(ms(1))));
    assert!(poll_once(probe.as_mut()).is_pending());
    assert_metrics(
        &metrics.take(),
        state,
        &[(r#"circuit_breaker_state["half_open"]"#, 1.0)],
    );
    probe.await.unwrap();
    assert_metrics(
        &metrics.take(),
        state,
        &[(r#"circuit_breaker_state["closed"]"#, 1.0)],
    );
    layer.handle().force_open();
    assert_metrics(
        &metrics.take(),
        state,
        &[(r#"circuit_breaker_state["forced_open"]"#, 1.0)],
    );
}

#[tokio::test(start_paused = true)]
async fn a_breaker_that_closes_tells_how_long_it_was_open() {
    let (layer, metrics) = Metrics::record(|| {
        CircuitBreakerLayer::builder()
            .name("db")
            .consecutive_failures(1)
            .open_time(Backoff::constant(secs(2)).with_jitter(Jitter::None))
            .half_open_probes(1)
            .build()
            .unwrap()
    });
    let events = Events::default();
    let subscriber = tracing_subscriber::registry().with(events.clone().boxed());
    let _guard = tracing::subscriber::set_default(subscriber);

    let mut breaker = layer.layer(Scripted::new().0);
    send(&mut breaker, Act::Fail(1)).await.unwrap_err();
    advance(secs(2)).await;
    send(&mut breaker, Act::Fail(1)).await.unwrap_err();
    let open_seconds = "circuit_breaker_open_seconds";
    assert_metrics(&metrics.take(), open_seconds, &[]);
    advance(secs(3)).await;
    send(&mut breaker, Act::Succeed).await.unwrap();
    let expected = [("circuit_breaker_open_seconds[]", 5.0)];
    assert_metrics(&metrics.take(), open_seconds, &expected);
    let last = events.0.lock().unwrap().pop();
    let expected = r#"state changed layer="circuit_breaker" name="db" from="half_open" to="closed" cause="probes_succeeded" mode="enabled" open_for=5s"#;
    assert_eq!(last.as_deref(), Some(expected));
}

#[tokio::test(start_paused = true)]
async fn a_breaker_that_observes_tells_its_mode_and_what_it_would_refuse() {
    let (layer, metrics) = Metrics::record(|| {
        CircuitBreakerLayer::builder()
            .name("db")
            .consecutive_failures(1)
            .mode(Mode::ObserveOnly)
            .build()
            .unwrap()
    });
    let events = Events::default();
    let subscriber = tracing_subscriber::registry().with(events.clone().boxed());
    let _guard = tracing::subscriber::set_default(subscriber);

    let mut breaker = layer.layer(Scripted::new().0);
    for _ in 0..3 {
        let failed = send(&mut breaker, Act::Fail(1)).await;
        assert_eq!(failed, Err(Error::Failed(1)));
    }
    let all = metrics.take();
    let breaker_metrics = [
        (r#"circuit_breaker_mode["observe_only"]"#, 1.0),
        ("circuit_breaker_spared_total[]", 2.0),
        (r#"circuit_breaker_state["open"]"#, 1.0),
        (r#"circuit_breaker_transitions_total["open"]"#, 1.0),
    ];
    assert_metrics(&all, "circuit_breaker", &breaker_metrics);
    let calls = [(r#"calls_total["circuit_breaker", "failure"]"#, 3.0)];
    assert_metrics(&all, "calls", &calls);
    assert_metrics(&all, "rejected", &[]);

    layer.handle().set_mode(Mode::Enabled);
    let mode = [(r#"circuit_breaker_mode["enabled"]"#, 1.0)];
    assert_metrics(&metrics.take(), "circuit_breaker_mode", &mode);
    let events = events.0.lock().unwrap();
    let spared =
        r#"call would be rejected layer="circuit_breaker" name="db" reason="circuit_open""#;
    let expected = [
        r#"state changed layer="circuit_breaker" name="db" from="closed" to="open" cause="consecutive_failures" mode="observe_only""#,
        spared,
        spared,
        r#"mode changed layer="circuit_breaker" name="db" from="observe_only" to="enabled""#,
    ];
    assert_eq!(*events, expected);
}

#[tokio::test(start_paused = true)]
async fn a_breaker_that_is_disabled_tells_nothing_of_its_calls() {
    let (layer, metrics) = Metrics::record(|| {
        let builder = CircuitBreakerLayer::builder().name("db");
        builder.mode(Mode::Disabled).build().unwrap()
    });
    let mut breaker = layer.layer(Scripted::new().0);
    send(&mut breaker, Act::Succeed).await.unwrap();
    send(&mut breaker, Act::Fail(1)).await.unwrap_err();
    send_and_drop(&mut breaker, Act::Hang).await;
    send_contained(&breaker, Act::Panic).await.unwrap_err();
    let all = metrics.take();
    assert_metrics(&all, "calls", &[]);
    let state = [(r#"circuit_breaker_state["disabled"]"#, 1.0)];
    assert_metrics(&all, "circuit_breaker_state", &state);
}

fn small_bulkhead() -> (QueuedBulkheadLayer, Metrics) {
    Metrics::record(|| {
        let queue = Queue::fifo(1, ms(10));
        BulkheadLayer::builder(1).name("db").queue(queue).build()
    })
}

#[tokio::test(start_paused = true)]
async fn a_bulkhead_tells_its_permits_in_use() {
    let (layer, metrics) = small_bulkhead();
    let mut bulkhead = layer.layer(Scripted::new().0);
    let mut running = Box::pin(bulkhead.call(Act::Hang));
    assert!(poll_once(running.as_mut()).is_pending());
    let mut waiting = Box::pin(bulkhead.call(Act::Succeed));
    assert!(poll_once(waiting.as_mut()).is_pending());
    send(&mut bulkhead, Act::Succeed).await.unwrap_err();
    let all = metrics.take();
    let gauges = [
        ("bulkhead_in_flight[]", 1.0),
        ("bulkhead_limit[]", 1.0),
        ("bulkhead_waiting[]", 1.0),
    ];
    assert_metrics(&all, "bulkhead", &gauges);
    let rejected = [(r#"rejected_total["bulkhead", "bulkhead_full"]"#, 1.0)];
    assert_metrics(&all, "rejected", &rejected);
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_is_divided_tells_what_each_partition_has_and_is_refused() {
    let by: fn(&Act) -> &str = |act| match act {
        Act::Hang => "batch",
        _ => "live",
    };
    let partitions = Partitions::by(by).share("live", 3).share("batch", 1);
    let (layer, metrics) = Metrics::record(|| {
        let builder = BulkheadLayer::builder(4).name("db");
        builder.partitions(partitions.clone()).build().unwrap()
    });
    let mut bulkhead = layer.layer(Scripted::new().0);
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(bulkhead.ready().await.unwrap().call(Act::Hang));
    }
    send(&mut bulkhead, Act::Succeed).await.unwrap_err();
    let expected = [
        (r#"partition_in_flight["bulkhead", "batch"]"#, 4.0),
        (r#"partition_rejected_total["bulkhead", "live"]"#, 1.0),
        (r#"partition_share["bulkhead", "batch"]"#, 1.0),
        (r#"partition_share["bulkhead", "live"]"#, 3.0),
    ];
    assert_metrics(&metrics.take(), "partition", &expected);
    drop(held);
    layer.handle().resize(8);
    let expected = [
        (r#"partition_in_flight["bulkhead", "batch"]"#, -4.0),
        (r#"partition_share["bulkhead", "batch"]"#, 2.0),
        (r#"partition_share["bulkhead", "live"]"#, 6.0),
    ];
    assert_metrics(&metrics.take(), "partition", &expected);

    let (layer, metrics) = Metrics::record(|| {
        let builder = AdaptiveLayer::builder().name("db").initial_limit(4);
        builder.partitions(partitions).build().unwrap()
    });
    let mut adaptive = layer.layer(Scripted::new().0);
    let held = adaptive.ready().await.unwrap().call(Act::Hang);
    let expected = [
        (r#"partition_in_flight["adaptive", "batch"]"#, 1.0),
        (r#"partition_share["adaptive", "batch"]"#, 1.0),
        (r#"partition_share["adaptive", "live"]"#, 3.0),
    ];
    assert_metrics(&metrics.take(), "partition", &expected);
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn a_bulkhead_tells_what_its_queue_refuses_because_it_stands() {
    let (layer, metrics) = Metrics::record(|| {
        let queue = Queue::codel(9, secs(9)).target(ms(1), ms(2)).unwrap();
        BulkheadLayer::builder(1).name("db").queue(queue).build()
    });
    let mut bulkhead = layer.layer(Scripted::new().0);
    let mut begin = || {
        let mut call = Box::pin(bulkhead.call(Act::Hang));
        assert!(poll_once(call.as_mut()).is_pending());
        call
    };
    let (mut running, mut waiting) = (begin(), begin());
    for _ in 0..2 {
        advance(ms(3)).await;
        drop(running);
        (running, waiting) = (waiting, begin());
        assert!(poll_once(running.as_mut()).is_pending());
    }
    let mut late = begin();
    advance(ms(3)).await;
    drop(running);
    assert!(poll_once(waiting.as_mut()).is_pending(), "the first runs");
    drop(waiting);
    assert!(poll_once(late.as_mut()).is_ready());
    let all = metrics.take();
    let rejected = [(r#"rejected_total["bulkhead", "overloaded"]"#, 1.0)];
    assert_metrics(&all, "rejected", &rejected);
    assert_metrics(&all, "bulkhead", &[("bulkhead_limit[]", 1.0)]);
}

#[tokio::test(start_paused = true)]
async fn its_gauges_are_right_again_after_a_drop_a_panic_and_a_wait_in_vain() {
    let (layer, metrics) = small_bulkhead();
    let mut bulkhead = layer.layer(Scripted::new().0);
    let mut running = Box::pin(bulkhead.call(Act::Hang));
    assert!(poll_once(running.as_mut()).is_pending());
    bulkhead.call(Act::Succeed).await.unwrap_err();
    drop(running);
    send_contained(&bulkhead, Act::Panic).await.unwrap_err();
    send(&mut bulkhead, Act::Fail(1)).await.unwrap_err();
    layer.handle().resize(5);

    let all = metrics.take();
    assert_metrics(&all, "bulkhead", &[("bulkhead_limit[]", 5.0)]);
    let calls = [
        (r#"calls_total["bulkhead", "abandoned"]"#, 1.0),
        (r#"calls_total["bulkhead", "completed"]"#, 1.0),
        (r#"calls_total["bulkhead", "panicked"]"#, 1.0),
        (r#"calls_total["bulkhead", "rejected"]"#, 1.0),
    ];
    assert_metrics(&all, "calls", &calls);
    let rejected = [(r#"rejected_total["bulkhead", "queue_timeout"]"#, 1.0)];
    assert_metrics(&all, "rejected", &rejected);
}

#[tokio::test(start_paused = true)]
async fn a_keyed_bulkhead_tells_its_permits_over_all_keys_and_what_became_of_keys() {
    let by_time = |act: &Act| match act {
        Act::Take(duration) => duration.as_millis(),
        _ => 0,
    };
    let (layer, metrics) = Metrics::record(|| {
        let builder = BulkheadLayer::builder(2).name("db").keyed(2, by_time);
        builder.build().unwrap()
    });
    let mut bulkhead = layer.layer(Scripted::new().0);
    for millis in [1, 2, 3] {
        send(&mut bulkhead, Act::Take(ms(millis))).await.unwrap();
    }
    let mut running = Vec::new();
    for millis in [4, 4, 5] {
        let call = bulkhead.ready().await.unwrap().call(Act::Take(ms(millis)));
        running.push(call);
    }
    send(&mut bulkhead, Act::Take(ms(6))).await.unwrap_err();
    send(&mut bulkhead, Act::Take(ms(4))).await.unwrap_err();
    let all = metrics.take();
    let gauges = [("bulkhead_in_flight[]", 3.0), ("bulkhead_limit[]", 2.0)];
    assert_metrics(&all, "bulkhead", &gauges);
    let keys = [
        (r#"keys["bulkhead"]"#, 2.0),
        (r#"keys_evicted_total["bulkhead"]"#, 3.0),
        (r#"keys_overflow_total["bulkhead"]"#, 1.0),
    ];
    assert_metrics(&all, "keys", &keys);
    let rejected = [(r#"rejected_total["bulkhead", "bulkhead_full"]"#, 2.0)];
    assert_metrics(&all, "rejected", &rejected);
}

#[tokio::test(start_paused = true)]
async fn keyed_breakers_tell_how_many_are_in_each_state() {
    // One key for each kind of act.
    let by_kind = |act: &Act| std::mem::discriminant(act);
    let (layer, metrics) = Metrics::record(|| {
        CircuitBreakerLayer::builder()
            .name("db")
            .consecutive_failures(1)
            .keyed(2, by_kind)
            .build()
            .unwrap()
    });
    let mut breaker = layer.layer(Scripted::new().0);
    send(&mut breaker, Act::Succeed).await.unwrap();
    send(&mut breaker, Act::Fail(1)).await.unwrap_err();
    send(&mut breaker, Act::Fail(1)).await.unwrap_err();
    let all = metrics.take();
    let state = "circuit_breaker_state";
    let states = [
        (r#"circuit_breaker_state["closed"]"#, 1.0),
        (r#"circuit_breaker_state["open"]"#, 1.0),
    ];
    assert_metrics(&all, state, &states);
    let rejected = [(r#"rejected_total["circuit_breaker", "circuit_open"]"#, 1.0)];
    assert_metrics(&all, "rejected", &rejected);

    // The closed one is forgotten for one that opens, and a third finds no room while both are in use.
    send(&mut breaker, Act::FailTimes(9)).await.unwrap_err();
    let pins = [Act::Fail(1), Act::FailTimes(9)].map(|act| {
        let pin = layer.handle().get(&by_kind(&act));
        pin.unwrap()
    });
    send(&mut breaker, Act::FailAfter(ms(1))).await.unwrap_err();
    let all = metrics.take();
    // Since the last time: one fewer is closed, and one more is open.
    let states = [
        (r#"circuit_breaker_state["closed"]"#, -1.0),
        (r#"circuit_breaker_state["open"]"#, 1.0),
    ];
    assert_metrics(&all, state, &states);
    let keys = [
        (r#"keys_evicted_total["circuit_breaker"]"#, 1.0),
        (r#"keys_overflow_total["circuit_breaker"]"#, 1.0),
    ];
    assert_metrics(&all, "keys", &keys);
    drop(pins);
}

#[tokio::test(start_paused = true)]
async fn a_bulkhead_tells_of_calls_by_their_weight() {
    let (layer, metrics) = Metrics::record(|| {
        let builder = BulkheadLayer::builder(5).name("db").weight(|_: &Act| 3);
        builder.build()
    });
    let mut bulkhead = layer.layer(Scripted::new().0);
    let running = bulkhead.ready().await.unwrap().call(Act::Hang);
    send(&mut bulkhead, Act::Succeed).await.unwrap_err();
    let in_flight = [("bulkhead_in_flight[]", 3.0)];
    assert_metrics(&metrics.take(), "bulkhead_in", &in_flight);
    drop(running);
    let gone = [("bulkhead_in_flight[]", -3.0)]; // it was read, and began again from zero
    assert_metrics(&metrics.take(), "bulkhead_in", &gone);
}

#[tokio::test(start_paused = true)]
async fn a_retry_tells_how_often_it_retried_and_why_it_stopped() {
    let budget = Budget::new(1.0).unwrap().with_floor(0);
    let (layer, metrics) = Metrics::record(|| {
        RetryLayer::builder()
            .name("db")
            .max_attempts(2)
            .backoff(Backoff::constant(ms(10)))
            .budget(budget.clone())
            .build()
            .unwrap()
    });
    let mut retry = layer.layer(Scripted::new().0);
    send(&mut retry, Act::Fail(1)).await.unwrap_err();
    let stopped = [(r#"retry_stopped_total["budget"]"#, 1.0)];
    assert_metrics(&metrics.take(), "retry", &stopped);

    send(&mut retry, Act::Succeed).await.unwrap();
    send(&mut retry, Act::Fail(1)).await.unwrap_err();
    budget.deposit();
    let context = Context::new().with_timeout(ms(0));
    context
        .scope(send(&mut retry, Act::Fail(1)))
        .await
        .unwrap_err();
    send_and_drop(&mut retry, Act::Fail(1)).await;
    send_contained(&retry, Act::Panic).await.unwrap_err();
    let all = metrics.take();
    let retries = [
        ("retry_retries_total[]", 2.0),
        (r#"retry_stopped_total["attempts"]"#, 1.0),
        (r#"retry_stopped_total["deadline"]"#, 1.0),
    ];
    assert_metrics(&all, "retry", &retries);
    let calls = [
        (r#"calls_total["retry", "abandoned"]"#, 1.0),
        (r#"calls_total["retry", "failure"]"#, 2.0),
        (r#"calls_total["retry", "panicked"]"#, 1.0),
        (r#"calls_total["retry", "success"]"#, 1.0),
    ];
    assert_metrics(&all, "calls", &calls);
}

#[tokio::test(start_paused = true)]
async fn a_retry_tells_what_it_sent_again_and_whose_say_it_was_not_to_retry() {
    let (layer, metrics) = Metrics::record(|| {
        RetryLayer::builder()
            .name("db")
            .max_attempts(2)
            .without_budget()
            .backoff(Backoff::none())
            .classifier(Told)
            .clone_request(Unsafe)
            .retry_if(|act: &Act, _: Result<&u32, &Error>| {
                !matches!(act, Act::Succeed | Act::Fail(2))
            })
            .build()
            .unwrap()
    });
    let retry = layer.layer(Scripted::new().0);
    let send = async |act| send_contained(&retry, act).await;
    let say = |failure: Failure| Act::Say(failure.into());
    send(say(Failure::never_sent())).await.unwrap_err();
    send(say(Failure::overload())).await.unwrap_err();
    send(Act::Fail(2)).await.unwrap_err();
    let context = Context::new().with_retried_above(true);
    let nested = context.scope(retry.clone().oneshot(Act::Fail(1))).await;
    nested.unwrap_err();
    send(Act::Succeed).await.unwrap();
    let all = metrics.take();
    let retries = [
        ("retry_resends_total[]", 1.0),
        ("retry_retries_total[]", 1.0),
        (r#"retry_stopped_total["attempts"]"#, 1.0),
        (r#"retry_stopped_total["nested"]"#, 1.0),
        (r#"retry_stopped_total["not_repeatable"]"#, 1.0),
        (r#"retry_stopped_total["retry_if"]"#, 1.0),
    ];
    assert_metrics(&all, "retry", &retries);
    let calls = [
        (r#"calls_total["retry", "failure"]"#, 4.0),
        (r#"calls_total["retry", "success"]"#, 1.0),
    ];
    assert_metrics(&all, "calls", &calls);
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_own_functions_panic_is_told_of_too() {
    let panics = |_: Result<&u32, &Error>| panic!("in the classifier");
    let (layer, metrics) = Metrics::record(|| {
        let builder = RetryLayer::builder().name("db").classifier(panics);
        builder.build().unwrap()
    });
    let retry = layer.layer(Scripted::new().0);
    send_contained(&retry, Act::Succeed).await.unwrap_err();
    let calls = [(r#"calls_total["retry", "panicked"]"#, 1.0)];
    assert_metrics(&metrics.take(), "calls", &calls);
}

/// Says two, and panics where anything was dropped.
struct Two;

impl Limit for Two {
    fn next(&mut self, _: f64, sample: &Sample) -> f64 {
        assert_eq!(sample.dropped, 0, "as told");
        2.0
    }

    fn sampling(&self) -> Sampling {
        Sampling::EveryCall
    }
}

#[tokio::test(start_paused = true)]
async fn an_adaptive_limit_tells_how_calls_end_and_what_it_has_come_to() {
    let events = Events::default();
    let subscriber = tracing_subscriber::registry().with(events.clone().boxed());
    let _guard = tracing::subscriber::set_default(subscriber);
    let (layer, metrics) = Metrics::record(|| {
        let builder = AdaptiveLayer::builder()
            .algorithm(Two)
            .name("db")
            .initial_limit(1);
        builder.classifier(Told).build().unwrap()
    });
    let mut service = layer.layer(Scripted::new().0);
    let say = |verdict| Act::Say(verdict);
    let gauges = [
        ("adaptive_limit[]", 1.0),
        (r#"adaptive_mode["enabled"]"#, 1.0),
    ];
    assert_metrics(&metrics.take(), "adaptive", &gauges);

    send(&mut service, Act::Take(secs(3))).await.unwrap();
    send(&mut service, say(Failure::overload().into()))
        .await
        .unwrap_err();
    send(&mut service, say(steadfast::Verdict::Ignored))
        .await
        .unwrap_err();
    send_and_drop(&mut service, Act::Hang).await;
    let late = Context::new().with_timeout(ms(0));
    late.scope(send_and_drop(&mut service, Act::Hang)).await;
    send_contained(&service, Act::Panic).await.unwrap_err();
    let running = [(); 2].map(|()| {
        assert!(poll_once(std::pin::pin!(service.ready())).is_ready());
        service.call(Act::Hang)
    });
    send(&mut service, Act::Succeed).await.unwrap_err();
    layer.handle().set_mode(adaptive::Mode::ObserveOnly);
    send(&mut service, Act::Succeed).await.unwrap();
    let all = metrics.take();
    let gauges = [
        ("adaptive_in_flight[]", 2.0),
        ("adaptive_latency_seconds[]", 3.0),
        ("adaptive_limit[]", 2.0),
        (r#"adaptive_mode["observe_only"]"#, 1.0),
        ("adaptive_spared_total[]", 1.0),
    ];
    assert_metrics(&all, "adaptive", &gauges);
    let calls = [
        (r#"calls_total["adaptive", "abandoned"]"#, 1.0),
        (r#"calls_total["adaptive", "abandoned_late"]"#, 1.0),
        (r#"calls_total["adaptive", "failure"]"#, 1.0),
        (r#"calls_total["adaptive", "ignored"]"#, 1.0),
        (r#"calls_total["adaptive", "panicked"]"#, 1.0),
        (r#"calls_total["adaptive", "rejected"]"#, 1.0),
        (r#"calls_total["adaptive", "success"]"#, 2.0),
    ];
    assert_metrics(&all, "calls", &calls);
    let rejected = [(r#"rejected_total["adaptive", "limit_reached"]"#, 1.0)];
    assert_metrics(&all, "rejected", &rejected);
    drop(running);

    let events = events.0.lock().unwrap();
    let expected = [
        r#"limit changed layer="adaptive" name="db" from=1 to=2"#,
        r#"limit algorithm panicked layer="adaptive" name="db""#,
        r#"limit algorithm panicked layer="adaptive" name="db""#,
        r#"call rejected layer="adaptive" name="db" reason="limit_reached""#,
        r#"mode changed layer="adaptive" name="db" from="enabled" to="observe_only""#,
        r#"call would be rejected layer="adaptive" name="db" reason="limit_reached""#,
    ];
    assert_eq!(*events, expected);
}

#[tokio::test(start_paused = true)]
async fn a_throttle_tells_what_it_counts_and_with_which_probability_it_refuses() {
    let (layer, metrics) = Metrics::record(|| {
        let layer = ThrottleLayer::builder(Told).name("db").minimum_rate(0.0);
        layer.seed(1).build().unwrap()
    });
    let events = Events::default();
    let subscriber = tracing_subscriber::registry().with(events.clone().boxed());
    let _guard = tracing::subscriber::set_default(subscriber);

    let mode = (r#"throttle_mode["enabled"]"#, 1.0);
    assert_metrics(&metrics.take(), "throttle", &[mode]);
    let mut throttle = layer.layer(Scripted::new().0);
    send(&mut throttle, Act::Succeed).await.unwrap();
    send(&mut throttle, Act::Fail(1)).await.unwrap_err();
    send_and_drop(&mut throttle, Act::Hang).await;
    send_contained(&throttle, Act::Panic).await.unwrap_err();
    let overloaded = || Act::Say(Failure::overload().into());
    let (mut sent, mut refused) = (0.0, 0.0);
    while refused < 2.0 {
        match send(&mut throttle, overloaded()).await {
            Err(Error::Rejected(_)) => refused += 1.0,
            _ => sent += 1.0,
        }
    }
    let requests = 2.0 + sent + refused;
    let all = metrics.take();
    let before_the_last = (requests - 1.0 - 2.0 * 2.0) / requests;
    let told = [
        (
            r#"throttle_reject_probability["critical"]"#,
            before_the_last,
        ),
        (r#"throttle_requests_total["accepted"]"#, 2.0),
        (r#"throttle_requests_total["overloaded"]"#, sent),
        (r#"throttle_requests_total["refused"]"#, 2.0),
    ];
    assert_metrics(&all, "throttle", &told);
    let calls = [
        (r#"calls_total["throttle", "abandoned"]"#, 1.0),
        (r#"calls_total["throttle", "failure"]"#, 1.0 + sent),
        (r#"calls_total["throttle", "panicked"]"#, 1.0),
        (r#"calls_total["throttle", "rejected"]"#, 2.0),
        (r#"calls_total["throttle", "success"]"#, 1.0),
    ];
    assert_metrics(&all, "calls", &calls);
    let rejected = [(r#"rejected_total["throttle", "throttled"]"#, 2.0)];
    assert_metrics(&all, "rejected", &rejected);

    layer.handle().set_mode(throttle::Mode::ObserveOnly);
    let mode = (r#"throttle_mode["observe_only"]"#, 1.0);
    assert_metrics(&metrics.take(), "throttle_mode", &[mode]);
    let mut spared = 0.0;
    while spared == 0.0 {
        send(&mut throttle, overloaded()).await.unwrap_err();
        let all = metrics.take();
        spared = *all.get("throttle_spared_total[]").unwrap_or(&0.0);
        assert_metrics(&all, "rejected", &[]);
        assert_eq!(all[r#"calls_total["throttle", "failure"]"#], 1.0);
    }
    layer.handle().set_mode(throttle::Mode::Disabled);
    send(&mut throttle, overloaded()).await.unwrap_err();
    let all = metrics.take();
    assert_metrics(&all, "calls", &[]);
    assert_metrics(&all, "throttle_requests", &[]);

    layer.handle().set_mode(throttle::Mode::Enabled);
    advance(secs(120)).await;
    send(&mut throttle, Act::Succeed).await.unwrap();
    assert_metrics(&metrics.take(), "throttle_reject", &[]); // zero
    let of = r#"layer="throttle" name="db""#;
    let expected = [
        format!(r#"call rejected {of} reason="throttled""#),
        format!(r#"call rejected {of} reason="throttled""#),
        format!(r#"mode changed {of} from="enabled" to="observe_only""#),
        format!(r#"call would be rejected {of} reason="throttled""#),
        format!(r#"mode changed {of} from="observe_only" to="disabled""#),
        format!(r#"mode changed {of} from="disabled" to="enabled""#),
    ];
    assert_eq!(*events.0.lock().unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_throttle_tells_what_it_holds_back_for_what_the_service_reports() {
    let (layer, metrics) = Metrics::record(|| {
        let layer = ThrottleLayer::builder(Told).name("db").seed(1);
        let layer = layer.heed_load(|_: &u32| throttle::ReportedLoad::new(5.0));
        layer.build().unwrap()
    });
    let mut throttle = layer.layer(Scripted::new().0);
    let (mut answered, mut held_back) = (0.0, 0.0);
    while held_back < 2.0 {
        match send(&mut throttle, Act::Succeed).await {
            Err(Error::Rejected(_)) => held_back += 1.0,
            _ => answered += 1.0,
        }
        advance(ms(10)).await;
    }
    let all = metrics.take();
    assert_metrics(
        &all,
        "throttle_held_back",
        &[("throttle_held_back_total[]", 2.0)],
    );
    let accepted = (r#"throttle_requests_total["accepted"]"#, answered);
    assert_metrics(&all, "throttle_requests", &[accepted]);
    let rejected = [(r#"rejected_total["throttle", "throttled"]"#, 2.0)];
    assert_metrics(&all, "rejected", &rejected);
}

#[tokio::test(start_paused = true)]
async fn an_adaptive_rate_tells_how_calls_end_and_by_which_rate_they_go() {
    let (layer, metrics) = Metrics::record(|| {
        let layer = AdaptiveRateLayer::builder(Told).name("db");
        layer.min_rate(1.0).max_wait(secs(1)).build().unwrap()
    });
    let mode = (r#"adaptive_rate_mode["enabled"]"#, 1.0);
    assert_metrics(&metrics.take(), "adaptive_rate", &[mode]);
    let mut rate = layer.layer(Scripted::new().0);
    send(&mut rate, Act::Succeed).await.unwrap();
    send(&mut rate, Act::Fail(1)).await.unwrap_err();
    send(&mut rate, Act::Say(steadfast::Verdict::Ignored))
        .await
        .unwrap_err();
    send_and_drop(&mut rate, Act::Hang).await;
    send_contained(&rate, Act::Panic).await.unwrap_err();
    send_contained(&rate, Act::PanicInCall).await.unwrap_err();
    let overloaded = || Act::Say(Failure::overload().into());
    send(&mut rate, overloaded()).await.unwrap_err();
    let all = metrics.take();
    let lowered = [("adaptive_rate_lowered_total[]", 1.0)];
    assert_metrics(&all, "adaptive_rate", &lowered);
    let calls = [
        (r#"calls_total["adaptive_rate", "abandoned"]"#, 1.0),
        (r#"calls_total["adaptive_rate", "failure"]"#, 2.0),
        (r#"calls_total["adaptive_rate", "ignored"]"#, 1.0),
        (r#"calls_total["adaptive_rate", "panicked"]"#, 2.0),
        (r#"calls_total["adaptive_rate", "success"]"#, 1.0),
    ];
    assert_metrics(&all, "calls", &calls);

    // 0.7 of the three that were answered in the first half second.
    send(&mut rate, Act::Say(steadfast::Verdict::Ignored))
        .await
        .unwrap_err();
    let (mut first, mut second) = (rate.clone(), rate.clone());
    let mut first = Box::pin(send(&mut first, Act::Succeed));
    assert!(poll_once(first.as_mut()).is_pending());
    let mut second = Box::pin(send(&mut second, Act::Succeed));
    assert!(poll_once(second.as_mut()).is_pending());
    let at_once = Context::new().with_timeout(Duration::ZERO);
    let refused = at_once.scope(send(&mut rate, Act::Succeed)).await;
    refused.unwrap_err();
    let all = metrics.take();
    let waiting = [
        ("adaptive_rate_limit[]", 4.2),
        ("adaptive_rate_waiting[]", 2.0),
    ];
    assert_metrics(&all, "adaptive_rate", &waiting);
    drop(first);
    second.await.unwrap();
    let both_are_over = [("adaptive_rate_waiting[]", -2.0)];
    assert_metrics(&metrics.take(), "adaptive_rate_waiting", &both_are_over);
}

#[tokio::test(start_paused = true)]
async fn keyed_throttles_tell_of_all_keys_together_and_of_no_probability() {
    let (layer, metrics) = Metrics::record(|| {
        let layer = ThrottleLayer::builder(Told).name("db");
        layer
            .keyed(2, |act: &Act| std::mem::discriminant(act))
            .build()
            .unwrap()
    });
    let mut throttle = layer.layer(Scripted::new().0);
    for act in [Act::Succeed, Act::Fail(1), Act::FailTimes(0)] {
        let _ = send(&mut throttle, act).await;
    }
    let all = metrics.take();
    let told = [
        (r#"throttle_mode["enabled"]"#, 1.0),
        (r#"throttle_requests_total["accepted"]"#, 3.0),
    ];
    assert_metrics(&all, "throttle", &told);
    let keys = [
        (r#"keys["throttle"]"#, 2.0),
        (r#"keys_evicted_total["throttle"]"#, 1.0),
    ];
    assert_metrics(&all, "keys", &keys);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_tells_how_calls_end() {
    let (layer, metrics) =
        Metrics::record(|| TimeoutLayer::builder(ms(10)).unwrap().name("db").build());
    let mut timeout = layer.layer(Scripted::new().0);
    send(&mut timeout, Act::Succeed).await.unwrap();
    send(&mut timeout, Act::Hang).await.unwrap_err();
    send_and_drop(&mut timeout, Act::Hang).await;
    send_contained(&timeout, Act::Panic).await.unwrap_err();
    let late = Context::new().with_timeout(ms(0));
    late.scope(send(&mut timeout, Act::Succeed))
        .await
        .unwrap_err();
    let calls = [
        (r#"calls_total["timeout", "abandoned"]"#, 1.0),
        (r#"calls_total["timeout", "completed"]"#, 1.0),
        (r#"calls_total["timeout", "panicked"]"#, 1.0),
        (r#"calls_total["timeout", "rejected"]"#, 1.0),
        (r#"calls_total["timeout", "timed_out"]"#, 1.0),
    ];
    assert_metrics(&metrics.take(), "calls", &calls);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_that_follows_tells_its_limit() {
    let (layer, metrics) = Metrics::record(|| {
        TimeoutLayer::builder_following(ms(10), secs(10))
            .name("db")
            .window(secs(6))
            .minimum_calls(1)
            .build()
            .unwrap()
    });
    let limit = "timeout_limit_seconds[]";
    assert_metrics(&metrics.take(), limit, &[(limit, 10.0)]);
    let mut timeout = layer.layer(Scripted::new().0);
    for _ in 0..2 {
        send(&mut timeout, Act::Take(secs(1))).await.unwrap();
    }
    let told = metrics.take()[limit];
    assert!((1.45..1.55).contains(&told), "{told}");
}

#[tokio::test(start_paused = true)]
async fn a_detached_timeout_tells_how_many_run_on_and_what_became_of_them() {
    let events = Events::default();
    let subscriber = tracing_subscriber::registry().with(events.clone().boxed());
    let _guard = tracing::subscriber::set_default(subscriber);
    let (layer, metrics) = Metrics::record(|| {
        let timeout = TimeoutLayer::builder(ms(10)).unwrap().name("db").build();
        timeout.detached(3)
    });
    let mut timeout = layer.layer(tower::service_fn(|panics: Option<bool>| async move {
        match panics {
            Some(panics) => {
                tokio::time::sleep(ms(100)).await;
                assert!(!panics, "as told");
                Ok::<_, crate::support::Error>(())
            }
            None => std::future::pending().await,
        }
    }));
    for panics in [None, Some(false), Some(true), None] {
        timeout
            .ready()
            .await
            .unwrap()
            .call(panics)
            .await
            .unwrap_err();
    }
    let all = metrics.take();
    let detached = [
        ("timeout_detached[]", 3.0),
        (r#"timeout_detached_total["cut"]"#, 1.0),
    ];
    assert_metrics(&all, "timeout", &detached);
    let calls = [(r#"calls_total["timeout", "timed_out"]"#, 4.0)];
    assert_metrics(&all, "calls", &calls);

    tokio::time::sleep(ms(100)).await;
    let ended = [
        ("timeout_detached[]", -2.0), // since it was looked at last
        (r#"timeout_detached_total["completed"]"#, 1.0),
        (r#"timeout_detached_total["panicked"]"#, 1.0),
    ];
    assert_metrics(&metrics.take(), "timeout", &ended);
    let events = events.0.lock().unwrap();
    let of = r#" layer="timeout" name="db""#;
    let about_detached: Vec<_> = events.iter().filter(|e| e.contains("detached")).collect();
    let detached = format!("call detached{of}");
    let cut = format!("call cut, with too many detached{of}");
    let panicked = format!("detached call panicked{of}");
    assert_eq!(
        about_detached,
        [&detached, &detached, &detached, &cut, &panicked]
    );
}

#[test]
fn a_detached_timeout_tells_of_the_calls_that_its_runtime_did_not_wait_for() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let (layer, metrics) = Metrics::record(|| {
        let timeout = TimeoutLayer::builder(ms(10)).unwrap().name("db").build();
        timeout.detached(3)
    });
    let mut timeout = layer.layer(Scripted::new().0);
    runtime.block_on(async {
        send(&mut timeout, Act::Hang).await.unwrap_err();
        tokio::task::yield_now().await; // runs on
        send_and_drop(&mut timeout, Act::Hang).await; // is about to
    });
    drop(runtime);
    let abandoned = [(r#"timeout_detached_total["abandoned"]"#, 2.0)];
    assert_metrics(&metrics.take(), "timeout", &abandoned);
}

#[cfg(feature = "http")]
#[tokio::test(start_paused = true)]
async fn a_deadline_tells_what_was_left_what_was_too_late_and_what_could_not_be_read() {
    use steadfast::deadline::{DeadlineLayer, PropagateLayer};

    let (layer, metrics) = Metrics::record(|| {
        let layer = DeadlineLayer::builder(secs(10)).name("db").trust_headers();
        layer.max_refused_share(0.5).build().unwrap()
    });
    let events = Events::default();
    let subscriber = tracing_subscriber::registry().with(events.clone().boxed());
    let _guard = tracing::subscriber::set_default(subscriber);
    let body: fn(http::Request<Act>) -> Act = http::Request::into_body;
    let svc = layer.layer(Scripted::new().0.map_request(body));
    let call = async |act, lines: &[(&str, &str)]| {
        let mut request = http::Request::get("/");
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        let _ = svc.clone().oneshot(request.body(act).unwrap()).await;
    };
    call(
        Act::Succeed,
        &[("grpc-timeout", "2S"), ("x-request-timeout-ms", "9000")],
    )
    .await;
    call(Act::Succeed, &[]).await;
    call(Act::Hang, &[("x-request-timeout-ms", "500")]).await;
    call(
        Act::Succeed,
        &[("x-request-timeout-ms", "soon"), ("x-request-attempt", "0")],
    )
    .await;
    for _ in 0..5 {
        call(Act::Succeed, &[("x-envoy-expected-rq-timeout-ms", "0")]).await;
    }
    let all = metrics.take();
    let deadline = [
        (r#"deadline_malformed_total["attempt"]"#, 1.0),
        (r#"deadline_malformed_total["timeout"]"#, 1.0),
        ("deadline_spared_total[]", 1.0),
        ("deadline_time_left_seconds[]", 2.5),
    ];
    assert_metrics(&all, "deadline", &deadline);
    let calls = [
        (r#"calls_total["deadline", "completed"]"#, 4.0),
        (r#"calls_total["deadline", "rejected"]"#, 4.0),
        (r#"calls_total["deadline", "timed_out"]"#, 1.0),
    ];
    assert_metrics(&all, "calls", &calls);
    let rejected = [(r#"rejected_total["deadline", "deadline_exceeded"]"#, 4.0)];
    assert_metrics(&all, "rejected", &rejected);
    let of = r#"layer="deadline" name="db""#;
    let mut expected = vec![
        format!(r#"call timed out {of} limit="deadline" waited=500ms"#),
        format!(r#"malformed header {of} header="timeout""#),
        format!(r#"malformed header {of} header="attempt""#),
    ];
    let rejected = format!(r#"call rejected {of} reason="deadline_exceeded""#);
    expected.extend(vec![rejected; 4]);
    expected.push(format!(
        r#"call would be rejected {of} reason="deadline_exceeded""#
    ));
    assert_eq!(*events.0.lock().unwrap(), expected);

    let (layer, metrics) = Metrics::record(|| {
        PropagateLayer::builder()
            .name("db")
            .root_timeout(ms(10))
            .build()
            .unwrap()
    });
    let svc = layer.layer(Scripted::new().0.map_request(body));
    let call = |act| svc.clone().oneshot(http::Request::new(act));
    call(Act::Succeed).await.unwrap();
    call(Act::Hang).await.unwrap_err().timed_out();
    let late = Context::new().with_timeout(ms(0));
    late.scope(call(Act::Succeed)).await.unwrap_err().rejected();
    let calls = [
        (r#"calls_total["propagate", "completed"]"#, 1.0),
        (r#"calls_total["propagate", "rejected"]"#, 1.0),
        (r#"calls_total["propagate", "timed_out"]"#, 1.0),
    ];
    assert_metrics(&metrics.take(), "calls", &calls);
}

#[tokio::test(start_paused = true)]
async fn load_shedding_tells_how_loaded_the_server_is_and_whom_it_sheds() {
    let events = Events::default();
    let subscriber = tracing_subscriber::registry().with(events.clone().boxed());
    let _guard = tracing::subscriber::set_default(subscriber);
    let (layer, metrics) = Metrics::record(|| {
        LoadShedLayer::builder()
            .name("db")
            .gauge("gauge", || 3.0)
            .min_admitted_share(0.0)
            .refuse_unready_after(ms(0))
            .build()
            .unwrap()
    });
    let (inner, watch) = Scripted::new();
    let mut service = layer.layer(inner);
    watch.be_unready(1);
    send(&mut service, Act::Succeed).await.unwrap_err();
    send(&mut service, Act::Succeed).await.unwrap();
    send_and_drop(&mut service, Act::Hang).await;
    send_contained(&service, Act::Panic).await.unwrap_err();
    let full = layer.layer(BulkheadLayer::new(0).layer(Scripted::new().0));
    full.oneshot(Act::Succeed).await.unwrap_err();
    let calls = [
        (r#"calls_total["load_shed", "abandoned"]"#, 1.0),
        (r#"calls_total["load_shed", "completed"]"#, 1.0),
        (r#"calls_total["load_shed", "panicked"]"#, 1.0),
        (r#"calls_total["load_shed", "rejected"]"#, 1.0),
        (r#"calls_total["load_shed", "rejected_below"]"#, 1.0),
    ];
    let all = metrics.take();
    assert_metrics(&all, "calls", &calls);
    let unready = [("load_shed_unready_total[]", 1.0)];
    assert_metrics(&all, "load_shed_unready", &unready);

    let sheddable = Context::new().with_criticality(Criticality::Sheddable);
    while layer.handle().admitted_share(Criticality::Sheddable) > 0.0 {
        let mut calls: Vec<_> = (0..10).map(|_| service.clone()).collect();
        for service in &mut calls {
            send_and_drop(service, Act::Hang).await;
            let _ = sheddable.scope(send(service, Act::Succeed)).await;
        }
        advance(ms(20)).await;
    }
    metrics.take();
    events.0.lock().unwrap().clear();
    let call = send(&mut service, Act::Succeed);
    sheddable.scope(call).await.unwrap_err().rejected();
    layer.handle().set_mode(LoadShedMode::ObserveOnly);
    let call = send(&mut service, Act::Succeed);
    sheddable.scope(call).await.unwrap();
    advance(ms(20)).await;
    let shed_share = layer.handle().snapshot().shed_share;

    let all = metrics.take();
    let own = [
        (r#"load_shed_load["gauge"]"#, 3.0),
        (r#"load_shed_mode["observe_only"]"#, 1.0),
        ("load_shed_shed_share[]", shed_share),
        (r#"load_shed_shed_total["sheddable"]"#, 2.0),
        ("load_shed_spared_total[]", 1.0),
    ];
    assert_metrics(&all, "load_shed", &own);
    let calls = [
        (r#"calls_total["load_shed", "completed"]"#, 1.0),
        (r#"calls_total["load_shed", "rejected"]"#, 1.0),
    ];
    assert_metrics(&all, "calls", &calls);
    let rejected = [(r#"rejected_total["load_shed", "overloaded"]"#, 1.0)];
    assert_metrics(&all, "rejected", &rejected);

    let of = r#"layer="load_shed" name="db""#;
    let expected = [
        format!(r#"call rejected {of} reason="overloaded""#),
        format!(r#"mode changed {of} from="enabled" to="observe_only""#),
        format!(r#"call would be rejected {of} reason="overloaded""#),
    ];
    assert_eq!(*events.0.lock().unwrap(), expected);
}

/// Keeps every event as `message field=value …`.
#[derive(Clone, Default)]
struct Events(Arc<Mutex<Vec<String>>>);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Events {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        struct Text(String, String);
        impl tracing::field::Visit for Text {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
                if field.name() == "message" {
                    self.0 = format!("{value:?}");
                } else {
                    self.1 += &format!(" {}={value:?}", field.name());
                }
            }
        }
        if event.metadata().target() == "steadfast" {
            let mut text = Text(String::new(), String::new());
            event.record(&mut text);
            self.0.lock().unwrap().push(text.0 + &text.1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_decision_is_one_event_with_name_and_reason() {
    let events = Events::default();
    let subscriber = tracing_subscriber::registry().with(events.clone().boxed());
    let _guard = tracing::subscriber::set_default(subscriber);

    let breaker = CircuitBreakerLayer::builder()
        .name("db")
        .consecutive_failures(1)
        .open_time(Backoff::constant(secs(1)).with_jitter(Jitter::None))
        .build()
        .unwrap();
    let mut service = breaker.layer(Scripted::new().0);
    send(&mut service, Act::Fail(1)).await.unwrap_err();
    send(&mut service, Act::Fail(1)).await.unwrap_err();
    let retry = RetryLayer::builder()
        .name("db")
        .without_budget()
        .max_attempts(2)
        .backoff(Backoff::constant(ms(10)).with_jitter(Jitter::None))
        .build()
        .unwrap();
    send(&mut retry.layer(Scripted::new().0), Act::Fail(1))
        .await
        .unwrap_err();
    let timeout = TimeoutLayer::builder(ms(10)).unwrap().name("db").build();
    send(&mut timeout.layer(Scripted::new().0), Act::Hang)
        .await
        .unwrap_err();

    let events = events.0.lock().unwrap();
    let expected = [
        r#"state changed layer="circuit_breaker" name="db" from="closed" to="open" cause="consecutive_failures" mode="enabled""#,
        r#"call rejected layer="circuit_breaker" name="db" reason="circuit_open""#,
        r#"retrying layer="retry" name="db" attempt=2 delay=10ms"#,
        r#"not retrying layer="retry" name="db" attempt=2 reason="attempts""#,
        r#"call timed out layer="timeout" name="db" limit="timeout" waited=10ms"#,
    ];
    assert_eq!(*events, expected);
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_panics_is_told() {
    let events = Events::default();
    let subscriber = tracing_subscriber::registry().with(events.clone().boxed());
    let _guard = tracing::subscriber::set_default(subscriber);

    let breaker = CircuitBreakerLayer::builder()
        .name("db")
        .trip_when(|_| panic!("as told"));
    let mut service = breaker.build().unwrap().layer(Scripted::new().0);
    send(&mut service, Act::Succeed).await.unwrap();

    let events = events.0.lock().unwrap();
    let expected = [r#"trip rule panicked layer="circuit_breaker" name="db""#];
    assert_eq!(*events, expected);
}

#[tokio::test(start_paused = true)]
async fn a_signal_that_panics_is_told_each_time() {
    let events = Events::default();
    let subscriber = tracing_subscriber::registry().with(events.clone().boxed());
    let _guard = tracing::subscriber::set_default(subscriber);

    let layer = LoadShedLayer::builder()
        .name("db")
        .gauge("gauge", || panic!("as told"));
    let handle = layer.build().unwrap().handle();
    for _ in 0..2 {
        advance(ms(20)).await;
        assert_eq!(handle.load(), 0.0);
    }
    let expected = [r#"signal of load panicked layer="load_shed" name="db" signal="gauge""#; 2];
    assert_eq!(*events.0.lock().unwrap(), expected);
}
