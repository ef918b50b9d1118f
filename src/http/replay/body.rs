//! The body that each attempt sends.

use std::{
    error::Error as StdError,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::recording::{Recording, Sending};
use crate::sync::{Arc, Mutex, lock};

/// A request body that is recorded while it is sent, up to a cap; made by [`ReplayLayer`].
///
/// A clone sends it from its start: what has been recorded, by reference and not by copy, then what is
/// left, trailers included. Of all clones the one that was polled first *last* has the body; one that
/// was sending before fails with [`ReplayError::Superseded`].
///
/// [`ReplayLayer`]: super::ReplayLayer
pub struct ReplayBody<B> {
    /// `None` for a body without content, of which there is nothing to record.
    recording: Option<Arc<Mutex<Recording<B>>>>,
    sending: Sending,
}

impl<B: Body> ReplayBody<B> {
    /// Records `body` while it is sent, up to `cap` bytes, and as many pieces as there are 64 bytes in
    /// that, and one more.
    #[must_use]
    pub fn new(body: B, cap: usize) -> Self {
        let recording =
            (!body.is_end_stream()).then(|| Arc::new(Mutex::new(Recording::new(body, cap))));
        let sending = Sending::default();
        Self { recording, sending }
    }

    /// Whether a clone made now would send the whole body: nothing has been sent yet, or all that has
    /// been is recorded.
    #[must_use]
    pub fn is_replayable(&self) -> bool {
        let recording = self.recording.as_ref();
        recording.is_none_or(|recording| lock(recording).is_replayable())
    }
}

impl<B> Clone for ReplayBody<B> {
    /// One that sends the body from its start.
    fn clone(&self) -> Self {
        Self {
            recording: self.recording.clone(),
            sending: Sending::default(),
        }
    }
}

impl<B> fmt::Debug for ReplayBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayBody").finish_non_exhaustive()
    }
}

impl<B: Body> Body for ReplayBody<B> {
    type Data = Bytes;
    type Error = ReplayError<B::Error>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Self { recording, sending } = &mut *self;
        let Some(recording) = recording else {
            return Poll::Ready(None);
        };
        let (polled, superseded) = lock(recording).poll_frame(sending, cx);
        if let Some(superseded) = superseded {
            superseded.wake(); // to find out, and to let go of its connection
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        let recording = self.recording.as_ref();
        recording.is_none_or(|recording| lock(recording).is_end_stream(self.sending))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.recording {
            Some(recording) => lock(recording).size_hint(self.sending),
            None => SizeHint::with_exact(0),
        }
    }
}

/// Why a [`ReplayBody`] could not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplayError<E> {
    /// The recorded body failed.
    Body(E),
    /// It failed, or was longer than may be recorded, when an earlier clone sent it.
    Lost,
    /// A later clone has begun to send it.
    Superseded,
}

impl<E: fmt::Display> fmt::Display for ReplayError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Body(error) => error.fmt(f),
            Self::Lost => f.write_str("the request body cannot be sent again"),
            Self::Superseded => f.write_str("the request body is being sent anew"),
        }
    }
}

impl<E: StdError> StdError for ReplayError<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Body(error) => error.source(),
            Self::Lost | Self::Superseded => None,
        }
    }
}
