//! Twelve times as much of what matters least, at a server that is also sent what matters.

use std::time::Duration;

use steadfast::{
    Criticality,
    adaptive::{AdaptiveLayer, Gradient2},
    load_shed::LoadShedLayer,
    sim::{self, Load, Report, Server, Times},
};
use tower::{Layer, util::BoxCloneService};

use super::{Bar, Chart, Experiment, Findings, Size, Stack, Table, ms, percent, secs};

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "prefetch_spike",
    title: "A spike of what matters least",
    source: "Netflix, \"Enhancing Netflix Reliability with Service-Level Prioritized Load Shedding\", 2024",
    run,
};

/// Twenty at a time, of 20 ms: 1,000 calls a second.
const CAPACITY: f64 = 1000.0;
const WANTED: f64 = 400.0;
const PREFETCHED: f64 = 500.0;
const SPIKE: f64 = 12.0;
const BEGINS: Duration = secs(20);

type Lane = (&'static str, fn(Server) -> Stack);

const LANES: [Lane; 3] = [
    ("no limit", |server| BoxCloneService::new(server)),
    ("Gradient2, for all alike", |server| {
        let layer = AdaptiveLayer::builder().algorithm(Gradient2::default());
        BoxCloneService::new(layer.build().unwrap().layer(server))
    }),
    ("**steadfast**, load shedding", |server| {
        let layer = LoadShedLayer::builder().in_flight(40).build();
        BoxCloneService::new(layer.unwrap().layer(server))
    }),
];

/// What became of what somebody waits for, and of what is prefetched.
fn simulate(lane: fn(Server) -> Stack, spike: Duration) -> [Report; 2] {
    sim::run(12, async {
        let stack = lane(Server::new(20, Times::exponential(ms(20))));
        let load = |calm, during, criticality| {
            Load::poisson()
                .rate(calm, BEGINS)
                .rate(during, spike)
                .rate(calm, BEGINS)
                .criticality(criticality)
                .good_within(secs(1))
        };
        let wanted = load(WANTED, WANTED, Criticality::Critical);
        let prefetched = load(PREFETCHED, SPIKE * PREFETCHED, Criticality::Sheddable);
        let (wanted, prefetched) = tokio::join!(
            biased;
            wanted.send(stack.clone(), |_| ()),
            prefetched.send(stack.clone(), |_| ()),
        );
        [wanted, prefetched]
    })
}

fn run(size: Size) -> Findings {
    let spike = secs(size.pick(60, 5));
    let ends = BEGINS + spike;
    let mut table = Table::new([
        "during the spike",
        "wanted: good",
        "p99",
        "prefetched: good",
        "goodput, of what can be done",
        "wanted, after it",
    ]);
    let mut chart =
        Chart::new("Good answers a second, of what is wanted", "seconds").shading(BEGINS, ends);
    let mut found = Vec::new();
    for (name, lane) in LANES {
        let [wanted, prefetched] = simulate(lane, spike);
        let [during, of_least] = [&wanted, &prefetched].map(|report| report.during(BEGINS..ends));
        let goodput = (during.goodput() + of_least.goodput()) / CAPACITY;
        let after = wanted.during(ends..ends + BEGINS).good_share();
        table.row([
            name.into(),
            format!("{:.2} %", 100.0 * during.good_share()),
            format!(
                "{} ms",
                during.quantile(0.99).unwrap_or_default().as_millis()
            ),
            percent(of_least.good_share()),
            percent(goodput),
            percent(after),
        ]);
        chart.goodput(name, &wanted, secs(1), ends + BEGINS);
        found.push((during.good_share(), goodput, after));
    }
    let (shared, ours) = (found[1], found[2]);
    let bars = vec![
        Bar {
            measure: "what is wanted and answered well, during the spike".into(),
            published: "more than 99.4 %; prefetched 20 %".into(),
            peers: format!("Gradient2, for all alike {}", percent(shared.0)),
            ours: format!("{:.2} %", 100.0 * ours.0),
            bar: "99.9 %".into(),
            is_met: ours.0 >= 0.999 && ours.2 >= 0.999,
        },
        Bar {
            measure: "all good answers, of what can be done".into(),
            published: "-".into(),
            peers: format!("Gradient2 {}", percent(shared.1)),
            ours: percent(ours.1),
            bar: "99 %".into(),
            is_met: ours.1 >= size.pick(0.99, 0.97),
        },
    ];
    let text = "A server does 1,000 calls a second, with exponential service times. 400 a second are of users who wait, and critical; 500 are \
        prefetched, and can be shed. Then twelve times as many are prefetched, 6.4 times what can be done in \
        all. An answer is good within a second.\n\n\
        Load shedding by criticality, with twice as many calls in flight as are worked upon, gives what is wanted \
        all that it asks for, and the rest to what is prefetched. It reserves nothing.";
    Findings {
        text: text.into(),
        tables: vec![table],
        bars,
        charts: vec![chart],
    }
}
