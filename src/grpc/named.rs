//! A service keeps its name under the layers, so that it can be given to tonic's `add_service`.

use tonic::server::NamedService;

use crate::{
    bulkhead::{Bulkhead, QueuedBulkhead},
    circuit_breaker::CircuitBreaker,
    error::Lift,
    http::AnswerRefusals,
    retry::Retry,
    timeout::{ReadyTimeout, Timeout},
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
    AnswerRefusals<S, A>;
    Bulkhead<S>;
    CircuitBreaker<S, C>;
    Lift<S>;
    QueuedBulkhead<S>;
    ReadyTimeout<S, L>;
    Retry<S, C, Q>;
    Timeout<S, L>;
}
