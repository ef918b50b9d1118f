//! What each layer adds to a call, beside what tower's own layers add.
//!
//! ```sh
//! cargo bench --bench overhead             # measures and prints
//! cargo bench --bench overhead -- --check  # and fails where a bound is broken
//! ```
//!
//! Nanoseconds say little on a machine that is shared or changes its clock rate, so nothing is compared
//! with a number of another run. All contestants take turns in short slices, more than a thousand times, and
//! each is judged by its fastest slice, the one that was disturbed the least. What a layer adds is the
//! difference to the bare service; the bounds are ratios to what tower's layer adds, or sums of reads
//! of the clock, which is measured in the same rounds, and a few nanoseconds.
//!
//! A call is `poll_ready`, `call`, and `poll` until it is ready, by hand, so no executor is measured.
//! The service below is opaque to the compiler, as a real one would be. It answers at once (`prompt`), or
//! is pending once and wakes its caller (`yielding`), which is where timers come in.
#![allow(
    clippy::disallowed_methods,
    reason = "the doors are for the crate; a bench stands outside"
)]

#[allow(dead_code, reason = "each bench uses some of it")]
mod contestants;

use std::{hint::black_box, process::ExitCode, sync::Barrier, thread, time::Instant};

use contestants::{
    Calls, Prompt, Yielding, above, breaker_count, breaker_run, breaker_time_with_failures, calls,
    limit_reached, rejection, shed, throttled,
};
use steadfast::circuit_breaker::CircuitBreakerLayer;
use tower::Layer;

