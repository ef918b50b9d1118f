//! Building the server's side.

use std::time::Duration;

use http::{HeaderMap, Request};
use tower::Layer;

use super::{
    Deadline, HeaderNames,
    expiring::{Call, Side},
    incoming::{Field, Incoming, Reader},
    limits::Limits,
    share::Share,
};
use crate::{
    context::Context,
    error::{InvalidSetting, Reason, Rejected},
    pooled::PooledArc,
    telemetry::{Counter, Ending, Histogram, Telemetry},
    time::{self, Epoch, Instant},
};

/// Whose headers are believed. Implemented for closures.
pub trait Trust<Req> {
    /// Whether the headers of `req` are.
    fn trusts(&self, req: &Req) -> bool;
}

impl<F, Req> Trust<Req> for F
where
    F: Fn(&Req) -> bool,
{
    fn trusts(&self, req: &Req) -> bool {
        self(req)
    }
}

/// Believes no headers: right for a public edge, where anybody may write them.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Nobody;

impl<Req> Trust<Req> for Nobody {
    fn trusts(&self, _: &Req) -> bool {
        false
    }
}

/// Believes all headers: right behind an edge that is one's own.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Everybody;

impl<Req> Trust<Req> for Everybody {
    fn trusts(&self, _: &Req) -> bool {
        true
    }
}

/// Applies [`Deadline`] to a service.
///
/// See the [module docs](super) for an example.
#[derive(Clone, Debug)]
#[must_use]
pub struct DeadlineLayer<T = Nobody> {
    trust: T,
    shared: PooledArc<Shared>,
}

impl DeadlineLayer {
    /// A layer that gives every request `max`, or less where the [`Context`] has less, and believes no
    /// headers.
    ///
    /// # Errors
    ///
    /// If `max` is zero.
    pub fn new(max: Duration) -> Result<Self, InvalidSetting> {
        Self::builder(max).build()
    }

    /// Begins a layer that gives no request more than `max`, whatever its caller says. A time that the
    /// clock cannot reach, such as [`Duration::MAX`], is no limit.
    pub const fn builder(max: Duration) -> DeadlineBuilder {
        DeadlineBuilder {
            name: "deadline",
            limits: Limits::new(max),
            names: HeaderNames::new(),
            max_refused_share: None,
            refuses_malformed: false,
            fills_extensions: false,
            trust: Nobody,
        }
    }
}

impl<S, T: Clone> Layer<S> for DeadlineLayer<T> {
    type Service = Deadline<S, T>;

    fn layer(&self, inner: S) -> Self::Service {
        Deadline::new(inner, self.trust.clone(), self.shared.clone())
    }
}

/// The settings of the server's side; made by [`DeadlineLayer::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct DeadlineBuilder<T = Nobody> {
    name: &'static str,
    limits: Limits,
    names: HeaderNames,
    max_refused_share: Option<f64>,
    refuses_malformed: bool,
    fills_extensions: bool,
    trust: T,
}

