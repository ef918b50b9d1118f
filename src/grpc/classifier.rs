//! What a gRPC status says about the service that gave it.

use std::any::Any;

use http::{HeaderMap, Response, StatusCode};
use tonic::{Code, Status, TimeoutExpired};
use tower::BoxError;

use super::pushback;
use crate::{
    classify::{Classify, Failure, FailureKind, Hint, Verdict},
    error::{Error, find},
    http::{ClassifyEnd, End, Rule, hint},
    time,
};

/// Judges the results of gRPC calls by their status.
///
/// | code | verdict | tried again |
/// |---|---|---|
/// | `UNAVAILABLE` | failure: [transient](Failure::transient); with pushback [overload](Failure::overload) | yes |
/// | `RESOURCE_EXHAUSTED` | failure: [overload](Failure::overload) | only with pushback |
/// | `DEADLINE_EXCEEDED` | failure: [timeout](Failure::timeout) | no |
/// | `UNKNOWN`, `UNIMPLEMENTED`, `INTERNAL`, `DATA_LOSS` | failure: [permanent](Failure::permanent) | no |
/// | `CANCELLED` | ignored: the caller's doing, or that of one above it | |
/// | all others | success | |
///
/// **Where the boundary lies.** A failure is what the *service* did not do: the codes that Google's
/// `google.rpc.Code` puts at 5xx of HTTP, and `RESOURCE_EXHAUSTED`, its 429. A service that answers
/// `NOT_FOUND` or `INVALID_ARGUMENT` has done its work. [`failure`](Self::failure) and its like set what
/// else is to hold.
///
/// **Where the status is.** In the head of a response, which is then all of it (*trailers-only*), and else
/// in the trailers. Of a response whose status is still to come, [`Classify`] sees the head and takes it
/// for a success; what lasts until the [end of the body](crate::http::EndOfBody) judges the trailers, as
/// [`trailers`](Self::trailers) does. Trailers before any message can be
/// [made part of the head](super::TrailersOnlyLayer).
/// A response that did not come from a gRPC server, but from a proxy before it, has neither: then its HTTP
/// status counts for [the code that gRPC gives it][mapping], and what HTTP has to say about coming back,
/// such as `Retry-After`, is heeded.
///
/// **Pushback.** `grpc-retry-pushback-ms` is the delay, in milliseconds, of a [`Hint::After`]. A negative
/// one, and one that is not understood, is a [`Hint::Never`] (gRFC A6).
///
/// **Errors** of type [`Status`] are judged by their code, and so are a [`BoxError`] that has a `Status`
/// among its sources and an [`Error`] that holds one or the other. A `Status` that tonic made of a
/// connection's end is no word of the service: its `CANCELLED` is transient, or, where it was the
/// `Endpoint`'s timeout, a timeout. All other errors are transient.
///
/// [mapping]: https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use http::Response;
/// use steadfast::{Classify, Verdict, classify::{Failure, FailureKind, Hint}, grpc::GrpcClassifier};
/// use tonic::{Code, Status};
///
/// let classifier = GrpcClassifier::new();
/// let response = Response::builder()
///     .header("grpc-status", "14")
///     .header("grpc-retry-pushback-ms", "250")
///     .body(())
///     .unwrap();
/// let hint = Hint::After(Duration::from_millis(250));
/// assert_eq!(
///     classifier.classify(Ok::<_, &Status>(&response)),
///     Failure::overload().with_hint(hint).into(),
/// );
/// assert_eq!(classifier.status(&Status::not_found("who?")), Verdict::Success);
///
/// // A service that says `ABORTED` when two writers met: worth another try.
/// let classifier = classifier.failure(Code::Aborted, FailureKind::Transient);
/// assert_eq!(classifier.status(&Status::aborted("met")), Failure::transient().into());
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct GrpcClassifier {
    /// What was set in place of the defaults, by code.
    rules: [Option<Rule>; CODES],
}

const CODES: usize = Code::Unauthenticated as usize + 1;

