//! A deadline over real sockets: axum, then tonic, then axum.
//!
//! All three servers are in this process, so a deadline at one can be compared with that at another,
//! and with what the wire has cost. What must be quick is tried several times, since the machine may be
//! busy; the quickest counts.

use std::{
    future::pending,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::StatusCode,
    routing::get,
};
use futures_util::stream;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use steadfast::{
    Context, Criticality, LiftLayer,
    deadline::{CallTimeout, DeadlineBuilder, DeadlineLayer, Everybody, PropagateLayer},
    http::AnswerRefusalsLayer,
};
use tokio::{
    net::TcpListener,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::{Instant, sleep, timeout},
};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint, Server},
};
use tower::{Service, ServiceBuilder, ServiceExt};

use super::ms;
use crate::relay::{
    Answer, Question,
    relay_client::RelayClient,
    relay_server::{Relay, RelayServer},
};

const MINUTE: Duration = Duration::from_secs(60);

fn trusting() -> DeadlineBuilder<Everybody> {
    DeadlineLayer::builder(MINUTE).trust_headers()
}

/// Serves on loopback until the test is over.
async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, app).await });
    address
}

fn with_deadline(app: Router) -> Router {
    app.layer(
        ServiceBuilder::new()
            .layer(AnswerRefusalsLayer::new())
            .layer(trusting().build().unwrap())
            .layer(LiftLayer::new()),
    )
}

fn http_client() -> Client<HttpConnector, Body> {
    Client::builder(TokioExecutor::new()).build_http()
}

// The last hop.

/// What the edge tells, before it asks on: what it has; and the last hop: that it began, within which
/// context, and when it was stopped.
#[derive(Debug)]
enum Told {
    AtEdge(Context, Instant),
    Began(Context, Instant),
    Stopped(Instant),
}

/// Tells when it is dropped.
struct Guard(UnboundedSender<Told>);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.send(Told::Stopped(Instant::now()));
    }
}

#[derive(Clone)]
struct Last {
    tell: UnboundedSender<Told>,
    seen: Arc<AtomicUsize>,
}

/// Works for as long as the request says, and never ends where it does not.
async fn work(State(last): State<Last>, context: Context, req: Request) -> &'static str {
    last.seen.fetch_add(1, SeqCst);
    last.tell
        .send(Told::Began(context, Instant::now()))
        .unwrap();
    let _guard = Guard(last.tell);
    match req.uri().query() {
        Some(millis) => sleep(ms(millis.parse().unwrap())).await,
        None => pending().await,
    }
    "done"
}

// The hop between: a generated service of tonic's.

/// Asks the last hop for the path that it is asked for.
struct Between {
    last: SocketAddr,
    client: Client<HttpConnector, Body>,
    seen: Arc<AtomicUsize>,
}

#[tonic::async_trait]
impl Relay for Between {
    async fn ask(
        &self,
        request: tonic::Request<Question>,
    ) -> Result<tonic::Response<Answer>, Status> {
        self.seen.fetch_add(1, SeqCst);
        assert_eq!(request.extensions().get(), Some(&Context::current()));
        let query = request.into_inner().text;
        let client = ServiceBuilder::new()
            .map_err(Status::from)
            .layer(PropagateLayer::new())
            .layer(LiftLayer::new())
            .service(self.client.clone());
        let uri = format!("http://{}/work{query}", self.last);
        let request = Request::get(uri).body(Body::empty()).unwrap();
        let response = client.oneshot(request).await?;
        if response.status() == StatusCode::GATEWAY_TIMEOUT {
            return Err(Status::deadline_exceeded("the last hop says so"));
        }
        let text = "done".to_owned();
        Ok(tonic::Response::new(Answer { text }))
    }

    type FollowStream = stream::Empty<Result<Answer, Status>>;

    async fn follow(
        &self,
        _: tonic::Request<Question>,
    ) -> Result<tonic::Response<Self::FollowStream>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

async fn serve_between(between: Between, layer: DeadlineLayer<Everybody>) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let incoming = stream::unfold(listener, |listener| async {
        let accepted = listener.accept().await.map(|(stream, _)| stream);
        Some((accepted, listener))
    });
    let layer = ServiceBuilder::new()
        .map_err(Status::from)
        .layer(layer)
        .layer(LiftLayer::new());
    tokio::spawn(async move {
        let server = Server::builder().layer(layer);
        let between = RelayServer::new(between);
        server.serve_with_incoming(between, incoming).await
    });
    address
}

fn channel(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}"))
        .unwrap()
        .connect_lazy()
}

// The edge.

