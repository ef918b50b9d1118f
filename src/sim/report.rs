//! What became of a load.

use std::{fmt::Write, ops::Range, time::Duration};

use super::{Call, Outcome};

/// What became of all calls of a load, in the order in which they came.
///
/// Whatever is counted over time is counted by when the calls **came**: a share is one of those who came
/// then, whenever they had their answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    calls: Vec<Call>,
    length: Duration,
}

impl Report {
    pub(super) const fn new(calls: Vec<Call>, length: Duration) -> Self {
        Self { calls, length }
    }

    /// All calls.
    #[must_use]
    pub fn calls(&self) -> &[Call] {
        &self.calls
    }

    /// How long the load lasted.
    #[must_use]
    pub const fn length(&self) -> Duration {
        self.length
    }

    /// All of it.
    pub fn whole(&self) -> Part<'_> {
        self.during(Duration::ZERO..self.length)
    }

    /// The calls that came in a part of it, counted from the beginning of the load.
    pub fn during(&self, part: Range<Duration>) -> Part<'_> {
        let until = |end| self.calls.partition_point(|call| call.arrived < end);
        let (from, to) = (until(part.start), until(part.end));
        Part {
            calls: &self.calls[from..to.max(from)],
            length: part.end.min(self.length).saturating_sub(part.start),
        }
    }

    /// Its parts of this length, one after another. What is left at the end is the last.
    ///
    /// # Panics
    ///
    /// If the length is zero.
    pub fn by_slot(&self, slot: Duration) -> impl Iterator<Item = Part<'_>> {
        assert!(!slot.is_zero(), "a slot of no time");
        let starts = (0..).map(move |number: u32| slot * number);
        let starts = starts.take_while(|start| *start < self.length);
        starts.map(move |start| self.during(start..start + slot))
    }

    /// How long after `trigger` the first `window` begins in which at least `share` of the calls were good.
    /// `None` where there is none. To a fifth of the window.
    ///
    /// A window is whole; one without calls does not count.
    ///
    /// # Panics
    ///
    /// If the window is zero.
    #[must_use]
    pub fn recovery(&self, trigger: Duration, share: f64, window: Duration) -> Option<Duration> {
        assert!(!window.is_zero(), "a window of no time");
        let steps = (0..).map(|step: u32| window * step / 5);
        let mut steps = steps.take_while(|step| trigger + *step + window <= self.length);
        steps.find(|step| {
            let part = self.during(trigger + *step..trigger + *step + window);
            part.offered() > 0 && part.good_share() >= share
        })
    }

    /// A table in Markdown, with a row for each of these parts.
    #[must_use]
    pub fn table(&self, parts: &[(&str, Range<Duration>)]) -> String {
        let mut table = String::from(
            "| | offered/s | good/s | good | late | failed | timed out | refused | p50 | p99 |\n\
             |---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
        );
        for (name, range) in parts {
            let part = self.during(range.clone());
            let rate = |calls: u64| calls as f64 / part.length.as_secs_f64().max(1e-9);
            let ms = |quantile| {
                let took = part.quantile(quantile);
                took.map_or("-".to_owned(), |took| format!("{} ms", took.as_millis()))
            };
            let _ = writeln!(
                table,
                "| {name} | {:.0} | {:.0} | {:.1} % | {} | {} | {} | {} | {} | {} |",
                rate(part.offered()),
                rate(part.good()),
                100.0 * part.good_share(),
                part.count(|outcome| outcome == Outcome::Late),
                part.count(|outcome| outcome == Outcome::Failed),
                part.count(|outcome| outcome == Outcome::TimedOut),
                part.count(|outcome| matches!(outcome, Outcome::Refused(_))),
                ms(0.5),
                ms(0.99),
            );
        }
        table
    }
}

/// The calls of a [`Report`] that came in a part of it.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Part<'a> {
    calls: &'a [Call],
    length: Duration,
}

