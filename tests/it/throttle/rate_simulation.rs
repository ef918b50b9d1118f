//! Clients of an API that allows so many calls a second, on the paused clock.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use steadfast::{
    Error, Verdict,
    classify::Failure,
    sim::{self, Fault, Load},
    throttle::rate::{AdaptiveRateHandle, AdaptiveRateLayer},
};
use tokio::time::Instant;
use tower::{Layer, Service};

use crate::support::{ms, secs};

/// Allows so many calls a second, of which a tenth may be saved up, and answers the rest 429: each after 50 ms.
#[derive(Clone)]
struct Api(Arc<Mutex<Quota>>);

struct Quota {
    per_second: f64,
    tokens: f64,
    at: Instant,
    /// When, and whether it was allowed.
    asked: Vec<(f64, bool)>,
}

impl Api {
    fn new(per_second: f64) -> Self {
        Self(Arc::new(Mutex::new(Quota {
            per_second,
            tokens: per_second / 10.0,
            at: Instant::now(),
            asked: Vec::new(),
        })))
    }

    fn allow(&self, per_second: f64) {
        self.0.lock().unwrap().per_second = per_second;
    }

    /// How many calls a second were allowed between two moments, and which share of all was not.
    fn between(&self, from: f64, to: f64) -> (f64, f64) {
        let quota = self.0.lock().unwrap();
        let all = quota.asked.iter().filter(|(at, _)| (from..to).contains(at));
        let (allowed, all) = all.fold((0.0, 0.0), |(allowed, all), (_, is_allowed)| {
            (allowed + f64::from(u8::from(*is_allowed)), all + 1.0)
        });
        (allowed / (to - from), 1.0 - allowed / all)
    }
}

impl Quota {
    fn ask(&mut self) -> bool {
        let now = Instant::now();
        let new = (now - self.at).as_secs_f64() * self.per_second;
        self.tokens = (self.tokens + new).min(self.per_second / 10.0);
        self.at = now;
        let is_allowed = self.tokens >= 1.0;
        self.tokens -= f64::from(u8::from(is_allowed));
        self.asked.push((sim::elapsed().as_secs_f64(), is_allowed));
        is_allowed
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<(), Error<Fault>>> + Send>>;

impl Service<()> for Api {
    type Response = ();
    type Error = Error<Fault>;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error<Fault>>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Answer {
        let is_allowed = self.0.lock().unwrap().ask();
        Box::pin(async move {
            tokio::time::sleep(ms(50)).await;
            if is_allowed {
                Ok(())
            } else {
                Err(Error::Inner(Fault::Full))
            }
        })
    }
}

fn too_many(result: Result<&(), &Error<Fault>>) -> Verdict {
    match result {
        Ok(()) => Verdict::Success,
        Err(_) => Failure::overload().into(),
    }
}

/// Clients that offer, together, nearly what is allowed for ten seconds, and then so many times that.
fn offer(
    api: &Api,
    clients: usize,
    allowed: f64,
    times: f64,
    seconds: u64,
) -> Vec<AdaptiveRateHandle> {
    let client = |_| {
        let layer = AdaptiveRateLayer::new(too_many);
        let service = layer.layer(api.clone());
        let each = allowed / clients as f64;
        let load = Load::poisson()
            .rate(0.8 * each, secs(10))
            .rate(times * each, secs(seconds - 10));
        tokio::spawn(async move { load.send(service, |_| ()).await });
        layer.handle()
    };
    (0..clients).map(client).collect()
}

/// The sum of the rates, every 100 ms: when, and how much.
async fn rates(handles: &[AdaptiveRateHandle], until: f64) -> Vec<(f64, f64)> {
    let mut rates = Vec::new();
    while sim::elapsed().as_secs_f64() < until {
        tokio::time::sleep(ms(100)).await;
        let limits = handles.iter().map(|handle| handle.snapshot().rate);
        rates.push((sim::elapsed().as_secs_f64(), limits.flatten().sum()));
    }
    rates
}

const ALLOWED: f64 = 100.0;

/// After so many seconds of five times what is allowed, clients send so much of it at least, and of what they
/// send so much at most is throttled.
fn finds_the_rate(clients: usize, within: f64, least: f64, throttled: f64) {
    sim::run(1, async move {
        let api = Api::new(ALLOWED);
        let handles = offer(&api, clients, ALLOWED, 5.0, 60);
        let rates = rates(&handles, 60.0).await;
        let (_, at_first) = api.between(10.0, 10.5);
        assert!(at_first > 0.2, "{clients}: {at_first} throttled at first");
        let (allowed, share) = api.between(10.0 + within, 60.0);
        assert!(
            allowed > least * ALLOWED && share < throttled,
            "{clients}: {allowed} a second, {share} throttled"
        );
        let late = rates.iter().filter(|(at, _)| *at > 10.0 + within);
        let late: Vec<_> = late.map(|(_, rate)| rate).collect();
        let mean = late.iter().copied().sum::<f64>() / late.len() as f64;
        assert!((0.9..1.2).contains(&(mean / ALLOWED)), "{clients}: {mean}");
    });
}

#[test]
fn one_client_finds_the_rate_that_is_allowed() {
    finds_the_rate(1, 10.0, 0.95, 0.005);
}

#[test]
fn several_clients_find_the_rate_that_is_allowed_together() {
    finds_the_rate(4, 5.0, 0.98, 0.03);
    finds_the_rate(20, 2.0, 0.98, 0.12);
}

/// How long it takes until twice as much is sent, where so many are allowed and then twice as many.
fn follows_in(clients: usize, allowed: f64) -> f64 {
    sim::run(1, async move {
        let api = Api::new(allowed);
        let handles = offer(&api, clients, allowed, 5.0, 80);
        rates(&handles, 40.0).await;
        api.allow(2.0 * allowed);
        let rates = rates(&handles, 80.0).await;
        let follows = rates.iter().find(|(_, rate)| *rate > 1.9 * allowed);
        let (when, _) = follows.expect("it follows");
        let (done, _) = api.between(when + 2.0, 80.0);
        assert!(done > 1.8 * allowed, "{clients}: {done}");
        when - 40.0
    })
}

#[test]
fn clients_follow_what_is_allowed_in_the_time_of_the_curve() {
    for (clients, allowed) in [(1, 20.0), (1, 100.0), (4, 100.0)] {
        // From where the service throttles back to there, and on to twice as much; of each its part.
        let each = allowed / clients as f64;
        let curve = (each * 0.3 / 0.4_f64).cbrt() + (each / 0.4).cbrt();
        let found = follows_in(clients, allowed);
        assert!(
            found < curve,
            "{clients} of {allowed}: {found} s, not {curve}"
        );
    }
}