impl GrpcClassifier {
    /// The classifier of the table above.
    #[must_use]
    pub const fn new() -> Self {
        let rules = [None; CODES];
        Self { rules }
    }

    /// As [`new`](Self::new), for a limit on the load: `UNAVAILABLE` is [overload](Failure::overload) also without
    /// pushback, and what was refused for the fault of the caller is ignored.
    ///
    /// Those are the codes that Google's `google.rpc.Code` puts at 4xx of HTTP, but `RESOURCE_EXHAUSTED`:
    /// `INVALID_ARGUMENT`, `FAILED_PRECONDITION`, `OUT_OF_RANGE`, `UNAUTHENTICATED`, `PERMISSION_DENIED`,
    /// `NOT_FOUND`, `ABORTED`, `ALREADY_EXISTS` and `CANCELLED`. A service that answers so has done its work, but
    /// has done so in no time, and a limit that took it for a fast service would let too much in.
    ///
    /// [`adaptive`](super::adaptive) begins with it.
    #[must_use]
    pub const fn of_load() -> Self {
        Self::new()
            .failure(Code::Unavailable, FailureKind::Overload)
            .ignored(Code::InvalidArgument)
            .ignored(Code::FailedPrecondition)
            .ignored(Code::OutOfRange)
            .ignored(Code::Unauthenticated)
            .ignored(Code::PermissionDenied)
            .ignored(Code::NotFound)
            .ignored(Code::Aborted)
            .ignored(Code::AlreadyExists)
    }

    /// Takes `code` for a success.
    #[must_use]
    pub const fn success(self, code: Code) -> Self {
        self.with(code, Rule::Success)
    }

    /// Takes `code` for no word on the service.
    #[must_use]
    pub const fn ignored(self, code: Code) -> Self {
        self.with(code, Rule::Ignored)
    }

    /// Takes `code` for a failure. It may be tried again, also without pushback, unless it is
    /// [permanent](FailureKind::Permanent); so this is also how to say which codes may.
    #[must_use]
    pub const fn failure(self, code: Code, kind: FailureKind) -> Self {
        self.with(code, Rule::Failure(kind))
    }

    const fn with(mut self, code: Code, rule: Rule) -> Self {
        self.rules[code as usize] = Some(rule);
        self
    }

    /// What the head of a response says; `None` where the verdict comes with the trailers.
    #[must_use]
    pub fn head(&self, status: StatusCode, headers: &HeaderMap) -> Option<Verdict> {
        if let Some(code) = code(headers) {
            return Some(self.judge(code, || pushback::read(headers)));
        }
        let code = match status.as_u16() {
            200 => return None,
            400 => Code::Internal,
            401 => Code::Unauthenticated,
            403 => Code::PermissionDenied,
            404 => Code::Unimplemented,
            429 | 502 | 503 | 504 => Code::Unavailable,
            _ => Code::Unknown,
        };
        Some(self.judge(code, || {
            let of_http = || hint::read(status, headers, time::since_unix_epoch);
            pushback::read(headers).or_else(of_http)
        }))
    }

    /// What the trailers say of a response whose [head](Self::head) did not. Trailers without a status
    /// break the protocol, and are `UNKNOWN`; so is a response that ends without any, for which an empty
    /// map may stand.
    #[must_use]
    pub fn trailers(&self, trailers: &HeaderMap) -> Verdict {
        let code = code(trailers).unwrap_or(Code::Unknown);
        self.judge(code, || pushback::read(trailers))
    }

    /// What a status says. For services whose responses are messages:
    ///
    /// ```
    /// use steadfast::{Verdict, grpc::GrpcClassifier, retry::RetryLayer};
    /// use tonic::Status;
    ///
    /// # struct Reply;
    /// let classifier = |result: Result<&Reply, &Status>| match result {
    ///     Ok(_) => Verdict::Success,
    ///     Err(status) => GrpcClassifier::new().status(status),
    /// };
    /// # let _ =
    /// RetryLayer::builder().classifier(classifier);
    /// ```
    #[must_use]
    pub fn status(&self, status: &Status) -> Verdict {
        // A status that came over the wire has no source.
        let is_cut_off =
            status.code() == Code::Cancelled && std::error::Error::source(status).is_some();
        if is_cut_off && self.rules[Code::Cancelled as usize].is_none() {
            return match find::<TimeoutExpired>(status) {
                Some(_) => Failure::timeout().into(),
                None => Failure::transient().into(),
            };
        }
        self.judge(status.code(), || pushback::read(status.metadata().as_ref()))
    }

