//! How much each user has asked for of late, and which cohort that makes. Pure.
//!
//! Users come from the network, so they are not remembered: they are counted in a count-min sketch with
//! conservative update (G. Cormode and S. Muthukrishnan, 2005; C. Estan and G. Varghese, 2002), whose memory
//! is fixed. What is old is forgotten exponentially. Nobody goes round and does it: a cell says when it was
//! last written, and is taken for what has been left of it since.

use std::{array, iter};

use crate::sync::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// In how many cells a user is counted, each of a row of its own. The least of them is the least wrong.
const ROWS: usize = 4;

/// How many cells a row has.
const WIDTH: usize = 1024;

/// How often amounts shrink in the time in which they halve.
const TICKS: u32 = 8;

/// What amounts of before the last so many ticks are multiplied by, of 2^16.
const LEFT: [u64; TICKS as usize] = [
    65_536, 60_097, 55_109, 50_535, 46_341, 42_495, 38_968, 35_734,
];

/// How a share of all calls becomes a cohort. The 128 cohorts are 16 octaves, 8 to each: 14 of shares, down to
/// one of 16,384, and 2 over which those who ask alike are spread. Octaves are told in 256ths.
const OCTAVE: u32 = 1 << OCTAVE_BITS;
const OCTAVE_BITS: u32 = 8;
const OCTAVES: u32 = 14;
const SPREAD_BITS: u32 = OCTAVE_BITS + 1;
const PLACE_BITS: u32 = OCTAVE_BITS + 4;

/// What all users have asked for of late.
///
/// Of a user never too little is known, but for calls of the same instant. With no more than 1 in 50 too much
/// is, by more than 1 in 350 of all calls: e^-4, and e / 1024.
#[derive(Debug)]
pub(super) struct Usage {
    cells: Box<[AtomicU64]>,
    /// Now, as of the last sampling.
    tick: AtomicU32,
    /// The calls of all users, up to the last sampling.
    total: AtomicU64,
    nanos_per_tick: u64,
}

// Relaxed everywhere: a cell says all about itself, and only who samples writes `tick` and `total`, of which a
// call may see one without the other: for it all are then as a tick before.
impl Usage {
    /// One in which amounts halve in so many nanoseconds.
    pub(super) fn new(half_life: u64) -> Self {
        Self::of(half_life, WIDTH)
    }

    pub(super) fn of(half_life: u64, width: usize) -> Self {
        let cells = iter::repeat_with(AtomicU64::default).take(ROWS * width);
        Self {
            cells: cells.collect(),
            tick: AtomicU32::new(0),
            total: AtomicU64::new(0),
            nanos_per_tick: (half_life / u64::from(TICKS)).max(1),
        }
    }

    /// Counts a call of the user of this hash, and says where it then stands: the heavier the higher, and
    /// those alike by the hash and what it is salted with. The highest bits are the cohort.
    pub(super) fn place(&self, user: u64, salt: u64) -> u64 {
        let asked = octaves(self.count(user));
        let all = octaves(self.total.load(Relaxed));
        let below = all.saturating_sub(asked).min(OCTAVES * OCTAVE);
        let spread = (mixed(user ^ salt) >> (u64::BITS - SPREAD_BITS)) as u32;
        u64::from(OCTAVES * OCTAVE - below + spread) << (u64::BITS - PLACE_BITS)
    }

    /// Counts a call. Returns the amount of the user, this one in it.
    pub(super) fn count(&self, user: u64) -> u64 {
        let tick = self.tick.load(Relaxed);
        let cells = self.cells_of(user);
        let amounts = cells.map(|cell| Cell::unpack(cell.load(Relaxed)).left(tick));
        let least = amounts.into_iter().min().unwrap_or(0);
        let amount = (least + Cell::CALL).min(Cell::MAX);
        for (cell, known) in cells.into_iter().zip(amounts) {
            // What is more is others'. To raise it, too, is what conservative update does not do.
            if known < amount {
                Self::raise(cell, amount, tick);
            }
        }
        amount
    }

    /// In bytes, but for itself.
    #[cfg(all(test, not(steadfast_loom)))]
    pub(super) fn size(&self) -> usize {
        size_of_val(&*self.cells)
    }

