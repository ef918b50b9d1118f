//! A database that loses most of its processor for a while.

use std::time::Duration;

use steadfast::{
    retry::RetryLayer,
    sim::{self, Load, Report, Server, Times, Work},
    timeout::TimeoutLayer,
};
use tower::{Layer, ServiceBuilder, util::BoxCloneService};

use super::{
    Bar, Chart, Experiment, Findings, Size, Stack, Table, after, ms,
    peers::{Always, retrying},
    percent, secs,
};

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "capacity_loss",
    title: "A loss of capacity",
    source: "L. Huang et al., \"Metastable Failures in the Wild\", OSDI'22: the experiment with MongoDB",
    run,
};

const FROM: Duration = secs(60);

/// What happens to the database, and at which load. A hundredth of the published loads.
struct Trigger {
    name: &'static str,
    speed: f64,
    length: Duration,
    rate: f64,
    published: &'static str,
}

const fn trigger(
    name: &'static str,
    speed: f64,
    secs: u64,
    rate: f64,
    published: &'static str,
) -> Trigger {
    Trigger {
        name,
        speed,
        length: Duration::from_secs(secs),
        rate,
        published,
    }
}

const TRIGGERS: [Trigger; 4] = [
    trigger("(a) 78 % less for 10 s", 0.22, 10, 62.0, "recovers"),
    trigger("(b) 80 % less for 10 s", 0.20, 10, 62.0, "never"),
    trigger("(c) 80 % less for 9 s", 0.20, 9, 62.0, "recovers"),
    trigger(
        "(d) as (b), with 30 % less load",
        0.20,
        10,
        42.0,
        "recovers",
    ),
];

fn four_retries(inner: Stack) -> Stack {
    retrying(inner, 5, Always)
}

fn ours(inner: Stack) -> Stack {
    let retry = RetryLayer::builder().max_attempts(5).build();
    BoxCloneService::new(retry.unwrap().layer(inner))
}

fn simulate(
    client: fn(Stack) -> Stack,
    trigger: &Trigger,
    length: Duration,
) -> (Report, Vec<Work>) {
    sim::run(2022, async {
        let server = Server::new(17, Times::constant(ms(100)));
        let remote = ServiceBuilder::new()
            .layer(TimeoutLayer::new(secs(3)).unwrap())
            .service(server.clone());
        let (slow, well, speed) = (server.clone(), server.clone(), trigger.speed);
        sim::at(FROM, move || slow.set_speed(speed));
        sim::at(FROM + trigger.length, move || well.set_speed(1.0));
        let stack = client(BoxCloneService::new(remote));
        let load = Load::poisson().rate(trigger.rate, length);
        (load.send(stack, |_| ()).await, server.work_by_slot())
    })
}

fn run(size: Size) -> Findings {
    let length = secs(size.pick(500, 150));
    let mut table = Table::new([
        "trigger",
        "published",
        "4 retries",
        "attempts/s",
        "good",
        "**steadfast**",
        "attempts/s",
        "good",
    ]);
    let mut chart =
        Chart::new("Good answers a second under (b)", "seconds").shading(FROM, FROM + secs(10));
    let (mut is_shape, mut recoveries) = (true, Vec::new());
    let mut shape = Vec::new();
    for trigger in &TRIGGERS {
        let end = FROM + trigger.length;
        let mut row = vec![trigger.name.to_owned(), trigger.published.to_owned()];
        for (name, client) in [
            ("4 retries", four_retries as fn(Stack) -> Stack),
            ("steadfast", ours),
        ] {
            let (report, work) = simulate(client, trigger, length);
            let recovery = report.recovery(end, 0.9, secs(5));
            let last = length - secs(20);
            let slots = last.as_secs() as usize..length.as_secs() as usize;
            let attempts: u64 = work[slots].iter().map(|work| work.arrived).sum();
            row.push(after(recovery));
            row.push(format!("{:.0}", attempts as f64 / 20.0));
            row.push(percent(report.during(last..length).good_share()));
            if name == "steadfast" {
                recoveries.push(recovery);
            } else {
                is_shape &= recovery.is_some() == (trigger.published == "recovers");
                shape.push(after(recovery));
            }
            if trigger.name.starts_with("(b)") {
                chart.goodput(name, &report, secs(2), secs(180));
            }
        }
        table.row(<[String; 8]>::try_from(row).expect("eight"));
    }
    let longest = recoveries.iter().map(|time| time.unwrap_or(Duration::MAX));
    let is_met = longest.clone().all(|time| time < Duration::MAX);
    let after_b = recoveries[1];
    let bars = vec![
        Bar {
            measure: "recovery after (a), (b), (c), (d)".into(),
            published: "4 retries: yes, never, yes, yes".into(),
            peers: format!("4 retries: {}", shape.join(", ")),
            ours: recoveries
                .iter()
                .map(|time| after(*time))
                .collect::<Vec<_>>()
                .join(", "),
            bar: "all".into(),
            is_met: is_met && is_shape,
        },
        Bar {
            measure: "recovery after (b)".into(),
            published: "4 retries: never".into(),
            peers: format!("4 retries: {}", shape[1]),
            ours: after(after_b),
            bar: "10 s, as long as the trigger".into(),
            is_met: after_b.is_some_and(|time| time <= secs(10)),
        },
    ];
    let text = "Callers wait for three seconds and try four times more; the database loses four fifths of its \
        processor for ten seconds. Load and capacity are a hundredth of the testbed's. The capacity is not published: \
        it is the one at which the four triggers end as they did there, 170 a second.\n\n\
        A retry of this crate with its defaults is enough, and the database needs no help: without retries that \
        feed on failures the calls that were held up are worked off in the time that the surplus takes.";
    Findings {
        text: text.into(),
        tables: vec![table],
        bars,
        charts: vec![chart],
    }
}
