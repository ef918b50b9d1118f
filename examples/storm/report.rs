//! What came out of it: a row for each phase and lane, as a table and as JSON.

use std::time::Duration;

use comfy_table::{Attribute, Cell, CellAlignment, Table, presets};
use serde_json::{Map, Value, json};

use crate::backend::Backend;
use crate::lanes::Lane;
use crate::load::GIVE_UP;
use crate::script::{Phase, SLOT, Script};
use crate::stats::{DEADLINE, LaneStats, Slot};

/// Recovery is judged over this many slots at a time: 200 ms.
const SLOTS_JUDGED: usize = 4;

/// One lane in one phase.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    phase: Phase,
    lane: Lane,
    offered: u64,
    answered: u64,
    good: u64,
    p50_ms: f64,
    p99_ms: f64,
    backend_calls: u64,
    max_in_flight: u32,
}

/// All that one lane has to report.
#[derive(Debug)]
pub(crate) struct LaneReport {
    pub(crate) lane: Lane,
    rows: [Row; Phase::ALL.len()],
    recovered_after: Option<Duration>,
    pub(crate) slots: Vec<Slot>,
    /// Requests that reached the backend, by slot.
    pub(crate) backend_slots: Vec<u64>,
}

impl LaneReport {
    pub(crate) fn new(lane: Lane, script: &Script, stats: &LaneStats, backend: &Backend) -> Self {
        let counts = stats.counts();
        let tally = backend.tally();
        let rows = Phase::ALL.map(|phase| {
            let served = &counts.phases[phase as usize];
            Row {
                phase,
                lane,
                offered: served.offered,
                answered: served.answered,
                good: served.good,
                p50_ms: served.latency_ms(0.5),
                p99_ms: served.latency_ms(0.99),
                backend_calls: tally.requests(phase),
                max_in_flight: tally.most_in_flight(phase),
            }
        });
        let slots = counts.slots.clone();
        let recovering = script.start_of(Phase::Recovering).as_millis() / SLOT.as_millis();
        Self {
            lane,
            rows,
            recovered_after: recovered_after(&slots[recovering as usize..]),
            slots,
            backend_slots: tally.slots().collect(),
        }
    }
}

/// When at least 95 % of the calls became good again, and stayed so until the end.
fn recovered_after(slots: &[Slot]) -> Option<Duration> {
    let bad = |slots: &[Slot]| {
        let offered: u64 = slots.iter().map(|slot| slot.offered).sum();
        let good: u64 = slots.iter().map(|slot| slot.good).sum();
        good * 100 < offered * 95
    };
    let judged: Vec<bool> = slots.chunks(SLOTS_JUDGED).map(bad).collect();
    let recovered = judged
        .iter()
        .rposition(|&bad| bad)
        .map_or(0, |last| last + 1);
    (recovered < judged.len()).then(|| SLOT * (recovered * SLOTS_JUDGED) as u32)
}

/// By phase, then by lane.
fn rows(lanes: &[LaneReport]) -> impl Iterator<Item = &Row> {
    Phase::ALL
        .into_iter()
        .flat_map(|phase| lanes.iter().map(move |report| &report.rows[phase as usize]))
}

pub(crate) fn json(lanes: &[LaneReport]) -> String {
    let rows: Vec<Value> = rows(lanes)
        .map(|row| {
            json!({
                "phase": row.phase.name(),
                "lane": row.lane.name(),
                "offered": row.offered,
                "answered": row.answered,
                "good": row.good,
                "p50_ms": row.p50_ms,
                "p99_ms": row.p99_ms,
                "backend_calls": row.backend_calls,
                "max_in_flight": row.max_in_flight,
            })
        })
        .collect();
    let recovered: Map<String, Value> = lanes
        .iter()
        .map(|report| {
            let ms = report.recovered_after.map(|after| after.as_millis() as u64);
            (report.lane.name().to_owned(), json!(ms))
        })
        .collect();
    format!(
        "{:#}\n",
        json!({ "rows": rows, "recovered_after_ms": recovered })
    )
}

pub(crate) fn table(lanes: &[LaneReport]) -> String {
    let header = [
        "phase",
        "lane",
        "offered",
        "answered",
        "good",
        "good %",
        "p50 ms",
        "p99 ms",
        "reached",
        "in flight",
    ];
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(header.map(|name| Cell::new(name).add_attribute(Attribute::Bold)));
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for row in rows(lanes) {
        let first = row.lane == Lane::ALL[0];
        table.add_row([
            if first {
                row.phase.name().to_owned()
            } else {
                String::new()
            },
            row.lane.name().to_owned(),
            row.offered.to_string(),
            row.answered.to_string(),
            row.good.to_string(),
            format!("{:.1}", 100.0 * row.good as f64 / row.offered.max(1) as f64),
            format!("{:.1}", row.p50_ms),
            format!("{:.1}", row.p99_ms),
            row.backend_calls.to_string(),
            row.max_in_flight.to_string(),
        ]);
    }
    table.to_string()
}

/// What the columns mean, and when each lane was well again.
pub(crate) fn notes(lanes: &[LaneReport]) -> String {
    let recovered: Vec<String> = lanes
        .iter()
        .map(|report| match report.recovered_after {
            Some(after) => format!("{} {} ms", report.lane.name(), after.as_millis()),
            None => format!("{} never", report.lane.name()),
        })
        .collect();
    format!(
        "\
answered   calls that got an answer of any status before their caller gave up ({give_up} ms)
good       answers with status 200 within {deadline} ms
p50, p99   from when a call was due until it was over: answered, refused or given up
reached    requests that the backend has read, retries among them
in flight  the most requests that the backend had read and not yet answered or seen abandoned

at least 95 % good again after the start of recovering: {recovered}",
        give_up = GIVE_UP.as_millis(),
        deadline = DEADLINE.as_millis(),
        recovered = recovered.join(", "),
    )
}
