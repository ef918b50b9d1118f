//! The `endpoint-load-metrics` field of the Open Request Cost Aggregation (ORCA), of xDS, in. Pure.

use http::{HeaderMap, HeaderName, Response};

use super::field;
use crate::{
    context::Criticality,
    reported::{ReadLoad, ReportedLoad},
};

pub(super) const HEADER: HeaderName = HeaderName::from_static("endpoint-load-metrics");

/// Reads how loaded a server is from the header `endpoint-load-metrics` of its responses, in the text format
/// of ORCA: what [`LoadReportLayer`](super::LoadReportLayer) writes, and other servers behind Envoy or gRPC.
///
/// `application_utilization` is the utilization, or `cpu_utilization` where that is not said, or zero, as
/// gRPC has it. Of ours `named_metrics.admitted.critical` and its like are the shares that pass. All are
/// digits, with a fraction or without, in exactly one field line of at most 2 KiB; a header in which one of
/// them is anything else, or stands twice, says nothing. The formats `JSON` and `BIN` are not read, nor are
/// reports in the trailers of gRPC.
///
/// # Example
///
/// ```
/// use http::Response;
/// use steadfast::{Criticality, http::EndpointLoadMetrics, throttle::ReadLoad};
///
/// let response = Response::builder()
///     .header(
///         "endpoint-load-metrics",
///         "TEXT application_utilization=2.5,mem_utilization=0.7,named_metrics.admitted.critical=0.8",
///     )
///     .body(())?;
/// let load = EndpointLoadMetrics.read_load(&response).unwrap();
/// assert_eq!(load.utilization(), 2.5);
/// assert_eq!(load.admitted(Criticality::Critical), Some(0.8));
/// assert_eq!(load.admitted(Criticality::Sheddable), None);
/// # Ok::<_, http::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::exhaustive_structs, reason = "the name says all that it does")]
pub struct EndpointLoadMetrics;

impl<B> ReadLoad<Response<B>> for EndpointLoadMetrics {
    fn read_load(&self, response: &Response<B>) -> Option<ReportedLoad> {
        self.load(response.headers())
    }
}

impl EndpointLoadMetrics {
    /// What headers say of the load, if they do. For responses that are not an [`http::Response`].
    #[must_use]
    pub fn load(&self, headers: &HeaderMap) -> Option<ReportedLoad> {
        const MOST_BYTES: usize = 2048;
        let value = field::only(headers, &HEADER)?.as_bytes();
        let metrics = value.trim_ascii().strip_prefix(b"TEXT ")?;
        if metrics.len() > MOST_BYTES {
            return None;
        }
        let (mut application, mut cpu) = (None, None);
        let mut admitted = [None; Criticality::ALL.len()];
        for metric in metrics.split(|&byte| byte == b',') {
            let equals = metric.iter().position(|&byte| byte == b'=')?;
            let (name, number) = metric.split_at(equals);
            let place = match name {
                b"application_utilization" => &mut application,
                b"cpu_utilization" => &mut cpu,
                other => match criticality(other) {
                    Some(criticality) => &mut admitted[criticality as usize],
                    None => continue, // not of interest
                },
            };
            if place.replace(decimal(&number[1..])?).is_some() {
                return None; // which of the two?
            }
        }
        let is_said = application.filter(|&utilization| utilization > 0.0);
        let load = ReportedLoad::new(is_said.or(cpu).or(application)?)?;
        let each = Criticality::ALL.into_iter().zip(admitted);
        Some(each.fold(load, |load, (criticality, share)| match share {
            Some(share) => load.with_admitted(criticality, share),
            None => load,
        }))
    }
}

/// That of which the metric tells how many calls pass.
fn criticality(name: &[u8]) -> Option<Criticality> {
    let name = name.strip_prefix(b"named_metrics.admitted.")?;
    Criticality::ALL
        .into_iter()
        .find(|criticality| criticality.as_str().as_bytes() == name)
}

/// Digits, and a point with more of them, or none.
fn decimal(text: &[u8]) -> Option<f64> {
    let are_digits = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let mut parts = text.splitn(2, |&byte| byte == b'.');
    if !parts.all(are_digits) {
        return None;
    }
    str::from_utf8(text).ok()?.parse().ok()
}
