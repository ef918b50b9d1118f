//! Whatever is stacked upon whatever: how much work one request makes below.

use std::time::Duration;

use steadfast::{
    backoff::Backoff,
    bulkhead::{BulkheadLayer, Queue},
    circuit_breaker::CircuitBreakerLayer,
    retry::RetryLayer,
    sim::{self, Load, Random, Server, Times},
    timeout::TimeoutLayer,
};
use tower::{Layer, util::BoxCloneService};

use super::{Bar, Experiment, Findings, Size, Stack, Table, ms, secs};

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "amplification",
    title: "Nothing amplifies",
    source: "the promise of this crate",
    run,
};

const LENGTH: Duration = secs(30);

/// Adds a layer, with settings that are drawn but for the budget of a retry.
fn add_layer(inner: Stack, random: &Random) -> Stack {
    let millis = |most: u64| ms(1 + random.below(most));
    match random.below(6) {
        0 | 1 => {
            let retry = RetryLayer::builder().max_attempts(1 + random.below(10) as u32);
            let retry = match random.below(3) {
                0 => retry.backoff(Backoff::none()),
                1 => retry.backoff(Backoff::exponential(millis(50), secs(1)).unwrap()),
                _ => retry,
            };
            BoxCloneService::new(retry.build().unwrap().layer(inner))
        }
        2 => BoxCloneService::new(TimeoutLayer::new(millis(500)).unwrap().layer(inner)),
        3 => {
            let breaker = CircuitBreakerLayer::builder()
                .open_time(Backoff::exponential(millis(1_000), secs(5)).unwrap())
                .build();
            BoxCloneService::new(breaker.unwrap().layer(inner))
        }
        4 => BoxCloneService::new(BulkheadLayer::new(1 + random.below(100) as usize).layer(inner)),
        _ => {
            let queue = Queue::lifo(random.below(200) as usize, millis(500));
            let places = 1 + random.below(100) as usize;
            let bulkhead = BulkheadLayer::builder(places).queue(queue).build();
            BoxCloneService::new(bulkhead.layer(inner))
        }
    }
}

/// Calls and attempts; the answers that the server gave, and how long it took.
fn simulate(seed: u64) -> (u64, u64, u64, Duration) {
    sim::run(seed, async {
        let random = sim::random();
        let workers = 1 + random.below(50) as usize;
        let server = Server::new(workers, Times::exponential(ms(1 + random.below(100))));
        let server = if random.chance(0.5) {
            server.heeding_hang_ups()
        } else {
            server
        };
        for second in (0..LENGTH.as_secs()).step_by(5) {
            let (changed, share, speed) = (server.clone(), random.unit(), 2.0 * random.unit());
            let fails = random.below(3);
            sim::at(secs(second), move || {
                changed.set_failing([0.0, share, 1.0][fails as usize]);
                changed.set_speed(speed);
            });
        }
        let layers = 1 + random.below(7);
        let bottom: Stack = BoxCloneService::new(server.clone());
        let stack = (0..layers).fold(bottom, |stack, _| add_layer(stack, &random));
        let load = Load::poisson().rate(100.0, LENGTH).patience(secs(60));
        let report = load.send(stack, |_| ()).await;
        let work = server.work();
        let calls = report.whole().offered();
        (calls, work.arrived, work.answered, sim::elapsed())
    })
}

fn run(size: Size) -> Findings {
    let stacks = size.pick(400, 12);
    let (mut most, mut most_over) = (0.0_f64, f64::MIN);
    let mut amplifying = 0;
    for seed in 0..stacks {
        let (calls, attempts, answered, took) = simulate(seed);
        let retries = attempts.saturating_sub(calls) as f64;
        // One a second, also while the last calls end.
        let floor = took.as_secs_f64() + 1.0;
        most = most.max(attempts as f64 / calls as f64);
        most_over = most_over.max(retries - 0.1 * answered as f64 - floor);
        amplifying += u32::from(attempts > calls);
    }
    let mut table = Table::new([
        "stacks",
        "that made more attempts than calls",
        "most attempts for a call",
    ]);
    table.row([
        stacks.to_string(),
        amplifying.to_string(),
        format!("{most:.3}"),
    ]);
    let bars = vec![Bar {
        measure: "retries beyond a tenth of the answers and one a second".into(),
        published: "-".into(),
        peers: "-".into(),
        ours: if most_over <= 0.0 {
            "none".into()
        } else {
            format!("{most_over:.0}")
        },
        bar: "none".into(),
        is_met: most_over <= 0.0,
    }];
    let text = "Stacks of one to seven layers, drawn at random, with settings that are too, retries with up to ten \
        attempts above one another among them; a server that slows down, fails in part or altogether, or stalls, \
        every five seconds; 100 calls a second for half a minute. No stack gets a budget of its own, so each retry \
        has the default one.";
    Findings {
        text: text.into(),
        tables: vec![table],
        bars,
        charts: Vec::new(),
    }
}
