//! The algorithm against a service of which all is known: so many servers, a queue before them, and
//! a steady stream of calls.

use std::time::Duration;

use proptest::prelude::*;

use super::{
    knee::Knee,
    limit::{Limit, Sample},
};
use crate::{rng::Rng, window::tests::config};

/// The length of a sample, in seconds.
const WINDOW: f64 = 0.1;

struct Service {
    servers: f64,
    /// What a call takes that need not wait, in seconds.
    latency: f64,
    /// Calls per second.
    offered: f64,
}

impl Service {
    fn new(servers: u32, millis: f64, load: f64) -> Self {
        let latency = millis / 1000.0;
        let servers = f64::from(servers);
        let offered = load * servers / latency;
        Self {
            servers,
            latency,
            offered,
        }
    }

    /// The knee and the headroom above it.
    fn best(&self) -> f64 {
        self.servers + 1.5 + (1.2 * self.servers.sqrt()).max(self.servers / 16.0)
    }

    /// What is seen of it under a limit, by Little's law.
    fn sample(&self, limit: f64, now: f64) -> Sample {
        let limit = limit.floor().max(1.0);
        let most = limit.min(self.servers) / self.latency;
        let limited = self.offered >= most;
        let (throughput, in_flight) = if limited {
            (most, limit)
        } else {
            (self.offered, self.offered * self.latency)
        };
        let latency = Some(Duration::from_secs_f64(in_flight / throughput));
        Sample {
            now: Duration::from_secs_f64(now),
            elapsed: Duration::from_secs_f64(WINDOW),
            latency,
            mean_latency: latency,
            completed: (throughput * WINDOW).round() as u32,
            turned_away: ((self.offered - throughput) * WINDOW).round() as u32,
            in_flight: in_flight.ceil() as u32,
            limited,
            ..Sample::default()
        }
    }
}

struct Run {
    knee: Knee,
    limit: f64,
    now: f64,
}

impl Run {
    fn new() -> Self {
        let knee = Knee::default().seed(0);
        Self {
            knee,
            limit: 20.0,
            now: 0.0,
        }
    }

    /// The limits of so many seconds, one for each sample.
    fn seconds(&mut self, seconds: f64, service: &Service) -> Vec<f64> {
        let samples = (seconds / WINDOW).round() as usize;
        let mut limits = Vec::with_capacity(samples);
        for _ in 0..samples {
            self.now += WINDOW;
            let sample = service.sample(self.limit, self.now);
            self.limit = self.knee.next(self.limit, &sample).clamp(1.0, 10_000.0);
            limits.push(self.limit);
        }
        limits
    }
}

fn mean(limits: &[f64]) -> f64 {
    limits.iter().sum::<f64>() / limits.len() as f64
}

