//! Makes `relay.rs` of `relay.proto`, which the tests and the examples of steadfast include.
//!
//! ```sh
//! cargo test -p relay                   # compares
//! STEADFAST_RENEW=1 cargo test -p relay # and writes
//! ```

#[cfg(test)]
mod tests {
    use std::{env, fs, path::Path, process};

    #[test]
    fn the_generated_code_is_what_the_proto_says() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let made = env::temp_dir().join(format!("steadfast-relay-{}", process::id()));
        fs::create_dir_all(&made).unwrap();
        let proto = protox::compile(["relay.proto"], [here]).unwrap();
        let build = tonic_prost_build::configure().out_dir(&made);
        build.compile_fds(proto).unwrap();
        let code = fs::read_to_string(made.join("relay.rs")).unwrap();
        fs::remove_dir_all(&made).unwrap();

        let place = here.join("relay.rs");
        if env::var_os("STEADFAST_RENEW").is_some() {
            fs::write(&place, &code).unwrap();
        }
        let is_the_same = fs::read_to_string(place).unwrap() == code;
        assert!(
            is_the_same,
            "to be made anew: STEADFAST_RENEW=1 cargo test -p relay"
        );
    }
}
