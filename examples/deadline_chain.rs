//! One deadline over three hops: an axum server asks a tonic server, which asks an axum server.
//!
//! ```sh
//! cargo run --example deadline_chain --all-features
//! ```
//!
//! Nobody hands a deadline on. Each server reads it, each client writes what is left of it, and when it
//! passes all three stop at once.
#![allow(
    clippy::disallowed_methods,
    reason = "the doors are for the crate; an example stands outside"
)]

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use axum::{Router, body::Body, extract::Request, http::StatusCode, routing::get};
use futures_util::stream;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use steadfast::{
    Context, InvalidSetting, LiftLayer,
    deadline::{CallTimeout, DeadlineLayer, Everybody, PropagateLayer},
    http::AnswerRefusalsLayer,
};
use tokio::{net::TcpListener, time::sleep};
use tonic::{
    Response, Status,
    transport::{Endpoint, Server},
};
use tower::{BoxError, Service, ServiceBuilder};

use relay::{
    Answer, Question,
    relay_client::RelayClient,
    relay_server::{Relay, RelayServer},
};

/// What tonic's build crate makes of `tests/relay/relay.proto`.
#[allow(warnings, reason = "it is not ours")]
mod relay {
    include!("../tests/relay/relay.rs");
}

// What a user writes.

/// For servers behind an edge of one's own: believes their callers, up to a minute.
fn deadline() -> Result<DeadlineLayer<Everybody>, InvalidSetting> {
    let most = Duration::from_secs(60);
    DeadlineLayer::builder(most).trust_headers().build()
}

/// axum: spends 70 ms, then asks the tonic server.
async fn edge(context: Context, middle: Endpoint) -> Result<&'static str, StatusCode> {
    say("edge", context);
    sleep(Duration::from_millis(70)).await;
    let client = ServiceBuilder::new()
        .map_err(Status::from)
        .layer(PropagateLayer::new())
        .layer(LiftLayer::new())
        .service(middle.connect_lazy());
    let answer = RelayClient::new(client).ask(Question::default()).await;
    answer.map_err(|_| StatusCode::BAD_GATEWAY)?;
    Ok("done")
}

/// tonic: spends 40 ms, then asks the last server.
async fn middle(last: String) -> Result<Response<Answer>, Status> {
    say("middle", Context::current());
    sleep(Duration::from_millis(40)).await;
    let mut client = ServiceBuilder::new()
        .map_err(Status::from)
        .layer(PropagateLayer::new())
        .layer(LiftLayer::new())
        .service(Client::builder(TokioExecutor::new()).build_http());
    client.call(get_request(&last)).await?;
    Ok(Response::new(Answer::default()))
}

/// axum: takes longer than there is.
async fn last(context: Context) {
    say("last", context);
    let _stopped = SayWhenDropped("last");
    sleep(Duration::from_secs(3_600)).await;
}

/// A router whose requests have deadlines.
fn app(router: Router) -> Result<Router, InvalidSetting> {
    Ok(router.layer((AnswerRefusalsLayer::new(), deadline()?, LiftLayer::new())))
}

// What remains is three servers on loopback, and what they print.

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let last = serve(app(Router::new().route("/", get(last)))?).await?;
    let middle = Endpoint::from_shared(serve_grpc(Middle { last }).await?)?;
    let edge = get(move |context: Context| edge(context, middle));
    let edge = serve(app(Router::new().route("/", edge))?).await?;

    let mut client = ServiceBuilder::new()
        .layer(PropagateLayer::new())
        .layer(LiftLayer::new())
        .service(Client::builder(TokioExecutor::new()).build_http());
    let mut request = get_request(&edge);
    request
        .extensions_mut()
        .insert(CallTimeout(Duration::from_millis(300)));
    let began = Instant::now();
    match client.call(request).await {
        Ok(response) => println!(
            "caller  got {} after {:?}",
            response.status(),
            began.elapsed()
        ),
        Err(error) => println!("caller  {error}"),
    }
    sleep(Duration::from_millis(50)).await; // whatever stopped has been printed
    Ok(())
}

fn say(who: &str, context: Context) {
    println!(
        "{who:7} has {:?} left",
        context.remaining().unwrap_or_default()
    );
}

struct SayWhenDropped(&'static str);

impl Drop for SayWhenDropped {
    fn drop(&mut self) {
        println!("{:7} stopped", self.0);
    }
}

fn get_request(url: &str) -> Request<Body> {
    let request = Request::get(url).body(Body::empty());
    request.expect("the address is one")
}

async fn bind() -> Result<(TcpListener, String), BoxError> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let url = format!("http://{}", listener.local_addr()?);
    Ok((listener, url))
}

async fn serve(app: Router) -> Result<String, BoxError> {
    let (listener, url) = bind().await?;
    tokio::spawn(async { axum::serve(listener, app).await });
    Ok(url)
}

/// The generated service, for whose one question `middle` has the answer.
struct Middle {
    last: String,
}

#[tonic::async_trait]
impl Relay for Middle {
    async fn ask(&self, _: tonic::Request<Question>) -> Result<Response<Answer>, Status> {
        middle(self.last.clone()).await
    }

    type FollowStream = stream::Empty<Result<Answer, Status>>;

    async fn follow(
        &self,
        _: tonic::Request<Question>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

async fn serve_grpc(service: Middle) -> Result<String, BoxError> {
    let (listener, url) = bind().await?;
    let incoming = stream::unfold(listener, |listener| async {
        let accepted = listener.accept().await.map(|(stream, _)| stream);
        Some((accepted, listener))
    });
    let layer = ServiceBuilder::new()
        .map_err(Status::from)
        .layer(deadline()?)
        .layer(LiftLayer::new());
    tokio::spawn(async {
        let server = Server::builder().layer(layer);
        let service = RelayServer::new(service);
        server.serve_with_incoming(service, incoming).await
    });
    Ok(url)
}
