//! What is set for a status, of HTTP or gRPC, in place of its default. Pure.

use crate::classify::{Failure, FailureKind, Hint, Verdict};

/// A verdict without a hint, in one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    Success,
    Ignored,
    Failure(FailureKind),
}

const _: () = assert!(size_of::<Option<Rule>>() == 1);

impl Rule {
    /// The verdict. The hint is looked for only where there is a failure.
    pub(crate) fn verdict(self, hint: impl FnOnce() -> Option<Hint>) -> Verdict {
        let kind = match self {
            Self::Success => return Verdict::Success,
            Self::Ignored => return Verdict::Ignored,
            Self::Failure(kind) => kind,
        };
        let failure = Failure::of(kind);
        Verdict::Failure(match hint() {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        })
    }
}
