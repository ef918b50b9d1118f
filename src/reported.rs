//! What a service says of its own load.

use crate::context::Criticality;

/// How loaded a service says it is, in one of its answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReportedLoad {
    utilization: f64,
    admitted: [Option<f64>; Criticality::ALL.len()],
}

impl ReportedLoad {
    /// Of a service that is asked for so much of what it can do: 1 is all of it, and 5 five times as much.
    ///
    /// `None` for what is no utilization: not a number, infinite, or less than zero.
    #[must_use]
    pub fn new(utilization: f64) -> Option<Self> {
        let is_one = (0.0..=f64::MAX).contains(&utilization);
        is_one.then_some(Self {
            utilization,
            admitted: [None; Criticality::ALL.len()],
        })
    }

    /// Adds which share of the calls of a criticality it lets pass; what is not in 0..=1 is brought there, and
    /// not a number says nothing.
    #[must_use]
    pub fn with_admitted(mut self, criticality: Criticality, share: f64) -> Self {
        if !share.is_nan() {
            self.admitted[criticality as usize] = Some(share.clamp(0.0, 1.0));
        }
        self
    }

    /// Of how much of what it can do the service is asked.
    #[must_use]
    pub const fn utilization(&self) -> f64 {
        self.utilization
    }

    /// Which share of the calls of a criticality it lets pass, if it says.
    #[must_use]
    pub const fn admitted(&self, criticality: Criticality) -> Option<f64> {
        self.admitted[criticality as usize]
    }
}

/// Reads from a response how loaded the service is. Implemented for closures, and for HTTP by
/// [`EndpointLoadMetrics`](crate::http::EndpointLoadMetrics).
pub trait ReadLoad<Res> {
    /// What the response says, if it does.
    fn read_load(&self, response: &Res) -> Option<ReportedLoad>;
}

impl<F, Res> ReadLoad<Res> for F
where
    F: Fn(&Res) -> Option<ReportedLoad>,
{
    fn read_load(&self, response: &Res) -> Option<ReportedLoad> {
        self(response)
    }
}
