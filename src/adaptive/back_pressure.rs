//! The form in which readiness is the reservation, for streams, balancers and buffers.

use std::task::{Context, Poll};

use tower::{Layer, Service};

use super::{
    AdaptiveFuture, AdaptiveHandle, HeldPermit, Mode,
    call::Call,
    sampled::{All, SampleIf},
    shared::{Pass, Shared},
};
use crate::{
    classify::{AnyError, Classify},
    error::{FromRejected, Reason},
    partitions::Whole,
    pooled::PooledArc,
    queue::Reservation,
    until::{Answered, Until},
    watched::Watched,
};

/// Applies [`BackPressureAdaptive`] to a service; made by
/// [`AdaptiveLayer::back_pressure`](super::AdaptiveLayer::back_pressure).
///
/// Shares its limit with the layer that it was made from, with its own clones, and with the services that
/// any of them made.
///
/// A consumer of a queue, which takes as much of it as the service can do:
///
/// ```
/// use std::{sync::atomic::{AtomicUsize, Ordering::Relaxed}, time::Duration};
/// use futures_util::{StreamExt, stream};
/// use steadfast::adaptive::AdaptiveLayer;
/// use tower::{BoxError, Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), BoxError> {
/// let layer = AdaptiveLayer::builder().max_limit(16).build()?.back_pressure();
/// let store = layer.layer(service_fn(|message: usize| async move {
///     tokio::time::sleep(Duration::from_millis(10)).await;
///     Ok::<_, BoxError>(message)
/// }));
/// let taken = AtomicUsize::new(0);
/// let messages = stream::iter(0..1000).inspect(|_| _ = taken.fetch_add(1, Relaxed));
/// let mut stored = store.call_all(messages).unordered();
/// let mut done = 0;
/// while let Some(message) = stored.next().await {
///     message?;
///     done += 1;
///     // Sixteen are worked on at the most, and one is in hand.
///     assert!(taken.load(Relaxed) <= done + 16 + 1);
/// }
/// assert_eq!(done, 1000);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct BackPressureAdaptiveLayer<C = AnyError, F = All, U = Answered> {
    pub(super) shared: PooledArc<Shared>,
    pub(super) classifier: C,
    pub(super) sampled: F,
    pub(super) until: U,
}

impl<C, F, U> BackPressureAdaptiveLayer<C, F, U> {
    /// Sees and steers the limit.
    #[must_use]
    pub fn handle(&self) -> AdaptiveHandle {
        let shared = self.shared.clone();
        AdaptiveHandle { shared }
    }
}

impl<S, C: Clone, F: Clone, U: Clone> Layer<S> for BackPressureAdaptiveLayer<C, F, U> {
    type Service = BackPressureAdaptive<S, C, F, U>;

    fn layer(&self, inner: S) -> Self::Service {
        BackPressureAdaptive {
            inner,
            reservation: Reservation::new(self.shared.clone()),
            classifier: self.classifier.clone(),
            sampled: self.sampled.clone(),
            until: self.until.clone(),
        }
    }
}

/// Is not ready while as many calls are in flight as the service can take.
///
/// `poll_ready` takes a permit, or a place in the line of those who wait for one: first come, first served, and
/// nobody is overtaken, neither by a service nor by a call of the ordinary form, which is refused meanwhile.
/// Each is woken when its permit has come. The line has no end in time, and 2,097,151 places; beyond that
/// services are ready, and their calls refused.
///
/// **A ready service has reserved its call.** Its permit counts as in flight, which no other call or clone
/// is given. It goes into the call, and comes back as that of an [`Adaptive`](super::Adaptive) does; or when the
/// service is dropped, as does a place in the line. A clone holds nothing. Only a service that is called
/// without having been ready may be [`Rejected`](crate::Rejected), or that was so before the layer was enabled.
/// One that is not [enabled](Mode) is ready when the inner service is; whoever waits is told when the mode
/// changes.
///
/// **A service that is not ready further in** holds no permit, and has no place in the line: it is asked
/// first, and again when the permit has come. Where it is ready no more, the permit goes to the next. What
/// makes the inner service ready, however, is held while this one waits in the line.
///
/// **Use it** below what takes requests only when they can be made: tower's
/// [`call_all`](https://docs.rs/tower/latest/tower/trait.ServiceExt.html#method.call_all) over a stream, a buffer, a balancer. Elsewhere prefer
/// [`Adaptive`](super::Adaptive): a ready service that nobody calls keeps its permit from those who would.
/// Dropped it keeps none.
#[derive(Clone, Debug)]
pub struct BackPressureAdaptive<S, C = AnyError, F = All, U = Answered> {
    inner: S,
    reservation: Reservation<PooledArc<Shared>>,
    classifier: C,
    sampled: F,
    until: U,
}

impl<S, C, F, U> BackPressureAdaptive<S, C, F, U> {
    inner_accessors!();

    fn is_enabled(&self) -> bool {
        self.reservation.source().mode.get() == Mode::Enabled
    }

    /// Lets a call pass with what was reserved for it, or as any other.
    fn pass(&mut self) -> Option<Pass> {
        if self.is_enabled() && self.reservation.take_up() {
            return Some(Pass::Admitted);
        }
        self.reservation.give_up();
        self.reservation.source().admit(1.into())
    }
}

impl<S, C, F, U, Req> Service<Req> for BackPressureAdaptive<S, C, F, U>
where
    S: Service<Req>,
    S::Error: FromRejected,
    C: Classify<S::Response, S::Error> + Clone,
    F: SampleIf<Req>,
    U: Until<S::Response, C> + Clone,
{
    type Response = U::Response<HeldPermit>;
    type Error = S::Error;
    type Future = AdaptiveFuture<S::Future, C, U>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        // In this order: one that waits for its inner service, for ever maybe, keeps no permit from others. Given
        // back, it wakes the next, who does not wake this one.
        let readied = self.inner.poll_ready(cx);
        if matches!(readied, Poll::Ready(Ok(()))) && self.is_enabled() {
            let polled = self.reservation.poll(cx);
            // Once more, as it waits: a change that came before that has not woken it.
            if polled.is_ready() || self.is_enabled() {
                return polled.map(Ok);
            }
        }
        self.reservation.give_up();
        readied
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        let is_sampled = self.sampled.is_sampled(&req);
        let until = self.until.clone();
        let pass = self.pass();
        let shared = self.reservation.source();
        AdaptiveFuture(match pass {
            Some(pass) => {
                // Made before the call, so that a panic in it is accounted for.
                let call = Call::begin(shared.clone(), Whole, pass, is_sampled);
                let future = self.inner.call(req);
                Watched::admitted(future, call, self.classifier.clone(), until)
            }
            None => Watched::rejected(shared.metrics.telemetry.reject(Reason::LimitReached), until),
        })
    }
}
