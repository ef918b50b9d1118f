//! Calls that were answered well, and of which the verdict is still to come.

use std::task::Poll;

use super::{future::Call, shared::Shared};
use crate::{
    classify::{Judgement, Verdict},
    keyed::Held,
    pooled::PooledArc,
    until::Guard,
    watched::Call as _,
};

/// A call that was answered, and that its throttle counts when it [is over](crate::until). To drop it is
/// to give the call up.
#[derive(Debug)]
pub struct UncountedCall(Call<PooledArc<Shared>>);

/// A call that was answered, and that the throttle of its key counts when it [is over](crate::until). To
/// drop it is to give the call up. The key is in use until then.
#[derive(Debug)]
pub struct UncountedKeyedCall(Call<Held<Shared>>);

macro_rules! guard {
    ($guard:ident, $hold:ty) => {
        impl From<Call<$hold>> for $guard {
            fn from(mut call: Call<$hold>) -> Self {
                call.pending();
                Self(call)
            }
        }

        impl Guard for $guard {
            fn watch<T>(&mut self, poll: impl FnOnce() -> Poll<T>) -> Poll<T> {
                self.0.inside();
                let polled = poll();
                self.0.pending(); // there may be more to come
                polled
            }

            fn end(mut self, verdict: impl FnOnce() -> Verdict) {
                self.0.inside();
                let verdict = verdict();
                self.0.end(Judgement::Seen(verdict));
            }
        }
    };
}

guard!(UncountedCall, PooledArc<Shared>);
guard!(UncountedKeyedCall, Held<Shared>);
