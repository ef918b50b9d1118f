//! A bounded number of states, found by key without a lock.

use std::{borrow::Borrow, fmt, hash::Hash, mem, ops::Deref};

use crate::{
    error::InvalidSetting,
    sync::{AtomicBool, Mutex, Ordering::Relaxed, StdArc, StdWeak, lock},
};

/// Whether a state that nobody uses may be forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rest {
    /// A new one would be as good.
    AtRest,
    /// It says something worth keeping.
    Matters,
}

/// A state by key. As long as this lives, the key is kept.
#[derive(Debug)]
pub(crate) struct Held<V>(StdArc<State<V>>);

#[derive(Debug)]
struct State<V> {
    /// Whether the state was asked for since a hand last came by. Written only where it was not, so
    /// that a busy key writes nothing here.
    is_used: AtomicBool,
    value: V,
}

impl<V> Clone for Held<V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<V> Deref for Held<V> {
    type Target = V;

    #[inline]
    fn deref(&self) -> &V {
        &self.0.value
    }
}

/// States by key, of a bounded number of keys.
///
/// The ring owns the states; the map, which is read without a lock, only points to them, and a call that
/// finds one there shares in it. So whether a state is in use, and whether it may still be found, is one
/// and the same number, the reference count: it is one where only the ring has it, and taking it from
/// one to none is what forgets the key. A call that comes then finds a pointer to nothing, as if the
/// key had never been.
pub(crate) struct KeyedMap<K, V> {
    map: papaya::HashMap<K, StdWeak<State<V>>>,
    ring: Mutex<Ring<K, V>>,
    max_keys: usize,
    idle_nanos: u64,
}

/// All states, in a ring around which two hands go. One looks for those to be forgotten for a new one:
/// the CLOCK algorithm of F. J. Corbató (1968). The other looks for those that have long been idle.
struct Ring<K, V> {
    slots: Vec<Slot<K, V>>,
    room_hand: usize,
    idle_hand: usize,
}

struct Slot<K, V> {
    key: K,
    state: StdArc<State<V>>,
    /// When it was found used last, by a hand or as new: not before it was.
    seen: u64,
    /// Whether it was used since the hand that looks for room last came by.
    has_chance: bool,
}

/// What came of a key that was not known.
#[derive(Debug)]
pub(crate) struct Entered<V> {
    pub(crate) state: Held<V>,
    pub(crate) room: Room,
    /// How many states were forgotten.
    pub(crate) evicted: usize,
}

/// Whether there is room for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// Another call has brought the key in the meantime, and the state is its.
    Known,
    /// It is kept from now on.
    Found,
    /// All keys looked at are in use. The state dies with the call.
    None,
}

impl<K: Hash + Eq + Clone, V> KeyedMap<K, V> {
    /// How many states are looked at for one that is idle, at each new key.
    const LOOKS_FOR_IDLE: usize = 2;
    /// How many for one that can go, where the bound is reached.
    const LOOKS_FOR_ROOM: usize = 64;

    /// # Errors
    ///
    /// If `max_keys` is zero.
    pub(crate) fn new(max_keys: usize, idle_nanos: u64) -> Result<Self, InvalidSetting> {
        if max_keys == 0 {
            return Err(InvalidSetting::new("max_keys", max_keys, "at least 1"));
        }
        Ok(Self {
            map: papaya::HashMap::new(),
            ring: Mutex::new(Ring {
                slots: Vec::new(),
                room_hand: 0,
                idle_hand: 0,
            }),
            max_keys,
            idle_nanos,
        })
    }

    /// The state of a known key, for a call.
    #[inline]
    pub(crate) fn get<Q>(&self, key: &Q) -> Option<Held<V>>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq,
    {
        let held = self.peek(key)?;
        // Orders nothing: a hand that misses it by a moment takes the key for idle as of that moment.
        if !held.0.is_used.load(Relaxed) {
            held.0.is_used.store(true, Relaxed);
        }
        Some(held)
    }

    /// The state of a known key, for one who looks. To look is not to use.
    #[inline]
    pub(crate) fn peek<Q>(&self, key: &Q) -> Option<Held<V>>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq,
    {
        self.map.pin().get(key)?.upgrade().map(Held)
    }

    /// The state of a key that [`get`](Self::get) did not find: `value`, unless another call has been
    /// faster. `rest` says what may be forgotten for it.
    #[inline(never)]
    pub(crate) fn enter<Q>(
        &self,
        key: &Q,
        value: V,
        now: u64,
        rest: impl Fn(&V) -> Rest,
    ) -> Entered<V>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K>,
    {
        let state = StdArc::new(State {
            is_used: AtomicBool::new(false),
            value,
        });
        let (for_map, for_ring) = (key.to_owned(), key.to_owned());
        // Dropped after the lock is: what a key does then is not ours to say.
        let mut gone = Vec::new();

        let mut ring = lock(&self.ring);
        if let Some(state) = self.get(key) {
            let (room, evicted) = (Room::Known, 0);
            return Entered {
                state,
                room,
                evicted,
            };
        }
        for _ in 0..Self::LOOKS_FOR_IDLE {
            gone.extend(self.evict_idle(&mut ring, now, &rest));
        }
        let slot = Slot {
            key: for_ring,
            state: state.clone(),
            seen: now,
            has_chance: false,
        };
        let room = if ring.slots.len() < self.max_keys {
            ring.slots.push(slot);
            Room::Found
        } else if let Some(evicted) = self.evict_for(slot, &mut ring, now, &rest) {
            gone.push(evicted);
            Room::Found
        } else {
            Room::None
        };
        if room == Room::Found {
            let pointer = StdArc::downgrade(&state);
            self.map.pin().insert(for_map, pointer);
        }
        drop(ring);
        Entered {
            state: Held(state),
            room,
            evicted: gone.len(),
        }
    }

