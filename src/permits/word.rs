//! Limit, taken and waiting in one word, and the steps from one to the next.

/// 21 bits each, and one more. A step returns `None` where it cannot be made. Nobody asks for more slots
/// than [`MAX`](Self::MAX) and one, so sums do not overflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) limit: u32,
    pub(crate) taken: u32,
    pub(crate) waiting: u32,
    /// Whether slots were free for somebody since somebody last began to wait where nobody did. Set in
    /// the same step that takes them, it costs who takes them nothing.
    pub(super) had_room: bool,
}

impl Word {
    const BITS: u32 = 21;
    pub(crate) const MAX: u32 = (1 << Self::BITS) - 1;

    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit: limit.min(Self::MAX as usize) as u32,
            taken: 0,
            waiting: 0,
            had_room: false,
        }
    }

    pub(super) const fn pack(self) -> u64 {
        (self.had_room as u64) << (3 * Self::BITS)
            | (self.limit as u64) << (2 * Self::BITS)
            | (self.taken as u64) << Self::BITS
            | self.waiting as u64
    }

    pub(super) const fn unpack(word: u64) -> Self {
        let mask = Self::MAX as u64;
        Self {
            limit: (word >> (2 * Self::BITS) & mask) as u32,
            taken: (word >> Self::BITS & mask) as u32,
            waiting: (word & mask) as u32,
            had_room: word >> (3 * Self::BITS) != 0,
        }
    }

    pub(super) fn with_limit(self, limit: usize) -> Self {
        let limit = Self::new(limit).limit;
        Self { limit, ..self }
    }

    /// Takes `slots` where they are free and nobody waits.
    pub(super) fn take(self, slots: u32) -> Option<Self> {
        if self.waiting > 0 {
            return None;
        }
        let taken = self.grant(slots)?;
        let had_room = true;
        Some(Self { had_room, ..taken })
    }

    /// Takes `slots` where they are free, for one who waits or is to be served before all who do.
    pub(super) fn grant(self, slots: u32) -> Option<Self> {
        let taken = self.taken + slots;
        (taken <= self.limit).then_some(Self { taken, ..self })
    }

    pub(super) fn give_back(self, slots: u32) -> Option<Self> {
        let taken = self.taken.checked_sub(slots)?;
        Some(Self { taken, ..self })
    }

    /// Whether `slots` are more than there will ever be. A limit of zero is a pause: it dooms nobody.
    pub(super) const fn dooms(self, slots: u32) -> bool {
        self.limit > 0 && slots > self.limit
    }

    /// One more waits.
    pub(super) const fn wait(self) -> Self {
        Self {
            waiting: self.waiting + 1,
            had_room: false,
            ..self
        }
    }

    pub(super) fn leave(self) -> Option<Self> {
        let waiting = self.waiting.checked_sub(1)?;
        Some(Self { waiting, ..self })
    }

    /// Ends the wait of one who asked for `slots`, with them.
    pub(super) fn serve(self, slots: u32) -> Option<Self> {
        self.leave()?.grant(slots)
    }
}
