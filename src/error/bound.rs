//! What a layer asks of a service's error.

use super::{Rejected, TimedOut};

/// An error that can be built from a [`Rejected`].
///
/// Implemented for every `E: From<Rejected>`; write that `From`, not this.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot say that a call was rejected",
    label = "this layer may refuse a call, and `{Self}` has no way to tell the caller",
    note = "for an error type of your own: `impl From<steadfast::Rejected> for {Self}`",
    note = "for any other service: put `steadfast::LiftLayer` right above it, at the bottom of \
            the stack; its error is then `steadfast::Error<{Self}>`"
)]
pub trait FromRejected: Sized {
    /// Says so in the service's own words.
    fn from_rejected(rejected: Rejected) -> Self;
}

// Without this the compiler would complain of `From`, and not show the notes above.
#[diagnostic::do_not_recommend]
impl<E: From<Rejected>> FromRejected for E {
    fn from_rejected(rejected: Rejected) -> Self {
        rejected.into()
    }
}

/// An error that can be built from a [`TimedOut`].
///
/// Implemented for every `E: From<TimedOut>`; write that `From`, not this.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot say that a call timed out",
    label = "this layer may stop waiting, and `{Self}` has no way to tell the caller",
    note = "for an error type of your own: `impl From<steadfast::TimedOut> for {Self}`",
    note = "for any other service: put `steadfast::LiftLayer` right above it, at the bottom of \
            the stack; its error is then `steadfast::Error<{Self}>`"
)]
pub trait FromTimedOut: Sized {
    /// Says so in the service's own words.
    fn from_timed_out(timed_out: TimedOut) -> Self;
}

#[diagnostic::do_not_recommend]
impl<E: From<TimedOut>> FromTimedOut for E {
    fn from_timed_out(timed_out: TimedOut) -> Self {
        timed_out.into()
    }
}
