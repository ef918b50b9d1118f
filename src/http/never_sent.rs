//! What an error of a client tells about whether the request was sent.

use std::{error::Error, io};

use http::Response;

use super::HttpClassifier;
use crate::{
    classify::{Classify, Failure, Verdict},
    error::chain,
};

/// Judges as [`HttpClassifier`], and takes a refused connection for a request that was
/// [never sent](Failure::never_sent): a retry then sends it again at once, a POST too.
///
/// For a service that **is a client and makes one exchange per call**, such as hyper-util's. Of one that
/// follows redirects (reqwest's, unless told otherwise), or that makes calls of its own before it
/// answers, a refused connection does not say what came before it.
///
/// Which errors those are, [`is_never_sent`] has.
///
/// # Example
///
/// ```
/// use std::io::{Error, ErrorKind};
/// use http::Response;
/// use steadfast::{Classify, classify::Failure, http::HttpClientClassifier};
///
/// let judge = |error: Error| HttpClientClassifier.classify(Err::<&Response<()>, _>(&error));
/// assert_eq!(judge(ErrorKind::ConnectionRefused.into()), Failure::never_sent().into());
/// assert_eq!(judge(ErrorKind::ConnectionReset.into()), Failure::transient().into());
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::exhaustive_structs, reason = "the name says all that it does")]
pub struct HttpClientClassifier;

impl<B, E: Error + 'static> Classify<Response<B>, E> for HttpClientClassifier {
    fn classify(&self, result: Result<&Response<B>, &E>) -> Verdict {
        match result {
            Err(error) if is_never_sent(error) => Failure::never_sent().into(),
            other => HttpClassifier.classify(other),
        }
    }
}

/// Whether an [`io::Error`] in the chain of sources says that the connection was refused
/// ([`ConnectionRefused`](io::ErrorKind::ConnectionRefused)): there was nobody to send anything to.
///
/// That is all the chain shows in types of the standard library. What HTTP/2 refuses (`REFUSED_STREAM`, a
/// stream beyond the last of a `GOAWAY`) stands there in types of h2's: a classifier of your own, which
/// knows them, can say [`Failure::never_sent`]. Other errors of connecting, such as an unreachable host
/// or a time-out, also befall connections that stand, so they are not taken for it.
///
/// What is asked is the error alone; see [`HttpClientClassifier`] for where its answer holds.
///
/// # Example
///
/// ```
/// use std::io::{Error, ErrorKind};
/// use steadfast::http::is_never_sent;
///
/// let refused = Error::other(Error::from(ErrorKind::ConnectionRefused));
/// assert!(is_never_sent(&refused));
/// assert!(!is_never_sent(&Error::from(ErrorKind::BrokenPipe)));
/// ```
#[must_use]
pub fn is_never_sent(error: &(dyn Error + 'static)) -> bool {
    let mut io_errors = chain(error).filter_map(|error| error.downcast_ref::<io::Error>());
    io_errors.any(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}
