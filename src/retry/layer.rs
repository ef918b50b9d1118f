//! Building a retry, and the state that all its services share.

use std::{num::NonZeroU32, time::Duration};

use tower::Layer;

use super::{
    Cloned, Retry, WithMaxAttempts,
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
};

/// Applies [`Retry`] to a service.
///
/// All services made by one layer, or by its clones, share its budget.
///
/// See the [module docs](super) for an example.
#[derive(Clone, Debug)]
#[must_use]
pub struct RetryLayer<C = AnyError, Q = Cloned> {
    shared: PooledArc<Shared>,
    classifier: C,
    requests: Q,
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
            seed: None,
            classifier: AnyError,
            requests: Cloned,
        }
    }
}

impl<S, C: Clone, Q: Clone> Layer<S> for RetryLayer<C, Q> {
    type Service = Retry<S, C, Q>;

    fn layer(&self, inner: S) -> Self::Service {
        let Self {
            shared,
            classifier,
            requests,
        } = self.clone();
        Retry::new(inner, shared, classifier, requests)
    }
}

/// The settings of a retry; made by [`RetryLayer::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct RetryBuilder<C = AnyError, Q = Cloned> {
    name: &'static str,
    max_attempts: u32,
    backoff: Option<Backoff>,
    budget: Spending,
    max_hint: Duration,
    attempt_needs: Duration,
    total_time: Option<Duration>,
    seed: Option<u64>,
    classifier: C,
    requests: Q,
}

#[derive(Clone, Debug)]
enum Spending {
    Default,
    Given(Budget),
    Unlimited,
}

impl<C, Q> RetryBuilder<C, Q> {
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

    /// How many retries the dependency may be sent. Give the same budget to all that retries against
    /// one dependency. Default: a [`Budget::default`] of this layer's own.
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

    /// Says what counts as a failure. Default: [`AnyError`].
    pub fn classifier<D>(self, classifier: D) -> RetryBuilder<D, Q> {
        self.map(|_, requests| (classifier, requests))
    }

    /// Says how, and whether, a request may be copied for a further attempt; see
    /// [`CloneRequest`](super::CloneRequest). Default: [`Cloned`].
    pub fn clone_request<R>(self, requests: R) -> RetryBuilder<C, R> {
        self.map(|classifier, _| (classifier, requests))
    }

    /// Asks `max_attempts` for each request how many attempts it may take, the first included; `None`
    /// for as many as [the layer's](Self::max_attempts).
    pub fn max_attempts_per_request<Req, F>(
        self,
        max_attempts: F,
    ) -> RetryBuilder<C, WithMaxAttempts<Q, F>>
    where
        F: Fn(&Req) -> Option<NonZeroU32>,
    {
        self.map(|classifier, requests| {
            let requests = WithMaxAttempts {
                requests,
                max_attempts,
            };
            (classifier, requests)
        })
    }

    fn map<D, R>(self, f: impl FnOnce(C, Q) -> (D, R)) -> RetryBuilder<D, R> {
        let (classifier, requests) = f(self.classifier, self.requests);
        RetryBuilder {
            name: self.name,
            max_attempts: self.max_attempts,
            backoff: self.backoff,
            budget: self.budget,
            max_hint: self.max_hint,
            attempt_needs: self.attempt_needs,
            total_time: self.total_time,
            seed: self.seed,
            classifier,
            requests,
        }
    }

    /// Checks the settings and builds the layer.
    ///
    /// # Errors
    ///
    /// If a setting is outside its range; the error names it.
    pub fn build(self) -> Result<RetryLayer<C, Q>, InvalidSetting> {
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
        let policy = Policy {
            max_attempts,
            backoff,
            budget,
            max_hint: self.max_hint.min(LONGEST_HINT),
            attempt_needs: self.attempt_needs,
            total_time: total_time.transpose()?,
        };
        Ok(RetryLayer {
            shared: PooledArc::new(Shared::new(self.name, policy, Rng::new(self.seed))),
            classifier: self.classifier,
            requests: self.requests,
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
            stops: telemetry.counters("steadfast_retry_stopped_total", "reason", reasons),
            telemetry,
        }
    }

    pub(super) fn retrying(&self, attempt: u32, delay: Duration) {
        self.retries.increment(1);
        self.telemetry.retrying(attempt, delay);
    }

    pub(super) fn stopped(&self, attempt: u32, stop: Stop) {
        self.stops[stop as usize].increment(1);
        self.telemetry.not_retrying(attempt, stop.as_str());
    }
}
