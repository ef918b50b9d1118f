//! The generation of a limit and its drops, in one word.

/// The generation counts the changes of the limit. A call carries the one in which it began, and is counted
/// among the drops in one step with the look whether that still is the one: of calls that began before the
/// change none is taken for a sign against the limit after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// Goes round: a call would have to last through all 2^32 changes to be taken for a later one.
    pub(super) generation: u32,
    /// Calls of this generation that were dropped, and are in no sample yet.
    pub(super) dropped: u32,
}

impl Standing {
    #[inline]
    pub(super) const fn pack(self) -> u64 {
        (self.generation as u64) << 32 | self.dropped as u64
    }

    #[inline]
    pub(super) const fn unpack(word: u64) -> Self {
        Self {
            generation: (word >> 32) as u32,
            dropped: word as u32,
        }
    }

    /// With one drop more of a call of this generation; `None` if it is over.
    pub(super) fn with_drop(self, generation: u32) -> Option<Self> {
        let dropped = self.dropped.saturating_add(1);
        (self.generation == generation).then_some(Self { dropped, ..self })
    }

    /// Without so many drops, which are in a sample now.
    pub(super) const fn without_drops(self, dropped: u32) -> Self {
        Self {
            dropped: self.dropped.saturating_sub(dropped),
            ..self
        }
    }

    /// After a change.
    pub(super) const fn next(self) -> Self {
        Self {
            generation: self.generation.wrapping_add(1),
            dropped: 0,
        }
    }
}

#[cfg(all(test, not(steadfast_loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_what_is_unpacked() {
        for (generation, dropped) in [(0, 0), (1, 2), (u32::MAX, 0), (0, u32::MAX)] {
            let standing = Standing {
                generation,
                dropped,
            };
            assert_eq!(Standing::unpack(standing.pack()), standing);
        }
    }

    #[test]
    fn neither_number_runs_over_into_the_other() {
        let full = Standing {
            generation: u32::MAX,
            dropped: u32::MAX,
        };
        assert_eq!(full.with_drop(u32::MAX), Some(full));
        assert_eq!(full.next(), Standing::default());
    }
}
