//! The bar that tells how the lanes fare while the storm is on. Only a terminal gets to see it.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::lanes::Lane;
use crate::script::Script;
use crate::stats::LaneStats;

const TICKS_PER_SECOND: usize = 5;

/// Draws the bar until the run is over. Good answers are those of the last second.
pub(crate) async fn show(script: Arc<Script>, lanes: Vec<(Lane, Arc<LaneStats>)>) {
    let length = u64::try_from(script.length().as_millis()).unwrap_or(u64::MAX);
    // Draws to stderr, and not at all if that is no terminal.
    let bar = ProgressBar::new(length).with_style(
        ProgressStyle::with_template("{msg:>10} {bar:24.cyan/dim} {prefix}")
            .expect("the template is a constant"),
    );
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / TICKS_PER_SECOND as u32);
    let mut history: Vec<Vec<u64>> = Vec::new();
    while script.now() < script.length() {
        ticks.tick().await;
        let now = script.now();
        let good: Vec<u64> = lanes.iter().map(|(_, stats)| stats.good()).collect();
        let second_ago = history
            .len()
            .checked_sub(TICKS_PER_SECOND)
            .map(|i| &history[i]);

        let mut line = String::from("good/s:");
        for (i, (lane, _)) in lanes.iter().enumerate() {
            let rate = good[i] - second_ago.map_or(0, |before| before[i]);
            let _ = write!(line, "  {} {rate:>4}", lane.name());
        }
        history.push(good);
        bar.set_prefix(line);
        bar.set_message(script.phase_at(now).name());
        bar.set_position(u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
    }
    bar.finish_and_clear();
}
