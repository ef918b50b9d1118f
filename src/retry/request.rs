//! What a request allows: whether it may be sent again, and how often.

use std::num::NonZeroU32;

/// Copies requests for further attempts, and knows which may arrive twice.
///
/// Implemented for closures `Fn(&Req) -> Option<Req>`; they give `None` also for a request that must not
/// arrive twice.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot clone a `{Req}` for another attempt",
    note = "requests that are not `Clone` need a `.clone_request(|req: &{Req}| -> Option<{Req}> {{ .. }})` \
            on the `RetryBuilder`; `None` sends a request once"
)]
pub trait CloneRequest<Req> {
    /// A copy of `req`, or `None` for one that cannot be copied: it is sent once, and its result
    /// returned whatever it is.
    fn clone_request(&self, req: &Req) -> Option<Req>;

    /// Whether `req` may be sent again after a failure at which the service may have acted on it. One
    /// for which this says no is sent again only where it is known
    /// [never to have been sent](crate::classify::Failure::never_sent). Default: yes.
    ///
    /// Asked of the copy, or of the request that an error [hands back](super::RetryBuilder::restore_request),
    /// when an attempt has failed.
    fn may_repeat(&self, req: &Req) -> bool {
        let _ = req;
        true
    }

    /// Whether `req`, the copy, can still be sent: not where it has no more than the original has left,
    /// and that has used it up. Default: yes.
    ///
    /// Asked when an attempt has failed, whatever the failure.
    fn is_intact(&self, req: &Req) -> bool {
        let _ = req;
        true
    }

    /// How many attempts `req` may take, the first included, where that differs from
    /// [the layer's](super::RetryBuilder::max_attempts).
    fn max_attempts(&self, req: &Req) -> Option<NonZeroU32> {
        let _ = req;
        None
    }
}

impl<F, Req> CloneRequest<Req> for F
where
    F: Fn(&Req) -> Option<Req>,
{
    fn clone_request(&self, req: &Req) -> Option<Req> {
        self(req)
    }
}

/// Clones every request, which must be [`Clone`] and safe to send twice. The default.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::exhaustive_structs, reason = "the name says all that it does")]
pub struct Cloned;

impl<Req: Clone> CloneRequest<Req> for Cloned {
    fn clone_request(&self, req: &Req) -> Option<Req> {
        Some(req.clone())
    }
}

/// Asks a function how many attempts a request may take; made by
/// [`RetryBuilder::max_attempts_per_request`](super::RetryBuilder::max_attempts_per_request).
#[derive(Clone, Copy, Debug)]
pub struct WithMaxAttempts<Q, F> {
    pub(super) requests: Q,
    pub(super) max_attempts: F,
}

impl<Q, F, Req> CloneRequest<Req> for WithMaxAttempts<Q, F>
where
    Q: CloneRequest<Req>,
    F: Fn(&Req) -> Option<NonZeroU32>,
{
    fn clone_request(&self, req: &Req) -> Option<Req> {
        self.requests.clone_request(req)
    }

    fn may_repeat(&self, req: &Req) -> bool {
        self.requests.may_repeat(req)
    }

    fn is_intact(&self, req: &Req) -> bool {
        self.requests.is_intact(req)
    }

    fn max_attempts(&self, req: &Req) -> Option<NonZeroU32> {
        (self.max_attempts)(req)
    }
}
