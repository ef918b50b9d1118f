//! A service that gets slower, or loses half of what it can do, from one moment to the next; and gets it back.

use std::time::Duration;

use steadfast::sim::{self, Load, Report, Server, Times};
use tower::util::BoxCloneService;

use super::{
    Bar, Experiment, Findings, Size, Table, Trace,
    limiters::{FOUND, Limiter},
    ms, percent, secs,
};

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "step_changes",
    title: "A service that changes",
    source: "the promise of this crate; the limits of Netflix and Envoy",
    run,
};

/// In which time a change is to have been followed.
const IN_TIME: Duration = secs(2);

/// So many calls at a time, each of which takes so many milliseconds.
#[derive(Clone, Copy)]
struct Service {
    workers: usize,
    millis: u64,
}

impl Service {
    fn times(self) -> Times {
        let time = ms(self.millis);
        Times::normal(time, time / 20)
    }

    /// In calls a second.
    fn capacity(self) -> f64 {
        self.workers as f64 * 1000.0 / self.millis as f64
    }
}

/// A service that is well, then not, and then well again.
struct Change {
    name: &'static str,
    back: &'static str,
    well: Service,
    ill: Service,
    offered: f64,
}

const fn service(workers: usize, millis: u64) -> Service {
    Service { workers, millis }
}

const CHANGES: [Change; 3] = [
    Change {
        name: "10 ms instead of 1, 4000/s for 2000/s",
        back: "1 ms again, 4000/s for 20000/s",
        well: service(20, 1),
        ill: service(20, 10),
        offered: 4000.0,
    },
    Change {
        name: "10 ms instead of 1, 2000/s for 5000/s",
        back: "1 ms again, 2000/s for 50000/s",
        well: service(50, 1),
        ill: service(50, 10),
        offered: 2000.0,
    },
    Change {
        name: "20 at a time instead of 40, 4000/s for 1000/s",
        back: "40 again, 4000/s for 2000/s",
        well: service(40, 20),
        ill: service(20, 20),
        offered: 4000.0,
    },
];

/// How a change was followed.
struct Followed {
    /// Of what could be done from then on when it is to have been followed.
    goodput: f64,
    p99: Duration,
    /// The least limit after the change, and the mean in the end.
    least: f64,
    limit: f64,
}

impl Followed {
    fn cell(&self) -> String {
        format!(
            "{}, {} ms; {:.0}, {:.0}",
            percent(self.goodput),
            self.p99.as_millis(),
            self.least,
            self.limit
        )
    }
}

fn simulate(limiter: Limiter, change: &Change, phase: Duration) -> (Report, Trace) {
    let (well, ill) = (change.well, change.ill);
    sim::run(300, async {
        let server = Server::new(well.workers, well.times());
        for (at, service) in [(phase, ill), (2 * phase, well)] {
            let server = server.clone();
            sim::at(at, move || {
                server.set_workers(service.workers);
                server.set_times(service.times());
            });
        }
        let load = Load::poisson().rate(change.offered, 3 * phase);
        limiter(BoxCloneService::new(server)).under(&load).await
    })
}

/// A row for what changes, and one for when it changes back.
fn follow(limiter: Limiter, change: &Change, phase: Duration) -> [Followed; 2] {
    let (report, limits) = simulate(limiter, change, phase);
    [(1, change.ill), (2, change.well)].map(|(number, service)| {
        let (from, to) = (phase * number, phase * (number + 1));
        let part = report.during(from + IN_TIME..to);
        let offered = part.offered() as f64 / (phase - IN_TIME).as_secs_f64();
        let last = limits.during(to - phase / 3..to);
        Followed {
            goodput: part.goodput() / service.capacity().min(offered),
            p99: part.quantile(0.99).unwrap_or_default(),
            least: limits.during(from..to).into_iter().fold(f64::MAX, f64::min),
            limit: last.iter().sum::<f64>() / last.len() as f64,
        }
    })
}

fn run(size: Size) -> Findings {
    let phase = secs(size.pick(30, 5));
    let mut table = Table::new([
        "goodput, p99; least limit, limit in the end",
        "Vegas",
        "Gradient2",
        "Envoy's gradient",
        "**steadfast**, Knee",
    ]);
    // Of each limiter, all changes.
    let followed = FOUND.map(|(_, limiter)| {
        let both = CHANGES.iter().map(|change| follow(limiter, change, phase));
        both.collect::<Vec<_>>()
    });
    for (number, change) in CHANGES.iter().enumerate() {
        for (way, name) in [change.name, change.back].into_iter().enumerate() {
            let cells = followed.each_ref().map(|of| of[number][way].cell());
            let [vegas, gradient2, envoy, ours] = cells;
            table.row([name.into(), vegas, gradient2, envoy, ours]);
        }
    }
    let worst = |of: &[[Followed; 2]]| {
        let goodput = of.iter().flatten().map(|followed| followed.goodput);
        goodput.fold(f64::MAX, f64::min)
    };
    let [vegas, gradient2, envoy, ours] = followed.each_ref().map(|of| worst(of));
    let all = || followed[3].iter().flatten();
    let least = all()
        .map(|followed| followed.least)
        .fold(f64::MAX, f64::min);
    let longest = CHANGES
        .iter()
        .zip(&followed[3])
        .flat_map(|(change, [there, back])| {
            let longer = |followed: &Followed, service: Service| {
                followed.p99.as_secs_f64() / ms(service.millis).as_secs_f64()
            };
            [longer(there, change.ill), longer(back, change.well)]
        });
    let longest = longest.fold(0.0, f64::max);
    let bars = vec![
        Bar {
            measure: "from 2 s after a change on, at the worst: done of what can be done".into(),
            published: "Gradient2 averages 600 samples; Envoy measures each 60 s".into(),
            peers: format!(
                "Vegas {}, Gradient2 {}, Envoy {}",
                percent(vegas),
                percent(gradient2),
                percent(envoy)
            ),
            ours: percent(ours),
            bar: "98 %".into(),
            is_met: ours >= size.pick(0.98, 0.95),
        },
        Bar {
            measure: "p99 from then on, in service times, and the least limit ever".into(),
            published: "-".into(),
            peers: "-".into(),
            ours: format!("{longest:.1}; {least:.0}"),
            bar: "2; more than 1".into(),
            is_met: longest <= 2.0 && least > 1.0,
        },
    ];
    let text = "A service is well for half a minute, ill for another and well for a third. Each cell has how much it did, from 2 s \
        after the change on, of what it could have done; the p99; the least limit after the change, and its mean in the last \
        ten seconds. The normal service times have a deviation of a twentieth; 1 ms is one tick of the clock, so \
        that a call of that takes up to two.\n\n\
        To be slower is not to be overloaded, which a limit that compares a latency with that of before cannot tell. Knee \
        lowers its limit at once, looks whether less gets done, and goes back. Where a service is well again and \
        the limit is not reached, it stays where it is.";
    Findings {
        text: text.into(),
        tables: vec![table],
        bars,
        charts: vec![],
    }
}
