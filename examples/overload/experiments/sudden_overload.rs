//! A load that steps from half of what a server can do to nearly half more than it can.

use std::time::Duration;

use steadfast::{
    adaptive::AdaptiveLayer,
    bulkhead::{BulkheadLayer, Queue},
    load_shed::LoadShedLayer,
    sim::{self, Load, Outcome, Report, Server, Times},
};
use tower::{Layer, util::BoxCloneService};

use super::{Bar, Chart, Experiment, Findings, Size, Stack, Table, moments, ms, percent, secs};

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "sudden_overload",
    title: "A sudden overload",
    source: "I. Cho et al., \"Overload Control for \u{b5}s-scale RPCs with Breakwater\", OSDI'20",
    run,
};

/// The published 10 us, and all that goes with it, is ten thousand times as long: the clock has a grain.
const SERVICE: Duration = ms(100);
const WORKERS: usize = 10;
const CAPACITY: f64 = 100.0;
/// How long calls are to wait, after which time they are refused, and when they are to be answered.
const TARGET: Duration = ms(800);
const LONGEST: Duration = ms(1600);
const IN_TIME: Duration = secs(2);

const STEP: Duration = secs(30);
/// Twenty service times.
const SLOT: Duration = secs(2);

/// Refuses who has waited for too long, which is the second half of Breakwater.
fn queue(server: Server) -> Stack {
    let queue = Queue::fifo(usize::MAX, LONGEST);
    let bulkhead = BulkheadLayer::builder(WORKERS).queue(queue).build();
    BoxCloneService::new(bulkhead.layer(server))
}

