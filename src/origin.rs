//! Whether an error, or a dropped call, is the inner service's doing or that of a layer below.
//!
//! A retry must not send a call again that the circuit breaker below it refused, and a breaker must
//! not hold against its dependency what the bulkhead below it refused. But what travels up the stack
//! is the service's own error type, which this crate can build and cannot look into: all that we ask
//! of it is `From<Rejected>`.
//!
//! So a layer that makes an error says so beside it. The layer above learns of an error by polling,
//! and a poll is one uninterrupted run of one thread: a note left in a thread-local on the way out is
//! still there when the caller of `poll` looks. The rule is short. *Who wants to know clears the
//! note, polls, and, if an error came back, reads it. Who makes an error leaves the note, and who keeps one
//! for a later poll leaves it again. Nobody else touches it.* A layer in between that hands the error to another task loses the note, and the error
//! then counts as the inner service's own, as it would in any other crate.
//!
//! In the same way a layer that drops a call because its time is up says so while it drops it.

use std::cell::Cell;

use crate::error::{FromRejected, FromTimedOut, Rejected, TimedOut};

/// Who made an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The inner service.
    Inner,
    /// A layer that refused the call.
    Rejected,
    /// A layer that stopped waiting.
    TimedOut,
}

thread_local! {
    static ORIGIN: Cell<Origin> = const { Cell::new(Origin::Inner) };
    static CUTTING: Cell<bool> = const { Cell::new(false) };
}

/// To be called before polling, by who wants to know.
#[inline]
pub(crate) fn clear() {
    ORIGIN.set(Origin::Inner);
}

/// Who made the error that the poll since [`clear`] came back with.
#[inline]
pub(crate) fn read() -> Origin {
    ORIGIN.get()
}

/// The refusal as the service's error, with the note beside it. To be returned at once.
pub(crate) fn reject<E: FromRejected>(rejected: Rejected) -> E {
    let error = E::from_rejected(rejected);
    ORIGIN.set(Origin::Rejected);
    error
}

/// The expiry as the service's error, with the note beside it. To be returned at once.
pub(crate) fn time_out<E: FromTimedOut>(timed_out: TimedOut) -> E {
    let error = E::from_timed_out(timed_out);
    ORIGIN.set(Origin::TimedOut);
    error
}

/// Leaves the note on an error that was kept since a poll of which this was [`read`]. The error is to be
/// returned at once.
#[cfg(feature = "grpc")]
pub(crate) fn repeat(origin: Origin) {
    ORIGIN.set(origin);
}

/// Runs `drop_call`, which drops a call because its time is up.
pub(crate) fn cut(drop_call: impl FnOnce()) {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            CUTTING.set(self.0);
        }
    }
    let _restore = Restore(CUTTING.replace(true));
    drop_call();
}

/// Whether the call being dropped is dropped because its time is up.
pub(crate) fn is_cut() -> bool {
    CUTTING.get()
}
