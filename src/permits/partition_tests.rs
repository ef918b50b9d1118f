//! A divided limit against a list of holders, a list of those who wait, and a log of what was taken.
#![allow(
    clippy::disallowed_types,
    reason = "wakers are the runtime's, and outside of what loom explores"
)]

use std::{
    cmp::Reverse,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use proptest::{prelude::*, test_runner::RngSeed};

use super::{
    shares::{Holding, apportion},
    tests::{Bell, Manual, rules},
    *,
};

const LEND_AFTER: u64 = 100;

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::with_cases(cases)
    }
}

fn weights() -> impl Strategy<Value = Vec<u32>> {
    let weight = prop_oneof![1 => Just(0), 6 => 0..10_u32, 1 => any::<u32>()];
    let weights = proptest::collection::vec(weight, 1..=MOST);
    weights.prop_filter("some weight", |weights| weights.iter().any(|it| *it > 0))
}

#[test]
fn what_is_left_of_whole_shares_goes_to_the_largest_remainders_and_not_to_the_largest() {
    assert_eq!(apportion(10, &[5, 3, 3])[..3], [4, 3, 3]);
}

#[test]
fn shares_are_percents_of_a_hundred_and_at_least_one() {
    for (total, weights, expected) in [
        (100, &[90, 10, 0][..], &[90, 10, 0][..]),
        (10, &[90, 10, 0], &[9, 1, 0]),
        (5, &[90, 10], &[4, 1]), // 4.5 and 0.5
        (15, &[90, 10], &[14, 1]),
        (2, &[90, 10], &[1, 1]), // 1.8 and 0.2
        (1, &[10, 90], &[0, 1]),
        (0, &[90, 10], &[0, 0]),
        (4, &[98, 1, 1], &[2, 1, 1]),
        (10, &[1, 1, 1], &[4, 3, 3]),
        (7, &[u32::MAX, u32::MAX], &[4, 3]),
    ] {
        let shares = apportion(total, weights);
        assert_eq!(&shares[..weights.len()], expected, "{total} {weights:?}");
    }
}

proptest! {
    #![proptest_config(config(1_000))]

    #[test]
    fn shares_are_all_there_is_and_what_is_exact_but_for_one(
        total in prop_oneof![0..40_u32, 0..=Word::MAX],
        weights in weights(),
    ) {
        let shares = apportion(total, &weights);
        prop_assert_eq!(shares.iter().sum::<u32>(), total);
        let sum: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
        let sharers = weights.iter().filter(|weight| **weight > 0).count();
        let exact = |n: usize| f64::from(total) * f64::from(weights[n]) / sum;
        let is_squeezed = (0..weights.len()).any(|n| weights[n] > 0 && exact(n) < 1.0);
        for (n, share) in shares.into_iter().enumerate() {
            if weights.get(n).is_none_or(|weight| *weight == 0) {
                prop_assert_eq!(share, 0);
                continue;
            }
            prop_assert!(share >= 1 || (total as usize) < sharers);
            // Somebody has to give what others need to have one.
            prop_assert!(f64::from(share) > exact(n) - 1.0 || is_squeezed);
            prop_assert!(f64::from(share) < exact(n) + 1.0 + 1e-9);
        }
    }

    #[test]
    fn what_a_partition_has_is_what_was_packed(taken in 0..=Word::MAX, kept in 0..=Word::MAX) {
        let holding = Holding::default().take(taken).keep(kept, 7).take(0);
        prop_assert_eq!(Holding::unpack(holding.pack()), holding);
    }
}

/// The permits, and beside them who holds, in plain lists.
struct Model {
    permits: Permits<Manual>,
    clock: Manual,
    weights: Vec<u32>,
    limit: u32,
    capacity: usize,
    /// Of which partition, and how many.
    holders: Vec<Demand>,
    /// What is kept, where nobody may wait.
    kept: Vec<Kept>,
    /// Who waits, in the order in which they came.
    waiting: Vec<Waiter>,
    /// Who waits no longer, and does not know it yet.
    ended: Vec<(Waiter, Result<(), Unserved>)>,
    /// Whose turn it was, one after the other.
    turns: Vec<Part>,
}

