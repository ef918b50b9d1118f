//! A storm: the same load through three client stacks, while what they call falls ill.
//!
//! ```text
//! cargo run --release --example storm
//! cargo run --release --example storm -- --seconds 12 --rps 200 --seed 7 --json storm.json
//! ```
//!
//! Three backends on loopback, one for each lane, go through the same [`script`]: healthy, slow,
//! failing, hung, down, recovering. Each gets the same open-loop [`load`], through a client of its
//! lane's own ([`lanes`]): hyper's client as it is (`bare`), the same within tower's own layers
//! (`tower`), and within those of this crate (`steadfast`). It prints a table of what callers got and
//! what the backends had to bear, and draws a chart of it.
#![allow(
    clippy::disallowed_methods,
    reason = "the doors are for the crate; an example stands outside"
)]

mod args;
mod backend;
mod chart;
mod lanes;
mod load;
mod preflight;
mod progress;
mod report;
mod script;
mod stats;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::args::Args;
use crate::backend::Backend;
use crate::lanes::Lane;
use crate::preflight::Output;
use crate::report::LaneReport;
use crate::script::Script;
use crate::stats::LaneStats;

/// Time to get everything going before the first call is due.
const SET_UP: Duration = Duration::from_millis(200);

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("storm: {message}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<(), String> {
    let svg = if args.svg == Path::new(args::DEFAULT_SVG) {
        Output::open_in_new_folder("chart", &args.svg)?
    } else {
        Output::open("chart", &args.svg)?
    };
    let json = args
        .json
        .as_deref()
        .map(|path| Output::open("report", path))
        .transpose()?;
    preflight::try_descriptors(args.rps)?;

    let origin = Instant::now() + SET_UP;
    let script = Arc::new(Script::new(origin, args.seconds, args.rps, args.seed));
    println!(
        "{} s, {} calls per second in each lane, seed {}",
        args.seconds, args.rps, args.seed
    );
    let reports = weather(&script).await?;

    println!("{}\n{}", report::table(&reports), report::notes(&reports));
    if let Some(json) = json {
        json.write(&report::json(&reports))?;
    }
    let path = svg.path().to_owned();
    svg.write(&chart::draw(&script, &reports)?)?;
    println!("chart: {}", path.display());
    Ok(())
}

/// Sends the load through all lanes at once.
async fn weather(script: &Arc<Script>) -> Result<Vec<LaneReport>, String> {
    let mut load = JoinSet::new();
    let mut lanes = Vec::new();
    for lane in Lane::ALL {
        let (address, backend) = Backend::start(Arc::clone(script)).await.map_err(|error| {
            format!(
                "cannot open a port on 127.0.0.1: {}",
                preflight::reason(&error)
            )
        })?;
        let stats = Arc::new(LaneStats::new(Arc::clone(script)));
        let stack = lane
            .stack(script.rps())
            .map_err(|error| format!("{}: {error}", lane.name()))?;
        load.spawn(load::drive(
            stack,
            address,
            Arc::clone(script),
            Arc::clone(&stats),
        ));
        lanes.push((lane, stats, backend));
    }
    let shown = lanes
        .iter()
        .map(|(lane, stats, _)| (*lane, Arc::clone(stats)))
        .collect();
    load.spawn(progress::show(Arc::clone(script), shown));
    load.join_all().await;

    Ok(lanes
        .iter()
        .map(|(lane, stats, backend)| LaneReport::new(*lane, script, stats, backend))
        .collect())
}
