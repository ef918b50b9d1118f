//! What a response says about the service that gave it.

use http::{HeaderMap, Response, StatusCode};

use super::retry_after;
use crate::classify::{Classify, Failure, Hint, Verdict};

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
/// **`Retry-After`** on a failure becomes a [`Hint::After`], whatever the failing status. Read is what
/// RFC 9110 calls *delay-seconds*: digits and nothing else, in exactly one field line. Anything else is
/// as if it were not there; so, for the time being, is a date. Delays beyond 4,294,967,295 s (136
/// years) count as that. On a success, such as a redirect, the field is not looked at.
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
    /// What a response with this head says about the service. For responses that are not an
    /// [`http::Response`].
    #[must_use]
    pub fn verdict(&self, status: StatusCode, headers: &HeaderMap) -> Verdict {
        let failure = match status.as_u16() {
            408 | 504 => Failure::timeout(),
            429 | 503 => Failure::overload(),
            500 | 502 => Failure::transient(),
            501..=599 => Failure::permanent(),
            _ => return Verdict::Success,
        };
        Verdict::Failure(match retry_after::read(headers) {
            Some(delay) => failure.with_hint(Hint::After(delay)),
            None => failure,
        })
    }
}

impl<B, E> Classify<Response<B>, E> for HttpClassifier {
    fn classify(&self, result: Result<&Response<B>, &E>) -> Verdict {
        match result {
            Ok(response) => self.verdict(response.status(), response.headers()),
            Err(_) => Failure::transient().into(),
        }
    }
}
