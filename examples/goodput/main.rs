//! Goodput: a server over real sockets, offered up to ten times what it can do.
//!
//! ```sh
//! cargo run --release --all-features --example goodput
//! cargo run --release --all-features --example goodput -- --seconds 20 --workers 40 --service-ms 100
//! ```
//!
//! An axum server whose workers can do so many calls a second, whatever the machine, and an open-loop client
//! over TCP, each with a thread of its own. A call counts from when it was to be sent. Whoever is not answered
//! in half a second, or in five times what a call takes where that is longer, hangs up.
//!
//! With each stack the server is to do at least 95 % of what it can, or of what is asked of it where that is
//! less, and 99 in 100 good answers are to take no longer than twice what they do at half of the load, and the
//! wait in the queue. What falls short is told, and ends it in failure. Bare, it is shown for contrast.
#![allow(
    clippy::disallowed_methods,
    reason = "the doors are for the crate; an example stands outside"
)]

mod trial;

use std::{io, process::ExitCode, time::Duration};

use clap::Parser;
use comfy_table::{Attribute, Cell, CellAlignment, Table, presets};

use trial::{Arrivals, Load, Setup, outcome::Outcome, server::Stack};

/// Offers a server up to ten times what it can do, over real sockets, and tells what comes of it.
#[derive(Debug, Parser)]
#[command(name = "goodput", about, long_about = None)]
struct Args {
    /// How long each load lasts, in seconds
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,

    /// How many calls the server works on at a time
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1000))]
    workers: u16,

    /// What each of them takes, in milliseconds
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(5..=1000))]
    service_ms: u64,

    /// How long a call may wait for its place, in milliseconds
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=1000))]
    queue_ms: u64,

    /// What arrivals are drawn from
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Has calls come evenly, and not at random
    #[arg(long)]
    even: bool,
}

/// Half of the load, by which the others are judged; and those.
const LOADS: [f64; 5] = [0.5, 0.9, 2.0, 5.0, 10.0];

const GUARDED: [Stack; 3] = [Stack::Bulkhead, Stack::LoadShed, Stack::Adaptive];

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("goodput: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether nothing fell short.
fn run(args: &Args) -> io::Result<bool> {
    let ms = Duration::from_millis;
    let setup = Setup {
        workers: args.workers.into(),
        takes: ms(args.service_ms),
        queue_wait: ms(args.queue_ms),
        patience: ms(500.max(5 * args.service_ms)),
        arrivals: match args.even {
            true => Arrivals::Even,
            false => Arrivals::Poisson(args.seed),
        },
    };
    let length = Duration::from_secs(args.seconds);
    println!(
        "{} workers, {:?} a call: {:.0} calls a second can be done; {length:?} of each load",
        setup.workers,
        setup.takes,
        setup.capacity()
    );
    let mut table = begin();
    let mut shortfalls = Vec::new();
    for stack in GUARDED {
        let outcomes = sent(stack, &setup, &LOADS, length)?;
        let unloaded = outcomes[0].p99;
        for outcome in &outcomes {
            table.add_row(row(stack, outcome, &setup, Some(setup.longest(unloaded))));
            let shortfall = outcome.shortfall(&setup, unloaded);
            shortfalls.extend(shortfall.map(|it| format!("{}, {it}", stack.name())));
        }
    }
    for outcome in sent(Stack::Bare, &setup, &LOADS[..3], length)? {
        table.add_row(row(Stack::Bare, &outcome, &setup, None));
    }
    println!("{table}");
    for shortfall in &shortfalls {
        println!("{shortfall}");
    }
    Ok(shortfalls.is_empty())
}

/// The outcomes of these loads, once the first has been on for as long before: to find a limit out takes a
/// while.
fn sent(stack: Stack, setup: &Setup, loads: &[f64], length: Duration) -> io::Result<Vec<Outcome>> {
    let loads = loads[..1].iter().chain(loads);
    let loads: Vec<_> = loads.map(|&times| Load { times, length }).collect();
    let mut outcomes = trial::run(stack, setup, &loads)?;
    outcomes.remove(0);
    Ok(outcomes)
}

fn begin() -> Table {
    let header = [
        "stack",
        "load",
        "offered/s",
        "good/s",
        "of capacity",
        "refused",
        "gave up",
        "p50",
        "p99",
        "p99 allowed",
        "sent late",
    ];
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(header.map(|name| Cell::new(name).add_attribute(Attribute::Bold)));
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn row(stack: Stack, it: &Outcome, setup: &Setup, longest: Option<Duration>) -> [String; 11] {
    let share = |part: usize| format!("{:.1} %", 100.0 * part as f64 / it.offered.max(1) as f64);
    let millis = |time: Duration| format!("{:.1} ms", 1000.0 * time.as_secs_f64());
    [
        stack.name().to_owned(),
        format!("{} x", it.times),
        format!("{:.0}", it.offered as f64 / it.length.as_secs_f64()),
        format!("{:.0}", it.goodput()),
        format!("{:.1} %", 100.0 * it.goodput() / setup.capacity()),
        share(it.refused),
        share(it.given_up),
        millis(it.p50),
        millis(it.p99),
        longest.map_or_else(String::new, millis),
        millis(it.sent_late),
    ]
}
