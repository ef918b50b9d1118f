//! How a limiter stands, in one word: what a call needs to know of it as it begins, and whether it is to
//! be counted as it ends.

use crate::mode::Mode;

/// The generation is that of the limit: it counts its changes. A call carries the one in which it began, and
/// is counted among the drops in one step with the look whether that still is the one: of calls that
/// began before the change none is taken for a sign against the limit after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// Goes round: a call would have to last through all 2^32 changes to be taken for a later one.
    pub(super) generation: u32,
    /// Calls of this generation that were dropped, and are in no sample yet.
    pub(super) dropped: u32,
    pub(super) mode: Mode,
}

impl Standing {
    const MODE_BITS: u32 = 2;
    const MOST_DROPPED: u32 = (1 << (32 - Self::MODE_BITS)) - 1;

    pub(super) const fn new(mode: Mode) -> Self {
        Self {
            generation: 0,
            dropped: 0,
            mode,
        }
    }

    #[inline]
    pub(super) const fn pack(self) -> u64 {
        (self.generation as u64) << 32 | (self.dropped as u64) << Self::MODE_BITS | self.mode as u64
    }

    #[inline]
    pub(super) const fn unpack(word: u64) -> Self {
        let mode = match word & ((1 << Self::MODE_BITS) - 1) {
            0 => Mode::Enabled,
            1 => Mode::ObserveOnly,
            _ => Mode::Disabled,
        };
        Self {
            generation: (word >> 32) as u32,
            dropped: word as u32 >> Self::MODE_BITS,
            mode,
        }
    }

    /// With one drop more of a call of this generation; `None` if it is over.
    pub(super) fn with_drop(self, generation: u32) -> Option<Self> {
        let dropped = (self.dropped + 1).min(Self::MOST_DROPPED);
        (self.generation == generation).then_some(Self { dropped, ..self })
    }

    /// Without so many drops, which are in a sample now.
    pub(super) const fn without_drops(self, dropped: u32) -> Self {
        Self {
            dropped: self.dropped.saturating_sub(dropped),
            ..self
        }
    }

    /// After a change of the limit, or of the mode.
    pub(super) const fn next(self, mode: Mode) -> Self {
        Self {
            generation: self.generation.wrapping_add(1),
            dropped: 0,
            mode,
        }
    }
}

#[cfg(all(test, not(steadfast_loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_what_is_unpacked() {
        for mode in Mode::ALL {
            for (generation, dropped) in [(0, 0), (1, 2), (u32::MAX, Standing::MOST_DROPPED)] {
                let standing = Standing {
                    generation,
                    dropped,
                    mode,
                };
                assert_eq!(Standing::unpack(standing.pack()), standing);
            }
        }
    }

    #[test]
    fn drops_do_not_run_over_into_the_generation() {
        let full = Standing {
            dropped: Standing::MOST_DROPPED,
            ..Standing::new(Mode::Enabled)
        };
        assert_eq!(full.with_drop(0), Some(full));
        assert_eq!(full.next(Mode::Enabled).generation, 1);
    }
}
