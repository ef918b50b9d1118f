//! A response body of which the first frame has been looked at.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Buf;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project::pin_project;
use tonic::{Code, Status};

use crate::origin::{self, Origin};

/// What comes first of a body.
pub(super) enum First<B: Body> {
    /// Trailers that say what went wrong.
    Error(HeaderMap),
    /// Anything else.
    Frame(Looked<B>),
    End,
}

impl<B: Body + Unpin> First<B> {
    pub(super) fn poll(body: &mut B, cx: &mut Context<'_>) -> Poll<Self> {
        origin::clear();
        let frame = ready!(Pin::new(body).poll_frame(cx));
        Poll::Ready(match frame.map(|frame| frame.map(Frame::into_trailers)) {
            None => Self::End,
            Some(Ok(Ok(trailers))) if is_error(&trailers) => Self::Error(trailers),
            Some(Ok(Ok(trailers))) => Self::Frame(Looked::at(Ok(Frame::trailers(trailers)))),
            Some(Ok(Err(frame))) => Self::Frame(Looked::at(Ok(frame))),
            Some(Err(error)) => Self::Frame(Looked::at(Err(error))),
        })
    }
}

/// Trailers without a status are left to those who judge the end of a body.
fn is_error(trailers: &HeaderMap) -> bool {
    let status = trailers.get(Status::GRPC_STATUS);
    status.is_some_and(|status| Code::from_bytes(status.as_bytes()) != Code::Ok)
}

/// A frame that has been taken out of a body, or an error, with who made it.
pub(super) struct Looked<B: Body> {
    frame: Result<Frame<B::Data>, B::Error>,
    origin: Origin,
}

impl<B: Body> Looked<B> {
    fn at(frame: Result<Frame<B::Data>, B::Error>) -> Self {
        let origin = origin::read();
        Self { frame, origin }
    }
}

/// A response body of which the first frame may have been looked at; made by
/// [`TrailersOnly`](super::TrailersOnly).
///
/// Frames, trailers, errors and [`size_hint`](Body::size_hint) are the inner body's, as they come; but
/// trailers that have become part of the head are not here any more.
#[pin_project]
pub struct TrailersOnlyBody<B: Body> {
    first: Option<Looked<B>>,
    /// `None` for one that is known to be at its end.
    #[pin]
    rest: Option<B>,
}

impl<B: Body> TrailersOnlyBody<B> {
    pub(super) const fn of(body: B) -> Self {
        Self {
            first: None,
            rest: Some(body),
        }
    }

    pub(super) const fn beginning_with(first: Looked<B>, rest: B) -> Self {
        Self {
            first: Some(first),
            rest: Some(rest),
        }
    }

    pub(super) const fn ended() -> Self {
        Self {
            first: None,
            rest: None,
        }
    }
}

/// An empty body, such as that of a refusal.
impl<B: Body + Default> Default for TrailersOnlyBody<B> {
    fn default() -> Self {
        Self::of(B::default())
    }
}

impl<B: Body + fmt::Debug> fmt::Debug for TrailersOnlyBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("TrailersOnlyBody");
        debug.field("rest", &self.rest).finish_non_exhaustive()
    }
}

impl<B: Body> Body for TrailersOnlyBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        if let Some(Looked { frame, origin }) = this.first.take() {
            origin::repeat(origin);
            return Poll::Ready(Some(frame));
        }
        match this.rest.as_pin_mut() {
            Some(rest) => rest.poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let Some(rest) = &self.rest else {
            return SizeHint::with_exact(0);
        };
        let mut hint = rest.size_hint();
        if let Some(Looked {
            frame: Ok(frame), ..
        }) = &self.first
            && let Some(data) = frame.data_ref()
        {
            let more = data.remaining() as u64;
            if let Some(upper) = hint.upper() {
                hint.set_upper(upper.saturating_add(more));
            }
            hint.set_lower(hint.lower().saturating_add(more));
        }
        hint
    }
}
