//! A refusal as a response, with a problem document (RFC 9457) for a body.

use std::fmt::{self, Write};

use http::{
    HeaderValue, Response,
    header::{CONTENT_TYPE, RETRY_AFTER},
};

use super::{Refusal, hint, retry_after};
use crate::{classify::Hint, error::Reason};

impl Refusal {
    /// The response that says so, with itself in the extensions.
    ///
    /// **`Retry-After`** is in whole seconds, rounded up and at most 2,147,483,647. There is none where
    /// no delay is known, or where it is zero: "come back at once" is no help to a service that has
    /// just refused a call, while a client that is told nothing backs off.
    ///
    /// **Not to be tried again at all** is told of what is
    /// [not retryable](crate::Rejected::non_retryable): by `x-envoy-overloaded: true`, and no
    /// `Retry-After`. HTTP has no word for it; this one is heeded by Envoy, which stands between many
    /// services as it is, and by [`HttpClassifier`](super::HttpClassifier). To a client that does not know
    /// it, it is a 503 or 429 like any other.
    ///
    /// **The body** is `application/problem+json` with the members `title`, `status`, `detail`, and
    /// two of our own: `layer`, the name of the layer, and `reason`, which is
    /// [what programs should look at](Self::reason). So the names of layers are visible to clients.
    /// The `type` is one of those that the IETF's draft-ietf-httpapi-ratelimit-headers defines, as it stood
    /// in May 2026, where one says what happened: `quota-exceeded` for
    /// [`Reason::RateLimited`](crate::Reason::RateLimited), with the name of the layer in `violated-policies`,
    /// and `temporary-reduced-capacity` for [`Reason::Overloaded`](crate::Reason::Overloaded). Else it is
    /// `about:blank`: what the status says is all that is said; a type of our own would be an address under
    /// which nobody answers.
    #[must_use]
    pub fn to_response<B: From<String>>(&self) -> Response<B> {
        let mut response = Response::new(self.problem().into());
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        let content_type = HeaderValue::from_static("application/problem+json");
        headers.insert(CONTENT_TYPE, content_type);
        match self.hint() {
            Some(Hint::Never) => {
                headers.insert(hint::OVERLOADED, HeaderValue::from_static("true"));
            }
            Some(Hint::After(delay)) => {
                if let Some(seconds) = retry_after::to_write(delay) {
                    headers.insert(RETRY_AFTER, seconds.into());
                }
            }
            None => {}
        }
        response.extensions_mut().insert(*self);
        response
    }

    fn problem(&self) -> String {
        let status = self.status();
        let of_status = status.canonical_reason().unwrap_or_default();
        let (kind, title) = match self {
            Self::Rejected(rejected) => match rejected.reason() {
                Reason::RateLimited => (QUOTA_EXCEEDED, "Quota Exceeded"),
                Reason::Overloaded => (REDUCED_CAPACITY, "Temporary Reduced Capacity"),
                _ => (NO_TYPE, of_status),
            },
            Self::TimedOut(_) => (NO_TYPE, of_status),
        };
        let layer = Quoted(self.layer());
        let mut problem = format!(
            r#"{{"type":{},"title":{},"status":{},"detail":{},"layer":{layer},"reason":{}"#,
            Quoted(kind),
            Quoted(title),
            status.as_u16(),
            Quoted(&self.to_string()),
            Quoted(self.reason()),
        );
        if kind == QUOTA_EXCEEDED {
            let _infallible = write!(problem, r#","violated-policies":[{layer}]"#);
        }
        problem.push('}');
        problem
    }
}

const NO_TYPE: &str = "about:blank";
const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";
const REDUCED_CAPACITY: &str =
    "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity";

/// A string as JSON writes it (RFC 8259, section 7).
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for char in self.0.chars() {
            match char {
                '"' | '\\' => write!(f, "\\{char}")?,
                '\0'..='\x1f' => write!(f, "\\u{:04x}", u32::from(char))?,
                _ => f.write_char(char)?,
            }
        }
        f.write_char('"')
    }
}
