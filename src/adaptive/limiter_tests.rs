//! [`Limiter`] against lists of all that was seen.

use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::{
    limit::{Limit, Sample},
    limiter::{Bounded, Limiter, Told, Tuned},
    sampling::{Sampling, Windows},
};
use crate::{
    queue::Queue,
    window::{
        Sample as Took,
        tests::{config, product_limit},
    },
};

const MS: u64 = 1_000_000;

/// Says what it is told to, and remembers what it was told.
#[derive(Clone, Default)]
struct Scripted {
    says: Arc<Mutex<Option<f64>>>,
    told: Arc<Mutex<Vec<Sample>>>,
}

impl Limit for Scripted {
    fn next(&mut self, limit: f64, sample: &Sample) -> f64 {
        self.told.lock().unwrap().push(*sample);
        self.says.lock().unwrap().take().unwrap_or(limit)
    }
}

impl Scripted {
    fn say(&self, limit: f64) {
        *self.says.lock().unwrap() = Some(limit);
    }

    fn samples(&self) -> usize {
        self.told.lock().unwrap().len()
    }

    fn last(&self) -> Sample {
        *self.told.lock().unwrap().last().expect("told of a sample")
    }
}

fn windows() -> Sampling {
    let ms = std::time::Duration::from_millis;
    Windows::default()
        .length(ms(100), ms(400))
        .least_calls(3)
        .into()
}

fn limiter(limit: u32, sampling: Sampling) -> (Limiter, Scripted) {
    let bounded = Bounded {
        min: 1,
        max: 50,
        limit: limit.into(),
    };
    let permits = Queue::NONE.permits(limit as usize);
    let algorithm = Scripted::default();
    let boxed = Box::new(algorithm.clone());
    let pace = sampling.check().unwrap();
    let limiter = Limiter::new(permits, bounded, pace, boxed);
    (limiter, algorithm)
}

fn try_begin(limiter: &Limiter) -> Option<u32> {
    let is_taken = limiter.permits().try_take(1);
    is_taken.then(|| limiter.generation())
}

fn begin(limiter: &Limiter) -> u32 {
    try_begin(limiter).expect("a permit")
}

fn set_limit(limiter: &Limiter, limit: usize, now: u64) {
    limiter.intervene(now, |bounded| bounded.set(limit as f64));
}

fn end(limiter: &Limiter, generation: u32, told: Told, nanos: u64, now: u64) -> Option<Tuned> {
    let mut tuned = None;
    limiter.give_back(1);
    limiter.ended(generation, told, nanos, now, |it| tuned = Some(*it));
    tuned
}

#[derive(Clone, Debug)]
enum Step {
    Begin,
    /// The nth of those in flight ends so, after so long.
    End(usize, Told, u64),
    /// In milliseconds.
    Advance(u64),
    /// What the algorithm is to say next.
    Say(f64),
    SetLimit(usize),
}

/// So far apart that no two share a bucket.
fn latency() -> impl Strategy<Value = u64> {
    (0..60_i32).prop_map(|power| (2_000.0 * 1.2_f64.powi(power)) as u64)
}

fn step() -> impl Strategy<Value = Step> {
    let told = prop_oneof![
        6 => Just(Told::Completed),
        1 => Just(Told::Failed),
        1 => Just(Told::Abandoned),
        1 => Just(Told::TimedOut),
        1 => Just(Told::Overloaded),
    ];
    prop_oneof![
        8 => Just(Step::Begin),
        8 => (any::<usize>(), told, latency()).prop_map(|(n, told, nanos)| Step::End(n, told, nanos)),
        3 => (1..60_u64).prop_map(Step::Advance),
        1 => (100..500_u64).prop_map(Step::Advance),
        1 => (0.0..60.0).prop_map(Step::Say),
        1 => (0..60_usize).prop_map(Step::SetLimit),
    ]
}

struct Model {
    is_every_call: bool,
    now: u64,
    limit: f64,
    changes: usize,
    /// After how many changes each of those in flight began.
    in_flight: Vec<usize>,
    since: u64,
    /// How long those took that began since the last change.
    took: Vec<Took>,
    completed: u32,
    dropped: u32,
    turned_away: u32,
    most: u32,
    limited: bool,
    /// Whether the last sample began a generation, and until when its calls tell no latency.
    is_renewed: bool,
    settled: u64,
    known: Option<u64>,
    /// When the first call of the window told anything.
    first: Option<u64>,
    says: Option<f64>,
}

