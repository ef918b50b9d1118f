//! A throttle that takes its verdict at the end of the body.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use steadfast::{grpc::GrpcClassifier, http::EndOfBody};
use tower::BoxError;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_call_is_accepted_or_not_by_what_its_trailers_say() {
    let layer = ThrottleLayer::builder(GrpcClassifier::new()).until(EndOfBody);
    let layer = layer.minimum_rate(0.0).build().unwrap();
    let mut throttle = layer.layer(service_fn(|code: &'static str| async move {
        let trailers = [(
            http::HeaderName::from_static("grpc-status"),
            HeaderValue::from_static(code),
        )];
        let trailers = Frame::<Bytes>::trailers(HeaderMap::from_iter(trailers));
        let frames = futures_util::stream::iter([Ok::<_, BoxError>(trailers)]);
        Ok::<_, BoxError>(Response::new(StreamBody::new(frames)))
    }));
    let handle = layer.handle();
    let mut read = Vec::new();
    for code in ["0", "8", "5", "0"] {
        let response = throttle.ready().await.unwrap().call(code).await.unwrap();
        read.push(response.into_body());
    }
    assert_eq!(counts(&handle, CRITICAL), (0, 0), "nothing is known yet");
    drop(read.pop());
    for body in read {
        body.collect().await.unwrap();
    }
    // One, that was dropped, says nothing, and not found is the application's answer.
    assert_eq!(counts(&handle, CRITICAL), (3, 2));
}