/// Where the limit is when it is not lowered for a probe.
fn median(limits: &[f64]) -> f64 {
    let mut sorted = limits.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

#[test]
fn it_settles_just_above_the_knee_of_an_overloaded_service_of_any_size() {
    for servers in [1, 2, 20, 200, 2000] {
        for load in [1.2, 2.0, 10.0] {
            let service = Service::new(servers, 20.0, load);
            let mut run = Run::new();
            run.seconds(20.0, &service);
            let settled = median(&run.seconds(60.0, &service));
            let best = service.best();
            assert!(
                (settled - best).abs() <= 1.0 + best / 50.0,
                "{settled} for {best}, {servers} servers at {load}"
            );
        }
    }
}

#[test]
fn probes_cost_an_overloaded_service_less_than_half_a_percent() {
    let service = Service::new(20, 20.0, 2.0);
    let mut run = Run::new();
    run.seconds(5.0, &service);
    let limits = run.seconds(600.0, &service);
    assert!(limits.iter().any(|limit| *limit < 12.0), "it does probe");
    let work = |limit: &f64| limit.floor().min(service.servers) / service.servers;
    let done = limits.iter().map(work).sum::<f64>() / limits.len() as f64;
    assert!(done > 0.995, "{done}");
}

#[test]
fn chance_in_the_latency_is_not_taken_for_a_queue() {
    let service = Service::new(20, 20.0, 2.0);
    let mut run = Run::new();
    let rng = Rng::new(Some(1));
    let samples = 6_000;
    let mut done = 0.0;
    for _ in 0..samples {
        run.now += WINDOW;
        let mut sample = service.sample(run.limit, run.now);
        // Nearly normal, with a deviation of a quarter: as medians of few calls are.
        let lots = (0..4).map(|_| (rng.draw() >> 40) as f64 / (1_u64 << 24) as f64);
        let factor = 0.2 + 0.4 * lots.sum::<f64>();
        sample.latency = sample.latency.map(|latency| latency.mul_f64(factor));
        run.limit = run.knee.next(run.limit, &sample).clamp(1.0, 10_000.0);
        done += run.limit.floor().min(service.servers) / service.servers;
    }
    let done = done / f64::from(samples);
    assert!(done > 0.99, "{done}");
}

#[test]
fn it_does_not_drift_in_twenty_minutes_of_overload() {
    let service = Service::new(20, 20.0, 2.0);
    let mut run = Run::new();
    run.seconds(60.0, &service);
    let early = mean(&run.seconds(120.0, &service));
    run.seconds(18.0 * 60.0, &service);
    let late = mean(&run.seconds(120.0, &service));
    assert!((early - late).abs() < 0.5, "{early}, {late}");
}

#[test]
fn a_limit_that_is_not_reached_is_neither_raised_nor_lowered() {
    let service = Service::new(20, 20.0, 0.8);
    let mut run = Run::new();
    assert!(
        run.seconds(600.0, &service)
            .iter()
            .all(|limit| *limit == 20.0)
    );
}

#[test]
fn a_service_that_gets_slower_for_good_is_not_taken_for_an_overloaded_one() {
    for load in [2.0, 20.0] {
        let mut run = Run::new();
        run.seconds(30.0, &Service::new(20, 1.0, load));
        let slower = Service::new(20, 10.0, 10.0 * load);
        run.seconds(2.0, &slower);
        let limits = run.seconds(10.0, &slower);
        let best = slower.best();
        assert!(
            limits.iter().all(|limit| (limit - best).abs() < 3.0),
            "{limits:?}"
        );
    }
}

#[test]
fn a_service_that_gets_faster_for_good_is_taken_for_it() {
    let mut run = Run::new();
    run.seconds(30.0, &Service::new(20, 200.0, 2.0));
    let faster = Service::new(20, 20.0, 2.0);
    run.seconds(10.0, &faster);
    let settled = median(&run.seconds(30.0, &faster));
    assert!((settled - faster.best()).abs() < 3.0, "{settled}");
}

#[test]
fn capacity_that_is_halved_or_doubled_is_found_within_two_seconds() {
    for (before, after) in [(20, 10), (20, 40), (200, 100), (200, 400)] {
        let mut run = Run::new();
        run.seconds(30.0, &Service::new(before, 20.0, 3.0));
        let service = Service::new(after, 20.0, 3.0 * f64::from(before) / f64::from(after));
        let onset = run.seconds(2.0, &service);
        assert!(onset.iter().all(|limit| *limit > 3.0), "{onset:?}");
        let settled = median(&run.seconds(5.0, &service));
        let best = service.best();
        assert!(
            (settled - best).abs() <= 2.0 + best / 25.0,
            "{settled} for {best}"
        );
    }
}

#[test]
fn where_every_call_is_dropped_the_limit_halves_with_each_sample() {
    let mut knee = Knee::default().seed(0);
    let dropped = Sample {
        dropped: 10,
        limited: true,
        ..Sample::default()
    };
    assert_eq!(knee.next(100.0, &dropped), 50.0);
    assert_eq!(knee.next(50.0, &dropped), 25.0);
}

#[test]
fn drops_lower_the_limit_by_their_share_and_a_few_of_them_not_at_all() {
    let mut knee = Knee::default().seed(0);
    let of_hundred = |dropped| Sample {
        dropped,
        completed: 100 - dropped,
        ..Sample::default()
    };
    assert_eq!(knee.next(100.0, &of_hundred(20)), 80.0);
    assert_eq!(knee.next(100.0, &of_hundred(10)), 100.0);
}

#[test]
fn the_fewer_are_turned_away_the_more_may_wait() {
    let mut overloaded = Run::new();
    let slightly = Service::new(20, 20.0, 1.02);
    let plainly = Service::new(20, 20.0, 1.2);
    let room = median(&overloaded.seconds(60.0, &slightly)) - slightly.servers;
    let none = median(&overloaded.seconds(60.0, &plainly)) - plainly.servers;
    assert!(room > 3.0 * none, "{room}, {none}");
    assert!(room < 5.5 * none, "{room}, {none}");
}

fn any_sample() -> impl Strategy<Value = Sample> {
    let latency = || {
        prop_oneof![
            Just(None),
            Just(Some(Duration::ZERO)),
            Just(Some(Duration::from_secs(3600))),
            Just(Some(Duration::MAX)),
            (0..100_000u64).prop_map(|micros| Some(Duration::from_micros(micros))),
        ]
    };
    let elapsed = prop_oneof![Just(0u64), 1..2_000_000u64];
    let count = || prop_oneof![Just(0u32), 0..1000u32, Just(u32::MAX)];
    let counts = (count(), count(), count(), count());
    (latency(), latency(), elapsed, counts, any::<bool>()).prop_map(
        |(latency, mean_latency, elapsed, counts, limited)| {
            let (completed, dropped, turned_away, in_flight) = counts;
            Sample {
                elapsed: Duration::from_micros(elapsed),
                latency,
                mean_latency,
                completed,
                dropped,
                in_flight,
                turned_away,
                limited,
                ..Sample::default()
            }
        },
    )
}

proptest! {
    #![proptest_config(config(200))]

    #[test]
    fn whatever_is_seen_the_limit_is_a_number(
        samples in prop::collection::vec(any_sample(), 1..200),
    ) {
        let mut knee = Knee::default().seed(1);
        let (mut limit, mut now) = (20.0, Duration::ZERO);
        for mut sample in samples {
            now += sample.elapsed;
            sample.now = now;
            let next = knee.next(limit, &sample);
            prop_assert!(next.is_finite() && next >= limit.min(1.0) / 2.0, "{limit} to {next}: {sample:?}");
            limit = next.clamp(1.0, 1000.0);
        }
    }

    #[test]
    fn after_whatever_it_was_told_it_finds_the_knee_again(
        samples in prop::collection::vec(any_sample(), 1..50),
    ) {
        let mut run = Run::new();
        for mut sample in samples {
            run.now += sample.elapsed.as_secs_f64();
            sample.now = Duration::from_secs_f64(run.now);
            run.limit = run.knee.next(run.limit, &sample).clamp(1.0, 1000.0);
        }
        let service = Service::new(20, 20.0, 2.0);
        // A sample of two seconds puts the next probe off by some four minutes.
        run.seconds(300.0, &service);
        let settled = median(&run.seconds(60.0, &service));
        prop_assert!((settled - service.best()).abs() < 3.0, "{settled}");
    }
}
