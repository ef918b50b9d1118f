//! The only boilerplate that the layers share.

/// Access to the wrapped service, worded once for all layers.
macro_rules! inner_accessors {
    () => {
        /// The wrapped service.
        #[must_use]
        pub const fn get_ref(&self) -> &S {
            &self.inner
        }

        /// The wrapped service, mutably.
        #[must_use]
        pub const fn get_mut(&mut self) -> &mut S {
            &mut self.inner
        }

        /// Takes the wrapped service out.
        #[must_use]
        pub fn into_inner(self) -> S {
            self.inner
        }
    };
}

/// `Debug` for a future that holds those of the inner service, which need not be `Debug`.
macro_rules! opaque_debug {
    ($future:ident<S, Req $(, $param:ident $(: $bound:path)?)*>) => {
        impl<S: tower::Service<Req>, Req $(, $param $(: $bound)?)*> std::fmt::Debug
            for $future<S, Req $(, $param)*>
        {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($future)).finish_non_exhaustive()
            }
        }
    };
}