    fn error<E: 'static>(&self, error: &E) -> Verdict {
        let error: &dyn Any = error;
        if let Some(status) = error.downcast_ref() {
            self.status(status)
        } else if let Some(Error::<Status>::Inner(status)) = error.downcast_ref() {
            self.status(status)
        } else if let Some(error) = error.downcast_ref() {
            self.boxed(error)
        } else if let Some(Error::Inner(error)) = error.downcast_ref() {
            self.boxed(error)
        } else {
            Failure::transient().into()
        }
    }

    fn boxed(&self, error: &BoxError) -> Verdict {
        if let Some(status) = find(&**error) {
            self.status(status)
        } else if find::<TimeoutExpired>(&**error).is_some() {
            Failure::timeout().into()
        } else {
            Failure::transient().into()
        }
    }

    fn judge(&self, code: Code, pushback: impl FnOnce() -> Option<Hint>) -> Verdict {
        if let Some(rule) = self.rules[code as usize] {
            return rule.verdict(pushback);
        }
        let rule = match code {
            Code::Unavailable => {
                // Who says when to come back is there, and has too much to do.
                let pushback = pushback();
                let kind = match pushback {
                    Some(_) => FailureKind::Overload,
                    None => FailureKind::Transient,
                };
                return Rule::Failure(kind).verdict(|| pushback);
            }
            Code::ResourceExhausted => match pushback() {
                Some(hint) => return Failure::overload().with_hint(hint).into(),
                None => return Failure::overload().non_retryable().into(),
            },
            Code::DeadlineExceeded => return Failure::timeout().non_retryable().into(),
            Code::Unknown | Code::Unimplemented | Code::Internal | Code::DataLoss => {
                Rule::Failure(FailureKind::Permanent)
            }
            Code::Cancelled => Rule::Ignored,
            Code::Ok
            | Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unauthenticated => Rule::Success,
        };
        rule.verdict(pushback)
    }
}

/// The code in the field `grpc-status`; `UNKNOWN` for what is none.
fn code(headers: &HeaderMap) -> Option<Code> {
    let value = headers.get(Status::GRPC_STATUS)?;
    Some(Code::from_bytes(value.as_bytes()))
}

impl<B, E: 'static> Classify<Response<B>, E> for GrpcClassifier {
    fn classify(&self, result: Result<&Response<B>, &E>) -> Verdict {
        match result {
            Ok(response) => {
                let verdict = self.head(response.status(), response.headers());
                verdict.unwrap_or(Verdict::Success)
            }
            Err(error) => self.error(error),
        }
    }
}

/// A message that arrived came with `OK`.
impl<M, E: 'static> Classify<tonic::Response<M>, E> for GrpcClassifier {
    fn classify(&self, result: Result<&tonic::Response<M>, &E>) -> Verdict {
        match result {
            Ok(_) => self.judge(Code::Ok, || None),
            Err(error) => self.error(error),
        }
    }
}

/// Judges by the trailers what the head left open. A body that is complete without any is `UNKNOWN`.
impl<E: 'static> ClassifyEnd<E> for GrpcClassifier {
    fn is_final(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        self.head(status, headers).is_some()
    }

    fn classify_end(&self, end: End<'_, E>) -> Verdict {
        match end {
            End::Complete(Some(trailers)) => self.trailers(trailers),
            End::Complete(None) => self.trailers(&HeaderMap::new()),
            End::Failed(error) => self.error(error),
            End::TimedOut(_) => Failure::timeout().into(),
        }
    }
}