    fn raise(cell: &AtomicU64, amount: u64, tick: u32) {
        let mut bits = cell.load(Relaxed);
        loop {
            let old = Cell::unpack(bits);
            if old.left(tick) >= amount {
                return;
            }
            // Of nothing it does not matter when it was written.
            let is_new = old.amount > 0 && old.age(tick) == 0;
            let tick = if is_new { old.tick } else { tick };
            let new = Cell { tick, amount }.pack();
            match cell.compare_exchange_weak(bits, new, Relaxed, Relaxed) {
                Ok(_) => return,
                Err(now) => bits = now,
            }
        }
    }

    fn cells_of(&self, user: u64) -> [&AtomicU64; ROWS] {
        let width = self.cells.len() / ROWS;
        array::from_fn(|row| {
            // Sixteen bits to a row, which are more than the cells of one.
            let column = (user >> (16 * row)) as usize % width;
            &self.cells[row * width + column]
        })
    }

    /// It is `now`, in nanoseconds, and there were so many calls since the last time. For one at a time.
    pub(super) fn look(&self, now: u64, calls: u64) {
        // Wraps, as the cells' do.
        let tick = (now / self.nanos_per_tick) as u32 & Cell::TICK;
        let total = Cell {
            tick: self.tick.load(Relaxed),
            amount: self
                .total
                .load(Relaxed)
                .saturating_add(calls.saturating_mul(Cell::CALL))
                .min(Cell::MAX),
        };
        self.total.store(total.left(tick), Relaxed);
        self.tick.store(tick, Relaxed);
    }
}

/// An amount, and the tick as of which it is that: 28 bits of the one, 36 of the other.
#[derive(Clone, Copy)]
struct Cell {
    tick: u32,
    amount: u64,
}

impl Cell {
    const AMOUNT_BITS: u32 = 36;
    const MAX: u64 = (1 << Self::AMOUNT_BITS) - 1;
    /// Ticks wrap: a cell that nobody has written for just as long, which is 38 days at least, is new again.
    const TICK: u32 = (1 << (u64::BITS - Self::AMOUNT_BITS)) - 1;
    /// A call. Parts of one are what is left of it.
    const CALL: u64 = 1 << 8;

    const fn unpack(bits: u64) -> Self {
        Self {
            tick: (bits >> Self::AMOUNT_BITS) as u32,
            amount: bits & Self::MAX,
        }
    }

    const fn pack(self) -> u64 {
        (self.tick as u64) << Self::AMOUNT_BITS | self.amount
    }

    /// How many ticks ago it was written: none, too, where it has been by one who knows of a tick a little
    /// later.
    const fn age(self, tick: u32) -> u32 {
        let age = tick.wrapping_sub(self.tick) & Self::TICK;
        if age > Self::TICK - 8 * TICKS { 0 } else { age }
    }

    /// What is left of it.
    const fn left(self, tick: u32) -> u64 {
        let age = self.age(tick);
        let halvings = age / TICKS;
        if halvings >= Self::AMOUNT_BITS {
            return 0;
        }
        ((self.amount >> halvings) * LEFT[(age % TICKS) as usize]) >> 16
    }
}

/// The binary logarithm of an amount in 256ths, less than a tenth too little; zero of nothing.
pub(super) fn octaves(amount: u64) -> u32 {
    let amount = amount.max(1);
    let whole = amount.ilog2();
    // With the highest bit out at the top, the next are how far it is to the next octave.
    let part = (amount << (u64::BITS - 1 - whole)) << 1 >> (u64::BITS - OCTAVE_BITS);
    whole * OCTAVE + part as u32
}

/// Bits of which each depends on all: the finalizer of `splitmix64`, by S. Vigna.
const fn mixed(bits: u64) -> u64 {
    let bits = (bits ^ bits >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let bits = (bits ^ bits >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ bits >> 31
}

#[cfg(all(test, steadfast_loom))]
mod loom_tests {
    use loom::thread;

    use super::*;
    use crate::sync::ConstArc;

    /// One cell: to explore all four of a user takes for ever.
    #[test]
    fn loom_of_amounts_written_at_once_the_greatest_stays_whoever_knows_of_a_later_tick() {
        loom::model(|| {
            let cell = ConstArc::new(AtomicU64::new(0));
            let raising = {
                let cell = cell.clone();
                thread::spawn(move || Usage::raise(&cell, 3 * Cell::CALL, 0))
            };
            Usage::raise(&cell, 2 * Cell::CALL, 1);
            raising.join().unwrap();
            let left = Cell::unpack(cell.load(Relaxed)).left(1);
            let least = Cell {
                tick: 0,
                amount: 3 * Cell::CALL,
            }
            .left(1);
            assert!((least..=3 * Cell::CALL).contains(&left), "{left}");
        });
    }
}
