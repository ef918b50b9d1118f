//! A gRPC service of our own, as a user has one: generated from `tests/relay/relay.proto` by tonic's build
//! crate.
//!
//! A user's build script would do that. This crate has none, since whoever depends on it would have to run
//! it; so what is generated stands beside the `.proto`, and is compared here.

use std::{env, fs, path::Path, process};

/// The generated code, untouched.
#[allow(warnings, reason = "it is not ours")]
mod generated {
    include!("../relay/relay.rs");
}
pub(crate) use generated::*;

#[test]
fn the_generated_code_is_what_the_proto_says() {
    let relay = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/relay");
    let made = env::temp_dir().join(format!("steadfast-relay-{}", process::id()));
    fs::create_dir_all(&made).unwrap();
    let proto = protox::compile(["relay.proto"], [&relay]).unwrap();
    let build = tonic_prost_build::configure().out_dir(&made);
    build.compile_fds(proto).unwrap();
    let code = fs::read_to_string(made.join("relay.rs")).unwrap();
    fs::remove_dir_all(&made).unwrap();

    let place = relay.join("relay.rs");
    if env::var_os("STEADFAST_RENEW").is_some() {
        fs::write(&place, &code).unwrap();
    }
    let renew = "STEADFAST_RENEW=1 cargo test --all-features --test it relay::";
    let is_the_same = fs::read_to_string(place).unwrap() == code;
    assert!(is_the_same, "to be made anew: {renew}");
}
