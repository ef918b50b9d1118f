//! How a breaker lets calls pass again after an outage. Pure.

use std::time::Duration;

use crate::{
    error::{InvalidSetting, not_zero},
    time::nanos,
    window::Ratio,
};

/// Lets calls pass again in steps, once the probes went well and before the breaker closes.
///
/// A service that has just recovered has cold caches and few connections; all callers at once may be
/// what takes it down again. Each step lets a share of the calls pass and refuses the others, with
/// the time to the end of the step. The calls that pass are judged by the rules of a closed breaker,
/// over all steps as one; where they trip it, it opens for longer than the last time. Steps pass by
/// time, which the next call finds out. The settings are checked when the breaker is built.
///
/// vulcand/oxy ramps up linearly, seatbelt by stages, Envoy (slow start) by weight in its balancer.
#[derive(Clone, Debug)]
#[must_use]
pub struct Ramp(Given);

#[derive(Clone, Debug)]
enum Given {
    Steps(Vec<f64>, Duration),
    Linear(u32, Duration),
}

impl Ramp {
    /// Steps that let these shares of the calls pass, for `step_duration` each.
    ///
    /// Between 1 and 100 shares, each in 0.000001..=1 and larger than the one before.
    pub fn steps(shares: impl Into<Vec<f64>>, step_duration: Duration) -> Self {
        Self(Given::Steps(shares.into(), step_duration))
    }

    /// So many equal steps, `duration` in all. With 4 they are 20, 40, 60 and 80 %. In 1..=100.
    pub const fn linear(steps: u32, duration: Duration) -> Self {
        Self(Given::Linear(steps, duration))
    }

    pub(super) fn check(&self) -> Result<Steps, InvalidSetting> {
        match &self.0 {
            Given::Steps(shares, step) => Steps::check(shares, *step),
            Given::Linear(steps, duration) => Steps::check_linear(*steps, *duration),
        }
    }
}

/// A [`Ramp`], checked.
#[derive(Clone, Debug)]
pub(super) struct Steps {
    /// In millionths.
    shares: Box<[u32]>,
    step_nanos: u64,
}

impl Steps {
    const MAX: usize = 100;

    /// So long all steps may take together, that they end before time does: 146 years.
    const LONGEST: u64 = u64::MAX / 4;

    fn check(shares: &[f64], step: Duration) -> Result<Self, InvalidSetting> {
        let refuse = || {
            let allowed = "1 to 100 shares, each in 0.000001..=1 and larger than the one before";
            InvalidSetting::new("ramp.shares", shares, allowed)
        };
        let checked: Result<Box<[u32]>, _> = shares
            .iter()
            .map(|share| Ratio::new("ramp.shares", *share).map(Ratio::millionths))
            .collect();
        let checked = checked.map_err(|_| refuse())?;
        let grows = checked.windows(2).all(|pair| pair[0] < pair[1]);
        if !(1..=Self::MAX).contains(&checked.len()) || !grows {
            return Err(refuse());
        }
        let step = not_zero("ramp.step_duration", step)?;
        Ok(Self::new(checked, nanos(step)))
    }

    fn check_linear(steps: u32, duration: Duration) -> Result<Self, InvalidSetting> {
        if !(1..=Self::MAX as u32).contains(&steps) {
            return Err(InvalidSetting::new("ramp.steps", steps, "in 1..=100"));
        }
        let step = nanos(duration) / u64::from(steps);
        if step == 0 {
            let allowed = "at least a nanosecond for each step";
            return Err(InvalidSetting::new("ramp.duration", duration, allowed));
        }
        let share = |step| step * 1_000_000 / (steps + 1);
        Ok(Self::new((1..=steps).map(share).collect(), step))
    }

    fn new(shares: Box<[u32]>, step_nanos: u64) -> Self {
        let longest = Self::LONGEST / shares.len() as u64;
        Self {
            shares,
            step_nanos: step_nanos.min(longest),
        }
    }

    /// How long all steps take together.
    pub(super) const fn nanos(&self) -> u64 {
        self.step_nanos * self.shares.len() as u64
    }

    /// What the ramp is like `left` nanoseconds before its end.
    pub(super) fn at(&self, left: u64) -> Step {
        let gone = self.nanos().saturating_sub(left);
        let last = self.shares.len() - 1;
        let step = (gone / self.step_nanos).min(last as u64);
        Step {
            share: self.shares[step as usize],
            gone: gone - step * self.step_nanos,
            nanos: self.step_nanos,
        }
    }
}

/// A moment in a step of a ramp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// Of calls that pass, in millionths.
    pub(super) share: u32,
    /// How much of it is over.
    gone: u64,
    nanos: u64,
}

impl Step {
    /// For how much longer it lasts.
    pub(super) const fn ends_in(self) -> u64 {
        self.nanos.saturating_sub(self.gone)
    }

