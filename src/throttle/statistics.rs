//! What is known of the requests of one criticality. Pure.

use super::{rule::Rule, settings::Counted};
use crate::{
    sync::{AtomicU64, Ordering::Relaxed},
    window::{RequestWindow, Requests},
};

/// The requests in the window, and when the service last said that it had too many.
#[derive(Debug)]
pub(super) struct Statistics {
    window: RequestWindow,
    overloaded_at: AtomicU64,
}

impl Statistics {
    pub(super) fn new(rule: &Rule) -> Self {
        Self {
            window: RequestWindow::new(rule.window_nanos()),
            overloaded_at: AtomicU64::new(0),
        }
    }

    /// Whether it is known without the time that nothing is to be refused.
    #[inline]
    pub(super) fn is_clear(&self) -> bool {
        self.window.is_clear()
    }

    #[inline]
    pub(super) fn count(&self, counted: Counted, now: u64) {
        match counted {
            Counted::Accepted => self.window.accept(now),
            Counted::Refused => self.window.refuse(now),
            Counted::Overloaded => {
                // Relaxed: whoever misses it by a moment has come before it.
                self.overloaded_at.fetch_max(now, Relaxed);
                self.window.refuse(now);
            }
        }
    }

    /// With which probability a request is to be refused.
    #[inline]
    pub(super) fn probability(&self, rule: &Rule, now: u64) -> f64 {
        let requests = self.window.unless_clear(now);
        requests.map_or(0.0, |requests| self.judge(rule, requests, now))
    }

    fn judge(&self, rule: &Rule, requests: Requests, now: u64) -> f64 {
        let calm = now.saturating_sub(self.overloaded_at.load(Relaxed));
        rule.probability(requests, calm)
    }

    /// What the window holds, and what [`probability`](Self::probability) comes of it.
    pub(super) fn look(&self, rule: &Rule, now: u64) -> (Requests, f64) {
        let requests = self.window.requests(now);
        (requests, self.judge(rule, requests, now))
    }

    pub(super) fn forget(&self) {
        self.window.forget();
    }
}
