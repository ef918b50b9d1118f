//! Who may import whom.
//!
//! The core stands in ranks, and a module imports only from those above it; layers import the core and
//! never another layer; what brings the layers together is imported by nothing. Time, randomness, atomics
//! and telemetry each have one door.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// From the top down.
const CORE: [&str; 23] = [
    "error",
    "foreign",
    "sync",
    "pooled",
    "time",
    "rng",
    "telemetry",
    "mode",
    "origin",
    "context",
    "reported",
    "classify",
    "until",
    "oneshot",
    "watched",
    "permits",
    "queue",
    "partitions",
    "window",
    "keyed",
    "backoff",
    "budget",
    "macros",
];
const LAYERS: [&str; 8] = [
    "adaptive",
    "bulkhead",
    "circuit_breaker",
    "deadline",
    "load_shed",
    "retry",
    "throttle",
    "timeout",
];
const INTEGRATION: [&str; 6] = ["axum", "builder", "grpc", "http", "run", "sim"];

/// Parts that are handed the time, and decide without asking the world.
const PURE: [&str; 61] = [
    "window/",
    "backoff",
    "permits/",
    "keyed/map.rs",
    "adaptive/aimd.rs",
    "adaptive/bbr.rs",
    "adaptive/correlated.rs",
    "adaptive/envoy.rs",
    "adaptive/gradient.rs",
    "adaptive/gradient2.rs",
    "adaptive/knee.rs",
    "adaptive/limit.rs",
    "adaptive/limiter.rs",
    "adaptive/little.rs",
    "adaptive/numbers.rs",
    "adaptive/sampling.rs",
    "adaptive/standing.rs",
    "adaptive/vegas.rs",
    "circuit_breaker/always.rs",
    "circuit_breaker/ask.rs",
    "circuit_breaker/desk.rs",
    "circuit_breaker/held.rs",
    "circuit_breaker/machine.rs",
    "circuit_breaker/mode.rs",
    "circuit_breaker/own.rs",
    "circuit_breaker/ramp.rs",
    "circuit_breaker/rules.rs",
    "circuit_breaker/trip.rs",
    "circuit_breaker/word.rs",
    "retry/policy.rs",
    "throttle/rate/cubic.rs",
    "throttle/rate/learner.rs",
    "throttle/rate/measured.rs",
    "throttle/rate/pace.rs",
    "throttle/rate/settings.rs",
    "throttle/reports.rs",
    "throttle/rule.rs",
    "throttle/settings.rs",
    "throttle/statistics.rs",
    "reported.rs",
    "classify.rs",
    "http/endpoint_load.rs",
    "http/field.rs",
    "http/hint.rs",
    "http/rate_limit.rs",
    "http/retry_after.rs",
    "http/rule.rs",
    "grpc/pushback.rs",
    "deadline/attempt.rs",
    "deadline/criticality.rs",
    "deadline/digits.rs",
    "deadline/grpc_timeout.rs",
    "deadline/incoming.rs",
    "deadline/limits.rs",
    "deadline/millis.rs",
    "deadline/outgoing.rs",
    "load_shed/controller.rs",
    "load_shed/priority.rs",
    "load_shed/seen.rs",
    "load_shed/unready.rs",
    "load_shed/usage.rs",
];

struct Source {
    /// Below `src`, with forward slashes.
    path: String,
    /// Without comments, and without tests, which may look anywhere.
    code: String,
}

impl Source {
    fn module(&self) -> &str {
        self.path.split(['/', '.']).next().unwrap()
    }

    /// The first segments of all paths below `crate::`.
    fn imports(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for (at, prefix) in self.code.match_indices("crate::") {
            match self.code[at + prefix.len()..].strip_prefix('{') {
                None => found.extend(first_segment(&self.code[at + prefix.len()..])),
                Some(list) => found.extend(split_list(list).iter().flat_map(|p| first_segment(p))),
            }
        }
        found
    }
}

fn first_segment(path: &str) -> Option<String> {
    let name = |c: &char| c.is_alphanumeric() || *c == '_';
    let segment: String = path.trim_start().chars().take_while(name).collect();
    (!segment.is_empty()).then_some(segment)
}

/// The members of a brace list, up to its closing brace; lists within stay whole.
fn split_list(list: &str) -> Vec<String> {
    let (mut members, mut depth) = (vec![String::new()], 0);
    for c in list.chars() {
        match c {
            '}' if depth == 0 => break,
            ',' if depth == 0 => members.push(String::new()),
            c => {
                depth += i32::from(c == '{') - i32::from(c == '}');
                members.last_mut().unwrap().push(c);
            }
        }
    }
    members
}

