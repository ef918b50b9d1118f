//! Learns from throttling answers at which rate to send, as the adaptive retry mode of AWS's SDKs does.
//!
//! A service that allows so many calls a second does not say how many. Its client sends what it has until
//! the service throttles a call, and then at a rate: 0.7 of the one at which it was throttled, soon again
//! nearly that, and from there on more and more, until the service throttles another. What has no turn at
//! that rate is refused, with [`Reason::Throttled`](crate::Reason::Throttled) and a time to come back, or
//! [waits](AdaptiveRateBuilder::max_wait).
//!
//! It is for services that allow a *rate*: an API with a quota. One that is overloaded takes what it can do,
//! and for it are the [throttle](super), which refuses by chance what the service would, and the
//! [adaptive limit](crate::adaptive) of calls in flight.
//!
//! **What throttles** is a failure of the kind [overload](crate::classify::FailureKind::Overload): 429 and
//! 503 to the [`HttpClassifier`](crate::http::HttpClassifier), `RESOURCE_EXHAUSTED` to the
//! [`GrpcClassifier`](crate::grpc::GrpcClassifier). All else that the service answers it has taken. What is
//! ignored, never sent, refused by a layer below, abandoned or panics tells nothing.
//!
//! # The rate
//!
//! CUBIC, of congestion control (RFC 9438), with the constants and the formulas of botocore's
//! `retries/throttling.py` and `retries/adaptive.py`. With `t` the seconds since a call was throttled,
//!
//! ```text
//! throttled at `now`:  most = min(measured, rate);  K = (most * 0.3 / 0.4)^(1/3)
//! rate = min(0.4 (t - K)^3 + most, 2 * measured), at least 0.5
//! ```
//!
//! where `measured` are the answers a second, counted in half seconds and smoothed: the latest counts 0.8. So the
//! rate is back at `most` after K seconds, which are 4.2 for 100 calls a second, and 20 for 10,000, and at twice as
//! much after 10.5 s, and 49 s.
//!
//! Three things are otherwise here.
//!
//! - **One decrease a round trip.** A throttling answer to a call that had its turn before the rate was last
//!   lowered lowers it no further, as CUBIC has it. There, each one does, and twenty calls in flight that
//!   are throttled together leave a thousandth of the rate.
//!   Simulated, an API that allows 1,000 calls a second, answers after 50 ms, and is offered five times as many
//!   gets 960 a second from one client, and 990 from four. If each throttling answer lowered the rate, it would
//!   get 250, and 600.
//! - **It ends.** Where nothing was throttled for [long](AdaptiveRateBuilder::forget_after), calls are not
//!   limited any more.
//! - Until the first half second is over, what was answered in it is what is measured, and not nothing.
//!
//! As there, [a second's worth](AdaptiveRateBuilder::burst) of calls may be saved up; but there is nothing
//! saved up when the limit begins.
//!
//! **Turns** are given in the order in which calls come. One that is dropped before its turn gives it back,
//! and who comes next comes so much earlier. It is spent once the inner service is made ready for the call.
//!
//! **Modes.** A layer may be [enabled, only observe, or be disabled](Mode). One that only observes learns from
//! what it sends, which is all; it makes no call wait.
//!
//! **Where it stands.** At a client, inside the retry: each attempt has a turn of its own.
//!
//! # Cost
//!
//! A call clones the inner service, reads the clock once, at its end, and writes one word that calls of other
//! threads write, too. Where calls are limited it reads the clock at both ends, and writes another; no call
//! waits for a lock but one that is throttled.
//!
//! # Keys
//!
//! One layer may have [a rate for each key](AdaptiveRateBuilder::keyed): services have quotas by host, by
//! tenant, by operation, and what is throttled of one says nothing of the others. The number of keys is bounded;
//! see [`keyed`](crate::keyed) for how, and for what a call costs.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use steadfast::{
//!     Reason, Rejected, Verdict, classify::Failure, throttle::rate::AdaptiveRateLayer,
//! };
//! use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! // Over HTTP or gRPC the ready classifiers do.
//! let too_many = |result: Result<&(), &BoxError>| match result {
//!     Ok(()) => Verdict::Success,
//!     Err(_) => Failure::overload().into(),
//! };
//! let layer = AdaptiveRateLayer::builder(too_many).name("search").build()?;
//! let mut search = layer.layer(service_fn(|is_allowed: bool| async move {
//!     if is_allowed { Ok(()) } else { Err(BoxError::from("slow down")) }
//! }));
//!
//! for _ in 0..200 {
//!     tokio::time::sleep(Duration::from_millis(10)).await;
//!     search.ready().await?.call(true).await?;
//! }
//! let rate = layer.handle();
//! assert_eq!(rate.snapshot().rate, None);
//!
//! search.ready().await?.call(false).await.unwrap_err();
//! let limit = rate.snapshot().rate.unwrap();
//! assert!((68.0..72.0).contains(&limit), "0.7 of 100 a second");
//!
//! search.ready().await?.call(true).await?;
//! let error = search.ready().await?.call(true).await.unwrap_err();
//! let rejected = Rejected::find(&*error).unwrap();
//! assert_eq!(rejected.reason(), Reason::Throttled);
//! assert!(rejected.retry_after().unwrap() < Duration::from_millis(20));
//! # Ok(())
//! # }
//! ```

mod builder;
mod call;
mod cubic;
mod future;
mod handle;
mod keyed;
mod layer;
mod learner;
#[cfg(all(test, steadfast_loom))]
mod loom_tests;
mod measured;
mod pace;
mod service;
mod settings;
mod shared;
#[cfg(all(test, not(steadfast_loom)))]
mod tests;
mod wait;

pub use crate::mode::Mode;
pub use builder::AdaptiveRateBuilder;
pub use call::{UntoldCall, UntoldKeyedCall};
pub use future::AdaptiveRateFuture;
pub use handle::{AdaptiveRateHandle, AdaptiveRateSnapshot};
pub use keyed::{
    KeyedAdaptiveRate, KeyedAdaptiveRateBuilder, KeyedAdaptiveRateFuture, KeyedAdaptiveRateHandle,
    KeyedAdaptiveRateLayer,
};
pub use layer::AdaptiveRateLayer;
pub use service::AdaptiveRate;
