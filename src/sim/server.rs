//! The scripted service.

use std::{
    fmt,
    future::Future,
    ops::Range,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tower::Service;

use super::{
    Random, Times, Work,
    run::random_for,
    work::Slots,
    workers::{Discipline, End, Workers},
};
use crate::{
    context,
    error::Error,
    rng::Use,
    sync::{Mutex, StdArc, StdWeak, lock},
    time::{Epoch, Timer, nanos},
};

/// A service that takes its time, as told: so many workers, and a queue before them.
///
/// Its clones are the same service. It takes requests of any type, and is always ready: a call stands in
/// its queue from `call` on, whether it is polled or not. What it says it says as [`Error<Fault>`], so any
/// layer fits around it. Its completions are reckoned to the nanosecond, and told at the next tick of the
/// clock, a millisecond.
///
/// **A caller that hangs up is not noticed**: a call that is dropped is worked upon all the same, as it is
/// where a network lies between. See [`heeding_hang_ups`](Self::heeding_hang_ups).
#[derive(Clone)]
pub struct Server {
    core: StdArc<Core>,
}

struct Core {
    epoch: Epoch,
    state: Mutex<State>,
}

struct State {
    workers: Workers<Seat>,
    times: Times,
    random: Random,
    failing: f64,
    queue: usize,
    rejecting_takes: u64,
    heeds_hang_ups: bool,
    slots: Slots,
    /// When the driver looks next, and how it is told to look earlier.
    scheduled: u64,
    driver: Option<Waker>,
}

/// A caller.
#[derive(Debug, Default)]
struct Seat {
    result: Option<Result<Answer, Fault>>,
    waker: Option<Waker>,
    is_refused: bool,
    has_left: bool,
}

/// What the server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer {
    /// How long the call stood in the queue of the server.
    pub waited: Duration,
    /// How long it was worked upon.
    pub worked: Duration,
}

/// How the server fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// As [told](Server::failing).
    #[error("failed as told")]
    Failed,
    /// Its [queue](Server::queue) was full.
    #[error("the queue is full")]
    Full,
    /// The deadline had passed when it was the call's turn, and the server [looks](Server::dropping_expired).
    #[error("the deadline had passed in the queue")]
    Expired,
}

impl Server {
    /// A server of so many workers, each of which is busy with a call for as long as `times` has it. First
    /// come, first served, and the queue has no end. [`usize::MAX`] workers for no queue at all.
    ///
    /// # Panics
    ///
    /// Outside of a [`run`](super::run).
    #[must_use]
    pub fn new(workers: usize, times: Times) -> Self {
        let state = State {
            workers: Workers::new(workers),
            times,
            random: random_for(Use::Server),
            failing: 0.0,
            queue: usize::MAX,
            rejecting_takes: 0,
            heeds_hang_ups: false,
            slots: Slots::new(Duration::from_secs(1)),
            scheduled: u64::MAX,
            driver: None,
        };
        let core = StdArc::new(Core {
            epoch: Epoch::start(),
            state: Mutex::new(state),
        });
        tokio::spawn(Driver {
            core: StdArc::downgrade(&core),
            timer: None,
        });
        Self { core }
    }

    /// Serves who came last first.
    #[must_use]
    pub fn lifo(self) -> Self {
        self.with(|state| state.workers.discipline = Discipline::Lifo)
    }

    /// Works upon all calls at once, each the slower the more they are beyond the number of the workers: as
    /// processors do that are shared.
    #[must_use]
    pub fn sharing(self) -> Self {
        self.with(|state| state.workers.discipline = Discipline::Sharing)
    }

    /// Lets at most so many calls wait beside those that are worked upon; with [`sharing`](Self::sharing),
    /// at most so many more than there are workers. Default: any number.
    #[must_use]
    pub fn queue(self, calls: usize) -> Self {
        self.with(|state| state.queue = calls)
    }

    /// To refuse a call keeps a worker busy for so long, before any call in the queue. Default: no time.
    #[must_use]
    pub fn rejecting_takes(self, time: Duration) -> Self {
        self.with(|state| state.rejecting_takes = nanos(time))
    }

