//! Deadlines that travel: read from a request, obeyed while it is served, and handed on, less what has
//! been spent, with every call that is made for it.
//!
//! A deadline is a moment on this process's own clock. On the wire it is a duration, the time that is
//! left, so no two clocks need agree, and a clock that leaps does no harm.
//!
//! **At the server**, [`DeadlineLayer`] gives every request its deadline and enters it as the
//! [`Context`](crate::Context), along with the criticality and the attempt that the caller states. The
//! handler reads what is left with [`Context::remaining`](crate::Context::remaining); so does whatever
//! waits in this crate. When the deadline passes, the inner future is dropped at once, and the error is
//! a [`TimedOut`](crate::TimedOut) with [`Limit::Deadline`](crate::Limit::Deadline). What arrives with
//! nothing left, or with less than it [needs](DeadlineBuilder::needs), is refused with
//! [`Reason::DeadlineExceeded`](crate::Reason::DeadlineExceeded), and the inner service never sees it.
//! It belongs right below the layer that answers refusals: the time counts from the call of this layer.
//!
//! **At the client**, [`PropagateLayer`] writes what is left at the moment of the call, truncated to the
//! unit of the header and never rounded up, and stops waiting when it has passed. A call with nothing
//! left is refused and never sent. It belongs innermost, below retries, so that every attempt says what
//! is left *then*.
//!
//! **Whichever comes first** is the deadline in force: what the headers say, what is configured, the
//! [`CallTimeout`] that is in the request's extensions, and what the context holds already.
//!
//! # What is read
//!
//! **Headers are believed only if told to**: [`DeadlineBuilder::trust_headers`], or
//! [`trust_if`](DeadlineBuilder::trust_if). Where they are, the least of these counts:
//!
//! | header | value |
//! |---|---|
//! | `grpc-timeout` | one to eight digits and one of `H`, `M`, `S`, `m`, `u`, `n` |
//! | `x-request-timeout-ms`, or [another name](HeaderNames) | milliseconds: digits |
//! | `x-envoy-expected-rq-timeout-ms` | milliseconds: digits |
//!
//! and the attempt, from `grpc-previous-rpc-attempts` or the [HTTP header](HeaderNames), and the
//! criticality with them. Zero is no time at all. Milliseconds that 64 bits do not hold are as many as
//! they do; the maximum cuts them. A header that has anything else in it, or stands in the request
//! twice, is malformed. It counts as not there and is told of, or, if so
//! [configured](DeadlineBuilder::refuse_malformed), the request is refused with
//! [`Reason::InvalidRequest`](crate::Reason::InvalidRequest): 400, or `INVALID_ARGUMENT`.
//!
//! # What is written
//!
//! For a request whose `content-type` begins with `application/grpc`: `grpc-timeout` in the finest unit
//! of which eight digits hold what is left, and `grpc-previous-rpc-attempts` after the first attempt. For
//! any other: the HTTP headers. A timeout of the caller's own that stands there is kept where it is
//! shorter, and obeyed. Less than a millisecond cannot be said over HTTP, and counts as nothing left.
//! Criticality and attempt are the context's, or are taken out: what an untrusted request said is not
//! handed on by a proxy. A header costs an allocation, which the `http` crate asks for.
//!
//! # Where it ends
//!
//! With the head of the response: neither side cuts a body that is still streaming. Work that is to
//! outlive the deadline goes into [a task without it](crate::Context::without_deadline); work that runs
//! elsewhere but belongs to the request into [`context::spawn`](crate::context::spawn).
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use http::{Request, Response};
//! use steadfast::{Context, Limit, TimedOut, deadline::{DeadlineLayer, PropagateLayer}};
//! use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! let secs = Duration::from_secs;
//! // Stands for the wire: what is sent to it is what the next server gets.
//! let next = service_fn(|req: Request<()>| async move {
//!     Ok::<_, BoxError>(Response::new(req.headers()["x-request-timeout-ms"].clone()))
//! });
//! let client = ServiceBuilder::new().layer(PropagateLayer::new()).service(next);
//!
//! // Works for a while, then asks the next.
//! let server = ServiceBuilder::new()
//!     .layer(DeadlineLayer::builder(secs(60)).trust_headers().build()?)
//!     .service(service_fn(|takes: Request<Duration>| {
//!         let client = client.clone();
//!         async move {
//!             tokio::time::sleep(*takes.body()).await;
//!             client.oneshot(Request::new(())).await
//!         }
//!     }));
//!
//! let request = |takes| Request::get("/").header("grpc-timeout", "30S").body(takes);
//! let response = server.clone().oneshot(request(secs(7))?).await?;
//! assert_eq!(response.body(), "23000");
//!
//! let error = server.oneshot(request(secs(31))?).await.unwrap_err();
//! let timed_out = TimedOut::find(&*error).unwrap();
//! assert_eq!((timed_out.limit(), timed_out.waited()), (Limit::Deadline, secs(30)));
//! # Ok(())
//! # }
//! ```

mod attempt;
mod criticality;
mod digits;
mod expiring;
#[cfg(all(test, not(steadfast_loom)))]
mod fuzz_tests;
mod grpc_timeout;
mod incoming;
mod layer;
mod limits;
mod millis;
mod names;
mod outgoing;
mod propagate;
mod service;
mod share;
#[cfg(all(test, not(steadfast_loom)))]
mod tests;

pub use layer::{DeadlineBuilder, DeadlineLayer, Everybody, Nobody, Trust};
pub use names::HeaderNames;
pub use outgoing::Protocol;
pub use propagate::{Propagate, PropagateBuilder, PropagateFuture, PropagateLayer};
pub use service::{CallTimeout, Deadline, DeadlineFuture};
