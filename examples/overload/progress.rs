//! The bar that tells which experiments run. Only a terminal gets to see it.

use std::{sync::Mutex, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};

pub(crate) struct Progress {
    bar: ProgressBar,
    running: Mutex<Vec<&'static str>>,
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
        self.running.lock().unwrap().push(name);
        self.show();
    }

    pub(crate) fn end(&self, name: &'static str) {
        self.running.lock().unwrap().retain(|other| *other != name);
        self.bar.inc(1);
        self.show();
    }

    fn show(&self) {
        self.bar
            .set_message(self.running.lock().unwrap().join(", "));
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
