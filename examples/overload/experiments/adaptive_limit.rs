//! Limits that are found, above a service that is offered twice what it can do, nearly all of it, or too
//! much from one moment to the next.

use std::time::Duration;

use steadfast::sim::{self, Load, Part, Report, Server, Times};
use tower::util::BoxCloneService;

use super::{
    Bar, Chart, Experiment, Findings, Size, Table, Trace,
    limiters::{FOUND, Limiter, fixed},
    moments, ms, percent, secs,
};

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "adaptive_limit",
    title: "A limit that finds itself",
    source: "Netflix concurrency-limits and its example driver; Envoy's adaptive concurrency filter",
    run,
};

/// Those of the peers, one that is fixed, and ours.
const LIMITERS: [(&str, Limiter); 5] = [
    FOUND[0],
    FOUND[1],
    FOUND[2],
    ("fixed, twice the servers", |inner| fixed(40, inner)),
    FOUND[3],
];

/// Twenty servers that take 20 ms, give or take one.
fn twenty() -> Server {
    Server::new(20, Times::normal(ms(20), ms(1)))
}

fn simulate(limiter: Limiter, server: impl FnOnce() -> Server, load: &Load) -> (Report, Trace) {
    sim::run(200, async {
        limiter(BoxCloneService::new(server())).under(load).await
    })
}

fn quantile(part: &Part<'_>, share: f64) -> Duration {
    part.quantile(share).unwrap_or_default()
}

fn millis(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}

fn refused(part: &Part<'_>) -> f64 {
    1.0 - part.good_share()
}

struct Overload {
    goodput: f64,
    p99: Duration,
    /// The p99, and the limit, in the second quarter and in the last.
    second: (Duration, f64),
    last: (Duration, f64),
}

fn found((p99, limit): (Duration, f64)) -> String {
    format!("{}, {limit:.1}", millis(p99))
}

/// At twice the capacity: what is done, and what the slowest wait, at first and in the end.
fn overload(size: Size, table: &mut Table, chart: &mut Chart) -> Vec<Overload> {
    let length = size.pick(secs(1200), secs(15));
    LIMITERS
        .map(|(name, limiter)| {
            let (report, limits) = simulate(limiter, twenty, &Load::poisson().rate(2000.0, length));
            let whole = report.whole();
            let quarter = |number| length * (number - 1) / 4..length * number / 4;
            let [second, last] = [2, 4].map(|number| {
                let (limit, _) = moments(&limits.during(quarter(number)));
                (quantile(&report.during(quarter(number)), 0.99), limit)
            });
            table.row([
                name.into(),
                format!("{:.0}", whole.goodput()),
                millis(quantile(&whole, 0.5)),
                millis(quantile(&whole, 0.99)),
                found(second),
                found(last),
            ]);
            let parts = report.by_slot(length / 60).enumerate();
            let slot = length.as_secs_f64() / 60.0;
            let points = parts.take(60).map(|(number, part)| {
                let p99 = quantile(&part, 0.99).as_secs_f64() * 1000.0;
                ((number as f64 + 0.5) * slot, p99)
            });
            chart.line(name, points.collect());
            Overload {
                goodput: whole.goodput(),
                p99: quantile(&whole, 0.99),
                second,
                last,
            }
        })
        .into()
}

/// At nine tenths of the capacity: what is refused, and what the slowest wait.
fn harm(size: Size, table: &mut Table) -> Vec<(f64, Duration)> {
    let length = size.pick(secs(600), secs(30));
    LIMITERS
        .map(|(name, limiter)| {
            let (report, _) = simulate(limiter, twenty, &Load::poisson().rate(900.0, length));
            // From when the limit is one that was found.
            let part = report.during(secs(10)..length);
            let (refused, p99) = (refused(&part), quantile(&part, 0.99));
            table.row([
                name.into(),
                format!("{:.2} %", 100.0 * refused),
                millis(p99),
            ]);
            (refused, p99)
        })
        .into()
}

