//! How others decide on retries, in as few lines as say it.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use steadfast::{
    Error,
    sim::{self, Answer, Fault},
};
use tower::{Service, ServiceExt, util::BoxCloneService};

use super::Stack;

/// Whether a failed call is tried again. One for all calls of a client.
pub(crate) trait Policy: Send + Sync + 'static {
    /// A call begins.
    fn begun(&self) {}
    /// A call has failed: whether there is to be one more attempt.
    fn may_retry(&self) -> bool {
        true
    }
    /// How long to wait for it, the first retry being number one.
    fn delay(&self, _retry: u32) -> Duration {
        Duration::ZERO
    }
}

/// As often as there are attempts left.
#[derive(Debug)]
pub(crate) struct Always;

impl Policy for Always {}

/// As often as there are attempts left, after so long.
#[derive(Debug)]
pub(crate) struct After(pub(crate) Duration);

impl Policy for After {
    fn delay(&self, _: u32) -> Duration {
        self.0
    }
}

/// Exponential backoff with full jitter, from `first` on and without a cap.
#[derive(Debug)]
pub(crate) struct Doubling {
    pub(crate) first: Duration,
    pub(crate) random: sim::Random,
}

impl Policy for Doubling {
    fn delay(&self, retry: u32) -> Duration {
        let longest = self.first * (1 << (retry - 1));
        longest.mul_f64(self.random.unit())
    }
}

/// A bucket of tokens that **every call** feeds, whatever becomes of it; a retry needs, and takes, one.
/// Brooker's, in the code of 2022, and Finagle's but for its window.
#[derive(Debug)]
pub(crate) struct PerAttempt {
    ratio: f64,
    max: f64,
    tokens: Mutex<f64>,
}

impl PerAttempt {
    pub(crate) fn new(ratio: f64, max: f64, tokens: f64) -> Self {
        let tokens = Mutex::new(tokens);
        Self { ratio, max, tokens }
    }
}

impl Policy for PerAttempt {
    fn begun(&self) {
        let mut tokens = self.tokens.lock().unwrap();
        *tokens = (*tokens + self.ratio).min(self.max);
    }

    fn may_retry(&self) -> bool {
        let mut tokens = self.tokens.lock().unwrap();
        let may = *tokens >= 1.0;
        *tokens -= f64::from(may);
        may
    }
}

/// Finagle's budget: every request deposits, what is deposited is forgotten after ten seconds, and there
/// are some retries a second in any case.
#[derive(Debug)]
pub(crate) struct Finagle {
    percent: f64,
    reserve: f64,
    /// For each second: its number, and what was deposited less what was withdrawn.
    seconds: Mutex<VecDeque<(u64, f64)>>,
}

impl Finagle {
    const TTL: u64 = 10;

    pub(crate) fn new(percent: f64, per_second: f64) -> Self {
        Self {
            percent,
            reserve: per_second * Self::TTL as f64,
            seconds: Mutex::default(),
        }
    }

    /// Adds to the present second if that leaves something.
    fn add(&self, amount: f64) -> bool {
        let mut seconds = self.seconds.lock().unwrap();
        let now = sim::elapsed().as_secs();
        seconds.retain(|(second, _)| second + Self::TTL > now);
        let balance: f64 = seconds.iter().map(|(_, amount)| amount).sum();
        if balance + self.reserve + amount < 0.0 {
            return false;
        }
        match seconds.back_mut() {
            Some((second, sum)) if *second == now => *sum += amount,
            _ => seconds.push_back((now, amount)),
        }
        true
    }
}

impl Policy for Finagle {
    fn begun(&self) {
        self.add(self.percent);
    }

    fn may_retry(&self) -> bool {
        self.add(-1.0)
    }
}

/// Stops retrying where more than this share of a client's calls has failed. Brooker's breaker, which
/// counts from the beginning and forgets nothing.
#[derive(Debug)]
pub(crate) struct RetryBreaker {
    max_rate: f64,
    /// Calls, and failures of attempts.
    counts: Mutex<(f64, f64)>,
}

impl RetryBreaker {
    pub(crate) fn new(max_rate: f64) -> Self {
        let counts = Mutex::default();
        Self { max_rate, counts }
    }
}

impl Policy for RetryBreaker {
    fn begun(&self) {
        self.counts.lock().unwrap().0 += 1.0;
    }

    fn may_retry(&self) -> bool {
        let mut counts = self.counts.lock().unwrap();
        counts.1 += 1.0;
        counts.1 / counts.0 <= self.max_rate
    }
}

/// A service whose calls are tried again as a policy says, at most so many times in all.
pub(crate) fn retrying(inner: Stack, attempts: u32, policy: impl Policy) -> Stack {
    BoxCloneService::new(Retrying {
        inner,
        attempts,
        policy: Arc::new(policy),
    })
}

struct Retrying<P> {
    inner: Stack,
    attempts: u32,
    policy: Arc<P>,
}

impl<P> Clone for Retrying<P> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            attempts: self.attempts,
            policy: Arc::clone(&self.policy),
        }
    }
}

impl<P: Policy> Service<()> for Retrying<P> {
    type Response = Answer;
    type Error = Error<Fault>;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Error<Fault>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        let Self {
            inner,
            attempts,
            policy,
        } = self.clone();
        Box::pin(async move {
            policy.begun();
            for retry in 1.. {
                let result = inner.clone().oneshot(()).await;
                if result.is_ok() || retry == attempts || !policy.may_retry() {
                    return result;
                }
                let delay = policy.delay(retry);
                if !delay.is_zero() {
                    tokio::time::sleep(delay).await;
                }
            }
            unreachable!("the attempts come to an end")
        })
    }
}
