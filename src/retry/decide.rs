//! What a retry may be told beside the classifier's verdict: whether to go on, and with which request.

/// Has a say in whether a call is tried again, with request and outcome before it; and finds the request
/// in an error that hands it back.
///
/// [`RetryBuilder::retry_if`](super::RetryBuilder::retry_if) and
/// [`restore_request`](super::RetryBuilder::restore_request) make one of closures. Those in use have no
/// size and cost nothing where they say nothing.
pub trait Decide<Req, Res, Err> {
    /// Whether to try again: yes, no, or as the classifier says. Default: the last.
    fn retry_if(&self, req: &Req, outcome: Result<&Res, &Err>) -> Option<bool> {
        let _ = (req, outcome);
        None
    }

    /// Whether errors may hand requests back at all. Only then is a service kept for a request of which
    /// there is no copy. Default: no.
    fn restores(&self) -> bool {
        false
    }

    /// The request that `error` would hand back.
    fn peek_request<'a>(&self, error: &'a Err) -> Option<&'a Req> {
        let _ = error;
        None
    }

    /// The request that `error` hands back. Asked only if another attempt is made with it.
    fn take_request(&self, error: &mut Err) -> Option<Req> {
        let _ = error;
        None
    }
}

/// Goes by the classifier's verdict alone. The default.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::exhaustive_structs, reason = "the name says all that it does")]
pub struct ByVerdict;

impl<Req, Res, Err> Decide<Req, Res, Err> for ByVerdict {}

/// Asks a function whether to try again; made by
/// [`RetryBuilder::retry_if`](super::RetryBuilder::retry_if).
#[derive(Clone, Copy, Debug)]
pub struct RetryIf<D, F> {
    pub(super) inner: D,
    pub(super) retry_if: F,
}

impl<D, F, Req, Res, Err> Decide<Req, Res, Err> for RetryIf<D, F>
where
    D: Decide<Req, Res, Err>,
    F: Fn(&Req, Result<&Res, &Err>) -> bool,
{
    fn retry_if(&self, req: &Req, outcome: Result<&Res, &Err>) -> Option<bool> {
        Some((self.retry_if)(req, outcome))
    }

    fn restores(&self) -> bool {
        self.inner.restores()
    }

    fn peek_request<'a>(&self, error: &'a Err) -> Option<&'a Req> {
        self.inner.peek_request(error)
    }

    fn take_request(&self, error: &mut Err) -> Option<Req> {
        self.inner.take_request(error)
    }
}

/// Finds the request in the error; made by
/// [`RetryBuilder::restore_request`](super::RetryBuilder::restore_request).
#[derive(Clone, Copy, Debug)]
pub struct RestoreRequest<D, P, T> {
    pub(super) inner: D,
    pub(super) peek: P,
    pub(super) take: T,
}

impl<D, P, T, Req, Res, Err> Decide<Req, Res, Err> for RestoreRequest<D, P, T>
where
    D: Decide<Req, Res, Err>,
    P: Fn(&Err) -> Option<&Req>,
    T: Fn(&mut Err) -> Option<Req>,
{
    fn retry_if(&self, req: &Req, outcome: Result<&Res, &Err>) -> Option<bool> {
        self.inner.retry_if(req, outcome)
    }

    fn restores(&self) -> bool {
        true
    }

    fn peek_request<'a>(&self, error: &'a Err) -> Option<&'a Req> {
        (self.peek)(error)
    }

    fn take_request(&self, error: &mut Err) -> Option<Req> {
        (self.take)(error)
    }
}
