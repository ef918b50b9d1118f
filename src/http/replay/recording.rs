//! What has been sent of a body, and the rest of it.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::ReplayError;

/// A body that is recorded while it is sent, so that it can be sent from the start once more.
///
/// One sending at a time: the one begun last has the body, and those before it find that they have been
/// superseded. A connection may go on with a request for a while after its call has been given up.
#[derive(Debug)]
pub(super) struct Recording<B> {
    rest: Pin<Box<B>>,
    /// What has come of it.
    frames: Vec<Bytes>,
    trailers: Option<HeaderMap>,
    /// Whether it said from the start how long it is.
    says_its_length: bool,
    /// How many bytes of it may be held, and are.
    cap: usize,
    held: usize,
    progress: Progress,
    /// Of the sending begun last.
    number: u32,
    /// Who waits for the rest.
    waker: Option<Waker>,
}

/// So many bytes of the cap allow for one frame more, or a body of tiny ones would be held in many times
/// its size.
const CAP_OF_FRAME: usize = 64;

pub(super) type Sent<B> = Result<Frame<Bytes>, ReplayError<<B as Body>::Error>>;

/// How far the rest has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// All that has come of it is held.
    Held,
    /// More has come of it than may be held, so that nothing is: what is sent now is sent once.
    TooLong,
    /// There is no more to come.
    Ended,
    /// It has failed.
    Failed,
}

/// How far a sending has come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sending {
    /// Zero for one not begun.
    number: u32,
    frames: usize,
    has_ended: bool,
}

impl<B: Body> Recording<B> {
    pub(super) fn new(body: B, cap: usize) -> Self {
        let hint = body.size_hint();
        let is_too_long = hint.lower() > cap as u64;
        Self {
            rest: Box::pin(body),
            frames: Vec::new(),
            trailers: None,
            says_its_length: hint.exact().is_some(),
            cap,
            held: 0,
            progress: if is_too_long {
                Progress::TooLong
            } else {
                Progress::Held
            },
            number: 0,
            waker: None,
        }
    }

    /// Whether a sending that begins now would send the whole body.
    pub(super) const fn is_replayable(&self) -> bool {
        match self.progress {
            Progress::Held | Progress::Ended => true,
            // Unless nothing has been sent of it yet.
            Progress::TooLong => self.number == 0,
            Progress::Failed => false,
        }
    }

    /// The next frame of a sending, and who has been superseded by it and is to be woken.
    pub(super) fn poll_frame(
        &mut self,
        sending: &mut Sending,
        cx: &mut Context<'_>,
    ) -> (Poll<Option<Sent<B>>>, Option<Waker>) {
        let superseded = if sending.number == 0 && self.is_replayable() {
            self.number += 1;
            sending.number = self.number;
            self.waker.take()
        } else {
            None
        };
        (self.poll_sending(sending, cx), superseded)
    }

    fn poll_sending(
        &mut self,
        sending: &mut Sending,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Sent<B>>> {
        if sending.has_ended {
            return Poll::Ready(None);
        }
        if sending.number == self.number {
            if let Some(data) = self.frames.get(sending.frames) {
                sending.frames += 1;
                return Poll::Ready(Some(Ok(Frame::data(data.clone()))));
            }
            if matches!(self.progress, Progress::Held | Progress::TooLong) {
                let frame = ready!(self.poll_rest(cx));
                sending.frames = self.frames.len();
                sending.has_ended = !matches!(&frame, Some(Ok(frame)) if frame.is_data());
                return Poll::Ready(frame.map(|frame| frame.map_err(ReplayError::Body)));
            }
        }
        sending.has_ended = true;
        Poll::Ready(if sending.number == 0 {
            Some(Err(ReplayError::Lost))
        } else if sending.number != self.number {
            Some(Err(ReplayError::Superseded))
        } else if self.progress == Progress::Failed {
            Some(Err(ReplayError::Lost))
        } else {
            self.trailers
                .clone()
                .map(|trailers| Ok(Frame::trailers(trailers)))
        })
    }

    /// The next frame of the rest, recorded.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let Poll::Ready(frame) = self.rest.as_mut().poll_frame(cx) else {
            let waker = cx.waker();
            if !self.waker.as_ref().is_some_and(|own| own.will_wake(waker)) {
                self.waker = Some(waker.clone());
            }
            return Poll::Pending;
        };
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                let frame = frame.map_data(|mut data| data.copy_to_bytes(data.remaining()));
                self.record(&frame);
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                self.progress = Progress::Failed;
                Some(Err(error))
            }
            None => {
                self.end();
                None
            }
        })
    }

    fn record(&mut self, frame: &Frame<Bytes>) {
        if let Some(trailers) = frame.trailers_ref() {
            self.trailers = Some(trailers.clone());
            self.end();
        }
        let Some(data) = frame.data_ref().filter(|data| !data.is_empty()) else {
            return;
        };
        if self.progress == Progress::Held {
            self.held += data.len();
            self.frames.push(data.clone());
            if self.held > self.cap || self.frames.len() > 1 + self.cap / CAP_OF_FRAME {
                self.progress = Progress::TooLong;
                self.frames = Vec::new();
            }
        }
    }

    fn end(&mut self) {
        if self.progress == Progress::Held {
            self.progress = Progress::Ended;
        }
    }

    /// Whether there is nothing left for a sending to send.
    pub(super) fn is_end_stream(&self, sending: Sending) -> bool {
        let has_more = sending.frames < self.frames.len();
        let rest_has_ended = match self.progress {
            Progress::Held | Progress::TooLong => self.rest.is_end_stream(),
            Progress::Ended => self.trailers.is_none(),
            Progress::Failed => false,
        };
        sending.has_ended || (!has_more && rest_has_ended)
    }

    /// How many bytes are left for a sending to send.
    pub(super) fn size_hint(&self, sending: Sending) -> SizeHint {
        if sending.has_ended {
            return SizeHint::with_exact(0);
        }
        let held = self.frames.iter().skip(sending.frames);
        let held: u64 = held.map(|data| data.len() as u64).sum();
        let rest = match self.progress {
            Progress::Held | Progress::TooLong => self.rest.size_hint(),
            // Whoever is told the length of a body over HTTP/1.1 sends no trailers behind it.
            Progress::Ended if self.trailers.is_some() && !self.says_its_length => SizeHint::new(),
            Progress::Ended => SizeHint::with_exact(0),
            Progress::Failed => SizeHint::new(),
        };
        let mut left = SizeHint::new();
        if let Some(upper) = rest.upper() {
            left.set_upper(upper.saturating_add(held));
        }
        left.set_lower(rest.lower().saturating_add(held));
        left
    }
}
