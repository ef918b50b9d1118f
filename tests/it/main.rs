//! All integration tests, as one binary that links once. One file per subject.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the doors are for the crate; a test stands outside"
)]

mod adaptive;
mod allocations;
mod architecture;
mod auto_traits;
mod bulkhead;
mod bulkhead_back_pressure;
mod circuit_breaker;
mod circuit_breaker_back_pressure;
mod circuit_breaker_modes;
mod errors;
mod keyed;
mod laws;
mod load_shed;
mod overload;
mod queue;
mod partitions;
mod regressions_of_others;
mod retry;
mod run;
mod sim;
mod stacks;
mod support;
mod telemetry;
mod throttle;
mod timeout;
#[cfg(feature = "grpc")]
mod grpc;
#[cfg(feature = "http")]
mod deadline;
#[cfg(feature = "http")]
mod end_of_body;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "http")]
mod http_hints;
#[cfg(feature = "http")]
mod load_reports;
#[cfg(feature = "http")]
mod real;
#[cfg(feature = "grpc")]
mod relay;
#[cfg(feature = "http")]
mod replay;
