//! Workers and a queue before them: who is worked upon, and until when. Pure.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
};

/// Who is taken up next, and how many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Discipline {
    Fifo,
    Lifo,
    /// All at once, and the workers are shared among them.
    Sharing,
}

/// Jobs, each of which carries a `T`, as they wait and are worked upon. Times are nanoseconds.
///
/// How much has been worked is counted in nanoseconds of a worker that has never done anything else: that
/// clock goes as fast as the workers do, and stands still where they do. A job ends when it shows what it
/// showed at the beginning and the job's work, so nothing is to be done for those that go on when the
/// speed changes, or another comes.
#[derive(Debug)]
pub(super) struct Workers<T> {
    pub(super) discipline: Discipline,
    pub(super) drops_expired: bool,
    /// How much longer a job takes for each other that is being worked upon when it is taken up.
    pub(super) slowdown: u64,
    workers: usize,
    speed: f64,
    /// What has been reckoned up to.
    clock: u64,
    worked: f64,
    jobs: Vec<Job<T>>,
    free: Vec<usize>,
    numbers: u64,
    waiting: usize,
    running: usize,
    queue: VecDeque<Entry>,
    /// Is served before the queue.
    urgent: VecDeque<Entry>,
    ends: BinaryHeap<Reverse<(Worked, Entry)>>,
    /// Those that have ended, and of whom it has not been told.
    ended: VecDeque<(usize, End)>,
}

#[derive(Debug)]
struct Job<T> {
    number: u64,
    phase: Phase,
    work: u64,
    deadline: u64,
    arrived: u64,
    began: u64,
    with: Option<T>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Waiting,
    Running,
    Over,
}

/// A job, and its number, by which an entry that is out of date is told from one that is not. Where two
/// end at once, the one that came first does so first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    number: u64,
    index: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Worked(f64);

impl Eq for Worked {}

impl Ord for Worked {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Worked {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Done {
        waited: u64,
        worked: u64,
    },
    /// Its deadline had passed when it was its turn.
    Expired,
}

impl<T> Workers<T> {
    pub(super) fn new(workers: usize) -> Self {
        Self {
            discipline: Discipline::Fifo,
            drops_expired: false,
            slowdown: 0,
            workers,
            speed: 1.0,
            clock: 0,
            worked: 0.0,
            jobs: Vec::new(),
            free: Vec::new(),
            numbers: 0,
            waiting: 0,
            running: 0,
            queue: VecDeque::new(),
            urgent: VecDeque::new(),
            ends: BinaryHeap::new(),
            ended: VecDeque::new(),
        }
    }

    pub(super) const fn waiting(&self) -> usize {
        self.waiting
    }

    pub(super) const fn running(&self) -> usize {
        self.running
    }

    /// Whether so many are there already beside those that the workers have room for.
    pub(super) const fn is_full(&self, queue: usize) -> bool {
        self.waiting + self.running >= self.workers.saturating_add(queue)
    }

    /// How many nanoseconds' work a job gets in a nanosecond.
    fn rate(&self) -> f64 {
        match self.discipline {
            Discipline::Sharing if self.running > self.workers => {
                self.speed * self.workers as f64 / self.running as f64
            }
            _ => self.speed,
        }
    }

    fn is_current(&self, entry: Entry, phase: Phase) -> bool {
        let job = &self.jobs[entry.index];
        job.number == entry.number && job.phase == phase
    }

    /// When the next job will be done; those that have ended already are for [`step`](Self::step).
    pub(super) fn next_end(&mut self) -> Option<u64> {
        while let Some(Reverse((Worked(end), entry))) = self.ends.peek() {
            if self.is_current(*entry, Phase::Running) {
                let left = ((end - self.worked) / self.rate()).max(0.0).ceil();
                return Some(self.clock.saturating_add(left as u64)); // a float too large is the maximum
            }
            self.ends.pop();
        }
        None
    }

