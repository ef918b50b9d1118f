//! The queue of a layer that may let calls wait: how many, how long, in which order they are served, and
//! who of them is refused.
//!
//! | queue | served first | refuses, beside those for whom there is no place |
//! |---|---|---|
//! | [`fifo`](Queue::fifo) | who came first | |
//! | [`lifo`](Queue::lifo) | who came last | |
//! | [`adaptive_lifo`](Queue::adaptive_lifo) | who came first; while the queue stands, last | |
//! | [`codel`](Queue::codel) | who came first | while the queue stands, who has waited too long |
//! | [`codel_adaptive_lifo`](Queue::codel_adaptive_lifo) | who came first; while the queue stands, last | the same |
//!
//! Each also [by criticality](Queue::by_criticality). In all of them nobody is served after the time that
//! a call may wait, or at or after the deadline of its [`Context`](crate::Context): such a call is refused when its
//! turn comes, or when its time is up, whichever is first, and never reaches the inner service.
//!
//! **A queue that stands** is one that has not drained for a while: no longer a burst, but more work than
//! can be done. It is known by its *delay*, which is how long the one has waited who has waited the
//! longest, each time a turn comes. The queue stands after an interval, of 100 ms, in which the least delay
//! was above a target, of 5 ms; see [`target`](Queue::target). Calls that did not have to wait had a delay of
//! zero. So a burst that is over within an interval, and does not follow on an overload, is served to the
//! last as if there were no target. It stands until the least delay of an interval is no longer above
//! the target; under CoDel, which makes it short itself, also not before an interval in which nobody is
//! refused for it. [By criticality](Queue::by_criticality) the queue of each class stands for itself.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use steadfast::{Context, Criticality, Reason, Rejected, bulkhead::BulkheadLayer, queue::Queue};
//! use tower::{BoxError, Layer, Service, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! let ms = Duration::from_millis;
//! let queue = Queue::codel(1, ms(500)).target(ms(10), ms(200))?.by_criticality();
//! let layer = BulkheadLayer::builder(1).queue(queue).build();
//! let mut svc = layer.layer(service_fn(|id: u32| async move {
//!     tokio::time::sleep(Duration::from_millis(20)).await;
//!     Ok::<_, BoxError>(id)
//! }));
//!
//! // One runs, one waits, and gives way to a third that matters more.
//! let batch = Context::new().with_criticality(Criticality::Sheddable);
//! let (first, second, third) = tokio::join!(
//!     svc.call(1),
//!     batch.scope(svc.call(2)),
//!     svc.call(3),
//! );
//! assert_eq!((first?, third?), (1, 3));
//! let refused = Rejected::find(&*second.unwrap_err()).unwrap().reason();
//! assert_eq!(refused, Reason::BulkheadFull);
//! # Ok(())
//! # }
//! ```

mod reservation;
mod wait;

pub(crate) use reservation::Reservation;
pub(crate) use wait::{Entry, Source, Wait};

use std::time::Duration;

use crate::{
    error::{InvalidSetting, Reason, not_zero},
    permits::{Delay, Order, Permits, Rules},
    time::{Epoch, nanos},
};

/// How many calls may wait, how long, in which order they are served, and who of them is refused.
///
/// See the [module docs](self) for an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Queue {
    rules: Rules,
}

impl Queue {
    /// What a layer without a queue has: nobody may wait.
    pub(crate) const NONE: Self = Self::fifo(0, Duration::ZERO);

    /// First come, first served: fair. `capacity` calls may wait, each for at most `max_wait`.
    ///
    /// Zero of either refuses at once. A capacity of more than 2,097,151 counts as that.
    pub const fn fifo(capacity: usize, max_wait: Duration) -> Self {
        Self::new(capacity, max_wait, Order::Fifo)
    }

    /// Last come, first served: unfair, but under lasting overload those served have waited the least,
    /// and those who waited the most are those whose callers have gone.
    pub const fn lifo(capacity: usize, max_wait: Duration) -> Self {
        Self::new(capacity, max_wait, Order::Lifo)
    }

    /// First come, first served, for as long as the queue drains; last come, first served while it
    /// [stands](self): fair to a burst, and of use under lasting overload.
    ///
    /// After B. Maurer, "Fail at Scale" (ACM Queue, 2015).
    pub const fn adaptive_lifo(capacity: usize, max_wait: Duration) -> Self {
        Self::new(capacity, max_wait, Order::AdaptiveLifo)
    }

    /// First come, first served; and while the queue [stands](self), whoever has waited for longer than
    /// twice the [target](Self::target), 10 ms, is refused when a turn comes, as
    /// [`Overloaded`](Reason::Overloaded). Not so the first of each interval, so that calls are served
    /// also where all wait for longer.
    ///
    /// So the queue may be as long as a burst asks for, and yet is short under lasting overload. Such a
    /// refusal says to come back not before an interval is over. Where fewer than some dozen turns come in
    /// 100 ms, because few calls run at a time or each takes long, set a longer [interval](Self::target).
    ///
    /// After K. Nichols and V. Jacobson, "Controlling Queue Delay" (ACM Queue, 2012), in the form of
    /// Facebook's: "Fail at Scale", and folly's `Codel`.
    pub const fn codel(capacity: usize, max_wait: Duration) -> Self {
        Self::new(capacity, max_wait, Order::Fifo).controlled()
    }

