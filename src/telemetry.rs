//! What the layers tell, and the names under which they tell it.
//!
//! Metrics go through the [`metrics`](https://docs.rs/metrics) facade and events through
//! [`tracing`](https://docs.rs/tracing). A layer registers its metrics once, when it is built, with
//! the recorder that is installed then; **install the recorder before building layers**. Without a
//! recorder and a subscriber, telling costs a few loads: nothing is allocated, formatted or looked up.
//!
//! # Metrics
//!
//! Every metric has the label `name`, the name of the layer.
//!
//! | metric | kind | further labels | meaning |
//! |---|---|---|---|
//! | `steadfast_calls_total` | counter | `layer`, `outcome` | calls by how they ended, see below |
//! | `steadfast_rejected_total` | counter | `layer`, `reason` | calls refused, by [`Reason`] |
//! | `steadfast_circuit_breaker_state` | gauge | `state` | 1 for the state the breaker is in, 0 for the others; where there are keys, how many are in each |
//! | `steadfast_circuit_breaker_mode` | gauge | `mode` | 1 for the mode the breaker is in, 0 for the others; not where there are keys |
//! | `steadfast_circuit_breaker_transitions_total` | counter | `to` | changes of state |
//! | `steadfast_circuit_breaker_open_seconds` | histogram | | time to recovery: from when the breaker first opened to when it lets every call pass again |
//! | `steadfast_circuit_breaker_spared_total` | counter | | calls that passed a breaker which only observes, and would else have been refused |
//! | `steadfast_bulkhead_limit` | gauge | | calls that may be in flight, of one key where there are keys |
//! | `steadfast_bulkhead_in_flight` | gauge | | calls in flight: permits in use |
//! | `steadfast_bulkhead_waiting` | gauge | | calls in the queue |
//! | `steadfast_adaptive_limit` | gauge | | calls that may be in flight |
//! | `steadfast_adaptive_in_flight` | gauge | | calls in flight: permits in use |
//! | `steadfast_adaptive_waiting` | gauge | | calls in the queue |
//! | `steadfast_adaptive_latency_seconds` | gauge | | the latency that the algorithm was told last |
//! | `steadfast_adaptive_mode` | gauge | `mode` | 1 for the mode the layer is in, 0 for the others |
//! | `steadfast_adaptive_spared_total` | counter | | calls that passed a layer which only observes, and would else have been refused |
//! | `steadfast_adaptive_rate_limit` | gauge | | calls a second by which calls are spaced, as of the last one; 0 while they are not; not where there are keys |
//! | `steadfast_adaptive_rate_waiting` | gauge | | calls that wait for their turn |
//! | `steadfast_adaptive_rate_lowered_total` | counter | | throttling answers that lowered the rate |
//! | `steadfast_adaptive_rate_mode` | gauge | `mode` | 1 for the mode the layer is in, 0 for the others |
//! | `steadfast_adaptive_rate_spared_total` | counter | | calls that passed a layer which only observes, and would else have been refused |
//! | `steadfast_load_shed_load` | gauge | `signal` | load of a server as a ratio to its target, by `in_flight`, `queueing_delay`, `runtime_lag`, `cpu`, or the name of a gauge |
//! | `steadfast_load_shed_shed_share` | gauge | | share of all calls that is to be shed |
//! | `steadfast_load_shed_shed_total` | counter | `criticality` | calls shed, and those that only would have been, by `critical_plus`, `critical`, `sheddable_plus` or `sheddable` |
//! | `steadfast_load_shed_unready_total` | counter | | calls refused because the inner service was not ready |
//! | `steadfast_load_shed_spared_total` | counter | | calls that passed load shedding which only observes, and would else have been shed |
//! | `steadfast_load_shed_mode` | gauge | `mode` | 1 for the mode that load shedding is in, 0 for the others |
//! | `steadfast_retry_retries_total` | counter | | attempts after the first |
//! | `steadfast_retry_resends_total` | counter | | requests sent again as the same attempt: they had never been sent |
//! | `steadfast_retry_stopped_total` | counter | `reason` | failures that were not tried again, by why |
//! | `steadfast_throttle_reject_probability` | gauge | `criticality` | with which probability a request was refused, as of the last one; not where there are keys |
//! | `steadfast_throttle_requests_total` | counter | `counted` | requests in the formula, by what they count as: `accepted`, `overloaded`, or `refused` here |
//! | `steadfast_throttle_held_back_total` | counter | | calls refused, beyond the formula, because the service reports that it is overloaded; and those that only would have been |
//! | `steadfast_throttle_mode` | gauge | `mode` | 1 for the mode the throttle is in, 0 for the others |
//! | `steadfast_throttle_spared_total` | counter | | calls that passed a throttle which only observes, and would else have been refused |
//! | `steadfast_timeout_limit_seconds` | gauge | | the limit that follows how long calls take |
//! | `steadfast_timeout_detached` | gauge | | calls that run on after their caller stopped waiting |
//! | `steadfast_timeout_detached_total` | counter | `outcome` | those that did, by what became of them, see below |
//! | `steadfast_deadline_time_left_seconds` | histogram | | time left to a request as it arrives, by what its caller says |
//! | `steadfast_deadline_spared_total` | counter | | requests too late, yet let in: enough had been refused |
//! | `steadfast_deadline_malformed_total` | counter | `header` | headers that could not be understood |
//! | `steadfast_partition_share` | gauge | `layer`, `partition` | permits of a limit that are a [partition](crate::partitions)'s own |
//! | `steadfast_partition_in_flight` | gauge | `layer`, `partition` | permits that it has in use |
//! | `steadfast_partition_rejected_total` | counter | `layer`, `partition` | calls refused, of a partition |
//! | `steadfast_keys` | gauge | `layer` | keys kept by a [keyed](crate::keyed) layer |
//! | `steadfast_keys_evicted_total` | counter | `layer` | keys forgotten |
//! | `steadfast_keys_overflow_total` | counter | `layer` | calls of a new key for which there was no room |
//!
//! The keys themselves are on no metric: they are many, and chosen by others.
//!
//! `layer` is `adaptive`, `adaptive_rate`, `circuit_breaker`, `bulkhead`, `load_shed`, `retry`, `throttle`, `timeout`, `body_timeout` (which counts bodies),
//! `deadline` or `propagate`. `criticality` is `all` where they are counted together. `header` is `grpc-timeout`, `timeout`, `envoy-timeout`, `grpc-attempts`,
//! `attempt` or `criticality`. `outcome` is one of
//!
//! | outcome | meaning | told by |
//! |---|---|---|
//! | `success`, `failure`, `ignored` | judged so by the layer's classifier | adaptive, adaptive rate, circuit breaker, retry, throttle |
//! | `completed` | the inner service answered, well or not | bulkhead, load shedding, timeout, body timeout, deadline, propagate |
//! | `timed_out` | given up by this layer | timeout, body timeout, deadline, propagate |
//! | `rejected` | refused by this layer | adaptive, adaptive rate, circuit breaker, bulkhead, load shedding, throttle, timeout, deadline, propagate |
//! | `rejected_below` | refused by a layer below; says nothing about the service | adaptive, adaptive rate, circuit breaker, load shedding, retry, throttle |
//! | `abandoned` | dropped by the caller before the end | all |
//! | `abandoned_late` | dropped after its deadline or its slow bound, so counted as a failure | adaptive (by the deadline alone), circuit breaker, throttle (where it counts time-outs) |
//! | `panicked` | the inner service panicked | all |
//!
//! A `reason` why a retry was not made is `attempts` (none left), `permanent` (not to be tried again,
//! says the classifier), `hint` (the service said never, or not before its hint's cap), `budget` (**the client's own budget is spent**),
//! `deadline` (no room is left before it), `not_cloneable`, `not_repeatable` (the service may have acted,
//! and must not twice), `retry_if` (its function said no), or `nested` (left to a retry above).
//!
//! Of a call that outlives the wait for it the `outcome` is `completed`, `panicked`, `abandoned` (the
//! runtime ended first), or `cut` (there was no room for it to run on).
//!
//! # Events
//!
//! One event for each decision, with target `steadfast` and the fields `layer` and `name`: a change of
//! a breaker's state (`INFO`; `from`, `to`, `cause`, `mode`, and `open_for` where it lets every call
//! pass again), of its mode alone or that of another layer (`INFO`; `from`, `to`), of an adaptive limit (`DEBUG`; `from`, `to`), a
//! call that it would refuse if it did more than observe, or a deadline if it had not refused enough (`DEBUG`; `reason`), a refusal (`DEBUG`; `reason`), a retry (`DEBUG`; `attempt`, `delay`), a
//! retry not made (`DEBUG`; `attempt`, `reason`), an expiry (`DEBUG`; `limit`, `waited`), a call that runs
//! on, or is cut because too many do (`DEBUG`), one that panics when nobody waits for it (`WARN`), and a
//! header that could not be understood (`DEBUG`; `header`). A listener, a rule, a limit's algorithm or a signal of
//! load of your own that panics is an `ERROR`; such a rule or algorithm decides nothing, and such a signal
//! (`signal`) says nothing.
//!
//! # Example
//!
//! ```
//! use metrics_util::debugging::DebuggingRecorder;
//! use steadfast::bulkhead::BulkheadLayer;
//!
//! let recorder = DebuggingRecorder::new();
//! let layer = metrics::with_local_recorder(&recorder, || BulkheadLayer::new(8));
//!
//! let metrics = recorder.snapshotter().snapshot().into_vec();
//! let names: Vec<_> = metrics.iter().map(|(key, ..)| key.key().name()).collect();
//! assert!(names.contains(&"steadfast_bulkhead_in_flight"));
//! # drop(layer);
//! ```

