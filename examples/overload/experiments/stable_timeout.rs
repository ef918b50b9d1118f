//! A service that hangs, so that every call takes exactly as long as its caller's timeout.

use std::time::Duration;

use steadfast::{
    sim::{self, Load, Server, Times},
    timeout::TimeoutLayer,
};
use tower::{Layer, util::BoxCloneService};

use super::{
    Bar, Chart, Experiment, Findings, Size, Table, after,
    limiters::{FOUND, LOOK, Limiter, OURS},
    ms, secs,
};

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "stable_timeout",
    title: "Calls that all time out",
    source: "Netflix concurrency-limits, issue 137: all calls return at the same timeout",
    run,
};

const TIMEOUT: Duration = secs(5);

/// What a limit sees of a call that hangs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// That it was given up after five seconds.
    GivenUp,
    /// That it took five seconds, and no more.
    Answered,
}

struct Found {
    /// What the limit is after all of them.
    limit: f64,
    /// How long it took to get there.
    took: Duration,
    /// How long it takes from when the service is well until all calls are answered.
    recovery: Option<Duration>,
    points: Vec<(f64, f64)>,
}

fn simulate(limiter: Limiter, seen: Seen, hang: Duration) -> Found {
    let length = hang + secs(30);
    let (report, limits) = sim::run(137, async {
        // More at once than calls come in five seconds.
        let server = Server::new(usize::MAX, Times::constant(TIMEOUT)).heeding_hang_ups();
        let service = match seen {
            Seen::GivenUp => {
                server.set_times(Times::constant(Duration::MAX));
                let timeout = TimeoutLayer::new(TIMEOUT).unwrap();
                BoxCloneService::new(timeout.layer(server.clone()))
            }
            Seen::Answered => BoxCloneService::new(server.clone()),
        };
        sim::at(hang, move || {
            // Five are busy, in the mean.
            server.set_workers(20);
            server.set_times(Times::constant(ms(20)));
        });
        let load = Load::poisson().rate(250.0, length);
        limiter(service).under(&load).await
    });
    let during = limits.during(Duration::ZERO..hang);
    let limit = *during.last().expect("it is looked at");
    let moving = during.iter().rposition(|other| *other != limit);
    Found {
        limit,
        took: moving.map_or(Duration::ZERO, |last| LOOK * (last as u32 + 2)),
        recovery: report.recovery(hang, 0.99, secs(1)),
        points: limits.points(secs(10)),
    }
}

fn run(size: Size) -> Findings {
    let hang = secs(size.pick(1200, 60));
    let mut table = Table::new([
        "limit after 20 min of 5 s",
        "where they are seen to be given up",
        "reached after",
        "all is answered again after",
        "where they are seen to take 5 s",
    ]);
    let mut chart = Chart::new("The limit while every call takes 5 s", "seconds");
    let mut found = Vec::new();
    for (name, limiter) in FOUND {
        let [given_up, answered] =
            [Seen::GivenUp, Seen::Answered].map(|seen| simulate(limiter, seen, hang));
        table.row([
            name.into(),
            given_up.limit.to_string(),
            format!("{} s", given_up.took.as_secs()),
            after(given_up.recovery),
            answered.limit.to_string(),
        ]);
        let shown = if name == OURS { &given_up } else { &answered };
        chart.line(name, shown.points.clone());
        found.push((given_up, answered));
    }
    let seen = |peer: usize| found[peer].1.limit;
    let (ours, _) = &found[3];
    let bars = vec![Bar {
        measure: "the limit after 20 min in which every call times out after 5 s".into(),
        published: "Netflix's: to its greatest; Gradient2 from 20 to 200 in 225 windows".into(),
        peers: format!(
            "seen to take 5 s: Vegas {}, Gradient2 {}, Envoy {}",
            seen(0),
            seen(1),
            seen(2)
        ),
        ours: format!("{}, after {} s", ours.limit, ours.took.as_secs()),
        bar: "1, its least".into(),
        is_met: ours.limit == 1.0 && ours.recovery.is_some(),
    }];
    let text = "A service hangs from the start; 250 calls a second come for it, each of which is given up after 5 s. Then it is \
        well, and answers in 20 ms.\n\n\
        The peers' limits are told of round trips, and these are always the same: nothing seems to wait. A limit of this \
        crate is told that a call was given up, by a timeout below it or a deadline that has passed, whichever its \
        algorithm; where most are, Knee's falls by half in each round trip. Told only that calls take \
        5 s, it grows as well, and is right to: a service that answers the more the more it is sent has room.";
    Findings {
        text: text.into(),
        tables: vec![table],
        bars,
        charts: vec![chart],
    }
}
