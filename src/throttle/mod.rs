//! Holds calls back from a service that says it has too many, as chapter 21 of the Google SRE book has it.
//!
//! A service that is overloaded spends what it has left on refusing calls. So its client refuses some of
//! them itself, with [`Reason::Throttled`](crate::Reason::Throttled), before they are sent. Of the
//! requests in the [window](ThrottleBuilder::window) it counts all, those that it refused among them, and
//! those that the service accepted, and refuses the next one with the probability
//!
//! ```text
//! max(0, (requests - K * accepts) / (requests + 1))
//! ```
//!
//! Whatever is offered, for each call that the service accepts so [K](ThrottleBuilder::multiplier) are
//! sent: with the default of 2 one more that it must refuse, with 1.1 a tenth of one. Nothing is refused
//! while one in K is accepted. There is no state to be stuck in, and no moment at which
//! everything is refused.
//!
//! **What is not accepted** is a failure of the kind
//! [overload](crate::classify::FailureKind::Overload), or [of others that you
//! name](ThrottleBuilder::not_accepted): 429 and 503 to the [`HttpClassifier`](crate::http::HttpClassifier),
//! `RESOURCE_EXHAUSTED` and `UNAVAILABLE` with pushback to the
//! [`GrpcClassifier`](crate::grpc::GrpcClassifier). The application's other failures, time-outs too, were
//! accepted. What is ignored, never sent, refused by a layer below, abandoned or panics is no request at
//! all. A request counts when it ends.
//!
//! **Bounds.** No probability exceeds [a cap](ThrottleBuilder::max_probability), and nothing is refused
//! below [a least rate](ThrottleBuilder::minimum_rate) of requests, as in Envoy and failsafe-go.
//!
//! **Criticality.** The requests of each [`Criticality`](crate::Criticality) have statistics of their own.
//! A service that refuses the less critical first has fewer of them sent, and all of the others.
//!
//! **Recovery.** With nothing but the formula a client takes long to notice that a service is well again:
//! what it refuses itself goes on counting against it. So here the share of requests that pass doubles with
//! each tenth of the window in which the service accepted all that it was sent; provided these were so many
//! that at the formula's balance as many in a row would be one chance in a thousand: `13.8 K / (K - 1)^2`,
//! which is 28 for 2, and 1,520 for 1.1. The first call that finds it overloaded ends that.
//!
//! How long not all is sent again, with a window of 2 min and the default cap (the formula's own computed
//! as a flow; ours simulated, with 225 to 2,500 calls a second. With a small K fewer take longer, for it is
//! longer until they are enough):
//!
//! | after | K = 2, the formula | here | K = 1.1, the formula | here |
//! |---|---|---|---|---|
//! | ten times the load that the service could do, of which it now can do all | 128 s | 24 s | 22 min | 36 s |
//! | ten times the load that it can do, of which is left what it can | 174 s | 36 s | 23 min | 41 s |
//! | an outage | 211 s | 36 s | 24 min | 85 s |
//!
//! **A rate.** Where a service allows so many calls a second, a client may learn [that rate](rate) instead.
//!
//! **Modes.** A throttle may be [enabled, only observe, or be disabled](Mode), and be switched while it runs
//! by its [handle](ThrottleHandle).
//!
//! **Where it stands.** At a client, inside the retry: each attempt is a request. What it refuses, no
//! retry repeats against the same service. Many small clients see too little each to throttle well; one
//! that is shared does, such as a proxy.
//!
//! # Reports
//!
//! A service may say how loaded it is, before it has to refuse: a server of ours in each answer, by a
//! [`LoadReportLayer`](crate::http::LoadReportLayer), and others in the same header of ORCA's. A throttle that
//! is [told to](ThrottleBuilder::heed_load) holds back what does not fit: of a service that is asked for
//! `utilization` times what it can do, when a share of `sent` of the calls was sent, `1 - 1.1 sent /
//! utilization`. A tenth too much is sent so that it is noticed when more fits; where that is far more, what is
//! sent doubles in a quarter of a second or so. The greater of this and the formula's probability holds, and what
//! is held back so is no request of the formula's: so it is over when the service says so, and not a window
//! later.
//!
//! **The least critical first.** Where the service says which share of each criticality it lets pass, that holds
//! for those calls, in place of `1 / utilization`. Else what fits is filled with the most critical calls, as
//! they came of late.
//!
//! **Bounds.** Reports are smoothed over a quarter of a second, hold for a second, and hold back no more than
//! [the cap](ThrottleBuilder::max_probability). Each criticality goes by the reports in answers to its own calls,
//! each key by those of its own.
//!
//! Simulated, with a server of ours that can do 500 calls a second and is offered five times as many: it is sent
//! 1.2 times what it can do, from half a second on, and all again within a second of the load's fall. By the formula
//! with its defaults it is sent 4.5 times as much after 10 s and 3.4 after 20, and after the fall not all for more than 20 s.
//!
//! # Cost
//!
//! While no call of its criticality was refused in the window, here or by the service, a call reads the
//! clock once, at its end, and writes one word. Else it reads the clock at both ends and adds up the
//! window, which is the same ten slices at any traffic. Where reports are heeded, an answer that has one takes a
//! look at the clock and, unless another call is at it, a lock.
//!
//! # Keys
//!
//! One layer may have [a throttle for each key](ThrottleBuilder::keyed), such as a host or a tenant. The
//! number of keys is bounded, and keys that are not in use are forgotten, those of which nothing is
//! refused first; see [`keyed`](crate::keyed) for how, and for what a call costs.
//!
//! ```
//! use steadfast::{Criticality, Verdict, classify::Failure, keyed::by_ref, throttle::ThrottleLayer};
//! use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let too_many = |result: Result<&(), &BoxError>| match result {
//!     Ok(()) => Verdict::Success,
//!     Err(_) => Failure::overload().into(),
//! };
//! let layer = ThrottleLayer::builder(too_many)
//!     .minimum_rate(0.0)
//!     .keyed(10_000, by_ref(|host: &String| host.as_str()))
//!     .build()?;
//! let mut svc = layer.layer(service_fn(|host: String| async move {
//!     if host == "busy.example" { Err(BoxError::from("too many requests")) } else { Ok(()) }
//! }));
//!
//! svc.ready().await?.call("busy.example".into()).await.unwrap_err();
//! svc.ready().await?.call("idle.example".into()).await?;
//! let throttles = layer.handle();
//! let probability = |host: &str| {
//!     let of_host = throttles.get(host).unwrap().snapshot(Criticality::Critical);
//!     of_host.reject_probability
//! };
//! assert_eq!(probability("busy.example"), 0.5);
//! assert_eq!(probability("idle.example"), 0.0);
//! # Ok(())
//! # }
//! ```
//!
//! # Example
//!
//! ```
//! use steadfast::{
//!     Criticality, Reason, Rejected, Verdict, classify::Failure, throttle::ThrottleLayer,
//! };
//! use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! // Over HTTP or gRPC the ready classifiers do.
//! let too_many = |result: Result<&u32, &BoxError>| match result {
//!     Err(error) if error.to_string() == "too many requests" => Failure::overload().into(),
//!     _ => Verdict::Success,
//! };
//! let layer = ThrottleLayer::builder(too_many).name("users").seed(1).build()?;
//! let throttle = layer.handle();
//! let mut users = layer.layer(service_fn(|id: u32| async move {
//!     Err::<u32, _>(BoxError::from("too many requests"))
//! }));
//!
//! let mut refused = Vec::new();
//! for id in 0..1_000 {
//!     let error = users.ready().await?.call(id).await.unwrap_err();
//!     refused.extend(Rejected::find(&*error).copied());
//! }
//! assert_eq!(refused[0].reason(), Reason::Throttled);
//! assert!(refused.len() > 700);
//!
//! let known = throttle.snapshot(Criticality::Critical);
//! assert_eq!((known.requests, known.accepts, known.reject_probability), (1_000, 0, 0.9));
//! # Ok(())
//! # }
//! ```

mod builder;
mod future;
mod handle;
mod heeding;
mod held;
mod keyed;
mod layer;
pub mod rate;
mod reports;
mod rule;
mod service;
mod settings;
mod shared;
mod statistics;
#[cfg(all(test, not(steadfast_loom)))]
mod tests;

pub use crate::{
    mode::Mode,
    reported::{ReadLoad, ReportedLoad},
};
pub use builder::ThrottleBuilder;
pub use future::ThrottleFuture;
pub use handle::{ThrottleHandle, ThrottleSnapshot};
pub use heeding::Heeding;
pub use held::{UncountedCall, UncountedKeyedCall};
pub use keyed::{
    KeyedThrottle, KeyedThrottleBuilder, KeyedThrottleFuture, KeyedThrottleHandle,
    KeyedThrottleLayer,
};
pub use layer::ThrottleLayer;
pub use service::Throttle;
