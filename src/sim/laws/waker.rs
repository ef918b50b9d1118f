//! Polling by hand.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, Wake, Waker},
};

use crate::sync::{AtomicU64, Ordering::SeqCst, StdArc};

/// Polls `future` once; nobody is woken.
pub fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Counts how often it is woken.
#[derive(Debug, Default)]
pub struct CountingWaker(AtomicU64);

impl Wake for CountingWaker {
    fn wake(self: StdArc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

impl CountingWaker {
    /// One that has not been woken, and as a waker.
    #[must_use]
    pub fn new() -> (StdArc<Self>, Waker) {
        let counter = StdArc::new(Self::default());
        (counter.clone(), counter.into())
    }

    /// How often it was woken.
    #[must_use]
    pub fn woken(&self) -> usize {
        self.0.load(SeqCst) as usize
    }
}
