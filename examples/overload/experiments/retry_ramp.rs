//! A server one per cent over its limit, and retries that add as much each second.

use std::time::Duration;

use steadfast::{
    Error, Verdict,
    backoff::{Backoff, Jitter},
    bulkhead::{BulkheadLayer, Queue},
    classify::{AnyError, Classify, Failure, Hint},
    retry::RetryLayer,
    sim::{self, Answer, Fault, Link, Load, Outcome, Report, Server, Times},
};
use tower::{Layer, ServiceBuilder, util::BoxCloneService};

use super::{
    Bar, Chart, Experiment, Findings, Size, Stack, Table, Tally, ms,
    peers::{After, retrying},
    secs,
};

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "retry_ramp",
    title: "One per cent too much",
    source: "B. Beyer et al., \"Site Reliability Engineering\", chapters 21 and 22: the ramp of retries",
    run,
};

fn with_delay(
    classifier: impl Classify<Answer, Error<Fault>> + Clone + Send + Sync + 'static,
    inner: Stack,
) -> Stack {
    let retry = RetryLayer::builder()
        .max_attempts(10)
        .backoff(Backoff::constant(secs(1)).with_jitter(Jitter::None))
        .classifier(classifier)
        .build();
    BoxCloneService::new(retry.unwrap().layer(inner))
}

/// What the server refuses says whether it may be sent again.
fn as_told(result: Result<&Answer, &Error<Fault>>) -> Verdict {
    match result {
        Err(Error::Rejected(rejected)) if !rejected.is_retryable() => {
            Failure::overload().with_hint(Hint::Never).into()
        }
        other => AnyError.classify(other),
    }
}

#[derive(Clone, Copy)]
struct Lane {
    name: &'static str,
    client: fn(Stack) -> Stack,
    /// Whether the server says of what it refuses that it is not to be sent again.
    says_never: bool,
}

const LANES: [Lane; 3] = [
    Lane {
        name: "10 tries, 1 s apart",
        client: |inner| retrying(inner, 10, After(secs(1))),
        says_never: false,
    },
    Lane {
        name: "**steadfast**, default budget",
        client: |inner| with_delay(AnyError, inner),
        says_never: false,
    },
    Lane {
        name: "**steadfast**, \"overloaded; don't retry\"",
        client: |inner| with_delay(as_told, inner),
        says_never: true,
    },
];

/// What became of the calls, and the attempts that were sent. A tenth of the published load.
fn simulate(lane: Lane, length: Duration) -> (Report, Tally) {
    sim::run(10_100, async {
        // 1,000 a second: 100 at once, each of 100 ms, and as many that wait.
        let queue = Queue::fifo(100, secs(1));
        let server = ServiceBuilder::new()
            .map_err(move |error: Error<Fault>| match error {
                Error::Rejected(rejected) if lane.says_never => rejected.non_retryable().into(),
                other => other,
            })
            .layer(BulkheadLayer::builder(100).queue(queue).build())
            .service(Server::new(100, Times::constant(ms(100))));
        let sent = Tally::default();
        let remote = ServiceBuilder::new()
            .layer(sent.layer())
            .layer(Link::new())
            .service(server);
        let load = Load::poisson().rate(1_010.0, length);
        let stack = (lane.client)(BoxCloneService::new(remote));
        (load.send(stack, |_| ()).await, sent)
    })
}

fn run(size: Size) -> Findings {
    let length = secs(size.pick(300, 30));
    // Long enough for the calls that chance brings to make no difference, and the end of it.
    let (late, last) = (secs(size.pick(100, 10)), length - secs(10));
    let mut table = Table::new([
        "a second",
        "sent after 1 s",
        "10 s",
        "in the end",
        "good at the first try",
        "good",
    ]);
    let mut chart = Chart::new("Attempts a second", "seconds");
    let mut found = Vec::new();
    for lane in LANES {
        let (report, sent) = simulate(lane, length);
        let during = |second: u64| sent.during(secs(second)..secs(second + 1));
        let part = report.during(late..length);
        let is_first = |call: &&sim::Call| call.outcome == Outcome::Good && call.took < secs(1);
        let first = part.calls().iter().filter(is_first).count() as f64;
        let first = first / (length - late).as_secs_f64();
        let end = sent.during(last..length) as f64 / 10.0;
        table.row([
            lane.name.into(),
            during(1).to_string(),
            during(10).to_string(),
            format!("{end:.0}"),
            format!("{first:.0}"),
            format!("{:.0}", part.goodput()),
        ]);
        let seconds = 0..length.as_secs();
        let points = seconds.map(|second| (second as f64 + 0.5, during(second) as f64));
        chart.line(lane.name, points.collect());
        let calls = report.during(last..length).offered() as f64 / 10.0;
        found.push((end / calls, first));
    }
    let (peers, by_default, ours) = (found[0], found[1], found[2]);
    let most = by_default.0.max(ours.0);
    let bars = vec![
        Bar {
            measure: "attempts for each call".into(),
            published: "+1 % each second".into(),
            peers: format!("10 tries: {:.2}", peers.0),
            ours: format!("{most:.2}, by default and as told"),
            bar: "1.1".into(),
            is_met: most <= 1.1,
        },
        Bar {
            measure: "good answers at the first try, a second".into(),
            published: "-".into(),
            peers: format!(
                "10 tries: {:.0}; default budget: {:.0}",
                peers.1, by_default.1
            ),
            ours: format!("{:.0}, as told", ours.1),
            bar: "990 (of a published 9,900)".into(),
            is_met: ours.1 >= 990.0,
        },
    ];
    let text = "A server can do 1,000 calls a second, and is sent 1,010; what it refuses is tried again a second later, \
        up to ten times. A tenth of the published load.\n\n\
        The default budget holds the load to 1.1, but spends what it has: retries then take the places of first \
        tries, and nobody gains. A server that has too much to do says so, with `Rejected::non_retryable`, which \
        over HTTP and gRPC becomes a response that forbids to come back: its clients then send each call once.";
    Findings {
        text: text.into(),
        tables: vec![table],
        bars,
        charts: vec![chart],
    }
}
