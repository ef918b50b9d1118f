//! What travels with a request: its deadline, its criticality, and which attempt it is.
//!
//! A [`Context`] is entered around the future that serves a request and can be read anywhere below,
//! without being handed through: every layer of this crate that may wait reads it, and so can you.
//! It lives in the task, not in the request, so it does not follow work that is handed to another
//! task; enter it again there.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use steadfast::{Context, Criticality};
//! use tokio::time::Instant;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let context = Context::current()
//!     .with_deadline(Instant::now() + Duration::from_secs(2))
//!     .with_criticality(Criticality::Sheddable);
//!
//! context
//!     .scope(async {
//!         // Anywhere below, also after an await:
//!         tokio::task::yield_now().await;
//!         let left = Context::current().remaining().unwrap();
//!         assert!(left <= Duration::from_secs(2));
//!         assert_eq!(Context::current().criticality(), Criticality::Sheddable);
//!     })
//!     .await;
//!
//! assert_eq!(Context::current().deadline(), None);
//! # }
//! ```

use std::{
    cell::Cell,
    future::Future,
    marker::PhantomData,
    num::NonZeroU32,
    pin::Pin,
    task::{self, Poll},
    time::Duration,
};

use pin_project::pin_project;

use crate::time::{self, Instant};

thread_local! {
    // `const` and without a destructor, so that reading it is one load.
    static CURRENT: Cell<Context> = const { Cell::new(Context::new()) };
}

/// How much it matters that a request is answered, from the Google SRE book: what is shed first
/// stands last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(clippy::exhaustive_enums, reason = "the classes are the book's four")]
pub enum Criticality {
    /// Its failure is visible to users and grave.
    CriticalPlus,
    /// Its failure is visible to users. The default.
    #[default]
    Critical,
    /// Partial unavailability is expected: batch work that can be retried in minutes.
    SheddablePlus,
    /// Frequent partial and occasional full unavailability is expected.
    Sheddable,
}

/// Deadline, criticality and attempt number of the request being served, and whether a retry above may
/// send it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    deadline: Option<Instant>,
    attempt: NonZeroU32,
    criticality: Criticality,
    is_retried_above: bool,
}

impl Default for Context {
    fn default() -> Self {
        Self::new()
    }
}

