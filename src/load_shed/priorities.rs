//! What of a request decides when it is shed.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::{
    context::{Context, Criticality},
    keyed::Key,
};

/// How critical a request is. Implemented for closures, and by [`FromContext`].
pub trait CriticalityOf<Req> {
    /// The criticality of `req`.
    fn criticality_of(&self, req: &Req) -> Criticality;
}

impl<F, Req> CriticalityOf<Req> for F
where
    F: Fn(&Req) -> Criticality,
{
    #[inline]
    fn criticality_of(&self, req: &Req) -> Criticality {
        self(req)
    }
}

/// As critical as its [`Context`] says.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::exhaustive_structs, reason = "the name says all that it does")]
pub struct FromContext;

impl<Req> CriticalityOf<Req> for FromContext {
    #[inline]
    fn criticality_of(&self, _: &Req) -> Criticality {
        Context::current().criticality()
    }
}

/// In which cohort of its criticality a request is. Implemented by [`AtRandom`], [`ByUser`] and [`ByUsage`].
pub trait CohortOf<Req>: sealed::Sealed {
    /// Whether it goes by how much whoever makes the request has asked for; the hash is then to stay the same.
    #[doc(hidden)]
    const BY_USAGE: bool = false;

    /// The hash, with what `salt` gives, of whoever makes the request; nothing where that is all the same.
    #[doc(hidden)]
    fn hash(&self, req: &Req, salt: impl FnOnce() -> u64) -> Option<u64>;
}

/// Every request is in a cohort of its own choice.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::exhaustive_structs, reason = "the name says all that it does")]
pub struct AtRandom;

impl<Req> CohortOf<Req> for AtRandom {
    #[inline]
    fn hash(&self, _: &Req, _: impl FnOnce() -> u64) -> Option<u64> {
        None
    }
}

/// All requests of a user are in the same cohort for an hour; made by
/// [`cohort_by`](super::LoadShedBuilder::cohort_by).
#[derive(Clone, Copy, Debug)]
pub struct ByUser<F>(pub(super) F);

impl<F: Key<Req>, Req> CohortOf<Req> for ByUser<F> {
    fn hash(&self, req: &Req, salt: impl FnOnce() -> u64) -> Option<u64> {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(salt());
        self.0.with_key(req, |user| user.hash(&mut hasher));
        Some(hasher.finish())
    }
}

/// All requests of a user are in the same cohort at a time, the later the more he has asked for; made by
/// [`heaviest_first`](super::LoadShedBuilder::heaviest_first).
#[derive(Clone, Copy, Debug)]
pub struct ByUsage<F>(pub(super) ByUser<F>);

impl<F: Key<Req>, Req> CohortOf<Req> for ByUsage<F> {
    const BY_USAGE: bool = true;

    fn hash(&self, req: &Req, salt: impl FnOnce() -> u64) -> Option<u64> {
        self.0.hash(req, salt)
    }
}

/// Which requests are never shed. Implemented for closures, by [`NoneExempt`], and for health checks over
/// [HTTP](crate::http::HealthChecks) and [gRPC](crate::grpc::HealthChecks).
pub trait Exempt<Req> {
    /// Whether `req` is one.
    fn is_exempt(&self, req: &Req) -> bool;
}

impl<F, Req> Exempt<Req> for F
where
    F: Fn(&Req) -> bool,
{
    #[inline]
    fn is_exempt(&self, req: &Req) -> bool {
        self(req)
    }
}

/// No request is.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::exhaustive_structs, reason = "the name says all that it does")]
pub struct NoneExempt;

impl<Req> Exempt<Req> for NoneExempt {
    #[inline]
    fn is_exempt(&self, _: &Req) -> bool {
        false
    }
}

/// What of a request decides when it is shed: its criticality, its cohort, and whether it is exempt. Put
/// together by the [builder](super::LoadShedBuilder).
#[derive(Clone, Copy, Debug, Default)]
pub struct Priorities<C = FromContext, K = AtRandom, X = NoneExempt> {
    pub(super) criticality: C,
    pub(super) cohort: K,
    pub(super) exempt: X,
}

/// Says what [`Priorities`] says of a request of type `Req`.
pub trait Prioritize<Req>: sealed::Sealed {
    /// That of its [`CohortOf`].
    #[doc(hidden)]
    const BY_USAGE: bool;

    /// Nothing, where the request is exempt.
    #[doc(hidden)]
    fn prioritize(
        &self,
        req: &Req,
        salt: impl FnOnce() -> u64,
    ) -> Option<(Criticality, Option<u64>)>;
}

impl<C, K, X, Req> Prioritize<Req> for Priorities<C, K, X>
where
    C: CriticalityOf<Req>,
    K: CohortOf<Req>,
    X: Exempt<Req>,
{
    const BY_USAGE: bool = K::BY_USAGE;

    #[inline]
    fn prioritize(
        &self,
        req: &Req,
        salt: impl FnOnce() -> u64,
    ) -> Option<(Criticality, Option<u64>)> {
        if self.exempt.is_exempt(req) {
            return None;
        }
        let criticality = self.criticality.criticality_of(req);
        Some((criticality, self.cohort.hash(req, salt)))
    }
}

mod sealed {
    #[allow(unnameable_types, reason = "that is how it seals")]
    pub trait Sealed {}
    impl<C, K, X> Sealed for super::Priorities<C, K, X> {}
    impl Sealed for super::AtRandom {}
    impl<F> Sealed for super::ByUser<F> {}
    impl<F> Sealed for super::ByUsage<F> {}
}
