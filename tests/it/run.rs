//! Layers around what is no service.

use std::{
    cell::Cell,
    future::{pending, ready},
    io,
    pin::pin,
    sync::{
        Arc, Barrier,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use steadfast::{
    Error, LiftLayer, Reason, Rejected, Run,
    backoff::Backoff,
    bulkhead::{BulkheadLayer, Queue},
    circuit_breaker::{CircuitBreakerLayer, State},
    retry::RetryLayer,
    timeout::TimeoutLayer,
};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

use crate::support::{ms, poll_once, secs};

fn broken() -> Result<u32, io::Error> {
    Err(io::ErrorKind::BrokenPipe.into())
}

fn breaker() -> CircuitBreakerLayer {
    let builder = CircuitBreakerLayer::builder().consecutive_failures(2);
    builder.build().unwrap()
}

fn reason(error: &(dyn std::error::Error + 'static)) -> Option<Reason> {
    Rejected::find(error).map(Rejected::reason)
}

#[tokio::test(start_paused = true)]
async fn a_service_and_a_block_share_the_state_of_their_layer() {
    let breaker = breaker();
    let mut service = breaker.layer(service_fn(|()| ready(broken())));
    service.ready().await.unwrap().call(()).await.unwrap_err();
    breaker.run(async { broken() }).await.unwrap_err();
    assert_eq!(breaker.handle().state(), State::Open);

    let ran = Cell::new(false);
    let error = breaker
        .run(async {
            ran.set(true);
            Ok::<_, io::Error>(1)
        })
        .await
        .unwrap_err();
    assert_eq!(reason(&error), Some(Reason::CircuitOpen));
    assert!(!ran.get(), "refused unrun");
}

#[tokio::test(start_paused = true)]
async fn a_block_holds_its_permit_from_the_first_poll_until_it_ends_or_is_dropped() {
    let bulkhead = BulkheadLayer::new(1);
    let handle = bulkhead.handle();
    {
        let mut hung = pin!(bulkhead.run(pending::<io::Result<()>>()));
        assert_eq!(handle.in_flight(), 0);
        assert!(poll_once(hung.as_mut()).is_pending());
        assert_eq!(handle.in_flight(), 1);
        let error = bulkhead.run(async { broken() }).await.unwrap_err();
        assert_eq!(reason(&error), Some(Reason::BulkheadFull));
    }
    assert_eq!(handle.in_flight(), 0);
    assert_eq!(bulkhead.run(async { io::Result::Ok(1) }).await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_block_that_takes_too_long_is_stopped() {
    let timeout = TimeoutLayer::new(secs(1)).unwrap();
    let error = timeout.run(pending::<io::Result<()>>()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}

#[tokio::test(start_paused = true)]
async fn a_function_is_run_again_until_it_succeeds() {
    let tries = Cell::new(0);
    let retry = RetryLayer::builder().build().unwrap();
    let answer = retry.run_fn(|| {
        tries.set(tries.get() + 1);
        ready(if tries.get() < 2 { broken() } else { Ok(7) })
    });
    assert_eq!(answer.await.unwrap(), 7);
    assert_eq!(tries.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_stack_of_layers_is_a_policy_for_errors_that_know_of_no_refusal() {
    let policy = ServiceBuilder::new()
        .layer(
            BulkheadLayer::builder(1)
                .queue(Queue::fifo(8, secs(1)))
                .build(),
        )
        .layer(breaker())
        .layer(LiftLayer::new());
    for _ in 0..2 {
        let error = policy.run(async { Err::<(), _>("no") }).await.unwrap_err();
        assert_eq!(error, Error::Inner("no"));
    }
    let error = policy.run(async { Ok::<_, &str>(()) }).await.unwrap_err();
    assert_eq!(error.rejected().unwrap().reason(), Reason::CircuitOpen);
}

#[test]
fn blocking_code_is_guarded_and_tried_again_without_a_runtime() {
    let breaker = breaker();
    let retry = RetryLayer::builder()
        .backoff(Backoff::none())
        .max_attempts(2);
    let policy = ServiceBuilder::new()
        .layer(retry.build().unwrap())
        .layer(breaker.clone());
    let tries = AtomicU32::new(0);
    let work = || {
        tries.fetch_add(1, Ordering::Relaxed);
        broken()
    };
    assert_eq!(
        policy.run_blocking(work).unwrap_err().kind(),
        io::ErrorKind::BrokenPipe
    );
    assert_eq!(tries.load(Ordering::Relaxed), 2);
    let error = policy.run_blocking(work).unwrap_err();
    assert_eq!(reason(&error), Some(Reason::CircuitOpen));
    assert_eq!(tries.load(Ordering::Relaxed), 2);
}

#[test]
fn a_thread_sleeps_while_it_waits_for_its_permit() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .unwrap();
    let bulkhead = BulkheadLayer::builder(1)
        .queue(Queue::fifo(1, secs(3600)))
        .build();
    let handle = bulkhead.handle();
    let (inside, outside) = (Barrier::new(2), Barrier::new(2));
    thread::scope(|scope| {
        scope.spawn(|| {
            bulkhead.run_blocking(|| {
                inside.wait();
                outside.wait();
                io::Result::Ok(())
            })
        });
        inside.wait();
        let second = scope.spawn(|| {
            let _entered = runtime.enter(); // for the timer of its wait
            bulkhead.run_blocking(|| io::Result::Ok(2))
        });
        while handle.waiting() == 0 {
            thread::yield_now();
        }
        outside.wait();
        assert_eq!(second.join().unwrap().unwrap(), 2);
    });
}

#[test]
fn a_blocking_retry_waits_on_the_runtimes_clock() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .unwrap();
    let backoff = Backoff::constant(ms(1));
    let retry = RetryLayer::builder().backoff(backoff).build().unwrap();
    let tries = Arc::new(AtomicU32::new(0));
    let work = {
        let tries = tries.clone();
        move || match tries.fetch_add(1, Ordering::Relaxed) {
            0 => broken(),
            _ => Ok(3),
        }
    };
    let ran = runtime.spawn_blocking(move || retry.run_blocking(work));
    assert_eq!(runtime.block_on(ran).unwrap().unwrap(), 3);
}