/// Spends what the request says, then asks the hop between.
async fn edge(
    State((channel, tell)): State<(Channel, UnboundedSender<Told>)>,
    context: Context,
    req: Request,
) -> Result<&'static str, StatusCode> {
    if let Some(spends) = req.headers().get("x-spend-ms") {
        sleep(ms(spends.to_str().unwrap().parse().unwrap())).await;
    }
    let client = ServiceBuilder::new()
        .map_err(Status::from)
        .layer(PropagateLayer::new())
        .layer(LiftLayer::new())
        .service(channel);
    let text = req
        .uri()
        .query()
        .map_or_else(String::new, |query| format!("?{query}"));
    tell.send(Told::AtEdge(context, Instant::now())).unwrap();
    let answer = RelayClient::new(client).ask(Question { text }).await;
    match answer.map_err(|status| status.code()) {
        Ok(_) => Ok("done"),
        Err(Code::DeadlineExceeded) => Err(StatusCode::GATEWAY_TIMEOUT),
        Err(_) => Err(StatusCode::BAD_GATEWAY),
    }
}

/// All three, and what the last one tells.
struct Chain {
    edge: SocketAddr,
    client: Client<HttpConnector, Body>,
    told: UnboundedReceiver<Told>,
    between_seen: Arc<AtomicUsize>,
    last_seen: Arc<AtomicUsize>,
}

