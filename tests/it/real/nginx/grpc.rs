//! gRPC through nginx: from a generated client below this crate's layers to a generated server with them.

use std::{
    future::pending,
    time::{Duration, Instant as StdInstant},
};

use steadfast::{
    Context, LiftLayer, Verdict,
    circuit_breaker::State,
    deadline::{DeadlineLayer, PropagateLayer},
    grpc::{AnswerRefusalsLayer, GrpcClassifier, retry},
    http::{bulkhead, circuit_breaker},
    retry::RetryLayer,
};
use tokio::{
    sync::mpsc::{UnboundedSender, unbounded_channel},
    time::{Instant, sleep, timeout},
};
use tonic::{Code, Status, metadata::MetadataMap, transport::Channel};
use tower::{ServiceBuilder, ServiceExt};

use super::Nginx;
use crate::{
    real::{
        every,
        grpc_retry::retrying,
        ms,
        peer::Absent,
        tonic_channel::{asked, connect, echo, echo_but, messages, question, serve},
    },
    relay::{Answer, relay_client::RelayClient},
};

const MINUTE: Duration = Duration::from_secs(60);

/// A client with a layer or two.
macro_rules! client {
    ($channel:expr, $layer:expr) => {
        RelayClient::new(
            ServiceBuilder::new()
                .map_err(Status::from)
                .layer($layer)
                .layer(PropagateLayer::new())
                .layer(LiftLayer::new())
                .service($channel),
        )
    };
}

/// Tells when it is dropped.
struct Guard(UnboundedSender<Instant>);

impl Drop for Guard {
    fn drop(&mut self) {
        let _gone = self.0.send(Instant::now());
    }
}

async fn before(absent: &Absent) -> Option<(Nginx, Channel)> {
    let nginx = Nginx::before_grpc(absent.address()).await?;
    let channel = connect(nginx.address);
    Some((nginx, channel))
}

#[tokio::test]
async fn a_deadline_passes_and_at_it_or_when_the_caller_hangs_up_the_work_behind_it_stops() {
    let absent = Absent::new();
    let Some((_nginx, channel)) = before(&absent).await else {
        return;
    };
    let (begin, mut begun) = unbounded_channel();
    let (stop, mut stopped) = unbounded_channel();
    let hung = asked(move |_| {
        let guard = Guard(stop.clone());
        begin.send((Context::current(), Instant::now())).unwrap();
        async move {
            let _guard = guard;
            pending().await
        }
    });
    let places = bulkhead(1).build();
    let server = places.handle();
    let layer = ServiceBuilder::new()
        .layer(AnswerRefusalsLayer::new())
        .layer(
            DeadlineLayer::builder(60 * MINUTE)
                .trust_headers()
                .build()
                .unwrap(),
        )
        .layer(places)
        .layer(LiftLayer::new());
    serve(absent, layer, hung);
    let mut asks = client!(channel, bulkhead(8).build());

    let (sent, total) = (Instant::now(), ms(250));
    let call = Context::new()
        .with_timeout(total)
        .scope(asks.ask(question()));
    assert_eq!(call.await.unwrap_err().code(), Code::DeadlineExceeded);
    let (context, at) = begun.recv().await.unwrap();
    let deadline = context.deadline().unwrap();
    assert!(deadline + ms(1) > sent + total && deadline <= at + total);
    let at = timeout(MINUTE, stopped.recv()).await.unwrap().unwrap();
    assert!(at + ms(1) > sent + total, "{:?}", at - sent);

    let call = tokio::spawn(async move { asks.ask(question()).await });
    begun.recv().await.unwrap();
    assert_eq!(server.in_flight(), 1);
    call.abort();
    timeout(MINUTE, stopped.recv()).await.unwrap().unwrap();
    while server.in_flight() > 0 {
        sleep(ms(1)).await;
    }
}

#[tokio::test]
async fn a_status_in_a_head_comes_with_its_pushback_and_one_in_trailers_reaches_the_breaker() {
    let absent = Absent::new();
    let Some((_nginx, channel)) = before(&absent).await else {
        return;
    };
    let (ask, mut questions) = unbounded_channel();
    let refuses_first = asked(move |_| {
        ask.send(Context::current().attempt().get()).unwrap();
        async {
            if Context::current().attempt().get() > 1 {
                return Ok(Answer::default());
            }
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-retry-pushback-ms", "150".parse().unwrap());
            let text = "not yet";
            Err(Status::with_metadata(Code::Unavailable, text, metadata))
        }
    });
    let deadline = DeadlineLayer::builder(MINUTE).trust_headers();
    let layer = ServiceBuilder::new()
        .layer(AnswerRefusalsLayer::new())
        .layer(deadline.build().unwrap())
        .layer(LiftLayer::new());
    serve(absent, layer, refuses_first);

    let by_status = |result: Result<&Answer, &Status>| match result {
        Ok(_) => Verdict::Success,
        Err(status) => GrpcClassifier::new().status(status),
    };
    let retry = RetryLayer::builder().classifier(by_status);
    let retry = retry.backoff(every(60 * MINUTE)).without_budget();
    let channel = ServiceBuilder::new()
        .map_err(Status::from)
        .layer(PropagateLayer::new())
        .layer(LiftLayer::new())
        .service(channel);
    let svc = ServiceBuilder::new()
        .layer(retry.build().unwrap())
        .service(messages(channel));
    let began = StdInstant::now();
    svc.oneshot(question()).await.unwrap();
    assert!(began.elapsed() >= ms(150), "the pushback, and not an hour");
    assert_eq!(
        (questions.recv().await, questions.recv().await),
        (Some(1), Some(2))
    );

    let absent = Absent::new();
    let (_nginx, channel) = before(&absent).await.unwrap();
    let fails_late = echo_but(async || Err(Status::unavailable("no more")));
    serve(absent, tower::layer::util::Identity::new(), fails_late);
    let breaker = circuit_breaker().classifier(GrpcClassifier::new());
    let breaker = breaker.consecutive_failures(1).build().unwrap();
    let handle = breaker.handle();
    let mut asks = client!(channel, breaker);
    let mut answers = asks.follow(question()).await.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap().text, "who?");
    assert_eq!(handle.state(), State::Closed);
    let status = answers.message().await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(handle.state(), State::Open);
}

#[tokio::test]
async fn its_own_502_is_unavailable_and_tried_again_until_the_server_is_there() {
    let absent = Absent::new();
    let Some((_nginx, channel)) = before(&absent).await else {
        return;
    };
    // To tonic's client it is none: that takes the page for messages.
    let breaker = circuit_breaker().classifier(GrpcClassifier::new());
    let breaker = breaker.consecutive_failures(1).build().unwrap();
    let handle = breaker.handle();
    let status = client!(channel.clone(), breaker).ask(question()).await;
    assert_eq!(status.unwrap_err().code(), Code::Internal);
    assert_eq!(handle.state(), State::Open);

    let retry = retry().max_attempts(10_000).backoff(every(ms(5)));
    let mut asks = retrying(channel, retry.without_budget());
    let call = tokio::spawn(async move { asks.ask(question()).await });
    sleep(ms(50)).await;
    assert!(!call.is_finished());
    serve(absent, tower::layer::util::Identity::new(), echo());
    assert_eq!(call.await.unwrap().unwrap().into_inner().text, "who?");
}
