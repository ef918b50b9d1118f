//! Tasks that call an overloaded service several times each, and fail if one of the calls does.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use steadfast::{
    Error,
    bulkhead::{BulkheadLayer, Queue},
    load_shed::{LoadShedBuilder, LoadShedLayer},
    sim::{self, Answer, Fault, Load, Outcome, Server, Times},
};
use tower::{Layer, ServiceExt, util::BoxCloneService};

use super::{Bar, Experiment, Findings, Size, Table, ms, percent, secs};

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "several_calls",
    title: "Several calls to an overloaded service",
    source: "H. Zhou et al., \"Overload Control for Scaling WeChat Microservices\" (DAGOR), SoCC'18",
    run,
};

/// Three servers of five workers and 20 ms: 750 calls a second, of twice as many.
const SERVERS: u64 = 3;
const WORKERS: usize = 5;
const SATURATED: f64 = 750.0;
const OFFERED: f64 = 1500.0;
const BEST: f64 = SATURATED / OFFERED;
const RESENDS: u32 = 3;

/// A server, called for a user.
type ForUser = BoxCloneService<u64, Answer, Error<Fault>>;

type Lane = (&'static str, fn(Server) -> ForUser);

/// Those that are worked upon, and twice as many.
fn shedding() -> LoadShedBuilder {
    LoadShedLayer::builder().in_flight(3 * WORKERS)
}

const LANES: [Lane; 4] = [
    ("CoDel", |server| {
        let queue = Queue::codel(1_000, secs(60));
        let layer = BulkheadLayer::builder(WORKERS).queue(queue).build();
        BoxCloneService::new(layer.layer(server))
    }),
    ("load shedding, at random", |server| {
        BoxCloneService::new(shedding().build().unwrap().layer(server))
    }),
    ("**steadfast**, by user, and none spared", |server| {
        let by_user = shedding().cohort_by(|user: &u64| *user).seed(2018);
        let layer = by_user.min_admitted_share(0.0).build().unwrap();
        BoxCloneService::new(layer.layer(server))
    }),
    ("**steadfast**, by user", |server| {
        // The servers have the same seed, and so agree on the users.
        let by_user = shedding().cohort_by(|user: &u64| *user).seed(2018);
        BoxCloneService::new(by_user.build().unwrap().layer(server))
    }),
];

/// Which share of the tasks succeeds that make so many calls each, one after the other.
fn simulate(protected: fn(Server) -> ForUser, calls: u32, length: Duration) -> f64 {
    sim::run(2018, async {
        let server = |_| protected(Server::new(WORKERS, Times::normal(ms(20), ms(2))));
        let servers: Vec<_> = (0..SERVERS).map(server).collect();
        let servers = Arc::new(Mutex::new(servers));
        let random = Arc::new(sim::random());
        let load = Load::poisson()
            .rate(OFFERED / f64::from(calls), length)
            .good_within(ms(500));
        let report = load.each(|task| {
            let (servers, random) = (Arc::clone(&servers), Arc::clone(&random));
            async move {
                for _ in 0..calls {
                    for resend in 0.. {
                        let server = random.below(SERVERS) as usize;
                        let server = servers.lock().unwrap()[server].clone();
                        match server.oneshot(task.random).await {
                            Ok(_) => break,
                            Err(_) if resend < RESENDS => {}
                            failed => return failed.into(),
                        }
                    }
                }
                Outcome::Good
            }
        });
        report.await.during(secs(5)..length).good_share()
    })
}

fn run(size: Size) -> Findings {
    let length = secs(size.pick(125, 15));
    let mut table = Table::new(["tasks that succeed", "M^1", "M^2", "M^3", "M^4"]);
    let mut found = Vec::new();
    for (name, protected) in LANES {
        let shares = [1, 2, 3, 4].map(|calls| simulate(protected, calls, length));
        let [one, two, three, four] = shares.map(percent);
        table.row([name.into(), one, two, three, four]);
        found.push(shares);
    }
    let [codel, at_random, _, ours] = found[..] else {
        unreachable!("four lanes")
    };
    let list = |shares: [f64; 4]| shares.map(percent).join(", ");
    let bars = vec![Bar {
        measure: "tasks of one to four calls that succeed, at twice what can be done".into(),
        published: "the best is 50.0 %; at random 0.5^k; DAGOR half more than CoDel at M^2".into(),
        peers: format!("CoDel {}; at random {}", list(codel), list(at_random)),
        ours: list(ours),
        bar: "95 % of the best, 47.5 %".into(),
        is_met: ours
            .iter()
            .all(|share| *share >= size.pick(0.95, 0.93) * BEST),
    }];
    let text = "A service of three servers does 750 calls a second, and is sent 1,500, if none is sent again. They are \
        those of tasks, one to four each, one after the other; a task has 500 ms, and fails with its \
        first call that fails. One that is refused is sent again at once, to any of the servers, up to three times.\n\n\
        Where each call is decided by itself, the more calls a task makes the less comes of those that were answered. \
        With `cohort_by` all calls of a user are decided alike, by all servers: whose first call is \
        let in has the others let in, too. One in a hundred of what is to be refused passes by default, which is no use to a \
        task of several calls, and is what is lost beside the row above it.";
    Findings {
        text: text.into(),
        tables: vec![table],
        bars,
        charts: vec![],
    }
}
