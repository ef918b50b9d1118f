//! What a call of a known key costs, beside governor's keyed rate limiter.
//!
//! ```sh
//! cargo bench --bench keyed             # measures and prints
//! cargo bench --bench keyed -- --check  # and fails where a bound is broken
//! ```
//!
//! All take turns in short slices, as in `overhead`, and each is judged by its fastest slice. There are
//! 1,000 keys, asked for in no order. governor looks its key up in a map of locked shards, reads the
//! clock, and changes one word; it makes no call. Ours look the key up and make a call, to a service
//! that answers at once, of which the cost is not taken off. The bound is twice governor's check; four times
//! for a throttle, which looks at the clock of the system, and counts the call in a window.
#![allow(
    clippy::disallowed_methods,
    reason = "the doors are for the crate; a bench stands outside"
)]

use std::{
    borrow::Borrow,
    convert::Infallible,
    fmt::Debug,
    future::{Future, Ready, ready},
    hash::Hash,
    hint::black_box,
    num::NonZeroU32,
    pin::pin,
    process::ExitCode,
    sync::Barrier,
    task::{Context, Poll, Waker},
    thread,
    time::Instant,
};

use governor::{Quota, RateLimiter};
use steadfast::{
    Error, bulkhead::BulkheadLayer, circuit_breaker::CircuitBreakerLayer, classify::AnyError,
    keyed::by_ref, throttle::ThrottleLayer,
};
use tower::{Layer, Service};

const KEYS: usize = 1_000;
const ROUNDS: usize = 1_000;
const CALLS_IN_SLICE: usize = 2_000;

/// How often governor's check a call may cost, and one that looks at the clock.
const ALLOWED: f64 = 2.0;
const ALLOWED_WITH_CLOCK: f64 = 4.0;

/// A key, and what it is looked up by.
trait BenchKey: Hash + Eq + Clone + Send + Sync + Debug + Borrow<Self::Part> + 'static {
    type Part: ?Sized + Hash + Eq + ToOwned<Owned = Self>;

    fn number(n: usize) -> Self;

    fn all() -> &'static [Self] {
        let keys: Vec<_> = (0..KEYS).map(Self::number).collect();
        keys.leak()
    }
}

impl BenchKey for u64 {
    type Part = Self;

    fn number(n: usize) -> Self {
        n as Self
    }
}

impl BenchKey for String {
    type Part = str;

    fn number(n: usize) -> Self {
        format!("tenant-{n}.example.com")
    }
}

/// Answers at once. Not to be inlined, as no real service would be.
#[derive(Clone, Copy, Debug)]
struct Prompt;

impl<K> Service<&'static K> for Prompt {
    type Response = ();
    type Error = Error<Infallible>;
    type Future = Ready<Result<(), Error<Infallible>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline(never)]
    fn call(&mut self, _: &'static K) -> Self::Future {
        ready(Ok(()))
    }
}

/// Makes so many calls, of all keys in turn.
type Calls = Box<dyn Fn(usize) + Send + Sync>;

fn in_turn<K>(keys: &'static [K], calls: usize, mut call: impl FnMut(&'static K)) {
    // In steps of a prime, so that no two calls in a row are of neighbours.
    (0..calls).for_each(|n| call(black_box(&keys[n * 7_919 % KEYS])));
}

fn governor<K: BenchKey>(keys: &'static [K]) -> Calls {
    let limiter = RateLimiter::keyed(Quota::per_second(NonZeroU32::MAX));
    Box::new(move |calls| {
        in_turn(keys, calls, |key| {
            black_box(limiter.check_key(key)).expect("the rate is not reached");
        });
    })
}

