//! The client's side: writes what is left, then calls within the context.

use std::{
    future::Future,
    pin::Pin,
    task::{self, Poll},
    time::Duration,
};

use http::{HeaderMap, Request};
use pin_project::pin_project;
use tower::{Layer, Service};

use super::{
    CallTimeout, HeaderNames,
    expiring::{Call, Expiring, Side},
    outgoing::{Format, Protocol},
};
use crate::{
    context::Context,
    error::{FromRejected, FromTimedOut, InvalidSetting, Reason, Rejected, not_zero},
    pooled::PooledArc,
    telemetry::{Ending, Telemetry},
    time,
};

/// Applies [`Propagate`] to a service: **innermost at a client**, so that every attempt says what is
/// left when it is made.
///
/// See the [module docs](super) for an example.
#[derive(Clone, Debug)]
#[must_use]
pub struct PropagateLayer {
    shared: PooledArc<Shared>,
}

impl PropagateLayer {
    /// A layer with the defaults of [`builder`](Self::builder).
    pub fn new() -> Self {
        Self::build(Self::builder(), None)
    }

    /// Begins a layer.
    pub const fn builder() -> PropagateBuilder {
        PropagateBuilder {
            name: "propagate",
            protocol: Protocol::Detect,
            root_timeout: None,
            names: HeaderNames::new(),
        }
    }

    fn build(builder: PropagateBuilder, root_timeout: Option<Duration>) -> Self {
        let reasons = [Reason::DeadlineExceeded];
        let telemetry = Telemetry::new("propagate", builder.name, &Ending::OF_LIMITED, &reasons);
        let shared = PooledArc::new(Shared {
            protocol: builder.protocol,
            root_timeout,
            names: builder.names,
            telemetry,
        });
        Self { shared }
    }
}

impl Default for PropagateLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for PropagateLayer {
    type Service = Propagate<S>;

    fn layer(&self, inner: S) -> Propagate<S> {
        let shared = self.shared.clone();
        Propagate { inner, shared }
    }
}

/// The settings of the client's side; made by [`PropagateLayer::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct PropagateBuilder {
    name: &'static str,
    protocol: Protocol,
    root_timeout: Option<Duration>,
    names: HeaderNames,
}

impl PropagateBuilder {
    /// Names the layer, for metrics, events and errors. Default: `"propagate"`.
    pub fn name(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    /// Says in whose headers to write. Default: [`Protocol::Detect`].
    pub const fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// Gives so much to a call for which nobody else says how long it may take. Default: no end.
    ///
    /// Within a retry every attempt gets it afresh. For the call as a whole, put a
    /// [`DeadlineLayer`](super::DeadlineLayer) outside the retry.
    pub const fn root_timeout(mut self, timeout: Duration) -> Self {
        self.root_timeout = Some(timeout);
        self
    }

    /// Names the headers that are not gRPC's. Default: see [`HeaderNames`].
    pub fn header_names(mut self, names: HeaderNames) -> Self {
        self.names = names;
        self
    }

    /// Builds the layer.
    ///
    /// # Errors
    ///
    /// If the root timeout is zero.
    pub fn build(self) -> Result<PropagateLayer, InvalidSetting> {
        let root_timeout = self.root_timeout;
        let root_timeout = root_timeout.map(|timeout| not_zero("root_timeout", timeout));
        let root_timeout = root_timeout.transpose()?;
        Ok(PropagateLayer::build(self, root_timeout))
    }
}

/// What all services of a layer share.
#[derive(Debug)]
pub(super) struct Shared {
    protocol: Protocol,
    root_timeout: Option<Duration>,
    names: HeaderNames,
    telemetry: Telemetry,
}

pooled!(Shared);

impl Side for Shared {
    // A transport that reads `grpc-timeout`, as tonic's does, ends the call at the same moment with an
    // error of its own. gRPC has clients look at their own deadline then.
    const OWNS_LATE_ERRORS: bool = true;

    fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }
}

impl Shared {
    /// Writes the headers and begins a call, unless it comes too late.
    fn begin(
        this: &PooledArc<Self>,
        headers: &mut HeaderMap,
        own: Option<Duration>,
    ) -> Result<Call<Self>, Rejected> {
        let mut context = Context::current();
        let format = Format::of(headers, this.protocol, &this.names);
        let own = own.into_iter().chain(format.timeout_in(headers)).min();
        let root = || context.deadline().is_none().then_some(this.root_timeout);
        let own = own.or_else(|| root().flatten());
        let mut began = None;
        if own.is_some() || context.deadline().is_some() {
            let now = time::now();
            began = Some(now);
            if let Some(deadline) = own.and_then(|own| now.checked_add(own)) {
                context = context.with_deadline(deadline);
            }
            if let Some(deadline) = context.deadline() {
                let left = deadline.saturating_duration_since(now);
                if left < format.least() {
                    return Err(this.telemetry.reject(Reason::DeadlineExceeded));
                }
                format.write_timeout(headers, left);
            }
        }
        format.write_attempt(headers, context.outgoing_attempt());
        format.write_criticality(headers, context.criticality());
        Ok(Call::begin(this, context, began))
    }
}

/// Tells the service below how long its caller waits, and waits no longer.
///
/// See the [module docs](super) for an example.
#[derive(Clone, Debug)]
pub struct Propagate<S> {
    inner: S,
    shared: PooledArc<Shared>,
}

impl<S> Propagate<S> {
    inner_accessors!();
}

impl<S, B> Service<Request<B>> for Propagate<S>
where
    S: Service<Request<B>>,
    S::Error: FromRejected + FromTimedOut,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = PropagateFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut req: Request<B>) -> Self::Future {
        let own = CallTimeout::take(&mut req);
        let inner = match Shared::begin(&self.shared, req.headers_mut(), own) {
            Ok(call) => Expiring::called(call, || self.inner.call(req)),
            // The inner service keeps the readiness it reported; the next call made uses it.
            Err(rejected) => Expiring::rejected(rejected),
        };
        PropagateFuture { inner }
    }
}

/// Response future of [`Propagate`].
///
/// Drops the inner future as soon as the deadline has passed.
#[pin_project]
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct PropagateFuture<F> {
    #[pin]
    inner: Expiring<F, Shared>,
}

impl<F, R, E> Future for PropagateFuture<F>
where
    F: Future<Output = Result<R, E>>,
    E: FromRejected + FromTimedOut,
{
    type Output = Result<R, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        self.project().inner.poll(cx)
    }
}
