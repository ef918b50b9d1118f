//! The workers beside a model that looks at every job for every thing that happens.

use proptest::prelude::*;

use super::workers::{Discipline, End, Workers};

/// A job of the model, in the order in which they came.
#[derive(Clone, Debug)]
struct Job {
    number: usize,
    deadline: f64,
    is_urgent: bool,
    /// When it was taken up, and the work that is left.
    running: Option<(f64, f64)>,
    work: f64,
}

struct Model {
    discipline: Discipline,
    drops_expired: bool,
    slowdown: f64,
    workers: usize,
    speed: f64,
    now: f64,
    jobs: Vec<Job>,
    ended: Vec<(usize, f64, bool)>,
}

impl Model {
    fn running(&self) -> usize {
        self.jobs.iter().filter(|job| job.running.is_some()).count()
    }

    fn rate(&self) -> f64 {
        let running = self.running();
        match self.discipline {
            Discipline::Sharing if running > self.workers => {
                self.speed * self.workers as f64 / running as f64
            }
            _ => self.speed,
        }
    }

    fn take_up(&mut self) {
        while self.discipline == Discipline::Sharing || self.running() < self.workers {
            let waits = |job: &&Job| job.running.is_none();
            let urgent = self.jobs.iter().filter(waits).find(|job| job.is_urgent);
            let next = match self.discipline {
                _ if urgent.is_some() => urgent,
                Discipline::Lifo => self.jobs.iter().rfind(waits),
                _ => self.jobs.iter().find(waits),
            };
            let Some(number) = next.map(|job| job.number) else {
                return;
            };
            let slowdown = self.slowdown * self.running() as f64;
            let at = self.jobs.iter().position(|job| job.number == number);
            let job = &mut self.jobs[at.unwrap()];
            if self.drops_expired && job.deadline <= self.now {
                self.ended.push((number, self.now, false));
                self.jobs.remove(at.unwrap());
            } else {
                job.running = Some((self.now, job.work + slowdown));
            }
        }
    }

    fn advance(&mut self, until: f64) {
        loop {
            let rate = self.rate();
            let left = |job: &Job| Some((job.running?.1 / rate, job.number));
            let next = self.jobs.iter().filter_map(left);
            let next = next.min_by(|a, b| a.partial_cmp(b).unwrap());
            let step = match next {
                Some((left, _)) if self.now + left <= until => left,
                _ => until - self.now,
            };
            for job in &mut self.jobs {
                if let Some((_, left)) = &mut job.running {
                    *left -= step * rate;
                }
            }
            self.now += step;
            let Some((_, number)) = next.filter(|(left, _)| *left == step) else {
                return;
            };
            self.jobs.retain(|job| job.number != number);
            self.ended.push((number, self.now, true));
            self.take_up();
        }
    }
}

#[derive(Clone, Debug)]
enum Happens {
    Comes {
        work: u64,
        patience: u64,
        is_urgent: bool,
    },
    Passes(u64),
    Stops(usize),
    Workers(usize),
    Speed(u32),
}

fn happens() -> impl Strategy<Value = Happens> {
    // Times that are multiples of a large number, so that what rounds to a nanosecond decides nothing.
    let comes = (1..50_u64, 1..50_u64, any::<bool>()).prop_map(|(work, patience, is_urgent)| {
        Happens::Comes {
            work: work * 1_000_003,
            patience: patience * 1_000_033,
            is_urgent,
        }
    });
    prop_oneof![
        4 => comes,
        4 => (0..40_u64).prop_map(|time| Happens::Passes(time * 1_000_211)),
        1 => (0..100_usize).prop_map(Happens::Stops),
        1 => (0..4_usize).prop_map(Happens::Workers),
        1 => (1..5_u32).prop_map(Happens::Speed),
    ]
}

proptest! {
    /// The same jobs end in the same way and, but for a nanosecond each, at the same time.
    #[test]
    fn workers_do_as_the_model_does(
        discipline in 0..3_usize,
        drops_expired: bool,
        slowdown in prop_oneof![Just(0), Just(700_001_u64)],
        story in prop::collection::vec(happens(), 1..120),
    ) {
        let discipline = [Discipline::Fifo, Discipline::Lifo, Discipline::Sharing][discipline];
        let mut workers = Workers::new(2);
        workers.discipline = discipline;
        workers.drops_expired = drops_expired;
        workers.slowdown = slowdown;
        let mut model = Model {
            discipline,
            drops_expired,
            slowdown: slowdown as f64,
            workers: 2,
            speed: 1.0,
            now: 0.0,
            jobs: Vec::new(),
            ended: Vec::new(),
        };
        let (mut now, mut indices, mut ended) = (0_u64, Vec::new(), Vec::new());
        let mut arrivals = Vec::new();
        let end = [Happens::Workers(2), Happens::Speed(2), Happens::Passes(1 << 40)];
        for what in story.into_iter().chain(end) {
            match what {
                Happens::Passes(time) => {
                    now += time;
                    model.advance(now as f64);
                }
                Happens::Comes { work, patience, is_urgent } => {
                    let number = indices.len();
                    arrivals.push(now);
                    let deadline = now + patience;
                    indices.push(Some(workers.arrive(work, deadline, is_urgent, number)));
                    model.jobs.push(Job {
                        number,
                        deadline: deadline as f64,
                        is_urgent,
                        running: None,
                        work: work as f64,
                    });
                    model.take_up();
                }
                Happens::Stops(number) => {
                    if let Some(index) = indices.get_mut(number).and_then(Option::take) {
                        workers.stop(index);
                        workers.forget(index);
                        model.jobs.retain(|job| job.number != number);
                        model.take_up();
                    }
                }
                Happens::Workers(number) => {
                    workers.set_workers(number);
                    model.workers = number;
                    model.take_up();
                }
                Happens::Speed(halves) => {
                    workers.set_speed(f64::from(halves) / 2.0);
                    model.speed = f64::from(halves) / 2.0;
                }
            }
            while let Some((index, end)) = workers.step(now) {
                let number = workers.forget(index);
                indices[number] = None;
                ended.push((number, end));
            }
            prop_assert_eq!(workers.waiting() + workers.running(), model.jobs.len());
            prop_assert_eq!(workers.running(), model.running());
        }
        ended.sort_by_key(|(number, _)| *number);
        model.ended.sort_by_key(|(number, ..)| *number);
        prop_assert_eq!(ended.len(), model.ended.len());
        for ((number, end), (of_model, at, is_done)) in ended.into_iter().zip(&model.ended) {
            prop_assert_eq!(number, *of_model);
            prop_assert_eq!(matches!(end, End::Done { .. }), *is_done);
            if let End::Done { waited, worked } = end {
                // A nanosecond for each job before it.
                let off = (arrivals[number] + waited + worked) as f64 - at;
                prop_assert!(off.abs() < 200.0, "{} {}", number, off);
            }
        }
    }
}
