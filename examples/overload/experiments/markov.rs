//! The model of [`breaker_tuning`](super::breaker_tuning), solved: what responses cost in the mean.
//!
//! The client decides at a few points, and the server is in one of eleven states then: it has served 0 to 9
//! requests since it was repaired, or is down. While it is up, time changes nothing; while it is down, what is
//! left of the repair has no memory. So the two together are a Markov chain, with a mean cost for each step.

use super::breaker_tuning::{Cost, Policy};

/// The paper's figures, in seconds.
pub(super) const RESPONSES: u32 = 100;
pub(super) const THINK: f64 = 1.0;
pub(super) const RESPONSE: f64 = 5.0;
pub(super) const RESPONSE_TIMEOUT: f64 = 10.0;
pub(super) const CONNECT_TIMEOUT: f64 = 2.0;
pub(super) const REQUESTS_BETWEEN_FAILURES: u32 = 10;
/// A doubling open time doubles so often.
pub(super) const DOUBLINGS: u32 = 2;

/// Repairs a second.
pub(super) fn repair(availability: f64) -> f64 {
    let between_failures = f64::from(REQUESTS_BETWEEN_FAILURES) * RESPONSE;
    1.0 / ((1.0 / availability - 1.0) * between_failures)
}

/// States of the server: so many requests served, or down.
const DOWN: usize = REQUESTS_BETWEEN_FAILURES as usize;
const STATES: usize = DOWN + 1;

/// Where the client is after a call, and how long it waits there before it thinks, or instead.
struct Point {
    after_success: usize,
    /// After a response that did not come in time.
    after_slow: usize,
    after_failure: usize,
    wait: f64,
    thinks: bool,
}

fn points(policy: Policy) -> Vec<Point> {
    let point = |after_failure, wait, thinks| Point {
        after_success: 0,
        after_slow: after_failure,
        after_failure,
        wait,
        thinks,
    };
    match policy {
        Policy::Immediate => vec![point(0, 0.0, true)],
        Policy::Retry => {
            let delays = [0.0, 5.0, 10.0, 10.0, 10.0, 10.0];
            let next = |retry: usize| (retry + 1) % delays.len();
            let points = delays.iter().enumerate();
            let points = points.map(|(retry, delay)| point(next(retry), *delay, retry == 0));
            points.collect()
        }
        Policy::Breaker { open, doubles } => {
            // Closed, closed with one failure, and open once, twice, …: who is refused while it is open
            // thinks and asks again, and is thinking when it is over.
            let mut points = vec![point(1, 0.0, true), point(2, 0.0, true)];
            let last = if doubles { DOUBLINGS } else { 0 };
            for times in 0..=last {
                let again = 2 + (times + 1).min(last) as usize;
                points.push(point(again, open * f64::from(1 << times), true));
            }
            points
        }
        Policy::ByConnection { open } => {
            let mut points = vec![point(1, 0.0, true), point(1, open, true)];
            // A probe that is slow is as good as none: the next call is one.
            points.push(point(1, 0.0, true));
            for (point, after_slow) in points.iter_mut().zip([0, 2, 2]) {
                point.after_slow = after_slow;
            }
            points
        }
    }
}

/// `e^x` for a small negative number, from the four operations alone: the same on any machine.
fn exp(x: f64) -> f64 {
    let small = x / 1024.0;
    let series = (1..12)
        .rev()
        .fold(1.0, |sum, n| 1.0 + sum * small / f64::from(n));
    (0..10).fold(series, |power, _| power * power)
}

/// A step from one state of the server, to several.
type Spread = [f64; STATES];

/// Time passes before a call.
fn wait(state: usize, secs: f64, thinks: bool, repair: f64) -> Spread {
    let mut spread = [0.0; STATES];
    if state < DOWN {
        spread[state] = 1.0;
    } else {
        let think = if thinks {
            1.0 / (1.0 + THINK * repair)
        } else {
            1.0
        };
        spread[DOWN] = exp(-repair * secs) * think;
        spread[0] = 1.0 - spread[DOWN];
    }
    spread
}

/// A call: where it leaves the server if it succeeds, if it is slow, and if it is not connected; and how long it
/// takes.
fn call(state: usize, repair: f64) -> ([Spread; 3], f64) {
    let [mut success, mut slow, mut failure] = [[0.0; STATES]; 3];
    let is_answered = 1.0 - exp(-RESPONSE_TIMEOUT / RESPONSE);
    let served = RESPONSE * is_answered;
    if state < DOWN {
        // The last one leaves it down.
        success[state + 1] = is_answered;
        slow[state + 1] = 1.0 - is_answered;
        return ([success, slow, failure], served);
    }
    let is_connected = 1.0 - exp(-repair * CONNECT_TIMEOUT);
    success[1] = is_connected * is_answered;
    slow[1] = is_connected * (1.0 - is_answered);
    failure[DOWN] = 1.0 - is_connected;
    let takes = is_connected / repair + is_connected * served;
    ([success, slow, failure], takes)
}

/// Solves `x = matrix x + constants` for several constants at once, by elimination.
fn solve(size: usize, mut rows: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    for (index, row) in rows.iter_mut().enumerate() {
        row[..size].iter_mut().for_each(|value| *value = -*value);
        row[index] += 1.0;
    }
    for pivot in 0..size {
        // The matrix is one of chances: its diagonal is never the smaller part.
        let chosen = rows[pivot].clone();
        for (index, row) in rows.iter_mut().enumerate() {
            let factor = row[pivot] / chosen[pivot];
            if index != pivot && factor != 0.0 {
                let pairs = row.iter_mut().zip(&chosen);
                pairs.for_each(|(value, of_pivot)| *value -= factor * of_pivot);
            }
        }
    }
    let solved = rows.iter().enumerate();
    let solved =
        solved.map(|(index, row)| row[size..].iter().map(|value| value / row[index]).collect());
    solved.collect()
}

/// What 100 responses cost.
pub(super) fn cost(availability: f64, policy: Policy) -> Cost {
    let (repair, points) = (repair(availability), points(policy));
    let size = points.len() * STATES;
    // What it costs to get the responses that are left, from each point and state: at first none.
    let mut left = vec![vec![0.0; 2]; size];
    for _ in 0..RESPONSES {
        let mut rows = Vec::new();
        for point in &points {
            for state in 0..STATES {
                let mut row = vec![0.0; size + 2];
                row[size] += point.wait + if point.thinks { THINK } else { 0.0 };
                let waited = wait(state, point.wait, point.thinks, repair);
                for (state, chance) in waited.into_iter().enumerate() {
                    let ([success, slow, failure], takes) = call(state, repair);
                    row[size] += chance * takes;
                    row[size + 1] += chance * takes;
                    for state in 0..STATES {
                        row[point.after_slow * STATES + state] += chance * slow[state];
                        row[point.after_failure * STATES + state] += chance * failure[state];
                        let then = &left[point.after_success * STATES + state];
                        row[size] += chance * success[state] * then[0];
                        row[size + 1] += chance * success[state] * then[1];
                    }
                }
                rows.push(row);
            }
        }
        left = solve(size, rows);
    }
    Cost {
        total: left[0][0],
        contention: left[0][1],
    }
}