#![allow(clippy::disallowed_macros, reason = "this is the door")]

use std::{fmt, future::Future, task::Poll, time::Duration};

pub(crate) use metrics::{Counter, Gauge, Histogram};
use tracing::{Instrument, Span};

use crate::error::{Limit, Reason, Rejected, TimedOut};

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Success,
    Failure,
    Ignored,
    Completed,
    TimedOut,
    Rejected,
    RejectedBelow,
    Abandoned,
    AbandonedLate,
    Panicked,
}

impl Ending {
    /// Those of a layer that judges calls.
    pub(crate) const OF_JUDGED: [Self; 8] = [
        Self::Success,
        Self::Failure,
        Self::Ignored,
        Self::Rejected,
        Self::RejectedBelow,
        Self::Abandoned,
        Self::AbandonedLate,
        Self::Panicked,
    ];

    /// Those of a layer that limits how long a call may take.
    pub(crate) const OF_LIMITED: [Self; 5] = [
        Self::Completed,
        Self::TimedOut,
        Self::Rejected,
        Self::Abandoned,
        Self::Panicked,
    ];

    const COUNT: usize = Self::Panicked as usize + 1;

    const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Ignored => "ignored",
            Self::Completed => "completed",
            Self::TimedOut => "timed_out",
            Self::Rejected => "rejected",
            Self::RejectedBelow => "rejected_below",
            Self::Abandoned => "abandoned",
            Self::AbandonedLate => "abandoned_late",
            Self::Panicked => "panicked",
        }
    }
}

