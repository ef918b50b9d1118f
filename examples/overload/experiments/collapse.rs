//! A service that slows down with the calls it has, and a spike that pushes it over the edge.

use std::time::Duration;

use steadfast::{
    bulkhead::BulkheadLayer,
    retry::RetryLayer,
    sim::{self, Link, Load, Report, Server, Times},
    timeout::TimeoutLayer,
};
use tower::{Layer, ServiceBuilder, util::BoxCloneService};

use super::{
    Bar, Chart, Experiment, Findings, Size, Stack, Table, ms,
    peers::{Always, Doubling, retrying},
    secs,
};

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "collapse",
    title: "Collapse under a spike and a ramp",
    source: "M. Brooker's simulation of a collapse, 2019: simple_collapse_sim",
    run,
};

const FROM: Duration = secs(20);
const TO: Duration = secs(25);

#[derive(Clone, Copy)]
struct Lane {
    name: &'static str,
    client: fn(Stack) -> Stack,
    /// How many calls the service lets in at once.
    limit: usize,
}

const UNLIMITED: usize = 100_000;
/// With so many calls at once one takes 2.5 s, which leaves half a second of the timeout for the network.
const LIMIT: usize = 150;

fn ours(inner: Stack) -> Stack {
    let retry = RetryLayer::builder().build();
    BoxCloneService::new(retry.unwrap().layer(inner))
}

const LANES: [Lane; 4] = [
    Lane {
        name: "3 tries at once",
        client: |inner| retrying(inner, 3, Always),
        limit: UNLIMITED,
    },
    Lane {
        name: "3 tries, backoff from 20 s with jitter",
        client: |inner| {
            let (first, random) = (secs(20), sim::random());
            retrying(inner, 3, Doubling { first, random })
        },
        limit: UNLIMITED,
    },
    Lane {
        name: "**steadfast**, client alone",
        client: ours,
        limit: UNLIMITED,
    },
    Lane {
        name: "**steadfast**, client and bulkhead",
        client: ours,
        limit: LIMIT,
    },
];

fn simulate(lane: Lane, load: &Load, seed: u64) -> Report {
    sim::run(seed, async {
        let server = Server::new(usize::MAX, Times::constant(secs(1))).slowed_by(ms(10));
        let remote = ServiceBuilder::new()
            .layer(TimeoutLayer::new(secs(3)).unwrap())
            .layer(Link::new().delay(Times::exponential(ms(100))))
            .layer(BulkheadLayer::new(lane.limit))
            .service(server);
        load.send((lane.client)(BoxCloneService::new(remote)), |_| ())
            .await
    })
}

/// Good answers a second, the mean of several runs.
fn goodput(reports: &[Report], from: Duration, to: Duration) -> f64 {
    let rates = reports
        .iter()
        .map(|report| report.during(from..to).goodput());
    rates.sum::<f64>() / reports.len() as f64
}

fn run(size: Size) -> Findings {
    let runs = size.pick(10, 2);
    let spike = Load::poisson()
        .rate(40.0, FROM)
        .rate(80.0, TO - FROM)
        .rate(40.0, secs(55));
    let ramp = Load::poisson()
        .ramp(40.0, 80.0, secs(25))
        .ramp(80.0, 0.0, secs(50));
    let all = |lane, load: &Load| -> Vec<Report> {
        (0..runs)
            .map(|seed| simulate(lane, load, 2019 + seed))
            .collect()
    };
    // The most that it can do in time, however many it lets in.
    let flood = Load::poisson().rate(150.0, secs(60));
    let capacity = |limit| {
        let lane = Lane {
            name: "",
            client: |inner| inner,
            limit,
        };
        simulate(lane, &flood, 1)
            .during(secs(10)..secs(60))
            .goodput()
    };
    let limits = size.pick((100..=200).step_by(10), (LIMIT..=LIMIT).step_by(10));
    let peak = limits.map(capacity).fold(0.0, f64::max);

    let mut table = Table::new([
        "good answers/s",
        "spike, 15-20 s",
        "30-35 s",
        "50-80 s",
        "ramp, 15-35 s",
        "50-70 s",
    ]);
    let mut chart = Chart::new("Good answers a second, spike", "seconds").shading(FROM, TO);
    let mut found = Vec::new();
    for lane in LANES {
        let (spiked, ramped) = (all(lane, &spike), all(lane, &ramp));
        let at = |reports: &[Report], from, to| goodput(reports, secs(from), secs(to));
        let back = at(&spiked, 30, 80);
        let ramp = at(&ramped, 15, 35);
        found.push((at(&spiked, 50, 80), back, ramp));
        table.row([
            lane.name.into(),
            format!("{:.1}", at(&spiked, 15, 20)),
            format!("{:.1}", at(&spiked, 30, 35)),
            format!("{:.1}", at(&spiked, 50, 80)),
            format!("{ramp:.1}"),
            format!("{:.1}", at(&ramped, 50, 70)),
        ]);
        let points = (0..40).map(|slot| (2 * slot, 2 * slot + 2));
        let points = points.map(|(from, to)| (from as f64 + 1.0, at(&spiked, from, to)));
        chart.line(lane.name, points.collect());
    }
    let (collapsed, _, collapsed_ramp) = found[0];
    let (_, back, ramp) = found[3];
    let bars = vec![
        Bar {
            measure: "good answers a second from 5 s after the spike on".into(),
            published: "3 tries: 39.9, then 3.8 for ever".into(),
            peers: format!("3 tries: {collapsed:.1}"),
            ours: format!("{back:.1}"),
            bar: "39 of 40".into(),
            is_met: back >= 39.0 && collapsed < 20.0,
        },
        Bar {
            measure: "the same at the top of the ramp".into(),
            published: "0, with and without backoff".into(),
            peers: format!("3 tries: {collapsed_ramp:.1}"),
            ours: format!("{ramp:.1}"),
            bar: format!("0.9 of the {peak:.1} that it can do"),
            is_met: ramp >= 0.9 * peak,
        },
    ];
    let text = "A call takes 1 s and 10 ms for each other that is being served, and an exponential 100 ms each way; \
        callers wait for three seconds, three times. 40 calls a second come, and for five seconds twice as many; \
        or, on the ramp, from 40 up to 80 at 25 s and down to none at 75 s. Means of ten runs.\n\n\
        The service can do more than 60 a second, if it lets in no more calls than it can serve in time: a bulkhead \
        says how many. The retries' budget keeps what was refused from coming back in full.";
    Findings {
        text: text.into(),
        tables: vec![table],
        bars,
        charts: vec![chart],
    }
}
