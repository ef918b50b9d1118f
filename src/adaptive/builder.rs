//! The settings of an adaptive limit.

use super::{
    AdaptiveLayer, QueuedAdaptiveLayer,
    knee::Knee,
    limit::Limit,
    limiter::{Bounded, Limiter},
    sampled::All,
    sampling::Sampling,
    shared::{Metrics, Shared},
};
use crate::{
    classify::AnyError,
    error::InvalidSetting,
    mode::Mode,
    partitions::{Built, Divided, Partitions, Whole},
    permits::Permits,
    queue::Queue,
    telemetry::Telemetry,
    until::Answered,
};

/// The settings of an adaptive limit; made by [`AdaptiveLayer::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct AdaptiveBuilder<L = Knee, C = AnyError, F = All, U = Answered, Q = (), D = Whole> {
    name: &'static str,
    algorithm: L,
    initial: Option<usize>,
    bounds: Bounds,
    sampling: Option<Sampling>,
    mode: Mode,
    classifier: C,
    sampled: F,
    until: U,
    queue: Q,
    divided: D,
}

/// The least and the greatest limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) min: usize,
    pub(super) max: usize,
}

impl Bounds {
    /// # Errors
    ///
    /// If the least limit is zero, the greatest more than there can be, or the one above the other.
    pub(super) fn check(self) -> Result<(u32, u32), InvalidSetting> {
        let Self { min, max } = self;
        if max == 0 || max > Permits::MAX {
            let allowed = format!("in 1..={}", Permits::MAX);
            return Err(InvalidSetting::new("max_limit", max, allowed));
        }
        if min == 0 || min > max {
            let allowed = format!("in 1..={max}");
            return Err(InvalidSetting::new("min_limit", min, allowed));
        }
        Ok((min as u32, max as u32))
    }
}

impl AdaptiveBuilder {
    pub(super) fn new() -> Self {
        Self {
            name: "adaptive",
            algorithm: Knee::default(),
            initial: None,
            bounds: Bounds { min: 1, max: 1000 },
            sampling: None,
            mode: Mode::Enabled,
            classifier: AnyError,
            sampled: All,
            until: Answered,
            queue: (),
            divided: Whole,
        }
    }
}

impl<L, C, F, U, Q, D> AdaptiveBuilder<L, C, F, U, Q, D> {
    /// What adapts the limit. Default: [`Knee`].
    pub fn algorithm<M>(self, algorithm: M) -> AdaptiveBuilder<M, C, F, U, Q, D> {
        self.map(|_, classifier, sampled, until, queue, divided| {
            (algorithm, classifier, sampled, until, queue, divided)
        })
    }