fn files_below(dir: &Path, all: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_below(&path, all);
        } else {
            all.push(path);
        }
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    files_below(&root, &mut paths);
    let is_test = |path: &str| path.contains("test") || path.contains("loom");
    let source = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        let code = code.split("#[cfg(all(test").next().unwrap();
        let no_comment = |line: &str| line.split("//").next().unwrap().to_owned();
        let code: Vec<_> = code.lines().map(no_comment).collect();
        let path = path
            .strip_prefix(&root)
            .unwrap()
            .to_str()
            .unwrap()
            .replace('\\', "/");
        let code = code.join("\n");
        Source { path, code }
    };
    let all = paths.into_iter().map(source);
    let all: Vec<_> = all
        .filter(|s| s.path != "lib.rs" && !is_test(&s.path))
        .collect();
    assert!(all.len() > 30, "the sources are where they are looked for");
    all
}

fn position(module: &str) -> Option<usize> {
    CORE.iter().position(|core| *core == module)
}

/// Everything in `sources` that breaks a rule, as one line each.
fn violations(sources: &[Source]) -> Vec<String> {
    let mut broken = Vec::new();
    for source in sources {
        let module = source.module();
        let is_layer = LAYERS.contains(&module);
        let is_integration = INTEGRATION.contains(&module);
        let rank = position(module);
        if rank.is_none() && !is_layer && !is_integration {
            broken.push(format!(
                "{}: `{module}` has no place in the house",
                source.path
            ));
        }
        for import in source.imports().iter().filter(|import| *import != module) {
            let may = match (rank, position(import)) {
                (Some(own), Some(other)) => other < own,
                (None, Some(_)) => true,
                (_, None) => {
                    let is_layer = LAYERS.contains(&import.as_str());
                    is_integration && (is_layer || import == "http")
                }
            };
            if !may {
                broken.push(format!("{}: must not import `{import}`", source.path));
            }
        }
    }
    broken
}

#[test]
fn each_module_imports_only_what_stands_above_it() {
    assert_eq!(violations(&sources()), [""; 0]);
}

#[test]
fn an_import_against_the_rule_is_found_in_every_spelling() {
    let spellings = [
        "use crate::retry::RetryLayer;",
        "use crate::{backoff::Backoff, retry::{RetryLayer, Retry}};",
        "use crate::{\n    error::{Rejected, TimedOut},\n    retry,\n};",
        "fn f() { crate::retry::x() }",
    ];
    for code in spellings {
        for path in ["window/mod.rs", "bulkhead/layer.rs"] {
            let (path, code) = (path.to_owned(), code.to_owned());
            let found = violations(&[Source { path, code }]);
            assert!(
                found.iter().any(|line| line.contains("`retry`")),
                "{found:?}"
            );
        }
    }
    let (path, code) = (
        "error/mod.rs".to_owned(),
        "use crate::budget::Budget;".to_owned(),
    );
    assert_eq!(
        violations(&[Source { path, code }]).len(),
        1,
        "upwards within the core"
    );
}

#[test]
fn time_chance_atomics_and_telemetry_each_have_one_door() {
    let doors: [(&[&str], &str); 4] = [
        (
            &["tokio::time", "std::time::Instant", "SystemTime"],
            "time/",
        ),
        (&["rand::"], "rng.rs"),
        (&["std::sync::", "loom::", "parking_lot"], "sync.rs"),
        (&["metrics::", "tracing::"], "telemetry.rs"),
    ];
    for source in sources() {
        for (names, door) in doors {
            let may = source.path.starts_with(door) || source.path == "sync.rs";
            let named = names.iter().find(|name| source.code.contains(**name));
            assert!(
                may || named.is_none(),
                "{}: {named:?} is behind {door}",
                source.path
            );
        }
    }
}

#[test]
fn the_pure_parts_import_no_door_but_that_of_the_atomics() {
    for source in sources() {
        if PURE.iter().any(|pure| source.path.starts_with(pure)) {
            for door in ["now()", "Timer", "crate::rng", "rng::", "telemetry"] {
                // They ask for the time by a closure or a trait that is handed to them.
                let code = source
                    .code
                    .replace("outside.now()", "")
                    .replace(" now()", "");
                let code = code
                    .replace("(now()", "")
                    .replace("fn now(", "")
                    .replace(", now()", "");
                assert!(!code.contains(door), "{}: {door}", source.path);
            }
        }
    }
}

#[test]
fn http_and_tonic_are_named_in_their_modules_only() {
    for source in sources() {
        // A deadline that travels has nothing but headers to travel in.
        let at_home = matches!(source.module(), "axum" | "deadline" | "grpc" | "http");
        let code = source.code.replace("crate::http::", "");
        // What the compiler is to say names a cure.
        let code = code.replace("`steadfast::http::", "");
        let named = ["http::", "http_body", "tonic::"]
            .iter()
            .find(|name| code.contains(**name));
        assert!(at_home || named.is_none(), "{}: {named:?}", source.path);
    }
}