impl<'a> Part<'a> {
    /// The calls.
    #[must_use]
    pub const fn calls(&self) -> &'a [Call] {
        self.calls
    }

    /// How many there were.
    #[must_use]
    pub const fn offered(&self) -> u64 {
        self.calls.len() as u64
    }

    /// How many had this outcome.
    pub fn count(&self, is_counted: impl Fn(Outcome) -> bool) -> u64 {
        let calls = self.calls.iter();
        calls.filter(|call| is_counted(call.outcome)).count() as u64
    }

    /// How many were good.
    #[must_use]
    pub fn good(&self) -> u64 {
        self.count(|outcome| outcome == Outcome::Good)
    }

    /// Which share of them was good; 1 where there were none.
    #[must_use]
    pub fn good_share(&self) -> f64 {
        if self.calls.is_empty() {
            return 1.0;
        }
        self.good() as f64 / self.offered() as f64
    }

    /// How many of them were good, per second of the part.
    #[must_use]
    pub fn goodput(&self) -> f64 {
        self.good() as f64 / self.length.as_secs_f64()
    }

    /// How long those took that were answered, in time or not: no more than so in this share of them. The
    /// exact value, by nearest rank. `None` where none was answered.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let is_answered = |call: &&Call| matches!(call.outcome, Outcome::Good | Outcome::Late);
        let answered = self.calls.iter().filter(is_answered);
        let mut took: Vec<_> = answered.map(|call| call.took).collect();
        let last = took.len().checked_sub(1)?;
        let rank = (share.clamp(0.0, 1.0) * took.len() as f64).ceil() as usize;
        let (_, value, _) = took.select_nth_unstable(rank.saturating_sub(1).min(last));
        Some(*value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEC: Duration = Duration::from_secs(1);

    /// A call a second, each of which took as many as it has come late.
    fn report(outcomes: &[Outcome]) -> Report {
        let call = |(second, outcome): (usize, &Outcome)| Call {
            arrived: SEC * second as u32,
            took: SEC * second as u32,
            outcome: *outcome,
        };
        let calls: Vec<_> = outcomes.iter().enumerate().map(call).collect();
        let length = SEC * calls.len() as u32;
        Report::new(calls, length)
    }

    #[test]
    fn a_quantile_is_the_nearest_rank_of_those_answered() {
        let report = report(&[Outcome::Good; 100]);
        let at = |share| report.whole().quantile(share).unwrap().as_secs();
        assert_eq!([at(0.0), at(0.5), at(0.99), at(1.0)], [0, 49, 98, 99]);
        assert_eq!(self::report(&[Outcome::Failed]).whole().quantile(0.5), None);
    }

    #[test]
    fn a_part_begins_at_its_beginning_and_ends_before_its_end() {
        let report = report(&[Outcome::Good, Outcome::Late, Outcome::Good, Outcome::Failed]);
        let part = report.during(SEC..3 * SEC);
        assert_eq!((part.offered(), part.good()), (2, 1));
        assert_eq!((part.good_share(), part.goodput()), (0.5, 0.5));
        let slots: Vec<_> = report.by_slot(3 * SEC).map(|part| part.offered()).collect();
        assert_eq!(slots, [3, 1]);
    }

    #[test]
    fn recovery_is_counted_to_the_beginning_of_the_first_good_window() {
        let mut outcomes = vec![Outcome::Failed; 20];
        outcomes.extend([Outcome::Good; 20]);
        let report = report(&outcomes);
        assert_eq!(report.recovery(10 * SEC, 1.0, 5 * SEC), Some(10 * SEC));
        assert_eq!(report.recovery(10 * SEC, 0.6, 5 * SEC), Some(8 * SEC));
        assert_eq!(
            report.recovery(36 * SEC, 1.0, 5 * SEC),
            None,
            "no whole window is left"
        );
    }

    #[test]
    fn a_table_has_a_row_for_each_part() {
        let report = report(&[Outcome::Good, Outcome::TimedOut]);
        let table = report.table(&[("first", Duration::ZERO..SEC), ("second", SEC..2 * SEC)]);
        let rows: Vec<_> = table.lines().skip(2).collect();
        assert_eq!(
            rows[0],
            "| first | 1 | 1 | 100.0 % | 0 | 0 | 0 | 0 | 0 ms | 0 ms |"
        );
        assert_eq!(
            rows[1],
            "| second | 1 | 0 | 0.0 % | 0 | 0 | 1 | 0 | - | - |"
        );
    }
}
