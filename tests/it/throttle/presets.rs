//! The throttles that `http` and `grpc` begin.

use http::Response;
use http_body_util::Empty;
use tower::BoxError;

use super::*;

type Body = Empty<bytes::Bytes>;

#[tokio::test(start_paused = true)]
async fn over_http_429_and_503_are_not_accepted_and_all_else_is() {
    for status in 200..=599 {
        let layer = steadfast::http::throttle().build().unwrap();
        let answer = |status: u16| async move {
            let response = Response::builder().status(status);
            Ok::<_, BoxError>(response.body(Body::new())?)
        };
        layer
            .layer(service_fn(answer))
            .oneshot(status)
            .await
            .unwrap();
        let accepts = u64::from(!matches!(status, 429 | 503));
        assert_eq!(counts(&layer.handle(), CRITICAL), (1, accepts), "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn over_http_a_call_counts_with_its_head() {
    let layer = steadfast::http::throttle().build().unwrap();
    let endless = |()| async {
        let frames =
            futures_util::stream::pending::<Result<http_body::Frame<bytes::Bytes>, BoxError>>();
        Ok::<_, BoxError>(Response::new(http_body_util::StreamBody::new(frames)))
    };
    let response = layer.layer(service_fn(endless)).oneshot(()).await.unwrap();
    assert_eq!(counts(&layer.handle(), CRITICAL), (1, 1));
    drop(response);
    assert_eq!(counts(&layer.handle(), CRITICAL), (1, 1));
}

#[cfg(feature = "grpc")]
mod grpc {
    use http::HeaderMap;
    use http_body_util::{BodyExt, StreamBody};
    use tonic::{Code, Status};

    use super::*;

    const NOT_ACCEPTED: [Code; 2] = [Code::ResourceExhausted, Code::Unavailable];

    /// What is known of a call that was answered with this code, in the trailers or in the head.
    async fn counts_of(code: Code, in_trailers: bool) -> (u64, u64) {
        let layer = steadfast::grpc::throttle().build().unwrap();
        let answer = |()| async move {
            let mut status = HeaderMap::new();
            Status::new(code, "").add_header(&mut status)?;
            let mut response = Response::new(());
            if !in_trailers {
                response.headers_mut().extend(status.drain());
            }
            let trailers = http_body::Frame::<bytes::Bytes>::trailers(status);
            let frames = futures_util::stream::iter([Ok::<_, BoxError>(trailers)]);
            Ok::<_, BoxError>(response.map(|()| StreamBody::new(frames)))
        };
        let response = layer.layer(service_fn(answer)).oneshot(()).await.unwrap();
        if in_trailers {
            assert_eq!(
                counts(&layer.handle(), CRITICAL),
                (0, 0),
                "it is still open"
            );
            response.into_body().collect().await.unwrap();
        }
        counts(&layer.handle(), CRITICAL)
    }

    #[tokio::test(start_paused = true)]
    async fn over_grpc_resource_exhausted_and_unavailable_are_not_accepted_and_all_else_is() {
        for code in (0..=16).map(Code::from) {
            let expected = match code {
                Code::Cancelled => (0, 0),
                code => (1, u64::from(!NOT_ACCEPTED.contains(&code))),
            };
            assert_eq!(counts_of(code, false).await, expected, "{code:?}, head");
            assert_eq!(counts_of(code, true).await, expected, "{code:?}, trailers");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn over_grpc_what_got_no_connection_was_not_accepted() {
        let layer = steadfast::grpc::throttle().build().unwrap();
        let refused = |()| async {
            let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
            Err::<Response<Body>, _>(BoxError::from(refused))
        };
        let call = layer.layer(service_fn(refused)).oneshot(());
        call.await.unwrap_err();
        assert_eq!(counts(&layer.handle(), CRITICAL), (1, 0));
    }
}
