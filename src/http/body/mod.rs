//! What happens until the end of a response body.

mod end;
mod guarded;

pub use end::{ClassifyEnd, End, EndOfBody};
pub use guarded::GuardedBody;