impl Chain {
    async fn start() -> Self {
        let (tell, told) = unbounded_channel();
        let (between_seen, last_seen) =
            (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let seen = Arc::clone(&last_seen);
        let edges = tell.clone();
        let last = Router::new()
            .route("/work", get(work))
            .with_state(Last { tell, seen });
        let between = Between {
            last: serve(with_deadline(last)).await,
            client: http_client(),
            seen: Arc::clone(&between_seen),
        };
        let between = serve_between(between, trusting().fill_extensions().build().unwrap()).await;
        let app = Router::new()
            .route("/", get(edge))
            .with_state((channel(between), edges));
        Self {
            edge: serve(with_deadline(app)).await,
            client: http_client(),
            told,
            between_seen,
            last_seen,
        }
    }

    /// Calls the edge with so much time.
    async fn call(&self, query: &str, left: Duration, spends: Duration) -> StatusCode {
        let client = ServiceBuilder::new()
            .layer(PropagateLayer::new())
            .layer(LiftLayer::new())
            .service(self.client.clone());
        let mut request = Request::get(format!("http://{}/{query}", self.edge))
            .header("x-spend-ms", spends.as_millis().to_string())
            .body(Body::empty())
            .unwrap();
        request.extensions_mut().insert(CallTimeout(left));
        match client.oneshot(request).await {
            Ok(response) => response.status(),
            Err(error) => {
                assert!(error.timed_out().is_some(), "{error}");
                StatusCode::GATEWAY_TIMEOUT
            }
        }
    }

    /// What the edge had when it asked on, and what the last hop had when it began.
    async fn began(&mut self) -> [(Context, Instant); 2] {
        match (self.told.recv().await, self.told.recv().await) {
            (Some(Told::AtEdge(edges, asked)), Some(Told::Began(lasts, began))) => {
                [(edges, asked), (lasts, began)]
            }
            other => panic!("{other:?}"),
        }
    }

    async fn stopped(&mut self) -> Instant {
        match self.told.recv().await {
            Some(Told::Stopped(at)) => at,
            other => panic!("{other:?}"),
        }
    }
}

/// The least of what several tries measure, each a duration.
fn least(tries: &[Duration]) -> Duration {
    *tries.iter().min().unwrap()
}

#[tokio::test]
async fn the_last_of_three_hops_sees_the_edges_deadline_less_what_was_spent() {
    let mut chain = Chain::start().await;
    let mut errors = Vec::new();
    for spends in [0, 0, 30, 60, 0, 20, 10, 0, 40, 5].map(ms) {
        let sent = Instant::now();
        assert_eq!(chain.call("?0", ms(2_345), spends).await, 200);
        let [(edges, asked), (lasts, began)] = chain.began().await;
        chain.stopped().await;
        let (edges, lasts) = (edges.deadline().unwrap(), lasts.deadline().unwrap());
        assert!(edges >= sent + ms(2_345) && asked >= sent + spends);
        // In one process the deadline is one moment. On the wire it comes later by what the ways there
        // took, which nobody can know, and earlier by what was truncated, which is under a millisecond.
        assert!(lasts + ms(1) > edges, "{:?} too early", edges - lasts);
        let late = lasts.saturating_duration_since(edges);
        assert!(
            late <= began - asked,
            "{late:?} late after {:?}",
            began - asked
        );
        // By so much, what the last handler sees is not what the edge had less what was spent.
        errors.push(late.max(edges.saturating_duration_since(lasts)));
    }
    assert!(least(&errors) <= ms(2), "{errors:?}");
}

#[tokio::test]
async fn at_the_deadline_the_last_hop_is_stopped_and_the_edge_answers_504() {
    let mut chain = Chain::start().await;
    let mut late = Vec::new();
    for _ in 0..10 {
        let sent = Instant::now();
        let total = ms(120);
        assert_eq!(chain.call("", total, ms(0)).await, 504);
        chain.began().await;
        late.push(
            chain
                .stopped()
                .await
                .saturating_duration_since(sent + total),
        );
    }
    assert!(least(&late) <= ms(5), "{late:?}");
    assert_eq!(chain.last_seen.load(SeqCst), 10);
}

#[tokio::test]
async fn when_the_callers_hang_up_the_last_hop_is_stopped() {
    let mut chain = Chain::start().await;
    let mut late = Vec::new();
    for _ in 0..10 {
        let client = chain.client.clone();
        let request = Request::get(format!("http://{}/", chain.edge));
        let request = request.body(Body::empty()).unwrap();
        let call = tokio::spawn({ client }.call(request));
        chain.began().await;
        let hung_up = Instant::now();
        call.abort();
        late.push(chain.stopped().await - hung_up);
    }
    assert!(least(&late) <= ms(5), "{late:?}");
}

#[tokio::test]
async fn no_hop_begins_work_for_which_no_time_is_left() {
    let chain = Chain::start().await;
    // The edge spends more than there is, so it is stopped, and nobody below hears of it.
    assert_eq!(chain.call("?0", ms(50), ms(10_000)).await, 504);
    // Nor of what has nothing left when it comes in.
    let request = Request::get(format!("http://{}/?0", chain.edge));
    let request = request
        .header("x-request-timeout-ms", "0")
        .body(Body::empty())
        .unwrap();
    let response = chain.client.request(request).await.unwrap();
    assert_eq!(response.status(), 504);
    sleep(ms(100)).await;
    assert_eq!(chain.between_seen.load(SeqCst), 0);
    assert_eq!(chain.last_seen.load(SeqCst), 0);
}

#[tokio::test]
async fn a_tonic_server_reads_what_a_tonic_client_writes_and_tells_deadline_exceeded() {
    let (tell, mut told) = unbounded_channel();
    let seen = Arc::<AtomicUsize>::default();
    let last = Router::new().route("/work", get(work)).with_state(Last {
        tell,
        seen: Arc::clone(&seen),
    });
    let between = Between {
        last: serve(with_deadline(last)).await,
        client: http_client(),
        seen,
    };
    // A margin, since tonic's server reads the header too, and would say CANCELLED.
    let layer = trusting().safety_margin(ms(20)).fill_extensions();
    let channel = channel(serve_between(between, layer.build().unwrap()).await);

    // A client of tonic's with nothing of ours.
    let ask = async |query: &str, left: Duration| {
        let text = query.to_owned();
        let mut request = tonic::Request::new(Question { text });
        request.set_timeout(left);
        let context = Context::new().with_criticality(Criticality::Sheddable);
        let answer = context
            .scope(RelayClient::new(channel.clone()).ask(request))
            .await;
        answer
            .map_err(|status| status.code())
            .map(|answer| answer.into_inner().text)
    };
    // Not yet connected, and the machine may be busy.
    assert_eq!(ask("?0", MINUTE).await, Ok("done".to_owned()));
    let Some(Told::Began(context, _)) = told.recv().await else {
        panic!("it began")
    };
    let left = context.remaining().unwrap();
    assert!(left < MINUTE && left > MINUTE / 2, "{left:?}");
    assert_eq!(
        context.criticality(),
        Criticality::Critical,
        "none was sent"
    );

    // tonic's channel ends the call at the same moment, and calls it CANCELLED: the quickest of ten.
    let mut codes = Vec::new();
    for _ in 0..10 {
        codes.push(ask("", ms(100)).await.unwrap_err());
    }
    assert!(codes.contains(&Code::DeadlineExceeded), "{codes:?}");

    // With ours around the channel it is the deadline, always.
    for _ in 0..10 {
        let client = ServiceBuilder::new()
            .map_err(Status::from)
            .layer(PropagateLayer::new())
            .layer(LiftLayer::new())
            .service(channel.clone());
        let question = Question {
            text: String::new(),
        };
        let context = Context::new().with_timeout(ms(50));
        let call = context.scope(async { RelayClient::new(client).ask(question).await });
        let status = timeout(MINUTE, call).await.unwrap().unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded);
    }
}

#[tokio::test]
async fn a_hung_server_is_left_at_the_deadline() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap(); // accepts, and that is all
    let client = ServiceBuilder::new()
        .layer(
            PropagateLayer::builder()
                .root_timeout(ms(50))
                .build()
                .unwrap(),
        )
        .layer(LiftLayer::new())
        .service(http_client());
    let uri = format!("http://{}/", listener.local_addr().unwrap());
    let request = Request::get(uri).body(Body::empty()).unwrap();
    let error = timeout(MINUTE, client.oneshot(request))
        .await
        .unwrap()
        .unwrap_err();
    assert!(error.timed_out().unwrap().waited() >= ms(50));
}