    /// The next job that ends no later than `now`, in the order in which they do. When there is none, it
    /// has been reckoned up to `now`.
    pub(super) fn step(&mut self, now: u64) -> Option<(usize, End)> {
        loop {
            if let Some(ended) = self.ended.pop_front() {
                return Some(ended);
            }
            match self.next_end() {
                Some(end) if end <= now && end < u64::MAX => {
                    let Reverse((worked, entry)) = self.ends.pop().expect("just looked at");
                    self.worked = worked.0.max(self.worked);
                    self.clock = end;
                    self.running -= 1;
                    let job = &mut self.jobs[entry.index];
                    job.phase = Phase::Over;
                    let done = End::Done {
                        waited: job.began - job.arrived,
                        worked: end - job.began,
                    };
                    self.ended.push_back((entry.index, done));
                    self.take_up();
                }
                _ => {
                    self.worked += now.saturating_sub(self.clock) as f64 * self.rate();
                    self.clock = self.clock.max(now);
                    return None;
                }
            }
        }
    }

    /// Gives work to those who have none.
    fn take_up(&mut self) {
        while self.discipline == Discipline::Sharing || self.running < self.workers {
            let next = match self.discipline {
                _ if !self.urgent.is_empty() => self.urgent.pop_front(),
                Discipline::Lifo => self.queue.pop_back(),
                Discipline::Fifo | Discipline::Sharing => self.queue.pop_front(),
            };
            let Some(entry) = next else { return };
            if !self.is_current(entry, Phase::Waiting) {
                continue;
            }
            self.waiting -= 1;
            let slowdown = self.slowdown.saturating_mul(self.running as u64);
            let job = &mut self.jobs[entry.index];
            if self.drops_expired && job.deadline <= self.clock {
                job.phase = Phase::Over;
                self.ended.push_back((entry.index, End::Expired));
                continue;
            }
            job.phase = Phase::Running;
            job.began = self.clock;
            let work = job.work.saturating_add(slowdown);
            self.running += 1;
            let end = Worked(self.worked + work as f64);
            self.ends.push(Reverse((end, entry)));
        }
    }

    /// A job comes. To be asked only when it has been reckoned up to the present.
    pub(super) fn arrive(&mut self, work: u64, deadline: u64, is_urgent: bool, with: T) -> usize {
        let job = Job {
            number: self.numbers,
            phase: Phase::Waiting,
            work,
            deadline,
            arrived: self.clock,
            began: self.clock,
            with: Some(with),
        };
        let number = self.numbers;
        self.numbers += 1;
        let index = if let Some(index) = self.free.pop() {
            self.jobs[index] = job;
            index
        } else {
            self.jobs.push(job);
            self.jobs.len() - 1
        };
        let entry = Entry { number, index };
        if is_urgent {
            self.urgent.push_back(entry);
        } else {
            self.queue.push_back(entry);
        }
        self.waiting += 1;
        self.take_up();
        index
    }

    /// What the job carries.
    pub(super) fn with(&mut self, index: usize) -> &mut T {
        let with = self.jobs[index].with.as_mut();
        with.expect("the job has not been forgotten")
    }

    /// Ends a job that is not over. To be asked only when it has been reckoned up to the present.
    pub(super) fn stop(&mut self, index: usize) {
        match self.jobs[index].phase {
            Phase::Waiting => self.waiting -= 1,
            Phase::Running => self.running -= 1,
            Phase::Over => return,
        }
        self.jobs[index].phase = Phase::Over;
        // Entries of those that were stopped are passed over; here are so many that they are in the way.
        if self.queue.len() > 2 * self.waiting + 64 {
            let mut queue = std::mem::take(&mut self.queue);
            queue.retain(|entry| self.is_current(*entry, Phase::Waiting));
            self.queue = queue;
        }
        if self.ends.len() > 2 * self.running + 64 {
            let mut ends = std::mem::take(&mut self.ends);
            ends.retain(|Reverse((_, entry))| self.is_current(*entry, Phase::Running));
            self.ends = ends;
        }
        self.take_up();
    }

    /// Forgets a job that is over; returns what it carried.
    pub(super) fn forget(&mut self, index: usize) -> T {
        let job = &mut self.jobs[index];
        debug_assert_eq!(job.phase, Phase::Over);
        // An entry with its number may still be about.
        job.number = u64::MAX;
        self.free.push(index);
        job.with.take().expect("the job has not been forgotten")
    }

    /// To be asked only when it has been reckoned up to the present.
    pub(super) fn set_workers(&mut self, workers: usize) {
        self.workers = workers;
        self.take_up();
    }

    /// To be asked only when it has been reckoned up to the present.
    pub(super) fn set_speed(&mut self, speed: f64) {
        self.speed = speed;
    }
}
