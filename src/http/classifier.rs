//! What a response says about the service that gave it.

use http::{HeaderMap, Response, StatusCode};

use super::{HttpClassifierBuilder, hint, rule::Rule};
use crate::{
    classify::{Classify, Failure, FailureKind, Verdict},
    time,
};

/// Judges HTTP responses by their status; every error, a failed connection included, is
/// [transient](Failure::transient).
///
/// | status | verdict | tried again |
/// |---|---|---|
/// | 408, 504 | failure: [timeout](Failure::timeout) | yes |
/// | 429, 503 | failure: [overload](Failure::overload) | yes |
/// | 500, 502 | failure: [transient](Failure::transient) | yes |
/// | other 5xx, such as 501 and 505 | failure: [permanent](Failure::permanent) | no |
/// | all others | success | |
///
/// **Where the boundary lies.** A failure is what the *service* did not do. One that answers 404 or
/// 422 has understood the request and done its work, so no number of them opens a breaker. 408 and 429
/// are the two exceptions below 500: with them the service says that it did not get to the request.
/// 425 is not among them, since it asks for the request to be sent otherwise, not again. The status is
/// all that is judged; that a body breaks off is a failure too, to a layer that waits for the
/// [end of it](super::EndOfBody).
///
/// **When to come back.** On a failure, whatever its status, `Retry-After` becomes a [`Hint::After`]: RFC
/// 9110's *delay-seconds*, digits and nothing else, or a date in one of its three forms, in exactly one
/// field line. A date counts from the response's own `Date`, so that no clocks need agree, or else from
/// the clock on the wall; one that has passed is a delay of zero. On 429 and 503 that have none,
/// the `t` of [the `RateLimit` field][rate-limit] is read (as its draft stood in September 2025), the
/// longest of those whose `r` is zero; then
/// `X-RateLimit-Reset`, in seconds to go or since the Unix epoch, unless `X-RateLimit-Remaining` says that
/// there is some. What is malformed is as if it were not there. Delays beyond 4,294,967,295 s (136
/// years) count as that. On a success, such as a redirect, none of this is looked at.
///
/// **Not to come back** is a [`Hint::Never`]: `x-envoy-overloaded`, which Envoy and [we](super::Refusal)
/// set, and on a 503 `finagle-http-nonretryable-nack`.
///
/// What else is to hold can be set: [`builder`](Self::builder).
///
/// [rate-limit]: https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/
/// [`Hint::After`]: crate::classify::Hint::After
/// [`Hint::Never`]: crate::classify::Hint::Never
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use http::Response;
/// use steadfast::{Classify, Verdict, classify::{Failure, Hint}, http::HttpClassifier};
///
/// let judge = |response: Response<()>| {
///     HttpClassifier.classify(Ok::<_, &std::io::Error>(&response))
/// };
/// let response = |status| Response::builder().status(status);
///
/// assert_eq!(judge(response(404).body(()).unwrap()), Verdict::Success);
/// assert_eq!(judge(response(501).body(()).unwrap()), Failure::permanent().into());
///
/// let busy = response(503).header("retry-after", "7").body(()).unwrap();
/// let hint = Hint::After(Duration::from_secs(7));
/// assert_eq!(judge(busy), Failure::overload().with_hint(hint).into());
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::exhaustive_structs, reason = "the name says all that it does")]
pub struct HttpClassifier;

impl HttpClassifier {
    /// Begins a classifier with rules of your own, for all statuses that have none as this one.
    pub const fn builder() -> HttpClassifierBuilder {
        HttpClassifierBuilder::new()
    }

    /// What a response with this head says about the service. For responses that are not an
    /// [`http::Response`].
    #[must_use]
    pub fn verdict(&self, status: StatusCode, headers: &HeaderMap) -> Verdict {
        verdict(Self::rule(status), status, headers)
    }

    pub(super) const fn rule(status: StatusCode) -> Rule {
        let kind = match status.as_u16() {
            408 | 504 => FailureKind::Timeout,
            429 | 503 => FailureKind::Overload,
            500 | 502 => FailureKind::Transient,
            501..=599 => FailureKind::Permanent,
            _ => return Rule::Success,
        };
        Rule::Failure(kind)
    }
}

/// What a rule makes of a response with this head.
pub(super) fn verdict(rule: Rule, status: StatusCode, headers: &HeaderMap) -> Verdict {
    rule.verdict(|| hint::read(status, headers, time::since_unix_epoch))
}

impl<B, E> Classify<Response<B>, E> for HttpClassifier {
    fn classify(&self, result: Result<&Response<B>, &E>) -> Verdict {
        match result {
            Ok(response) => self.verdict(response.status(), response.headers()),
            Err(_) => Failure::transient().into(),
        }
    }
}