    /// Names the layer, for metrics, events and refusals. Default: `"adaptive"`.
    pub const fn name(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    /// How many calls may be in flight to begin with. Default: 20, or the bound that is nearest to it.
    pub const fn initial_limit(mut self, limit: usize) -> Self {
        self.initial = Some(limit);
        self
    }

    /// The least limit, at least 1. Default: 1.
    ///
    /// With a limit of zero no call would be left to learn from, and with one there is: so a service
    /// that can take but one call at a time is not given two.
    pub const fn min_limit(mut self, limit: usize) -> Self {
        self.bounds.min = limit;
        self
    }

    /// The greatest limit, at most 2,097,151. Default: 1000.
    pub const fn max_limit(mut self, limit: usize) -> Self {
        self.bounds.max = limit;
        self
    }

    /// How calls become samples. Default: as the [algorithm](Limit::sampling) wants it.
    pub fn sampling(mut self, sampling: impl Into<Sampling>) -> Self {
        self.sampling = Some(sampling.into());
        self
    }

    /// What the layer does to begin with. Default: [`Mode::Enabled`].
    pub const fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Judges what calls come back with. Default: [`AnyError`].
    ///
    /// | verdict | tells |
    /// |---|---|
    /// | success | how long the call took |
    /// | failure: [overload](crate::classify::Failure::overload) | a drop |
    /// | failure: [timeout](crate::classify::Failure::timeout) | a drop, and that the call would have taken longer |
    /// | failure: [transient](crate::classify::Failure::transient) | that the call would have taken longer |
    /// | failure: permanent, or never sent | nothing |
    /// | ignored | nothing |
    ///
    /// What answers at once without doing the work is not fast: where a service refuses bad requests so,
    /// have the classifier ignore them, as those do with which [`http::adaptive`](crate::http::adaptive) and
    /// [`grpc::adaptive`](crate::grpc::adaptive) begin.
    pub fn classifier<K>(self, classifier: K) -> AdaptiveBuilder<L, K, F, U, Q, D> {
        self.map(|algorithm, _, sampled, until, queue, divided| {
            (algorithm, classifier, sampled, until, queue, divided)
        })
    }

    /// Leaves the requests out of the samples for which `sampled` is `false`: those whose latency says
    /// nothing of the load, such as long polls. They hold a permit all the same. Default: all are
    /// sampled.
    pub fn sample_if<Req, G>(self, sampled: G) -> AdaptiveBuilder<L, C, G, U, Q, D>
    where
        G: Fn(&Req) -> bool,
    {
        self.map(|algorithm, classifier, _, until, queue, divided| {
            (algorithm, classifier, sampled, until, queue, divided)
        })
    }

    /// Until when a call holds its permit. Default: until it is [`Answered`]. For responses that are
    /// streamed over HTTP: until the [`EndOfBody`](crate::http::EndOfBody).
    ///
    /// The latency of a call is in any case that until it is answered. One that fails then lasts no longer.
    pub fn until<V>(self, until: V) -> AdaptiveBuilder<L, C, F, V, Q, D> {
        self.map(|algorithm, classifier, sampled, _, queue, divided| {
            (algorithm, classifier, sampled, until, queue, divided)
        })
    }

    /// Lets calls wait while the limit is reached. Default: none.
    pub fn queue(self, queue: Queue) -> AdaptiveBuilder<L, C, F, U, Queue, D> {
        self.map(|algorithm, classifier, sampled, until, _, divided| {
            (algorithm, classifier, sampled, until, queue, divided)
        })
    }

    /// Divides the limit into shares, which are lent to the others while they are idle: so that one kind of
    /// call cannot take what is there for all. Default: it is [`Whole`]. See [`partitions`](crate::partitions).
    ///
    /// Shares follow the limit. For each partition to have one permit at any time, let the [least
    /// limit](Self::min_limit) be no less than there are partitions.
    pub fn partitions<P>(
        self,
        partitions: Partitions<P>,
    ) -> AdaptiveBuilder<L, C, F, U, Q, Partitions<P>> {
        self.map(|algorithm, classifier, sampled, until, queue, _| {
            (algorithm, classifier, sampled, until, queue, partitions)
        })
    }

    fn map<M, K, G, V, R, E>(
        self,
        f: impl FnOnce(L, C, F, U, Q, D) -> (M, K, G, V, R, E),
    ) -> AdaptiveBuilder<M, K, G, V, R, E> {
        let (algorithm, classifier, sampled, until, queue, divided) = f(
            self.algorithm,
            self.classifier,
            self.sampled,
            self.until,
            self.queue,
            self.divided,
        );
        AdaptiveBuilder {
            name: self.name,
            algorithm,
            initial: self.initial,
            bounds: self.bounds,
            sampling: self.sampling,
            mode: self.mode,
            classifier,
            sampled,
            until,
            queue,
            divided,
        }
    }
}

impl<L: Limit, C, F, U> AdaptiveBuilder<L, C, F, U> {
    /// Checks the settings and builds the layer.
    ///
    /// # Errors
    ///
    /// If a limit is zero, more than 2,097,151, or the least above the greatest; if the initial one is not
    /// within them; if a setting of the [sampling](Sampling) is outside its range.
    pub fn build(self) -> Result<AdaptiveLayer<C, F, U>, InvalidSetting> {
        let (shared, own) = self.share(&Queue::NONE, &Queue::LINE, whole)?;
        Ok(AdaptiveLayer::new(shared, own))
    }
}

impl<L: Limit, C, F, U> AdaptiveBuilder<L, C, F, U, Queue> {
    /// Checks the settings and builds the layer.
    ///
    /// # Errors
    ///
    /// If a limit is zero, more than 2,097,151, or the least above the greatest; if the initial one is not
    /// within them; if a setting of the [sampling](Sampling) is outside its range.
    pub fn build(self) -> Result<QueuedAdaptiveLayer<C, F, U>, InvalidSetting> {
        let queue = self.queue;
        let (shared, own) = self.share(&queue, &queue, whole)?;
        Ok(QueuedAdaptiveLayer::new(shared, own))
    }
}

impl<L: Limit, C, F, U, P> AdaptiveBuilder<L, C, F, U, (), Partitions<P>> {
    /// Checks the settings and builds the layer.
    ///
    /// # Errors
    ///
    /// If a limit is zero, more than 2,097,151, or the least above the greatest; if the initial one is not
    /// within them; if a setting of the [sampling](Sampling) is outside its range;
    /// if no name has a [share](Partitions::share) or more than 15 have, two have the same, or all weights are
    /// zero; if the time after which permits are [lent](Partitions::lend_after) is zero.
    pub fn build(self) -> Result<AdaptiveLayer<C, F, U, Divided<P>>, InvalidSetting> {
        let (shared, own) = self.share(&Queue::NONE, &Queue::NONE, Partitions::build)?;
        Ok(AdaptiveLayer::new(shared, own))
    }
}

impl<L: Limit, C, F, U, P> AdaptiveBuilder<L, C, F, U, Queue, Partitions<P>> {
    /// Checks the settings and builds the layer.
    ///
    /// # Errors
    ///
    /// If a limit is zero, more than 2,097,151, or the least above the greatest; if the initial one is not
    /// within them; if a setting of the [sampling](Sampling) is outside its range;
    /// if no name has a [share](Partitions::share) or more than 15 have, two have the same, or all weights are
    /// zero; if the time after which permits are [lent](Partitions::lend_after) is zero; if the queue has
    /// places, but fewer than one for each partition of any weight.
    pub fn build(self) -> Result<QueuedAdaptiveLayer<C, F, U, Divided<P>>, InvalidSetting> {
        let queue = self.queue;
        let (shared, own) = self.share(&queue, &queue, Partitions::build)?;
        Ok(QueuedAdaptiveLayer::new(shared, own))
    }
}

fn whole(
    _: Whole,
    permits: Permits,
    _: &Queue,
    _: &Telemetry,
) -> Result<Built<Whole>, InvalidSetting> {
    Ok(Built::whole(permits))
}

/// What each service has of its own.
pub(super) struct Own<C, F, U, D> {
    pub(super) classifier: C,
    pub(super) sampled: F,
    pub(super) until: U,
    pub(super) divided: D,
}

/// What the services share, and what each has of its own.
type Parts<C, F, U, D> = (Shared, Own<C, F, U, D>);

impl<L: Limit, C, F, U, Q, D> AdaptiveBuilder<L, C, F, U, Q, D> {
    /// Calls wait in the `queue`, whoever waits in the `line`.
    fn share<E>(
        self,
        queue: &Queue,
        line: &Queue,
        divide: impl FnOnce(D, Permits, &Queue, &Telemetry) -> Result<Built<E>, InvalidSetting>,
    ) -> Result<Parts<C, F, U, E>, InvalidSetting> {
        let (min, max) = self.bounds.check()?;
        let within = min as usize..=max as usize;
        let initial = self.initial.unwrap_or(20.clamp(min, max) as usize);
        if !within.contains(&initial) {
            let allowed = format!("in {within:?}");
            return Err(InvalidSetting::new("initial_limit", initial, allowed));
        }
        let sampling = self.sampling.unwrap_or_else(|| self.algorithm.sampling());
        let pace = sampling.check()?;
        let bounded = Bounded {
            min,
            max,
            limit: initial as f64,
        };
        let mut metrics = Metrics::new(self.name, queue);
        let permits = line.permits(initial);
        let built = divide(self.divided, permits, queue, &metrics.telemetry)?;
        metrics.partitions = built.metrics;
        let limiter = Limiter::new(built.permits, bounded, pace, Box::new(self.algorithm));
        let own = Own {
            classifier: self.classifier,
            sampled: self.sampled,
            until: self.until,
            divided: built.divided,
        };
        Ok((Shared::new(limiter, self.mode, metrics), own))
    }
}
