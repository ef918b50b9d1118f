//! The three client stacks. Nothing else differs between the lanes.

use std::time::Duration;

use axum::http::{Request, Response};
use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::TokioExecutor;
use steadfast::backoff::{Backoff, Jitter};
use steadfast::budget::Budget;
use steadfast::bulkhead::BulkheadLayer;
use steadfast::circuit_breaker::{CircuitBreakerLayer, Thresholds};
use steadfast::classify::Failure;
use steadfast::retry::RetryLayer;
use steadfast::timeout::TimeoutLayer;
use steadfast::{Error, InvalidSetting, LiftLayer, Verdict};
use tower::util::BoxCloneSyncService;
use tower::{BoxError, ServiceBuilder};

use crate::stats::DEADLINE;

/// A client: what the load goes through.
pub(crate) type Stack = BoxCloneSyncService<Request<Empty<Bytes>>, Response<Incoming>, BoxError>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// The client alone.
    Bare,
    /// What tower itself has against a bad dependency: at most so many calls at a time, none longer
    /// than its caller waits. (It has no breaker, and its retry comes without a policy.)
    Tower,
    /// The layers of this crate.
    Steadfast,
}

impl Lane {
    pub(crate) const ALL: [Self; 3] = [Self::Bare, Self::Tower, Self::Steadfast];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Tower => "tower",
            Self::Steadfast => "steadfast",
        }
    }

    /// The lane's stack, for a load of `rps` calls per second.
    pub(crate) fn stack(self, rps: u32) -> Result<Stack, InvalidSetting> {
        match self {
            Self::Bare => Ok(bare()),
            Self::Tower => Ok(tower(rps)),
            Self::Steadfast => steadfast(rps),
        }
    }
}

/// How many calls the two guarded lanes let run at a time: as many as arrive in 200 ms, which is
/// sixteen times what a healthy backend works on.
pub(crate) fn most_in_flight(rps: u32) -> usize {
    rps as usize / 5
}

type HttpClient = Client<HttpConnector, Empty<Bytes>>;

fn client() -> HttpClient {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new()).build(connector)
}

fn bare() -> Stack {
    Stack::new(
        ServiceBuilder::new()
            .map_err(BoxError::from)
            .service(client()),
    )
}

fn tower(rps: u32) -> Stack {
    let stack = ServiceBuilder::new()
        .load_shed()
        .concurrency_limit(most_in_flight(rps))
        .timeout(DEADLINE)
        .service(client());
    Stack::new(stack)
}

fn steadfast(rps: u32) -> Result<Stack, InvalidSetting> {
    let (ms, secs) = (Duration::from_millis, Duration::from_secs);
    let stack = ServiceBuilder::new()
        .map_err(BoxError::from)
        .layer(BulkheadLayer::new(most_in_flight(rps)))
        .layer(
            RetryLayer::builder()
                .max_attempts(3)
                .backoff(Backoff::exponential(ms(40), ms(200))?)
                .total_time(DEADLINE)
                // The backend gets less than a tenth more than it is offered, and no burst of it.
                .budget(Budget::new(0.07)?.with_max_balance((rps / 50).max(1))?)
                .classifier(verdict)
                .build()?,
        )
        .layer(
            CircuitBreakerLayer::builder()
                .name("backend")
                // Half of the answers are better than none, so it takes nine failures out of ten to
                // stop asking, or more in a row than half of them failing would ever bring about.
                .consecutive_failures(15)
                .count_window(100, Thresholds::failure_rate(0.9))
                // A backend that hangs shows sooner by its silence.
                .time_window(secs(1), Thresholds::slow_call_rate(0.8).minimum_calls(6))
                .slow_call_duration(ms(80))
                .open_time(Backoff::exponential(ms(200), ms(400))?.with_jitter(Jitter::Equal))
                .half_open_probes(1)
                .classifier(verdict)
                .build()?,
        )
        // Five times the longest that a healthy backend works on a request.
        .layer(TimeoutLayer::new(ms(100))?)
        .layer(LiftLayer::new())
        .service(client());
    Ok(Stack::new(stack))
}

/// What an answer, or the lack of one, says about the backend.
fn verdict(result: Result<&Response<Incoming>, &Error<ClientError>>) -> Verdict {
    match result {
        Ok(response) if !response.status().is_server_error() => Verdict::Success,
        _ => Failure::transient().into(),
    }
}
