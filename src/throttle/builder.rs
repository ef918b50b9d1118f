//! Setting a throttle up.

use std::time::Duration;

use super::{
    Heeding, KeyedThrottleBuilder, Mode, ThrottleLayer,
    settings::{Kinds, Settings},
};
use crate::{classify::FailureKind, error::InvalidSetting, keyed::Key, until::Answered};

/// The settings of a throttle; made by [`ThrottleLayer::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct ThrottleBuilder<C, U = Answered> {
    settings: Settings,
    classifier: C,
    until: U,
}

impl<C> ThrottleBuilder<C> {
    pub(super) const fn new(classifier: C) -> Self {
        Self {
            settings: Settings::DEFAULT,
            classifier,
            until: Answered,
        }
    }
}

impl<C, U> ThrottleBuilder<C, U> {
    /// Names the layer, for metrics, events and refusals. Default: `"throttle"`.
    pub const fn name(mut self, name: &'static str) -> Self {
        self.settings.name = name;
        self
    }

    /// The book's K: for each call that the service accepts, K are sent, so K - 1 find it overloaded.
    /// A finite number of at least 1.01. Default: 2.
    ///
    /// The less, the less a service is asked for what it cannot do, and the later it is noticed that it
    /// can do more. At 1 it never would be: what is refused here would be reason enough to refuse on.
    pub const fn multiplier(mut self, multiplier: f64) -> Self {
        self.settings.multiplier = multiplier;
        self
    }

    /// How long a request counts, 10 ms to 1 h. Default: 2 min.
    ///
    /// The window slides in ten steps, so a request is forgotten when between nine and ten tenths of it
    /// have passed. It takes the same memory and time at any traffic.
    pub const fn window(mut self, window: Duration) -> Self {
        self.settings.window = window;
        self
    }

    /// No request is refused with a greater probability, 0.01..=0.99. Default: 0.9.
    ///
    /// What passes is how it is noticed that the service is well again. Where it accepts less than one in
    /// `K / (1 - max_probability)` of what is offered, 20 by default, the cap decides, and more than
    /// K - 1 calls find it overloaded for each that does not.
    pub const fn max_probability(mut self, max_probability: f64) -> Self {
        self.settings.max_probability = max_probability;
        self
    }

    /// How many requests a second, on average over the [window](Self::window), there must be for any to
    /// be refused; of one criticality where these are [counted apart](Self::by_criticality). A finite
    /// number, of which 0 means always. Default: 1.
    ///
    /// Of the window nine tenths, which it always holds, must have seen as many: by default 108 requests.
    pub const fn minimum_rate(mut self, per_second: f64) -> Self {
        self.settings.minimum_rate = per_second;
        self
    }

    /// Which failures mean that the service did not accept the call, at least one kind. Default:
    /// [`Overload`](FailureKind::Overload) alone.
    ///
    /// All other failures are the application's: the service had accepted the call. But those that were
    /// [never sent](FailureKind::NeverSent) count as nothing, unless named here. Add them where a service
    /// that is overloaded no longer takes connections; add [`Timeout`](FailureKind::Timeout) where it no
    /// longer answers, and [`Transient`](FailureKind::Transient) for one of gRPC's that answers
    /// `UNAVAILABLE` without pushback. A call that is dropped after its deadline, or by a [timeout](crate::timeout) further
    /// out, is then a time-out, too.
    pub fn not_accepted(mut self, kinds: impl IntoIterator<Item = FailureKind>) -> Self {
        let kinds = kinds.into_iter();
        self.settings.not_accepted = kinds.fold(Kinds::NONE, Kinds::with);
        self
    }

    /// Whether the requests of each [`Criticality`](crate::Criticality) are counted and refused by
    /// themselves. Default: they are.
    ///
    /// The criticality is that of the [`Context`](crate::Context) in which the service is called. Each
    /// takes 200 bytes.
    pub const fn by_criticality(mut self, by_criticality: bool) -> Self {
        self.settings.by_criticality = by_criticality;
        self
    }

    /// Has the throttle heed what the service's answers say of its load, as `read` does: over HTTP an
    /// [`EndpointLoadMetrics`](crate::http::EndpointLoadMetrics). Default: it does not.
    ///
    /// While the service says that it is asked for more than it can do, calls are refused with no less a
    /// probability than leaves what it can do and a tenth more, the [least
    /// critical](super#reports) first. No more than the [cap](Self::max_probability), and not for longer than a
    /// second after the last report. Have it believed only of a service that is believed.
    pub fn heed_load<R>(self, read: R) -> ThrottleBuilder<Heeding<C, R>, U> {
        let settings = Settings {
            heeds_load: true,
            ..self.settings
        };
        let classifier = Heeding {
            classifier: self.classifier,
            read,
        };
        ThrottleBuilder {
            settings,
            classifier,
            until: self.until,
        }
    }

    /// What the throttle may do by itself, until [told otherwise](super::ThrottleHandle::set_mode).
    /// Default: [`Mode::Enabled`].
    pub const fn mode(mut self, mode: Mode) -> Self {
        self.settings.mode = mode;
        self
    }

    /// Makes it repeatable which requests are refused. By default it is seeded by the operating system.
    pub const fn seed(mut self, seed: u64) -> Self {
        self.settings.seed = Some(seed);
        self
    }

    /// Until when the verdict on a call is waited for, where the response itself is not a failure already.
    /// Default: until it is [`Answered`]. For responses that are streamed over HTTP, and say only at the end
    /// that there was too much to do: until the [`EndOfBody`](crate::http::EndOfBody). A body that is
    /// dropped before counts as nothing.
    pub fn until<V>(self, until: V) -> ThrottleBuilder<C, V> {
        ThrottleBuilder {
            settings: self.settings,
            classifier: self.classifier,
            until,
        }
    }

    /// Gives each key a throttle of its own: to each host, for each tenant. `key` chooses the key of a
    /// request; see [`keyed`](crate::keyed) for keys that are borrowed from it. The last setting but
    /// those of the keys.
    ///
    /// At most `max_keys` keys are kept, at least 1. A key that is not in use may be forgotten as told
    /// [there](crate::keyed), and one of which nothing is refused before one of which something is. Where
    /// all are in use, a call of yet another key passes: its throttle would be new.
    pub fn keyed<Req, F>(self, max_keys: usize, key: F) -> KeyedThrottleBuilder<F::Owned, F, C, U>
    where
        F: Key<Req>,
    {
        let judged = (self.classifier, self.until);
        KeyedThrottleBuilder::new(self.settings, judged, max_keys, key)
    }

    /// Checks the settings and builds the layer.
    ///
    /// # Errors
    ///
    /// If a setting is outside its range; the error names it.
    pub fn build(self) -> Result<ThrottleLayer<C, U>, InvalidSetting> {
        ThrottleLayer::with(&self.settings, self.classifier, self.until)
    }
}
