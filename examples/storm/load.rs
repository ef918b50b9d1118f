//! The load: calls that arrive by the clock, whether or not earlier ones were answered.
//!
//! Latency is measured from the moment at which a call was due, not from that at which it was sent:
//! time that a call loses on the way to its lane is the caller's time too.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{Request, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use tokio::task::JoinSet;
use tower::ServiceExt;

use crate::lanes::Stack;
use crate::script::Script;
use crate::stats::{Call, LaneStats};

/// After this the caller has gone away, in every lane, and the call is dropped.
pub(crate) const GIVE_UP: Duration = Duration::from_secs(1);

/// Sends the whole load through a stack, and returns when the last call is over.
pub(crate) async fn drive(
    stack: Stack,
    backend: SocketAddr,
    script: Arc<Script>,
    stats: Arc<LaneStats>,
) {
    let mut calls = JoinSet::new();
    for (number, arrival) in script.arrivals().enumerate() {
        tokio::time::sleep_until(script.instant(arrival)).await;
        let (stack, script, stats) = (stack.clone(), Arc::clone(&script), Arc::clone(&stats));
        calls.spawn(async move {
            let request = Request::get(format!("http://{backend}/calls/{number}"))
                .body(Empty::new())
                .expect("the address of a backend makes a URI");
            let give_up = script.instant(arrival + GIVE_UP);
            let answered = tokio::time::timeout_at(give_up, send(stack, request)).await;
            let latency = script.now().saturating_sub(arrival);
            stats.record(Call {
                arrival,
                latency,
                status: answered.ok().flatten(),
            });
        });
        while let Some(ended) = calls.try_join_next() {
            ended.expect("no call panics");
        }
    }
    calls.join_all().await;
}

/// The status of the answer, once all of it is there; nothing if it was refused or lost.
async fn send(stack: Stack, request: Request<Empty<Bytes>>) -> Option<StatusCode> {
    let response = stack.oneshot(request).await.ok()?;
    let status = response.status();
    response.into_body().collect().await.ok()?;
    Some(status)
}