impl Context {
    /// A fresh context: no deadline, [`Criticality::Critical`], first attempt, no retry above.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            deadline: None,
            attempt: NonZeroU32::MIN,
            criticality: Criticality::Critical,
            is_retried_above: false,
        }
    }

    /// The context entered last and not yet left; a fresh one where there is none.
    #[must_use]
    #[inline]
    pub fn current() -> Self {
        CURRENT.get()
    }

    /// Brings the deadline forward to `deadline`. A deadline never moves back: one that lies after
    /// the present one changes nothing.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(self.deadline.map_or(deadline, |own| own.min(deadline)));
        self
    }

    /// [`with_deadline`](Self::with_deadline), `timeout` from now.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        match time::now().checked_add(timeout) {
            Some(deadline) => self.with_deadline(deadline),
            None => self, // further off than the clock can tell
        }
    }

    /// Sets the criticality.
    #[must_use]
    pub const fn with_criticality(mut self, criticality: Criticality) -> Self {
        self.criticality = criticality;
        self
    }

    /// Sets the number of the attempt, counted from one.
    #[must_use]
    pub const fn with_attempt(mut self, attempt: NonZeroU32) -> Self {
        self.attempt = attempt;
        self
    }

    /// Says whether a retry above may send the request again. Set by a [retry](crate::retry) for what
    /// runs in its attempts; clear it around a part that is to be retried by itself.
    ///
    /// ```
    /// use steadfast::Context;
    ///
    /// # async fn charge() {}
    /// # async fn recommend() {}
    /// # let _ =
    /// async {
    ///     charge().await; // tried again by the retry above alone, and with all the rest
    ///     let alone = Context::current().with_retried_above(false);
    ///     alone.scope(recommend()).await; // by the retries below too
    /// };
    /// ```
    #[must_use]
    pub const fn with_retried_above(mut self, is_retried_above: bool) -> Self {
        self.is_retried_above = is_retried_above;
        self
    }

    /// When the answer must be there, if a deadline is set.
    #[must_use]
    pub const fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// What is left until the deadline, zero once it has passed; `None` where none is set.
    ///
    /// Reads the clock only where a deadline is set.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        let deadline = self.deadline?;
        Some(deadline.saturating_duration_since(time::now()))
    }

    /// Whether the deadline has passed. It has *at* the deadline itself.
    #[must_use]
    #[inline]
    pub fn is_expired(&self) -> bool {
        self.deadline
            .is_some_and(|deadline| deadline <= time::now())
    }

    /// How much the request matters.
    #[must_use]
    pub const fn criticality(&self) -> Criticality {
        self.criticality
    }

    /// Which attempt at the request this is, counted from one, the first try included.
    #[must_use]
    pub const fn attempt(&self) -> NonZeroU32 {
        self.attempt
    }

    /// Whether a retry above may send the request again, or has: a [retry](crate::retry) below then
    /// makes one attempt, so that the two do not multiply.
    #[must_use]
    pub const fn is_retried_above(&self) -> bool {
        self.is_retried_above
    }

    /// Runs `future` within this context.
    pub const fn scope<F>(self, future: F) -> Scope<F> {
        Scope {
            context: self,
            inner: future,
        }
    }

    /// Runs `f` within this context.
    pub fn sync_scope<R>(self, f: impl FnOnce() -> R) -> R {
        let _entered = self.enter();
        f()
    }

    /// Enters the context until the guard is dropped. Not public: a guard held across an await
    /// would leak into other tasks.
    #[inline]
    pub(crate) fn enter(self) -> Entered {
        let outer = CURRENT.replace(self);
        let not_send = PhantomData;
        Entered { outer, not_send }
    }
}

/// Puts the context back that was there before, also when unwinding.
#[derive(Debug)]
pub(crate) struct Entered {
    outer: Context,
    not_send: PhantomData<*const ()>,
}

impl Drop for Entered {
    #[inline]
    fn drop(&mut self) {
        CURRENT.set(self.outer);
    }
}

/// A future that runs within a [`Context`]; made by [`Context::scope`].
#[pin_project]
#[derive(Clone, Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Scope<F> {
    context: Context,
    #[pin]
    inner: F,
}

impl<F: Future> Future for Scope<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _entered = this.context.enter();
        this.inner.poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_deadline_moves_forward_only() {
        let now = time::now();
        let context = Context::new().with_deadline(now + SECOND);
        assert_eq!(context.with_deadline(now + 2 * SECOND), context);
        assert_eq!(context.with_deadline(now).deadline(), Some(now));
        assert_eq!(context.with_timeout(Duration::MAX), context);
    }

    #[test]
    fn a_panic_within_a_scope_leaves_it() {
        let context = Context::new().with_criticality(Criticality::Sheddable);
        let panicked = catch_unwind(AssertUnwindSafe(|| context.sync_scope(|| panic!())));
        assert!(panicked.is_err());
        assert_eq!(Context::current(), Context::new());
    }

    #[tokio::test(start_paused = true)]
    async fn tasks_on_one_thread_keep_their_contexts_apart() {
        let of = |criticality| {
            let context = Context::new().with_criticality(criticality);
            context.scope(async move {
                for _ in 0..3 {
                    assert_eq!(Context::current().criticality(), criticality);
                    tokio::task::yield_now().await;
                }
            })
        };
        tokio::join!(
            of(Criticality::CriticalPlus),
            of(Criticality::Sheddable),
            async { assert_eq!(Context::current(), Context::new()) },
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_has_passed_at_the_deadline_itself() {
        let context = Context::new().with_timeout(SECOND);
        tokio::time::advance(SECOND - Duration::from_nanos(1)).await;
        assert!(!context.is_expired());
        tokio::time::advance(Duration::from_nanos(1)).await;
        assert!(context.is_expired());
        assert_eq!(context.remaining(), Some(Duration::ZERO));
    }
}
