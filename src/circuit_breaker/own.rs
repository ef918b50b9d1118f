//! A rule of the user's own.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

use super::trip::Statistics;
use crate::sync::ConstArc;

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
    /// rule would never open on panics. What is caught within a destructor does not abort.
    pub(super) fn trips(&self, statistics: &Statistics, panicked: impl FnOnce()) -> bool {
        // What a rule leaves behind half done is its own: we hand it nothing that it could break.
        let answer = catch_unwind(AssertUnwindSafe(|| (self.0)(statistics)));
        answer.unwrap_or_else(|payload| {
            // The payload is the user's as well, and so is its destructor.
            let dropped = catch_unwind(AssertUnwindSafe(|| drop(payload)));
            if let Err(payload) = dropped {
                std::mem::forget(payload);
            }
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
