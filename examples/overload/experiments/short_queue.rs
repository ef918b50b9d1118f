//! Queues before a service that is overloaded, and before one that is sent bursts.

use std::time::Duration;

use steadfast::{
    bulkhead::{BulkheadLayer, Queue},
    sim::{self, Load, Outcome, Part, Report, Server, Times},
};
use tower::Layer;

use super::{Bar, Experiment, Findings, Size, Table, ms, secs};

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "short_queue",
    title: "A queue that stays short",
    source: "B. Maurer, \"Fail at Scale\", ACM Queue, 2015, and folly's Codel",
    run,
};

/// Twenty at a time, of 20 ms: 1,000 a second.
const WORKERS: usize = 20;
const TAKES: Duration = ms(20);
/// When a queue that is to stand does.
const STANDS: Duration = ms(250);

fn simulate(queue: Queue, load: &Load) -> Report {
    sim::run(2015, async {
        let layer = BulkheadLayer::builder(WORKERS).queue(queue).build();
        let server = Server::new(WORKERS, Times::constant(TAKES));
        load.send(layer.layer(server), |_| ()).await
    })
}

/// How long those waited who were served: no longer than so in this share of the cases.
fn waited(part: &Part<'_>, share: f64) -> Duration {
    let took = part.quantile(share).unwrap_or_default();
    took.saturating_sub(TAKES)
}

fn run(size: Size) -> Findings {
    let length = size.pick(secs(60), secs(5));
    // A hundred at once: the last is served after 80 ms.
    let bursts = (0..size.pick(100, 10)).fold(Load::even(), |load, _| {
        load.rate(100_000.0, ms(1)).rate(0.0, ms(199))
    });
    let long = secs(60);
    let lanes = [
        ("FIFO", Queue::fifo(200, long)),
        ("FIFO, for 10 ms at most", Queue::fifo(200, ms(10))),
        ("LIFO", Queue::lifo(200, long)),
        ("**steadfast**, CoDel", Queue::codel(200, long)),
        (
            "**steadfast**, CoDel and adaptive LIFO",
            Queue::codel_adaptive_lifo(200, long),
        ),
    ];
    let mut table = Table::new([
        "",
        "waits at 2 times, p50 and p99",
        "good/s",
        "at 5 times",
        "good/s",
        "of 10,000 in bursts, refused",
    ]);
    let mut found = Vec::new();
    for (name, queue) in lanes {
        let overloads =
            [2000.0, 5000.0].map(|rate| simulate(queue, &Load::poisson().rate(rate, length)));
        let overloads = overloads
            .each_ref()
            .map(|report| report.during(STANDS..length));
        let burst = simulate(queue, &bursts);
        let refused = burst
            .whole()
            .count(|outcome| matches!(outcome, Outcome::Refused(_)));
        let millis = |time: Duration| format!("{} ms", time.as_millis());
        let waits = overloads.each_ref().map(|report| {
            format!(
                "{}, {}",
                millis(waited(report, 0.5)),
                millis(waited(report, 0.99))
            )
        });
        let goodput = overloads.each_ref().map(|part| part.goodput());
        let ([waits_2, waits_5], [good_2, good_5]) =
            (waits, goodput.map(|good| format!("{good:.0}")));
        table.row([
            name.into(),
            waits_2,
            good_2,
            waits_5,
            good_5,
            refused.to_string(),
        ]);
        let p99 = overloads.iter().map(|part| waited(part, 0.99)).max();
        let goodput = goodput.into_iter().fold(f64::MAX, f64::min);
        found.push((p99.unwrap_or_default(), goodput, refused));
    }
    let [fifo, short, _, codel, adaptive] = found[..] else {
        unreachable!("five lanes")
    };
    let both = [codel, adaptive];
    let listed = |of: fn(&(Duration, f64, u64)) -> String| both.each_ref().map(of).join(" and ");
    let bars = vec![
        Bar {
            measure: "p99 of the wait under overload, and good answers a second of 1,000".into(),
            published: "what has waited for 10 ms is refused".into(),
            peers: format!("FIFO {} ms, {:.0}", fifo.0.as_millis(), fifo.1),
            ours: listed(|(p99, good, _)| format!("{} ms, {good:.0}", p99.as_millis())),
            bar: "10 ms, 990".into(),
            is_met: both
                .iter()
                .all(|(p99, good, _)| *p99 <= ms(10) && *good >= 990.0),
        },
        Bar {
            measure: "refused of bursts that are over within 100 ms".into(),
            published: "none".into(),
            peers: format!("FIFO, for 10 ms at most: {}", short.2),
            ours: listed(|(_, _, refused)| refused.to_string()),
            bar: "none".into(),
            is_met: both.iter().all(|(_, _, refused)| *refused == 0),
        },
    ];
    let text = "A bulkhead of twenty calls of 20 ms with a queue of 200, at twice and five times what it can do, from when the queue \
        stands; and \
        with nothing but a hundred calls at once, five times a second. The targets of CoDel are Facebook's, 5 ms and 100 ms.\n\n\
        A bound on the wait that is short enough for an overload refuses most of a burst, of which all could have been served. CoDel \
        tells them apart.";
    Findings {
        text: text.into(),
        tables: vec![table],
        bars,
        charts: vec![],
    }
}
