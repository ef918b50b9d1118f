//! Which requests tell of the service.

/// Says which requests are sampled. Implemented for closures.
pub trait SampleIf<Req> {
    /// Whether `req` is.
    fn is_sampled(&self, req: &Req) -> bool;
}

impl<F, Req> SampleIf<Req> for F
where
    F: Fn(&Req) -> bool,
{
    fn is_sampled(&self, req: &Req) -> bool {
        self(req)
    }
}

/// All requests are sampled.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::exhaustive_structs, reason = "the name says all that it does")]
pub struct All;

impl<Req> SampleIf<Req> for All {
    #[inline]
    fn is_sampled(&self, _: &Req) -> bool {
        true
    }
}
