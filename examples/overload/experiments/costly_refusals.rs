//! A database that can do less than its callers are allowed, and for which to refuse is work, too.

use std::time::Duration;

use steadfast::{
    load_shed::LoadShedLayer,
    sim::{self, Load, Outcome, Report, Server, Times},
};
use tower::{Layer, util::BoxCloneService};

use super::{
    Bar, Chart, Experiment, Findings, Size, Stack, Table, gates::Bucket, moments, ms, percent, secs,
};

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "costly_refusals",
    title: "A database for which to refuse is work",
    source: "Uber, \"How Uber Conquered Database Overload\", 2026, and \"PID Controller for Cinnamon\", 2023",
    run,
};

/// Of 50 ms each: 540 calls a second, a tenth of what was published.
const WORKERS: usize = 27;
const OFFERED: f64 = 1000.0;
/// What the bucket allows: with so many the database does 300 a second, and refuses the others.
const ALLOWED: f64 = 780.0;
const STEP: Duration = secs(10);
const SLOT: Duration = ms(500);

type Lane = (&'static str, fn(Server) -> Stack);

const LANES: [Lane; 3] = [
    ("the database refuses", |server| {
        BoxCloneService::new(server)
    }),
    ("token bucket, 780/s", |server| {
        Bucket::new(ALLOWED).before(BoxCloneService::new(server))
    }),
    ("**steadfast**, load shedding", |server| {
        let layer = LoadShedLayer::builder().in_flight(2 * WORKERS).build();
        BoxCloneService::new(layer.unwrap().layer(server))
    }),
];

fn simulate(lane: fn(Server) -> Stack, length: Duration) -> Report {
    sim::run(2026, async {
        let server = Server::new(WORKERS, Times::constant(ms(50)))
            .queue(900)
            .rejecting_takes(ms(25));
        let load = Load::even().rate(400.0, STEP).rate(OFFERED, length);
        load.send(lane(server), |_| ()).await
    })
}

/// The share of calls that is refused before the database, from the overload on, by slot.
fn shares(report: &Report) -> Vec<f64> {
    let is_shed = |outcome| matches!(outcome, Outcome::Refused(_));
    let slots = report
        .by_slot(SLOT)
        .skip((STEP.as_millis() / SLOT.as_millis()) as usize);
    slots
        .map(|part| part.count(is_shed) as f64 / part.offered() as f64)
        .collect()
}

fn run(size: Size) -> Findings {
    let length = secs(size.pick(120, 30));
    let mut table = Table::new([
        "1000/s for 540/s",
        "good/s",
        "p50",
        "p99",
        "shed",
        "deviation",
        "settled after",
    ]);
    let mut chart = Chart::new("The share that is shed", "seconds");
    let mut found = Vec::new();
    for (name, lane) in LANES {
        let report = simulate(lane, length);
        let late = report.during(STEP + length / 2..STEP + length);
        let shares = shares(&report);
        let (mean, deviation) = moments(&shares[shares.len() / 2..]);
        // By a second and a half at a time, so that chance is no swing.
        let settled = shares
            .windows(3)
            .rposition(|shares| (moments(shares).0 - mean).abs() > 0.05);
        let settled = settled.map_or(Duration::ZERO, |last| SLOT * (last as u32 + 1));
        let millis = |share| late.quantile(share).unwrap_or_default().as_millis();
        table.row([
            name.into(),
            format!("{:.0}", late.goodput()),
            format!("{} ms", millis(0.5)),
            format!("{} ms", millis(0.99)),
            percent(mean),
            percent(deviation),
            format!("{:.1} s", settled.as_secs_f64()),
        ]);
        let points = shares
            .iter()
            .enumerate()
            .map(|(number, share)| ((number as f64 + 0.5) * SLOT.as_secs_f64(), *share));
        chart.line(name, points.collect());
        found.push((
            late.goodput(),
            millis(0.99) as f64,
            mean,
            deviation,
            settled,
        ));
    }
    let (bucket, ours) = (&found[1], &found[2]);
    // What a share has of chance where each call is drawn for by itself.
    let drawn = (ours.2 * (1.0 - ours.2) / (OFFERED * SLOT.as_secs_f64())).sqrt();
    let bars = vec![
        Bar {
            measure: "good answers a second, and p99".into(),
            published: "token bucket 3,000, 3.1 s; Cinnamon 5,400, 1.0 s".into(),
            peers: format!("token bucket {:.0}, {:.1} s", bucket.0, bucket.1 / 1000.0),
            ours: format!("{:.0}, {:.1} s", ours.0, ours.1 / 1000.0),
            bar: "80 % more, and 70 % less".into(),
            is_met: (100.0 * ours.0 / bucket.0).round() >= size.pick(180.0, 175.0)
                && ours.1 <= 0.3 * bucket.1,
        },
        Bar {
            measure: "deviation of the share that is shed, and when it has settled".into(),
            published: "Cinnamon: stable, which AIMD and CoDel were not".into(),
            peers: "-".into(),
            ours: format!("{}, {:.1} s", percent(ours.3), ours.4.as_secs_f64()),
            bar: format!("{}, which drawing lots makes; 2 s", percent(drawn)),
            is_met: ours.3 <= drawn && ours.4 <= secs(2),
        },
    ];
    let text = "A database does 540 calls a second, 27 at a time of 50 ms; up to 900 wait, and to refuse one more keeps a worker \
        busy for 25 ms. It is sent 1,000 a second, all in even gaps, so that what swings is the control. A token bucket before it \
        allows 780, which was right for another day. A tenth of the published load; what it takes to refuse, how many may wait and what \
        the bucket allows are not published: they are such that the bucket fares as it did there.\n\n\
        Load shedding before the database, with twice as many calls in flight as it works on, finds what it can do. Which calls it \
        sheds is drawn by lot; the share deviates by less than such lots do by themselves.";
    Findings {
        text: text.into(),
        tables: vec![table],
        bars,
        charts: vec![chart],
    }
}
