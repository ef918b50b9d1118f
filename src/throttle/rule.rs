//! With which probability a request is refused. Pure.

use crate::window::{RequestWindow, Requests};

/// The formula, and the bounds that are set to it.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    /// The book's K.
    multiplier: f64,
    max_probability: f64,
    /// Inactive where there are fewer requests.
    least_requests: u64,
    window_nanos: u64,
    slice_nanos: u64,
    /// How many calls in a row are accepted by no chance.
    calm_calls: f64,
}

impl Rule {
    pub(super) fn new(
        multiplier: f64,
        max_probability: f64,
        least_requests: u64,
        window_nanos: u64,
    ) -> Self {
        // At the formula's balance a service is sent K calls for each that it can take, give or take the
        // root of K. That is a random walk with a drift of K - 1 towards overload, which stays away from
        // it for n calls with a probability of about exp(-n (K - 1)^2 / 2K): here a thousandth. Where K
        // is one it never is overloaded in balance, so n is without end.
        let drift = multiplier - 1.0;
        let calm_calls = 2.0 * 1000_f64.ln() * (multiplier / drift) / drift;
        Self {
            multiplier,
            max_probability,
            least_requests,
            window_nanos,
            slice_nanos: window_nanos / RequestWindow::SLICES,
            calm_calls,
        }
    }

    pub(super) const fn window_nanos(&self) -> u64 {
        self.window_nanos
    }

    /// With which probability the next request is refused, after `requests` in the window, and no word
    /// of overload from the service for `calm` nanoseconds.
    pub(super) fn probability(&self, requests: Requests, calm: u64) -> f64 {
        if requests.total() < self.least_requests {
            return 0.0;
        }
        let probability = self.formula(requests).min(self.max_probability);
        if probability <= 0.0 {
            return 0.0;
        }
        // First by whole numbers, which nearly always is enough.
        if calm < self.slice_nanos {
            return probability;
        }
        let passes = (1.0 - probability) * self.doublings(requests.accepted, calm).exp2();
        (1.0 - passes).max(0.0)
    }

    /// That of chapter 21 of the Google SRE book, as it stands: below zero where nothing is refused.
    fn formula(&self, requests: Requests) -> f64 {
        let (total, accepted) = (requests.total() as f64, requests.accepted as f64);
        (total - self.multiplier * accepted) / (total + 1.0)
    }

    /// How often the share that passes has doubled: once for each slice of the window in which the service
    /// accepted all it was sent, and no more often than it has accepted as many in a row as by no chance. How
    /// many those were is taken from the rate over the whole window.
    fn doublings(&self, accepted: u64, calm: u64) -> f64 {
        let windows = calm as f64 / self.window_nanos as f64;
        let slices = windows * RequestWindow::SLICES as f64;
        let in_a_row = accepted as f64 * windows;
        slices.min(in_a_row / self.calm_calls).floor()
    }
}

/// Whether a number drawn uniformly from all of `u64` is among the share of them that is `probability`.
pub(super) fn is_among(probability: f64, draw: u64) -> bool {
    const DIGITS: u32 = f64::MANTISSA_DIGITS;
    let uniform = (draw >> (u64::BITS - DIGITS)) as f64 / (1_u64 << DIGITS) as f64;
    uniform < probability
}
