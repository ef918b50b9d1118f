//! How much of the processor is used.
//!
//! Where a control group sets a limit to the time of the processor, as for a container, it is what all that
//! runs in that group uses of the limit: there they are throttled together. Elsewhere it is what this process
//! uses of the processors that it may run on. What other processes use is then not seen.

mod cgroup;

use std::{thread, time::Duration};

use cgroup::Group;

use crate::time::Instant;

/// Whether there is anything to read here.
pub(super) const CAN_BE_READ: bool = cfg!(unix);

/// Reads how much is used between one reading and the next.
#[derive(Debug)]
pub(super) struct Cpu {
    group: Option<Group>,
    last: Option<(Instant, Source, Duration)>,
}

/// Whose time it is, and of how many processors.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Source {
    is_group: bool,
    processors: f64,
}

impl Cpu {
    pub(super) fn new(now: Instant) -> Self {
        let mut this = Self {
            group: Group::own(),
            last: None,
        };
        this.last = this.used().map(|(source, used)| (now, source, used));
        this
    }

    /// The share in use since the last reading, which is at least so long ago.
    pub(super) fn read(&mut self, now: Instant, least: Duration) -> Option<f64> {
        if let Some((then, ..)) = self.last
            && now.saturating_duration_since(then) < least
        {
            return None;
        }
        let last = self.last.take();
        self.last = self.used().map(|(source, used)| (now, source, used));
        let ((then, before, used_then), (_, source, used)) = last.zip(self.last)?;
        if before != source {
            return None; // the limit has been changed
        }
        let span = now.saturating_duration_since(then).as_secs_f64() * source.processors;
        Some(used.saturating_sub(used_then).as_secs_f64() / span)
    }

    fn used(&self) -> Option<(Source, Duration)> {
        // Of a limit too, but rounded down to a whole processor, and at least one.
        let whole = thread::available_parallelism().ok()?.get() as f64;
        let limit = self.group.as_ref().and_then(Group::limit);
        if let (Some(group), Some(limit)) = (&self.group, limit)
            && limit.floor().max(1.0) <= whole
        {
            let source = Source {
                is_group: true,
                processors: limit,
            };
            return Some((source, group.used()?));
        }
        let source = Source {
            is_group: false,
            processors: whole,
        };
        Some((source, used_by_process()?))
    }
}

#[cfg(unix)]
fn used_by_process() -> Option<Duration> {
    use rustix::time::{ClockId, clock_gettime};

    let used = clock_gettime(ClockId::ProcessCPUTime);
    Some(Duration::new(
        used.tv_sec.try_into().ok()?,
        used.tv_nsec.try_into().ok()?,
    ))
}

#[cfg(not(unix))]
fn used_by_process() -> Option<Duration> {
    None
}

#[cfg(all(test, not(steadfast_loom)))]
mod tests {
    use super::*;
    use crate::time::now;

    #[cfg(unix)]
    #[test]
    fn a_process_that_works_uses_a_share_of_its_processors() {
        let (begin, second) = (now(), Duration::from_secs(1));
        let mut cpu = Cpu::new(begin);
        assert_eq!(cpu.read(begin + second / 2, second), None, "too soon");
        let before = used_by_process().unwrap();
        while used_by_process().unwrap() < before + Duration::from_millis(20) {}
        let share = cpu.read(begin + second, second).unwrap();
        assert!(share > 0.0 && share.is_finite(), "{share}");
        assert_eq!(cpu.read(begin + second, second), None, "too soon again");
    }
}
