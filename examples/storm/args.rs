//! The command line.

use std::path::PathBuf;

use clap::Parser;

/// Under `target`, which may not be there yet.
pub(crate) const DEFAULT_SVG: &str = "target/storm.svg";

/// Sends the same load through three client stacks while what they call falls ill and gets well,
/// and tells what their callers got.
#[derive(Debug, Parser)]
#[command(name = "storm", about, long_about = None)]
pub(crate) struct Args {
    /// How long the storm lasts, in seconds
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(10..=600))]
    pub(crate) seconds: u32,

    /// Calls per second, in each of the three lanes
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(100..=2000))]
    pub(crate) rps: u32,

    /// What arrivals, service times and failures are drawn from
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,

    /// Also write the table as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Where to write the chart
    #[arg(long, value_name = "FILE", default_value = DEFAULT_SVG)]
    pub(crate) svg: PathBuf,
}
