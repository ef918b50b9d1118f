//! Limit, taken and waiting in one word, and the steps from one to the next.

/// 21 bits each. A step returns `None` where it cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) limit: u32,
    pub(crate) taken: u32,
    pub(crate) waiting: u32,
}

impl Word {
    const BITS: u32 = 21;
    pub(crate) const MAX: u32 = (1 << Self::BITS) - 1;

    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit: limit.min(Self::MAX as usize) as u32,
            taken: 0,
            waiting: 0,
        }
    }

    pub(super) const fn pack(self) -> u64 {
        (self.limit as u64) << (2 * Self::BITS)
            | (self.taken as u64) << Self::BITS
            | self.waiting as u64
    }

    pub(super) const fn unpack(word: u64) -> Self {
        let mask = Self::MAX as u64;
        Self {
            limit: (word >> (2 * Self::BITS) & mask) as u32,
            taken: (word >> Self::BITS & mask) as u32,
            waiting: (word & mask) as u32,
        }
    }

    pub(super) fn with_limit(self, limit: usize) -> Self {
        let limit = Self::new(limit).limit;
        Self { limit, ..self }
    }

    pub(super) fn take(self) -> Option<Self> {
        let taken = self.taken + 1;
        (taken <= self.limit && self.waiting == 0).then_some(Self { taken, ..self })
    }

    pub(super) fn give_back(self) -> Option<Self> {
        let taken = self.taken.checked_sub(1)?;
        Some(Self { taken, ..self })
    }

    /// Only where no slot can be taken, or a wait would begin that nobody ends.
    pub(super) fn wait(self) -> Option<Self> {
        let waiting = self.waiting + 1;
        self.take().is_none().then_some(Self { waiting, ..self })
    }

    pub(super) fn leave(self) -> Option<Self> {
        let waiting = self.waiting.checked_sub(1)?;
        Some(Self { waiting, ..self })
    }

    pub(super) fn hand_on(self) -> Option<Self> {
        let waiting = self.waiting.checked_sub(1)?;
        let taken = self.taken + 1;
        (taken <= self.limit).then_some(Self {
            taken,
            waiting,
            ..self
        })
    }
}
