//! Retry policies against a service that fails at random, and what becomes of them when the same load comes
//! from more clients.

use std::sync::{Arc, Mutex};

use steadfast::{
    backoff::Backoff,
    budget::Budget,
    retry::RetryLayer,
    sim::{self, Link, Load, Server, Times},
};
use tower::{Layer, ServiceBuilder, ServiceExt, util::BoxCloneService};

use super::{
    Bar, Experiment, Findings, Size, Stack, Table, ms,
    peers::{Always, PerAttempt, RetryBreaker, retrying},
    secs,
};

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "retry_policies",
    title: "Retry policies, and the number of clients",
    source: "M. Brooker, \"Fixing retries with token buckets and circuit breakers\", 2022, and its simulator",
    run,
};

/// Made once a run: makes the stack of each client.
type Policy = fn() -> Box<dyn Fn(Stack) -> Stack>;

/// A client with a retry of this crate: four attempts, as the others have, without delays.
fn with(budget: Budget) -> impl Fn(Stack) -> Stack {
    move |inner| {
        let retry = RetryLayer::builder()
            .max_attempts(4)
            .backoff(Backoff::none())
            .budget(budget.clone())
            .build();
        BoxCloneService::new(retry.unwrap().layer(inner))
    }
}

fn throttle() -> Budget {
    Budget::grpc_throttle(9, 0.15).unwrap()
}

const NONE: Policy = || Box::new(|inner| inner);
const THREE: Policy = || Box::new(|inner| retrying(inner, 4, Always));
const BUCKET: Policy = || Box::new(|inner| retrying(inner, 4, PerAttempt::new(0.1, 5.0, 5.0)));
const BREAKER: Policy = || Box::new(|inner| retrying(inner, 4, RetryBreaker::new(0.1)));
const DEFAULT: Policy = || Box::new(|inner| with(Budget::default())(inner));
const NO_FLOOR: Policy = || Box::new(|inner| with(Budget::default().with_floor(0))(inner));
const THROTTLE: Policy = || Box::new(|inner| with(throttle())(inner));
const SHARED_DEFAULT: Policy = || Box::new(with(Budget::default()));
const SHARED_THROTTLE: Policy = || Box::new(with(throttle()));

/// A load, and by how many clients it is sent.
#[derive(Clone, Copy)]
struct Setup {
    clients: u64,
    rate: f64,
    secs: u64,
    runs: u64,
}

/// Shares of the calls.
struct Found {
    success: f64,
    load: f64,
}

impl Found {
    fn cell(&self) -> String {
        format!("{:.4} at {:.3}", self.success, self.load)
    }
}

fn simulate(failing: f64, setup: Setup, policy: Policy) -> Found {
    let (mut offered, mut good, mut attempts) = (0, 0, 0);
    for run in 0..setup.runs {
        let (report, work) = sim::run(2022 + run, async {
            let server = Server::new(usize::MAX, Times::constant(ms(0))).failing(failing);
            let network = Link::new().delay(Times::exponential(ms(10)));
            let remote = ServiceBuilder::new().layer(network).service(server.clone());
            let remote = BoxCloneService::new(remote);
            let wrap = policy();
            let clients = (0..setup.clients).map(|_| Mutex::new(wrap(remote.clone())));
            let clients: Arc<[_]> = clients.collect();
            let load = Load::poisson().rate(setup.rate, secs(setup.secs));
            let report = load.each(move |arrival| {
                let client = &clients[(arrival.random % clients.len() as u64) as usize];
                let client = client.lock().unwrap().clone();
                async move { client.oneshot(()).await.into() }
            });
            (report.await, server.work())
        });
        offered += report.whole().offered();
        good += report.whole().good();
        attempts += work.arrived;
    }
    Found {
        success: good as f64 / offered as f64,
        load: attempts as f64 / offered as f64,
    }
}

