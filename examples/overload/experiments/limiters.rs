//! Limits that find themselves, for the experiments that set them side by side.

use std::time::Duration;

use steadfast::{
    adaptive::{AdaptiveLayer, EnvoyGradient, Gradient2, Knee, Limit, Vegas},
    bulkhead::BulkheadLayer,
    sim::{Load, Report},
};
use tower::{Layer, util::BoxCloneService};

use super::{Stack, Trace, ms};

/// A service with a limit before it, and what that is at the moment.
pub(super) struct Limited {
    pub(super) stack: Stack,
    limit: Box<dyn Fn() -> usize + Send>,
}

/// Sets a limit before a service.
pub(super) type Limiter = fn(Stack) -> Limited;

pub(super) const OURS: &str = "**steadfast**, Knee";

/// Those that find themselves, by default; ours is the last.
pub(super) const FOUND: [(&str, Limiter); 4] = [
    ("Vegas", |inner| adaptive(Vegas::default(), inner)),
    ("Gradient2", |inner| adaptive(Gradient2::default(), inner)),
    ("Envoy's gradient", |inner| {
        adaptive(EnvoyGradient::default(), inner)
    }),
    (OURS, |inner| adaptive(Knee::default(), inner)),
];

fn adaptive(algorithm: impl Limit, inner: Stack) -> Limited {
    let layer = AdaptiveLayer::builder().algorithm(algorithm).build();
    let layer = layer.unwrap();
    let handle = layer.handle();
    Limited {
        stack: BoxCloneService::new(layer.layer(inner)),
        limit: Box::new(move || handle.limit()),
    }
}

/// One that is what it is.
pub(super) fn fixed(calls: usize, inner: Stack) -> Limited {
    Limited {
        stack: BoxCloneService::new(BulkheadLayer::new(calls).layer(inner)),
        limit: Box::new(move || calls),
    }
}

/// How often the limit is looked at.
pub(super) const LOOK: Duration = ms(100);

impl Limited {
    /// Sends it a load; the limit is looked at meanwhile.
    pub(super) async fn under(self, load: &Load) -> (Report, Trace) {
        let limit = self.limit;
        let limits = Trace::every(LOOK, move || limit() as f64);
        (load.send(self.stack, |_| ()).await, limits)
    }
}
