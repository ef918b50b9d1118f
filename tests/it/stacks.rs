//! The layers together.

use std::time::Duration;

use steadfast::{
    Reason, ServiceBuilderExt,
    adaptive::AdaptiveLayer,
    backoff::{Backoff, Jitter},
    bulkhead::{BulkheadLayer, Queue},
    circuit_breaker::{Cause, CircuitBreakerHandle, CircuitBreakerLayer, Mode, State, Thresholds},
    retry::RetryLayer,
    timeout::TimeoutLayer,
};
use tokio::time::{Instant, advance};
use tower::{
    Service, ServiceBuilder, service_fn,
    util::{BoxCloneSyncService, option_layer},
};

use crate::support::{Act, Error, Scripted, Watch, ms, secs, send};

/// A client's stack in the order in which it is meant, over a scripted service.
fn client() -> (
    impl Service<Act, Response = u32, Error = Error> + Clone,
    CircuitBreakerHandle,
    Watch,
) {
    let (service, watch) = Scripted::new();
    let breaker = CircuitBreakerLayer::builder()
        .count_window(20, Thresholds::failure_rate(0.5).minimum_calls(10))
        .open_time(Backoff::constant(secs(1)).with_jitter(Jitter::None))
        .half_open_probes(1)
        .build()
        .unwrap();
    let handle = breaker.handle();
    let stack = ServiceBuilder::new()
        .bulkhead(BulkheadLayer::new(8))
        .retry_with(RetryLayer::builder().seed(1).build().unwrap())
        .circuit_breaker(breaker)
        .timeout_with(TimeoutLayer::new(ms(100)).unwrap())
        .service(service);
    (stack, handle, watch)
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_seen_is_not_amplified_and_is_over_when_it_is_over() {
    let (mut stack, breaker, watch) = client();
    for _ in 0..1000 {
        send(&mut stack, Act::Succeed).await.unwrap();
    }
    // The service hangs: attempts time out inside the breaker, which opens.
    let began = Instant::now();
    let mut sent = 0;
    while breaker.state() == State::Closed {
        send(&mut stack, Act::Hang).await.unwrap_err();
        sent += 1;
    }
    assert_eq!(breaker.snapshot().cause, Some(Cause::CountFailureRate));
    assert!(
        sent <= 10 && began.elapsed() < secs(2),
        "{sent} {:?}",
        began.elapsed()
    );

    // While it is open nothing reaches the service, however much is sent, and every answer is at once.
    let (calls, began) = (watch.calls(), Instant::now());
    for _ in 0..1000 {
        send(&mut stack, Act::Hang).await.unwrap_err().rejected();
    }
    assert_eq!((watch.calls(), began.elapsed()), (calls, ms(0)));

    // A probe for each second of the outage, and a service that is well again within one.
    for _ in 0..10 {
        advance(secs(1)).await;
        send(&mut stack, Act::Hang).await.unwrap_err();
    }
    assert_eq!(watch.calls() - calls, 10);
    advance(secs(1)).await;
    for _ in 0..1000 {
        send(&mut stack, Act::Succeed).await.unwrap();
    }
    assert_eq!(breaker.state(), State::Closed);
}

/// A stack of which each layer is switched on or off by value; and what its breaker does if it is on.
fn switched(on: [bool; 5]) -> impl Service<Act, Response = u32, Error = Error> + Clone {
    let [bulkhead, queued, retry, breaker, timeout] = on;
    let queue = BulkheadLayer::builder(0).queue(Queue::fifo(0, secs(1)));
    let full = BulkheadLayer::builder(0).name("full").build();
    let retries = RetryLayer::builder().without_budget().max_attempts(2);
    let retries = retries.backoff(Backoff::none()).build().unwrap();
    let open = CircuitBreakerLayer::builder().mode(Mode::ForcedOpen);
    let open = open.build().unwrap();
    let short = TimeoutLayer::new(ms(10)).unwrap();
    ServiceBuilder::new()
        .layer(option_layer(bulkhead.then_some(full)))
        .layer(option_layer(queued.then_some(queue.build())))
        .layer(option_layer(retry.then_some(retries)))
        .layer(option_layer(breaker.then_some(open)))
        .layer(option_layer(timeout.then_some(short)))
        .service(Scripted::new().0)
}

#[tokio::test(start_paused = true)]
async fn each_layer_is_switched_off_by_value_without_a_change_of_type() {
    let mut stack = switched([false; 5]);
    assert_eq!(send(&mut stack, Act::Take(ms(20))).await, Ok(1));
    assert_eq!(
        send(&mut stack, Act::FailTimes(1)).await,
        Err(Error::Failed(1))
    );

    // The very same type, with one layer switched on, does what that layer does.
    let reason = |error: Error| error.rejected().reason();
    stack = switched([true, false, false, false, false]);
    let refused = send(&mut stack, Act::Succeed).await.unwrap_err();
    assert_eq!(
        (reason(refused), refused.rejected().layer()),
        (Reason::BulkheadFull, "full")
    );
    stack = switched([false, true, false, false, false]);
    let refused = send(&mut stack, Act::Succeed).await.unwrap_err();
    assert_eq!(
        (reason(refused), refused.rejected().layer()),
        (Reason::BulkheadFull, "bulkhead")
    );
    stack = switched([false, false, true, false, false]);
    assert_eq!(send(&mut stack, Act::FailTimes(1)).await, Ok(2));
    stack = switched([false, false, false, true, false]);
    let refused = send(&mut stack, Act::Succeed).await.unwrap_err();
    assert_eq!(reason(refused), Reason::CircuitOpen);
    stack = switched([false, false, false, false, true]);
    send(&mut stack, Act::Take(ms(20)))
        .await
        .unwrap_err()
        .timed_out();
}

#[tokio::test(start_paused = true)]
async fn every_layer_is_a_method_of_the_builder() {
    let stack = ServiceBuilder::new()
        .ready_timeout(TimeoutLayer::new(secs(1)).unwrap().covering_readiness())
        .queued_bulkhead(
            BulkheadLayer::builder(1)
                .queue(Queue::fifo(1, secs(1)))
                .build(),
        )
        .bulkhead(BulkheadLayer::new(1))
        .back_pressure_bulkhead(BulkheadLayer::new(1).back_pressure())
        .back_pressure_adaptive(AdaptiveLayer::builder().build().unwrap().back_pressure())
        .retry_with(RetryLayer::builder().build().unwrap())
        .circuit_breaker(CircuitBreakerLayer::builder().build().unwrap())
        .back_pressure_circuit_breaker(
            CircuitBreakerLayer::builder()
                .build()
                .unwrap()
                .back_pressure(),
        )
        .timeout_with(TimeoutLayer::per_request(|_: &Duration| secs(1)))
        .lift()
        .service(service_fn(|takes: Duration| async move {
            tokio::time::sleep(takes).await;
            Ok::<_, std::convert::Infallible>(takes)
        }));
    // Also in a box, and then still a service like any other.
    let mut boxed = BoxCloneSyncService::new(stack);
    let answer = tower::ServiceExt::ready(&mut boxed)
        .await
        .unwrap()
        .call(ms(5))
        .await;
    assert_eq!(answer, Ok(ms(5)));
    let late = boxed.call(secs(2)).await.unwrap_err();
    assert!(late.timed_out().is_some());
}
