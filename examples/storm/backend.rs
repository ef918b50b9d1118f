//! What is called: an axum service on a port of its own, with few workers and a first-come,
//! first-served queue before them.
//!
//! Calls that nobody waits for any more cost nothing more: when a client hangs up, hyper drops the
//! handler, which gives back its worker or its place in the queue.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower::ServiceExt;

use crate::script::{Phase, Script};
use crate::stats::Tally;

/// One backend, as the script has it.
#[derive(Debug)]
pub(crate) struct Backend {
    script: Arc<Script>,
    /// Permits are handed out in the order in which they were asked for.
    workers: Semaphore,
    /// How often each call was taken up: a retry draws a new fate.
    taken_up: Vec<AtomicU8>,
    /// Calls that came while the process was starting up.
    turned_away: AtomicU32,
    tally: Tally,
}

impl Backend {
    /// Starts one; it runs for as long as the runtime does.
    pub(crate) async fn start(script: Arc<Script>) -> io::Result<(SocketAddr, Arc<Self>)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let backend = Arc::new(Self {
            workers: Semaphore::new(script.workers()),
            taken_up: (0..script.calls()).map(|_| AtomicU8::new(0)).collect(),
            turned_away: AtomicU32::new(0),
            tally: Tally::new(Arc::clone(&script)),
            script,
        });
        let app = Router::new()
            .route("/calls/{call}", get(answer))
            .with_state(Arc::clone(&backend));
        tokio::spawn(accept(listener, app));
        Ok((address, backend))
    }

    /// What reached it.
    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The status to answer with, or nothing where the connection is to be cut.
    async fn serve(&self, call: usize) -> Option<StatusCode> {
        self.present().await?;
        let _worker = self.workers.acquire().await.ok()?;
        // The queue may have taken it from one phase into the next.
        let phase = self.present().await?;
        let earlier = self.taken_up.get(call)?.fetch_add(1, Relaxed);
        let fate = self.script.fate(phase, call, earlier);
        tokio::time::sleep(fate.work).await;
        Some(fate.status)
    }

    /// The phase, if there is a process that could work in it. Stays pending for as long as the
    /// process hangs; it ends by being killed.
    async fn present(&self) -> Option<Phase> {
        let now = self.script.now();
        match self.script.phase_at(now) {
            Phase::Hung => {
                tokio::time::sleep_until(self.script.instant(self.script.end_of(Phase::Hung)))
                    .await;
                None
            }
            Phase::Down => None,
            Phase::Recovering if self.starting_up(now) => None,
            phase => Some(phase),
        }
    }

    /// Whether a call comes too early for the new process, and thereby delays it a little more.
    fn starting_up(&self, now: Duration) -> bool {
        let up_for = now.saturating_sub(self.script.start_of(Phase::Recovering));
        let starting = up_for < self.script.start_up(self.turned_away.load(Relaxed));
        if starting {
            self.turned_away.fetch_add(1, Relaxed);
        }
        starting
    }
}

/// Marks a response that must not be sent: the connection is cut instead.
#[derive(Clone, Copy, Debug)]
struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("connection cut")
    }
}

impl std::error::Error for Cut {}

async fn answer(State(backend): State<Arc<Backend>>, Path(call): Path<usize>) -> Response {
    let _request = backend.tally.enter();
    match backend.serve(call).await {
        Some(status) => (status, status.as_str().to_owned()).into_response(),
        None => {
            let mut response = Response::default();
            response.extensions_mut().insert(Cut);
            response
        }
    }
}

async fn accept(listener: TcpListener, app: Router) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(converse(stream, app.clone()));
            }
            // Out of descriptors, for one: some will be free again soon.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// One connection. This is `axum::serve` with one difference: a response marked [`Cut`] becomes an
/// error, on which hyper closes the connection without an answer.
async fn converse(stream: TcpStream, app: Router) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let app = app.clone();
        async move {
            let Ok(response) = app.oneshot(request).await;
            match response.extensions().get::<Cut>() {
                Some(&cut) => Err(cut),
                None => Ok(response),
            }
        }
    });
    // An error here is a client that hung up, or a cut connection: both are part of the script.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}