impl Model {
    fn calls(&self) -> usize {
        self.limit as usize
    }

    /// Sets the limit, after a sample with so many drops.
    fn set(&mut self, limit: f64, dropped: u32) {
        let before = self.calls();
        self.limit = limit.clamp(1.0, 50.0);
        let change = self.calls().abs_diff(before);
        let is_small = change as f64 / (before as f64) < 0.1;
        self.is_renewed = change > 0 && (self.is_every_call || !is_small || dropped > 0);
        if self.is_renewed {
            self.change();
        }
    }

    fn change(&mut self) {
        self.changes += 1;
    }

    fn begin_sample(&mut self) {
        self.since = self.now;
        self.took.clear();
        (self.completed, self.dropped, self.turned_away) = (0, 0, 0);
        self.most = self.in_flight.len() as u32;
        self.limited = false;
        self.first = None;
    }

    /// The sample that is complete now, if one is; then the algorithm has its say.
    fn end(&mut self, nth: usize, told: Told, nanos: u64) -> Option<Sample> {
        let in_flight = self.in_flight.len();
        self.most = self.most.max(in_flight as u32);
        self.limited |= in_flight >= self.calls();
        let is_new = self.in_flight.remove(nth) == self.changes;
        self.completed += u32::from(matches!(told, Told::Completed | Told::Failed));
        if is_new {
            self.first = self.first.or(Some(self.now));
            self.dropped += u32::from(matches!(told, Told::TimedOut | Told::Overloaded));
            let is_settled = self.is_every_call || self.now >= self.settled;
            if told != Told::Overloaded && is_settled {
                self.took.push(match told {
                    Told::Completed => Took::Exact(nanos),
                    _ => Took::Cut(nanos),
                });
            }
        }
        let elapsed = self.now - self.since;
        let is_complete = if self.is_every_call {
            let is_cut = matches!(self.took[..], [Took::Cut(nanos)] if self.known.is_none_or(|it| nanos <= it));
            let tells = self.dropped > 0 || !is_cut;
            if is_new && !tells {
                self.took.clear();
            }
            is_new && tells
        } else {
            let is_enough = self.took.len() as u32 + self.dropped >= 3 && is_new;
            let is_over = self.first.is_some_and(|first| self.now >= first + 400 * MS);
            elapsed >= 100 * MS && (is_enough || is_over)
        };
        if !is_complete {
            return None;
        }
        let exact = |took: &Took| match *took {
            Took::Exact(nanos) => Some(nanos),
            Took::Cut(_) => None,
        };
        let least = self.took.iter().filter_map(exact).min();
        let all = self.took.iter().map(|took| match *took {
            Took::Exact(nanos) | Took::Cut(nanos) => nanos,
        });
        let mean = (all.clone().sum::<u64>()).checked_div(self.took.len() as u64);
        let longest = all.max();
        let known = self.known.or(least);
        let beyond = longest.and_then(|longest| match self.is_every_call {
            true => known.filter(|known| longest > *known).and(Some(longest)),
            false => known.map(|known| known.max(longest)),
        });
        let latency = product_limit(self.took.clone(), 0.5).or(beyond);
        let measured = match latency {
            None if self.is_every_call => 0,
            _ => self.took.len() as u32,
        };
        let nanos = std::time::Duration::from_nanos;
        let sample = Sample {
            now: nanos(self.now),
            elapsed: nanos(elapsed),
            latency: latency.map(nanos),
            min_latency: least.map(nanos),
            mean_latency: if self.is_every_call { latency } else { mean }.map(nanos),
            measured,
            completed: self.completed,
            dropped: self.dropped,
            turned_away: self.turned_away,
            in_flight: self.most,
            limited: self.limited,
        };
        self.known = latency.or(self.known);
        if let Some(says) = self.says.take() {
            self.set(says, sample.dropped);
        } else {
            self.is_renewed = false;
        }
        self.begin_sample();
        Some(sample)
    }
}

