//! Verdicts by status, and permits that are held until the end of a body.

use ::http::Response;
use bytes::Bytes;
use futures_util::{future::join_all, stream};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use steadfast::{
    adaptive::Aimd,
    http::{self, EndOfBody},
};
use tokio::time::sleep;
use tower::{Service, ServiceExt, service_fn};

use super::*;
use crate::support::Error;

/// What is told of a call, by the number of those completed and of those dropped.
fn told(spy: &Spy) -> Option<(u32, u32)> {
    let samples = spy.told();
    samples.first().map(|it| (it.completed, it.dropped))
}

#[tokio::test(start_paused = true)]
async fn a_503_and_a_429_are_drops_and_of_other_4xx_nothing_is_told() {
    let answers = service_fn(|status: u16| async move {
        let body = Full::<Bytes>::default();
        Ok::<_, Error>(Response::builder().status(status).body(body).unwrap())
    });
    for status in 200..=599 {
        let expected = match status {
            200..=399 => Some((1, 0)),
            429 | 503 | 504 => Some((0, 1)),
            // Other failures would have taken longer, which makes no sample by itself.
            _ => None,
        };
        let spy = Spy::default();
        let layer = http::adaptive().algorithm(spy.clone()).build().unwrap();
        let response = layer.layer(answers).oneshot(status).await.unwrap();
        response.into_body().collect().await.unwrap();
        assert_eq!(told(&spy), expected, "{status}");
        assert_eq!(layer.handle().in_flight(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn refusals_that_come_at_once_do_not_make_a_service_look_fast() {
    // One in two calls is refused for its own fault, at once; the others take 50 ms.
    let answers = service_fn(|is_bad: bool| async move {
        let (takes, status) = if is_bad { (ms(0), 422) } else { (ms(50), 200) };
        sleep(takes).await;
        let body = Full::<Bytes>::default();
        Ok::<_, Error>(Response::builder().status(status).body(body).unwrap())
    });
    let spy = Spy::default();
    let builder = http::adaptive().algorithm(spy.clone());
    let layer = builder.sampling(Windows::default()).build().unwrap();
    let service = layer.layer(answers);
    for number in 0..80 {
        let calls = [true, false].map(|is_bad| service.clone().oneshot(is_bad));
        for response in join_all(calls).await {
            response.unwrap().into_body().collect().await.unwrap();
        }
        for sample in spy.told() {
            assert_eq!(sample.min_latency, Some(ms(50)), "{number}");
            let latency = sample.latency.unwrap();
            assert!(latency > ms(48), "{latency:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_left_out_of_the_samples_holds_its_permit_and_says_nothing() {
    let spy = Spy::default();
    let layer = http::adaptive()
        .algorithm(spy.clone())
        .sample_if(|is_stream: &bool| !is_stream);
    let layer = layer.build().unwrap();
    let handle = layer.handle();
    let mut service = layer.layer(service_fn(|_: bool| streams(())));
    let stream = service.ready().await.unwrap().call(true).await.unwrap();
    assert_eq!((handle.in_flight(), told(&spy)), (1, None));
    let other = service.ready().await.unwrap().call(false).await.unwrap();
    assert_eq!((handle.in_flight(), told(&spy)), (2, Some((1, 0))));
    stream.into_body().collect().await.unwrap();
    other.into_body().collect().await.unwrap();
    assert_eq!((handle.in_flight(), told(&spy)), (0, None));
}

#[cfg(feature = "grpc")]
mod grpc {
    use ::http::HeaderMap;
    use steadfast::{classify::FailureKind, grpc};
    use tonic::{Code, Status};

    use super::*;

    /// Answers with this code, in the trailers or in the head.
    async fn answer(
        (code, in_trailers): (Code, bool),
    ) -> Result<Response<impl http_body::Body<Data = Bytes, Error = Error>>, Error> {
        let trailers = Status::new(code, "").into_http::<()>().into_parts().0;
        let mut status = HeaderMap::new();
        status.insert("grpc-status", trailers.headers["grpc-status"].clone());
        let mut response = Response::new(());
        let frame = if in_trailers {
            Frame::trailers(status)
        } else {
            response.headers_mut().extend(status);
            Frame::data(Bytes::new())
        };
        let frames = stream::iter([Ok::<_, Error>(frame)]);
        Ok(response.map(|()| StreamBody::new(frames)))
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_overload_or_out_of_time_is_a_drop_and_of_the_callers_faults_nothing_is_told() {
        let spy = Spy::default();
        let layer = grpc::adaptive().algorithm(spy.clone()).build().unwrap();
        let mut service = layer.layer(service_fn(answer));
        for code in (0..=16).map(Code::from) {
            let expected = match code {
                Code::Ok => Some((1, 0)),
                Code::ResourceExhausted | Code::Unavailable | Code::DeadlineExceeded => {
                    Some((0, 1))
                }
                _ => None,
            };
            let call = service.ready().await.unwrap().call((code, false));
            call.await.unwrap();
            assert_eq!(told(&spy), expected, "{code:?} in the head");

            let call = service.ready().await.unwrap().call((code, true));
            let response = call.await.unwrap();
            assert_eq!(told(&spy), Some((1, 0)), "it is open until the trailers");
            response.into_body().collect().await.unwrap();
            let drop = expected.filter(|told| *told == (0, 1));
            assert_eq!(told(&spy), drop, "{code:?} in the trailers");
        }
        assert_eq!(layer.handle().in_flight(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn trailers_that_are_made_part_of_the_head_tell_nothing_of_the_callers_faults_either() {
        let spy = Spy::default();
        let layer = grpc::adaptive().algorithm(spy.clone()).build().unwrap();
        let heads = grpc::TrailersOnlyLayer::new(ms(100));
        let answers = service_fn(|said| async move {
            let response = answer(said).await?;
            Ok::<_, Error>(response.map(Box::pin))
        });
        let mut service = (&layer, &heads).layer(answers);
        for (code, expected) in [(Code::NotFound, None), (Code::Unavailable, Some((0, 1)))] {
            let call = service.ready().await.unwrap().call((code, true));
            call.await.unwrap();
            assert_eq!(told(&spy), expected, "{code:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_rule_of_ones_own_is_added_to_those_of_the_load() {
        let spy = Spy::default();
        let classifier = grpc::GrpcClassifier::of_load();
        let builder = grpc::adaptive()
            .algorithm(spy.clone())
            .classifier(classifier.failure(Code::Aborted, FailureKind::Overload));
        let layer = builder.build().unwrap();
        let mut service = layer.layer(service_fn(answer));
        for (code, expected) in [(Code::Aborted, Some((0, 1))), (Code::NotFound, None)] {
            let call = service.ready().await.unwrap().call((code, false));
            call.await.unwrap();
            assert_eq!(told(&spy), expected, "{code:?}");
        }
    }
}

/// A body of ten frames, one every ten milliseconds, after a head that takes five.
async fn streams(
    _: (),
) -> Result<Response<impl http_body::Body<Data = Bytes, Error = Error>>, Error> {
    sleep(ms(5)).await;
    let frames = stream::unfold(0, |sent| async move {
        sleep(ms(10)).await;
        let frame = Frame::data(Bytes::from_static(b"tick"));
        (sent < 10).then(|| (Ok(frame), sent + 1))
    });
    Ok(Response::new(StreamBody::new(Box::pin(frames))))
}

#[tokio::test(start_paused = true)]
async fn a_permit_is_held_until_the_end_of_the_body_and_the_latency_is_that_of_the_head() {
    let spy = Spy::default();
    let layer = AdaptiveLayer::builder()
        .algorithm(spy.clone())
        .until(EndOfBody)
        .build()
        .unwrap();
    let handle = layer.handle();
    let mut service = layer.layer(service_fn(streams));
    let response = service.ready().await.unwrap().call(()).await.unwrap();
    assert_eq!(handle.in_flight(), 1);
    let sample = spy.told_one();
    assert_eq!((sample.latency, sample.in_flight), (Some(ms(5)), 1));
    response.into_body().collect().await.unwrap();
    assert_eq!((handle.in_flight(), spy.told()), (0, vec![]));

    // Dropped by who reads it, it is no drop of the service's.
    let response = service.ready().await.unwrap().call(()).await.unwrap();
    spy.told();
    drop(response);
    assert_eq!((handle.in_flight(), spy.told()), (0, vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_body_whose_time_is_up_is_a_drop() {
    use steadfast::http::BodyTimeoutLayer;

    // Below, it breaks off; above, it is dropped.
    let timeout = BodyTimeoutLayer::builder()
        .error::<Error>()
        .total(ms(50))
        .build()
        .unwrap();
    let layer = || {
        let builder = AdaptiveLayer::builder()
            .algorithm(Aimd::default())
            .until(EndOfBody);
        builder.build().unwrap()
    };
    let below = layer();
    let mut service = (&below, &timeout).layer(service_fn(streams));
    let response = service.ready().await.unwrap().call(()).await.unwrap();
    response.into_body().collect().await.unwrap_err();
    assert_eq!(
        (below.handle().limit(), below.handle().in_flight()),
        (18, 0)
    );

    let above = layer();
    let mut service = (&timeout, &above).layer(service_fn(streams));
    let response = service.ready().await.unwrap().call(()).await.unwrap();
    response.into_body().collect().await.unwrap_err();
    assert_eq!(
        (above.handle().limit(), above.handle().in_flight()),
        (18, 0)
    );
}
