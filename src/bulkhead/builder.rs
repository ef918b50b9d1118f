//! The settings of a bulkhead.

use std::{marker::PhantomData, time::Duration};

use super::{
    BulkheadLayer, KeyedBulkheadLayer, One, QueuedBulkheadLayer, QueuedKeyedBulkheadLayer,
    keyed::Keys,
    shared::{Metrics, Shared},
    weight::Partitioned,
};
use crate::{
    error::InvalidSetting, keyed::Key, partitions::Partitions, pooled::PooledArc, queue::Queue,
    until::Answered,
};

/// The settings of a bulkhead; made by [`BulkheadLayer::builder`]. Only those of a [keyed](Self::keyed)
/// one, or of [partitions](Self::partitions), can be wrong.
#[derive(Clone, Debug)]
#[must_use]
pub struct BulkheadBuilder<Q = (), W = One, N = (), U = Answered> {
    name: &'static str,
    max: usize,
    queue: Q,
    weight: W,
    /// What tells calls apart: keys, or partitions.
    by: N,
    until: U,
}

/// The settings of a bulkhead with a limit for each key; made by [`BulkheadBuilder::keyed`].
#[derive(Clone, Debug)]
pub struct Keyed<K, F> {
    max_keys: usize,
    idle_time: Duration,
    key: F,
    owned: PhantomData<fn() -> K>,
}

impl BulkheadBuilder {
    pub(super) const fn new(max: usize) -> Self {
        Self {
            name: "bulkhead",
            max,
            queue: (),
            weight: One,
            by: (),
            until: Answered,
        }
    }
}

impl<Q, W, N, U> BulkheadBuilder<Q, W, N, U> {
    /// Names the layer, for metrics, events and refusals. Default: `"bulkhead"`.
    pub fn name(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    /// Lets calls wait where too few permits are free. Default: none.
    pub fn queue(self, queue: Queue) -> BulkheadBuilder<Queue, W, N, U> {
        self.map(|_, weight, by, until| (queue, weight, by, until))
    }

    /// Says how many permits a request takes, such as one for each of its parts. Default: one.
    ///
    /// A call takes all its permits or none. Zero counts as one. A call that weighs more than the limit
    /// could never be admitted and is refused at once; so is one in the queue, when its turn comes and the
    /// limit has been lowered below its weight. A limit of zero refuses or makes wait whatever the
    /// weight.
    ///
    /// **Who waits for many permits is not starved** by those who ask for few: in a
    /// [FIFO](Queue::fifo) queue nobody is served before the one in front. So permits that are free,
    /// but too few for that one, stay free; a heavy call costs the time in which they gather.
    pub fn weight<Req, F>(self, weight: F) -> BulkheadBuilder<Q, F, N, U>
    where
        F: Fn(&Req) -> usize,
    {
        self.map(|queue, _, by, until| (queue, weight, by, until))
    }

    /// Until when a call holds its permits. Default: until it is [`Answered`]. For responses that are
    /// streamed over HTTP: until the [`EndOfBody`](crate::http::EndOfBody).
    ///
    /// What is held until then is the place of a call, with all that is known of it: a keyed bulkhead's key
    /// is in use, and the call is counted when it is over.
    pub fn until<V>(self, until: V) -> BulkheadBuilder<Q, W, N, V> {
        self.map(|queue, weight, by, _| (queue, weight, by, until))
    }

    fn map<R, X, M, V>(
        self,
        f: impl FnOnce(Q, W, N, U) -> (R, X, M, V),
    ) -> BulkheadBuilder<R, X, M, V> {
        let (queue, weight, by, until) = f(self.queue, self.weight, self.by, self.until);
        BulkheadBuilder {
            name: self.name,
            max: self.max,
            queue,
            weight,
            by,
            until,
        }
    }
}

impl<Q, W, U> BulkheadBuilder<Q, W, (), U> {
    /// Gives each key a limit, and a queue, of its own: so many calls in flight to each host, of each
    /// tenant, by each route. `key` chooses the key of a request; see [`keyed`](crate::keyed) for keys
    /// that are borrowed from it.
    ///
    /// At most `max_keys` keys are kept, at least 1; keys not in use are forgotten as told
    /// [there](crate::keyed). Where all are in use, a call of yet another key is refused as
    /// [`BulkheadFull`](crate::Reason::BulkheadFull): to let it pass would be to have no limit for whoever
    /// brings keys enough. So no more than `max_keys` times the limit are in flight.
    pub fn keyed<Req, F>(
        self,
        max_keys: usize,
        key: F,
    ) -> BulkheadBuilder<Q, W, Keyed<F::Owned, F>, U>
    where
        F: Key<Req>,
    {
        let keys = Keyed {
            max_keys,
            idle_time: Duration::from_secs(600),
            key,
            owned: PhantomData,
        };
        self.map(|queue, weight, (), until| (queue, weight, keys, until))
    }

