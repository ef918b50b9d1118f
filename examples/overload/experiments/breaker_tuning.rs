//! How long a breaker should stay open: against a model that is solved, not simulated.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use steadfast::{
    Error, Verdict,
    backoff::{Backoff, Jitter},
    circuit_breaker::{CircuitBreakerBuilder, CircuitBreakerLayer},
    classify::{AnyError, Classify},
    retry::RetryLayer,
    sim::{self, Random},
};
use tokio::{task::JoinSet, time::sleep};
use tower::{
    Layer, ServiceExt,
    util::{BoxCloneService, service_fn},
};

use super::{Bar, Experiment, Findings, Size, Table, markov, moments, secs};

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "breaker_tuning",
    title: "How long to stay open",
    source: "N. Mendonça et al., \"Model-Based Analysis of Microservice Resiliency Patterns\", ICSA'20, and its \
             models",
    run,
};

/// What a client of the paper's does between its calls.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Policy {
    /// Calls again.
    Immediate,
    /// Tries five times more, 5 s after the first failure and 10 s after the others.
    Retry,
    /// Opens after two failures in a row, for so many seconds, and closes after one good probe.
    Breaker { open: f64, doubles: bool },
    /// Opens after one connection that fails, for so many seconds; what is slow to answer is connected.
    ByConnection { open: f64 },
}

/// What the client's responses cost in the mean: seconds in all, and seconds of waiting for the server.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cost {
    pub(super) total: f64,
    pub(super) contention: f64,
}

/// The server: it fails after so many requests, and is repaired after an exponential time. Who calls it
/// meanwhile waits for a connection.
struct Server {
    repair: f64,
    requests: u32,
    down_until: Duration,
    random: Random,
    contention: Duration,
}

impl Server {
    fn new(availability: f64) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self {
            repair: markov::repair(availability),
            requests: 0,
            down_until: Duration::ZERO,
            random: sim::random(),
            contention: Duration::ZERO,
        }))
    }

    fn exponential(&self, mean: f64) -> Duration {
        Duration::from_secs_f64(mean * self.random.exponential())
    }
}

/// How a call fails.
#[derive(Clone, Copy, Debug)]
enum Fault {
    NotConnected,
    Slow,
}

async fn call(server: Arc<Mutex<Server>>) -> Result<(), Error<Fault>> {
    let connecting = {
        let server = server.lock().unwrap();
        server.down_until.saturating_sub(sim::elapsed())
    };
    let timeout = Duration::from_secs_f64(markov::CONNECT_TIMEOUT);
    let (connecting, is_connected) = (connecting.min(timeout), connecting < timeout);
    sleep(connecting).await;
    server.lock().unwrap().contention += connecting;
    if !is_connected {
        return Err(Error::Inner(Fault::NotConnected));
    }
    let (takes, is_answered) = {
        let response = server.lock().unwrap().exponential(markov::RESPONSE);
        let timeout = Duration::from_secs_f64(markov::RESPONSE_TIMEOUT);
        (response.min(timeout), response < timeout)
    };
    sleep(takes).await;
    let mut server = server.lock().unwrap();
    server.contention += takes;
    server.requests += 1;
    if server.requests == markov::REQUESTS_BETWEEN_FAILURES {
        server.requests = 0;
        server.down_until = sim::elapsed() + server.exponential(1.0 / server.repair);
    }
    is_answered.then_some(()).ok_or(Error::Inner(Fault::Slow))
}

/// A server that is slow is up.
fn connected(result: Result<&(), &Error<Fault>>) -> Verdict {
    match result {
        Err(Error::Inner(Fault::Slow)) => Verdict::Ignored,
        other => AnyError.classify(other),
    }
}

type Client = BoxCloneService<(), (), Error<Fault>>;

fn client(server: &Arc<Mutex<Server>>, policy: Policy) -> Client {
    let server = Arc::clone(server);
    let service = service_fn(move |()| call(Arc::clone(&server)));
    match policy {
        Policy::Immediate => BoxCloneService::new(service),
        Policy::Retry => {
            let backoff = Backoff::exponential(secs(5), secs(10)).unwrap();
            let retry = RetryLayer::builder()
                .max_attempts(6)
                .backoff(backoff.with_jitter(Jitter::None))
                .without_budget()
                .build();
            BoxCloneService::new(retry.unwrap().layer(service))
        }
        Policy::Breaker { open, doubles } => {
            let open = Duration::from_secs_f64(open);
            let open = match doubles {
                true => Backoff::exponential(open, (1 << markov::DOUBLINGS) * open).unwrap(),
                false => Backoff::constant(open),
            };
            let breaker = breaker(2, open).build();
            BoxCloneService::new(breaker.unwrap().layer(service))
        }
        Policy::ByConnection { open } => {
            let open = Backoff::constant(Duration::from_secs_f64(open));
            let breaker = breaker(1, open).classifier(connected).build();
            BoxCloneService::new(breaker.unwrap().layer(service))
        }
    }
}

fn breaker(failures: u32, open: Backoff) -> CircuitBreakerBuilder {
    CircuitBreakerLayer::builder()
        .consecutive_failures(failures)
        .half_open_probes(1)
        .half_open_timeout(secs(1_000))
        .open_time(open.with_jitter(Jitter::None))
        .lasting_close(Duration::ZERO)
}