#[derive(Clone, Default)]
struct Kept {
    slots: u32,
    /// All that was taken at once since it was last asked whether to go on.
    log: Vec<u32>,
    idle_since: Option<u64>,
}

struct Waiter {
    place: Place,
    demand: Demand,
    bell: Arc<Bell>,
}

impl Waiter {
    fn part(&self) -> Part {
        self.demand.part.unwrap()
    }
}

impl Model {
    fn new(limit: u32, capacity: usize, weights: &[u32]) -> Self {
        let clock = Manual::default();
        let permits = Permits::new(limit as usize, rules(Order::Fifo, capacity), clock.clone());
        let division = Division {
            weights: weights.to_vec(),
            lend_after: LEND_AFTER,
        };
        Self {
            permits: permits.divided(&division),
            clock,
            weights: weights.to_vec(),
            limit,
            capacity,
            holders: Vec::new(),
            kept: vec![Kept::default(); weights.len()],
            waiting: Vec::new(),
            ended: Vec::new(),
            turns: Vec::new(),
        }
    }

    fn parts(&self) -> impl Iterator<Item = Part> + use<> {
        0..self.weights.len() as Part
    }

    fn share(&self, part: Part) -> u32 {
        apportion(self.limit, &self.weights)[usize::from(part)]
    }

    fn held(&self) -> impl Iterator<Item = Demand> {
        let came = self.ended.iter().filter(|(_, how)| how.is_ok());
        let came = came.map(|(waiter, _)| waiter.demand);
        self.holders.iter().copied().chain(came)
    }

    fn taken(&self) -> u32 {
        self.held().map(|demand| demand.slots).sum()
    }

    fn taken_by(&self, part: Part) -> u32 {
        let own = self.held().filter(|demand| demand.part == Some(part));
        own.map(|demand| demand.slots).sum()
    }

    fn waiting_of(&self, part: Part) -> usize {
        let own = self.waiting.iter().filter(|it| it.part() == part);
        own.count()
    }

    fn fits(&self, slots: u32) -> bool {
        self.taken() + slots <= self.limit
    }

    fn is_within(&self, Demand { slots, part }: Demand) -> bool {
        let part = part.unwrap();
        self.taken_by(part) + slots <= self.share(part)
    }

    fn idle(&self, part: Part) -> u32 {
        let kept = self.kept[usize::from(part)].slots.min(self.share(part));
        kept.saturating_sub(self.taken_by(part))
    }

    fn others(&self, of: Option<Part>) -> impl Iterator<Item = Part> + use<> {
        self.parts().filter(move |part| of != Some(*part))
    }

    fn may_take(&self, demand: Demand) -> bool {
        let idle: u32 = self.others(demand.part).map(|part| self.idle(part)).sum();
        self.fits(demand.slots) && (self.is_within(demand) || self.fits(demand.slots + idle))
    }

    fn log(&mut self) {
        for part in self.parts() {
            let taken = self.taken_by(part);
            self.kept[usize::from(part)].log.push(taken);
        }
    }

    /// What those who ask in vain bring about.
    fn refuse(&mut self, demand: Demand) -> bool {
        let now = self.clock.nanos();
        let part = demand.part.unwrap();
        if self.is_within(demand) && !self.fits(demand.slots) {
            let (share, taken) = (self.share(part), self.taken_by(part));
            let kept = &mut self.kept[usize::from(part)];
            if kept.slots == 0 {
                kept.log = vec![taken];
            }
            kept.slots = share.min(kept.slots.max(taken) + demand.slots);
            kept.idle_since = None;
            return false;
        }
        let mut lends = false;
        for other in self.others(Some(part)) {
            if !self.fits(demand.slots) || self.idle(other) == 0 {
                continue;
            }
            let taken = self.taken_by(other);
            let kept = &mut self.kept[usize::from(other)];
            match kept.idle_since {
                None => kept.idle_since = Some(now),
                Some(since) if now - since >= LEND_AFTER => {
                    let most = *kept.log.iter().max().unwrap();
                    kept.slots = kept.slots.min(most);
                    kept.log = vec![taken];
                    kept.idle_since = Some(now);
                    lends = true;
                }
                Some(_) => {}
            }
        }
        lends
    }

