//! What a response says, by rules of one's own.

use std::{array, fmt, ops::RangeInclusive};

use http::{HeaderMap, Response, StatusCode};

use super::{HttpClassifier, classifier::verdict, rule::Rule};
use crate::{
    classify::{AnyError, Classify, FailureKind, Verdict},
    error::InvalidSetting,
    pooled::PooledArc,
};

/// Judges HTTP responses as [`HttpClassifier`] does, but for the statuses that have a rule of their own;
/// made by [`HttpClassifier::builder`].
#[derive(Clone, Debug)]
pub struct CustomHttpClassifier<C = AnyError> {
    rules: PooledArc<Rules>,
    errors: C,
}

impl<C> CustomHttpClassifier<C> {
    /// What a response with this head says about the service. For responses that are not an
    /// [`http::Response`].
    #[must_use]
    pub fn verdict(&self, status: StatusCode, headers: &HeaderMap) -> Verdict {
        let rule = self.rules.0[usize::from(status.as_u16() - LOWEST)];
        verdict(rule, status, headers)
    }
}

impl<B, E, C> Classify<Response<B>, E> for CustomHttpClassifier<C>
where
    C: Classify<Response<B>, E>,
{
    fn classify(&self, result: Result<&Response<B>, &E>) -> Verdict {
        match result {
            Ok(response) => self.verdict(response.status(), response.headers()),
            error => self.errors.classify(error),
        }
    }

    fn classify_timed_out(&self, error: &E) -> Verdict {
        self.errors.classify_timed_out(error)
    }
}

/// The statuses that an [`http::StatusCode`] can be.
const LOWEST: u16 = 100;
const HIGHEST: u16 = 999;

/// A rule for each status. In one place, since each call holds the classifier.
struct Rules([Rule; (HIGHEST - LOWEST) as usize + 1]);

pooled!(Rules);

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules").finish_non_exhaustive()
    }
}

/// The settings of a [`CustomHttpClassifier`]; made by [`HttpClassifier::builder`]. Of rules that
/// overlap, the last one holds.
///
/// # Example
///
/// ```
/// use http::{HeaderMap, StatusCode};
/// use steadfast::{
///     Verdict, classify::{Failure, FailureKind}, http::HttpClassifier,
/// };
///
/// # fn main() -> Result<(), steadfast::InvalidSetting> {
/// let classifier = HttpClassifier::builder()
///     .failure(400..=499, FailureKind::Permanent) // our own requests: a 4xx is a defect
///     .success(404)
///     .failure(425, FailureKind::Transient)
///     .build()?;
///
/// let judge = |status| classifier.verdict(status, &HeaderMap::new());
/// assert_eq!(judge(StatusCode::CONFLICT), Failure::permanent().into());
/// assert_eq!(judge(StatusCode::NOT_FOUND), Verdict::Success);
/// assert_eq!(judge(StatusCode::BAD_GATEWAY), Failure::transient().into(), "as by default");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct HttpClassifierBuilder<C = AnyError> {
    rules: Vec<(StatusRange, Rule)>,
    errors: C,
}

impl HttpClassifierBuilder {
    pub(super) const fn new() -> Self {
        Self {
            rules: Vec::new(),
            errors: AnyError,
        }
    }
}

impl<C> HttpClassifierBuilder<C> {
    /// Takes these statuses for successes.
    pub fn success(self, statuses: impl Into<StatusRange>) -> Self {
        self.with(statuses.into(), Rule::Success)
    }

    /// Takes these statuses for no word on the service.
    pub fn ignored(self, statuses: impl Into<StatusRange>) -> Self {
        self.with(statuses.into(), Rule::Ignored)
    }

    /// Takes these statuses for failures of this kind; of which those that are not
    /// [permanent](FailureKind::Permanent) may be tried again.
    pub fn failure(self, statuses: impl Into<StatusRange>, kind: FailureKind) -> Self {
        self.with(statuses.into(), Rule::Failure(kind))
    }

    fn with(mut self, statuses: StatusRange, rule: Rule) -> Self {
        self.rules.push((statuses, rule));
        self
    }

    /// Puts errors to another classifier; a closure, for instance, that goes by their kind. Default:
    /// [`AnyError`], to which all are transient.
    ///
    /// ```
    /// use std::io;
    /// use http::Response;
    /// use steadfast::{Classify, Verdict, classify::Failure, http::HttpClassifier};
    ///
    /// # fn main() -> Result<(), steadfast::InvalidSetting> {
    /// let classifier = HttpClassifier::builder()
    ///     .errors(|result: Result<&Response<()>, &io::Error>| match result {
    ///         Err(error) if error.kind() == io::ErrorKind::InvalidInput => Verdict::Ignored,
    ///         Err(_) => Failure::transient().into(),
    ///         Ok(_) => unreachable!("it is asked about errors only"),
    ///     })
    ///     .build()?;
    /// let error = io::Error::from(io::ErrorKind::InvalidInput);
    /// assert_eq!(classifier.classify(Err(&error)), Verdict::Ignored);
    /// # Ok(())
    /// # }
    /// ```
    pub fn errors<D>(self, classifier: D) -> HttpClassifierBuilder<D> {
        HttpClassifierBuilder {
            rules: self.rules,
            errors: classifier,
        }
    }

    /// Checks the settings and builds the classifier.
    ///
    /// # Errors
    ///
    /// If a range is empty, or not within 100..=999; the error names it.
    pub fn build(self) -> Result<CustomHttpClassifier<C>, InvalidSetting> {
        let default = |at| {
            let status = u16::try_from(at).ok().map(|at| at + LOWEST);
            let status = status.and_then(|status| StatusCode::from_u16(status).ok());
            status.map_or(Rule::Success, HttpClassifier::rule)
        };
        let mut table = array::from_fn(default);
        for (StatusRange { first, last }, rule) in self.rules {
            if first < LOWEST || last > HIGHEST || first > last {
                let setting = match rule {
                    Rule::Success => "success",
                    Rule::Ignored => "ignored",
                    Rule::Failure(_) => "failure",
                };
                let allowed = "a range within 100..=999 that is not empty";
                return Err(InvalidSetting::new(setting, first..=last, allowed));
            }
            table[usize::from(first - LOWEST)..=usize::from(last - LOWEST)].fill(rule);
        }
        Ok(CustomHttpClassifier {
            rules: PooledArc::new(Rules(table)),
            errors: self.errors,
        })
    }
}

/// One status, or a range of them: made from a `u16`, a [`StatusCode`], or a `RangeInclusive<u16>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRange {
    first: u16,
    last: u16,
}

impl From<u16> for StatusRange {
    fn from(status: u16) -> Self {
        (status..=status).into()
    }
}

impl From<StatusCode> for StatusRange {
    fn from(status: StatusCode) -> Self {
        status.as_u16().into()
    }
}

impl From<RangeInclusive<u16>> for StatusRange {
    fn from(statuses: RangeInclusive<u16>) -> Self {
        let (first, last) = statuses.into_inner();
        Self { first, last }
    }
}
