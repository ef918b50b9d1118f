//! A few requests that never end, and the threads that they take from the others.

use std::time::Duration;

use steadfast::{
    sim::{self, Load, Outcome, Report, Server, Times},
    timeout::TimeoutLayer,
};
use tower::{Layer, util::BoxCloneService};

use super::{Bar, Chart, Experiment, Findings, Size, Stack, Table, ms, percent, secs};

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "hangs",
    title: "A few requests that never end",
    source: "B. Beyer et al., \"Site Reliability Engineering\", chapter 22: bimodal latency",
    run,
};

const DEADLINE: Duration = secs(100);

fn deadline_alone(inner: Stack) -> Stack {
    BoxCloneService::new(TimeoutLayer::new(DEADLINE).unwrap().layer(inner))
}

fn following(inner: Stack) -> Stack {
    let timeout = TimeoutLayer::builder_following(ms(50), DEADLINE)
        .quantile(0.9)
        .window(secs(6))
        .build();
    BoxCloneService::new(timeout.unwrap().layer(inner))
}

/// `scale` times a tenth of the published threads and load.
fn simulate(limit: fn(Stack) -> Stack, scale: u32, length: Duration) -> Report {
    sim::run(100, async {
        let times = Times::constant(ms(100)).or(0.05, Times::constant(Duration::MAX));
        // What finds no thread is refused. What is given up gives its thread back.
        let threads = Server::new(100 * scale as usize, times)
            .queue(0)
            .heeding_hang_ups();
        let load = Load::poisson().rate(100.0 * f64::from(scale), length);
        let stack = limit(BoxCloneService::new(threads));
        load.send(stack, |_| ()).await
    })
}

fn run(size: Size) -> Findings {
    let (scale, length) = size.pick((10, secs(600)), (1, secs(240)));
    let mut table = Table::new(["limit of a request", "served", "given up", "refused"]);
    let mut chart = Chart::new("Share of the requests that are served", "seconds");
    let mut shares = Vec::new();
    for (name, limit) in [
        ("the deadline, 100 s", deadline_alone as fn(Stack) -> Stack),
        ("**steadfast**, follows the 90th percentile", following),
    ] {
        let report = simulate(limit, scale, length);
        // From when the threads have had the time to be taken.
        let part = report.during(secs(size.pick(200, 120))..length);
        let share = |count: u64| percent(count as f64 / part.offered() as f64);
        table.row([
            name.into(),
            share(part.good()),
            share(part.count(|outcome| outcome == Outcome::TimedOut)),
            share(part.count(|outcome| outcome == Outcome::Failed)),
        ]);
        let parts = report.by_slot(secs(10)).enumerate();
        let points = parts.map(|(slot, part)| (10.0 * slot as f64 + 5.0, part.good_share()));
        chart.line(name, points.collect());
        shares.push(part.good_share());
    }
    let (theirs, ours) = (shares[0], shares[1]);
    let bars = vec![Bar {
        measure: "share of the requests that are served".into(),
        published: "19.6 %".into(),
        peers: format!("deadline alone: {}", percent(theirs)),
        ours: percent(ours),
        bar: "94.9 %".into(),
        is_met: ours >= 0.949 && theirs < 0.25,
    }];
    let text = "1,000 threads, 1,000 requests a second of 100 ms each; one in twenty never ends, and keeps its \
        thread until the deadline of 100 s. 19.6 % are those that find a thread, one in twenty of which hangs.\n\n\
        The deadline is the callers', and stays. A server-side timeout that follows the 90th percentile finds by \
        itself that 150 ms are enough for all but those that hang. The quantile must leave room for them: one that \
        more calls miss than it leaves grows towards the deadline, as it is meant to.";
    Findings {
        text: text.into(),
        tables: vec![table],
        bars,
        charts: vec![chart],
    }
}
