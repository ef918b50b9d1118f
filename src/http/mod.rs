//! HTTP: what a response says about a service, what may be sent twice, and refusals as responses.
//!
//! At a client, [`retry`] begins a retry that is right for most of HTTP, and [`HttpClassifier`] tells
//! every layer what a failure is; [`HttpClientClassifier`] also sees what was never sent. At a server, [`AnswerRefusalsLayer`] stands outermost and answers
//! what the layers below it refused; that is what axum, whose services cannot fail, and hyper, which
//! closes the connection on an error, both want.
//!
//! Against overload: [`load_shed`] and [`adaptive`] begin what a server refuses by, [`throttle`] what a client
//! holds back by that is told 429 or 503.
//!
//! # Example
//!
//! ```
//! use axum::{Router, body::Body, extract::Request, routing::get};
//! use steadfast::{LiftLayer, bulkhead::BulkheadLayer, http::AnswerRefusalsLayer};
//! use tower::{BoxError, ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! // A bulkhead of zero refuses every call.
//! let full = BulkheadLayer::builder(0).name("front-door").build();
//! let app = Router::new().route("/", get(|| async { "hello" })).layer(
//!     ServiceBuilder::new()
//!         .layer(AnswerRefusalsLayer::new())
//!         .layer(full)
//!         .layer(LiftLayer::new()),
//! );
//!
//! let response = app.oneshot(Request::new(Body::empty())).await?;
//! assert_eq!(response.status(), 503);
//! assert_eq!(response.headers()["content-type"], "application/problem+json");
//! let body = axum::body::to_bytes(response.into_body(), 1024).await?;
//! let problem: serde_json::Value = serde_json::from_slice(&body)?;
//! assert_eq!(problem["reason"], "bulkhead_full");
//! # Ok(())
//! # }
//! ```
//!
//! # Until the end of a body
//!
//! A response that is streamed has only begun when its head is there. [`bulkhead`] and [`circuit_breaker`]
//! begin layers that see it through: a call is in flight, and its verdict open, until the [`EndOfBody`].
//! [`BodyTimeoutLayer`] limits how long that may take. A retry looks at heads: what the caller has been
//! given is not taken back. The response of an attempt that failed is dropped before the next one is
//! waited for, and not read to its end first: a connection that must be made anew costs less than a body
//! that does not end, and hyper itself keeps one whose body has come already.
//!
//! # Clients with types of their own
//!
//! reqwest's client is a service of `reqwest::Request` and `reqwest::Response`. Two closures put the
//! same rules to them:
//!
//! ```
//! use reqwest::{Client, Request, Response};
//! use steadfast::{
//!     LiftLayer, Verdict,
//!     classify::{AnyError, Classify},
//!     http::{HttpClassifier, is_safe_to_retry, retry},
//! };
//! use tower::{BoxError, ServiceBuilder};
//!
//! # fn main() -> Result<(), BoxError> {
//! type Error = steadfast::Error<reqwest::Error>;
//! let classifier = |result: Result<&Response, &Error>| match result {
//!     Ok(response) => HttpClassifier.verdict(response.status(), response.headers()),
//!     error => AnyError.classify(error),
//! };
//! let copy = |req: &Request| {
//!     let is_safe = is_safe_to_retry(req.method(), req.headers());
//!     is_safe.then(|| req.try_clone()).flatten()
//! };
//!
//! let client = ServiceBuilder::new()
//!     .layer(retry().classifier(classifier).clone_request(copy).build()?)
//!     .layer(LiftLayer::new())
//!     .service(Client::new());
//! # fn takes_requests(_: impl tower::Service<Request, Response = Response, Error = Error>) {}
//! # takes_requests(client);
//!
//! // What a retry would do with this one:
//! let post = Client::new().post("http://localhost/orders").build()?;
//! assert!(copy(&post).is_none(), "a POST goes once");
//! # Ok(())
//! # }
//! ```

mod answer;
mod body;
mod classifier;
mod custom;
mod endpoint_load;
mod field;
#[cfg(all(test, not(steadfast_loom)))]
mod fuzz_tests;
mod health_checks;
pub(crate) mod hint;
mod idempotent;
mod load_classifier;
mod load_report;
mod never_sent;
mod presets;
mod problem;
mod rate_limit;
mod refusal;
mod replay;
mod retry_after;
mod rule;

pub use answer::{
    Answer, AnswerRefusals, AnswerRefusalsFuture, AnswerRefusalsLayer, ProblemDetails,
};
pub use body::{
    BodyTimeout, BodyTimeoutBuilder, BodyTimeoutFuture, BodyTimeoutLayer, ClassifyEnd, End,
    EndOfBody, GuardedBody, TimeoutBody,
};
pub use classifier::HttpClassifier;
pub use custom::{CustomHttpClassifier, HttpClassifierBuilder, StatusRange};
pub use endpoint_load::EndpointLoadMetrics;
pub use health_checks::{HealthChecks, is_health_check};
pub use idempotent::{Idempotent, IdempotentBodyless, is_idempotent, is_safe_to_retry, retry};
pub use load_classifier::HttpLoadClassifier;
pub use load_report::{LoadReport, LoadReportFuture, LoadReportLayer};
pub use never_sent::{HttpClientClassifier, is_never_sent};
pub use presets::{adaptive, bulkhead, circuit_breaker, load_shed, throttle};
pub use refusal::{IntoRefusal, Refusal};
pub use replay::{Replay, ReplayBody, ReplayError, ReplayLayer, Replayable};
#[cfg(feature = "grpc")]
pub(crate) use rule::Rule;
