//! Layers begun as HTTP wants them.

use super::EndOfBody;
use crate::bulkhead::{BulkheadBuilder, BulkheadLayer, One};

/// Begins a bulkhead for HTTP, that lets `max` calls be in flight: a call holds its place until the
/// [end of the response's body](EndOfBody). What else there is to set is as in [`BulkheadLayer::builder`].
///
/// For a place that is held for no longer than the head takes:
/// `steadfast::http::bulkhead(64).until(Answered)`; see [`Answered`](crate::until::Answered).
pub fn bulkhead(max: usize) -> BulkheadBuilder<(), One, (), EndOfBody> {
    BulkheadLayer::builder(max).until(EndOfBody)
}