/// How a call will have ended if it is dropped as it stands.
#[derive(Debug)]
pub(crate) struct Course(Ending);

impl Course {
    /// The inner service is about to be called: what drops the call now is a panic in it.
    pub(crate) const fn begun() -> Self {
        Self(Ending::Panicked)
    }

    /// The inner service has been called.
    pub(crate) const fn called(&mut self) {
        self.0 = Ending::Abandoned;
    }

    /// Runs the inner service's future.
    pub(crate) fn watch<T>(&mut self, poll: impl FnOnce() -> Poll<T>) -> Poll<T> {
        self.0 = Ending::Panicked;
        let polled = poll();
        self.0 = match polled {
            Poll::Ready(_) => Ending::Completed,
            Poll::Pending => Ending::Abandoned,
        };
        polled
    }

    /// The call ends otherwise.
    pub(crate) const fn end(&mut self, ending: Ending) {
        self.0 = ending;
    }

    pub(crate) const fn ending(&self) -> Ending {
        self.0
    }
}

/// Which layer tells, and what all layers tell alike: how calls end, and why they are refused.
pub(crate) struct Telemetry {
    layer: &'static str,
    name: &'static str,
    endings: [Counter; Ending::COUNT],
    refusals: [Counter; Reason::COUNT],
}

impl Telemetry {
    /// Registers the counters for those `endings` and `reasons` of refusal that the layer has.
    pub(crate) fn new(
        layer: &'static str,
        name: &'static str,
        endings: &[Ending],
        reasons: &[Reason],
    ) -> Self {
        let mut counters = [const { Counter::noop() }; Ending::COUNT];
        for &ending in endings {
            counters[ending as usize] = metrics::counter!(
                "steadfast_calls_total",
                "layer" => layer, "name" => name, "outcome" => ending.as_str()
            );
        }
        let mut refusals = [const { Counter::noop() }; Reason::COUNT];
        for &reason in reasons {
            refusals[reason as usize] = metrics::counter!(
                "steadfast_rejected_total",
                "layer" => layer, "name" => name, "reason" => reason.as_str()
            );
        }
        Self {
            layer,
            name,
            endings: counters,
            refusals,
        }
    }

