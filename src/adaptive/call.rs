//! A call, to be accounted for exactly once.

use std::task::Poll;

use super::{
    Mode,
    limiter::Told,
    shared::{Pass, Shared},
};
use crate::{
    classify::{FailureKind, Judgement, Verdict},
    context::Context,
    origin,
    partitions::{PartOf, Whole, demand},
    pooled::PooledArc,
    telemetry::Ending,
    time::{self, Instant},
    until::Guard,
    watched::{self, Call as _},
};

/// A call that was let pass: accounted for on drop, as [`settle`](Self::settle) has said or else as it
/// stands.
#[derive(Debug)]
pub(super) struct Call<P: PartOf> {
    shared: PooledArc<Shared>,
    part: P,
    kind: Kind,
    /// Looked up when the call is first found pending.
    deadline: Option<Instant>,
    phase: Phase,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Holds a permit, and tells of the service.
    Sampled { generation: u32, began: u64 },
    /// Holds a permit.
    Unsampled,
    /// The layer only observes, and would have refused it.
    Spared,
    /// The layer is disabled.
    Unwatched,
}

/// Where a call stands if it is dropped now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The inner service is being run: it panicked.
    Inside,
    /// It is being waited for: the caller gave it up.
    Waiting,
    /// All is said.
    Settled { told: Option<Told>, ending: Ending },
}

impl<P: PartOf> Call<P> {
    /// A call that is about to be made, and has just been let pass.
    #[inline]
    pub(super) fn begin(shared: PooledArc<Shared>, part: P, pass: Pass, is_sampled: bool) -> Self {
        let kind = match pass {
            Pass::Admitted if !is_sampled => Kind::Unsampled,
            Pass::Admitted => Kind::Sampled {
                generation: shared.limiter.generation(),
                began: shared.nanos_now(),
            },
            Pass::Spared => Kind::Spared,
            Pass::Unwatched => Kind::Unwatched,
        };
        if pass == Pass::Admitted {
            shared.took(demand(1, part));
        }
        Self {
            shared,
            part,
            kind,
            deadline: None,
            phase: Phase::Inside,
        }
    }

    #[inline]
    fn account(&self, told: Option<Told>, ending: Ending) {
        let shared = &*self.shared;
        match self.kind {
            Kind::Unwatched => return,
            Kind::Spared => {}
            Kind::Unsampled => shared.give_back(demand(1, self.part)),
            Kind::Sampled { .. } => {
                // By the clock before it gives back: to hand a permit on may take a while.
                let now = told.map(|_| shared.nanos_now());
                shared.give_back(demand(1, self.part));
                self.tell(told, now);
            }
        }
        shared.metrics.telemetry.ended(ending);
    }

    #[inline]
    fn tell(&self, told: Option<Told>, now: Option<u64>) {
        if let (Kind::Sampled { generation, began }, Some(told), Some(now)) = (self.kind, told, now)
        {
            let shared = &*self.shared;
            if shared.mode.get() == Mode::Disabled {
                return;
            }
            let nanos = now.saturating_sub(began);
            let limiter = &shared.limiter;
            limiter.ended(generation, told, nanos, now, |tuned| shared.tuned(tuned));
        }
    }

    /// How a call is accounted for that is dropped without a result. Whose time was up was not answered
    /// in time: because a timeout of ours dropped it, or because its deadline has passed.
    #[cold]
    fn abandoned(&self) -> (Option<Told>, Ending) {
        if self.phase == Phase::Inside {
            return (Some(Told::Failed), Ending::Panicked);
        }
        let is_late = || {
            origin::is_cut()
                || self
                    .deadline
                    .is_some_and(|deadline| deadline <= time::now())
        };
        if is_late() {
            (Some(Told::TimedOut), Ending::AbandonedLate)
        } else {
            (Some(Told::Abandoned), Ending::Abandoned)
        }
    }
}

impl<P: PartOf> watched::Call for Call<P> {
    #[inline]
    fn inside(&mut self) {
        self.phase = Phase::Inside;
    }

    #[inline]
    fn called(&mut self) {
        self.phase = Phase::Waiting;
    }

    #[inline]
    fn pending(&mut self) {
        self.phase = Phase::Waiting;
        if self.deadline.is_none() && matches!(self.kind, Kind::Sampled { .. }) {
            self.deadline = Context::current().deadline();
        }
    }

    #[inline]
    fn end(&mut self, judgement: Judgement) {
        self.phase = Phase::Settled {
            told: told_by(judgement),
            ending: judgement.ending(),
        };
    }
}

impl<P: PartOf> Drop for Call<P> {
    #[inline]
    fn drop(&mut self) {
        let (told, ending) = match self.phase {
            Phase::Settled { told, ending } => (told, ending),
            Phase::Inside | Phase::Waiting => self.abandoned(),
        };
        self.account(told, ending);
    }
}

/// What a verdict says of how long calls take, and of whether there are too many. Nothing where a service
/// answers without having done the work: one that refuses bad requests at once is not a fast one.
const fn told_by(judgement: Judgement) -> Option<Told> {
    match judgement {
        Judgement::Seen(Verdict::Success) => Some(Told::Completed),
        Judgement::Seen(Verdict::Failure(failure)) => match failure.kind() {
            FailureKind::Overload => Some(Told::Overloaded),
            FailureKind::Timeout => Some(Told::TimedOut),
            FailureKind::Transient => Some(Told::Failed),
            FailureKind::Permanent | FailureKind::NeverSent => None,
        },
        Judgement::Seen(Verdict::Ignored) | Judgement::RejectedBelow => None,
    }
}

/// The permit of a call that has been answered and [lasts on](crate::until): given back when it is over, or
/// on drop.
///
/// Its latency was that of the head. Where it ends as overload, or because its time was up, that is a drop.
#[derive(Debug)]
pub struct HeldPermit<P: PartOf = Whole> {
    call: Call<P>,
}

impl<P: PartOf> From<Call<P>> for HeldPermit<P> {
    fn from(mut call: Call<P>) -> Self {
        call.phase = Phase::Waiting;
        if let Kind::Sampled { .. } = call.kind {
            call.deadline = call.deadline.or(Context::current().deadline());
            call.shared.limiter.look_in_flight();
            call.tell(Some(Told::Completed), Some(call.shared.nanos_now()));
        }
        Self { call }
    }
}

impl<P: PartOf> Guard for HeldPermit<P> {
    fn watch<T>(&mut self, poll: impl FnOnce() -> Poll<T>) -> Poll<T> {
        self.call.inside();
        let polled = poll();
        self.call.pending(); // there may be more to come
        polled
    }

    fn end(mut self, verdict: impl FnOnce() -> Verdict) {
        let call = &mut self.call;
        call.inside(); // a panic of the caller's own classifier
        let judgement = Judgement::Seen(verdict());
        call.phase = Phase::Settled {
            told: dropped(told_by(judgement)),
            ending: judgement.ending(),
        };
    }
}

impl<P: PartOf> Drop for HeldPermit<P> {
    fn drop(&mut self) {
        let call = &mut self.call;
        if matches!(call.phase, Phase::Inside | Phase::Waiting) {
            let (told, ending) = call.abandoned();
            let told = dropped(told);
            call.phase = Phase::Settled { told, ending };
        }
    }
}

/// What the end of a call still says whose latency has been told.
fn dropped(told: Option<Told>) -> Option<Told> {
    let is_drop = matches!(told, Some(Told::Overloaded | Told::TimedOut));
    is_drop.then_some(Told::Overloaded)
}
