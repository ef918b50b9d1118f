//! Which jitter: clients that write to one row, and may only if nobody has since they read it.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use steadfast::{
    backoff::{Backoff, Jitter},
    retry::RetryLayer,
    sim::{self, Random, Times},
};
use tokio::{task::JoinSet, time::sleep};
use tower::{Layer, Service, ServiceExt};

use super::{Bar, Chart, Experiment, Findings, Size, Table, moments, secs};

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "occ_jitter",
    title: "Jitter under contention",
    source: "M. Brooker, \"Exponential Backoff And Jitter\", AWS Architecture Blog, 2015, and its simulator",
    run,
};

/// One second here stands for a millisecond there, which the clock's grain then does not touch.
const MS: Duration = secs(1);
const CAP: Duration = secs(2_000);

/// A row with a version, and the network before it.
#[derive(Clone)]
struct Row(Arc<RowState>);

struct RowState {
    version: AtomicU64,
    writes: AtomicU64,
    hop: Times,
    random: Random,
}

impl Row {
    fn new() -> Self {
        Self(Arc::new(RowState {
            version: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            hop: Times::normal(10 * MS, 2 * MS),
            random: sim::random(),
        }))
    }
}

impl RowState {
    async fn hop(&self) {
        sleep(self.hop.draw(&self.random)).await;
    }

    /// Reads the row, and writes it if it is still as it was read.
    async fn update(&self) -> Result<(), ()> {
        self.hop().await;
        let read = self.version.load(Relaxed);
        self.hop().await;
        self.hop().await;
        self.writes.fetch_add(1, Relaxed);
        let written = self
            .version
            .compare_exchange(read, read + 1, Relaxed, Relaxed);
        self.hop().await;
        written.map(|_| ()).map_err(|_| ())
    }
}

impl Service<()> for Row {
    type Response = ();
    type Error = ();
    type Future = Pin<Box<dyn Future<Output = Result<(), ()>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        let row = Arc::clone(&self.0);
        Box::pin(async move { row.update().await })
    }
}

/// Writes that reached the row, and seconds until the last client was done.
async fn contend_once(clients: u32, backoff: &Backoff) -> (f64, f64) {
    let row = Row::new();
    let began = sim::elapsed();
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        let retry = RetryLayer::builder()
            .max_attempts(u32::MAX)
            .without_budget()
            .backoff(backoff.clone())
            .build()
            .unwrap();
        tasks.spawn(retry.layer(row.clone()).oneshot(()));
    }
    let done = tasks.join_all().await;
    assert!(done.iter().all(Result::is_ok));
    let took = (sim::elapsed() - began).as_secs_f64() / 1e3;
    (row.0.writes.load(Relaxed) as f64, took)
}

/// The mean of the writes, and of the seconds.
fn contend(clients: u32, backoff: &Backoff, runs: u32) -> (f64, f64) {
    sim::run(2015, async {
        let (mut writes, mut times) = (Vec::new(), Vec::new());
        for _ in 0..runs {
            let (calls, took) = contend_once(clients, backoff).await;
            writes.push(calls);
            times.push(took);
        }
        (moments(&writes).0, moments(&times).0)
    })
}

/// A backoff, and what the published simulator gives for it at 100 clients: writes and seconds, each with
/// its standard deviation.
struct Contender {
    name: &'static str,
    backoff: Backoff,
    published: Option<[(f64, f64); 2]>,
}

