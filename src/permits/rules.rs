//! In which order those who wait are served, and who of them is refused.

use std::time::Duration;

use crate::time::nanos;

/// Who is served first, within a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Fifo,
    Lifo,
    /// Last come, first served while a queue stands, else first come, first served.
    AdaptiveLifo,
}

/// The rules of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    /// How many may wait.
    pub(crate) capacity: usize,
    /// How long.
    pub(crate) max_wait: Duration,
    pub(crate) order: Order,
    /// Whether [CoDel](super::codel) refuses who has waited too long while a queue stands.
    pub(crate) is_controlled: bool,
    /// From how many who wait on newcomers are refused early, the more the more wait.
    pub(crate) refuses_from: usize,
    /// Whether classes are told apart: all of a more critical one are served first.
    pub(crate) by_criticality: bool,
    /// A queue stands while the least delay of an interval is longer. Both in nanoseconds.
    pub(crate) target: u64,
    pub(crate) interval: u64,
}

impl Rules {
    /// With the times of Facebook's controlled delay: 5 ms, and 100 ms.
    pub(crate) const fn new(order: Order, capacity: usize, max_wait: Duration) -> Self {
        let capacity = if max_wait.is_zero() { 0 } else { capacity };
        Self {
            capacity,
            max_wait,
            order,
            is_controlled: false,
            refuses_from: usize::MAX,
            by_criticality: false,
            target: nanos(Duration::from_millis(5)),
            interval: nanos(Duration::from_millis(100)),
        }
    }
}
