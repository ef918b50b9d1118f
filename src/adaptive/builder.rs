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
    classify::AnyError, error::InvalidSetting, mode::Mode, permits::Permits, queue::Queue,
    until::Answered,
};

/// The settings of an adaptive limit; made by [`AdaptiveLayer::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct AdaptiveBuilder<L = Knee, C = AnyError, F = All, U = Answered, Q = ()> {
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
        }
    }
}

impl<L, C, F, U, Q> AdaptiveBuilder<L, C, F, U, Q> {
    /// What adapts the limit. Default: [`Knee`].
    pub fn algorithm<M>(self, algorithm: M) -> AdaptiveBuilder<M, C, F, U, Q> {
        self.map(|_, classifier, sampled, until, queue| {
            (algorithm, classifier, sampled, until, queue)
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
    /// have the classifier ignore them.
    pub fn classifier<D>(self, classifier: D) -> AdaptiveBuilder<L, D, F, U, Q> {
        self.map(|algorithm, _, sampled, until, queue| {
            (algorithm, classifier, sampled, until, queue)
        })
    }

    /// Leaves the requests out of the samples for which `sampled` is `false`: those whose latency says
    /// nothing of the load, such as long polls. They hold a permit all the same. Default: all are
    /// sampled.
    pub fn sample_if<Req, G>(self, sampled: G) -> AdaptiveBuilder<L, C, G, U, Q>
    where
        G: Fn(&Req) -> bool,
    {
        self.map(|algorithm, classifier, _, until, queue| {
            (algorithm, classifier, sampled, until, queue)
        })
    }

    /// Until when a call holds its permit. Default: until it is [`Answered`]. For responses that are
    /// streamed over HTTP: until the [`EndOfBody`](crate::http::EndOfBody).
    ///
    /// The latency of a call is in any case that until it is answered. One that fails then lasts no longer.
    pub fn until<V>(self, until: V) -> AdaptiveBuilder<L, C, F, V, Q> {
        self.map(|algorithm, classifier, sampled, _, queue| {
            (algorithm, classifier, sampled, until, queue)
        })
    }

    /// Lets calls wait while the limit is reached. Default: none.
    pub fn queue(self, queue: Queue) -> AdaptiveBuilder<L, C, F, U, Queue> {
        self.map(|algorithm, classifier, sampled, until, _| {
            (algorithm, classifier, sampled, until, queue)
        })
    }

    fn map<M, D, G, V, R>(
        self,
        f: impl FnOnce(L, C, F, U, Q) -> (M, D, G, V, R),
    ) -> AdaptiveBuilder<M, D, G, V, R> {
        let (algorithm, classifier, sampled, until, queue) = f(
            self.algorithm,
            self.classifier,
            self.sampled,
            self.until,
            self.queue,
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
        let (shared, (classifier, sampled, until)) = self.share(&Queue::NONE, Queue::LINE)?;
        Ok(AdaptiveLayer::new(shared, classifier, sampled, until))
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
        let (shared, (classifier, sampled, until)) = self.share(&queue, queue)?;
        Ok(QueuedAdaptiveLayer::new(shared, classifier, sampled, until))
    }
}

impl<L: Limit, C, F, U, Q> AdaptiveBuilder<L, C, F, U, Q> {
    /// What the services share, and what each has of its own. Calls wait in the `queue`, whoever waits in the `line`.
    fn share(self, queue: &Queue, line: Queue) -> Result<(Shared, (C, F, U)), InvalidSetting> {
        let (min, max) = self.bounds.check()?;
        let within = min as usize..=max as usize;
        let initial = self.initial.unwrap_or(20.clamp(min, max) as usize);
        if !within.contains(&initial) {
            let allowed = format!("in {within:?}");
            return Err(InvalidSetting::new("initial_limit", initial, allowed));
        }
        let sampling = self.sampling.unwrap_or_else(|| self.algorithm.sampling());
        let bounded = Bounded {
            min,
            max,
            limit: initial as f64,
        };
        let limiter = Limiter::new(
            line.permits(initial),
            bounded,
            sampling.check()?,
            Box::new(self.algorithm),
        );
        let shared = Shared::new(limiter, self.mode, Metrics::new(self.name, queue));
        Ok((shared, (self.classifier, self.sampled, self.until)))
    }
}
