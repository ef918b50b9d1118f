//! A retry storm: an outage of ten seconds, and a database that never recovers from it.

use std::time::Duration;

use steadfast::{
    backoff::Backoff,
    budget::Budget,
    bulkhead::{BulkheadLayer, Queue},
    retry::RetryLayer,
    sim::{self, Link, Load, Report, Server, Times},
    timeout::TimeoutLayer,
};
use tower::{Layer, ServiceBuilder, util::BoxCloneService};

use super::{
    Bar, Chart, Experiment, Findings, Size, Stack, Table, Tally, after, ms,
    peers::{Always, Finagle, PerAttempt, retrying},
    percent, secs,
};

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "retry_storm",
    title: "A retry storm after an outage",
    source: "N. Bronson et al., \"Metastable Failures in Distributed Systems\", HotOS'21",
    run,
};

/// The outage.
const FROM: Duration = secs(20);
const TO: Duration = secs(30);

#[derive(Clone, Copy)]
struct Lane {
    name: &'static str,
    client: fn(Stack) -> Stack,
    /// Whether the database has a bulkhead before its workers.
    is_guarded: bool,
}

const fn lane(name: &'static str, client: fn(Stack) -> Stack) -> Lane {
    Lane {
        name,
        client,
        is_guarded: false,
    }
}

impl Lane {
    const fn guarded(mut self) -> Self {
        self.is_guarded = true;
        self
    }
}

fn with(budget: Budget, inner: Stack) -> Stack {
    let retry = RetryLayer::builder()
        .max_attempts(2)
        .backoff(Backoff::none())
        .budget(budget)
        .build();
    BoxCloneService::new(retry.unwrap().layer(inner))
}

fn by_default(inner: Stack) -> Stack {
    with(Budget::default(), inner)
}

const ONE_RETRY: Lane = lane("one retry", |inner| retrying(inner, 2, Always));
const OURS: Lane = lane("**steadfast**, client and database", by_default).guarded();
const LANES: [Lane; 10] = [
    lane("no retry", |inner| inner),
    ONE_RETRY,
    lane("Finagle's budget, 20 % and 10 a second", |inner| {
        retrying(inner, 2, Finagle::new(0.2, 10.0))
    }),
    lane("Envoy's budget, 20 % of the active", |inner| {
        with(Budget::of_active(0.2).unwrap(), inner)
    }),
    lane("10 % of attempts", |inner| {
        retrying(inner, 2, PerAttempt::new(0.1, 100.0, 0.0))
    }),
    lane("gRPC's throttle, 10 and 0.1", |inner| {
        with(Budget::grpc_throttle(10, 0.1).unwrap(), inner)
    }),
    lane("AWS's quota, 500", |inner| {
        with(Budget::quota(500).unwrap(), inner)
    }),
    lane("**steadfast**, client alone", by_default),
    lane("one retry; **steadfast**, database alone", |inner| {
        retrying(inner, 2, Always)
    })
    .guarded(),
    OURS,
];

/// What became of the calls, and the attempts that were sent.
fn simulate(lane: Lane, rate: f64, rest: Duration) -> (Report, Tally) {
    sim::run(2021, async {
        // 300 calls a second.
        let server = Server::new(30, Times::constant(ms(100)));
        let queue = Queue::lifo(10_000, ms(900));
        let guard = BulkheadLayer::builder(30).queue(queue).build();
        let guarded = ServiceBuilder::new()
            .option_layer(lane.is_guarded.then_some(guard))
            .service(server);
        let link = Link::new();
        let sent = Tally::default();
        let remote = ServiceBuilder::new()
            .layer(sent.layer())
            .layer(TimeoutLayer::new(secs(1)).unwrap())
            .layer(link.clone())
            .service(guarded);
        let cut = link.clone();
        sim::at(FROM, move || cut.cut());
        sim::at(TO, move || link.mend());
        let stack = (lane.client)(BoxCloneService::new(remote));
        let load = Load::poisson().rate(rate, TO + rest);
        (load.send(stack, |_| ()).await, sent)
    })
}

/// Attempts for each call, from a point in time on.
fn load(report: &Report, sent: &Tally, from: Duration) -> f64 {
    let part = from..report.length();
    sent.during(part.clone()) as f64 / report.during(part).offered() as f64
}

fn run(size: Size) -> Findings {
    let rest = secs(size.pick(300, 30));
    let mut table = Table::new([
        "recovers after",
        "140 a second",
        "200",
        "255",
        "280",
        "load at 280",
    ]);
    let mut chart = Chart::new("Good answers a second, at 280", "seconds").shading(FROM, TO);
    for lane in size.pick(&LANES[..], &[]) {
        let mut cells = Vec::new();
        for rate in [140.0, 200.0, 255.0, 280.0] {
            let (report, sent) = simulate(*lane, rate, rest);
            cells.push(after(report.recovery(TO, 0.9, secs(5))));
            if rate == 280.0 {
                let end = report.length() - secs(60);
                cells.push(format!("{:.2}", load(&report, &sent, end)));
                chart.goodput(lane.name, &report, secs(4), secs(200));
            }
        }
        let [a, b, c, d, e] = cells.try_into().expect("five");
        table.row([lane.name.into(), a, b, c, d, e]);
    }

    let (theirs, sent) = simulate(ONE_RETRY, 280.0, rest);
    let (stuck, stuck_load) = (
        after(theirs.recovery(TO, 0.9, secs(5))),
        load(&theirs, &sent, theirs.length() - secs(10)),
    );
    let end = theirs.during(theirs.length() - secs(10)..theirs.length());
    let (ours, sent) = simulate(OURS, 280.0, rest);
    let recovery = ours.recovery(TO, 0.99, secs(5));
    let share = ours.during(TO + secs(1)..ours.length()).good_share();
    let most = load(&ours, &sent, Duration::ZERO).max(load(&ours, &sent, TO));
    let bars = vec![
        Bar {
            measure: "recovery at 280 a second".into(),
            published: "one retry: never".into(),
            peers: format!("one retry: {stuck}"),
            ours: after(recovery),
            bar: "1 s".into(),
            is_met: recovery.is_some_and(|time| time <= secs(1)),
        },
        Bar {
            measure: "good answers from then on".into(),
            published: "one retry: none".into(),
            peers: format!("one retry: {}", percent(end.good_share())),
            ours: percent(share),
            bar: "99 %".into(),
            is_met: share >= 0.99,
        },
        Bar {
            measure: "load".into(),
            published: "one retry: 2.00".into(),
            peers: format!("one retry: {stuck_load:.2}"),
            ours: format!("{most:.2}"),
            bar: "1.1".into(),
            is_met: most <= 1.1 && stuck_load > 1.9,
        },
    ];
    let text = "A database answers 300 calls a second, first come, first served, and does not know who has gone. \
        Callers wait for a second and try once more. For ten seconds the network holds all messages, and then \
        delivers them. Recovered is when 90 % of the calls of five seconds are answered in time.\n\n\
        What is fed by attempts, or by calls that are active, keeps the database busy with calls that nobody waits \
        for. What is fed by successes does not, and the client recovers as if it never tried again: when the \
        database has worked off what the network held. To be back at once needs the database's own help: a bulkhead \
        with a LIFO queue whose places lapse after 900 ms serves those who still wait, however the clients retry.";
    Findings {
        text: text.into(),
        tables: vec![table],
        bars,
        charts: vec![chart],
    }
}
