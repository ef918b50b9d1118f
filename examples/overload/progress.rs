//! Which experiments run, in a bar that only a terminal gets to see, and how long each took.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

pub(crate) struct Progress {
    bar: ProgressBar,
    running: Mutex<Vec<(&'static str, Instant)>>,
}

impl Progress {
    pub(crate) fn new(experiments: usize) -> Self {
        // Draws to stderr, and not at all if that is no terminal.
        let bar = ProgressBar::new(experiments as u64).with_style(
            ProgressStyle::with_template("{spinner} {pos}/{len} {bar:24.cyan/dim} {msg}")
                .expect("the template is a constant"),
        );
        bar.enable_steady_tick(Duration::from_millis(200));
        let running = Mutex::default();
        Self { bar, running }
    }

    pub(crate) fn begin(&self, name: &'static str) {
        self.running.lock().unwrap().push((name, Instant::now()));
        self.show();
    }

    pub(crate) fn end(&self, name: &'static str) {
        let mut running = self.running.lock().unwrap();
        let place = running.iter().position(|(other, _)| *other == name);
        let (_, begun) = running.remove(place.expect("it has begun"));
        drop(running);
        let took = begun.elapsed().as_secs_f64();
        self.bar.suspend(|| eprintln!("{name}: {took:.1} s"));
        self.bar.inc(1);
        self.show();
    }

    fn show(&self) {
        let running = self.running.lock().unwrap();
        let names: Vec<_> = running.iter().map(|(name, _)| *name).collect();
        self.bar.set_message(names.join(", "));
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
