//! What tests have in common: the scripted service and the waker of [`steadfast::sim::laws`], and how they
//! are called.

use std::{pin::pin, time::Duration};

pub(crate) use steadfast::sim::laws::{
    Act, CountingWaker, Error, Scripted, Told, Watch, poll_once,
};
use tower::{Service, ServiceExt};

/// Makes `service` ready and calls it.
pub(crate) async fn send<S>(service: &mut S, act: Act) -> Result<u32, Error>
where
    S: Service<Act, Response = u32, Error = Error>,
{
    service.ready().await?.call(act).await
}

/// The same as a task of its own, so that a panic in it is contained.
pub(crate) async fn send_contained<S>(service: &S, act: Act) -> Result<u32, ()>
where
    S: Service<Act, Response = u32, Error = Error> + Clone + Send + 'static,
    S::Future: Send,
{
    let mut service = service.clone();
    let task = tokio::spawn(async move { send(&mut service, act).await });
    task.await.unwrap_or(Err(Error::Failed(0))).map_err(|_| ())
}

/// Calls `service`, polls once, and drops the call.
pub(crate) async fn send_and_drop<S>(service: &mut S, act: Act)
where
    S: Service<Act, Response = u32, Error = Error>,
{
    let call = service.ready().await.unwrap().call(act);
    let _ = poll_once(pin!(call));
}

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}