    /// Takes where nobody may wait.
    fn take(&mut self, demand: Demand) -> bool {
        let expected = self.may_take(demand) || self.refuse(demand) && self.may_take(demand);
        assert_eq!(self.permits.try_take(demand), expected, "{demand:?}");
        if expected {
            self.holders.push(demand);
            self.log();
        }
        expected
    }

    /// Whose turn it is first of these, by the share that they have in use.
    fn first(&self, parts: impl Iterator<Item = Part>) -> Option<Part> {
        let in_use = |part| f64::from(self.taken_by(part)) / f64::from(self.share(part).max(1));
        let last_turn = |part| self.turns.iter().rposition(|it| *it == part);
        let parts: Vec<_> = parts.collect();
        parts.into_iter().min_by(|one, other| {
            let is_lent_to = |part: Part| self.weights[usize::from(part)] == 0;
            (is_lent_to(*one).cmp(&is_lent_to(*other)))
                .then(in_use(*one).total_cmp(&in_use(*other)))
                .then(last_turn(*one).cmp(&last_turn(*other)))
        })
    }

    fn serve(&mut self) {
        while let Some(part) = self.first(self.parts().filter(|it| self.waiting_of(*it) > 0)) {
            let next = self
                .waiting
                .iter()
                .position(|it| it.part() == part)
                .unwrap();
            let slots = self.waiting[next].demand.slots;
            let is_doomed = self.limit > 0 && slots > self.limit;
            if !is_doomed && !self.fits(slots) {
                return;
            }
            let waiter = self.waiting.remove(next);
            if is_doomed {
                self.ended.push((waiter, Err(Unserved::Doomed)));
            } else {
                self.turns.push(part);
                self.ended.push((waiter, Ok(())));
            }
        }
    }

    /// Asks where one may wait.
    fn ask(&mut self, demand: Demand) {
        let part = demand.part.unwrap();
        let fits = self.fits(demand.slots);
        let is_free = self.waiting.is_empty();
        assert_eq!(self.permits.try_take(demand), fits && is_free);
        if fits && is_free {
            self.holders.push(demand);
            return;
        }
        let bell = Arc::new(Bell::default());
        let asked = (self.permits).take_or_queue(demand, &bell.clone().into(), || {
            Some(Ask {
                class: Criticality::Critical,
                now: self.clock.nanos(),
                last: u64::MAX,
            })
        });
        let some_wait = self
            .parts()
            .filter(|it| self.waiting_of(*it) > 0 || *it == part);
        let is_next = self.waiting_of(part) == 0 && self.first(some_wait) == Some(part);
        let is_doomed = self.limit > 0 && demand.slots > self.limit;
        let places = apportion(self.capacity as u32, &self.weights);
        let places = |part: Part| places[usize::from(part)] as usize;
        let is_full = self.waiting.len() >= self.capacity;
        match asked {
            Asked::Taken => {
                assert!(fits && is_next);
                self.turns.push(part);
                self.holders.push(demand);
            }
            Asked::Queued(place) => {
                assert!(!(fits && is_next || is_doomed));
                if is_full {
                    assert!(self.waiting_of(part) < places(part), "nobody's place");
                    let beyond = |part: &Part| self.waiting_of(*part) as i64 - places(*part) as i64;
                    let most = self.parts().max_by_key(beyond).unwrap();
                    let last = self.waiting.iter().rposition(|it| it.part() == most);
                    let evicted = self.waiting.remove(last.unwrap());
                    self.ended.push((evicted, Err(Unserved::Evicted)));
                }
                self.waiting.push(Waiter {
                    place,
                    demand,
                    bell,
                });
                self.serve();
            }
            Asked::Full => {
                let has_place = !is_full || self.waiting_of(part) < places(part);
                assert!(is_doomed || !has_place, "there is a place for it");
                assert!(is_doomed || !(fits && is_next));
            }
            Asked::Late => panic!("there is time"),
        }
    }