/// The driver of Netflix's library: two servers, and more and less than they can do.
fn driver(size: Size, table: &mut Table) -> Vec<(f64, Duration)> {
    let phase = size.pick(secs(100), secs(30));
    LIMITERS
        .map(|(name, limiter)| {
            let load = [50.0, 90.0, 200.0, 100.0]
                .into_iter()
                .fold(Load::poisson(), |load, rate| load.rate(rate, phase));
            let server = || Server::new(2, Times::lognormal(ms(20), ms(1)));
            let (report, _) = simulate(limiter, server, &load);
            let part = report.during(2 * phase..3 * phase);
            let (goodput, p99) = (part.goodput(), quantile(&part, 0.99));
            table.row([name.into(), format!("{goodput:.0}"), millis(p99)]);
            (goodput, p99)
        })
        .into()
}

fn run(size: Size) -> Findings {
    let mut twice = Table::new([
        "2000/s for 1000/s",
        "good/s",
        "p50",
        "p99",
        "p99 and limit, second quarter",
        "last quarter",
    ]);
    let mut chart = Chart::new(
        "The slowest per cent at twice the capacity, in ms",
        "seconds",
    );
    let overload = overload(size, &mut twice, &mut chart);
    let mut nearly = Table::new(["900/s for 1000/s", "refused", "p99"]);
    let harm = harm(size, &mut nearly);
    let mut example = Table::new(["200/s for 100/s, after 90/s", "good/s", "p99"]);
    let driver = driver(size, &mut example);

    let ours = overload.last().unwrap();
    let (refused, p99_nearly) = *harm.last().unwrap();
    let (goodput, p99_example) = *driver.last().unwrap();
    let bars = vec![
        Bar {
            measure: "good answers a second, and p99, at twice the capacity".into(),
            published: "Envoy 995, 35 ms; Vegas 900, 39 ms; Gradient2 1000, 203 ms".into(),
            peers: format!(
                "Envoy {:.0}, {}; Vegas {:.0}, {}; Gradient2 {:.0}, {}",
                overload[2].goodput,
                millis(overload[2].p99),
                overload[0].goodput,
                millis(overload[0].p99),
                overload[1].goodput,
                millis(overload[1].last.0),
            ),
            ours: format!("{:.0}, {}", ours.goodput, millis(ours.p99)),
            bar: "995, 35 ms".into(),
            is_met: ours.goodput >= size.pick(995.0, 980.0)
                && ours.p99 <= size.pick(ms(35), ms(45)),
        },
        Bar {
            measure: "p99 and limit in the second quarter, and in the last".into(),
            published: "Gradient2: from 109 ms and 71 to 203 ms and 200".into(),
            peers: format!(
                "Gradient2 {}; {}",
                found(overload[1].second),
                found(overload[1].last)
            ),
            ours: format!("{}; {}", found(ours.second), found(ours.last)),
            bar: "no trend".into(),
            is_met: ours.second.0.abs_diff(ours.last.0) <= size.pick(ms(1), ms(5))
                && (ours.second.1 - ours.last.1).abs() <= size.pick(0.5, 2.0),
        },
        Bar {
            measure: "refused, and p99, at nine tenths of the capacity".into(),
            published: "Vegas 5 %; Envoy 0.5 %; Gradient2 0, 40 ms".into(),
            peers: format!(
                "Vegas {}; Envoy {}; Gradient2 {}, {}",
                percent(harm[0].0),
                percent(harm[2].0),
                percent(harm[1].0),
                millis(harm[1].1)
            ),
            ours: format!("{:.2} %, {}", 100.0 * refused, millis(p99_nearly)),
            bar: "0.1 %, 40 ms".into(),
            is_met: refused <= size.pick(0.001, 0.005) && p99_nearly <= size.pick(ms(40), ms(50)),
        },
        Bar {
            measure: "Netflix's driver: good answers a second, and p99, at twice the capacity"
                .into(),
            published: "Envoy 99, 64 ms; Vegas 100, 257 ms".into(),
            peers: format!(
                "Envoy {:.0}, {}; Vegas {:.0}, {}",
                driver[2].0,
                millis(driver[2].1),
                driver[0].0,
                millis(driver[0].1)
            ),
            ours: format!("{goodput:.1}, {}", millis(p99_example)),
            bar: "99, 64 ms".into(),
            is_met: goodput >= size.pick(99.0, 95.0) && p99_example <= size.pick(ms(64), ms(150)),
        },
    ];
    let text = "Poisson arrivals at a limit that refuses at once, above servers with an endless queue; defaults \
        throughout. The published figures are those of the peers' formulas, not of their code.";
    Findings {
        text: text.into(),
        tables: vec![twice, nearly, example],
        bars,
        charts: vec![chart],
    }
}