/// The same but for what a histogram cannot tell apart.
fn assert_like(told: &Sample, expected: &Sample) -> Result<(), TestCaseError> {
    let is_near = |told: Option<std::time::Duration>, expected: Option<std::time::Duration>| match (
        told, expected,
    ) {
        // Where it lies beyond all that was seen, it is told by the end of a bucket.
        (Some(told), Some(expected)) => told.abs_diff(expected) <= expected / 14,
        (told, expected) => told == expected,
    };
    let is_like = is_near(told.latency, expected.latency)
        && is_near(told.min_latency, expected.min_latency)
        && is_near(told.mean_latency, expected.mean_latency);
    prop_assert!(is_like, "{told:?} for {expected:?}");
    let rest = Sample {
        latency: expected.latency,
        min_latency: expected.min_latency,
        mean_latency: expected.mean_latency,
        ..*told
    };
    prop_assert_eq!(&rest, expected);
    Ok(())
}

fn play(initial: u32, sampling: Sampling, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let (limiter, algorithm) = limiter(initial, sampling);
    let mut model = Model {
        is_every_call: sampling == Sampling::EveryCall,
        now: 0,
        limit: initial.into(),
        changes: 0,
        in_flight: Vec::new(),
        since: 0,
        took: Vec::new(),
        completed: 0,
        dropped: 0,
        turned_away: 0,
        most: 0,
        limited: false,
        is_renewed: false,
        settled: 0,
        known: None,
        first: None,
        says: None,
    };
    let mut generations = Vec::new();
    for step in steps {
        match step {
            Step::Advance(ms) => model.now += ms * MS,
            Step::Say(limit) => {
                algorithm.say(limit);
                model.says = Some(limit);
            }
            Step::SetLimit(limit) => {
                set_limit(&limiter, limit, model.now);
                model.set(limit as f64, 0);
                if model.is_renewed {
                    model.settled = model.now;
                }
                model.change();
                model.begin_sample();
            }
            Step::Begin => {
                let generation = try_begin(&limiter);
                let has_room = model.in_flight.len() < model.calls();
                prop_assert_eq!(generation.is_some(), has_room);
                if !has_room {
                    limiter.turn_away();
                    model.turned_away += 1;
                }
                if let Some(generation) = generation {
                    generations.push(generation);
                    model.in_flight.push(model.changes);
                }
            }
            Step::End(nth, told, nanos) if !generations.is_empty() => {
                let nth = nth % generations.len();
                let generation = generations.remove(nth);
                let before = model.calls();
                let tuned = end(&limiter, generation, told, nanos, model.now);
                let expected = model.end(nth, told, nanos);
                prop_assert_eq!(tuned.is_some(), expected.is_some());
                if let (Some(tuned), Some(expected)) = (tuned, expected) {
                    assert_like(&tuned.sample, &expected)?;
                    prop_assert_eq!(algorithm.last(), tuned.sample);
                    // From here on they go by what was told.
                    model.known = tuned
                        .sample
                        .latency
                        .map(|it| it.as_nanos() as u64)
                        .or(model.known);
                    if model.is_renewed {
                        let mean = tuned.sample.mean_latency.unwrap_or_default();
                        model.settled = model.now + 2 * mean.as_nanos() as u64;
                    }
                    let limits = (tuned.from as usize, tuned.to as usize);
                    prop_assert_eq!(limits, (before, model.calls()));
                }
            }
            Step::End(..) => {}
        }
        let word = limiter.permits().load();
        prop_assert_eq!(word.limit as usize, model.calls());
        prop_assert_eq!(word.taken as usize, model.in_flight.len());
        prop_assert_eq!(limiter.look().0.limit, model.limit);
    }
    Ok(())
}

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn a_window_tells_of_those_that_ended_in_it_and_of_those_that_began_since_the_last_change(
        initial in 1..50_u32,
        steps in proptest::collection::vec(step(), 0..300),
    ) {
        play(initial, windows(), steps)?;
    }

    #[test]
    fn every_call_that_began_since_the_last_change_is_a_sample(
        initial in 1..50_u32,
        steps in proptest::collection::vec(step(), 0..300),
    ) {
        play(initial, Sampling::EveryCall, steps)?;
    }
}

#[test]
fn a_limit_that_is_no_number_or_infinite_stays() {
    let (limiter, algorithm) = limiter(7, Sampling::EveryCall);
    for says in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        algorithm.say(says);
        let tuned = end(&limiter, begin(&limiter), Told::Completed, MS, 0).unwrap();
        assert_eq!((tuned.from, tuned.to), (7, 7));
    }
    for (says, limit) in [
        (f64::MAX, 50),
        (f64::MIN, 1),
        (0.0, 1),
        (-1.0, 1),
        (9.99, 9),
    ] {
        algorithm.say(says);
        let tuned = end(&limiter, begin(&limiter), Told::Completed, MS, 0).unwrap();
        assert_eq!(tuned.to, limit, "{says}");
    }
}

