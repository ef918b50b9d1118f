//! Code of the user's that runs within ours: rules, listeners, algorithms.
//!
//! It may panic, and it may run while a call unwinds from a panic already, when a second one that got
//! out would turn into an abort.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs a closure of the user's; `None` if it panicked. What is caught within a destructor does not
/// abort.
pub(crate) fn run<T>(f: impl FnOnce() -> T) -> Option<T> {
    // What it leaves behind half done is its own: we hand it nothing that it could break.
    catch_unwind(AssertUnwindSafe(f))
        .map_err(|panic| {
            // What it panicked with may panic when it is dropped.
            if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
                std::mem::forget(again);
            }
        })
        .ok()
}

#[cfg(all(test, not(steadfast_loom)))]
mod tests {
    use std::panic::{panic_any, resume_unwind};

    use super::*;

    struct PanicsWhenDropped;

    impl Drop for PanicsWhenDropped {
        fn drop(&mut self) {
            resume_unwind(Box::new(()));
        }
    }

    #[test]
    fn a_panic_is_no_answer() {
        assert_eq!(run(|| 1), Some(1));
        assert_eq!(run(|| -> u32 { resume_unwind(Box::new(())) }), None);
    }

    #[test]
    fn what_it_panicked_with_may_panic_when_it_is_dropped() {
        assert_eq!(run(|| -> u32 { panic_any(PanicsWhenDropped) }), None);
    }
}
