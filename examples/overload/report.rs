//! What was found: as a table for a terminal, and as a page.

use std::fmt::Write;

use comfy_table::{
    Attribute, Cell, Color, ContentArrangement, Table, presets::UTF8_FULL_CONDENSED,
};

use crate::experiments::{Experiment, Findings};

const COLUMNS: [&str; 6] = [
    "measure",
    "published",
    "peers, here",
    "steadfast",
    "bar",
    "met",
];

pub(crate) fn table(found: &[(Experiment, Findings)]) -> String {
    let mut table = Table::new();
    table
        .load_style(UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic);
    let head = ["experiment"].into_iter().chain(COLUMNS);
    table.set_header(head.map(|name| Cell::new(name).add_attribute(Attribute::Bold)));
    for (experiment, findings) in found {
        for (number, bar) in findings.bars.iter().enumerate() {
            let name = if number == 0 { experiment.name } else { "" };
            let (met, colour) = if bar.is_met {
                ("yes", Color::Green)
            } else {
                ("no", Color::Red)
            };
            let cells = [
                name,
                &bar.measure,
                &bar.published,
                &bar.peers,
                &bar.ours,
                &bar.bar,
            ];
            let mut row: Vec<_> = cells.into_iter().map(Cell::new).collect();
            row.push(Cell::new(met).fg(colour));
            table.add_row(row);
        }
    }
    table.to_string()
}

const INTRODUCTION: &str = "\
# Overload: what others found, and what this crate does

Written by `cargo run --release --example overload -- --report`; not to be edited. Every figure comes from a
simulation on a paused clock with a fixed seed, and is the same on every machine: a difference in this page is a
difference in behaviour.

*Published* is what the source says, or what its own code gives when it is run. *Peers, here* is the policy that it is about, as it
fares in our simulation of the same set-up. The *bar* is what is to be reached or kept within.
";

pub(crate) fn markdown(found: &[(Experiment, Findings)]) -> String {
    let mut page = String::from(INTRODUCTION);
    page.push_str("\n| experiment |");
    page.push_str(&COLUMNS.map(|name| format!(" {name} |")).concat());
    page.push_str("\n|---|---|---|---|---|---|---|\n");
    for (experiment, findings) in found {
        for bar in &findings.bars {
            let met = if bar.is_met { "yes" } else { "**no**" };
            let link = format!("[{}](#{})", experiment.title, anchor(experiment.title));
            let cells = [
                &link,
                &bar.measure,
                &bar.published,
                &bar.peers,
                &bar.ours,
                &bar.bar,
            ];
            for cell in cells {
                let _ = write!(page, "| {cell} ");
            }
            let _ = writeln!(page, "| {met} |");
        }
    }
    for (experiment, findings) in found {
        let _ = write!(page, "\n## {}\n\n", experiment.title);
        let _ = writeln!(page, "After {}. `{}`", experiment.source, experiment.name);
        for table in &findings.tables {
            if table.rows.is_empty() {
                continue;
            }
            let _ = write!(page, "\n|");
            for name in &table.head {
                let _ = write!(page, " {name} |");
            }
            let _ = write!(page, "\n|---|{}\n", "---:|".repeat(table.head.len() - 1));
            for row in &table.rows {
                let _ = writeln!(page, "| {} |", row.join(" | "));
            }
        }
        let _ = writeln!(page, "\n{}", findings.text);
    }
    page
}

/// As a heading is linked to.
fn anchor(title: &str) -> String {
    let kept = title
        .chars()
        .filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-');
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}
