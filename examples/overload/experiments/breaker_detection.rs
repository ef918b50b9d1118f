//! How soon a breaker sees an outage, and how often it sees one that is none.

use std::{
    future::{Ready, ready},
    task::{Context, Poll},
    time::Duration,
};

use steadfast::{
    circuit_breaker::{CircuitBreakerBuilder, CircuitBreakerLayer, State, Thresholds},
    sim,
};
use tower::{BoxError, Layer, Service, ServiceExt};

use super::{Bar, Experiment, Findings, Size, Table, secs};

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "breaker_detection",
    title: "A breaker's eyes",
    source: "the binomial distribution; rules of Hystrix and resilience4j, from their sources",
    run,
};

/// A service that does as it is told.
#[derive(Clone, Copy)]
struct Told;

impl Service<bool> for Told {
    type Response = ();
    type Error = BoxError;
    type Future = Ready<Result<(), BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, fails: bool) -> Self::Future {
        ready(if fails { Err("as told".into()) } else { Ok(()) })
    }
}

/// The chance of at least `least` in `calls`, of which each has the chance `p`.
fn binomial_tail(calls: u32, least: u32, p: f64) -> f64 {
    // The chance of none, and then of each number from the one before.
    let mut chance = (0..calls).fold(1.0, |product, _| product * (1.0 - p));
    let mut below = 0.0;
    for number in 0..least {
        below += chance;
        chance *= f64::from(calls - number) / f64::from(number + 1) * p / (1.0 - p);
    }
    1.0 - below
}

/// The share of breakers that are open when as many calls have come as their window holds.
fn false_trips(window: u32, p: f64, breakers: u32) -> f64 {
    sim::run(1, async {
        let random = sim::random();
        let thresholds = Thresholds::failure_rate(0.5).minimum_calls(window);
        let mut tripped = 0;
        for _ in 0..breakers {
            let layer = CircuitBreakerLayer::builder()
                .count_window(window, thresholds)
                .build()
                .unwrap();
            let breaker = layer.handle();
            let mut service = layer.layer(Told);
            for _ in 0..window {
                let call = service.ready().await.unwrap().call(random.chance(p));
                let _ = call.await;
            }
            tripped += u32::from(breaker.state() == State::Open);
        }
        f64::from(tripped) / f64::from(breakers)
    })
}

/// Calls that fail, and the time, from when all calls begin to fail to when the breaker opens; if it does
/// within a thousand.
fn detection(builder: CircuitBreakerBuilder, per_second: u32) -> Option<(u32, Duration)> {
    sim::run(1, async {
        let layer = builder.build().unwrap();
        let breaker = layer.handle();
        let mut service = layer.layer(Told);
        let gap = secs(1) / per_second;
        for _ in 0..60 * per_second {
            tokio::time::sleep(gap).await;
            service.ready().await.unwrap().call(false).await.unwrap();
        }
        let began = sim::elapsed();
        for failures in 1..=1_000 {
            tokio::time::sleep(gap).await;
            let _ = service.ready().await.unwrap().call(true).await;
            if breaker.state() == State::Open {
                return Some((failures, sim::elapsed() - began));
            }
        }
        None
    })
}

type Rule = fn() -> CircuitBreakerBuilder;

fn by_count() -> CircuitBreakerBuilder {
    let thresholds = Thresholds::failure_rate(0.5).minimum_calls(100);
    CircuitBreakerLayer::builder().count_window(100, thresholds)
}

fn by_time() -> CircuitBreakerBuilder {
    let thresholds = Thresholds::failure_rate(0.5).minimum_calls(20);
    CircuitBreakerLayer::builder().time_window(secs(10), thresholds)
}

fn run(size: Size) -> Findings {
    let breakers = size.pick(20_000, 600);
    let mut trips = Table::new(["window", "failures", "computed", "measured", "off by"]);
    let mut furthest = 0.0_f64;
    for (window, p) in [(100, 0.3), (100, 0.4), (100, 0.45), (20, 0.3), (20, 0.4)] {
        let computed = binomial_tail(window, window / 2, p);
        let measured = false_trips(window, p, breakers);
        let deviation = (computed * (1.0 - computed) / f64::from(breakers)).sqrt();
        let off = (measured - computed).abs() / deviation;
        furthest = furthest.max(off);
        trips.row([
            format!("{window} calls"),
            format!("{:.0} %", 100.0 * p),
            format!("{:.3} %", 100.0 * computed),
            format!("{:.3} %", 100.0 * measured),
            format!("{off:.1} deviations"),
        ]);
    }
    let rules: [(&str, Rule); 4] = [
        ("half of 100 calls (resilience4j's)", by_count),
        ("half of 10 s, at least 20 calls (Hystrix's)", by_time),
        ("10 in a row", || {
            CircuitBreakerLayer::builder().consecutive_failures(10)
        }),
        ("**steadfast**, the defaults", CircuitBreakerLayer::builder),
    ];
    let mut seen = Table::new(["rule", "at 1 call/s", "at 10/s", "at 100/s"]);
    for (name, rule) in rules {
        let at = |rate| {
            let seen = detection(rule(), rate);
            seen.map_or("never".to_owned(), |(failures, took)| {
                format!("{failures} calls, {:.1} s", took.as_secs_f64())
            })
        };
        seen.row([name.into(), at(1), at(10), at(100)]);
    }
    let (calls, _) = detection(by_count(), 100).unwrap_or_default();
    let (_, took) = detection(by_time(), 100).unwrap_or_default();
    let bars = vec![
        Bar {
            measure: "false trips, from the binomial distribution".into(),
            published: "2.710 % at 40 % of 100 calls".into(),
            peers: "-".into(),
            ours: format!("{furthest:.1} deviations at most"),
            bar: "3 deviations".into(),
            is_met: furthest <= 3.0,
        },
        Bar {
            measure: "detection of an outage at 100 calls/s".into(),
            published: "50 calls; half of 10 s".into(),
            peers: "-".into(),
            ours: format!("{calls} calls; {:.1} s", took.as_secs_f64()),
            bar: "50 calls; 5 s".into(),
            is_met: calls == 50 && took > secs(4) && took <= secs(5),
        },
    ];
    let text = format!(
        "A service fails at random, and a breaker that opens at half of its window must not, but will: the chance is \
         that of a binomial distribution. {breakers} breakers for each row, looked at when their window is full \
         for the first time. Below, a service that has been well for a minute fails altogether.\n\n\
         A count sees an outage after so many calls, whenever those come; a time after so long, however many they \
         are, but not where they are fewer than its minimum. Rules are joined by *or*, so a breaker may have both.",
    );
    Findings {
        text,
        tables: vec![trips, seen],
        bars,
        charts: Vec::new(),
    }
}
