//! Which requests ask whether a server is well.

use http::Request;

use crate::load_shed::Exempt;

/// Takes requests for health checks by [their path](is_health_check). Exempt from what
/// [`load_shed`](super::load_shed) begins.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::exhaustive_structs, reason = "the name says all that it does")]
pub struct HealthChecks;

impl<B> Exempt<Request<B>> for HealthChecks {
    fn is_exempt(&self, req: &Request<B>) -> bool {
        is_health_check(req.uri().path())
    }
}

/// Whether a path is one of those that are customary for health checks: `/health`, or Kubernetes's `/healthz`,
/// `/livez` and `/readyz`. Nothing below them, and in this spelling only.
///
/// For paths of your own, and these:
/// `.exempt(|req: &Request<Body>| is_health_check(req.uri().path()) || req.uri().path() == "/ping")`.
///
/// # Example
///
/// ```
/// use steadfast::http::is_health_check;
///
/// assert!(is_health_check("/livez"));
/// assert!(!is_health_check("/livez/users"));
/// ```
#[must_use]
pub fn is_health_check(path: &str) -> bool {
    matches!(path, "/health" | "/healthz" | "/livez" | "/readyz")
}
