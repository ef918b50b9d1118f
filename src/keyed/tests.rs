//! The map against a slow list of who is there.
#![allow(clippy::disallowed_types, reason = "tests stand outside of the doors")]

use std::{collections::BTreeMap, sync::Arc};

use proptest::{prelude::*, test_runner::RngSeed};

use super::*;

const IDLE: u64 = 100;

/// Who it is, so that one forgotten and made anew is told from one that was kept.
#[derive(Debug)]
struct Value {
    id: u64,
    matters: std::sync::atomic::AtomicBool,
}

impl Value {
    fn new(id: u64) -> Self {
        Self {
            id,
            matters: false.into(),
        }
    }

    fn rest(&self) -> Rest {
        if self.matters.load(std::sync::atomic::Ordering::SeqCst) {
            Rest::Matters
        } else {
            Rest::AtRest
        }
    }
}

/// What the model knows of a key.
#[derive(Debug)]
struct Known {
    id: u64,
    matters: bool,
    /// No later than when it was used last.
    used: u64,
    held: Vec<Held<Value>>,
}

struct Pair {
    map: KeyedMap<u8, Value>,
    max_keys: usize,
    now: u64,
    ids: u64,
    known: BTreeMap<u8, Known>,
    /// States that found no room.
    guests: Vec<Held<Value>>,
}

#[derive(Clone, Debug)]
enum Step {
    Call(u8),
    Hold(u8),
    Release(u8),
    Matter(u8, bool),
    Wait(u64),
}

impl Pair {
    fn new(max_keys: usize) -> Self {
        Self {
            map: KeyedMap::new(max_keys, IDLE).unwrap(),
            max_keys,
            now: 0,
            ids: 0,
            known: BTreeMap::new(),
            guests: Vec::new(),
        }
    }

    fn call(&mut self, key: u8) -> Held<Value> {
        if let Some(held) = self.map.get(&key) {
            let known = self.known.get_mut(&key).expect("a key from nowhere");
            assert_eq!(held.id, known.id);
            known.used = self.now;
            return held;
        }
        assert!(!self.known.contains_key(&key), "{key} has been forgotten");
        self.ids += 1;
        let Entered {
            state,
            room,
            evicted,
        } = self
            .map
            .enter(&key, Value::new(self.ids), self.now, Value::rest);
        assert_eq!(state.id, self.ids);

        // Who has gone, and whether they might.
        let peek = |key: &u8| self.map.peek(key).map(|held| held.id);
        let gone = self.known.iter().map(|(key, known)| (*key, known.id));
        let gone: Vec<_> = gone.filter(|(key, id)| peek(key) != Some(*id)).collect();
        assert_eq!(gone.len(), evicted);
        let was_full = self.known.len() == self.max_keys;
        let gone: Vec<_> = gone
            .iter()
            .map(|(key, _)| self.known.remove(key).unwrap())
            .collect();
        for known in &gone {
            assert!(known.held.is_empty(), "forgotten in use: {known:?}");
        }
        let is_idle = |known: &&Known| !known.matters && known.used + IDLE <= self.now;
        let for_room = gone.iter().filter(|known| !is_idle(known)).count();
        assert!(for_room <= usize::from(was_full), "forgotten for no reason");
        if gone.iter().any(|known| known.matters) {
            let rest = self.known.values().filter(|known| known.held.is_empty());
            assert_eq!(rest.filter(|known| !known.matters).count(), 0);
        }

        assert_ne!(room, Room::Known);
        if room == Room::Found {
            let known = Known {
                id: state.id,
                matters: false,
                used: self.now,
                held: Vec::new(),
            };
            self.known.insert(key, known);
        } else {
            assert_eq!(self.known.len(), self.max_keys);
            let in_use = |known: &Known| !known.held.is_empty();
            assert!(self.known.values().all(in_use), "there was room");
        }
        state
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Call(key) => drop(self.call(key)),
            Step::Hold(key) => {
                let held = self.call(key);
                match self.known.get_mut(&key) {
                    Some(known) => known.held.push(held),
                    None => self.guests.push(held),
                }
            }
            Step::Release(key) => {
                if let Some(known) = self.known.get_mut(&key) {
                    known.held.pop();
                }
            }
            Step::Matter(key, matters) => {
                if let (Some(held), Some(known)) = (self.map.peek(&key), self.known.get_mut(&key)) {
                    held.matters
                        .store(matters, std::sync::atomic::Ordering::SeqCst);
                    known.matters = matters;
                }
            }
            Step::Wait(time) => self.now += time,
        }
        assert!(self.map.len() <= self.max_keys);
        assert_eq!(self.map.len(), self.known.len());
        let mut keys = self.map.keys();
        keys.sort_unstable();
        assert!(keys.iter().eq(self.known.keys()));
    }
}

