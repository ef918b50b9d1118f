//! A classifier, and what reads from a response how loaded the service is.

use crate::{
    classify::{Classify, Verdict},
    reported::{ReadLoad, ReportedLoad},
};

/// Judges as its classifier does, and reads what a response says of the load; made by
/// [`ThrottleBuilder::heed_load`](super::ThrottleBuilder::heed_load).
#[derive(Clone, Copy, Debug)]
pub struct Heeding<C, R> {
    pub(crate) classifier: C,
    pub(super) read: R,
}

impl<C, R, Res, Err> Classify<Res, Err> for Heeding<C, R>
where
    C: Classify<Res, Err>,
    R: ReadLoad<Res>,
{
    fn classify(&self, result: Result<&Res, &Err>) -> Verdict {
        self.classifier.classify(result)
    }

    fn classify_timed_out(&self, error: &Err) -> Verdict {
        self.classifier.classify_timed_out(error)
    }

    #[inline]
    fn reported_load(&self, response: &Res) -> Option<ReportedLoad> {
        self.read.read_load(response)
    }
}
