//! Calls that were answered, and are not over.

use std::task::Poll;

use super::future::Call;
use crate::{
    classify::{Judgement, Verdict},
    until::Guard,
    watched::Call as _,
};

/// A call that has been answered and [lasts on](crate::until): in flight until it is over, or until this is
/// dropped.
#[derive(Debug)]
pub struct HeldCall(Call);

impl From<Call> for HeldCall {
    fn from(mut call: Call) -> Self {
        call.called(); // to be dropped from now on is to be abandoned again
        Self(call)
    }
}

impl Guard for HeldCall {
    fn watch<T>(&mut self, poll: impl FnOnce() -> Poll<T>) -> Poll<T> {
        self.0.inside();
        let polled = poll();
        self.0.pending(); // there may be more to come
        polled
    }

    fn end(mut self, _: impl FnOnce() -> Verdict) {
        self.0.end(Judgement::Seen(Verdict::Success));
    }
}
