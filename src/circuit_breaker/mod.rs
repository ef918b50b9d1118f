//! Stops calling a service that fails, and finds out when it has recovered.
//!
//! A *closed* breaker lets calls pass and watches their results. When a rule trips it *opens*: calls
//! are refused at once, with [`Reason::CircuitOpen`](crate::Reason::CircuitOpen) and the time after
//! which to come back, and the inner service is left alone. When its open time is over it is
//! *half-open*: a few calls pass as probes, and decide whether it closes or opens again, for longer.
//! With a [`Ramp`] it is *recovering* before it closes: a growing share of the calls passes.
//!
//! **Rules** are joined by *or*:
//!
//! - [failures in a row](CircuitBreakerBuilder::consecutive_failures);
//! - the rate of failures or of slow calls, or a number of failures, over the
//!   [last *n* calls](CircuitBreakerBuilder::count_window) or the
//!   [last *t* seconds](CircuitBreakerBuilder::time_window);
//! - the rate or number of failures in which a call [weighs less the older it
//!   is](CircuitBreakerBuilder::ewma_window);
//! - a [quantile of the latency](CircuitBreakerBuilder::latency_window) of the last *t* seconds;
//! - [a rule of your own](CircuitBreakerBuilder::trip_when) that looks at what the others have counted.
//!
//! Thresholds and minimums are inclusive; *slow* is strictly longer than a bound. Probes are judged by the
//! same rules, as if they were all that the windows hold: one that is slow counts against closing where a
//! rule looks at slow calls, or at a quantile, and one that is cancelled counts neither way. What the
//! breaker refused is not counted; nor is what a layer below it refused.
//!
//! **Generations.** A call carries the number of the state it was admitted in. A result that comes
//! after the state has changed decides nothing.
//!
//! **Calls without a result.** A panic counts as a failure. A call that is dropped counts as one if
//! its time was up: a [timeout](crate::timeout) of this crate dropped it, the deadline of its
//! [`Context`](crate::Context) had passed, or it had run longer than
//! [the slow-call bound](CircuitBreakerBuilder::slow_call_duration) since it was first found pending.
//! Else it is ignored. A probe's place comes back in any case.
//!
//! **Modes.** A breaker may do as its rules say, only observe what it would do, be forced open or
//! closed, or be disabled; see [`Mode`]. A [handle](CircuitBreakerHandle) sets the mode while calls run.
//!
//! **Who is told.** [Listeners](CircuitBreakerBuilder::on_state_change) and
//! [streams](CircuitBreakerHandle::state_changes) of each [`StateChange`], beside
//! [metrics and events](crate::telemetry). A breaker that closes tells its time to recovery.
//!
//! **Back-pressure.** Below a balancer or a buffer a service that says it is ready and then refuses is
//! in the way. There [`back_pressure`](CircuitBreakerLayer::back_pressure) makes readiness the
//! reservation: see [`BackPressureCircuitBreaker`].
//!
//! # Until the end of a body
//!
//! Told [until when](CircuitBreakerBuilder::until) to wait for the verdict, a breaker so learns of a service
//! whose head is good and whose body is not. A failure that the head shows is one at once. Else the call
//! goes on, in the state that it was admitted in, until the body is complete or fails. Its latency, for all
//! rules, is that of the head.
//!
//! A body that is dropped counts as a failure if its time was up: if a timeout of this crate dropped it, if
//! the deadline that was in force at the head has passed, or if it had kept its reader waiting for longer
//! than the slow-call bound. A body that panics is a failure. A probe that is still streaming when the
//! slow-call bound has passed since its head is taken for good when its reader next asks for more, or a
//! long stream would hold the breaker half-open; one that gives no sign is [as late as
//! any](CircuitBreakerBuilder::half_open_timeout).
//!
//! # Cost
//!
//! A call that is answered at once, under rules that look at failures and at numbers of
//! calls, reads no clock and writes no memory that another thread reads. A rule for slow calls reads
//! the clock at both ends. A time window and a weighted rate read it at the end, a quantile at both, and
//! each of the three writes one word at every call, good or bad. A rule of your own runs at every call,
//! with a look at the clock and at all windows. A rule that is not set costs nothing. A refusal reads
//! the clock once and touches no timer.
//!
//! # Keys
//!
//! One layer may have [a breaker for each key](CircuitBreakerBuilder::keyed), such as a host, so that one
//! that fails is left alone and the others are not. The number of keys is bounded, and keys that are not
//! in use are forgotten, those with a closed breaker first; see [`keyed`](crate::keyed) for how, and for
//! what a call costs. A key costs its breaker's counts; all else is the layer's.
//!
//! ```
//! use steadfast::{circuit_breaker::{CircuitBreakerLayer, State}, keyed::by_ref};
//! use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let layer = CircuitBreakerLayer::builder()
//!     .consecutive_failures(1)
//!     .keyed(10_000, by_ref(|host: &String| host.as_str()))
//!     .build()?;
//! let mut svc = layer.layer(service_fn(|host: String| async move {
//!     if host == "down.example" { Err(BoxError::from("connection refused")) } else { Ok(()) }
//! }));
//!
//! assert!(svc.ready().await?.call("down.example".into()).await.is_err());
//! svc.ready().await?.call("up.example".into()).await?;
//! let breakers = layer.handle();
//! assert_eq!(breakers.get("down.example").unwrap().state(), State::Open);
//! assert_eq!(breakers.get("up.example").unwrap().state(), State::Closed);
//! # Ok(())
//! # }
//! ```
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use steadfast::{
//!     Rejected,
//!     backoff::Backoff,
//!     circuit_breaker::{Cause, CircuitBreakerLayer, State, Thresholds},
//! };
//! use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! let layer = CircuitBreakerLayer::builder()
//!     .name("users-db")
//!     .consecutive_failures(3)
//!     .count_window(100, Thresholds::failure_rate(0.5))
//!     .open_time(Backoff::exponential(Duration::from_secs(1), Duration::from_secs(30))?)
//!     .half_open_probes(1)
//!     .build()?;
//! let breaker = layer.handle();
//! let mut users = layer.layer(service_fn(|up: bool| async move {
//!     if up { Ok("alice") } else { Err(BoxError::from("connection refused")) }
//! }));
//!
//! for _ in 0..3 {
//!     users.ready().await?.call(false).await.unwrap_err();
//! }
//! assert_eq!(breaker.snapshot().cause, Some(Cause::ConsecutiveFailures));
//!
//! // Open: refused without being called.
//! let error = users.ready().await?.call(true).await.unwrap_err();
//! let rejected = Rejected::find(&*error).unwrap();
//! assert_eq!(rejected.layer(), "users-db");
//!
//! // The open time over, one good probe closes it.
//! tokio::time::advance(rejected.retry_after().unwrap()).await;
//! assert_eq!(users.ready().await?.call(true).await?, "alice");
//! assert_eq!(breaker.state(), State::Closed);
//! # Ok(())
//! # }
//! ```

mod always;
mod ask;
mod back_pressure;
mod builder;
mod cause;
mod changes;
mod desk;
mod future;
mod gauges;
mod handle;
mod held;
mod keyed;
mod layer;
#[cfg(all(test, steadfast_loom))]
mod loom_tests;
mod machine;
#[cfg(all(test, not(steadfast_loom)))]
mod machine_tests;
mod mode;
mod own;
mod ramp;
mod rules;
#[cfg(all(test, not(steadfast_loom)))]
mod rules_tests;
mod seat;
mod service;
mod settings;
mod trip;
mod unsettled;
mod word;

pub use crate::window::{Counts, WeightedCounts};
pub use back_pressure::{BackPressureCircuitBreaker, BackPressureCircuitBreakerLayer};
pub use builder::CircuitBreakerBuilder;
pub use cause::Cause;
pub use changes::{MissedChanges, StateChange, StateChanges};
pub use future::CircuitBreakerFuture;
pub use handle::{CircuitBreakerHandle, Snapshot};
pub use keyed::{
    KeyedCircuitBreaker, KeyedCircuitBreakerBuilder, KeyedCircuitBreakerFuture,
    KeyedCircuitBreakerHandle, KeyedCircuitBreakerLayer,
};
pub use layer::CircuitBreakerLayer;
pub use mode::Mode;
pub use ramp::Ramp;
pub use rules::{LatencyQuantile, Thresholds};
pub use service::CircuitBreaker;
pub use trip::Statistics;
pub use unsettled::{UnsettledCall, UnsettledKeyedCall};
pub use word::State;
