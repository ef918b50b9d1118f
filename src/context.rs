//! What travels with a request: its deadline, its criticality, and which attempt it is.
//!
//! A [`Context`] is entered around the future that serves a request and can be read anywhere below,
//! without being handed through: every layer of this crate that may wait reads it, and so can you.
//!
//! It lives in the task, not in the request. Work that is handed to another task takes it along with
//! [`spawn`], or [`spawn_blocking`]; anything else that runs elsewhere, with
//! `Context::current().scope(future)`, made here and polled there.
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
use tokio::task::JoinHandle;

use crate::{
    telemetry,
    time::{self, Instant},
};

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

impl Criticality {
    pub(crate) const ALL: [Self; 4] = [
        Self::CriticalPlus,
        Self::Critical,
        Self::SheddablePlus,
        Self::Sheddable,
    ];

    /// The criticality as headers and metrics spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CriticalPlus => "critical_plus",
            Self::Critical => "critical",
            Self::SheddablePlus => "sheddable_plus",
            Self::Sheddable => "sheddable",
        }
    }
}

/// Deadline, criticality and attempt number of the request being served, and whether a retry above may
/// send it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    deadline: Option<Instant>,
    attempt: NonZeroU32,
    criticality: Criticality,
    is_retried_above: bool,
    /// Whether the attempt is the caller's, of the request being served, and not one made here.
    is_attempt_inherited: bool,
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
            is_attempt_inherited: false,
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

    /// Takes the deadline off, for a section that must come to its end: a checkpoint, an undo.
    ///
    /// Nothing that is called within it has a deadline any more, and outgoing calls carry none. What
    /// waits further out still ends at the deadline, and drops the section with it, so put it into a
    /// task of its own:
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use steadfast::Context;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// # let save = async { Context::current().deadline() };
    /// # let deadline = Context::new().with_timeout(Duration::from_secs(1)).scope(async move {
    /// let checkpoint = Context::current().without_deadline().scope(save);
    /// let saved = tokio::spawn(checkpoint).await;
    /// # saved.unwrap() });
    /// # assert_eq!(deadline.await, None);
    /// # }
    /// ```
    #[must_use]
    pub const fn without_deadline(mut self) -> Self {
        self.deadline = None;
        self
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
        self.is_attempt_inherited = false;
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

    /// Sets the number of the attempt to what the caller says of its own.
    #[cfg_attr(
        not(feature = "http"),
        allow(dead_code, reason = "comes in by headers")
    )]
    pub(crate) const fn with_inherited_attempt(mut self, attempt: NonZeroU32) -> Self {
        self.attempt = attempt;
        self.is_attempt_inherited = true;
        self
    }

    /// The number of the attempt at a call made from here: one, unless a retry here is making more. That
    /// the request being served is its caller's third attempt does not make this call a third attempt.
    #[cfg_attr(
        not(feature = "http"),
        allow(dead_code, reason = "goes out by headers")
    )]
    pub(crate) const fn outgoing_attempt(&self) -> NonZeroU32 {
        if self.is_attempt_inherited {
            NonZeroU32::MIN
        } else {
            self.attempt
        }
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

    /// Which attempt at the request this is, counted from one, the first try included: within a
    /// [retry](crate::retry) the attempt that it makes, else the caller's, if it says.
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

/// Spawns `future` as a task that runs within the current context and the current tracing span.
///
/// Deadline, criticality and attempt are those of the moment of the call. Task-locals of your own do
/// not follow. Dropping the handle lets the task run on, as [`tokio::spawn`] does.
///
/// # Panics
///
/// Outside a runtime of tokio's.
///
/// # Example
///
/// ```
/// # use std::time::Duration;
/// use steadfast::{Context, context};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// # let request = Context::new().with_timeout(Duration::from_secs(1));
/// request
///     .scope(async {
///         let task = context::spawn(async { Context::current().deadline() });
///         assert_eq!(task.await.unwrap(), request.deadline());
///     })
///     .await;
/// # }
/// ```
#[track_caller]
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    tokio::spawn(telemetry::in_current_span(Context::current().scope(future)))
}

/// Runs `f` on a thread for blocking work, within the current context and the current tracing span.
///
/// Nothing stops `f` at the deadline; it can look at [`Context::is_expired`] between its steps.
///
/// # Panics
///
/// Outside a runtime of tokio's.
#[track_caller]
pub fn spawn_blocking<F, R>(f: F) -> JoinHandle<R>
where
    F: FnOnce() -> R + Send + 'static,
    R: Send + 'static,
{
    let context = Context::current();
    let f = telemetry::within_current_span(f);
    tokio::task::spawn_blocking(move || context.sync_scope(f))
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

    #[test]
    fn an_attempt_of_the_caller_is_not_one_of_ours() {
        let third = NonZeroU32::new(3).unwrap();
        let served = Context::new().with_inherited_attempt(third);
        assert_eq!(served.attempt(), third);
        assert_eq!(served.outgoing_attempt(), NonZeroU32::MIN);
        assert_eq!(served.with_attempt(third).outgoing_attempt(), third);
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