type Lane = (&'static str, fn(Server) -> Stack);

const LANES: [Lane; 3] = [
    ("nobody waits for more than 16 service times", queue),
    ("**steadfast**, Knee", |server| {
        let layer = AdaptiveLayer::builder().build().unwrap();
        BoxCloneService::new(layer.layer(server))
    }),
    ("**steadfast**, load shedding before that queue", |server| {
        // Those that are worked upon, and those that wait for as long as they are to.
        let calls = (CAPACITY * TARGET.as_secs_f64()) as usize + WORKERS;
        let layer = LoadShedLayer::builder().in_flight(calls).build().unwrap();
        BoxCloneService::new(layer.layer(queue(server)))
    }),
];

fn simulate(lane: fn(Server) -> Stack, seed: u64, length: Duration) -> Report {
    sim::run(seed, async {
        let server = Server::new(WORKERS, Times::exponential(SERVICE));
        let load = Load::poisson()
            .rate(0.5 * CAPACITY, STEP)
            .rate(1.4 * CAPACITY, length - STEP)
            .good_within(IN_TIME);
        load.send(lane(server), |_| ()).await
    })
}

/// What came of all runs in a slot of time.
struct Slot {
    /// Answered in time, of what can be done.
    goodput: f64,
    p99: Duration,
}

fn slots(reports: &[Report]) -> Vec<Slot> {
    let count = reports[0].by_slot(SLOT).count() as u32;
    let slot = |number: u32| {
        let parts = reports
            .iter()
            .map(|report| report.during(SLOT * number..SLOT * (number + 1)));
        let goodput: f64 = parts.clone().map(|part| part.goodput()).sum();
        let is_answered = |call: &&sim::Call| matches!(call.outcome, Outcome::Good | Outcome::Late);
        let answered = parts.flat_map(|part| part.calls().iter().filter(is_answered));
        let mut took: Vec<_> = answered.map(|call| call.took).collect();
        took.sort_unstable();
        Slot {
            goodput: goodput / reports.len() as f64 / CAPACITY,
            p99: took.get(took.len() * 99 / 100).copied().unwrap_or_default(),
        }
    };
    (0..count).map(slot).collect()
}

fn in_service_times(time: Duration) -> f64 {
    time.as_secs_f64() / SERVICE.as_secs_f64()
}

fn run(size: Size) -> Findings {
    let runs = size.pick(40, 4);
    let length = STEP + size.pick(secs(100), secs(40));
    let mut table = Table::new([
        "in service times",
        "p99 is steady after",
        "p99 at first",
        "in the end",
        "least goodput",
        "in the end",
    ]);
    let mut chart = Chart::new("The slowest per cent, in service times", "service times");
    let mut found = Vec::new();
    for (name, lane) in LANES {
        let reports: Vec<_> = (0..runs).map(|seed| simulate(lane, seed, length)).collect();
        let slots = slots(&reports);
        let points = slots.iter().enumerate().map(|(number, slot)| {
            let middle = (number as f64 + 0.5) * in_service_times(SLOT);
            (middle, in_service_times(slot.p99))
        });
        chart.line(name, points.collect());
        let stepped = &slots[(STEP.as_millis() / SLOT.as_millis()) as usize..];
        let last = &stepped[stepped.len() / 2..];
        let mean = |of: fn(&Slot) -> f64| moments(&last.iter().map(of).collect::<Vec<_>>()).0;
        let p99 = mean(|slot| in_service_times(slot.p99));
        let is_steady = |slot: &Slot| (in_service_times(slot.p99) / p99 - 1.0).abs() <= 0.1;
        let unsteady = stepped.iter().rposition(|slot| !is_steady(slot));
        let steady = unsteady.map_or(0.0, |last| (last + 1) as f64 * in_service_times(SLOT));
        let least = stepped
            .iter()
            .map(|slot| slot.goodput)
            .fold(f64::MAX, f64::min);
        let most = stepped
            .iter()
            .map(|slot| slot.p99)
            .max()
            .unwrap_or_default();
        table.row([
            name.into(),
            format!("{steady:.0}"),
            format!("{:.1}", in_service_times(stepped[0].p99)),
            format!("{p99:.1}"),
            percent(least),
            percent(mean(|slot| slot.goodput)),
        ]);
        found.push((steady, least, most));
    }
    let [aqm, _, ours] = found[..] else {
        unreachable!("three lanes")
    };
    let bars = vec![
        Bar {
            measure: "the p99 is steady, after a step to 1.4 times the capacity".into(),
            published: "Breakwater < 2,000 service times (20 ms); DAGOR 50,000; SEDA 158,000"
                .into(),
            peers: format!("the queue alone: after {:.0}", aqm.0),
            ours: format!("after {:.0} service times", ours.0),
            bar: "2,000 service times".into(),
            is_met: ours.0 < 2_000.0 && ours.2 <= IN_TIME,
        },
        Bar {
            measure: "least goodput after the step, of what can be done".into(),
            published: "no dip".into(),
            peers: format!("the queue alone {}", percent(aqm.1)),
            ours: percent(ours.1),
            bar: "95 %".into(),
            is_met: ours.1 >= size.pick(0.95, 0.85),
        },
    ];
    let text = "Ten workers with an exponential service time, and a load that steps from 0.5 to 1.4 times what they can do; \
        a call is good that is answered within 20 service times. Breakwater gives its callers credits by the queueing \
        delay, of 8 service times as a target, and drops what has waited for 16. Here a queue refuses what has waited for \
        16, and load shedding before it what is more than 8 service times' work; a refusal costs nothing, and callers \
        hold no credits. The p99 is steady from the slot of 20 service times on from which it stays within a tenth of what it \
        is in the end; means of 40 runs.\n\n\
        Breakwater's jobs take 10 \u{b5}s; here they take 100 ms, since the simulated clock has a grain of a millisecond, and all is compared \
        in service times. What the layers have of time constants, 20 ms from sampling to sampling and half a second of memory, is \
        not made longer with it: it is five service times here, and for jobs of 10 \u{b5}s would be far more than 2,000. The queue \
        alone keeps its callers in time as well, but each that it refuses has waited. Knee keeps nearly no queue at all, \
        and pays for it where service times scatter as much as these.";
    Findings {
        text: text.into(),
        tables: vec![table],
        bars,
        charts: vec![chart],
    }
}
