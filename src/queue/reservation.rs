//! A permit that is held by who is ready, for the forms in which readiness is the reservation.

use std::{
    mem,
    task::{Context, Poll, Waker},
    time::Duration,
};

use super::{Queue, Source};
use crate::{
    context::Criticality,
    permits::{Ask, Asked, Place},
    time::Clock,
};

impl Queue {
    /// What a layer without a queue has for those who wait to be ready: a line that is as long as there may
    /// be permits, in turn, for as long as it takes. Calls do not wait in it.
    pub(crate) const LINE: Self = Self::fifo(usize::MAX, Duration::MAX);
}

/// The permit of one service, or its place in [the line](Queue::LINE) of those who wait for one. Its clones have
/// their own.
#[derive(Debug)]
pub(crate) struct Reservation<P: Source> {
    source: P,
    held: Held,
}

#[derive(Debug, Default)]
enum Held {
    #[default]
    Nothing,
    Place(Place),
    Permit,
}

impl<P: Source> Reservation<P> {
    pub(crate) const fn new(source: P) -> Self {
        let held = Held::Nothing;
        Self { source, held }
    }

    pub(crate) const fn source(&self) -> &P {
        &self.source
    }

    /// Ready once it holds a permit, for the one call to be made; or where nobody else could wait any more, so
    /// that the call will be refused.
    #[inline]
    pub(crate) fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        match self.held {
            Held::Permit => Poll::Ready(()),
            Held::Nothing if self.source.permits().try_take(1) => {
                self.held = Held::Permit;
                Poll::Ready(())
            }
            Held::Nothing => self.queue_up(cx.waker()),
            Held::Place(_) => self.poll_place(cx.waker()),
        }
    }

    #[inline(never)]
    fn queue_up(&mut self, waker: &Waker) -> Poll<()> {
        self.source.turned_away();
        let permits = self.source.permits();
        // Whose call it will be is not known yet: all are alike, and none has a deadline.
        let ask = Ask {
            class: Criticality::default(),
            now: permits.clock().nanos(),
            last: u64::MAX,
        };
        self.held = match permits.take_or_queue(1, waker, || Some(ask)) {
            Asked::Taken => Held::Permit,
            Asked::Queued(place) => {
                self.source.waiting().increment(1.0);
                Held::Place(place)
            }
            // Millions wait.
            Asked::Full | Asked::Late => return Poll::Ready(()),
        };
        match self.held {
            Held::Permit => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }

    fn poll_place(&mut self, waker: &Waker) -> Poll<()> {
        let Held::Place(place) = &self.held else {
            return Poll::Ready(());
        };
        self.source.permits().poll_place(place, waker).map(|how| {
            // It is a place no longer. In a line nobody's wait ends otherwise than with the permit.
            self.held = how.map_or(Held::Nothing, |()| Held::Permit);
            self.source.waiting().decrement(1.0);
        })
    }

    /// Takes the permit out, if there is one, for the call that is to be made now, to be given back by that.
    /// Who was not asked whether he is ready may have none.
    #[inline]
    pub(crate) fn take_up(&mut self) -> bool {
        let is_held = matches!(self.held, Held::Permit);
        if is_held {
            self.held = Held::Nothing;
        }
        is_held
    }

    /// Gives back what is held, and waits no more.
    #[inline]
    pub(crate) fn give_up(&mut self) {
        match mem::take(&mut self.held) {
            Held::Nothing => {}
            Held::Place(place) => {
                self.source.permits().leave(place);
                self.source.waiting().decrement(1.0);
            }
            Held::Permit => self.source.permits().give_back(1),
        }
    }
}

impl<P: Source + Clone> Clone for Reservation<P> {
    /// Nothing is held, and nobody waits.
    fn clone(&self) -> Self {
        Self::new(self.source.clone())
    }
}

impl<P: Source> Drop for Reservation<P> {
    fn drop(&mut self) {
        self.give_up();
    }
}
