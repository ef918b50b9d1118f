//! What a service holds between being told ready and being called, or while it waits for that.

use std::{
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll},
};

use super::{
    desk::{Reserved, Waiting},
    layer::Shared,
    machine::{Asks, Pass, Refusal},
};
use crate::{
    pooled::PooledArc,
    time::{self, Sleep},
};

/// The readiness of one service. Its clones have their own.
#[derive(Debug)]
pub(super) struct Seat {
    shared: PooledArc<Shared>,
    held: Held,
    waiting: Option<Waiting>,
    /// Fires when there is reason to ask again. Kept, so that waiting again does not allocate.
    timer: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug, Default)]
enum Held {
    /// Nothing is needed, or nothing is promised.
    #[default]
    Nothing,
    /// The place of a probe, held at the desk.
    Place(Pass, Reserved),
    /// A pass to a recovering breaker.
    Pass(Pass),
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
        if self.shared.machine.is_closed() {
            self.give_up();
            return Poll::Ready(());
        }
        self.poll_unless_closed(cx)
    }

    #[inline(never)]
    fn poll_unless_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_promised() {
            return Poll::Ready(());
        }
        self.give_back();
        let mut refused = self.ask().is_err();
        while refused {
            // Entered first and asked then, or what came free in between would wake nobody.
            self.shared.machine.desk.wait(&mut self.waiting, cx.waker());
            match self.ask() {
                Ok(()) => refused = false,
                Err(refusal) => match self.poll_timer(refusal, cx) {
                    Poll::Ready(()) => {}
                    Poll::Pending => return Poll::Pending,
                },
            }
        }
        self.leave();
        Poll::Ready(())
    }

    fn ask(&mut self) -> Result<(), Refusal> {
        let machine = &self.shared.machine;
        let pass = machine.ask(Asks::Service, &*self.shared)?;
        self.held = if pass.is_probe() {
            Held::Place(pass, machine.desk.reserve(pass))
        } else if pass.is_to_recovering() {
            Held::Pass(pass)
        } else {
            Held::Nothing // all calls pass, and the call finds out how
        };
        Ok(())
    }

    /// Pending while there is no reason to ask again but a waker's.
    fn poll_timer(&mut self, refusal: Refusal, cx: &mut Context<'_>) -> Poll<()> {
        let end = refusal.ends_in();
        let Some(end) = end.and_then(|end| time::now().checked_add(end)) else {
            return Poll::Pending;
        };
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(time::sleep_until(end)));
        if timer.deadline() != end {
            timer.as_mut().reset(end);
        }
        timer.as_mut().poll(cx)
    }

    /// Whether what is held still stands.
    fn is_promised(&self) -> bool {
        let machine = &self.shared.machine;
        match &self.held {
            Held::Nothing => false,
            Held::Pass(pass) => machine.is_current(*pass),
            Held::Place(pass, reserved) => {
                machine.is_current(*pass) && machine.desk.is_reserved(reserved)
            }
        }
    }

    /// The pass of the call that is to be made now: what is held, or what the breaker says.
    #[inline]
    pub(super) fn take_up(&mut self) -> Result<Pass, Refusal> {
        self.use_held()
            .map_or_else(|| self.shared.machine.admit(&*self.shared), Ok)
    }

    #[inline]
    fn use_held(&mut self) -> Option<Pass> {
        let machine = &self.shared.machine;
        let pass = match mem::take(&mut self.held) {
            Held::Nothing => return None,
            Held::Pass(pass) => pass,
            Held::Place(pass, reserved) => {
                machine.renew_probe(pass, &*self.shared);
                machine.desk.take_up(reserved)?
            }
        };
        // The place of a round that is over is gone with it.
        machine.is_current(pass).then_some(pass)
    }

    /// Gives back what is held, and waits no more.
    #[inline]
    pub(super) fn give_up(&mut self) {
        if self.waiting.is_some() || !matches!(self.held, Held::Nothing) {
            self.give_back();
            self.leave();
        }
    }

    fn give_back(&mut self) {
        if let Held::Place(_, reserved) = mem::take(&mut self.held) {
            let machine = &self.shared.machine;
            if let Some(pass) = machine.desk.take_up(reserved) {
                machine.forgo(pass);
            }
        }
    }

    fn leave(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            self.shared.machine.desk.leave(&waiting);
        }
    }
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