fn layered<K, L, S>(keys: &'static [K], layer: L) -> Calls
where
    K: BenchKey,
    L: Layer<Prompt, Service = S> + Send + Sync + 'static,
    S: Service<&'static K>,
{
    Box::new(move |calls| {
        let mut service = layer.layer(Prompt);
        let cx = &mut Context::from_waker(Waker::noop());
        in_turn(keys, calls, |key| {
            assert!(service.poll_ready(cx).is_ready());
            let answer = pin!(service.call(key)).poll(cx);
            assert!(matches!(black_box(answer), Poll::Ready(Ok(_))));
        });
    })
}

fn bulkhead<K: BenchKey>(keys: &'static [K]) -> Calls {
    let key = by_ref(|key: &&'static K| -> &K::Part { (*key).borrow() });
    let layer = BulkheadLayer::builder(8).keyed(10 * KEYS, key).build();
    layered(keys, layer.expect("there is room for keys"))
}

/// With the rule it has by default, at the last hundred calls.
fn breaker<K: BenchKey>(keys: &'static [K]) -> Calls {
    let key = by_ref(|key: &&'static K| -> &K::Part { (*key).borrow() });
    let layer = CircuitBreakerLayer::builder().keyed(10 * KEYS, key).build();
    let calls = layered(keys, layer.expect("there is room for keys"));
    calls(100 * KEYS); // fills the windows
    calls
}

/// None of whose calls has been refused.
fn throttle<K: BenchKey>(keys: &'static [K]) -> Calls {
    let key = by_ref(|key: &&'static K| -> &K::Part { (*key).borrow() });
    let layer = ThrottleLayer::builder(AnyError)
        .keyed(10 * KEYS, key)
        .build();
    layered(keys, layer.expect("there is room for keys"))
}

/// Nanoseconds per call: of one thread, and of two at once.
#[derive(Clone, Copy, Debug)]
struct Cost {
    one: f64,
    two: f64,
}

impl Cost {
    const MOST: Self = Self {
        one: f64::INFINITY,
        two: f64::INFINITY,
    };

    fn take_lesser(&mut self, calls: &Calls) {
        self.one = self.one.min(nanos_per_call(calls, CALLS_IN_SLICE));
        self.two = self.two.min(of_two_threads(calls));
    }
}

fn nanos_per_call(calls: &Calls, count: usize) -> f64 {
    let began = Instant::now();
    calls(count);
    began.elapsed().as_nanos() as f64 / count as f64
}

/// Of the slower of the two.
fn of_two_threads(calls: &Calls) -> f64 {
    let barrier = Barrier::new(2);
    let work = || {
        calls(CALLS_IN_SLICE / 10); // makes what the thread keeps
        barrier.wait();
        nanos_per_call(calls, CALLS_IN_SLICE)
    };
    thread::scope(|scope| {
        let other = scope.spawn(work);
        work().max(other.join().expect("no call panics"))
    })
}

fn main() -> ExitCode {
    let is_kept = compare("numbers", u64::all()) & compare("host names", String::all());
    if std::env::args().any(|arg| arg == "--check") && !is_kept {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Returns whether no call costs more than it may.
fn compare<K: BenchKey>(what: &str, keys: &'static [K]) -> bool {
    let all = [
        ("governor", governor(keys), ALLOWED),
        ("keyed breaker", breaker(keys), ALLOWED),
        ("keyed bulkhead", bulkhead(keys), ALLOWED),
        ("keyed throttle", throttle(keys), ALLOWED_WITH_CLOCK),
    ];
    let mut costs = all.each_ref().map(|_| Cost::MOST);
    for _ in 0..ROUNDS {
        for ((_, calls, _), cost) in all.iter().zip(&mut costs) {
            cost.take_lesser(calls);
        }
    }

    println!(
        "{what:20} {:>10} {:>7} {:>11} {:>7}",
        "one thread", "ratio", "two threads", "ratio"
    );
    let governor = costs[0];
    let mut is_kept = true;
    for ((name, _, allowed), cost) in all.iter().zip(costs) {
        let (one, two) = (cost.one / governor.one, cost.two / governor.two);
        let pass = one <= *allowed && two <= *allowed;
        is_kept &= pass;
        let verdict = if pass { "pass" } else { "FAIL" };
        println!(
            "  {name:18} {:10.1} {one:7.2} {:11.1} {two:7.2}  {verdict}",
            cost.one, cost.two
        );
    }
    is_kept
}
