//! What a response says about how much a service can take.

use http::{HeaderMap, Response, StatusCode};

use super::{ClassifyEnd, End, HttpClassifier};
use crate::classify::{AnyError, Classify, Verdict};

/// Judges as [`HttpClassifier`], for a limit on the load: what was refused for the fault of the caller, or of
/// somebody on the way to it, is ignored.
///
/// | status | verdict |
/// |---|---|
/// | 429, and all 5xx | as [`HttpClassifier`] has it: 429 and 503 are overload |
/// | other 4xx | ignored |
/// | all others | success |
///
/// A service that answers 404 or 422 has done its work, which is what matters to a breaker. But it has done
/// so in no time, and a limit that took it for a fast service would let too much in. A 408 is among
/// them: it was the caller who took too long.
///
/// [`adaptive`](super::adaptive) begins with it.
///
/// # Example
///
/// ```
/// use http::{HeaderMap, StatusCode};
/// use steadfast::{Verdict, classify::Failure, http::HttpLoadClassifier};
///
/// let judge = |status| HttpLoadClassifier.verdict(status, &HeaderMap::new());
/// assert_eq!(judge(StatusCode::TOO_MANY_REQUESTS), Failure::overload().into());
/// assert_eq!(judge(StatusCode::NOT_FOUND), Verdict::Ignored);
/// assert_eq!(judge(StatusCode::SEE_OTHER), Verdict::Success);
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::exhaustive_structs, reason = "the name says all that it does")]
pub struct HttpLoadClassifier;

impl HttpLoadClassifier {
    /// What a response with this head says about the load of the service. For responses that are not an
    /// [`http::Response`].
    #[must_use]
    pub fn verdict(&self, status: StatusCode, headers: &HeaderMap) -> Verdict {
        if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS {
            return Verdict::Ignored;
        }
        HttpClassifier.verdict(status, headers)
    }
}

impl<B, E> Classify<Response<B>, E> for HttpLoadClassifier {
    fn classify(&self, result: Result<&Response<B>, &E>) -> Verdict {
        match result {
            Ok(response) => self.verdict(response.status(), response.headers()),
            error => HttpClassifier.classify(error),
        }
    }
}

/// Judges as [`HttpClassifier`] does.
impl<E> ClassifyEnd<E> for HttpLoadClassifier {
    fn classify_end(&self, end: End<'_, E>) -> Verdict {
        AnyError.classify_end(end)
    }
}
