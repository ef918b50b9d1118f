//! Retries above retries: what one call at the top makes of work at the bottom.

use steadfast::{
    Context,
    backoff::Backoff,
    budget::Budget,
    retry::RetryLayer,
    sim::{self, Link, Load, Server, Times},
};
use tower::{
    Layer, ServiceExt,
    util::{BoxCloneService, service_fn},
};

use super::{
    Bar, Experiment, Findings, Size, Stack, Table, ms,
    peers::{Always, retrying},
    secs,
};

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "nested_retries",
    title: "Retries above retries",
    source: "M. Brooker, \"Timeouts, retries, and backoff with jitter\", Amazon Builders' Library; B. Beyer et al., \
             \"Site Reliability Engineering\", chapters 21 and 22",
    run,
};

/// One service of the chain, around those below it.
type Tier = fn(Stack, u32) -> Stack;

fn by_default(inner: Stack, attempts: u32) -> Stack {
    let retry = RetryLayer::builder()
        .max_attempts(attempts)
        .backoff(Backoff::none())
        .budget(Budget::default())
        .build();
    BoxCloneService::new(retry.unwrap().layer(inner))
}

/// Each tier is a process of its own.
fn remote(inner: Stack, attempts: u32) -> Stack {
    by_default(BoxCloneService::new(Link::new().layer(inner)), attempts)
}

/// So here, but a server that is called by one that retries leaves it to that.
fn remote_at_the_edge(inner: Stack, attempts: u32) -> Stack {
    let served = service_fn(move |()| {
        let context = Context::current().with_retried_above(true);
        context.scope(inner.clone().oneshot(()))
    });
    by_default(BoxCloneService::new(Link::new().layer(served)), attempts)
}

/// Attempts at the bottom, for each call at the top; and the share of the calls that succeeds.
fn simulate(tier: Tier, tiers: u32, attempts: u32, failing: f64, length: u64) -> (f64, f64) {
    sim::run(243, async {
        let server = Server::new(usize::MAX, Times::constant(ms(1))).failing(failing);
        let bottom: Stack = BoxCloneService::new(server.clone());
        let top = (0..tiers).fold(bottom, |stack, _| tier(stack, attempts));
        let load = Load::poisson().rate(1_000.0, secs(length));
        let report = load.send(top, |_| ()).await;
        let work = server.work().arrived as f64 / report.whole().offered() as f64;
        (work, report.whole().good_share())
    })
}

fn run(size: Size) -> Findings {
    let length = size.pick(20, 1);
    let every: Tier = |inner, attempts| retrying(inner, attempts, Always);
    let chains: [(&str, Tier, u32, u32); 5] = [
        ("5 tiers of 3 attempts", every, 5, 3),
        ("3 tiers of 4 attempts", every, 3, 4),
        ("**steadfast**, 5 tiers of one process", by_default, 5, 3),
        ("**steadfast**, 5 processes, each retries", remote, 5, 3),
        (
            "**steadfast**, 5 processes, the first retries",
            remote_at_the_edge,
            5,
            3,
        ),
    ];
    let shares = size.pick(&[0.05, 0.1, 0.15, 0.2, 0.5, 1.0][..], &[0.1, 0.5]);
    let mut table = Table::new([
        "load, success",
        "f = 0.05",
        "0.1",
        "0.15",
        "0.2",
        "0.5",
        "1",
    ]);
    let mut worst = Vec::new();
    for (name, tier, tiers, attempts) in chains {
        let mut row = vec![name.to_owned()];
        let mut most = 0.0_f64;
        for &failing in shares {
            let length = if failing > 0.5 { 1 } else { length };
            let (load, success) = simulate(tier, tiers, attempts, failing, length);
            most = most.max(load);
            row.push(format!("{load:.2}, {success:.3}"));
        }
        worst.push(most);
        row.resize(7, "-".to_owned());
        table.row(<[String; 7]>::try_from(row).expect("seven"));
    }
    let peers = format!("{:.0}; {:.0}", worst[0], worst[1]);
    let bar = |measure: &str, ours: f64, bar: f64, peers: String| Bar {
        measure: measure.into(),
        published: "243; 64; 1.1 with a budget at one point".into(),
        peers,
        ours: format!("{ours:.2}"),
        bar: format!("{bar}"),
        is_met: ours <= bar,
    };
    let bars = vec![
        bar(
            "work at the bottom of 5 tiers, one process",
            worst[2],
            1.1,
            peers.clone(),
        ),
        bar("the same, 5 processes", worst[4], 1.1, peers),
    ];
    let text = "Each of the tiers tries again what failed below it; of the attempts at the bottom a share f fails. \
        1,000 calls a second.\n\n\
        In one process the outermost retry has the say, and its budget is the only one that is drawn on. Between \
        processes that is not told by itself: each tier then adds its tenth, and where failures are frequent but not \
        general these multiply: to 1.34 here, and not to 243. A server whose callers retry says so with \
        `Context::with_retried_above`, around what it does for them, and leaves it to them.";
    Findings {
        text: text.into(),
        tables: vec![table],
        bars,
        charts: Vec::new(),
    }
}
