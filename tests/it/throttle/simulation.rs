//! A service of fixed capacity that refuses the rest cheaply, below a throttle, on the paused clock.

use std::{
    future::{Ready, ready},
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use steadfast::{
    Criticality,
    classify::Failure,
    throttle::{Throttle, ThrottleBuilder, ThrottleHandle, ThrottleLayer},
};
use tokio::time::{Instant, advance};
use tower::{Layer, Service};

use crate::support::{Error, Told, ms, poll_once, secs};

/// Does so many calls a second, and refuses the rest.
#[derive(Clone, Debug)]
struct Backend(Arc<Mutex<Bucket>>);

#[derive(Debug)]
struct Bucket {
    per_second: f64,
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn take(&mut self) -> bool {
        let now = Instant::now();
        let new = (now - self.at).as_secs_f64() * self.per_second;
        // What it did not do in a second it can do in the next.
        self.tokens = (self.tokens + new).min(self.per_second);
        self.at = now;
        let has_room = self.tokens >= 1.0;
        if has_room {
            self.tokens -= 1.0;
        }
        has_room
    }
}

impl Service<()> for Backend {
    type Response = ();
    type Error = Error;
    type Future = Ready<Result<(), Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        let has_room = self.0.lock().unwrap().take();
        let overloaded = Error::Said(Failure::overload().into());
        ready(if has_room { Ok(()) } else { Err(overloaded) })
    }
}

const TICK: Duration = ms(10);

/// A client, its throttle, and what it calls.
struct Client {
    backend: Backend,
    service: Throttle<Backend, Told>,
    handle: ThrottleHandle,
    due: f64,
}

/// What became of calls.
#[derive(Clone, Copy, Debug, Default)]
struct Became {
    accepted: u32,
    overloaded: u32,
    refused_here: u32,
    /// How many would have passed on average over all seeds.
    passed_on_average: f64,
}

impl Client {
    fn new(per_second: f64, throttle: ThrottleBuilder<Told>) -> Self {
        let backend = Backend(Arc::new(Mutex::new(Bucket {
            per_second,
            tokens: 0.0,
            at: Instant::now(),
        })));
        let layer = throttle.build().unwrap();
        Self {
            service: layer.layer(backend.clone()),
            handle: layer.handle(),
            backend,
            due: 0.0,
        }
    }

    /// Offers so many calls a second, for so long.
    async fn offer(&mut self, per_second: f64, duration: Duration) -> Became {
        let mut became = Became::default();
        let end = Instant::now() + duration;
        while Instant::now() < end {
            advance(TICK).await;
            let passes = 1.0 - self.probability();
            self.due += per_second * TICK.as_secs_f64();
            while self.due >= 1.0 {
                self.due -= 1.0;
                became.passed_on_average += passes;
                match poll_once(pin!(self.service.call(()))) {
                    Poll::Ready(Ok(())) => became.accepted += 1,
                    Poll::Ready(Err(Error::Rejected(_))) => became.refused_here += 1,
                    Poll::Ready(Err(_)) => became.overloaded += 1,
                    Poll::Pending => unreachable!(),
                }
            }
        }
        became
    }

    /// How long it goes on refusing from now on.
    async fn recovers_in(&mut self, per_second: f64, most: Duration) -> Duration {
        let began = Instant::now();
        let mut last = began;
        while Instant::now() < began + most {
            if self.offer(per_second, TICK).await.refused_here > 0 {
                last = Instant::now();
            }
        }
        last - began
    }

    fn change_capacity(&self, per_second: f64) {
        self.backend.0.lock().unwrap().per_second = per_second;
    }

    fn probability(&self) -> f64 {
        self.handle
            .snapshot(Criticality::Critical)
            .reject_probability
    }
}

const CAPACITY: f64 = 500.0;
const WINDOW: Duration = secs(10);

/// With a cap that leaves the formula to itself.
fn throttle(multiplier: f64) -> ThrottleBuilder<Told> {
    let builder = ThrottleLayer::builder(Told).window(WINDOW).seed(1);
    builder.multiplier(multiplier).max_probability(0.99)
}

/// Under so many times the load that it can take.
async fn rejects_per_accept_are(multiplier: f64, times: f64) {
    let mut client = Client::new(CAPACITY, throttle(multiplier));
    client.offer(times * CAPACITY, 2 * WINDOW).await;
    let became = client.offer(times * CAPACITY, 6 * WINDOW).await;
    let Became {
        accepted,
        overloaded,
        passed_on_average,
        ..
    } = became;
    let (accepted, overloaded) = (f64::from(accepted), f64::from(overloaded));
    let found = passed_on_average / accepted - 1.0;
    let expected = multiplier - 1.0;
    let is_within = (found / expected - 1.0).abs() < 0.02;
    assert!(
        is_within,
        "{multiplier}, {times} times: {found}, {became:?}"
    );
    // Of this seed: what passes is a sum of draws, and so within four standard deviations.
    let deviation = passed_on_average.sqrt();
    let is_likely = (accepted + overloaded - passed_on_average).abs() < 4.0 * deviation;
    assert!(is_likely, "{multiplier}, {times} times: {became:?}");
}

#[tokio::test(start_paused = true)]
async fn for_each_call_that_is_accepted_k_are_sent_whatever_is_offered() {
    for times in [2.0, 5.0, 10.0] {
        rejects_per_accept_are(2.0, times).await;
        rejects_per_accept_are(1.1, times).await;
    }
}

/// With the window, and the cap, that it has by default.
fn default_throttle(multiplier: f64) -> ThrottleBuilder<Told> {
    let builder = ThrottleLayer::builder(Told).seed(1);
    builder.multiplier(multiplier)
}

/// How long it goes on refusing after an overload of ten times the capacity, and `change`.
async fn recovers_from_overload(multiplier: f64, change: impl Fn(&Client) -> f64) -> Duration {
    let capacity = 250.0;
    let mut client = Client::new(capacity, default_throttle(multiplier));
    client.offer(10.0 * capacity, secs(120)).await;
    assert!(client.probability() > 0.75, "it is throttled");
    let offered = change(&client);
    client.recovers_in(offered, secs(240)).await
}

async fn recovers_from_outage(multiplier: f64) -> Duration {
    let mut client = Client::new(0.0, default_throttle(multiplier));
    client.offer(500.0, secs(120)).await;
    client.change_capacity(10_000.0);
    client.recovers_in(500.0, secs(240)).await
}

#[tokio::test(start_paused = true)]
async fn a_service_that_can_do_more_is_sent_all_again_within_a_window() {
    for (multiplier, at_most) in [(2.0, secs(24)), (1.1, secs(36))] {
        let more = |client: &Client| {
            client.change_capacity(10_000.0);
            2_500.0
        };
        let lag = recovers_from_overload(multiplier, more).await;
        assert!(lag <= at_most, "{multiplier}: {lag:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_offered_less_is_sent_all_again_within_a_window() {
    for (multiplier, at_most) in [(2.0, secs(36)), (1.1, secs(42))] {
        let lag = recovers_from_overload(multiplier, |_| 225.0).await;
        assert!(lag <= at_most, "{multiplier}: {lag:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_was_down_is_sent_all_again_within_a_window() {
    for (multiplier, at_most) in [(2.0, secs(36)), (1.1, secs(86))] {
        let lag = recovers_from_outage(multiplier).await;
        assert!(lag <= at_most, "{multiplier}: {lag:?}");
    }
}
