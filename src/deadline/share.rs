//! How many of the requests may be refused as too late. Pure.

use crate::{
    error::InvalidSetting,
    window::{Outcome, Ratio, TimeWindow},
};

/// At most this share of the requests of the last ten seconds, as Finagle's deadline filter has it.
#[derive(Debug)]
pub(super) struct Share {
    most: Ratio,
    requests: TimeWindow,
}

impl Share {
    const NANOS: u64 = 10_000_000_000;

    pub(super) fn new(setting: &'static str, most: f64) -> Result<Self, InvalidSetting> {
        let most = Ratio::new(setting, most)?;
        let requests = TimeWindow::new(Self::NANOS);
        Ok(Self { most, requests })
    }

    /// Counts a request that is in time, at `now`.
    pub(super) fn pass(&self, now: u64) {
        self.requests.record(0, Outcome::default(), now);
    }

    /// Counts a request that is too late, at `now`; says whether to refuse it.
    ///
    /// Threads that ask at the same moment may each take the same last refusal.
    pub(super) fn try_refuse(&self, now: u64) -> bool {
        let counts = self.requests.counts(0, now);
        let (refused, requests) = (counts.failed + 1, counts.calls + 1);
        let allowed = u128::from(self.most.millionths()) * u128::from(requests);
        let failed = u128::from(refused) * 1_000_000 <= allowed;
        self.requests.record(0, Outcome::untimed(failed), now);
        failed
    }
}
