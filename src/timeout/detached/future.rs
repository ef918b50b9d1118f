//! The future: hands what it holds to a task when it is dropped.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{self, Poll},
};

use tokio::runtime::Handle;

use super::{Room, Slot};
use crate::{context::Context, pooled::PooledArc};

/// Response future of [`Detachable`](super::Detachable).
///
/// Dropping it while it is pending hands the call to a task.
#[must_use = "futures do nothing unless polled"]
pub struct DetachableFuture<F> {
    /// Boxed, so that it can change its owner while it runs. Gone once it has ended or panicked.
    running: Option<Pin<Box<F>>>,
    /// That in which it was last found pending; none before it was polled.
    context: Option<Context>,
    room: PooledArc<Room>,
    /// What `drop` does. It cannot ask that `F` is `Send`; whoever makes this can.
    detach: fn(Pin<Box<F>>, Context, &PooledArc<Room>),
}

impl<F> DetachableFuture<F>
where
    F: Future + Send + 'static,
{
    pub(super) fn new(future: F, room: PooledArc<Room>) -> Self {
        Self {
            running: Some(Box::pin(future)),
            context: None,
            room,
            detach,
        }
    }
}

impl<F: Future> Future for DetachableFuture<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<F::Output> {
        // Taken out, so that one that panics is not there to run on.
        let mut running = self.running.take().expect("polled after completion");
        let polled = running.as_mut().poll(cx);
        if polled.is_pending() {
            self.context = Some(Context::current());
            self.running = Some(running);
        }
        polled
    }
}

impl<F> Drop for DetachableFuture<F> {
    fn drop(&mut self) {
        // A call that was never polled has done nothing yet that could be cut in half.
        if let (Some(running), Some(context)) = (self.running.take(), self.context) {
            (self.detach)(running, context, &self.room);
        }
    }
}

impl<F> fmt::Debug for DetachableFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DetachableFuture").finish_non_exhaustive()
    }
}

/// Lets `running` run on, if there are room and a runtime for it; else drops it.
fn detach<F>(running: Pin<Box<F>>, context: Context, room: &PooledArc<Room>)
where
    F: Future + Send + 'static,
{
    let Ok(runtime) = Handle::try_current() else {
        return room.cut.increment(1);
    };
    let Some(slot) = Slot::try_take(room) else {
        room.timeout.telemetry.detached_cut();
        return room.cut.increment(1);
    };
    runtime.spawn(context.scope(Detached { running, slot }));
}

/// A call that runs on.
struct Detached<F> {
    // In this order: it is gone before its place is given back.
    running: Pin<Box<F>>,
    slot: Slot,
}

impl<F: Future> Future for Detached<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<()> {
        let Self { running, slot } = &mut *self;
        slot.course.watch(|| running.as_mut().poll(cx)).map(drop)
    }
}
