//! What happens until the end of a response body.

mod end;
mod guarded;
mod timeout;
mod timeout_body;

pub use end::{ClassifyEnd, End, EndOfBody};
pub use guarded::GuardedBody;
pub use timeout::{BodyTimeout, BodyTimeoutBuilder, BodyTimeoutFuture, BodyTimeoutLayer};
pub use timeout_body::TimeoutBody;
