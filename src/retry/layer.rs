//! Building a retry, and the state that all its services share.

use std::{num::NonZeroU32, time::Duration};

use tower::Layer;

use super::{
    ByVerdict, Cloned, RestoreRequest, Retry, RetryIf, WithMaxAttempts,
    policy::{Policy, Stop},
};
use crate::{
    backoff::Backoff,
    budget::Budget,
    classify::AnyError,
    error::{InvalidSetting, not_zero},
    pooled::PooledArc,
    rng::Rng,
    telemetry::{Counter, Ending, Telemetry},
    until::Answered,
};

/// Applies [`Retry`] to a service.
///
/// All services made by one layer, or by its clones, share its budget.
///
/// See the [module docs](super) for an example.
#[derive(Clone, Debug)]
#[must_use]
pub struct RetryLayer<C = AnyError, Q = Cloned, D = ByVerdict, U = Answered> {
    shared: PooledArc<Shared>,
    classifier: C,
    requests: Q,
    decide: D,
    until: U,
}

impl RetryLayer {
    /// Begins a retry: three attempts in all, exponential backoff from 25 ms to 1 s with full jitter,
    /// and a [budget](Budget::default) of one retry for ten successes.
    pub const fn builder() -> RetryBuilder {
        RetryBuilder {
            name: "retry",
            max_attempts: 3,
            backoff: None,
            budget: Spending::Default,
            max_hint: Duration::from_secs(30),
            attempt_needs: Duration::ZERO,
            total_time: None,
            retries_nested: false,
            seed: None,
            classifier: AnyError,
            requests: Cloned,
            decide: ByVerdict,
            until: Answered,
        }
    }
}

impl<S, C: Clone, Q: Clone, D: Clone, U: Clone> Layer<S> for RetryLayer<C, Q, D, U> {
    type Service = Retry<S, C, Q, D, U>;

    fn layer(&self, inner: S) -> Self::Service {
        let Self {
            shared,
            classifier,
            requests,
            decide,
            until,
        } = self.clone();
        Retry::new(inner, shared, classifier, requests, decide, until)
    }
}

/// The settings of a retry; made by [`RetryLayer::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct RetryBuilder<C = AnyError, Q = Cloned, D = ByVerdict, U = Answered> {
    name: &'static str,
    max_attempts: u32,
    backoff: Option<Backoff>,
    budget: Spending,
    max_hint: Duration,
    attempt_needs: Duration,
    total_time: Option<Duration>,
    retries_nested: bool,
    seed: Option<u64>,
    classifier: C,
    requests: Q,
    decide: D,
    until: U,
}

#[derive(Clone, Debug)]
enum Spending {
    Default,
    Given(Budget),
    Unlimited,
}

impl<C, Q, D, U> RetryBuilder<C, Q, D, U> {
    /// Names the layer, for metrics and events. Default: `"retry"`.
    pub fn name(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    /// How many attempts a call may take, **the first included**. At least 1. Default: 3.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// How long to wait between attempts. Default: 25 ms, doubled up to 1 s, with full jitter.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = Some(backoff);
        self
    }