    /// [`codel`](Self::codel) and [`adaptive_lifo`](Self::adaptive_lifo) together: while the queue stands,
    /// who came last is served first, and who has waited too long is refused.
    pub const fn codel_adaptive_lifo(capacity: usize, max_wait: Duration) -> Self {
        Self::new(capacity, max_wait, Order::AdaptiveLifo).controlled()
    }

    const fn new(capacity: usize, max_wait: Duration, order: Order) -> Self {
        let rules = Rules::new(order, capacity, max_wait);
        Self { rules }
    }

    const fn controlled(mut self) -> Self {
        self.rules.is_controlled = true;
        self
    }

    /// Serves the more critical first, by the [`Criticality`](crate::Criticality) of the caller's
    /// [`Context`](crate::Context): nobody of a class while there is one of a class above, and within a
    /// class in the order of the queue. Default: all are alike.
    ///
    /// Where the queue is full, who would be served last of the least critical class gives way to a
    /// newcomer who is more critical, and is refused as the newcomer would have been. Under lasting
    /// overload from above, those below are not served at all.
    pub const fn by_criticality(mut self) -> Self {
        self.rules.by_criticality = true;
        self
    }

    /// Refuses newcomers by and by: while more than `from` wait, one in so many, and the more the more wait,
    /// up to all where the queue is full. Default: none until it is full.
    ///
    /// As load grows past what can be done refusals so begin with a few, and who is served waits less than in a
    /// queue that is always full. With 20 and a capacity of 120, while 70 wait every other newcomer is
    /// refused, evenly. [By criticality](Self::by_criticality) only those count who are as critical as the
    /// newcomer, or more; and of [partitions](crate::partitions) none is refused so as long as it has fewer than its
    /// part of the places.
    ///
    /// After S. Floyd and V. Jacobson, "Random Early Detection Gateways for Congestion Avoidance" (1993), by the
    /// length of the queue as it is, as failsafe-go's adaptive limiter has it with twice and thrice the limit.
    ///
    /// # Errors
    ///
    /// If `from` is not less than the capacity.
    pub fn refuse_from(mut self, from: usize) -> Result<Self, InvalidSetting> {
        let capacity = self.rules.capacity;
        if from >= capacity {
            let allowed = format!("less than the capacity, {capacity}");
            return Err(InvalidSetting::new("refuse_from", from, allowed));
        }
        self.rules.refuses_from = from;
        Ok(self)
    }

    /// When the queue [stands](self): after an `interval` of which the least delay is longer than `target`.
    /// Default: 5 ms and 100 ms, which are Facebook's for requests within a data centre.
    ///
    /// The interval is how long a burst may take. Twice the target is how long calls wait under overload
    /// where there is [CoDel](Self::codel). Where neither it nor the order asks for the two, they are those of the
    /// [`QueueDelay`] alone.
    ///
    /// # Errors
    ///
    /// If `target` is zero, or `interval` is not longer than `target`.
    pub fn target(mut self, target: Duration, interval: Duration) -> Result<Self, InvalidSetting> {
        self.rules.target = nanos(not_zero("target", target)?);
        if interval <= target {
            let allowed = format!("longer than the target, {target:?}");
            return Err(InvalidSetting::new("interval", interval, allowed));
        }
        self.rules.interval = nanos(interval);
        Ok(self)
    }

    /// Why a call that has waited may be refused, beside what the layer says when it is full.
    pub(crate) const fn reasons(&self) -> &'static [Reason] {
        match (self.rules.capacity, self.rules.is_controlled) {
            (0, _) => &[],
            (_, false) => &[Reason::QueueTimeout, Reason::DeadlineExceeded],
            (_, true) => &[
                Reason::QueueTimeout,
                Reason::DeadlineExceeded,
                Reason::Overloaded,
            ],
        }
    }

    pub(crate) const fn capacity(&self) -> usize {
        self.rules.capacity
    }

    /// Permits, of which `max` may be taken at a time, with this queue before them.
    pub(crate) fn permits(&self, max: usize) -> Permits {
        Permits::new(max, self.rules, Epoch::start())
    }
}

/// How long calls wait in a queue: a signal of overload. All is zero while nobody waits.
///
/// The delay of a queue is how long the one has waited who has waited the longest, each time a turn comes.
/// To read it takes no lock, and for calls that do not wait it is not written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueDelay {
    /// The least delay of the last [interval](Queue::target) that is over: zero where calls did not have to
    /// wait in it, and where there are classes, that of the class for which it is longest.
    pub least: Duration,
    /// The delay, exponentially smoothed: a turn counts an eighth.
    pub smoothed: Duration,
    /// How long the one has waited who now waits the longest. This one grows also while no turn comes: all
    /// that run may hang.
    pub longest: Duration,
    /// Whether the queue [stands](self), or that of some class.
    pub is_standing: bool,
}

impl QueueDelay {
    pub(crate) fn of(permits: &Permits) -> Self {
        let Delay {
            is_standing,
            least,
            smoothed,
            longest,
        } = permits.delay();
        Self {
            least: Duration::from_nanos(least),
            smoothed: Duration::from_nanos(smoothed),
            longest: Duration::from_nanos(longest),
            is_standing,
        }
    }
}
