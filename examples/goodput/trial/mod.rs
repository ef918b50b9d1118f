//! A server of a known capacity, offered more and less than that by an open loop over TCP.

pub(crate) mod client;
pub(crate) mod outcome;
pub(crate) mod server;
mod workers;

use std::{io, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::runtime::{Builder, Runtime};

use outcome::Outcome;
use server::{Server, Stack};

/// The server, and those who call it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) workers: usize,
    /// What a worker needs for a call.
    pub(crate) takes: Duration,
    /// How long a call may wait for a place.
    pub(crate) queue_wait: Duration,
    /// When a caller hangs up.
    pub(crate) patience: Duration,
    pub(crate) arrivals: Arrivals,
}

/// How calls follow one another.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arrivals {
    Even,
    /// At random, from this seed.
    Poisson(u64),
}

/// So many times the capacity, for so long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) times: f64,
    pub(crate) length: Duration,
}

impl Setup {
    /// Calls a second.
    pub(crate) fn capacity(&self) -> f64 {
        self.workers as f64 / self.takes.as_secs_f64()
    }

    /// A fifth more than there are workers: the next call is there before it is noticed that a worker is done.
    fn places(&self) -> usize {
        self.workers + self.workers.div_ceil(5)
    }

    /// What is done in the time for which a call may wait.
    fn in_queue(&self) -> usize {
        (self.capacity() * self.queue_wait.as_secs_f64()).ceil() as usize
    }

    /// All that come in that time at sixteen times the capacity.
    fn queue_capacity(&self) -> usize {
        16 * self.in_queue()
    }

    /// What 99 in 100 good answers may take, where they do when little is asked of the server: the same again,
    /// for whatever stands in the way, and their time in the queue.
    pub(crate) fn longest(&self, unloaded: Duration) -> Duration {
        2 * unloaded + self.queue_wait
    }

    /// When calls come, from the start of the first load.
    fn due(&self, loads: &[Load]) -> Vec<Duration> {
        let mut rng = match self.arrivals {
            Arrivals::Even => None,
            Arrivals::Poisson(seed) => Some(StdRng::seed_from_u64(seed)),
        };
        let (mut due, mut start) = (Vec::new(), Duration::ZERO);
        for load in loads {
            let gap = 1.0 / (load.times * self.capacity());
            let mut next = || match &mut rng {
                None => gap,
                Some(rng) => -gap * (1.0 - rng.random::<f64>()).ln(),
            };
            let mut at = next();
            while at < load.length.as_secs_f64() {
                due.push(start + Duration::from_secs_f64(at));
                at += next();
            }
            start += load.length;
        }
        due
    }
}

/// What becomes of these loads, one after the other without a pause.
///
/// # Errors
///
/// Those of the system: of sockets, for the most part.
pub(crate) fn run(stack: Stack, setup: &Setup, loads: &[Load]) -> io::Result<Vec<Outcome>> {
    let server = Server::start(stack, setup)?;
    let due = setup.due(loads);
    let calls = runtime()?.block_on(client::drive(server.address, &due, setup.patience))?;
    let mut end = Duration::ZERO;
    let outcomes = loads.iter().map(|load| {
        let start = end;
        end += load.length;
        Outcome::new(load, start, setup, &calls)
    });
    Ok(outcomes.collect())
}

/// One thread: of two cores one is the server's.
fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}
