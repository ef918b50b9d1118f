//! A call that passed, to be accounted for exactly once.

use std::{ops::Deref, task::Poll};

use super::shared::{Pass, Shared};
use crate::{
    classify::{FailureKind, Judgement, Verdict},
    keyed::Held,
    pooled::PooledArc,
    telemetry::{Course, Ending},
    throttle::settings::{Counted, Kinds},
    until::Guard,
    watched::Call as WatchedCall,
};

/// What it means that a service throttles.
const THROTTLES: Kinds = Kinds::NONE.with(FailureKind::Overload);

/// A call that passed. `P` is its hold on the rate.
#[derive(Debug)]
pub(super) struct Call<P: Deref<Target = Shared>> {
    shared: P,
    pass: Pass,
    course: Course,
}

impl<P: Deref<Target = Shared>> Call<P> {
    /// A call that is about to be made.
    #[inline]
    pub(super) const fn begin(shared: P, pass: Pass) -> Self {
        Self {
            shared,
            pass,
            course: Course::begun(),
        }
    }

    #[inline]
    fn tell(&self, ending: Ending) {
        if self.pass != Pass::Unwatched {
            self.shared.telemetry.ended(ending);
        }
    }
}

impl<P: Deref<Target = Shared>> WatchedCall for Call<P> {
    #[inline]
    fn inside(&mut self) {
        self.course = Course::begun();
    }

    #[inline]
    fn called(&mut self) {
        self.course.called();
    }

    #[inline]
    fn pending(&mut self) {
        self.course.called();
    }

    #[inline]
    fn end(&mut self, judgement: Judgement) {
        self.course.end(Ending::Completed);
        self.tell(judgement.ending());
        if let (Pass::Told(phase), Some(counted)) = (self.pass, THROTTLES.count(judgement)) {
            self.shared.answered(phase, counted == Counted::Overloaded);
        }
    }
}

impl<P: Deref<Target = Shared>> Drop for Call<P> {
    #[inline]
    fn drop(&mut self) {
        let ending = self.course.ending();
        if ending != Ending::Completed {
            self.tell(ending);
        }
    }
}

/// A call that was answered, and that tells of the rate when it [is over](crate::until). To drop it is to
/// give the call up, which tells nothing.
#[derive(Debug)]
pub struct UntoldCall(Call<PooledArc<Shared>>);

/// A call that was answered, and that tells of the rate of its key when it [is over](crate::until). To drop
/// it is to give the call up, which tells nothing. The key is in use until then.
#[derive(Debug)]
pub struct UntoldKeyedCall(Call<Held<Shared>>);

macro_rules! guard {
    ($guard:ident, $hold:ty) => {
        impl From<Call<$hold>> for $guard {
            fn from(mut call: Call<$hold>) -> Self {
                call.called();
                Self(call)
            }
        }

        impl Guard for $guard {
            fn watch<T>(&mut self, poll: impl FnOnce() -> Poll<T>) -> Poll<T> {
                self.0.inside();
                let polled = poll();
                self.0.called(); // there may be more to come
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

guard!(UntoldCall, PooledArc<Shared>);
guard!(UntoldKeyedCall, Held<Shared>);