    /// How many retries the dependency may be sent, by one of four rules; see [`budget`](crate::budget).
    /// Give the same budget to all that retries against one dependency. Default: a [`Budget::default`]
    /// of this layer's own.
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = Spending::Given(budget);
        self
    }

    /// Sends the dependency as many retries as there are failures. A dependency that fails because it
    /// has too much to do then gets [`max_attempts`](Self::max_attempts) times as much.
    pub fn without_budget(mut self) -> Self {
        self.budget = Spending::Unlimited;
        self
    }

    /// The longest that the service may ask to wait, in a [`Hint`](crate::classify::Hint). What asks
    /// for more ends the retrying at once. Default: 30 s; more than 136 years counts as that.
    pub fn max_hint(mut self, cap: Duration) -> Self {
        self.max_hint = cap;
        self
    }

    /// How much time an attempt needs to be of any use. None is started that has less left before the
    /// deadline. Default: none, so an attempt is started if any time is left at all.
    pub fn attempt_needs(mut self, duration: Duration) -> Self {
        self.attempt_needs = duration;
        self
    }

    /// Bounds all attempts and delays together, from the call on: a deadline for what runs below, and
    /// the end of retrying. It does not itself cut an attempt short; a [timeout](crate::timeout) below
    /// does, which obeys it. Default: none but the deadline of the [`Context`](crate::Context).
    pub fn total_time(mut self, duration: Duration) -> Self {
        self.total_time = Some(duration);
        self
    }

    /// Makes the jitter repeatable. By default it is seeded by the operating system.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Retries also inside an attempt of another retry of this crate, where it would else make one
    /// attempt; see [nested retries](super#nested-retries). Three attempts inside three are nine.
    pub fn retry_when_nested(mut self) -> Self {
        self.retries_nested = true;
        self
    }

    /// Says what counts as a failure. Default: [`AnyError`].
    pub fn classifier<E>(self, classifier: E) -> RetryBuilder<E, Q, D, U> {
        self.map(|_, requests, decide, until| (classifier, requests, decide, until))
    }

    /// Says how, and whether, a request may be copied for a further attempt; see
    /// [`CloneRequest`](super::CloneRequest). Default: [`Cloned`].
    pub fn clone_request<R>(self, requests: R) -> RetryBuilder<C, R, D, U> {
        self.map(|classifier, _, decide, until| (classifier, requests, decide, until))
    }

    /// Asks `max_attempts` for each request how many attempts it may take, the first included; `None`
    /// for as many as [the layer's](Self::max_attempts).
    pub fn max_attempts_per_request<Req, F>(
        self,
        max_attempts: F,
    ) -> RetryBuilder<C, WithMaxAttempts<Q, F>, D, U>
    where
        F: Fn(&Req) -> Option<NonZeroU32>,
    {
        self.map(|classifier, requests, decide, until| {
            let requests = WithMaxAttempts {
                requests,
                max_attempts,
            };
            (classifier, requests, decide, until)
        })
    }

    /// Asks `retry_if`, with request and outcome before it, whether to try again **instead of** the
    /// classifier: also after what that takes for a success, and after a permanent failure. Everything
    /// else that bounds retrying holds all the same: attempts, budget, deadline, what the service said
    /// about when to come back, and whether the request
    /// [may be repeated](super::CloneRequest::may_repeat).
    ///
    /// It is asked only where there is a request to try again with, so not after the last attempt; and
    /// not about what a layer of this crate refused. What the call ends with, and whether that feeds
    /// the budget, remains the classifier's to say.
    ///
    /// ```
    /// use std::{future::ready, io, io::ErrorKind::NotFound};
    /// use steadfast::{Context, retry::RetryLayer};
    /// use tower::{ServiceBuilder, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// // What was written just now may not be found at once.
    /// let just_written = |path: &&str, outcome: Result<&u32, &io::Error>| {
    ///     path.starts_with("/new/") && outcome.is_err_and(|error| error.kind() == NotFound)
    /// };
    /// let store = ServiceBuilder::new()
    ///     .layer(RetryLayer::builder().retry_if(just_written).build()?)
    ///     .service(service_fn(|_: &str| {
    ///         let attempt = Context::current().attempt().get();
    ///         ready(if attempt == 1 { Err(NotFound.into()) } else { Ok(attempt) })
    ///     }));
    ///
    /// assert_eq!(store.clone().oneshot("/new/7").await?, 2);
    /// assert!(store.oneshot("/old/7").await.is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn retry_if<Req, Res, Err, F>(self, retry_if: F) -> RetryBuilder<C, Q, RetryIf<D, F>, U>
    where
        F: Fn(&Req, Result<&Res, &Err>) -> bool,
    {
        self.map(|classifier, requests, inner, until| {
            (classifier, requests, RetryIf { inner, retry_if }, until)
        })
    }

    /// Finds the request in an error that hands it back, and tries again with it where there is no copy:
    /// `peek` looks, `take` takes it out, and is asked only if another attempt is made. An error that is
    /// returned keeps its request.
    ///
    /// The request so need not be [cloned](super::CloneRequest): a `clone_request` that gives `None`
    /// costs nothing. Whether it may be sent again if the service may have acted is still
    /// [asked](super::CloneRequest::may_repeat).
    ///
    /// ```
    /// use std::future::ready;
    /// use steadfast::{Context, retry::RetryLayer};
    /// use tower::{ServiceBuilder, ServiceExt, service_fn};
    ///
    /// struct Upload(Vec<u8>); // not to be cloned
    ///
    /// #[derive(Debug)]
    /// struct SendError { unsent: Option<Upload> }
    /// # impl std::fmt::Debug for Upload {
    /// #     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str("Upload") }
    /// # }
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), steadfast::InvalidSetting> {
    /// let retry = RetryLayer::builder()
    ///     .clone_request(|_: &Upload| None)
    ///     .restore_request(
    ///         |error: &SendError| error.unsent.as_ref(),
    ///         |error: &mut SendError| error.unsent.take(),
    ///     );
    /// let svc = ServiceBuilder::new().layer(retry.build()?).service(service_fn(|upload: Upload| {
    ///     let is_first = Context::current().attempt().get() == 1;
    ///     ready(if is_first { Err(SendError { unsent: Some(upload) }) } else { Ok(upload.0.len()) })
    /// }));
    ///
    /// assert_eq!(svc.oneshot(Upload(vec![0; 1 << 20])).await.unwrap(), 1 << 20);
    /// # Ok(())
    /// # }
    /// ```
    pub fn restore_request<Req, Err, P, T>(
        self,
        peek: P,
        take: T,
    ) -> RetryBuilder<C, Q, RestoreRequest<D, P, T>, U>
    where
        P: Fn(&Err) -> Option<&Req>,
        T: Fn(&mut Err) -> Option<Req>,
    {
        self.map(|classifier, requests, inner, until| {
            let decide = RestoreRequest { inner, peek, take };
            (classifier, requests, decide, until)
        })
    }

    /// Until when a call lasts for its [budget](Self::budget): when it is over it feeds the budget, if it
    /// ends well, and gives its place back. Default: until it is [`Answered`]. For responses that are
    /// streamed over HTTP: until the [`EndOfBody`](crate::http::EndOfBody), whose verdict may come in trailers.
    ///
    /// Not for how long it is tried again: a response that has been returned is not taken back.
    pub fn until<V>(self, until: V) -> RetryBuilder<C, Q, D, V> {
        self.map(|classifier, requests, decide, _| (classifier, requests, decide, until))
    }

    fn map<E, R, G, V>(
        self,
        f: impl FnOnce(C, Q, D, U) -> (E, R, G, V),
    ) -> RetryBuilder<E, R, G, V> {
        let (classifier, requests, decide, until) =
            f(self.classifier, self.requests, self.decide, self.until);
        RetryBuilder {
            name: self.name,
            max_attempts: self.max_attempts,
            backoff: self.backoff,
            budget: self.budget,
            max_hint: self.max_hint,
            attempt_needs: self.attempt_needs,
            total_time: self.total_time,
            retries_nested: self.retries_nested,
            seed: self.seed,
            classifier,
            requests,
            decide,
            until,
        }
    }

    /// Checks the settings and builds the layer.
    ///
    /// # Errors
    ///
    /// If a setting is outside its range; the error names it.
    pub fn build(self) -> Result<RetryLayer<C, Q, D, U>, InvalidSetting> {
        let max_attempts = NonZeroU32::new(self.max_attempts)
            .ok_or_else(|| InvalidSetting::new("max_attempts", 0, "at least 1"))?;
        let backoff = match self.backoff {
            Some(backoff) => backoff,
            None => Backoff::exponential(Duration::from_millis(25), Duration::from_secs(1))?,
        };
        let budget = match self.budget {
            Spending::Default => Some(Budget::default()),
            Spending::Given(budget) => Some(budget),
            Spending::Unlimited => None,
        };
        let total_time = self.total_time.map(|time| not_zero("total_time", time));
        let most_attempts = budget
            .as_ref()
            .map_or(NonZeroU32::MAX, Budget::max_attempts);
        let policy = Policy {
            max_attempts,
            most_attempts,
            backoff,
            budget,
            max_hint: self.max_hint.min(LONGEST_HINT),
            attempt_needs: self.attempt_needs,
            total_time: total_time.transpose()?,
            retries_nested: self.retries_nested,
        };
        Ok(RetryLayer {
            shared: PooledArc::new(Shared::new(self.name, policy, Rng::new(self.seed))),
            classifier: self.classifier,
            requests: self.requests,
            decide: self.decide,
            until: self.until,
        })
    }
}

