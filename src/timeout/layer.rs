//! Building a timeout.

use std::time::Duration;

use tower::Layer;

use super::{ReadyTimeout, Timeout};
use crate::{
    error::{InvalidSetting, Reason, not_zero},
    pooled::PooledArc,
    telemetry::{Ending, Telemetry},
};

/// How long a request may take. Implemented for closures.
pub trait TimeLimit<Req> {
    /// The limit for `req`. Zero leaves time for an answer that is there at once, and for no other.
    /// One that the clock cannot reach, such as [`Duration::MAX`], is none.
    fn time_limit(&self, req: &Req) -> Duration;
}

impl<F, Req> TimeLimit<Req> for F
where
    F: Fn(&Req) -> Duration,
{
    fn time_limit(&self, req: &Req) -> Duration {
        self(req)
    }
}

/// The same limit for every request.
#[derive(Clone, Copy, Debug)]
pub struct Fixed(pub(super) Duration);

impl<Req> TimeLimit<Req> for Fixed {
    fn time_limit(&self, _: &Req) -> Duration {
        self.0
    }
}

/// Applies [`Timeout`] to a service.
///
/// See the [module docs](super) for an example.
#[derive(Clone, Debug)]
#[must_use]
pub struct TimeoutLayer<L = Fixed> {
    pub(super) limit: L,
    pub(super) shared: PooledArc<Shared>,
}

impl TimeoutLayer {
    /// A layer that gives every call `limit`.
    ///
    /// # Errors
    ///
    /// If `limit` is zero.
    pub fn new(limit: Duration) -> Result<Self, InvalidSetting> {
        Ok(Self::builder(limit)?.build())
    }

    /// Begins a timeout that gives every call `limit`.
    ///
    /// # Errors
    ///
    /// If `limit` is zero.
    pub fn builder(limit: Duration) -> Result<TimeoutBuilder<Fixed>, InvalidSetting> {
        let limit = not_zero("timeout", limit)?;
        Ok(TimeoutBuilder::new(Fixed(limit)))
    }
}

impl<F> TimeoutLayer<F> {
    /// A layer that asks `limit` for each request how long it may take; see [`TimeLimit`].
    pub fn per_request<Req>(limit: F) -> Self
    where
        F: Fn(&Req) -> Duration,
    {
        Self::builder_per_request(limit).build()
    }

    /// Begins a timeout that asks `limit` for each request how long it may take; see [`TimeLimit`].
    pub fn builder_per_request<Req>(limit: F) -> TimeoutBuilder<F>
    where
        F: Fn(&Req) -> Duration,
    {
        TimeoutBuilder::new(limit)
    }

    /// Lets the limit begin with the wait for the inner service to be ready.
    ///
    /// The service then is always ready itself, and makes a clone of the inner service ready for each
    /// call.
    pub fn covering_readiness(self) -> ReadyTimeoutLayer<F> {
        ReadyTimeoutLayer { timeout: self }
    }
}

impl<S, L: Clone> Layer<S> for TimeoutLayer<L> {
    type Service = Timeout<S, L>;

    fn layer(&self, inner: S) -> Self::Service {
        Timeout::new(inner, self.limit.clone(), self.shared.clone())
    }
}

/// Applies [`ReadyTimeout`] to a service; made by [`TimeoutLayer::covering_readiness`].
#[derive(Clone, Debug)]
#[must_use]
pub struct ReadyTimeoutLayer<L = Fixed> {
    pub(super) timeout: TimeoutLayer<L>,
}

impl<S, L: Clone> Layer<S> for ReadyTimeoutLayer<L> {
    type Service = ReadyTimeout<S, L>;

    fn layer(&self, inner: S) -> Self::Service {
        let TimeoutLayer { limit, shared } = &self.timeout;
        ReadyTimeout::new(inner, limit.clone(), shared.clone())
    }
}

/// The settings of a timeout; made by [`TimeoutLayer::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct TimeoutBuilder<L> {
    name: &'static str,
    limit: L,
}

impl<L> TimeoutBuilder<L> {
    const fn new(limit: L) -> Self {
        let name = "timeout";
        Self { name, limit }
    }

    /// Names the layer, for metrics, events and errors. Default: `"timeout"`.
    pub fn name(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    /// Builds the layer.
    pub fn build(self) -> TimeoutLayer<L> {
        let Self { name, limit } = self;
        let shared = PooledArc::new(Shared::new(name));
        TimeoutLayer { limit, shared }
    }
}

/// What all services of a layer share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) telemetry: Telemetry,
}

pooled!(Shared);

impl Shared {
    pub(super) fn new(name: &'static str) -> Self {
        let reasons = [Reason::DeadlineExceeded];
        let telemetry = Telemetry::new("timeout", name, &Ending::OF_LIMITED, &reasons);
        Self { telemetry }
    }
}