fn run(size: Size) -> Findings {
    let usual = Setup {
        clients: 100,
        rate: 1000.0,
        secs: 10,
        runs: size.pick(10, 1),
    };
    let policies = [
        ("none", NONE),
        ("3 retries", THREE),
        ("bucket fed by attempts", BUCKET),
        ("no retries above 10 % failures", BREAKER),
        ("**steadfast**, default budget", DEFAULT),
        ("**steadfast**, `grpc_throttle(9, 0.15)`", THROTTLE),
    ];
    let mut failures = Table::new([
        "each client has its own",
        "f = 0.02",
        "0.1",
        "0.2",
        "0.5",
        "0.75",
    ]);
    for (name, policy) in size.pick(&policies[..], &[]) {
        let at = |failing| simulate(failing, usual, *policy).cell();
        failures.row([
            (*name).into(),
            at(0.02),
            at(0.1),
            at(0.2),
            at(0.5),
            at(0.75),
        ]);
    }
    let of = |clients| Setup {
        clients,
        rate: 100.0,
        secs: 10,
        runs: size.pick(20, 2),
    };
    let mut counts = Table::new([
        "f = 0.5: load; f = 0.02: success",
        "10 clients",
        "100",
        "1,000",
    ]);
    let sharing = [
        ("bucket fed by attempts", BUCKET),
        ("no retries above 10 % failures", BREAKER),
        ("**steadfast**, default budget, each its own", DEFAULT),
        ("**steadfast**, default budget, shared", SHARED_DEFAULT),
        (
            "**steadfast**, `grpc_throttle(9, 0.15)`, shared",
            SHARED_THROTTLE,
        ),
    ];
    for (name, policy) in size.pick(&sharing[..], &[]) {
        let at = |clients| {
            let load = simulate(0.5, of(clients), *policy).load;
            let success = simulate(0.02, of(clients), *policy).success;
            format!("{load:.2}; {success:.4}")
        };
        counts.row([(*name).into(), at(10), at(100), at(1000)]);
    }

    let (tenth, half) = (
        simulate(0.1, usual, THROTTLE),
        simulate(0.5, usual, THROTTLE),
    );
    let most = simulate(0.75, usual, THROTTLE).load.max(half.load);
    let (bucket, bucket_half) = (simulate(0.1, usual, BUCKET), simulate(0.5, usual, BUCKET));
    let (many, few) = (
        simulate(0.5, of(1000), SHARED_DEFAULT).load,
        simulate(0.02, of(1000), SHARED_DEFAULT).success,
    );
    let long = Setup {
        secs: 2_000,
        runs: 1,
        ..of(1000)
    };
    let alone = |failing| simulate(failing, size.pick(long, of(1000)), NO_FLOOR);
    let (alone_half, alone_few) = (alone(0.5).load, alone(0.02).success);
    let bars = vec![
        Bar {
            measure: "success and load at f = 0.1".into(),
            published: "bucket 0.9913 at 1.104".into(),
            peers: format!("bucket {}", bucket.cell()),
            ours: tenth.cell(),
            bar: "0.9913 at 1.10".into(),
            is_met: tenth.success >= 0.9913 && tenth.load < 1.105,
        },
        Bar {
            measure: "load at f = 0.5 and above".into(),
            published: "bucket 1.142".into(),
            peers: format!("bucket {:.3}", bucket_half.load),
            ours: format!("{most:.3}"),
            bar: "1.05".into(),
            is_met: most <= 1.05,
        },
        Bar {
            measure: "1,000 clients: load at f = 0.5, success at f = 0.02".into(),
            published: "bucket 1.882; breaker 0.9783".into(),
            peers: format!("bucket {:.2}", simulate(0.5, of(1000), BUCKET).load),
            ours: format!("{many:.3}, {few:.4}, with one budget for all"),
            bar: "1.2, 0.995".into(),
            is_met: many <= 1.2 && few >= 0.995,
        },
    ];
    let text = format!(
        "1,000 calls a second of which each attempt fails with probability f, by itself; messages take an \
         exponential 10 ms each way. 100 clients, four attempts for all, runs of ten seconds. A cell is the share \
         of calls that succeed, at so many attempts for each call.\n\n\
         Where attempts fail by themselves success is the load times 1 - f, whatever the policy: 0.9913 at f = 0.1 \
         takes 1.1014 attempts, and is met where the load is 1.10 to two digits. The default budget keeps below \
         that by intent. What meets both bars forgives a few failures and then none: the throttle of gRPC, \
         with a ratio above the failures that it is to forgive. The default budget's floor of one retry a second is \
         a tenth of the load of such a small client; it is for clients whose load it is not, and `with_floor(0)` \
         takes it off.\n\n\
         In the second table 100 calls a second come from more and more clients. A client that makes one call in \
         ten seconds cannot know whether it has met one failure in fifty or one in two, so no policy of clients \
         that share nothing can hold both bars: to retry with probability r makes a load of at least 1 + r / 2 at \
         f = 0.5, and a success of less than 0.98 + 0.02 r at f = 0.02; the first asks for r below 0.4, the second for \
         0.75. Clients of one process share a `Budget`, by a clone, and hold both. Left alone they do in time, \
         as each comes to know the service: over {} s without a floor, {alone_half:.2} and {alone_few:.4}.",
        size.pick(long, of(1000)).secs,
    );
    Findings {
        text,
        tables: vec![failures, counts],
        bars,
        charts: Vec::new(),
    }
}