const ROUNDS: usize = 1_500;
/// Few, so that most slices end before the scheduler takes the processor away.
const CALLS_IN_SLICE: u32 = 2_000;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime can be built");
    let _entered = runtime.enter(); // for timers

    let costs = Costs::measure();
    costs.print();
    let windows = window_costs();
    println!(
        "\nbreaker-time holding a thousand calls: {:.1} ns a call, holding a million: {:.1}",
        windows.0, windows.1
    );
    let rates = [
        ("breaker-run", rates(&breaker_run())),
        ("breaker-count", rates(&breaker_count())),
    ];
    println!(
        "\n{:16} {:>14} {:>14}",
        "million calls/s", "one thread", "two threads"
    );
    for (name, (one, two)) in rates {
        println!("{name:16} {one:14.1} {two:14.1}");
    }

    let mut bounds = costs.bounds();
    let (thousand, million) = windows;
    bounds.push(Bound::new(
        "breaker-time holding a million <= 110 % of holding a thousand",
        million,
        1.1 * thousand,
    ));
    bounds.extend(rates.map(|(name, (one, two))| {
        // As a time per call, of which less is better as for the others.
        let what = format!("{name}, two threads: at least the calls of one");
        Bound::new(what, 1000.0 / two, 1000.0 / one)
    }));
    let is_kept = Bound::print_all(&bounds);
    let is_checked = std::env::args().any(|arg| arg == "--check");
    if is_checked && !is_kept {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Nanoseconds per call, of the fastest slice and of the median one.
#[derive(Clone, Copy, Debug)]
struct Cost {
    least: f64,
    median: f64,
}

impl Cost {
    fn of(mut samples: Vec<f64>) -> Self {
        samples.sort_by(f64::total_cmp);
        let (least, median) = (samples[0], samples[samples.len() / 2]);
        Self { least, median }
    }
}

fn nanos_per_call(calls: &mut Calls, count: u32) -> f64 {
    let began = Instant::now();
    calls(count);
    began.elapsed().as_nanos() as f64 / f64::from(count)
}

/// Costs of all contestants, above the prompt and above the yielding service.
struct Costs {
    layers: Vec<(&'static str, Cost, Cost)>,
    clock: Cost,
    rejection: Cost,
    limit_reached: Cost,
    throttled: Cost,
    shed: Cost,
}

impl Costs {
    fn measure() -> Self {
        let read_clock = |reads| {
            (0..reads).for_each(|_| {
                black_box(tokio::time::Instant::now());
            });
        };
        let (names, prompt): (Vec<_>, Vec<_>) = above(&Prompt).into_iter().unzip();
        let yielding = above(&Yielding).into_iter().map(|(_, calls)| calls);
        let others: [Calls; 5] = [
            Box::new(read_clock),
            rejection(),
            limit_reached(),
            throttled(),
            shed(),
        ];

        let mut all: Vec<Calls> = prompt.into_iter().chain(yielding).chain(others).collect();
        let mut samples = vec![Vec::with_capacity(ROUNDS); all.len()];
        for _ in 0..ROUNDS {
            for (calls, samples) in all.iter_mut().zip(&mut samples) {
                samples.push(nanos_per_call(calls, CALLS_IN_SLICE));
            }
        }

        let costs: Vec<_> = samples.into_iter().map(Cost::of).collect();
        let (prompt, rest) = costs.split_at(names.len());
        let (yielding, others) = rest.split_at(names.len());
        let layers = names.iter().zip(prompt).zip(yielding);
        Self {
            layers: layers.map(|((&name, &p), &y)| (name, p, y)).collect(),
            clock: others[0],
            rejection: others[1],
            limit_reached: others[2],
            throttled: others[3],
            shed: others[4],
        }
    }

    fn print(&self) {
        println!("{:16} {:^30} {:^30}", "ns per call", "prompt", "yielding");
        print!("{:16}", "");
        (0..2).for_each(|_| print!(" {:>9} {:>9} {:>10}", "least", "median", "adds"));
        println!();
        let (_, bare_prompt, bare_yielding) = self.layers[0];
        for (name, prompt, yielding) in &self.layers {
            print!("{name:16}");
            for (cost, bare) in [(prompt, bare_prompt), (yielding, bare_yielding)] {
                let adds = cost.least - bare.least;
                print!(" {:9.1} {:9.1} {adds:10.1}", cost.least, cost.median);
            }
            println!();
        }
        let others = [
            ("clock read", self.clock),
            ("rejection", self.rejection),
            ("limit reached", self.limit_reached),
            ("throttled", self.throttled),
            ("shed", self.shed),
        ];
        for (name, cost) in others {
            println!("{name:16} {:9.1} {:9.1}", cost.least, cost.median);
        }
    }

    /// What a layer adds, above the prompt and above the yielding service.
    fn added_by(&self, layer: &str) -> (f64, f64) {
        let (_, bare_prompt, bare_yielding) = self.layers[0];
        let found = self.layers.iter().find(|(name, ..)| *name == layer);
        let (_, prompt, yielding) = found.expect("the layer competes");
        (
            prompt.least - bare_prompt.least,
            yielding.least - bare_yielding.least,
        )
    }

    fn bounds(&self) -> Vec<Bound> {
        let prompt = |layer| self.added_by(layer).0;
        let yielding = |layer| self.added_by(layer).1;
        let clock = self.clock.least;
        let mut bounds = vec![
            Bound::new("breaker-run adds <= 8 ns", prompt("breaker-run"), 8.0),
            Bound::new("breaker-count adds <= 8 ns", prompt("breaker-count"), 8.0),
            Bound::new(
                "breaker-time adds <= 2 clock reads + 8 ns",
                prompt("breaker-time"),
                2.0 * clock + 8.0,
            ),
            Bound::new(
                "breaker-slow adds <= 2 clock reads + 8 ns",
                prompt("breaker-slow"),
                2.0 * clock + 8.0,
            ),
            Bound::new(
                "an open breaker rejects in <= 1 clock read + 10 ns",
                self.rejection.least,
                clock + 10.0,
            ),
            Bound::new(
                "adaptive adds <= 2 clock reads + 25 ns",
                prompt("adaptive"),
                2.0 * clock + 25.0,
            ),
            Bound::new(
                "an adaptive limit that is reached rejects in <= 40 ns",
                self.limit_reached.least,
                40.0,
            ),
            Bound::new(
                "throttle adds <= 2 clock reads + 25 ns",
                prompt("throttle"),
                2.0 * clock + 25.0,
            ),
            Bound::new(
                "a throttle rejects in <= 1 clock read + 50 ns",
                self.throttled.least,
                clock + 50.0,
            ),
            Bound::new(
                "load-shed adds <= 2 clock reads + 25 ns",
                prompt("load-shed"),
                2.0 * clock + 25.0,
            ),
            Bound::new(
                "load-shed sheds in <= 1 clock read + 40 ns",
                self.shed.least,
                clock + 40.0,
            ),
            Bound::new(
                "bulkhead adds <= 80 % of tower-limit",
                prompt("bulkhead"),
                0.8 * prompt("tower-limit"),
            ),
            Bound::new(
                "timeout adds <= 60 % of tower-timeout, prompt",
                prompt("timeout"),
                0.6 * prompt("tower-timeout"),
            ),
            Bound::new(
                "timeout adds <= 100 % of tower-timeout, yielding",
                yielding("timeout"),
                yielding("tower-timeout"),
            ),
            Bound::new(
                "retry adds <= 50 % of tower-retry",
                prompt("retry"),
                0.5 * prompt("tower-retry"),
            ),
            Bound::new(
                "stack adds <= tower-stack, prompt",
                prompt("stack"),
                prompt("tower-stack"),
            ),
            Bound::new(
                "stack adds <= tower-stack, yielding",
                yielding("stack"),
                yielding("tower-stack"),
            ),
        ];
        if cfg!(feature = "http") {
            let rows = [("deadline", "http-bare"), ("deadline-told", "http-told")];
            bounds.extend(rows.map(|(layer, bare)| {
                let what = format!("{layer} adds <= 2 clock reads + 60 ns to {bare}");
                Bound::new(what, prompt(layer) - prompt(bare), 2.0 * clock + 60.0)
            }));
        }
        bounds
    }
}

/// What a call costs above a window of time that holds a thousand calls, and one that holds a million.
/// One call in a hundred fails.
fn window_costs() -> (f64, f64) {
    const CALLS: u32 = 1_000;
    let (layer, service) = breaker_time_with_failures();
    let mut over_thousand = calls(service);
    let (_layer, service) = breaker_time_with_failures();
    let mut over_million = calls(service);
    over_million(1_000_000);
    let (mut thousand, mut million) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        layer.handle().reset();
        over_thousand(1_000);
        thousand.push(nanos_per_call(&mut over_thousand, CALLS));
        over_million(1_000); // as warm as the other
        million.push(nanos_per_call(&mut over_million, CALLS));
    }
    (Cost::of(thousand).least, Cost::of(million).least)
}

/// Millions of calls per second through one closed breaker: of one thread, and of two together.
fn rates(layer: &CircuitBreakerLayer) -> (f64, f64) {
    const ROUNDS: usize = 100;
    let (mut one, mut two) = (0.0_f64, 0.0_f64);
    for _ in 0..ROUNDS {
        one = one.max(rate(layer, 1));
        two = two.max(rate(layer, 2));
    }
    (one, two)
}

fn rate(layer: &CircuitBreakerLayer, threads: u32) -> f64 {
    const CALLS: u32 = 100_000;
    let barrier = Barrier::new(threads as usize);
    let work = || {
        let mut calls = calls(layer.layer(Prompt));
        calls(1_000); // fills the window, and makes the thread's pool
        barrier.wait();
        let began = Instant::now();
        calls(CALLS);
        (began, Instant::now())
    };
    let spans: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let joined = workers.into_iter().map(|worker| worker.join());
        joined.map(|span| span.expect("no call panics")).collect()
    });
    let began = spans.iter().map(|(began, _)| began).min();
    let ended = spans.iter().map(|(_, ended)| ended).max();
    let (began, ended) = began.zip(ended).expect("there is a thread");
    f64::from(threads * CALLS) / (*ended - *began).as_micros() as f64
}

/// A promise, what was measured, and what is allowed.
struct Bound {
    what: String,
    measured: f64,
    allowed: f64,
}

impl Bound {
    /// How far beyond what is allowed is still put down to the machine.
    const TOLERANCE: f64 = 0.1;

    fn new(what: impl Into<String>, measured: f64, allowed: f64) -> Self {
        let what = what.into();
        Self {
            what,
            measured,
            allowed,
        }
    }

    /// Whether all are kept, give or take the tolerance.
    fn print_all(bounds: &[Self]) -> bool {
        println!("\n{:62} {:>8} {:>8}", "bound, in ns", "measured", "allowed");
        let mut are_kept = true;
        for Self {
            what,
            measured,
            allowed,
        } in bounds
        {
            let verdict = if measured <= allowed {
                "pass"
            } else if *measured <= allowed * (1.0 + Self::TOLERANCE) {
                "pass, within tolerance"
            } else {
                are_kept = false;
                "FAIL"
            };
            println!("{what:62} {measured:8.1} {allowed:8.1}  {verdict}");
        }
        are_kept
    }
}
