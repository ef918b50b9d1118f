//! Bytes from anywhere, for what reads the headers that others write.
//!
//! By default the same 200,000 byte strings every time, or as many as `STEADFAST_FUZZ_CASES` says. With
//! `STEADFAST_FUZZ_SECONDS` others every time, for so long; what fails tells its seed, which
//! `STEADFAST_FUZZ_SEED` takes.

use std::{
    env,
    hash::{BuildHasher, RandomState},
    str::FromStr,
    thread,
    time::{Duration, Instant},
};

use rand::{Rng, RngExt, SeedableRng, rngs::SmallRng};

/// What byte strings are made of.
pub(crate) struct Bytes {
    /// Well-formed, to be damaged.
    pub(crate) seeds: &'static [&'static str],
    /// Bytes that matter to the parser.
    pub(crate) telling: &'static [u8],
}

impl Bytes {
    /// Has `check` look at one byte string after another; it says whether it was understood, as one in
    /// twenty is to be, or the parser would not be tried.
    pub(crate) fn fuzz(&self, mut check: impl FnMut(&[u8]) -> bool) {
        let end = End::of_environment();
        let seed = set("STEADFAST_FUZZ_SEED").unwrap_or_else(|| end.seed());
        let mut run = Run {
            seed,
            cases: 0,
            bytes: Vec::new(),
        };
        let (mut rng, mut understood) = (SmallRng::seed_from_u64(seed), 0);
        while !end.is_reached(run.cases) {
            self.fill(&mut rng, &mut run.bytes);
            run.cases += 1;
            understood += u64::from(check(&run.bytes));
        }
        assert!(understood > run.cases / 20, "{understood} were understood");
    }

    /// A byte string: of any bytes, of those that matter, or one of the seeds with something changed.
    fn fill(&self, rng: &mut SmallRng, bytes: &mut Vec<u8>) {
        let any_of = |rng: &mut SmallRng| self.telling[rng.random_range(0..self.telling.len())];
        bytes.clear();
        match rng.random_range(0..4) {
            0 => {
                let length = rng.random_range(0..24);
                bytes.resize(length, 0);
                rng.fill_bytes(bytes);
            }
            1 => {
                let length = rng.random_range(0..24);
                bytes.extend((0..length).map(|_| any_of(rng)));
            }
            _ => {
                bytes.extend(self.seeds[rng.random_range(0..self.seeds.len())].bytes());
                for _ in 0..rng.random_range(0..3) {
                    let at = rng.random_range(0..=bytes.len());
                    match rng.random_range(0..3) {
                        0 => bytes.insert(at, any_of(rng)),
                        1 if at < bytes.len() => drop(bytes.remove(at)),
                        _ if at < bytes.len() => bytes[at] = any_of(rng),
                        _ => bytes.truncate(at / 2),
                    }
                }
            }
        }
    }
}

fn set<T: FromStr>(name: &str) -> Option<T> {
    let value = env::var(name).ok()?;
    let number = value.parse().ok();
    Some(number.unwrap_or_else(|| panic!("{name} is a number, not {value:?}")))
}

/// How long it goes on.
enum End {
    Cases(u64),
    At(Instant),
}

impl End {
    #[allow(
        clippy::disallowed_methods,
        reason = "a test that runs for a time of the world outside"
    )]
    fn of_environment() -> Self {
        match set("STEADFAST_FUZZ_SECONDS") {
            Some(seconds) => Self::At(Instant::now() + Duration::from_secs(seconds)),
            None => Self::Cases(set("STEADFAST_FUZZ_CASES").unwrap_or(200_000)),
        }
    }

    fn seed(&self) -> u64 {
        match self {
            Self::Cases(_) => 1,
            Self::At(_) => RandomState::new().hash_one(()),
        }
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "a test that runs for a time of the world outside"
    )]
    fn is_reached(&self, cases: u64) -> bool {
        match self {
            Self::Cases(all) => cases == *all,
            Self::At(end) => cases.is_multiple_of(1_024) && Instant::now() >= *end,
        }
    }
}

/// Tells what it was, where something panics.
struct Run {
    seed: u64,
    cases: u64,
    bytes: Vec<u8>,
}

impl Drop for Run {
    fn drop(&mut self) {
        if thread::panicking() {
            let Self { seed, cases, bytes } = self;
            let bytes = bytes.escape_ascii();
            eprintln!("case {cases} of STEADFAST_FUZZ_SEED={seed}: \"{bytes}\"");
        }
    }
}

pub(crate) fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}
