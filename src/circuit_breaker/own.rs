//! A rule of the user's own.

use std::fmt;

use super::trip::Statistics;
use crate::{foreign, sync::ConstArc};

/// Decides from what has been counted.
#[derive(Clone)]
pub(super) struct Own(ConstArc<dyn Fn(&Statistics) -> bool + Send + Sync>);

impl Own {
    pub(super) fn new(rule: impl Fn(&Statistics) -> bool + Send + Sync + 'static) -> Self {
        Self(ConstArc::new(rule))
    }

    /// Whether the breaker is to trip. A rule that panics says no, and `panicked` is called.
    ///
    /// Also runs while the thread unwinds from a panic of the inner service, or a breaker with no other
    /// rule would never open on panics.
    pub(super) fn trips(&self, statistics: &Statistics, panicked: impl FnOnce()) -> bool {
        foreign::run(|| (self.0)(statistics)).unwrap_or_else(|| {
            panicked();
            false
        })
    }
}

impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Own")
    }
}
