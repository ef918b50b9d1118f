//! Bytes from anywhere, in what a gRPC server says.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use tonic::Status;

use super::{GrpcClassifier, pushback};
use crate::{
    classify::{Hint, Verdict},
    fuzz_tests::Bytes,
};

fn headers(name: HeaderName, value: &[u8]) -> Option<HeaderMap> {
    let value = HeaderValue::from_bytes(value).ok()?;
    Some(HeaderMap::from_iter([(name, value)]))
}

#[test]
fn fuzz_pushback() {
    let seeds = &[
        "0",
        "1",
        "250",
        "2147483647",
        "2147483648",
        "-1",
        "007",
        "+5",
    ];
    let telling = b"0123456789-+ .\xff";
    Bytes { seeds, telling }.fuzz(|bytes| {
        let Some(headers) = headers(pushback::PUSHBACK, bytes) else {
            return false;
        };
        let written = str::from_utf8(bytes)
            .ok()
            .and_then(|text| text.parse::<i32>().ok());
        let millis = written.filter(|millis| millis.to_string().as_bytes() == bytes);
        let millis = millis.and_then(|millis| u64::try_from(millis).ok());
        let delay = millis.map(Duration::from_millis);
        let model = delay.map_or(Hint::Never, Hint::After);
        assert_eq!(pushback::read(&headers), Some(model));
        delay.is_some()
    });
}

#[test]
fn fuzz_status() {
    let seeds = &["0", "5", "14", "16", "17", "014"];
    let telling = b"0123456789-+ \xff";
    Bytes { seeds, telling }.fuzz(|bytes| {
        let Some(headers) = headers(Status::GRPC_STATUS, bytes) else {
            return false;
        };
        let codes: Vec<String> = (0..=16).map(|code: u8| code.to_string()).collect();
        let is_code = codes.iter().any(|code| code.as_bytes() == bytes);
        let verdict = GrpcClassifier::new().trailers(&headers);
        // What is no code is `UNKNOWN`, which is a failure.
        assert!(is_code || matches!(verdict, Verdict::Failure(_)));
        is_code
    });
}
