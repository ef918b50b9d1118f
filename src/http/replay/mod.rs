//! Request bodies that can be sent again.

mod body;
mod layer;
mod recording;

pub use body::{ReplayBody, ReplayError};
pub use layer::{Replay, ReplayLayer, Replayable};