    fn give_back(&mut self, nth: usize) {
        if !self.holders.is_empty() {
            let demand = self.holders.remove(nth % self.holders.len());
            self.permits.give_back(demand);
            self.log();
            self.serve();
        }
    }

    /// The `nth` of those who wait gives up, or of those who have been told looks how it went.
    fn settle(&mut self, nth: usize) {
        let all = self.waiting.len() + self.ended.len();
        if all == 0 {
            return;
        }
        let nth = nth % all;
        if nth < self.waiting.len() {
            let waiter = self.waiting.remove(nth);
            self.permits.leave(waiter.place);
            self.serve();
        } else {
            let (waiter, how) = self.ended.remove(nth - self.waiting.len());
            let polled = self.permits.poll_place(&waiter.place, Waker::noop());
            assert_eq!(polled, Poll::Ready(how));
            self.holders.extend(how.ok().map(|()| waiter.demand));
        }
    }

    fn resize(&mut self, limit: u32) {
        self.limit = limit;
        self.permits.resize(limit as usize);
        self.serve();
    }

    fn tick(&self, by: u64) {
        self.clock.0.fetch_add(by, Relaxed);
    }

    fn check(&self) {
        assert_eq!(self.permits.load().taken, self.taken());
        for part in self.parts() {
            let state = PartitionState {
                share: self.share(part),
                taken: self.taken_by(part),
                waiting: self.waiting_of(part) as u32,
            };
            assert_eq!(self.permits.partition(part), Some(state));
        }
        assert!(self.waiting.iter().all(|it| !it.bell.has_rung()));
        assert!(self.ended.iter().all(|(it, _)| it.bell.has_rung()));
    }

    fn run(&mut self, step: &Step) {
        let before = self.taken();
        match *step {
            Step::Ask { part, slots } => {
                let part = Some(part % self.weights.len() as Part);
                let demand = Demand { slots, part };
                if self.capacity == 0 {
                    self.take(demand);
                } else {
                    self.ask(demand);
                }
            }
            Step::GiveBack(nth) => self.give_back(nth),
            Step::Settle(nth) => self.settle(nth),
            Step::Resize(limit) => self.resize(limit),
            Step::Tick(by) => self.tick(by),
        }
        assert!(self.taken() <= self.limit.max(before));
        self.check();
    }

