//! Errors that come in trailers before any message.

mod body;
mod layer;

pub use body::TrailersOnlyBody;
pub use layer::{TrailersOnly, TrailersOnlyFuture, TrailersOnlyLayer};
