//! A breaker for each key.

mod handle;
mod layer;
mod service;

pub use handle::KeyedCircuitBreakerHandle;
pub use layer::{KeyedCircuitBreakerBuilder, KeyedCircuitBreakerLayer};
pub use service::{KeyedCircuitBreaker, KeyedCircuitBreakerFuture};
