//! How others decide whether a call is sent at all, in as few lines as say it.

use std::{
    collections::VecDeque,
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use steadfast::{
    Error, Reason, Rejected,
    sim::{self, Answer, Fault},
};
use tower::{ServiceExt, service_fn, util::BoxCloneService};

use super::Stack;

/// A token bucket, of a caller who is allowed so many calls a second, and holds as many as of a second.
#[derive(Debug)]
pub(super) struct Bucket {
    per_second: f64,
    /// When it was last looked into, in seconds, and the tokens.
    tokens: Mutex<(f64, f64)>,
}

impl Bucket {
    pub(super) fn new(per_second: f64) -> Self {
        let tokens = Mutex::new((0.0, per_second));
        Self { per_second, tokens }
    }

    fn take(&self) -> bool {
        let mut tokens = self.tokens.lock().unwrap();
        let now = sim::elapsed().as_secs_f64();
        let held = (tokens.1 + (now - tokens.0) * self.per_second).min(self.per_second);
        let has_one = held >= 1.0;
        *tokens = (now, held - f64::from(has_one));
        has_one
    }

    /// A service whose calls it lets pass, or refuses.
    pub(super) fn before(self, inner: Stack) -> Stack {
        let bucket = Arc::new(self);
        BoxCloneService::new(service_fn(move |()| {
            let call = bucket.take().then(|| inner.clone().oneshot(()));
            refused_or(call, Reason::RateLimited)
        }))
    }
}

/// The throttle of the Google SRE book, chapter 21: the formula alone, with the cap that ours has.
#[derive(Debug)]
pub(super) struct Book {
    multiplier: f64,
    /// In seconds.
    window: u64,
    random: sim::Random,
    counts: Mutex<Counts>,
}

/// Requests and accepts, by the second in which they ended, and of the window.
#[derive(Debug, Default)]
struct Counts {
    seconds: VecDeque<(u64, f64, f64)>,
    requests: f64,
    accepts: f64,
}

impl Counts {
    fn add(&mut self, window: u64, requests: f64, accepts: f64) {
        let now = sim::elapsed().as_secs();
        while let Some(&(second, requests, accepts)) = self.seconds.front()
            && second + window <= now
        {
            self.requests -= requests;
            self.accepts -= accepts;
            self.seconds.pop_front();
        }
        match self.seconds.back_mut() {
            Some((second, of_requests, of_accepts)) if *second == now => {
                *of_requests += requests;
                *of_accepts += accepts;
            }
            _ => self.seconds.push_back((now, requests, accepts)),
        }
        self.requests += requests;
        self.accepts += accepts;
    }
}

impl Book {
    pub(super) fn new(multiplier: f64, window: Duration) -> Self {
        Self {
            multiplier,
            window: window.as_secs(),
            random: sim::random(),
            counts: Mutex::default(),
        }
    }

    fn lets_pass(&self) -> bool {
        let mut counts = self.counts.lock().unwrap();
        counts.add(self.window, 0.0, 0.0);
        let (requests, accepts) = (counts.requests, counts.accepts);
        let refuses = (requests - self.multiplier * accepts) / (requests + 1.0);
        let passes = !self.random.chance(refuses.min(0.9));
        if !passes {
            counts.add(self.window, 1.0, 0.0);
        }
        passes
    }

    /// A service whose calls it lets pass, or refuses.
    pub(super) fn before(self, inner: Stack) -> Stack {
        let book = Arc::new(self);
        BoxCloneService::new(service_fn(move |()| {
            let call = book.lets_pass().then(|| {
                let (book, call) = (Arc::clone(&book), inner.clone().oneshot(()));
                async move {
                    let result = call.await;
                    let accepted = f64::from(u8::from(result.is_ok()));
                    let mut counts = book.counts.lock().unwrap();
                    counts.add(book.window, 1.0, accepted);
                    drop(counts);
                    result
                }
            });
            refused_or(call, Reason::Throttled)
        }))
    }
}

/// The answer to a call that was let pass, or a refusal.
async fn refused_or(
    call: Option<impl Future<Output = Result<Answer, Error<Fault>>>>,
    reason: Reason,
) -> Result<Answer, Error<Fault>> {
    match call {
        Some(call) => call.await,
        None => Err(Rejected::new("gate", reason).into()),
    }
}