fn step() -> impl Strategy<Value = Step> {
    let key = || 0..12_u8;
    prop_oneof![
        10 => key().prop_map(Step::Call),
        5 => key().prop_map(Step::Hold),
        5 => key().prop_map(Step::Release),
        2 => (key(), any::<bool>()).prop_map(|(key, matters)| Step::Matter(key, matters)),
        2 => (0..2 * IDLE).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::with_cases(1_000)
    })]

    #[test]
    fn keys_are_kept_and_forgotten_as_the_rules_say(
        max_keys in 1..10_usize,
        steps in proptest::collection::vec(step(), 0..200),
    ) {
        let mut pair = Pair::new(max_keys);
        for step in &steps {
            pair.run(step);
        }
    }
}

fn map(max_keys: usize) -> KeyedMap<u32, Value> {
    KeyedMap::new(max_keys, IDLE).unwrap()
}

fn call(map: &KeyedMap<u32, Value>, key: u32, now: u64) -> Held<Value> {
    let known = map.get(&key);
    known.unwrap_or_else(|| {
        let value = Value::new(key.into());
        map.enter(&key, value, now, Value::rest).state
    })
}

#[test]
fn a_flood_of_keys_that_come_once_does_not_wash_away_those_in_regular_use() {
    let map = map(100);
    for flood in 0..10_000 {
        for regular in 0..50 {
            if flood == 0 || flood % 20 == 0 {
                assert!(flood == 0 || map.peek(&regular).is_some(), "{regular}");
                drop(call(&map, regular, 0));
            }
        }
        drop(call(&map, 1_000 + flood, 0));
    }
    assert_eq!(map.len(), 100);
}

#[test]
fn what_is_idle_goes_though_the_bound_is_far_off() {
    let map = map(1_000);
    (0..100).for_each(|key| drop(call(&map, key, 0)));
    for key in 100..200 {
        drop(call(&map, key, IDLE - 1));
    }
    assert_eq!(map.len(), 200, "none has been idle for so long");
    for key in 200..400 {
        drop(call(&map, key, IDLE));
    }
    assert!((0..100).all(|key| map.peek(&key).is_none()));
    assert_eq!(map.len(), 300);
}

#[test]
fn keys_in_use_are_never_forgotten_under_threads() {
    let map = Arc::new(map(8));
    std::thread::scope(|scope| {
        for thread in 0..2_u32 {
            let map = map.clone();
            scope.spawn(move || {
                for n in 0..20_000_u32 {
                    // Of the keys 0..4 each belongs to one thread, which finds the state that it left.
                    let own = thread * 2 + n % 2;
                    let held = call(&map, own, 0);
                    for other in 0..3 {
                        drop(call(&map, 100 + (n * 7 + thread * 3 + other) % 50, 0));
                    }
                    let found = map.peek(&own).expect("kept, for it is in use");
                    assert!(std::ptr::eq(&raw const *held, &raw const *found));
                }
            });
        }
    });
    assert!(map.len() <= 8);
}

#[test]
fn two_threads_that_bring_the_same_key_share_one_state() {
    for key in 0..2_000 {
        let map = map(4);
        let bring = || call(&map, key, 0);
        let (one, other) = std::thread::scope(|scope| {
            let (one, other) = (scope.spawn(bring), scope.spawn(bring));
            (one.join().unwrap(), other.join().unwrap())
        });
        assert!(std::ptr::eq(&raw const *one, &raw const *other));
    }
}
