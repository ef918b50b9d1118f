//! A response body, with what a layer holds for it.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use http_body::{Body, Frame, SizeHint};
use pin_project::pin_project;

use super::{ClassifyEnd, End};
use crate::{
    classify::AnyError,
    origin::{self, Origin},
    until::Guard,
};

/// A response body of a call that lasts until its end; made by layers that are given
/// [`EndOfBody`](super::EndOfBody).
///
/// Frames, trailers, errors and [`size_hint`](Body::size_hint) are the inner body's, as they come.
/// Dropping it drops the inner body, and then gives the call up.
#[pin_project]
#[derive(Debug)]
pub struct GuardedBody<B, G, C = AnyError> {
    // In this order: the body is gone before what is held for it.
    #[pin]
    inner: B,
    /// Until the end.
    held: Option<(G, C)>,
}

impl<B, G, C> GuardedBody<B, G, C> {
    pub(super) const fn unguarded(inner: B) -> Self {
        let held = None;
        Self { inner, held }
    }

    /// The wrapped body.
    #[must_use]
    pub const fn get_ref(&self) -> &B {
        &self.inner
    }
}

impl<B, G, C> GuardedBody<B, G, C>
where
    B: Body,
    G: Guard,
    C: ClassifyEnd<B::Error>,
{
    pub(super) fn guarded(inner: B, guard: G, classifier: C) -> Self {
        let held = if inner.is_end_stream() {
            guard.end(|| classifier.classify_end(End::Complete(None)));
            None
        } else {
            Some((guard, classifier))
        };
        Self { inner, held }
    }
}

/// A body for which nothing is held, such as that of a refusal.
impl<B: Default, G, C> Default for GuardedBody<B, G, C> {
    fn default() -> Self {
        Self::unguarded(B::default())
    }
}

/// A body for which nothing is held, such as that of a refusal.
impl<B: From<String>, G, C> From<String> for GuardedBody<B, G, C> {
    fn from(text: String) -> Self {
        Self::unguarded(text.into())
    }
}

impl<B, G, C> Body for GuardedBody<B, G, C>
where
    B: Body,
    G: Guard,
    C: ClassifyEnd<B::Error>,
{
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let Some((guard, _)) = this.held else {
            return this.inner.poll_frame(cx);
        };
        origin::clear();
        let polled = ready!(guard.watch(|| this.inner.as_mut().poll_frame(cx)));
        let end = match &polled {
            None => End::Complete(None),
            Some(Err(error)) => match origin::read() {
                Origin::TimedOut => End::TimedOut(error),
                Origin::Inner | Origin::Rejected => End::Failed(error),
            },
            Some(Ok(frame)) => match frame.trailers_ref() {
                None if !this.inner.is_end_stream() => return Poll::Ready(polled),
                trailers => End::Complete(trailers),
            },
        };
        if let Some((guard, classifier)) = this.held.take() {
            guard.end(|| classifier.classify_end(end));
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
