//! The form in which readiness is the reservation, for streams, balancers and buffers.

use std::task::{Context, Poll};

use tower::{Layer, Service};

use super::{
    BulkheadFuture, BulkheadHandle, BulkheadLayer, HeldPermit, One, permit::Permit, shared::Shared,
};
use crate::{
    error::{FromRejected, Reason},
    pooled::PooledArc,
    queue::Reservation,
    until::{Answered, Until},
};

impl<U: Clone> BulkheadLayer<One, U> {
    /// The same permits, for services that are not ready while there are none.
    pub fn back_pressure(&self) -> BackPressureBulkheadLayer<U> {
        BackPressureBulkheadLayer {
            shared: self.shared.clone(),
            until: self.until.clone(),
        }
    }
}

/// Applies [`BackPressureBulkhead`] to a service; made by [`BulkheadLayer::back_pressure`].
///
/// Shares its permits with the layer that it was made from, with its own clones, and with the services that
/// any of them made.
///
/// A consumer of a stream, which takes an item only when there is room for its call:
///
/// ```
/// use std::{sync::atomic::{AtomicUsize, Ordering::Relaxed}, time::Duration};
/// use futures_util::{StreamExt, stream};
/// use steadfast::bulkhead::BulkheadLayer;
/// use tower::{BoxError, Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), BoxError> {
/// let store = service_fn(|message: usize| async move {
///     tokio::time::sleep(Duration::from_millis(10)).await;
///     Ok::<_, BoxError>(message)
/// });
/// let store = BulkheadLayer::new(3).back_pressure().layer(store);
///
/// let taken = AtomicUsize::new(0);
/// let messages = stream::iter(0..100).inspect(|_| _ = taken.fetch_add(1, Relaxed));
/// let mut stored = store.call_all(messages).unordered();
/// let mut done = 0;
/// while let Some(message) = stored.next().await {
///     message?;
///     done += 1;
///     // Three are worked on, and one is in hand.
///     assert!(taken.load(Relaxed) <= done + 3 + 1);
/// }
/// assert_eq!(done, 100);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct BackPressureBulkheadLayer<U = Answered> {
    shared: PooledArc<Shared>,
    until: U,
}

impl<U> BackPressureBulkheadLayer<U> {
    /// Sees and steers the bulkhead.
    #[must_use]
    pub fn handle(&self) -> BulkheadHandle {
        let shared = self.shared.clone();
        BulkheadHandle { shared }
    }
}

impl<S, U: Clone> Layer<S> for BackPressureBulkheadLayer<U> {
    type Service = BackPressureBulkhead<S, U>;

    fn layer(&self, inner: S) -> Self::Service {
        BackPressureBulkhead {
            inner,
            reservation: Reservation::new(self.shared.clone()),
            until: self.until.clone(),
        }
    }
}

/// Is not ready while too many calls are in flight.
///
/// `poll_ready` takes a permit, or a place in the line of those who wait for one: first come, first served, and
/// nobody is overtaken, neither by a service nor by a call of the ordinary form, which is refused meanwhile.
/// Each is woken when its permit has come. The line has no end in time, and 2,097,151 places; beyond that
/// services are ready, and their calls refused.
///
/// **A ready service has reserved its call.** Its permit counts as in flight, which no other call or clone
/// is given. It goes into the call, and comes back as that of a [`Bulkhead`](super::Bulkhead) does; or when the
/// service is dropped, as does a place in the line. A clone holds nothing. Only a service that is called
/// without having been ready may be [`Rejected`](crate::Rejected), where there is no permit or somebody waits for one.
///
/// **A service that is not ready further in** holds no permit, and has no place in the line: it is asked
/// first, and again when the permit has come. Where it is ready no more, the permit goes to the next. What
/// makes the inner service ready, however, is held while this one waits in the line.
///
/// **Use it** below what takes requests only when they can be made: tower's
/// [`call_all`](https://docs.rs/tower/latest/tower/trait.ServiceExt.html#method.call_all) over a stream, a buffer, a balancer. Elsewhere prefer
/// [`Bulkhead`](super::Bulkhead): a ready service that nobody calls keeps its permit from those who would.
/// Dropped it keeps none. Until a service is called nobody knows what it will be called with, so there are
/// neither weights nor keys, nor criticality nor deadline.
#[derive(Clone, Debug)]
pub struct BackPressureBulkhead<S, U = Answered> {
    inner: S,
    reservation: Reservation<PooledArc<Shared>>,
    until: U,
}

impl<S, U> BackPressureBulkhead<S, U> {
    inner_accessors!();
}

impl<S, U, Req> Service<Req> for BackPressureBulkhead<S, U>
where
    S: Service<Req>,
    S::Error: FromRejected,
    U: Until<S::Response> + Clone,
{
    type Response = U::Response<HeldPermit>;
    type Error = S::Error;
    type Future = BulkheadFuture<S::Future, One, U>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        // In this order: one that waits for its inner service, for ever maybe, keeps no permit from others. Given
        // back, it wakes the next, who does not wake this one.
        match self.inner.poll_ready(cx) {
            Poll::Ready(Ok(())) => self.reservation.poll(cx).map(Ok),
            unready => {
                self.reservation.give_up();
                unready
            }
        }
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        let until = self.until.clone();
        let is_held = self.reservation.take_up();
        if !is_held {
            self.reservation.give_up();
        }
        let shared = self.reservation.source();
        if is_held || shared.permits.try_take(1) {
            let permit = Permit::taken(shared.clone(), One);
            BulkheadFuture::admitted(permit, || self.inner.call(req), until)
        } else {
            let rejected = shared.metrics.telemetry.reject(Reason::BulkheadFull);
            BulkheadFuture::rejected(rejected, until)
        }
    }
}
