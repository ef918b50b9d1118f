//! Overload: experiments that others published, run again on a paused clock.
//!
//! ```text
//! cargo run --release --example overload
//! cargo run --release --example overload -- retry_storm collapse
//! cargo run --release --example overload -- --report
//! ```
//!
//! Each of the [`experiments`] reproduces one, with the policies that were blamed or praised in it and with the
//! layers of this crate, and says which figure is to be beaten. It prints them in a table, and draws charts.
//! `--report` writes `examples/overload/report.md`, which is the same on every machine, so that a change of
//! behaviour shows as a difference.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the doors are for the crate; an example stands outside"
)]

mod chart;
mod experiments;
mod progress;
mod report;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use clap::Parser;

use crate::experiments::{Experiment, Findings, Size};

/// Runs published experiments on overload again, on a paused clock, with the policies that they are about
/// and with the layers of this crate
#[derive(Debug, Parser)]
#[command(name = "overload", about, long_about = None)]
struct Args {
    /// Only those of these names; without any, all
    names: Vec<String>,

    /// As little of each as still shows that the bars are met: what the tests run
    #[arg(long)]
    fast: bool,

    /// Write the report
    #[arg(long, conflicts_with_all = ["names", "fast", "check"])]
    report: bool,

    /// Compare the report with what is written, and fail where they differ
    #[arg(long, conflicts_with_all = ["names", "fast"])]
    check: bool,

    /// Where to put the charts
    #[arg(long, value_name = "FOLDER", default_value = "target/overload")]
    charts: PathBuf,
}

const REPORT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/overload/report.md");

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("overload: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), String> {
    let chosen = choose(&args.names)?;
    let size = if args.fast { Size::Fast } else { Size::Full };
    let found = run_all(&chosen, size);
    println!("{}", report::table(&found));
    if args.report {
        write(Path::new(REPORT), &report::markdown(&found))?;
        println!("report: {REPORT}");
    }
    if args.check && fs::read_to_string(REPORT).ok().as_deref() != Some(&report::markdown(&found)) {
        return Err(format!(
            "{REPORT} is not what the experiments find; if they are right, write it with --report"
        ));
    }
    fs::create_dir_all(&args.charts).map_err(|error| cannot_write(&args.charts, &error))?;
    for (experiment, findings) in &found {
        for (number, chart) in findings.charts.iter().enumerate() {
            let name = match number {
                0 => format!("{}.svg", experiment.name),
                number => format!("{}-{}.svg", experiment.name, number + 1),
            };
            write(&args.charts.join(name), &chart::draw(chart)?)?;
        }
    }
    println!("charts: {}", args.charts.display());
    Ok(())
}

fn choose(names: &[String]) -> Result<Vec<Experiment>, String> {
    let all = experiments::ALL;
    for name in names {
        if !all.iter().any(|experiment| experiment.name == name) {
            let known: Vec<_> = all.iter().map(|experiment| experiment.name).collect();
            return Err(format!(
                "no experiment `{name}`; there are {}",
                known.join(", ")
            ));
        }
    }
    let is_chosen = |experiment: &&Experiment| {
        names.is_empty() || names.iter().any(|name| name == experiment.name)
    };
    Ok(all.iter().filter(is_chosen).copied().collect())
}

/// Runs the experiments, as many at a time as there are processors.
fn run_all(experiments: &[Experiment], size: Size) -> Vec<(Experiment, Findings)> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let progress = progress::Progress::new(experiments.len());
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(experiment) = experiments.get(next.fetch_add(1, Relaxed)) {
                    progress.begin(experiment.name);
                    let findings = (experiment.run)(size);
                    progress.end(experiment.name);
                    found.lock().unwrap().push((*experiment, findings));
                }
            });
        }
    });
    progress.finish();
    let mut found = found.into_inner().unwrap();
    let place = |name| {
        experiments
            .iter()
            .position(|experiment| experiment.name == name)
    };
    found.sort_by_key(|(experiment, _)| place(experiment.name));
    found
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| cannot_write(path, &error))
}

fn cannot_write(path: &Path, error: &std::io::Error) -> String {
    format!("cannot write {}: {error}", path.display())
}
