//! A look-aside cache that is wiped, before a database that could never do without it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use steadfast::{
    bulkhead::{BulkheadLayer, Queue},
    sim::{self, Load, Outcome, Report, Server, Times},
    timeout::TimeoutLayer,
};
use tower::{Layer, ServiceExt, util::BoxCloneService};

use super::{Bar, Chart, Experiment, Findings, Size, Stack, Table, after, ms, percent, secs};

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "cold_cache",
    title: "A cache that is wiped",
    source: "N. Bronson et al., HotOS'21, and L. Huang et al., OSDI'22: the look-aside cache",
    run,
};

const WIPED: Duration = secs(30);
const KEYS: usize = 20_000;
/// So many of the keys are what nine requests in ten ask for.
const KEPT: usize = 9_000;

/// Which keys are asked for how often: by Zipf's law.
struct Popularity(Vec<f64>);

impl Popularity {
    fn new() -> Self {
        let mut sum = 0.0;
        let weights = (1..=KEYS).map(|rank| {
            sum += 1.0 / rank as f64;
            sum
        });
        Self(weights.collect())
    }

    fn key(&self, random: u64) -> usize {
        let unit = (random >> 11) as f64 / (1_u64 << 53) as f64;
        let at = unit * self.0[KEYS - 1];
        self.0.partition_point(|sum| *sum <= at).min(KEYS - 1)
    }
}

/// Keeps so many keys, and lets go of the one that it has had longest.
struct Cache {
    has: Vec<bool>,
    order: VecDeque<usize>,
    hits: u64,
    misses: u64,
}

impl Cache {
    fn warm() -> Self {
        Self {
            has: (0..KEYS).map(|key| key < KEPT).collect(),
            order: (0..KEPT).rev().collect(),
            hits: 0,
            misses: 0,
        }
    }

    fn wipe(&mut self) {
        self.has.fill(false);
        self.order.clear();
    }

    fn look(&mut self, key: usize) -> bool {
        let hits = self.has[key];
        self.hits += u64::from(hits);
        self.misses += u64::from(!hits);
        hits
    }

    fn fill(&mut self, key: usize) {
        if self.has[key] {
            return;
        }
        self.has[key] = true;
        self.order.push_back(key);
        if self.order.len() > KEPT {
            let oldest = self.order.pop_front().expect("it is not empty");
            self.has[oldest] = false;
        }
    }
}

/// What became of the requests, and the share of hits before the cache was wiped.
fn simulate(client: fn(Stack) -> Stack, rate: f64, length: Duration) -> (Report, f64) {
    sim::run(2021, async {
        // 300 calls a second.
        let database = Server::new(30, Times::constant(ms(100)));
        let stack = client(BoxCloneService::new(database));
        let stack = Arc::new(Mutex::new(stack));
        let cache = Arc::new(Mutex::new(Cache::warm()));
        let popularity = Popularity::new();
        let hit_rate = Arc::new(Mutex::new(0.0));
        let (wiped, share) = (Arc::clone(&cache), Arc::clone(&hit_rate));
        sim::at(WIPED, move || {
            let mut cache = wiped.lock().unwrap();
            *share.lock().unwrap() = cache.hits as f64 / (cache.hits + cache.misses) as f64;
            cache.wipe();
        });
        let load = Load::poisson().rate(rate, length).good_within(secs(1));
        let report = load.each(|arrival| {
            let key = popularity.key(arrival.random);
            let (cache, stack) = (Arc::clone(&cache), Arc::clone(&stack));
            async move {
                if cache.lock().unwrap().look(key) {
                    return Outcome::Good;
                }
                let database = stack.lock().unwrap().clone();
                let result = database.oneshot(()).await;
                if result.is_ok() {
                    cache.lock().unwrap().fill(key);
                }
                result.into()
            }
        });
        let report = report.await;
        let hit_rate = *hit_rate.lock().unwrap();
        (report, hit_rate)
    })
}

fn patient(inner: Stack) -> Stack {
    BoxCloneService::new(TimeoutLayer::new(secs(1)).unwrap().layer(inner))
}

fn guarded(inner: Stack) -> Stack {
    let queue = Queue::lifo(300, ms(500));
    let bulkhead = BulkheadLayer::builder(30).queue(queue).build();
    BoxCloneService::new(bulkhead.layer(patient(inner)))
}

fn run(size: Size) -> Findings {
    let (rate, length) = size.pick((2_500.0, secs(330)), (2_500.0, secs(45)));
    let mut table = Table::new([
        "",
        "hits before",
        "least goodput",
        "good in the end",
        "99 % good after",
    ]);
    let mut chart = Chart::new("Good answers a second", "seconds");
    let mut found = Vec::new();
    for (name, client) in [
        ("timeout of 1 s", patient as fn(Stack) -> Stack),
        ("**steadfast**, bulkhead", guarded),
    ] {
        let (report, hits) = simulate(client, rate, length);
        let least = report
            .by_slot(secs(5))
            .skip(6)
            .map(|part| part.goodput())
            .fold(f64::MAX, f64::min);
        let end = report.during(length - secs(10)..length).good_share();
        let refilled = report.recovery(WIPED, size.pick(0.99, 0.5), secs(5));
        table.row([
            name.into(),
            percent(hits),
            format!("{least:.0}/s"),
            percent(end),
            after(refilled),
        ]);
        chart.goodput(name, &report, secs(2), length);
        found.push((least, end, refilled));
    }
    let [(stuck, stuck_end, never), (least, _, refilled)] = found[..] else {
        unreachable!("two lanes");
    };
    let bars = vec![
        Bar {
            measure: "the cache fills again".into(),
            published: "not within an hour".into(),
            peers: format!("timeout: {} ({} good)", after(never), percent(stuck_end)),
            ours: after(refilled),
            bar: "it does".into(),
            is_met: refilled.is_some(),
        },
        Bar {
            measure: "goodput while it does".into(),
            published: "-".into(),
            peers: format!("timeout: {stuck:.0}/s"),
            ours: format!("{least:.0}/s"),
            bar: "300/s, what the database can do".into(),
            is_met: least >= 300.0,
        },
    ];
    let text = "2,500 requests a second for 20,000 keys, by Zipf's law; the cache answers most, the database \
        300 a second of those that miss, and knows nothing of callers who have gone after their second. Then the \
        cache is wiped.\n\n\
        With a timeout alone every answer of the database comes too late to be put into the cache. A bulkhead of \
        as many places as the database has workers, with a short LIFO queue, sends it what it can answer in time; \
        each answer stays, and takes load off.";
    Findings {
        text: text.into(),
        tables: vec![table],
        bars,
        charts: vec![chart],
    }
}