/// Within the reach of any clock.
const LONGEST_HINT: Duration = Duration::from_secs(u32::MAX as u64);

/// What all services of a layer share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) policy: Policy,
    pub(super) rng: Rng,
    pub(super) telemetry: Telemetry,
    retries: Counter,
    resends: Counter,
    stops: [Counter; Stop::ALL.len()],
}

pooled!(Shared);

impl Shared {
    fn new(name: &'static str, policy: Policy, rng: Rng) -> Self {
        let endings = [
            Ending::Success,
            Ending::Failure,
            Ending::Ignored,
            Ending::RejectedBelow,
            Ending::Abandoned,
            Ending::Panicked,
        ];
        let telemetry = Telemetry::new("retry", name, &endings, &[]);
        let reasons = Stop::ALL.map(Stop::as_str);
        Self {
            policy,
            rng,
            retries: telemetry.counter("steadfast_retry_retries_total"),
            resends: telemetry.counter("steadfast_retry_resends_total"),
            stops: telemetry.counters("steadfast_retry_stopped_total", "reason", reasons),
            telemetry,
        }
    }

    pub(super) fn retrying(&self, attempt: u32, delay: Duration) {
        self.retries.increment(1);
        self.telemetry.retrying(attempt, delay);
    }

    pub(super) fn resending(&self, attempt: u32) {
        self.resends.increment(1);
        self.telemetry.retrying(attempt, Duration::ZERO);
    }

    pub(super) fn stopped(&self, attempt: u32, stop: Stop) {
        self.stops[stop as usize].increment(1);
        self.telemetry.not_retrying(attempt, stop.as_str());
    }
}
