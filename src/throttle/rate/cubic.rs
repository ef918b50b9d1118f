//! How a rate grows back to where the service throttled, and on from there. Pure.

/// CUBIC's curve over the time since the service throttled last, with the constants that the SDKs of AWS have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cubic {
    /// The rate, in calls a second, at which it did.
    most: f64,
    /// In how many seconds the curve is back there.
    plateau: f64,
    /// Nanoseconds.
    throttled_at: u64,
}

impl Cubic {
    /// To what a throttling answer lowers the rate.
    const BETA: f64 = 0.7;
    const SCALE: f64 = 0.4;

    /// After a throttling answer at `now`, to calls at this rate.
    pub(super) fn throttled(rate: f64, now: u64) -> Self {
        Self {
            most: rate,
            plateau: (rate * (1.0 - Self::BETA) / Self::SCALE).cbrt(),
            throttled_at: now,
        }
    }

    /// The rate at `now`: at first 0.7 of what was too much, soon nearly that, for a while no more, and then
    /// the faster the longer it goes well.
    pub(super) fn rate_at(&self, now: u64) -> f64 {
        let seconds = now.saturating_sub(self.throttled_at) as f64 / 1e9;
        Self::SCALE * (seconds - self.plateau).powi(3) + self.most
    }
}