    pub(crate) const fn name(&self) -> &'static str {
        self.name
    }

    /// A call ended.
    #[inline]
    pub(crate) fn ended(&self, ending: Ending) {
        self.endings[ending as usize].increment(1);
    }

    /// The layer refuses a call.
    pub(crate) fn rejected(&self, reason: Reason) {
        self.ended(Ending::Rejected);
        self.refusals[reason as usize].increment(1);
        tracing::debug!(
            target: "steadfast", layer = self.layer, name = self.name, reason = reason.as_str(),
            "call rejected"
        );
    }

    /// [Tells](Self::rejected) of a refusal, and makes it. Out of line, out of the way of calls let through.
    #[inline(never)]
    pub(crate) fn reject(&self, reason: Reason) -> Rejected {
        self.rejected(reason);
        Rejected::new(self.name, reason)
    }

    /// The layer stops waiting for a call.
    pub(crate) fn time_out(&self, limit: Limit, waited: Duration) -> TimedOut {
        tracing::debug!(
            target: "steadfast", layer = self.layer, name = self.name, limit = limit.as_str(), ?waited,
            "call timed out"
        );
        TimedOut::new(self.name, limit, waited)
    }

    /// A call runs on that nobody waits for.
    pub(crate) fn detached(&self) {
        tracing::debug!(
            target: "steadfast", layer = self.layer, name = self.name,
            "call detached"
        );
    }

    /// Too many do.
    pub(crate) fn detached_cut(&self) {
        tracing::debug!(
            target: "steadfast", layer = self.layer, name = self.name,
            "call cut, with too many detached"
        );
    }

    /// One of them panicked.
    pub(crate) fn detached_panicked(&self) {
        tracing::warn!(
            target: "steadfast", layer = self.layer, name = self.name,
            "detached call panicked"
        );
    }

    /// The layer tries a call again.
    pub(crate) fn retrying(&self, attempt: u32, delay: Duration) {
        tracing::debug!(
            target: "steadfast", layer = self.layer, name = self.name, attempt, ?delay,
            "retrying"
        );
    }

    /// The layer does not try a failed call again.
    pub(crate) fn not_retrying(&self, attempt: u32, reason: &'static str) {
        tracing::debug!(
            target: "steadfast", layer = self.layer, name = self.name, attempt, reason,
            "not retrying"
        );
    }

    /// The layer changes its state. `open_for` is how long calls were not all let pass, where they
    /// are again.
    pub(crate) fn changed(
        &self,
        from: &'static str,
        to: &'static str,
        cause: &'static str,
        mode: &'static str,
        open_for: Option<Duration>,
    ) {
        tracing::info!(
            target: "steadfast", layer = self.layer, name = self.name, from, to, cause, mode,
            open_for = open_for.map(tracing::field::debug),
            "state changed"
        );
    }

    /// The layer cannot understand a header.
    #[cfg_attr(not(feature = "http"), allow(dead_code, reason = "there are none"))]
    pub(crate) fn malformed(&self, header: &'static str) {
        tracing::debug!(
            target: "steadfast", layer = self.layer, name = self.name, header,
            "malformed header"
        );
    }

    /// A rule of the user's own panicked, which was taken for "no".
    #[cold]
    pub(crate) fn rule_panicked(&self) {
        tracing::error!(
            target: "steadfast", layer = self.layer, name = self.name,
            "trip rule panicked"
        );
    }

    /// A closure of the user's that reads a signal of load panicked, which left the signal unread.
    #[cold]
    pub(crate) fn signal_panicked(&self, signal: &'static str) {
        tracing::error!(
            target: "steadfast", layer = self.layer, name = self.name, signal,
            "signal of load panicked"
        );
    }

    /// The layer changes its mode, and not its state.
    pub(crate) fn mode_changed(&self, from: &'static str, to: &'static str) {
        tracing::info!(
            target: "steadfast", layer = self.layer, name = self.name, from, to,
            "mode changed"
        );
    }

    /// The layer changes its limit by itself.
    pub(crate) fn limit_changed(&self, from: u32, to: u32) {
        tracing::debug!(
            target: "steadfast", layer = self.layer, name = self.name, from, to,
            "limit changed"
        );
    }

    /// An algorithm of the user's panicked, which left the limit as it was.
    #[cold]
    pub(crate) fn algorithm_panicked(&self) {
        tracing::error!(
            target: "steadfast", layer = self.layer, name = self.name,
            "limit algorithm panicked"
        );
    }

    /// The layer lets a call pass that it would refuse if it did more than observe.
    pub(crate) fn spared(&self, reason: Reason) {
        tracing::debug!(
            target: "steadfast", layer = self.layer, name = self.name, reason = reason.as_str(),
            "call would be rejected"
        );
    }

    /// A listener of the user's panicked.
    pub(crate) fn listener_panicked(&self) {
        tracing::error!(
            target: "steadfast", layer = self.layer, name = self.name,
            "listener panicked"
        );
    }

    /// A counter of this layer alone, one for each of `values`.
    pub(crate) fn counters<const N: usize>(
        &self,
        metric: &'static str,
        label: &'static str,
        values: [&'static str; N],
    ) -> [Counter; N] {
        values.map(|value| metrics::counter!(metric, "name" => self.name, label => value))
    }

    pub(crate) fn counter(&self, metric: &'static str) -> Counter {
        metrics::counter!(metric, "name" => self.name)
    }

    pub(crate) fn histogram(&self, metric: &'static str) -> Histogram {
        metrics::histogram!(metric, "name" => self.name)
    }

    /// A counter that layers of several kinds have.
    pub(crate) fn layer_counter(&self, metric: &'static str) -> Counter {
        metrics::counter!(metric, "layer" => self.layer, "name" => self.name)
    }

    /// A gauge that layers of several kinds have.
    pub(crate) fn layer_gauge(&self, metric: &'static str) -> Gauge {
        metrics::gauge!(metric, "layer" => self.layer, "name" => self.name)
    }

    /// The same, for one of several partitions.
    pub(crate) fn partition_counter(&self, metric: &'static str, of: &'static str) -> Counter {
        metrics::counter!(metric, "layer" => self.layer, "name" => self.name, "partition" => of)
    }

    pub(crate) fn partition_gauge(&self, metric: &'static str, of: &'static str) -> Gauge {
        metrics::gauge!(metric, "layer" => self.layer, "name" => self.name, "partition" => of)
    }

    pub(crate) fn gauge(&self, metric: &'static str) -> Gauge {
        metrics::gauge!(metric, "name" => self.name)
    }

    pub(crate) fn gauges<const N: usize>(
        &self,
        metric: &'static str,
        label: &'static str,
        values: [&'static str; N],
    ) -> [Gauge; N] {
        values.map(|value| metrics::gauge!(metric, "name" => self.name, label => value))
    }
}

/// Sets the gauge of `now` to one, and the others to zero.
pub(crate) fn show<T: PartialEq, const N: usize>(gauges: &[Gauge; N], all: &[T; N], now: &T) {
    for (gauge, it) in gauges.iter().zip(all) {
        gauge.set(if it == now { 1.0 } else { 0.0 });
    }
}

/// `future`, which keeps the current span wherever it is polled.
pub(crate) fn in_current_span<F: Future>(future: F) -> impl Future<Output = F::Output> {
    future.in_current_span()
}

/// `f`, which keeps the current span wherever it is called.
pub(crate) fn within_current_span<R>(f: impl FnOnce() -> R) -> impl FnOnce() -> R {
    let span = Span::current();
    move || span.in_scope(f)
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}
