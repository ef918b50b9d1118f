//! Setting an adaptive rate up.

use std::time::Duration;

use super::{AdaptiveRateLayer, KeyedAdaptiveRateBuilder, Mode, settings::Settings};
use crate::{error::InvalidSetting, keyed::Key, until::Answered};

/// The settings of an adaptive rate; made by [`AdaptiveRateLayer::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct AdaptiveRateBuilder<C, U = Answered> {
    settings: Settings,
    classifier: C,
    until: U,
}

impl<C> AdaptiveRateBuilder<C> {
    pub(super) const fn new(classifier: C) -> Self {
        Self {
            settings: Settings::DEFAULT,
            classifier,
            until: Answered,
        }
    }
}

impl<C, U> AdaptiveRateBuilder<C, U> {
    /// Names the layer, for metrics, events and refusals. Default: `"adaptive_rate"`.
    pub const fn name(mut self, name: &'static str) -> Self {
        self.settings.name = name;
        self
    }

    /// How long a call may wait for its turn, at most 1 h. Default: zero, which refuses at once what has none.
    ///
    /// A call whose turn would come later, or not before the deadline of its
    /// [`Context`](crate::Context), is refused at once. What waits goes at the rate at which it was let
    /// wait, so the service is spared only after this time when the rate falls: up to a second or two is
    /// well, far more is not. In the SDKs of AWS calls wait without end.
    pub const fn max_wait(mut self, max_wait: Duration) -> Self {
        self.settings.max_wait = max_wait;
        self
    }

    /// What may be saved up: as many calls as the rate has in this time, at most 1 h, may go at once when
    /// fewer came before. Default: 1 s.
    ///
    /// Zero spaces all calls evenly. With no [wait](Self::max_wait) either, of calls that come by chance at
    /// half the rate a third are refused.
    pub const fn burst(mut self, burst: Duration) -> Self {
        self.settings.burst = burst;
        self
    }

    /// Below how many calls a second the rate does not fall, 0.001..=1e9. Default: 0.5.
    ///
    /// They are how it is noticed that the service takes more.
    pub const fn min_rate(mut self, per_second: f64) -> Self {
        self.settings.min_rate = per_second;
        self
    }

    /// After how long without a throttling answer calls are limited no more, at least 1 s. Default: 5 min.
    ///
    /// Until then, however long ago a rate was found too high, no more than twice what was sent of late is:
    /// load that leaps is refused for a while. [`Duration::MAX`] is for ever, as in the SDKs of AWS. It is to
    /// be well more than the time in which the [curve](super#the-rate) comes back to where the service
    /// throttles, which is 20 s at 10,000 calls a second.
    pub const fn forget_after(mut self, calm: Duration) -> Self {
        self.settings.forget_after = calm;
        self
    }

    /// What the layer may do by itself, until [told otherwise](super::AdaptiveRateHandle::set_mode). Default:
    /// [`Mode::Enabled`].
    pub const fn mode(mut self, mode: Mode) -> Self {
        self.settings.mode = mode;
        self
    }

    /// Until when the verdict on a call is waited for, where the response itself is not a failure already.
    /// Default: until it is [`Answered`]. For responses that are streamed over HTTP, and say only at the end
    /// that there were too many: until the [`EndOfBody`](crate::http::EndOfBody). A body that is dropped
    /// before tells nothing.
    pub fn until<V>(self, until: V) -> AdaptiveRateBuilder<C, V> {
        AdaptiveRateBuilder {
            settings: self.settings,
            classifier: self.classifier,
            until,
        }
    }

    /// Gives each key a rate of its own: to each host, for each tenant, of each operation that has a quota of
    /// its own. `key` chooses the key of a request; see [`keyed`](crate::keyed) for keys that are borrowed from
    /// it. The last setting but those of the keys.
    ///
    /// At most `max_keys` keys are kept, at least 1. A key that is not in use may be forgotten as told
    /// [there](crate::keyed), and one of which calls are not limited before one of which they are. Where all are
    /// in use, a call of yet another key passes: its rate would be new.
    pub fn keyed<Req, F>(
        self,
        max_keys: usize,
        key: F,
    ) -> KeyedAdaptiveRateBuilder<F::Owned, F, C, U>
    where
        F: Key<Req>,
    {
        let judged = (self.classifier, self.until);
        KeyedAdaptiveRateBuilder::new(self.settings, judged, max_keys, key)
    }

    /// Checks the settings and builds the layer.
    ///
    /// # Errors
    ///
    /// If a setting is outside its range; the error names it.
    pub fn build(self) -> Result<AdaptiveRateLayer<C, U>, InvalidSetting> {
        AdaptiveRateLayer::with(&self.settings, self.classifier, self.until)
    }
}
