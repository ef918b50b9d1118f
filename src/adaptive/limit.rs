//! What an algorithm is, and what it is told.

use std::time::Duration;

use super::sampling::Sampling;

/// An algorithm that finds how many calls a service can take at once: a sample in, a limit out.
///
/// It asks nobody for the time, and is never run by two threads at once. It runs within the call that
/// completes a sample, so it must not block, and must not call the setters of the layer's
/// [handle](super::AdaptiveHandle), nor its [`snapshot`](super::AdaptiveHandle::snapshot), which would
/// wait for it. One that panics is told of by an event; the limit stays.
///
/// # Example
///
/// A limit of one's own: a fifth less when anything was dropped, and one more where it was all used.
///
/// ```
/// use steadfast::adaptive::{AdaptiveLayer, Limit, Sample};
///
/// struct Careful;
///
/// impl Limit for Careful {
///     fn next(&mut self, limit: f64, sample: &Sample) -> f64 {
///         match sample.dropped {
///             0 if sample.limited => limit + 1.0,
///             0 => limit,
///             _ => limit * 0.8,
///         }
///     }
/// }
///
/// # fn main() -> Result<(), steadfast::InvalidSetting> {
/// let layer = AdaptiveLayer::builder().algorithm(Careful).initial_limit(50).build()?;
/// assert_eq!(layer.handle().limit(), 50);
///
/// let mut sample = Sample::default();
/// sample.dropped = 3;
/// assert_eq!(Careful.next(50.0, &sample), 40.0);
/// # Ok(())
/// # }
/// ```
pub trait Limit: Send + 'static {
    /// The next limit, of which the layer keeps the fraction, and admits by the whole calls. Not a number
    /// or infinite: the limit stays. The layer keeps it within its bounds.
    fn next(&mut self, limit: f64, sample: &Sample) -> f64;

    /// How calls become samples, unless the layer is told otherwise. Default: [`Sampling::default`].
    fn sampling(&self) -> Sampling {
        Sampling::default()
    }
}

impl<L: Limit + ?Sized> Limit for Box<L> {
    fn next(&mut self, limit: f64, sample: &Sample) -> f64 {
        (**self).next(limit, sample)
    }

    fn sampling(&self) -> Sampling {
        (**self).sampling()
    }
}

/// What was seen of the calls that ended since the last sample.
///
/// Whoever tests an algorithm begins with [`Sample::default`], in which nothing was seen, and sets what is
/// to be seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sample {
    /// When the sample was completed: the time since the layer was made.
    pub now: Duration,
    /// The time over which the calls of this sample ended.
    pub elapsed: Duration,
    /// The latency: the chosen quantile, by default the median, of the calls that began since the limit
    /// last changed. `None` if there were none.
    ///
    /// Calls that were cut short, or failed, count as longer than they took. Where they are so many that the
    /// quantile lies beyond all that was seen, this is the longest that was, or the latency as last known if
    /// that was longer; `None` while all there ever were have been cut short or have failed.
    pub latency: Option<Duration>,
    /// The shortest of the calls that began since the limit last changed and were neither cut short nor
    /// failed. `None` if there were none.
    pub min_latency: Option<Duration>,
    /// The mean over the same calls as [`latency`](Self::latency), each that was cut short as long as it was
    /// seen. `None` if there were none.
    pub mean_latency: Option<Duration>,
    /// How many calls tell of the three: all that are neither ignored nor refused as overload.
    pub measured: u32,
    /// Calls that were answered, well or with an ordinary failure, whenever they began. What the service
    /// gets done.
    pub completed: u32,
    /// Calls that began since the limit last changed and were refused as overload, or not answered in
    /// time. An earlier one says nothing of this limit: so there is at most one decrease in a round trip.
    pub dropped: u32,
    /// The most calls that were in flight at once.
    pub in_flight: u32,
    /// Calls that found the limit reached, or what is left of it kept for another
    /// [partition](crate::partitions): that were refused, or had to wait.
    pub turned_away: u32,
    /// Whether the limit was reached: all of it was in use, so that another call would have been refused
    /// or had to wait.
    pub limited: bool,
}
