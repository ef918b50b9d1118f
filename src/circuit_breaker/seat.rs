//! What a service holds between being told ready and being called, and while it waits for that.

use std::{
    mem,
    task::{Context, Poll, ready},
};

use super::{ask::Refusal, desk::Waiting, held::Held, layer::Shared, machine::Pass};
use crate::{
    pooled::PooledArc,
    time::{self, Timer},
};

/// The readiness of one service. Its clones have their own.
#[derive(Debug)]
pub(super) struct Seat {
    shared: PooledArc<Shared>,
    held: Held,
    waiting: Option<Waiting>,
    /// Fires when there is reason to ask again.
    timer: Option<Timer>,
}

impl Seat {
    pub(super) const fn new(shared: PooledArc<Shared>) -> Self {
        Self {
            shared,
            held: Held::Nothing,
            waiting: None,
            timer: None,
        }
    }

    pub(super) const fn shared(&self) -> &PooledArc<Shared> {
        &self.shared
    }

    /// Ready once a call would pass; what it needs for that is then held.
    #[inline]
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // What it may still hold is of a state that is over, as is what it waited for.
        if self.shared.machine.is_closed() {
            return Poll::Ready(());
        }
        self.poll_unless_closed(cx)
    }

    #[inline(never)]
    fn poll_unless_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let shared = &*self.shared;
        let machine = &shared.machine;
        if machine.is_promised(&self.held) {
            return Poll::Ready(());
        }
        machine.give_back(mem::take(&mut self.held));
        self.held = match machine.promise(shared) {
            Ok(held) => held,
            Err(_) => loop {
                // Entered first and asked then, or what came free in between would wake nobody.
                machine.desk.wait(&mut self.waiting, cx.waker());
                match machine.promise(shared) {
                    Ok(held) => break held,
                    Err(refusal) => ready!(poll_timer(&mut self.timer, refusal, cx)),
                }
            },
        };
        self.leave();
        Poll::Ready(())
    }

    /// The pass of the call that is to be made now: that which was promised, or what the breaker says.
    #[inline]
    pub(super) fn take_up(&mut self) -> Result<Pass, Refusal> {
        let shared = &*self.shared;
        let held = mem::take(&mut self.held);
        let promised = shared.machine.take_up(held, shared);
        promised.map_or_else(|| shared.machine.admit(shared), Ok)
    }

    /// Gives back what is held, and waits no more.
    #[inline]
    pub(super) fn give_up(&mut self) {
        if self.waiting.is_some() || !matches!(self.held, Held::Nothing) {
            self.shared.machine.give_back(mem::take(&mut self.held));
            self.leave();
        }
    }

    fn leave(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            self.shared.machine.desk.leave(&waiting);
        }
    }
}

/// Pending while there is no reason to ask again but a waker's.
fn poll_timer(timer: &mut Option<Timer>, refusal: Refusal, cx: &mut Context<'_>) -> Poll<()> {
    let end = refusal.ends_in();
    let Some(end) = end.and_then(|end| time::now().checked_add(end)) else {
        return Poll::Pending;
    };
    let kept = timer.take().filter(|timer| timer.end() == end);
    let kept = kept.unwrap_or_else(|| Timer::until(end));
    timer.insert(kept).poll(cx)
}

impl Clone for Seat {
    /// Nothing is held, and nobody waits.
    fn clone(&self) -> Self {
        Self::new(self.shared.clone())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.give_up();
    }
}