#[test]
fn every_service_keeps_the_name_that_tonic_routes_by() {
    let sources = sources();
    let named = sources.iter().find(|source| source.path == "grpc/named.rs");
    let named = &named.unwrap().code;
    let mut services = 0;
    for source in &sources {
        // A service is what wraps an `S`, and is not the future of one.
        let structs = source.code.split("pub struct ").skip(1);
        let generic = structs.filter_map(|text| text.split_once("<S"));
        // Nobody routes by what stands for a network.
        for (name, rest) in generic.filter(|(name, _)| *name != "Linked") {
            let is_service =
                rest.starts_with([',', '>']) && !name.contains(|c: char| !c.is_alphanumeric());
            if is_service {
                services += 1;
                assert!(
                    named.contains(&format!("    {name}<S")),
                    "{}: `{name}`",
                    source.path
                );
            }
        }
    }
    assert!(services > 10, "they are where they are looked for");
}

/// Who may take a lock: those who wait in a queue, bring a new key, change the state of a breaker or the
/// mode of a layer, or look at it, or at a limit; those who send a body that another may be sending too; and,
/// without waiting for it, who completes a sample of a limit or begins a slice of a window, or whose answer
/// lets a rate grow, or reports a load; those whose answer lowers it. Who changes a limit that is divided waits
/// for another who does.
const LOCKS: [(&str, &[&str]); 13] = [
    (
        "adaptive/limiter.rs",
        &["sample_call", "sample_window", "intervene", "look"],
    ),
    ("keyed/map.rs", &["enter", "len", "keys", "all", "fmt"]),
    (
        "permits/mod.rs",
        &[
            "take_or_queue",
            "poll_place",
            "leave",
            "hand_on",
            "wake_all",
        ],
    ),
    ("permits/partitions.rs", &["resize"]),
    (
        "circuit_breaker/machine.rs",
        &["change", "run_by_rules", "force", "reset", "snapshot"],
    ),
    (
        "circuit_breaker/desk.rs",
        &[
            "wait",
            "leave",
            "wake_all",
            "reserve",
            "is_reserved",
            "take_up",
            "lapse",
        ],
    ),
    ("circuit_breaker/gauges.rs", &["mode_changed"]),
    ("mode.rs", &["set"]),
    (
        "http/replay/body.rs",
        &["is_replayable", "poll_frame", "is_end_stream", "size_hint"],
    ),
    ("window/quantile.rs", &["turn"]),
    ("load_shed/shared.rs", &["sample"]),
    (
        "throttle/rate/learner.rs",
        &["throttled", "grow", "forget_at", "forget"],
    ),
    ("throttle/reports.rs", &["heed", "forget"]),
];

#[test]
fn no_lock_is_taken_on_the_way_of_a_call_that_is_let_through_at_once() {
    // On the one thread of a simulation nobody waits for a lock.
    let is_on_the_way = |source: &&Source| source.path != "sync.rs" && source.module() != "sim";
    for source in sources().iter().filter(is_on_the_way) {
        let may = LOCKS.iter().find(|(path, _)| *path == source.path);
        for (at, _) in source.code.match_indices("lock(&") {
            let before = &source.code[..at];
            let function = before
                .rsplit("fn ")
                .next()
                .unwrap()
                .split(['(', '<'])
                .next();
            let function = function.unwrap();
            let allowed = may.is_some_and(|(_, functions)| functions.contains(&function));
            assert!(allowed, "{}: `{function}` takes a lock", source.path);
        }
    }
    // The queue's functions run only where no permit is free at once.
    let mut queue_up = 0;
    for source in sources()
        .iter()
        .filter(|source| !source.path.starts_with("permits/"))
    {
        if let Some(queues_up) = source.code.find("take_or_queue(") {
            let asks_first = source.code.find("permits().try_take(").unwrap();
            assert!(asks_first < queues_up, "{}", source.path);
            assert!(source.path.starts_with("queue/"), "{}", source.path);
            queue_up += 1;
        }
    }
    assert_eq!(queue_up, 2, "calls, and services that are to be ready");
}

#[test]
fn unsafe_is_forbidden_and_the_core_depends_on_eight_crates() {
    let manifest = include_str!("../../Cargo.toml");
    assert!(manifest.contains("unsafe_code = \"forbid\""));
    assert!(manifest.contains("rust-version = "));
    let section = manifest.split("[dependencies]\n").nth(1).unwrap();
    let section = section.split("\n[").next().unwrap();
    let required = section
        .lines()
        .filter(|line| line.contains(" = ") && !line.starts_with('#'));
    let required: Vec<_> = required
        .filter(|line| !line.contains("optional = true"))
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    let expected = [
        "tower",
        "tokio",
        "pin-project",
        "rand",
        "metrics",
        "tracing",
        "papaya",
        "thiserror",
    ];
    assert_eq!(required, expected);
}
