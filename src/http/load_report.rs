//! Tells callers how loaded a server is.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderValue, Response};
use pin_project::pin_project;
use tower::{Layer, Service};

use super::endpoint_load::HEADER;
use crate::{context::Criticality, load_shed::LoadShedHandle};

/// Has every response say how loaded the server is, so that callers and balancers send elsewhere, or not at
/// all, what would be shed: **above what answers refusals**, for these are to say it, too.
///
/// The header is `endpoint-load-metrics`, of the Open Request Cost Aggregation (ORCA), in its text format, as
/// Envoy reads it to weigh the servers of a cluster: `application_utilization` is the
/// [utilization](LoadShedHandle::utilization), above 1 while the server is asked for more than it can do.
/// `named_metrics` are the share that is shed, `shed_share`; the [`load`](LoadShedHandle::load) by its
/// signals; and the share of the calls of each criticality that passes, such as `admitted.sheddable`. One that
/// the service has written stays as it is. It takes two allocations a response.
///
/// Of our callers a throttle [heeds](crate::throttle::ThrottleBuilder::heed_load) it.
///
/// # Example
///
/// ```
/// use http::{Request, Response};
/// use steadfast::{
///     LiftLayer, http::{AnswerRefusalsLayer, LoadReportLayer}, load_shed::LoadShedLayer,
/// };
/// use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let load_shed = LoadShedLayer::builder().in_flight(100).build()?;
/// let server = ServiceBuilder::new()
///     .layer(LoadReportLayer::new(load_shed.handle()))
///     .layer(AnswerRefusalsLayer::new())
///     .layer(load_shed)
///     .layer(LiftLayer::new())
///     .service(service_fn(|_: Request<()>| async {
///         Ok::<_, std::convert::Infallible>(Response::new(String::new()))
///     }));
///
/// let response = server.oneshot(Request::new(())).await?;
/// let load = response.headers()["endpoint-load-metrics"].to_str()?;
/// assert!(load.starts_with("TEXT application_utilization=0.000,named_metrics.shed_share=0.000,"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct LoadReportLayer {
    handle: LoadShedHandle,
}

impl LoadReportLayer {
    /// A layer that tells the load of the layer whose handle this is.
    pub const fn new(handle: LoadShedHandle) -> Self {
        Self { handle }
    }
}

impl<S> Layer<S> for LoadReportLayer {
    type Service = LoadReport<S>;

    fn layer(&self, inner: S) -> Self::Service {
        let handle = self.handle.clone();
        LoadReport { inner, handle }
    }
}

/// Has every response say how loaded the server is; see [`LoadReportLayer`].
#[derive(Clone, Debug)]
pub struct LoadReport<S> {
    inner: S,
    handle: LoadShedHandle,
}

impl<S> LoadReport<S> {
    inner_accessors!();
}

impl<S, Req, B> Service<Req> for LoadReport<S>
where
    S: Service<Req, Response = Response<B>>,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = LoadReportFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Req) -> Self::Future {
        LoadReportFuture {
            inner: self.inner.call(req),
            handle: self.handle.clone(),
        }
    }
}

/// Response future of [`LoadReport`].
#[pin_project]
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct LoadReportFuture<F> {
    #[pin]
    inner: F,
    handle: LoadShedHandle,
}

impl<F, B, E> Future for LoadReportFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.inner.poll(cx))?;
        let headers = response.headers_mut();
        if !headers.contains_key(HEADER) {
            headers.insert(HEADER, report(this.handle));
        }
        Poll::Ready(Ok(response))
    }
}

fn report(handle: &LoadShedHandle) -> HeaderValue {
    // Finite, or it would be no number to who reads it.
    let load = handle.load().min(1e6);
    let utilization = handle.utilization();
    let admitted = Criticality::ALL.map(|class| handle.admitted_share(class));
    let [critical_plus, critical, sheddable_plus, sheddable] = admitted;
    let text = format!(
        "TEXT application_utilization={utilization:.3},\
         named_metrics.shed_share={:.3},\
         named_metrics.load={load:.3},\
         named_metrics.admitted.critical_plus={critical_plus:.3},\
         named_metrics.admitted.critical={critical:.3},\
         named_metrics.admitted.sheddable_plus={sheddable_plus:.3},\
         named_metrics.admitted.sheddable={sheddable:.3}",
        handle.shed_share(),
    );
    HeaderValue::from_maybe_shared(Bytes::from(text)).expect("numbers make a header")
}