/// What the responses cost each of so many clients, each with a server of its own.
fn simulate(availability: f64, clients: u32, policy: Policy) -> Vec<Cost> {
    sim::run(2020, async {
        let mut tasks = JoinSet::new();
        for _ in 0..clients {
            let server = Server::new(availability);
            let client = client(&server, policy);
            tasks.spawn(async move {
                let mut responses = 0;
                while responses < markov::RESPONSES {
                    let think = server.lock().unwrap().exponential(markov::THINK);
                    sleep(think).await;
                    responses += u32::from(client.clone().oneshot(()).await.is_ok());
                }
                Cost {
                    total: sim::elapsed().as_secs_f64(),
                    contention: server.lock().unwrap().contention.as_secs_f64(),
                }
            });
        }
        tasks.join_all().await
    })
}

/// The mean, and its standard error.
fn mean(costs: &[Cost], of: fn(&Cost) -> f64) -> (f64, f64) {
    let values: Vec<_> = costs.iter().map(of).collect();
    let (mean, deviation) = moments(&values);
    (mean, deviation / (values.len() as f64).sqrt())
}

fn run(size: Size) -> Findings {
    let clients = size.pick(400, 30);
    let open = |open, doubles| Policy::Breaker { open, doubles };
    let policies = [
        ("calls again", Policy::Immediate),
        ("5 retries, 5 s and 10 s apart", Policy::Retry),
        ("breaker, open for 10 s", open(10.0, false)),
        ("breaker, 20 s", open(20.0, false)),
        ("breaker, 40 s", open(40.0, false)),
        ("breaker, 10 s and doubling up to 40 s", open(10.0, true)),
        (
            "breaker by connections, 8.2 s",
            Policy::ByConnection { open: 8.2 },
        ),
    ];
    let availabilities = size.pick(&[0.5, 0.6, 0.7, 0.8, 0.9][..], &[0.8]);
    let mut table = Table::new([
        "total, contention (s)",
        "A = 0.5",
        "0.6",
        "0.7",
        "0.8",
        "0.9",
    ]);
    let (mut furthest, mut all) = (0.0_f64, Vec::new());
    for (name, policy) in policies {
        let (mut row, mut costs) = (vec![name.to_owned()], Vec::new());
        for &availability in availabilities {
            let computed = markov::cost(availability, policy);
            let measured = simulate(availability, clients, policy);
            let (total, total_error) = mean(&measured, |cost| cost.total);
            let (contention, contention_error) = mean(&measured, |cost| cost.contention);
            furthest = furthest
                .max((total - computed.total).abs() / total_error)
                .max((contention - computed.contention).abs() / contention_error);
            costs.push(computed);
            row.push(format!("{total:.0}, {contention:.0}"));
        }
        all.push(costs);
        row.resize(6, "-".to_owned());
        table.row(<[String; 6]>::try_from(row).expect("six"));
    }
    let change = |of: fn(&Cost) -> f64, ours: &[Cost], base: &[Cost]| -> Vec<f64> {
        let pairs = ours.iter().zip(base);
        let changes = pairs.map(|(ours, base)| 100.0 * (of(ours) / of(base) - 1.0));
        changes.collect()
    };
    let most = |changes: Vec<f64>| changes.into_iter().fold(f64::MIN, f64::max);
    let [again, retry, short, _, long, _, ours] = &all[..] else {
        unreachable!("as many as there are policies");
    };
    let extra = |policy: &[Cost]| most(change(|cost| cost.total, policy, again));
    let spared = |policy: &[Cost]| -change(|cost| cost.contention, policy, again)[0];
    let contention = most(change(|cost| cost.contention, ours, short));
    let bars = vec![
        Bar {
            measure: "total and contention, from the solved model".into(),
            published: "-".into(),
            peers: "-".into(),
            ours: format!("{furthest:.1} standard errors at most, of 70 figures"),
            bar: "4 standard errors".into(),
            is_met: furthest <= 4.0,
        },
        Bar {
            measure: "extra time at any availability".into(),
            published: "open for 10 s: less than 5 %; 40 s by far the worst".into(),
            peers: format!("10 s: {:.1} %; 40 s: {:.1} %", extra(short), extra(long)),
            ours: format!("{:.1} %", extra(ours)),
            bar: "5 %".into(),
            is_met: extra(ours) <= 5.0,
        },
        Bar {
            measure: "contention, from the best static breaker's (10 s)".into(),
            published: "-".into(),
            peers: "-".into(),
            ours: format!("{contention:+.2} % at most"),
            bar: "0".into(),
            is_met: contention <= 0.0,
        },
    ];
    let text = format!(
        "A client needs 100 responses, and thinks for an exponential second before each call. A response takes an \
        exponential 5 s and is given up after 10 s. After ten requests the server fails, and is repaired as its \
        availability A has it, in 50 s for 0.5; who calls it meanwhile waits 2 s for a connection. Contention is the \
        time that a call holds a connection or waits for one. Two failures in a row open the breaker, one good probe \
        closes it (in the paper two).\n\n\
        The figures of the table are the simulation's; those of the bars are of a Markov chain over the points at which \
        the client decides, solved by elimination, which the simulation agrees with.\n\n\
        Retries spare {:.0} % of the contention at A = 0.5, the paper's breaker {:.0} %, as published. That breaker costs \
        more time here than the paper has it: one call in seven is slow although the server is up, and two of those in a \
        row open it for nothing. A classifier that ignores them leaves the breaker what it is for: it opens at the first \
        connection that fails, closes sooner, and is better in both.",
        spared(retry),
        spared(short),
    );
    Findings {
        text,
        tables: vec![table],
        bars,
        charts: Vec::new(),
    }
}