    /// Looks at one state, and forgets it if it has been idle for long and is at rest.
    fn evict_idle(
        &self,
        ring: &mut Ring<K, V>,
        now: u64,
        rest: impl Fn(&V) -> Rest,
    ) -> Option<(K, V)> {
        let at = next(&mut ring.idle_hand, ring.slots.len())?;
        let slot = &mut ring.slots[at];
        slot.look(now);
        let is_idle = now.saturating_sub(slot.seen) >= self.idle_nanos;
        if !is_idle || slot.is_in_use() || rest(&slot.state.value) != Rest::AtRest {
            return None;
        }
        let slot = ring.slots.swap_remove(at);
        let forgotten = self.forget(slot);
        forgotten.map_err(|slot| ring.slots.push(slot)).ok()
    }

    /// Forgets the state that will be missed the least, and puts `new` in its place. Not where all that
    /// are looked at are in use.
    fn evict_for(
        &self,
        mut new: Slot<K, V>,
        ring: &mut Ring<K, V>,
        now: u64,
        rest: impl Fn(&V) -> Rest,
    ) -> Option<(K, V)> {
        // Once more where a call came to the one that was chosen.
        for _ in 0..2 {
            let looks = Self::LOOKS_FOR_ROOM.min(ring.slots.len());
            let at = ring.choose(looks, now, &rest)?;
            let old = mem::replace(&mut ring.slots[at], new);
            match self.forget(old) {
                Ok(gone) => return Some(gone),
                Err(old) => new = mem::replace(&mut ring.slots[at], old),
            }
        }
        None
    }

    /// Forgets a state that nobody uses, or gives it back.
    fn forget(&self, slot: Slot<K, V>) -> Result<(K, V), Slot<K, V>> {
        match StdArc::try_unwrap(slot.state) {
            Ok(state) => {
                self.map.pin().remove(&slot.key);
                Ok((slot.key, state.value))
            }
            Err(state) => Err(Slot { state, ..slot }),
        }
    }

    /// How many keys are kept.
    pub(crate) fn len(&self) -> usize {
        lock(&self.ring).slots.len()
    }

    /// The keys that are kept, in no order.
    pub(crate) fn keys(&self) -> Vec<K> {
        let ring = lock(&self.ring);
        ring.slots.iter().map(|slot| slot.key.clone()).collect()
    }

    /// The states that are kept, in no order.
    pub(crate) fn all(&self) -> Vec<Held<V>> {
        let ring = lock(&self.ring);
        let states = ring.slots.iter().map(|slot| slot.state.clone());
        states.map(Held).collect()
    }
}

impl<K, V> Ring<K, V> {
    /// The state that will be missed the least, of those that nobody uses.
    fn choose(&mut self, looks: usize, now: u64, rest: impl Fn(&V) -> Rest) -> Option<usize> {
        let mut least = None;
        for look in 0..looks {
            let at = next(&mut self.room_hand, self.slots.len())?;
            let slot = &mut self.slots[at];
            slot.look(now);
            let has_chance = mem::take(&mut slot.has_chance);
            if slot.is_in_use() {
                continue;
            }
            let candidate = (rest(&slot.state.value), has_chance, slot.seen, look, at);
            if let (Rest::AtRest, false, ..) = candidate {
                return Some(at);
            }
            if least.is_none_or(|least| candidate < least) {
                least = Some(candidate);
            }
        }
        least.map(|(.., at)| at)
    }
}

/// Moves a hand on in a ring of `len`; says where it stood.
fn next(hand: &mut usize, len: usize) -> Option<usize> {
    let at = if *hand < len { *hand } else { 0 };
    *hand = at + 1;
    (at < len).then_some(at)
}

impl<K, V> Slot<K, V> {
    fn is_in_use(&self) -> bool {
        StdArc::strong_count(&self.state) > 1
    }

    /// Takes note of whether it was used since a hand last came by.
    fn look(&mut self, now: u64) {
        if self.state.is_used.swap(false, Relaxed) || self.is_in_use() {
            self.seen = now;
            self.has_chance = true;
        }
    }
}

impl<K, V> fmt::Debug for KeyedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedMap")
            .field("keys", &lock(&self.ring).slots.len())
            .field("max_keys", &self.max_keys)
            .finish_non_exhaustive()
    }
}