    /// Divides the limit into shares, which are lent to the others while they are idle: so that one kind of
    /// call cannot take what is there for all. See [`partitions`](crate::partitions).
    pub fn partitions<F>(
        self,
        partitions: Partitions<F>,
    ) -> BulkheadBuilder<Q, W, Partitions<F>, U> {
        self.map(|queue, weight, (), until| (queue, weight, partitions, until))
    }
}

impl<Q, W, K, F, U> BulkheadBuilder<Q, W, Keyed<K, F>, U> {
    /// After which time a key that is not in use may be forgotten though there is room for it. Default:
    /// 10 min. A bound for memory only: a key that comes again finds the limit that it had.
    pub const fn idle_time(mut self, idle_time: Duration) -> Self {
        self.by.idle_time = idle_time;
        self
    }
}

impl<W, U> BulkheadBuilder<(), W, (), U> {
    /// Builds the layer.
    pub fn build(self) -> BulkheadLayer<W, U> {
        let metrics = Metrics::new(self.name, &Queue::NONE);
        let permits = Queue::LINE.permits(self.max);
        BulkheadLayer {
            shared: PooledArc::new(Shared::new(permits, metrics)),
            weight: self.weight,
            until: self.until,
        }
    }
}

impl<W, U> BulkheadBuilder<Queue, W, (), U> {
    /// Builds the layer.
    pub fn build(self) -> QueuedBulkheadLayer<W, U> {
        let metrics = Metrics::new(self.name, &self.queue);
        let permits = self.queue.permits(self.max);
        QueuedBulkheadLayer {
            shared: PooledArc::new(Shared::new(permits, metrics)),
            weight: self.weight,
            until: self.until,
        }
    }
}

impl<W, F, U> BulkheadBuilder<(), W, Partitions<F>, U> {
    /// Checks the settings and builds the layer.
    ///
    /// # Errors
    ///
    /// If no name has a [share](Partitions::share) or more than 15 have, two have the same, or all weights are
    /// zero; if the time after which permits are [lent](Partitions::lend_after) is zero.
    pub fn build(self) -> Result<BulkheadLayer<Partitioned<F, W>, U>, InvalidSetting> {
        let (shared, weight, until) = self.divide(&Queue::NONE)?;
        Ok(BulkheadLayer {
            shared,
            weight,
            until,
        })
    }
}

impl<W, F, U> BulkheadBuilder<Queue, W, Partitions<F>, U> {
    /// Checks the settings and builds the layer.
    ///
    /// # Errors
    ///
    /// If no name has a [share](Partitions::share) or more than 15 have, two have the same, or all weights are
    /// zero; if the time after which permits are [lent](Partitions::lend_after) is zero; if the queue has
    /// places, but fewer than one for each partition of any weight.
    pub fn build(self) -> Result<QueuedBulkheadLayer<Partitioned<F, W>, U>, InvalidSetting> {
        let queue = self.queue;
        let (shared, weight, until) = self.divide(&queue)?;
        Ok(QueuedBulkheadLayer {
            shared,
            weight,
            until,
        })
    }
}

/// What the services share, and what each has of its own.
type Divided<F, W, U> = (PooledArc<Shared>, Partitioned<F, W>, U);

impl<Q, W, F, U> BulkheadBuilder<Q, W, Partitions<F>, U> {
    fn divide(self, queue: &Queue) -> Result<Divided<F, W, U>, InvalidSetting> {
        let mut metrics = Metrics::new(self.name, queue);
        let permits = queue.permits(self.max);
        let built = self.by.build(permits, queue, &metrics.telemetry)?;
        metrics.partitions = built.metrics;
        let weight = Partitioned {
            divided: built.divided,
            weight: self.weight,
        };
        let shared = PooledArc::new(Shared::new(built.permits, metrics));
        Ok((shared, weight, self.until))
    }
}

impl<W, K: std::hash::Hash + Eq + Clone, F, U> BulkheadBuilder<(), W, Keyed<K, F>, U> {
    /// Checks the settings and builds the layer.
    ///
    /// # Errors
    ///
    /// If `max_keys` is zero.
    pub fn build(self) -> Result<KeyedBulkheadLayer<K, F, W, U>, InvalidSetting> {
        let metrics = Metrics::new(self.name, &Queue::NONE);
        let keys = self.by.build(self.max, Queue::NONE, metrics)?;
        let (key, weight) = (self.by.key, self.weight);
        Ok(KeyedBulkheadLayer::new(keys, key, weight, self.until))
    }
}

impl<W, K: std::hash::Hash + Eq + Clone, F, U> BulkheadBuilder<Queue, W, Keyed<K, F>, U> {
    /// Checks the settings and builds the layer.
    ///
    /// # Errors
    ///
    /// If `max_keys` is zero.
    pub fn build(self) -> Result<QueuedKeyedBulkheadLayer<K, F, W, U>, InvalidSetting> {
        let metrics = Metrics::new(self.name, &self.queue);
        let keys = self.by.build(self.max, self.queue, metrics)?;
        let (key, weight) = (self.by.key, self.weight);
        Ok(QueuedKeyedBulkheadLayer::new(keys, key, weight, self.until))
    }
}

impl<K: std::hash::Hash + Eq + Clone, F> Keyed<K, F> {
    fn build(&self, max: usize, queue: Queue, metrics: Metrics) -> Result<Keys<K>, InvalidSetting> {
        Keys::new(self.max_keys, self.idle_time, max, queue, metrics)
    }
}
