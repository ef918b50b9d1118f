//! An axum server with one of several stacks around it, in a runtime and a thread of its own.

use std::{io, net::SocketAddr, sync::Arc, thread, time::Duration};

use axum::{Router, extract::State, routing::get, serve::ListenerExt};
use steadfast::{
    InvalidSetting, LiftLayer,
    bulkhead::Queue,
    deadline::DeadlineLayer,
    http::{self, AnswerRefusalsLayer, LoadReportLayer},
};
use tokio::{net::TcpListener, sync::oneshot};

use super::{Setup, workers::Workers};

/// What stands around the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stack {
    Bare,
    /// So many places, and a queue.
    Bulkhead,
    /// The same, and before it what sheds load while the queue fills.
    LoadShed,
    /// Places whose number is found out, and a queue.
    Adaptive,
}

impl Stack {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Bulkhead => "bulkhead",
            Self::LoadShed => "load_shed, bulkhead",
            Self::Adaptive => "adaptive",
        }
    }

    fn around(self, router: Router, setup: &Setup) -> Result<Router, InvalidSetting> {
        let answers = AnswerRefusalsLayer::new();
        let deadline = DeadlineLayer::builder(Duration::from_secs(60)).trust_headers();
        let deadline = deadline.build()?;
        let queue = Queue::lifo(setup.queue_capacity(), setup.queue_wait);
        let places = http::bulkhead(setup.places()).queue(queue).build();
        Ok(match self {
            Self::Bare => router,
            Self::Bulkhead => router.layer((answers, deadline, places, LiftLayer::new())),
            Self::LoadShed => {
                let most = setup.places() + setup.in_queue();
                let shed = http::load_shed().in_flight(most).build()?;
                let report = LoadReportLayer::new(shed.handle());
                router.layer((report, answers, deadline, shed, places, LiftLayer::new()))
            }
            Self::Adaptive => {
                let found = http::adaptive().queue(queue).build()?;
                router.layer((answers, deadline, found, LiftLayer::new()))
            }
        })
    }
}

/// A server on loopback. Gone when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    end: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Server {
    /// # Errors
    ///
    /// If no port can be opened, or no thread.
    pub(crate) fn start(stack: Stack, setup: &Setup) -> io::Result<Self> {
        let workers = Arc::new(Workers::new(setup.workers, setup.takes));
        let router = Router::new().route("/", get(answer)).with_state(workers);
        let app = stack.around(router, setup).map_err(io::Error::other)?;
        let runtime = super::runtime()?;
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0)))?;
        let address = listener.local_addr()?;
        let (end, ended) = oneshot::channel();
        let serve = move || {
            runtime.block_on(async {
                let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
                tokio::select! {
                    _ = axum::serve(listener, app) => {}
                    _ = ended => {}
                }
            });
        };
        let thread = thread::Builder::new()
            .name("server".to_owned())
            .spawn(serve)?;
        Ok(Self {
            address,
            end: Some(end),
            thread: Some(thread),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn answer(State(workers): State<Arc<Workers>>) -> &'static str {
    workers.work().await;
    "done"
}
