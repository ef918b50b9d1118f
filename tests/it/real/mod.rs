//! The layers around services that people really have, over loopback where there is a wire.
//!
//! The clock is the real one here. What must *not* happen is never waited for, and what must happen is
//! waited for as long as it takes, so a slow machine makes these tests slow and not red.

use std::time::Duration;

use steadfast::{
    backoff::{Backoff, Jitter},
    bulkhead::{BulkheadLayer, Queue, QueuedBulkheadLayer},
    circuit_breaker::{CircuitBreakerBuilder, CircuitBreakerLayer},
    timeout::TimeoutLayer,
};

/// Runs a macro with the name of each layer, and the layer, configured not to interfere.
macro_rules! with_each_layer {
    ($check:ident, retry: $retry:expr) => {
        with_each_layer!($check);
        $check!("queued bulkhead", $crate::real::queued_bulkhead(1));
        $check!("retry", $retry);
        $check!(
            "ready timeout",
            $crate::real::patience().covering_readiness()
        );
    };
    // Those that make no clone of the service.
    ($check:ident) => {
        $check!("bulkhead", steadfast::bulkhead::BulkheadLayer::new(1));
        $check!("circuit breaker", $crate::real::breaker(1).build().unwrap());
        $check!("timeout", $crate::real::patience());
    };
}

mod axum_router;
mod boxed;
#[cfg(all(feature = "axum", feature = "grpc"))]
mod deadline;
mod end_of_body;
mod goodput;
#[cfg(feature = "grpc")]
mod grpc_retry;
mod hyper_client;
mod local;
#[cfg(all(feature = "axum", feature = "grpc"))]
mod nginx;
mod peer;
mod reqwest_client;
#[cfg(feature = "grpc")]
mod tonic_channel;
mod uploads;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Always the same delay.
fn every(delay: Duration) -> Backoff {
    Backoff::constant(delay).with_jitter(Jitter::None)
}

fn queued_bulkhead(max: usize) -> QueuedBulkheadLayer {
    let queue = Queue::fifo(8, Duration::from_secs(30));
    BulkheadLayer::builder(max).queue(queue).build()
}

/// Opens after so many failures in a row, for long enough to be seen open, and closes after one good
/// probe.
fn breaker(failures: u32) -> CircuitBreakerBuilder {
    CircuitBreakerLayer::builder()
        .consecutive_failures(failures)
        .open_time(every(Duration::from_secs(1)))
        .half_open_probes(1)
        .half_open_timeout(Duration::from_secs(60))
}

/// A timeout that no test runs into.
fn patience() -> TimeoutLayer {
    TimeoutLayer::new(Duration::from_secs(30)).unwrap()
}