    /// For how long those must wait who are let in by time and not by number; zero for those who may
    /// come now.
    ///
    /// Who waits to be told ready is asked for no call meanwhile, so nobody can tell how many calls
    /// there are of which a share might pass. Instead a tenth of the step is open at its beginning
    /// for its share of the time, and so is each of the other nine.
    pub(super) fn opens_in(self) -> u64 {
        let tenth = (self.nanos / 10).max(1);
        let gone = self.gone % tenth;
        let open = (u128::from(tenth) * u128::from(self.share)).div_ceil(1_000_000);
        if u128::from(gone) < open {
            0
        } else {
            (tenth - gone).min(self.ends_in())
        }
    }
}

#[cfg(all(test, not(steadfast_loom)))]
mod tests {
    use super::*;

    fn steps(shares: &[f64], nanos: u64) -> Steps {
        Steps::check(shares, Duration::from_nanos(nanos)).unwrap()
    }

    #[test]
    fn a_step_begins_where_the_one_before_it_ends() {
        let ramp = steps(&[0.1, 0.25, 0.5], 10);
        assert_eq!(ramp.nanos(), 30);
        let seen = |left| (ramp.at(left).share, ramp.at(left).ends_in());
        assert_eq!(seen(30), (100_000, 10));
        assert_eq!(seen(21), (100_000, 1));
        assert_eq!(seen(20), (250_000, 10));
        assert_eq!(seen(1), (500_000, 1));
        assert_eq!(seen(0), (500_000, 0));
        assert_eq!(seen(u64::MAX), (100_000, 10), "before its start");
    }

    #[test]
    fn a_linear_ramp_divides_share_and_time_equally() {
        let ramp = Ramp::linear(4, Duration::from_nanos(100)).check().unwrap();
        let shares: Vec<_> = [100, 75, 50, 25].map(|left| ramp.at(left).share).into();
        assert_eq!(shares, [200_000, 400_000, 600_000, 800_000]);
    }

    #[test]
    fn an_endless_ramp_ends_before_time_does() {
        let forever = Duration::MAX;
        for ramp in [
            Ramp::steps([0.1, 0.2, 0.3], forever),
            Ramp::linear(7, forever),
        ] {
            let steps = ramp.check().unwrap();
            assert!(steps.nanos() <= u64::MAX / 4);
            assert_eq!(steps.at(steps.nanos()).gone, 0);
        }
    }

    #[test]
    fn each_tenth_of_a_step_is_open_for_its_share_of_the_time() {
        for share in [0.01, 0.25, 0.5, 1.0] {
            let ramp = steps(&[share], 1_000);
            let is_open = |gone: &u64| ramp.at(1_000 - gone).opens_in() == 0;
            let open = (0..1_000).filter(is_open).count();
            assert_eq!(open as f64, share * 1_000.0);
        }
        let ramp = steps(&[0.25], 1_000);
        assert_eq!(ramp.at(1_000 - 24).opens_in(), 0);
        assert_eq!(ramp.at(1_000 - 25).opens_in(), 75);
        assert_eq!(ramp.at(1).opens_in(), 1);
        assert_eq!(steps(&[0.5], 3).at(3).opens_in(), 0, "shorter than ten");
    }

    #[test]
    fn what_is_no_ramp_is_refused_by_name() {
        let ms = Duration::from_millis;
        let none: [f64; 0] = [];
        let cases = [
            (Ramp::steps(none, ms(1)), "ramp.shares"),
            (Ramp::steps([0.0], ms(1)), "ramp.shares"),
            (Ramp::steps([0.1, f64::NAN], ms(1)), "ramp.shares"),
            (Ramp::steps([1.1], ms(1)), "ramp.shares"),
            (Ramp::steps([0.2, 0.1], ms(1)), "ramp.shares"),
            (Ramp::steps([0.1, 0.1], ms(1)), "ramp.shares"),
            (
                Ramp::steps(
                    (1..=101).map(|n| f64::from(n) / 200.0).collect::<Vec<_>>(),
                    ms(1),
                ),
                "ramp.shares",
            ),
            (Ramp::steps([0.1], ms(0)), "ramp.step_duration"),
            (Ramp::linear(0, ms(1)), "ramp.steps"),
            (Ramp::linear(101, ms(1)), "ramp.steps"),
            (Ramp::linear(1, ms(0)), "ramp.duration"),
            (Ramp::linear(2, Duration::from_nanos(1)), "ramp.duration"),
        ];
        for (ramp, setting) in cases {
            assert_eq!(ramp.check().unwrap_err().setting(), setting, "{ramp:?}");
        }
        let hundred: Vec<_> = (1..=100).map(|n| f64::from(n) / 100.0).collect();
        assert!(Ramp::steps(hundred, ms(1)).check().is_ok());
        assert!(Ramp::linear(100, ms(1)).check().is_ok());
    }
}
