//! What is known of the requests of one criticality. Pure.

use super::{
    rule::{Rule, is_among},
    settings::Counted,
};
use crate::{
    sync::{AtomicU64, Ordering::Relaxed},
    window::{RequestWindow, Requests},
};

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Passes,
    /// By the rule.
    Refused,
    /// For what is known otherwise.
    HeldBack,
}

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
        if counted == Counted::Overloaded {
            // Relaxed: whoever misses it by a moment has come before it.
            self.overloaded_at.fetch_max(now, Relaxed);
        }
        let window = self.window.at(now);
        match counted {
            Counted::Accepted => window.accept(),
            Counted::Overloaded | Counted::Refused => window.refuse(),
        }
    }

    /// What becomes of a request, and with which probability it would not pass, where that is `least` at
    /// least. `draw` gives a number uniform over all of `u64`. What the rule refuses is counted.
    #[inline]
    pub(super) fn ask(
        &self,
        rule: &Rule,
        least: f64,
        now: u64,
        draw: impl FnOnce() -> u64,
    ) -> (Asked, f64) {
        let window = self.window.at(now);
        if least > 0.0 {
            window.mark(); // or it may be clear by now, and nobody asks
        }
        let by_rule = match window.unless_clear() {
            Some(requests) => self.judge(rule, requests, now),
            None => 0.0,
        };
        let probability = by_rule.max(least);
        if probability == 0.0 {
            return (Asked::Passes, 0.0);
        }
        let draw = draw();
        let asked = if is_among(by_rule, draw) {
            window.refuse();
            Asked::Refused
        } else if is_among(least, draw) {
            Asked::HeldBack
        } else {
            Asked::Passes
        };
        (asked, probability)
    }

    /// Has it not be [clear](Self::is_clear) for a while.
    pub(super) fn mark(&self, now: u64) {
        self.window.at(now).mark();
    }

    fn judge(&self, rule: &Rule, requests: Requests, now: u64) -> f64 {
        let calm = now.saturating_sub(self.overloaded_at.load(Relaxed));
        rule.probability(requests, calm)
    }

    /// What the window holds, and with which probability a request is refused.
    pub(super) fn look(&self, rule: &Rule, now: u64) -> (Requests, f64) {
        let requests = self.window.at(now).requests();
        (requests, self.judge(rule, requests, now))
    }

    pub(super) fn forget(&self) {
        self.window.forget();
    }
}
