//! How many instructions a call takes, counted by callgrind: numbers that repeat, unlike times.
//!
//! ```sh
//! cargo bench --bench instructions
//! cargo bench --bench instructions -- --check  # fails where a bound is broken
//! cargo bench --bench instructions -- --layer breaker-time --preload 1000000 --calls 100000
//! ```
//!
//! Without `--layer` it runs itself under `valgrind --tool=callgrind`, twice for each layer, with a few
//! calls and with many: the difference is what the calls took, without start and end. Then it counts
//! the same for a window of time that holds a thousand calls, and one that holds a million; the bound
//! is that they differ by no more than 1 %. One call in a hundred fails there.
//!
//! With `--layer` it makes the calls and says nothing, to be run under a tool of one's own. The layers
//! are those of `overhead`, above a service that answers at once or, with `--service yielding`, is
//! pending once; `--preload` so many calls first, which for `breaker-time` are held in its window.
//! Reads of the clock count as they do under valgrind, where they are system calls.

#[allow(dead_code, reason = "each bench uses some of it")]
mod contestants;

use std::{
    env,
    process::{Command, ExitCode},
};

use contestants::{Calls, Prompt, Yielding, above, breaker_time_with_failures, calls, rejection};

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime can be built");
    let _entered = runtime.enter(); // for timers

    let args: Vec<_> = env::args().collect();
    if let Some(layer) = option(&args, "--layer") {
        let number = |name| option(&args, name).map_or(0, |number| number.parse().expect(name));
        let service = option(&args, "--service").unwrap_or("prompt");
        let preload = number("--preload");
        let mut calls = find(layer, service, preload > 0);
        calls(preload);
        calls(number("--calls"));
        return ExitCode::SUCCESS;
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("valgrind is not installed, so no instructions are counted");
        return ExitCode::SUCCESS;
    }
    print_layers();
    let is_kept = print_windows();
    if args.iter().any(|arg| arg == "--check") && !is_kept {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn option<'a>(args: &'a [String], name: &str) -> Option<&'a str> {
    let at = args.iter().position(|arg| arg == name)?;
    args.get(at + 1).map(String::as_str)
}

fn find(layer: &str, service: &str, is_preloaded: bool) -> Calls {
    match layer {
        "breaker-time" if is_preloaded => return calls(breaker_time_with_failures().1),
        "rejection" => return rejection(),
        _ => {}
    }
    let all = match service {
        "prompt" => above(&Prompt),
        "yielding" => above(&Yielding),
        other => panic!("no service is called `{other}`"),
    };
    let found = all.into_iter().find(|(name, _)| *name == layer);
    let (_, calls) = found.unwrap_or_else(|| panic!("no layer is called `{layer}`"));
    calls
}

fn print_layers() {
    println!(
        "{:16} {:>19} {:>21}",
        "instructions", "prompt      adds", "yielding      adds"
    );
    let mut bare = None;
    for (layer, _) in above(&Prompt) {
        let of = ["prompt", "yielding"].map(|service| per_call(layer, service, 0));
        let [bare_prompt, bare_yielding] = *bare.get_or_insert(of);
        let [prompt, yielding] = of;
        println!(
            "{layer:16} {prompt:9.0} {:9.0} {yielding:11.0} {:9.0}",
            prompt - bare_prompt,
            yielding - bare_yielding
        );
    }
    println!(
        "{:16} {:9.0}",
        "rejection",
        per_call("rejection", "prompt", 0)
    );
}

/// Returns whether the cost depends on what the window holds by no more than it may.
fn print_windows() -> bool {
    let [thousand, million] =
        [1_000, 1_000_000].map(|preload| per_call("breaker-time", "prompt", preload));
    let is_kept = (million - thousand).abs() <= 0.01 * thousand;
    println!("\nbreaker-time, 60 s, one call in a hundred fails");
    println!("  holding a thousand {thousand:9.1}");
    println!("  holding a million  {million:9.1}");
    let verdict = if is_kept { "pass" } else { "FAIL" };
    println!("  they differ by no more than 1 %: {verdict}");
    is_kept
}

fn per_call(layer: &str, service: &str, preload: u32) -> f64 {
    const FEW: u32 = 1_000; // windows and pools are filled by then
    const MANY: u32 = 11_000;
    let [few, many] = [FEW, MANY].map(|calls| instructions(layer, service, preload, calls));
    (many - few) as f64 / f64::from(MANY - FEW)
}

/// Of a whole run of this program.
fn instructions(layer: &str, service: &str, preload: u32, calls: u32) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe().expect("this program has a path"))
        .args(["--layer", layer, "--service", service])
        .args(["--preload", &preload.to_string()])
        .args(["--calls", &calls.to_string()])
        .output()
        .expect("valgrind runs");
    let report = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{report}");
    let collected = report
        .lines()
        .find_map(|line| line.split_once("Collected : "));
    let (_, instructions) = collected.unwrap_or_else(|| panic!("no count in {report}"));
    let count = instructions.trim().parse();
    count.unwrap_or_else(|_| panic!("not a number: {instructions}"))
}
