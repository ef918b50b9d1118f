//! The words in which a breaker keeps its state.

/// What a circuit breaker does with calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// Lets calls pass, and counts them.
    Closed,
    /// Refuses calls until its open time is over.
    Open,
    /// Lets a few calls pass as probes, which decide whether it closes or opens again.
    HalfOpen,
    /// Lets a growing share of calls pass, and counts them, until it closes; see
    /// [`Ramp`](super::Ramp).
    Recovering,
    /// Refuses calls because it was told to.
    ForcedOpen,
    /// Lets calls pass because it was told to, and counts them; no rule trips it.
    ForcedClosed,
    /// Lets calls pass as if it were not there.
    Disabled,
}

impl State {
    pub(super) const ALL: [Self; 7] = [
        Self::Closed,
        Self::Open,
        Self::HalfOpen,
        Self::Recovering,
        Self::ForcedOpen,
        Self::ForcedClosed,
        Self::Disabled,
    ];

    /// The state as metrics and events spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::Recovering => "recovering",
            Self::ForcedOpen => "forced_open",
            Self::ForcedClosed => "forced_closed",
            Self::Disabled => "disabled",
        }
    }

    /// Whether every call passes.
    pub(super) const fn lets_all_pass(self) -> bool {
        matches!(self, Self::Closed | Self::ForcedClosed | Self::Disabled)
    }

    /// Whether calls are counted by the rules.
    pub(super) const fn is_counting(self) -> bool {
        matches!(self, Self::Closed | Self::Recovering | Self::ForcedClosed)
    }
}

/// The state (lowest byte), and how many changes of state there have been: the generation. A call
/// carries the word it was admitted under, so that its result decides nothing under a later one.
///
/// Kept packed: the question that every call asks, is it still the same, is then one comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word(pub(super) u64);

impl Word {
    pub(super) const fn new(state: State, generation: u32) -> Self {
        Self((generation as u64) << 8 | state as u64)
    }

    #[inline]
    pub(super) const fn is(self, state: State) -> bool {
        self.0 & 0xff == state as u64
    }

    pub(super) const fn state(self) -> State {
        State::ALL[(self.0 & 0xff) as usize]
    }

    #[inline]
    pub(super) const fn generation(self) -> u32 {
        (self.0 >> 8) as u32
    }

    /// This word after a change to `state`.
    pub(super) const fn change(self, state: State) -> Self {
        Self::new(state, self.generation().wrapping_add(1))
    }
}

/// How the probes of a half-open round stand. Eight bits each, and 16 of the round's generation, so
/// that a probe that has just been overtaken by another round finds another word and leaves it alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Probes {
    pub(super) round: u32,
    pub(super) in_flight: u8,
    pub(super) done: u8,
    pub(super) failed: u8,
    pub(super) slow: u8,
    pub(super) tail: u8,
    /// Failures since the last probe that did not fail.
    pub(super) run: u8,
}

impl Probes {
    const ROUND: u32 = (1 << 16) - 1;

    pub(super) fn round(generation: u32) -> Self {
        Self {
            round: generation & Self::ROUND,
            ..Self::default()
        }
    }

    pub(super) const fn is_of(self, generation: u32) -> bool {
        self.round == generation & Self::ROUND
    }

    pub(super) const fn pack(self) -> u64 {
        (self.round as u64) << 48
            | (self.in_flight as u64) << 40
            | (self.done as u64) << 32
            | (self.failed as u64) << 24
            | (self.slow as u64) << 16
            | (self.tail as u64) << 8
            | self.run as u64
    }

    pub(super) const fn unpack(word: u64) -> Self {
        Self {
            round: (word >> 48) as u32,
            in_flight: (word >> 40) as u8,
            done: (word >> 32) as u8,
            failed: (word >> 24) as u8,
            slow: (word >> 16) as u8,
            tail: (word >> 8) as u8,
            run: word as u8,
        }
    }
}

/// How far the calls that a recovering breaker was asked for have come to the next that passes, in
/// millionths of a call, and the generation they belong to.
///
/// Every call adds the share at which it was asked for; one passes whenever a whole has come
/// together. So of any number of calls exactly their share passes, also where the share changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Portion {
    generation: u32,
    millionths: u32,
}

impl Portion {
    const WHOLE: u32 = 1_000_000;

    /// The start of a generation, in which the first call passes at whatever share.
    pub(super) const fn begin(generation: u32) -> Self {
        Self {
            generation,
            millionths: Self::WHOLE - 1,
        }
    }

    pub(super) const fn is_of(self, generation: u32) -> bool {
        self.generation == generation
    }

    /// After one more call, and whether it passes. `share` is at most a whole.
    pub(super) const fn ask(self, share: u32) -> (Self, bool) {
        let sum = self.millionths + share;
        let next = Self {
            generation: self.generation,
            millionths: sum % Self::WHOLE,
        };
        (next, sum >= Self::WHOLE)
    }

    pub(super) const fn pack(self) -> u64 {
        (self.generation as u64) << 32 | self.millionths as u64
    }

    pub(super) const fn unpack(word: u64) -> Self {
        Self {
            generation: (word >> 32) as u32,
            millionths: word as u32,
        }
    }
}
