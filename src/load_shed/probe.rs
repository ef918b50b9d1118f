//! The task that measures what only a task can, and what takes too long for a call to measure.

use std::{future::poll_fn, time::Duration};

use tokio::runtime::Handle;

#[cfg(feature = "cpu")]
use super::cpu::Cpu;
use crate::{
    sync::{AtomicBool, AtomicU64, ConstArc, Ordering::Relaxed},
    time::{Epoch, Timer, nanos, now},
};

/// How late the runtime runs a task whose time has come, and how much of the processor is used.
///
/// It runs while it is wanted: from the first sampling on, and until there has been none for a while. It holds
/// nothing of the layer's but itself.
#[derive(Debug)]
pub(super) struct Probe {
    epoch: Epoch,
    interval: Duration,
    /// When the task is to run next, in nanoseconds since the epoch; zero while there is none.
    due: AtomicU64,
    lag: AtomicU64,
    /// The share in use, as bits; a NaN while it is not known.
    #[cfg(feature = "cpu")]
    cpu: AtomicU64,
    #[cfg(feature = "cpu")]
    measures_cpu: bool,
    /// When it was last wanted.
    wanted: AtomicU64,
    /// It panicked, as it does in a runtime without timers. To begin it again would be to panic again.
    is_broken: AtomicBool,
}

// Relaxed everywhere: each value is for itself, and only who samples writes `wanted` or begins the task.
impl Probe {
    /// How long it goes on when nobody wants it any more, and how long the processor is watched for a reading.
    const IDLE_NANOS: u64 = 1_000_000_000;
    #[cfg(feature = "cpu")]
    const CPU_NANOS: u64 = 100_000_000;

    pub(super) fn new(
        epoch: Epoch,
        interval: Duration,
        #[cfg(feature = "cpu")] measures_cpu: bool,
    ) -> Self {
        Self {
            epoch,
            interval,
            due: AtomicU64::new(0),
            lag: AtomicU64::new(0),
            #[cfg(feature = "cpu")]
            cpu: AtomicU64::new(f64::NAN.to_bits()),
            #[cfg(feature = "cpu")]
            measures_cpu,
            wanted: AtomicU64::new(0),
            is_broken: AtomicBool::new(false),
        }
    }

    /// Has it run for a while, in the current runtime if it runs in none. For one at a time.
    pub(super) fn want(this: &ConstArc<Self>, now: u64) {
        this.wanted.store(now, Relaxed);
        if this.due.load(Relaxed) == 0
            && !this.is_broken.load(Relaxed)
            && let Ok(runtime) = Handle::try_current()
        {
            this.due
                .store(now.max(1).saturating_add(nanos(this.interval)), Relaxed);
            let running = Running(this.clone());
            runtime.spawn(running.run());
        }
    }

    /// How late tasks run, as of the task's last run, or by how much its next is late already.
    pub(super) fn lag(&self, now: u64) -> Option<Duration> {
        let due = self.due.load(Relaxed);
        let lag = self.lag.load(Relaxed).max(now.saturating_sub(due));
        (due > 0).then(|| Duration::from_nanos(lag))
    }

    #[cfg(feature = "cpu")]
    pub(super) fn cpu(&self) -> Option<f64> {
        let share = f64::from_bits(self.cpu.load(Relaxed));
        (!share.is_nan()).then_some(share)
    }
}

/// The task. However it ends, the next can begin: also where its runtime is shut down.
struct Running(ConstArc<Probe>);

impl Running {
    async fn run(self) {
        let probe = &*self.0;
        #[cfg(feature = "cpu")]
        let mut cpu = probe.measures_cpu.then(|| Cpu::new(now()));
        loop {
            let end = now() + probe.interval;
            probe.due.store(probe.epoch.nanos_at(end), Relaxed);
            let mut timer = Timer::until(end);
            poll_fn(|cx| timer.poll(cx)).await;
            timer.recycle();
            let now = now();
            probe
                .lag
                .store(nanos(now.saturating_duration_since(end)), Relaxed);
            #[cfg(feature = "cpu")]
            if let Some(cpu) = &mut cpu
                && let Some(share) = cpu.read(now, Duration::from_nanos(Probe::CPU_NANOS))
            {
                probe.cpu.store(share.to_bits(), Relaxed);
            }
            let wanted = probe.wanted.load(Relaxed);
            if probe.epoch.nanos_at(now).saturating_sub(wanted) > Probe::IDLE_NANOS {
                return;
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let probe = &*self.0;
        probe.is_broken.store(std::thread::panicking(), Relaxed);
        probe.due.store(0, Relaxed);
        probe.lag.store(0, Relaxed);
        #[cfg(feature = "cpu")]
        probe.cpu.store(f64::NAN.to_bits(), Relaxed);
    }
}