impl<T> DeadlineBuilder<T> {
    /// Names the layer, for metrics, events and errors. Default: `"deadline"`.
    pub fn name(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    /// Believes what the headers of all requests say. Default: of none.
    ///
    /// Whoever can reach the service can then have its requests treated as short of time, and as more
    /// critical than others, but never get more time than the maximum.
    pub fn trust_headers(self) -> DeadlineBuilder<Everybody> {
        self.with_trust(Everybody)
    }

    /// Believes the headers of those requests for which `trusts` says so: by the peer's address or
    /// certificate in the extensions, say.
    pub fn trust_if<B, F>(self, trusts: F) -> DeadlineBuilder<F>
    where
        F: Fn(&Request<B>) -> bool,
    {
        self.with_trust(trusts)
    }

    fn with_trust<U>(self, trust: U) -> DeadlineBuilder<U> {
        DeadlineBuilder {
            name: self.name,
            limits: self.limits,
            names: self.names,
            max_refused_share: self.max_refused_share,
            refuses_malformed: self.refuses_malformed,
            fills_extensions: self.fills_extensions,
            trust,
        }
    }

    /// Gives so much to a request for which nobody says how long it may take. Default: the maximum.
    pub const fn default_timeout(mut self, timeout: Duration) -> Self {
        self.limits.default = Some(timeout);
        self
    }

    /// Gives a request so much where its headers say less. Default: zero, no such thing.
    ///
    /// For callers that are known to state less than they wait. The work may then go on for longer than
    /// they do.
    pub const fn min(mut self, min: Duration) -> Self {
        self.limits.min = min;
        self
    }

    /// Takes so much off what the headers say, for the way there and back: the answer is then with the
    /// caller before its time is up. Default: zero.
    ///
    /// Behind tonic's `Server`, which reads `grpc-timeout` too and answers `CANCELLED` when it has
    /// passed, two milliseconds let this layer be first, with `DEADLINE_EXCEEDED`.
    pub const fn safety_margin(mut self, margin: Duration) -> Self {
        self.limits.margin = margin;
        self
    }

    /// Refuses at once what has less than this left, since it cannot be done in that time. Default:
    /// zero, which refuses what has nothing left.
    pub const fn needs(mut self, least: Duration) -> Self {
        self.limits.needs = least;
        self
    }

    /// Refuses as too late at most this share of the requests of the last ten seconds; beyond it they
    /// are let in as if they had not said how long they may take. Default: all that are too late.
    ///
    /// Guards against callers that state too little, or a `needs` set too high, which else would have
    /// everything refused. Finagle's deadline filter has 0.2. A share is of whole requests: of the first
    /// four none is refused at 0.2.
    pub const fn max_refused_share(mut self, share: f64) -> Self {
        self.max_refused_share = Some(share);
        self
    }

    /// Refuses requests with a malformed header, with
    /// [`Reason::InvalidRequest`](crate::Reason::InvalidRequest). Default: the header counts as not
    /// there.
    pub const fn refuse_malformed(mut self) -> Self {
        self.refuses_malformed = true;
        self
    }

    /// Puts the [`Context`] into the request's extensions too, for services that get the request in
    /// another task, as behind a `tower::buffer`. Costs an allocation or two. Default: not.
    pub const fn fill_extensions(mut self) -> Self {
        self.fills_extensions = true;
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
    /// If the maximum or the default is zero, the minimum or the default is more than the maximum, what
    /// it [needs](Self::needs) is more than the default, or the
    /// [share](Self::max_refused_share) is not in 0.000001..=1.
    pub fn build(self) -> Result<DeadlineLayer<T>, InvalidSetting> {
        self.limits.check()?;
        let share = self
            .max_refused_share
            .map(|share| Share::new("max_refused_share", share))
            .transpose()?;
        let reasons = [Reason::DeadlineExceeded, Reason::InvalidRequest];
        let telemetry = Telemetry::new("deadline", self.name, &Ending::OF_LIMITED, &reasons);
        let headers = Field::ALL.map(Field::as_str);
        let shared = Shared {
            limits: self.limits,
            reader: Reader::new(&self.names),
            share,
            epoch: Epoch::start(),
            refuses_malformed: self.refuses_malformed,
            fills_extensions: self.fills_extensions,
            left: telemetry.histogram("steadfast_deadline_time_left_seconds"),
            spared: telemetry.counter("steadfast_deadline_spared_total"),
            malformed: telemetry.counters("steadfast_deadline_malformed_total", "header", headers),
            telemetry,
        };
        Ok(DeadlineLayer {
            trust: self.trust,
            shared: PooledArc::new(shared),
        })
    }
}

/// What all services of a layer share.
#[derive(Debug)]
pub(super) struct Shared {
    limits: Limits,
    reader: Reader,
    share: Option<Share>,
    /// For the share.
    epoch: Epoch,
    refuses_malformed: bool,
    pub(super) fills_extensions: bool,
    telemetry: Telemetry,
    left: Histogram,
    spared: Counter,
    malformed: [Counter; Field::ALL.len()],
}

pooled!(Shared);

impl Side for Shared {
    // An error of a handler's is the handler's, however late.
    const OWNS_LATE_ERRORS: bool = false;

    fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }
}

impl Shared {
    /// Reads the headers, and tells what is wrong with them.
    pub(super) fn read(&self, headers: &HeaderMap) -> Result<Incoming, Rejected> {
        let incoming = self.reader.read(headers);
        if let Some(left) = incoming.left {
            self.left.record(left.as_secs_f64());
        }
        if incoming.is_malformed() {
            self.complain(incoming)?;
        }
        Ok(incoming)
    }

    #[cold]
    fn complain(&self, incoming: Incoming) -> Result<(), Rejected> {
        for field in incoming.malformed() {
            self.malformed[field as usize].increment(1);
            self.telemetry.malformed(field.as_str());
        }
        if self.refuses_malformed {
            return Err(self.telemetry.reject(Reason::InvalidRequest));
        }
        Ok(())
    }

    /// Begins a call, unless it comes too late.
    pub(super) fn begin(
        this: &PooledArc<Self>,
        incoming: Incoming,
        own: Option<Duration>,
    ) -> Result<(Call<Self>, Context), Rejected> {
        let now = time::now();
        let mut context = Context::current();
        if let Some(attempt) = incoming.attempt {
            context = context.with_inherited_attempt(attempt);
        }
        if let Some(criticality) = incoming.criticality {
            context = context.with_criticality(criticality);
        }
        let allotted = this.limits.allotted(incoming.left, own);
        let within = |timeout: Duration| match now.checked_add(timeout) {
            Some(deadline) => context.with_deadline(deadline),
            None => context, // further off than the clock can tell
        };
        let mut narrowed = within(allotted);
        if this.is_too_late(narrowed, now)? {
            narrowed = within(this.limits.default());
        }
        Ok((Call::begin(this, narrowed, Some(now)), narrowed))
    }

    /// Whether the call comes too late, but is to be let in all the same.
    fn is_too_late(&self, context: Context, now: Instant) -> Result<bool, Rejected> {
        let left = |deadline: Instant| deadline.saturating_duration_since(now);
        let left = context.deadline().map(left);
        let is_too_late = left.is_some_and(|left| self.limits.is_too_late(left));
        let Some(share) = &self.share else {
            return if is_too_late {
                Err(self.telemetry.reject(Reason::DeadlineExceeded))
            } else {
                Ok(false)
            };
        };
        let now = self.epoch.nanos_at(now);
        if !is_too_late {
            share.pass(now);
        } else if share.try_refuse(now) {
            return Err(self.telemetry.reject(Reason::DeadlineExceeded));
        } else {
            self.spared.increment(1);
            self.telemetry.spared(Reason::DeadlineExceeded);
        }
        Ok(is_too_late)
    }
}
