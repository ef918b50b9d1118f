//! Verdicts by status, and permits that are held until the end of a body.

use ::http::{Response, StatusCode};
use bytes::Bytes;
use futures_util::stream;
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use steadfast::{
    adaptive::Aimd,
    http::{EndOfBody, HttpClassifier},
};
use tokio::time::sleep;
use tower::{Service, ServiceExt, service_fn};

use super::*;
use crate::support::Error;

#[tokio::test(start_paused = true)]
async fn a_503_and_a_429_are_drops_and_of_other_4xx_nothing_is_told_where_they_are_ignored() {
    let classifier = HttpClassifier::builder()
        .ignored(400..=428)
        .ignored(430..=499)
        .build()
        .unwrap();
    let answers = service_fn(|status: u16| async move {
        let body = Full::<Bytes>::default();
        Ok::<_, Error>(Response::builder().status(status).body(body).unwrap())
    });
    let spy = Spy::default();
    let layer = AdaptiveLayer::builder()
        .algorithm(spy.clone())
        .classifier(classifier);
    let mut service = layer.build().unwrap().layer(answers);
    for (status, told) in [
        (200, Some((1, 0))),
        (503, Some((0, 1))),
        (429, Some((0, 1))),
        (404, None),
        (422, None),
        (501, None),
    ] {
        let response = service.ready().await.unwrap().call(status).await.unwrap();
        assert_eq!(response.status(), StatusCode::from_u16(status).unwrap());
        let samples = spy.told();
        let counts = samples.first().map(|it| (it.completed, it.dropped));
        assert_eq!(counts, told, "{status}");
    }
}

#[cfg(feature = "grpc")]
#[tokio::test(start_paused = true)]
async fn a_resource_exhausted_is_a_drop_in_the_head_and_in_the_trailers() {
    use steadfast::grpc::GrpcClassifier;

    let answers = service_fn(|in_trailers: bool| async move {
        let mut trailers = ::http::HeaderMap::new();
        trailers.insert("grpc-status", 8.into());
        let mut response = Response::new(());
        let frame = if in_trailers {
            Frame::<Bytes>::trailers(trailers)
        } else {
            response.headers_mut().extend(trailers);
            Frame::data(Bytes::new())
        };
        let frames = stream::iter([Ok::<_, Error>(frame)]);
        Ok::<_, Error>(response.map(|()| StreamBody::new(frames)))
    });
    let spy = Spy::default();
    let layer = AdaptiveLayer::builder()
        .algorithm(spy.clone())
        .classifier(GrpcClassifier::default())
        .until(EndOfBody)
        .build()
        .unwrap();
    let mut service = layer.layer(answers);
    let response = service.ready().await.unwrap().call(false).await.unwrap();
    assert_eq!(spy.told_one().dropped, 1);
    drop(response);

    let response = service.ready().await.unwrap().call(true).await.unwrap();
    let head = spy.told_one();
    assert_eq!((head.completed, head.dropped), (1, 0));
    let _ = response.into_body().collect().await;
    let end = spy.told_one();
    assert_eq!((end.completed, end.dropped), (0, 1), "it is completed once");
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
