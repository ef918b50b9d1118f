//! The future of a call that a layer lets pass and judges, or that it refuses.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project::pin_project;

use crate::{
    classify::{Classify, Judgement, Verdict, judge},
    error::{FromRejected, Rejected},
    origin,
    reported::ReportedLoad,
    telemetry::Ending,
    until::{Guard, Until},
};

/// What a layer holds for a call that it let pass. Accounted for exactly once: as it [ends](Self::end), or
/// else when it is dropped, by where it then stands.
pub(crate) trait Call {
    /// The service, or the caller's own classifier, is run: what drops the call is a panic in it.
    fn inside(&mut self);

    /// The service has been called: to drop the call is to abandon it.
    fn called(&mut self);

    /// The call was found pending: to drop it is to abandon it.
    fn pending(&mut self);

    /// The response says so much of the service's load.
    #[inline]
    fn reported(&mut self, load: ReportedLoad) {
        let _ = load;
    }

    fn end(&mut self, judgement: Judgement);
}

/// A refusal, in parts of which the error is made where it is returned: moving a whole [`Rejected`] about
/// costs more than making one.
pub(crate) trait Refusal {
    fn rejected(&self) -> Rejected;
}

impl Refusal for Rejected {
    fn rejected(&self) -> Rejected {
        *self
    }
}

impl Judgement {
    /// How telemetry tells of a call so judged.
    #[inline]
    pub(crate) const fn ending(self) -> Ending {
        match self {
            Self::Seen(Verdict::Success) => Ending::Success,
            Self::Seen(Verdict::Failure(_)) => Ending::Failure,
            Self::Seen(Verdict::Ignored) => Ending::Ignored,
            Self::RejectedBelow => Ending::RejectedBelow,
        }
    }
}

/// A call that is watched, or refused.
#[pin_project]
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub(crate) struct Watched<F, C, U, A, R> {
    #[pin]
    state: State<F, C, A, R>,
    until: U,
}

#[pin_project(project = StateProj, project_replace = StateOwned)]
#[derive(Debug)]
enum State<F, C, A, R> {
    // In this order: the inner future is gone before what its call holds is given back.
    Admitted {
        #[pin]
        future: F,
        call: A,
        classifier: C,
    },
    Rejected(R),
    Done,
}

impl<F, C, U, A: Call, R: Refusal> Watched<F, C, U, A, R> {
    /// Of a call that has just been made.
    #[inline]
    pub(crate) fn admitted(future: F, mut call: A, classifier: C, until: U) -> Self {
        call.called();
        let state = State::Admitted {
            future,
            call,
            classifier,
        };
        Self { state, until }
    }

    #[inline]
    pub(crate) const fn rejected(refusal: R, until: U) -> Self {
        let state = State::Rejected(refusal);
        Self { state, until }
    }

    #[inline]
    pub(crate) fn poll<T, E, G>(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<U::Response<G>, E>>
    where
        F: Future<Output = Result<T, E>>,
        E: FromRejected,
        C: Classify<T, E>,
        U: Until<T, C>,
        G: Guard + From<A>,
    {
        let this = self.project();
        let (mut state, until) = (this.state, this.until);
        let result = match state.as_mut().project() {
            StateProj::Admitted {
                future,
                call,
                classifier,
            } => {
                origin::clear();
                call.inside();
                let Poll::Ready(result) = future.poll(cx) else {
                    call.pending();
                    return Poll::Pending;
                };
                let judgement = judge(classifier, &result);
                if let Ok(response) = &result
                    && let Some(load) = classifier.reported_load(response)
                {
                    call.reported(load);
                }
                match result {
                    Ok(response)
                        if judgement.is_success() && until.lasts(&response, classifier) =>
                    {
                        let (call, classifier) = state.take_call().expect("it was admitted");
                        return Poll::Ready(Ok(until.hold(response, call.into(), classifier)));
                    }
                    result => {
                        call.end(judgement);
                        result
                    }
                }
            }
            StateProj::Rejected(refusal) => Err(origin::reject(refusal.rejected())),
            StateProj::Done => panic!("future polled after completion"),
        };
        // Gives back what the call holds now, and not when the caller drops this future.
        state.set(State::Done);
        Poll::Ready(until.pass(result))
    }
}

impl<F, C, A, R> State<F, C, A, R> {
    fn take_call(self: Pin<&mut Self>) -> Option<(A, C)> {
        match self.project_replace(Self::Done) {
            StateOwned::Admitted {
                call, classifier, ..
            } => Some((call, classifier)),
            StateOwned::Rejected(_) | StateOwned::Done => None,
        }
    }
}
