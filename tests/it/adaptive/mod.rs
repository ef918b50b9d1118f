//! Adaptive limits as their users see them.

mod back_pressure;
mod behaviour;
#[cfg(feature = "http")]
mod http;
mod modes;
mod signals;

use std::sync::{Arc, Mutex};

use steadfast::adaptive::{
    Adaptive, AdaptiveBuilder, AdaptiveHandle, AdaptiveLayer, Limit, Sample, Sampling, Windows,
};
use tower::Layer;

use crate::support::{Scripted, Told, Watch, ms};

/// Remembers what it is told, and leaves the limit as it is unless it is told what to say.
#[derive(Clone, Debug, Default)]
struct Spy {
    told: Arc<Mutex<Vec<Sample>>>,
    says: Arc<Mutex<Option<f64>>>,
}

impl Limit for Spy {
    fn next(&mut self, limit: f64, sample: &Sample) -> f64 {
        self.told.lock().unwrap().push(*sample);
        self.says.lock().unwrap().unwrap_or(limit)
    }

    fn sampling(&self) -> Sampling {
        Sampling::EveryCall
    }
}

impl Spy {
    fn say(&self, limit: f64) {
        *self.says.lock().unwrap() = Some(limit);
    }

    /// What it has been told since it was last asked.
    fn told(&self) -> Vec<Sample> {
        std::mem::take(&mut self.told.lock().unwrap())
    }

    fn told_one(&self) -> Sample {
        let [sample] = *self.told() else {
            panic!("one sample");
        };
        sample
    }
}

type Svc = Adaptive<Scripted, Told>;

fn of<L: Limit>(
    algorithm: L,
    set: impl FnOnce(AdaptiveBuilder<L>) -> AdaptiveBuilder<L>,
) -> (Svc, AdaptiveHandle, Watch) {
    let builder = set(AdaptiveLayer::builder().algorithm(algorithm)).classifier(Told);
    let layer = builder.name("db").build().unwrap();
    let (service, watch) = Scripted::new();
    (layer.layer(service), layer.handle(), watch)
}

fn spied(limit: usize) -> (Spy, Svc, AdaptiveHandle, Watch) {
    let spy = Spy::default();
    let (service, handle, watch) = of(spy.clone(), |builder| builder.initial_limit(limit));
    (spy, service, handle, watch)
}

/// Windows that are over with the first call that ends after 100 ms.
fn short_windows() -> Windows {
    Windows::default().length(ms(100), ms(100)).least_calls(1)
}
