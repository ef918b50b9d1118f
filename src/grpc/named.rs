//! A service keeps its name under the layers, so that it can be given to tonic's `add_service`.

use tonic::server::NamedService;

use super::TrailersOnly;
use crate::{
    adaptive::{Adaptive, BackPressureAdaptive, QueuedAdaptive},
    bulkhead::{
        BackPressureBulkhead, Bulkhead, KeyedBulkhead, QueuedBulkhead, QueuedKeyedBulkhead,
    },
    circuit_breaker::{BackPressureCircuitBreaker, CircuitBreaker, KeyedCircuitBreaker},
    deadline::{Deadline, Propagate},
    error::Lift,
    http::{AnswerRefusals, BodyTimeout, LoadReport, Replay},
    load_shed::LoadShed,
    retry::Retry,
    throttle::{
        KeyedThrottle, Throttle,
        rate::{AdaptiveRate, KeyedAdaptiveRate},
    },
    timeout::{Detachable, FollowingTimeout, ReadyTimeout, Timeout},
};

macro_rules! keep_name {
    ($($service:ident<S $(, $param:ident)*>;)*) => {
        $(
            impl<S: NamedService $(, $param)*> NamedService for $service<S $(, $param)*> {
                const NAME: &'static str = S::NAME;
            }
        )*
    };
}

keep_name! {
    Adaptive<S, C, F, U, D>;
    AdaptiveRate<S, C, U>;
    AnswerRefusals<S, A>;
    BackPressureAdaptive<S, C, F, U>;
    BackPressureBulkhead<S, U>;
    BackPressureCircuitBreaker<S, C, U>;
    BodyTimeout<S, E>;
    Bulkhead<S, W, U>;
    CircuitBreaker<S, C, U>;
    Deadline<S, T>;
    Detachable<S>;
    FollowingTimeout<S, C>;
    KeyedAdaptiveRate<S, K, F, C, U>;
    KeyedBulkhead<S, K, F, W, U>;
    KeyedCircuitBreaker<S, K, F, C, U>;
    KeyedThrottle<S, K, F, C, U>;
    Lift<S>;
    LoadReport<S>;
    LoadShed<S, P, U>;
    Propagate<S>;
    QueuedAdaptive<S, C, F, U, D>;
    QueuedBulkhead<S, W, U>;
    QueuedKeyedBulkhead<S, K, F, W, U>;
    ReadyTimeout<S, L>;
    Replay<S>;
    Retry<S, C, Q, D, U>;
    Throttle<S, C, U>;
    Timeout<S, L>;
    TrailersOnly<S>;
}