    /// A call takes so much longer for each other that is worked upon when it is taken up. Default: zero.
    #[must_use]
    pub fn slowed_by(self, time: Duration) -> Self {
        self.with(|state| state.workers.slowdown = nanos(time))
    }

    /// Fails this share of the calls, at their end. Default: none.
    #[must_use]
    pub fn failing(self, share: f64) -> Self {
        self.set_failing(share);
        self
    }

    /// Drops a call whose turn comes when the deadline of its [`Context`](crate::Context) has passed. It
    /// costs no time. Default: works upon it.
    #[must_use]
    pub fn dropping_expired(self) -> Self {
        self.with(|state| state.workers.drops_expired = true)
    }

    /// Stops working upon a call that is dropped, or takes it out of the queue. Default: works on.
    #[must_use]
    pub fn heeding_hang_ups(self) -> Self {
        self.with(|state| state.heeds_hang_ups = true)
    }

    /// Counts in slots of this length. Default: 1 s.
    #[must_use]
    pub fn counting_every(self, slot: Duration) -> Self {
        self.with(|state| state.slots = Slots::new(slot))
    }

    fn with(self, change: impl FnOnce(&mut State)) -> Self {
        self.core.change(change);
        self
    }

    /// Changes how many workers there are. Those that are busy finish what they do.
    pub fn set_workers(&self, workers: usize) {
        self.core.change(|state| state.workers.set_workers(workers));
    }

    /// Makes the workers so many times as fast as they were at first, also at what they are busy with. At
    /// zero they stand still.
    pub fn set_speed(&self, speed: f64) {
        self.core
            .change(|state| state.workers.set_speed(speed.max(0.0)));
    }

    /// Changes how long calls take that come from now on.
    pub fn set_times(&self, times: Times) {
        self.core.change(|state| state.times = times);
    }

    /// Changes which share of the calls fails that end from now on.
    pub fn set_failing(&self, share: f64) {
        self.core.change(|state| state.failing = share);
    }

    /// How many calls wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        let mut waiting = 0;
        self.core.change(|state| waiting = state.workers.waiting());
        waiting
    }

    /// What reached the server, and what it did, since it was made.
    #[must_use]
    pub fn work(&self) -> Work {
        self.work_during(Duration::ZERO..Duration::MAX)
    }

    /// The same of a part of that time, in whole [slots](Self::counting_every).
    #[must_use]
    pub fn work_during(&self, part: Range<Duration>) -> Work {
        let mut work = Work::default();
        self.core.change(|state| work = state.slots.sum(part));
        work
    }

    /// The same for each slot.
    #[must_use]
    pub fn work_by_slot(&self) -> Vec<Work> {
        let mut work = Vec::new();
        self.core.change(|state| work = state.slots.all());
        work
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = lock(&self.core.state);
        f.debug_struct("Server")
            .field("waiting", &state.workers.waiting())
            .field("running", &state.workers.running())
            .field("times", &state.times)
            .finish_non_exhaustive()
    }
}

impl Core {
    /// Reckons up to the present, changes something, and has the driver look when that matters.
    fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut wakers = Vec::new();
        let now = self.epoch.nanos_now();
        let mut state = lock(&self.state);
        state.settle(now, &mut wakers);
        let changed = change(&mut state);
        state.settle(now, &mut wakers);
        if state
            .workers
            .next_end()
            .is_some_and(|end| end < state.scheduled)
        {
            wakers.extend(state.driver.take());
        }
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        changed
    }
}

impl State {
    /// Ends what ends up to `now`.
    fn settle(&mut self, now: u64, wakers: &mut Vec<Waker>) {
        while let Some((index, end)) = self.workers.step(now) {
            let fails = self.failing > 0.0 && self.random.chance(self.failing);
            let seat = self.workers.with(index);
            let result = match end {
                End::Expired => Err(Fault::Expired),
                End::Done { .. } if seat.is_refused => Err(Fault::Full),
                End::Done { .. } if fails => Err(Fault::Failed),
                End::Done { waited, worked } => Ok(Answer {
                    waited: Duration::from_nanos(waited),
                    worked: Duration::from_nanos(worked),
                }),
            };
            seat.result = Some(result);
            let (waker, has_left) = (seat.waker.take(), seat.has_left);
            self.slots.at(now).ended(result, has_left);
            wakers.extend(waker);
            if has_left {
                self.workers.forget(index);
            }
        }
    }

