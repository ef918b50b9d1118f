//! Building a timeout whose limit follows how long calls take.

use std::time::Duration;

use tower::Layer;

use super::{Following, FollowingTimeout, FollowingTimeoutHandle};
use crate::{
    classify::AnyError,
    error::{InvalidSetting, not_zero},
    pooled::PooledArc,
    time::{Epoch, nanos},
    timeout::{DetachedTimeoutLayer, TimeoutLayer, layer::Shared},
    window::{Ratio, RollingQuantile},
};

impl TimeoutLayer {
    /// A layer whose limit follows how long calls take, never below `min` nor above `max`: half as long
    /// again as all but one of a thousand calls took. Its settings have the defaults of
    /// [`builder_following`](Self::builder_following).
    ///
    /// # Errors
    ///
    /// If `min` is zero or longer than `max`.
    pub fn following(
        min: Duration,
        max: Duration,
    ) -> Result<FollowingTimeoutLayer, InvalidSetting> {
        Self::builder_following(min, max).build()
    }

    /// Begins a timeout whose limit follows how long calls take, never below `min` nor above `max`.
    ///
    /// `max` is the limit while nothing is known, and while so many calls do not succeed that the
    /// quantile cannot be told: it is what a call may take when all goes wrong.
    pub const fn builder_following(min: Duration, max: Duration) -> FollowingTimeoutBuilder {
        FollowingTimeoutBuilder {
            name: "timeout",
            min,
            max,
            quantile: 0.999,
            padding: 1.5,
            window: Duration::from_secs(60),
            minimum_calls: 100,
            classifier: AnyError,
        }
    }
}

/// Applies [`FollowingTimeout`] to a service; made by [`TimeoutLayer::following`].
///
/// All services made by one layer, or by its clones, share what has been observed, and the limit.
///
/// See the [module docs](crate::timeout) for an example.
#[derive(Clone, Debug)]
#[must_use]
pub struct FollowingTimeoutLayer<C = AnyError> {
    pub(super) shared: PooledArc<Shared>,
    pub(super) following: PooledArc<Following>,
    pub(super) classifier: C,
}

impl<C> FollowingTimeoutLayer<C> {
    /// Sees the limit.
    #[must_use]
    pub fn handle(&self) -> FollowingTimeoutHandle {
        let (shared, following) = (self.shared.clone(), self.following.clone());
        FollowingTimeoutHandle { shared, following }
    }

    /// Lets calls run on that the caller no longer waits for; see [`TimeoutLayer::detached`].
    pub fn detached(self, max: usize) -> DetachedTimeoutLayer<Self> {
        let shared = self.shared.clone();
        DetachedTimeoutLayer::new(self, shared, max)
    }
}

impl<S, C: Clone> Layer<S> for FollowingTimeoutLayer<C> {
    type Service = FollowingTimeout<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        FollowingTimeout::new(inner, self.clone())
    }
}

/// The settings of a timeout whose limit follows how long calls take; made by
/// [`TimeoutLayer::builder_following`].
#[derive(Clone, Debug)]
#[must_use]
pub struct FollowingTimeoutBuilder<C = AnyError> {
    name: &'static str,
    min: Duration,
    max: Duration,
    quantile: f64,
    padding: f64,
    window: Duration,
    minimum_calls: u32,
    classifier: C,
}

impl<C> FollowingTimeoutBuilder<C> {
    /// Names the layer, for metrics, events and errors. Default: `"timeout"`.
    pub const fn name(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    /// The share of calls that take no longer than what the limit follows, in 0.000001..=1; 1 is the
    /// longest. Default: 0.999.
    ///
    /// Where fewer calls than one part of what is left are in the window (1000 for 0.999), it is the
    /// longest of them.
    pub const fn quantile(mut self, quantile: f64) -> Self {
        self.quantile = quantile;
        self
    }

    /// How many times the quantile the limit is, in 1..=1000. Default: 1.5.
    ///
    /// While more calls time out than the quantile leaves, it is also what the limit grows by in each
    /// sixth of the window.
    pub const fn padding(mut self, padding: f64) -> Self {
        self.padding = padding;
        self
    }

    /// How long a call is remembered, at least 100 ms. Default: 60 s.
    ///
    /// The limit changes when a sixth of it is over; a call comes in then, and is forgotten six such
    /// changes later.
    pub const fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// How many calls must have succeeded within the window for the limit to follow them; while they are
    /// fewer it is the longest. At least 1. Default: 100.
    pub const fn minimum_calls(mut self, calls: u32) -> Self {
        self.minimum_calls = calls;
        self
    }

    /// Says which calls succeeded, and so are observed for as long as they took. Default: [`AnyError`].
    pub fn classifier<D>(self, classifier: D) -> FollowingTimeoutBuilder<D> {
        FollowingTimeoutBuilder {
            name: self.name,
            min: self.min,
            max: self.max,
            quantile: self.quantile,
            padding: self.padding,
            window: self.window,
            minimum_calls: self.minimum_calls,
            classifier,
        }
    }

    /// Checks the settings and builds the layer.
    ///
    /// # Errors
    ///
    /// If a setting is outside its range; the error names it.
    pub fn build(self) -> Result<FollowingTimeoutLayer<C>, InvalidSetting> {
        let (min, max) = (not_zero("min", self.min)?, self.max);
        if min > max {
            let allowed = format!("at most the {max:?} of `max`");
            return Err(InvalidSetting::new("min", min, allowed));
        }
        // Written so that a NaN is refused too.
        if !(1.0..=1000.0).contains(&self.padding) {
            let padding = self.padding;
            return Err(InvalidSetting::new("padding", padding, "in 1..=1000"));
        }
        let window = nanos(self.window);
        if window < RollingQuantile::LEAST_NANOS {
            let allowed = "at least 100 ms";
            return Err(InvalidSetting::new("window", self.window, allowed));
        }
        if self.minimum_calls == 0 {
            return Err(InvalidSetting::new("minimum_calls", 0, "at least 1"));
        }
        let quantile = Ratio::new("quantile", self.quantile)?;
        let shared = Shared::new(self.name);
        let following = Following {
            observed: RollingQuantile::new(quantile, window, self.minimum_calls),
            padding: self.padding,
            min,
            max,
            epoch: Epoch::start(),
            gauge: shared.telemetry.gauge("steadfast_timeout_limit_seconds"),
        };
        following.publish();
        Ok(FollowingTimeoutLayer {
            shared: PooledArc::new(shared),
            following: PooledArc::new(following),
            classifier: self.classifier,
        })
    }
}
