//! Composable [`tower`] layers that keep a service answering while what it depends on fails.
//!
//! ```
//! use std::time::Duration;
//! use steadfast::{
//!     backoff::Backoff,
//!     bulkhead::BulkheadLayer,
//!     circuit_breaker::{CircuitBreakerLayer, Thresholds},
//!     retry::RetryLayer,
//!     timeout::TimeoutLayer,
//! };
//! use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let ms = Duration::from_millis;
//! let users = ServiceBuilder::new()
//!     .layer(BulkheadLayer::new(64))
//!     .layer(RetryLayer::builder().max_attempts(3).build()?)
//!     .layer(
//!         CircuitBreakerLayer::builder()
//!             .name("users")
//!             .consecutive_failures(5)
//!             .count_window(100, Thresholds::failure_rate(0.5))
//!             .open_time(Backoff::exponential(ms(500), ms(30_000))?)
//!             .build()?,
//!     )
//!     .layer(TimeoutLayer::new(ms(300))?)
//!     .service(service_fn(|id: u32| async move { Ok::<_, BoxError>(format!("user {id}")) }));
//!
//! assert_eq!(users.oneshot(7).await?, "user 7");
//! # Ok(())
//! # }
//! ```
//!
//! # Layers
//!
//! | layer | does | costs a call that is answered at once |
//! |---|---|---|
//! | [`bulkhead`] | refuses, or queues, calls above a number in flight | two writes |
//! | [`adaptive`] | the same, with a number that it finds by itself | two looks at the clock, three writes |
//! | [`retry`] | tries failed calls again, within a budget | a clone of request and service |
//! | [`circuit_breaker`] | stops calling a service that fails | no clock, no write |
//! | [`load_shed`] | refuses the least critical calls while a server is overloaded | one look at the clock, three writes |
//! | [`throttle`] | holds calls back from a service that says it has too many | one look at the clock, one write |
//! | [`timeout`] | stops waiting for a call that takes too long | no clock, no timer |
//! | [`deadline`] | hands the time that is left from hop to hop, and stops what has none | one look at the clock |
//!
//! None of them takes a lock, allocates, or boxes a future on the way of a call that is let through,
//! and none asks of the inner service what its pattern does not need: no `Send`, no `'static`, and
//! `Clone` only where a call is really made on a second instance. The exception is a timeout [whose calls
//! run on](timeout::TimeoutLayer::detached): a task is `Send` and `'static`, and is allocated.
//!
//! None needs a service: [`Run`] puts any of them, or a stack, around an `async` block or blocking code.
//!
//! # The order of layers
//!
//! At a client, outer to inner: bulkhead, retry, circuit breaker, throttle, adaptive limit, attempt timeout, service. Breaker
//! and throttle stand inside the retry so that they see every attempt; the timeout stands inside the breaker so that
//! the breaker sees hangs. What writes the [`deadline`] stands innermost, so that every attempt says what
//! is left then. At a server, what reads it stands right below the layer that answers refusals, and below
//! that what sheds load.
//!
//! Errors being flat, any layer can be switched off by value and the stack keeps its type:
//! `.option_layer(on.then_some(layer))`. A breaker and a throttle also by their
//! [mode](circuit_breaker::Mode), while they run.
//!
//! # What they share
//!
//! - **[Errors](error)** do not nest: a layer keeps the error type of the service it wraps, and only asks
//!   that it can be built from a [`Rejected`] (the service never saw the call) or a [`TimedOut`] (it may
//!   have acted).
//! - **[Verdicts](classify)**: what counts as a failure is said once, by one [`Classify`] for all layers.
//! - **[Until](until)** when a call lasts: until it is answered or, over HTTP, until the end of the body.
//! - **[Queue](queue)**: in which order calls wait that may, and who of them is refused under overload.
//! - **[Partitions](partitions)**: shares of one limit, lent to the others while they are idle.
//! - **[Context]**: deadline, criticality and attempt number travel with the request.
//! - **State** belongs to the layer: all services made from one layer value, or its clones, share it.
//!   Handles show and steer it.
//! - **Time** is tokio's: every decision can be replayed on a paused clock, and with a fixed seed.
//! - **[Telemetry](telemetry)** goes through `metrics` and `tracing`, under the name of the layer.
//!
//! # Features
//!
//! None is on by default. `http` adds [`http`]: classifiers by status, idempotent methods, bodies that can
//! be sent again, refusals as responses, and calls that last until the end of the body; and [`deadline`].
//! `grpc`, which includes it, adds [`grpc`]: a classifier by gRPC status, and refusals as `tonic::Status`.
//! `axum` adds [`axum`]: the context as an argument of handlers. `cpu` adds the use of the processors as a
//! signal to shed [load by](load_shed::LoadShedBuilder::cpu). `sim`, for tests, adds [`sim`]: load, services and a
//! network that are simulated on a paused clock, and the laws that every layer obeys.

#![cfg_attr(
    not(all(feature = "http", feature = "grpc", feature = "axum", feature = "sim")),
    allow(rustdoc::broken_intra_doc_links)
)]

#[macro_use]
mod macros;

// The core, by rank: a module imports only modules above it.
pub mod error;
mod foreign;
mod sync;
#[macro_use]
mod pooled;
mod time;
mod rng;
pub mod telemetry;
mod mode;
mod origin;
pub mod context;
mod reported;
pub mod classify;
pub mod until;
mod oneshot;
mod watched;
mod permits;
pub mod queue;
pub mod partitions;
mod window;
pub mod keyed;
pub mod backoff;
pub mod budget;

// The layers: each imports the core, and none another.
pub mod adaptive;
pub mod bulkhead;
pub mod circuit_breaker;
#[cfg(feature = "http")]
pub mod deadline;
pub mod load_shed;
pub mod retry;
pub mod throttle;
pub mod timeout;

// What brings them together; imported by nothing.
mod builder;
pub mod run;
#[cfg(feature = "axum")]
pub mod axum;
#[cfg(feature = "grpc")]
pub mod grpc;
#[cfg(feature = "http")]
pub mod http;
#[cfg(all(feature = "sim", not(steadfast_loom)))]
pub mod sim;

#[cfg(all(test, feature = "http", not(steadfast_loom)))]
mod fuzz_tests;

pub use builder::ServiceBuilderExt;
pub use classify::{Classify, Verdict};
pub use context::{Context, Criticality};
pub use error::{
    Error, FromRejected, FromTimedOut, InvalidSetting, LiftLayer, Limit, Reason, Rejected, TimedOut,
};
pub use run::Run;

/// What the README shows compiles.
#[cfg(all(doctest, feature = "axum", feature = "grpc"))]
#[doc = include_str!("../README.md")]
struct Readme;