    /// A call comes: its place, or what there is to be said at once.
    fn arrive(&mut self, now: u64, deadline: u64) -> Result<usize, Fault> {
        let is_refused = self.workers.is_full(self.queue);
        let work = if is_refused {
            self.rejecting_takes
        } else {
            nanos(self.times.draw(&self.random))
        };
        let slot = self.slots.at(now);
        slot.arrived += 1;
        if is_refused && self.rejecting_takes == 0 {
            slot.refused += 1;
            return Err(Fault::Full);
        }
        let seat = Seat {
            is_refused,
            ..Seat::default()
        };
        let index = self.workers.arrive(work, deadline, is_refused, seat);
        let (waiting, running) = (self.workers.waiting(), self.workers.running());
        self.slots.at(now).holds(waiting, running);
        Ok(index)
    }
}

impl<Req> Service<Req> for Server {
    type Response = Answer;
    type Error = Error<Fault>;
    type Future = ServerFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Req) -> ServerFuture {
        let core = &self.core;
        let now = core.epoch.nanos_now();
        let deadline = context::Context::current().deadline();
        let deadline = deadline.map_or(u64::MAX, |deadline| core.epoch.nanos_at(deadline));
        let call = match core.change(|state| state.arrive(now, deadline)) {
            Ok(index) => Call::In(StdArc::clone(core), index),
            Err(fault) => Call::Refused(fault),
        };
        ServerFuture { call }
    }
}

/// Response future of [`Server`].
///
/// Dropping it changes nothing for the server, unless it [heeds](Server::heeding_hang_ups) that.
#[must_use = "futures do nothing unless polled"]
pub struct ServerFuture {
    call: Call,
}

enum Call {
    In(StdArc<Core>, usize),
    Refused(Fault),
    Over,
}

impl fmt::Debug for ServerFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerFuture").finish_non_exhaustive()
    }
}

impl Future for ServerFuture {
    type Output = Result<Answer, Error<Fault>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = match &self.call {
            Call::Refused(fault) => Err(*fault),
            Call::Over => panic!("`ServerFuture` polled after completion"),
            Call::In(core, index) => {
                let mut state = lock(&core.state);
                let seat = state.workers.with(*index);
                let Some(result) = seat.result else {
                    seat.waker = Some(cx.waker().clone());
                    return Poll::Pending;
                };
                state.workers.forget(*index);
                result
            }
        };
        self.call = Call::Over;
        Poll::Ready(result.map_err(Error::Inner))
    }
}

impl Drop for ServerFuture {
    fn drop(&mut self) {
        let Call::In(core, index) = &self.call else {
            return;
        };
        let now = core.epoch.nanos_now();
        core.change(|state| {
            let seat = state.workers.with(*index);
            let is_over = seat.result.is_some();
            seat.has_left = true;
            seat.waker = None;
            if state.heeds_hang_ups && !is_over {
                state.workers.stop(*index);
                state.slots.at(now).stopped += 1;
            }
            if state.heeds_hang_ups || is_over {
                state.workers.forget(*index);
            }
        });
    }
}

/// Ends calls when they end, for as long as the server is there.
struct Driver {
    core: StdWeak<Core>,
    timer: Option<Timer>,
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let Some(core) = self.core.upgrade() else {
                return Poll::Ready(());
            };
            // A driver that is awake is not woken.
            core.change(|state| state.scheduled = 0);
            let mut state = lock(&core.state);
            let end = state.workers.next_end().unwrap_or(u64::MAX);
            state.scheduled = end;
            state.driver = Some(cx.waker().clone());
            drop(state);
            if let Some(timer) = self.timer.take() {
                timer.recycle();
            }
            if end == u64::MAX {
                return Poll::Pending;
            }
            let mut timer = Timer::until(core.epoch.instant_at(end));
            let polled = timer.poll(cx);
            self.timer = Some(timer);
            if polled.is_pending() {
                return Poll::Pending;
            }
        }
    }
}
