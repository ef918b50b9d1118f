//! Which key a request has.

use std::{borrow::Borrow, fmt, hash::Hash};

/// Chooses the key of a request. Implemented for closures that make one, and by [`by_ref`] for closures
/// that find one in the request.
pub trait Key<Req> {
    /// The key as it is kept.
    type Owned: Borrow<Self::Borrowed> + Hash + Eq + Clone;

    /// The key as it is looked up.
    type Borrowed: ?Sized + ToOwned<Owned = Self::Owned> + Hash + Eq;

    /// Runs `f` with the key of `req`.
    fn with_key<T>(&self, req: &Req, f: impl FnOnce(&Self::Borrowed) -> T) -> T;
}

impl<F, Req, K> Key<Req> for F
where
    F: Fn(&Req) -> K,
    K: Hash + Eq + Clone,
{
    type Owned = K;
    type Borrowed = K;

    fn with_key<T>(&self, req: &Req, f: impl FnOnce(&K) -> T) -> T {
        f(&self(req))
    }
}

/// A key that is part of the request; made by [`by_ref`].
#[derive(Clone, Copy)]
pub struct ByRef<F>(F);

/// A key that is part of the request, such as a `&str`. It is copied only when it is seen for the first
/// time.
pub const fn by_ref<Req, K, F>(key: F) -> ByRef<F>
where
    K: ?Sized,
    F: Fn(&Req) -> &K,
{
    ByRef(key)
}

impl<F, Req, K> Key<Req> for ByRef<F>
where
    F: Fn(&Req) -> &K,
    K: ?Sized + ToOwned + Hash + Eq,
    K::Owned: Hash + Eq + Clone,
{
    type Owned = K::Owned;
    type Borrowed = K;

    fn with_key<T>(&self, req: &Req, f: impl FnOnce(&K) -> T) -> T {
        f(self.0(req))
    }
}

impl<F> fmt::Debug for ByRef<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ByRef")
    }
}