    fn one(part: Part) -> Demand {
        let (slots, part) = (1, Some(part));
        Demand { slots, part }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Ask { part: Part, slots: u32 },
    GiveBack(usize),
    Settle(usize),
    Resize(u32),
    Tick(u64),
}

fn steps(most: u32) -> impl Strategy<Value = Vec<Step>> {
    let ask = |slots| (0..16_u8, slots).prop_map(|(part, slots)| Step::Ask { part, slots });
    let step = prop_oneof![
        12 => ask((1..=1_u32).boxed()),
        4 => ask((1..=most).boxed()),
        8 => (0..100_usize).prop_map(Step::GiveBack),
        4 => (0..100_usize).prop_map(Step::Settle),
        1 => (0..30_u32).prop_map(Step::Resize),
        4 => (0..LEND_AFTER).prop_map(Step::Tick),
    ];
    proptest::collection::vec(step, 0..400)
}

fn few_weights() -> impl Strategy<Value = Vec<u32>> {
    let weights = proptest::collection::vec(0..5_u32, 1..5);
    weights.prop_filter("some weight", |weights| weights.iter().any(|it| *it > 0))
}

proptest! {
    #![proptest_config(config(500))]

    #[test]
    fn what_is_taken_and_kept_is_that_of_the_lists_and_one_alone_has_all_in_the_end(
        limit in 0..20_u32,
        weights in few_weights(),
        steps in steps(4),
        last in 0..16_u8,
    ) {
        let mut model = Model::new(limit, 0, &weights);
        for step in &steps {
            model.run(step);
        }
        // The others go home. Whatever was kept, it is lent.
        let last = last % weights.len() as Part;
        while let Some(nth) = model.holders.iter().position(|it| it.part != Some(last)) {
            model.give_back(nth);
        }
        for _ in 0..3 {
            while model.take(Model::one(last)) {}
            model.tick(LEND_AFTER);
        }
        while model.take(Model::one(last)) {}
        prop_assert!(model.taken() >= model.limit, "some is lent to nobody");
        while !model.holders.is_empty() {
            model.run(&Step::GiveBack(0));
        }
    }

    #[test]
    fn who_waits_and_who_is_served_is_that_of_the_lists(
        limit in 0..20_u32,
        capacity in 4..12_usize,
        weights in few_weights(),
        steps in steps(4),
    ) {
        let mut model = Model::new(limit, capacity, &weights);
        for step in &steps {
            model.run(step);
        }
        while model.taken() as usize + model.waiting.len() + model.ended.len() > 0 {
            model.run(&Step::Settle(0));
            model.run(&Step::GiveBack(0));
        }
    }

    /// Whoever holds what, and however much the others ask: as they end, one that asks again and again has
    /// its share after each of them has ended once.
    #[test]
    fn an_owner_that_comes_back_has_its_share_when_the_calls_of_others_have_ended_once(
        limit in 1..20_u32,
        weights in few_weights(),
        steps in steps(1),
        owner in 0..16_u8,
        flood in 1..10_usize,
    ) {
        let mut model = Model::new(limit, 0, &weights);
        for step in steps.iter().filter(|step| !matches!(step, Step::Resize(_))) {
            model.run(step);
        }
        let owner = owner % weights.len() as Part;
        let share = model.share(owner);
        // All its callers ask, and are refused or not.
        for _ in 0..share {
            model.take(Model::one(owner));
        }
        let to_end = model.held().filter(|it| it.part != Some(owner)).count();
        for _ in 0..to_end {
            let nth = model.holders.iter().position(|it| it.part != Some(owner));
            model.give_back(nth.unwrap());
            // Whoever has no share of his own asks first, and most.
            for borrower in model.parts().filter(|part| *part != owner) {
                for _ in 0..flood {
                    if !model.is_within(Model::one(borrower)) {
                        model.take(Model::one(borrower));
                    }
                }
            }
            while model.taken_by(owner) < share && model.take(Model::one(owner)) {}
        }
        prop_assert_eq!(model.taken_by(owner).min(share), share);
    }
}

/// All ask, and as soon as one ends all ask again, as often as they do: how many each has on average.
fn contest(capacity: usize, limit: u32, weights: &[u32], demands: &[usize]) -> Vec<f64> {
    const ROUNDS: usize = 2_000;
    let mut model = Model::new(limit, capacity, weights);
    let mut sums = vec![0_u32; weights.len()];
    for round in 0..ROUNDS {
        for part in model.parts() {
            for _ in 0..demands[usize::from(part)] {
                let slots = 1;
                model.run(&Step::Ask { part, slots });
            }
        }
        // Those in the queue who have been served know it.
        while !model.ended.is_empty() {
            model.settle(model.waiting.len());
        }
        if round >= ROUNDS / 2 {
            for part in model.parts() {
                sums[usize::from(part)] += model.taken_by(part);
            }
        }
        model.run(&Step::GiveBack(round * 7));
    }
    let rounds = (ROUNDS - ROUNDS / 2) as f64;
    sums.into_iter()
        .map(|sum| f64::from(sum) / rounds)
        .collect()
}

#[test]
fn when_all_ask_for_more_than_their_share_each_has_it_whatever_the_ratio() {
    for capacity in [0, 12] {
        for (weights, demands) in [
            (&[50, 50][..], &[2, 20][..]),
            (&[90, 10], &[2, 20]),
            (&[90, 10], &[20, 2]),
            (&[10, 30, 60, 0], &[20, 2, 2, 20]),
        ] {
            let means = contest(capacity, 20, weights, demands);
            let shares = apportion(20, weights);
            for (mean, share) in means.iter().zip(shares) {
                let is_near = (mean - f64::from(share)).abs() < 0.02 * 20.0;
                assert!(is_near, "{capacity} {weights:?} {demands:?}: {means:?}");
            }
        }
    }
}

#[test]
fn where_a_limit_is_too_small_for_all_those_who_wait_take_turns() {
    let means = contest(4, 1, &[90, 10], &[10, 1]);
    assert!(means.iter().all(|mean| *mean > 0.25), "{means:?}");
}

#[test]
fn of_a_full_queue_who_is_beyond_its_places_leaves_one_to_who_is_not() {
    let mut model = Model::new(1, 4, &[3, 1]);
    let ask = |part| Step::Ask { part, slots: 1 };
    for _ in 0..5 {
        model.run(&ask(1));
    }
    for _ in 0..3 {
        model.run(&ask(0));
    }
    assert_eq!((model.waiting_of(0), model.waiting_of(1)), (3, 1));
    model.run(&ask(0));
    model.run(&ask(1));
    assert_eq!((model.waiting_of(0), model.waiting_of(1)), (3, 1));
    let mut reverse: Vec<_> = model
        .ended
        .iter()
        .map(|(it, _)| Reverse(it.part()))
        .collect();
    reverse.dedup();
    assert_eq!(reverse, [Reverse(1)]);
}

/// A queue of two lanes, whose first has just emptied, and stands: all its turns came late.
fn of_two_lanes(rules: &Rules) -> (queue::Queue, u64) {
    let mut queue = queue::Queue::new(2);
    let late = 3 * rules.target;
    let mut now = 0;
    assert!(queue.begin(0, now, true, rules));
    let first = join(&mut queue, 0, now);
    while !queue.least_and_stands().1 {
        now += late;
        assert!(now < 10 * rules.interval, "it never stands");
        queue.turn(0, now, rules);
    }
    let _ = queue.remove(first);
    (queue, now)
}

fn join(queue: &mut queue::Queue, part: Part, since: u64) -> Place {
    let waiter = queue::Waiter {
        demand: Model::one(part),
        class: Criticality::CriticalPlus,
        since,
        last: u64::MAX,
    };
    queue.push(waiter, Waker::noop().clone())
}

#[test]
fn a_lane_is_another_queue_when_its_calls_did_not_have_to_wait_in_between() {
    let rules = rules(Order::Fifo, 9);
    let (mut queue, now) = of_two_lanes(&rules);
    assert!(!queue.begin(0, now, false, &rules), "it only ran empty");
    queue.pass(1);
    assert!(!queue.begin(0, now, false, &rules), "those of another lane");
    queue.pass(0);
    assert!(queue.begin(0, now, false, &rules));

    // While others wait, of its own: and all did not have to when nobody did.
    let (mut queue, now) = of_two_lanes(&rules);
    let other = join(&mut queue, 1, now);
    assert!(!queue.begin(1, now, true, &rules), "somebody waits there");
    assert!(queue.begin(0, now, false, &rules));
    let _ = queue.remove(other);

    // Who passes those of his own lane tells nothing of their wait.
    let (mut queue, now) = of_two_lanes(&rules);
    let first = join(&mut queue, 0, now);
    queue.pass(0);
    let _ = queue.remove(first);
    assert!(!queue.begin(0, now, false, &rules));
}

#[test]
fn a_lane_in_which_nobody_waits_does_not_stand() {
    let rules = rules(Order::Fifo, 9);
    let (mut queue, now) = of_two_lanes(&rules);
    let other = join(&mut queue, 1, now);
    assert_eq!(queue.least_and_stands(), (0, false));
    let first = join(&mut queue, 0, now);
    let (least, stands) = queue.least_and_stands();
    assert!(stands && least > rules.target);
    for place in [other, first] {
        let _ = queue.remove(place);
    }
}