#[test]
fn a_fraction_of_a_limit_is_kept() {
    let (limiter, algorithm) = limiter(7, Sampling::EveryCall);
    for says in [7.4, 7.8] {
        algorithm.say(says);
        let tuned = end(&limiter, begin(&limiter), Told::Completed, MS, 0).unwrap();
        assert_eq!(tuned.to, 7);
        assert_eq!(limiter.look().0.limit, says);
    }
}

#[test]
fn an_algorithm_that_panics_leaves_the_limit_and_is_asked_again() {
    struct Panics(u32);
    impl Limit for Panics {
        fn next(&mut self, limit: f64, _: &Sample) -> f64 {
            self.0 += 1;
            if self.0 < 3 {
                std::panic::resume_unwind(Box::new(()));
            }
            limit + 1.0
        }
    }
    let bounded = Bounded {
        min: 1,
        max: 50,
        limit: 7.0,
    };
    let pace = Sampling::EveryCall.check().unwrap();
    let algorithm = Box::new(Panics(0));
    let permits = Queue::NONE.permits(7);
    let limiter = Limiter::new(permits, bounded, pace, algorithm);
    let limits = [(true, 7), (true, 7), (false, 8)];
    for expected in limits {
        let tuned = end(&limiter, begin(&limiter), Told::Completed, MS, 0).unwrap();
        assert_eq!((tuned.panicked, tuned.to), expected);
    }
    assert_eq!(limiter.permits().load().taken, 0);
}

#[test]
fn a_clock_that_stands_still_ends_no_window_and_harms_nothing() {
    let (limiter, algorithm) = limiter(7, windows());
    for _ in 0..10_000 {
        assert!(end(&limiter, begin(&limiter), Told::Completed, 0, 0).is_none());
    }
    assert_eq!(algorithm.samples(), 0);
    let tuned = end(
        &limiter,
        begin(&limiter),
        Told::Completed,
        3_600_000 * MS,
        100 * MS,
    );
    let sample = tuned.unwrap().sample;
    assert_eq!((sample.measured, sample.completed), (10_001, 10_001));
    let micros = sample.latency.unwrap().as_micros();
    assert!((1..=2).contains(&micros), "the shortest that can be told");
}

#[test]
fn a_clock_that_another_thread_has_read_earlier_does_no_harm() {
    let (limiter, algorithm) = limiter(7, Sampling::EveryCall);
    for now in [5 * MS, 3 * MS, 0, 6 * MS] {
        end(&limiter, begin(&limiter), Told::Completed, MS, now);
    }
    assert_eq!(algorithm.samples(), 4);
    assert_eq!(algorithm.last().elapsed.as_millis(), 6);
}

#[test]
fn the_longest_windows_do_not_overflow() {
    let most = std::time::Duration::MAX;
    let sampling = Windows::default().length(most, most).into();
    let (limiter, algorithm) = limiter(7, sampling);
    end(
        &limiter,
        begin(&limiter),
        Told::Completed,
        u64::MAX,
        u64::MAX / 2,
    );
    assert_eq!(algorithm.samples(), 0);
    set_limit(&limiter, 8, u64::MAX / 2);
    end(&limiter, begin(&limiter), Told::Completed, MS, u64::MAX - 1);
    assert_eq!(algorithm.samples(), 0);
}

#[test]
fn where_the_limit_was_set_from_outside_nothing_is_left_of_what_was_seen_before() {
    let (limiter, algorithm) = limiter(9, windows());
    let (early, refused) = (begin(&limiter), begin(&limiter));
    for told in [Told::Completed, Told::Overloaded, Told::Failed] {
        end(&limiter, begin(&limiter), told, MS, MS);
    }
    set_limit(&limiter, 9, 50 * MS); // the same
    end(&limiter, refused, Told::Overloaded, MS, 50 * MS);
    end(&limiter, early, Told::Completed, MS, 150 * MS);
    for _ in 0..3 {
        assert_eq!(algorithm.samples(), 0);
        end(&limiter, begin(&limiter), Told::Completed, 2 * MS, 150 * MS);
    }
    let sample = algorithm.last();
    assert_eq!(sample.elapsed.as_millis(), 100);
    assert_eq!(
        (sample.completed, sample.measured, sample.dropped),
        (4, 3, 0)
    );
}