fn contenders() -> Vec<Contender> {
    // The first delay of the published simulator is twice its base of 5 ms, but for the decorrelated one.
    let doubling = || Backoff::exponential(10 * MS, CAP).unwrap();
    let of_base = Backoff::exponential(5 * MS, CAP).unwrap();
    let power = |retry: u32| {
        let retry = f64::from(retry.min(100));
        (5 * MS).mul_f64(retry * retry * retry.sqrt())
    };
    let contender = |name, backoff, published| Contender {
        name,
        backoff,
        published,
    };
    vec![
        contender(
            "none",
            Backoff::none(),
            Some([(2427.0, 31.0), (2.03, 0.05)]),
        ),
        contender(
            "exponential",
            doubling().with_jitter(Jitter::None),
            Some([(1857.0, 59.0), (63.4, 3.9)]),
        ),
        contender(
            "decorrelated",
            of_base.clone().with_jitter(Jitter::Decorrelated),
            Some([(1002.0, 30.0), (4.55, 0.65)]),
        ),
        contender(
            "equal",
            doubling().with_jitter(Jitter::Equal),
            Some([(814.0, 8.0), (6.65, 0.66)]),
        ),
        contender("full", doubling(), Some([(796.0, 7.0), (4.90, 0.53)])),
        contender(
            "Polly's, smooth",
            of_base.with_jitter(Jitter::SmoothDecorrelated),
            None,
        ),
        contender(
            "full, 5 ms times n^2.5",
            Backoff::from_fn(CAP, power).with_jitter(Jitter::Full),
            None,
        ),
        contender("full, always 500 ms", Backoff::constant(500 * MS), None),
    ]
}

fn run(size: Size) -> Findings {
    let runs = size.pick(100, 4);
    let counts: &[u32] = size.pick(&[10, 50, 100, 190], &[100]);
    let mut table = Table::new(["backoff", "writes", "published", "seconds", "published"]);
    let mut chart = Chart::new("Writes that N clients need, by backoff", "clients");
    let (mut is_matched, mut furthest, mut best) = (true, 0.0_f64, (f64::MAX, f64::MAX));
    for contender in contenders() {
        let mut line = Vec::new();
        for &clients in counts {
            let (writes, took) = contend(clients, &contender.backoff, runs);
            line.push((f64::from(clients), writes));
            if clients != 100 {
                continue;
            }
            let mut published = ["-".to_owned(), "-".to_owned()];
            if let Some([calls, time]) = contender.published {
                for (ours, (mean, deviation)) in [(writes, calls), (took, time)] {
                    furthest = furthest.max((ours - mean).abs() / deviation);
                }
                is_matched &= furthest <= 3.0;
                published = [format!("{:.0}", calls.0), format!("{:.2}", time.0)];
            }
            if contender.name == "full, 5 ms times n^2.5" {
                best = (writes, took);
            }
            let [calls, time] = published;
            table.row([
                contender.name.into(),
                format!("{writes:.0}"),
                calls,
                format!("{took:.2}"),
                time,
            ]);
        }
        chart.line(contender.name, line);
    }
    let bars = vec![
        Bar {
            measure: "distance from the published writes and seconds".into(),
            published: "-".into(),
            peers: "-".into(),
            ours: format!("{furthest:.1} standard deviations at most"),
            bar: "3 standard deviations".into(),
            is_met: is_matched,
        },
        Bar {
            measure: "writes and seconds at 100 clients".into(),
            published: "full 796, 4.90 s; decorrelated 1002, 4.55 s".into(),
            peers: "-".into(),
            ours: format!("{:.0}, {:.2} s", best.0, best.1),
            bar: "796, 4.55 s".into(),
            is_met: best.0 <= 796.0 && best.1 <= 4.55,
        },
    ];
    let text = "100 clients each read one row and write it, which fails where another wrote in between, and try \
        again until they have. A message takes a normal 10 ms (deviation 2 ms) each way; delays begin at 5 ms (those \
        that double at 10 ms, as in the published simulator) and are cut to 2 s. The clients are retries of this crate, without a budget.\n\n\
        None of the published jitters has the fewest writes and the shortest time at once. A delay that grows as \
        a power, n^2.5 from the same 5 ms to the same 2 s, has: it spreads the clients sooner than doubling does, \
        and less far in the end. Where it is known how long the clients contend, one constant delay with full \
        jitter beats all that have to find out.";
    Findings {
        text: text.into(),
        tables: vec![table],
        bars,
        charts: vec![chart],
    }
}
