//! A client that holds calls back from a service that refuses most of them.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use steadfast::{
    Criticality, Error, Verdict,
    classify::Failure,
    sim::{self, Answer, Fault, Load, Outcome, Server, Times},
    throttle::{ThrottleHandle, ThrottleLayer},
};
use tower::{Layer, ServiceExt, util::BoxCloneService};

use super::{Bar, Experiment, Findings, Size, Stack, Table, gates::Book, ms, secs};

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "client_throttle",
    title: "A client that holds back",
    source: "B. Beyer et al., \"Site Reliability Engineering\", chapter 21: client-side throttling",
    run,
};

const MULTIPLIERS: [f64; 2] = [2.0, 1.1];
/// The default.
const WINDOW: Duration = secs(120);

/// What is not answered was refused for overload.
fn accepted(result: Result<&Answer, &Error<Fault>>) -> Verdict {
    match result {
        Ok(_) => Verdict::Success,
        Err(_) => Failure::overload().into(),
    }
}

fn ours(multiplier: f64, window: Duration, inner: Stack) -> (Stack, ThrottleHandle) {
    let builder = ThrottleLayer::builder(accepted).multiplier(multiplier);
    let layer = builder.window(window).build().unwrap();
    (BoxCloneService::new(layer.layer(inner)), layer.handle())
}

/// Does so many calls a second, and refuses at once what it would not get done within a second.
fn server(workers: usize) -> Server {
    Server::new(workers, Times::normal(ms(100), ms(20))).queue(10 * workers)
}

/// How many calls the service refuses for each that it accepts, at so many times what it can do: in the
/// mean over what the throttle might have drawn.
fn refused_per_accepted(multiplier: f64, times: f64, windows: u32) -> f64 {
    let window = secs(10);
    let (capacity, begin, length) = (500.0, 2 * window, windows * window);
    sim::run(21, async {
        let (stack, handle) = ours(multiplier, window, BoxCloneService::new(server(50)));
        let stack = Arc::new(Mutex::new(stack));
        let passed = Arc::new(Mutex::new(0.0));
        let load = Load::even().rate(times * capacity, length);
        let report = load.each(|arrival| {
            let snapshot = handle.snapshot(Criticality::Critical);
            if arrival.at >= begin {
                *passed.lock().unwrap() += 1.0 - snapshot.reject_probability;
            }
            let service = stack.lock().unwrap().clone();
            async move { service.oneshot(()).await.into() }
        });
        let accepted = report.await.during(begin..length).good() as f64;
        let passed = *passed.lock().unwrap();
        passed / accepted - 1.0
    })
}

/// After what it is to be noticed that there is no reason to refuse any more.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    /// Ten times too much, of which all can be done now.
    CanDoAll,
    /// Ten times too much, of which what can be done is left.
    LessIsOffered,
    /// Nothing was answered.
    OutageIsOver,
}

/// How long it goes on refusing calls after a change that comes after a window; `None` where it does so
/// for two windows.
fn lag(throttle: impl Fn(Stack) -> Stack, change: Change, window: Duration) -> Option<Duration> {
    let (before, after, workers) = match change {
        Change::CanDoAll => (2500.0, 2500.0, 25),
        Change::LessIsOffered => (2500.0, 225.0, 25),
        Change::OutageIsOver => (500.0, 500.0, 1000),
    };
    let report = sim::run(22, async {
        let server = server(workers);
        let stack = throttle(BoxCloneService::new(server.clone()));
        if change == Change::OutageIsOver {
            server.set_failing(1.0);
        }
        sim::at(window, move || {
            server.set_failing(0.0);
            if change == Change::CanDoAll {
                server.set_workers(1000);
            }
        });
        let load = Load::poisson().rate(before, window).rate(after, 2 * window);
        load.send(stack, |_| ()).await
    });
    let is_refused = |call: &&sim::Call| matches!(call.outcome, Outcome::Refused(_));
    let last = report.calls().iter().rfind(is_refused);
    let last = last.map_or(Duration::ZERO, |call| call.arrived.saturating_sub(window));
    (last + window / 20 < 2 * window).then_some(last)
}

fn run(size: Size) -> Findings {
    let windows = size.pick(8, 4);
    let mut ratios = Table::new(["refused for each accepted", "K = 2", "K = 1.1"]);
    let mut farthest = 0.0_f64;
    let mut listed = Vec::new();
    for times in size.pick(&[2.0, 5.0, 10.0][..], &[2.0][..]) {
        let found = MULTIPLIERS.map(|multiplier| refused_per_accepted(multiplier, *times, windows));
        for (found, multiplier) in found.into_iter().zip(MULTIPLIERS) {
            farthest = farthest.max((found / (multiplier - 1.0) - 1.0).abs());
        }
        let [two, less] = found.map(|found| format!("{found:.3}"));
        listed.push(format!("{two} and {less}"));
        ratios.row([format!("at {times} times what it can do"), two, less]);
    }
    // A shorter window is as good, where calls are enough: with a small K these must be many.
    let (window, multipliers) =
        size.pick((WINDOW, &MULTIPLIERS[..]), (secs(12), &MULTIPLIERS[..1]));
    let mut lags = Table::new([
        "calls are refused for so long after",
        "the formula, K = 2",
        "1.1",
        "**steadfast**, K = 2",
        "1.1",
    ]);
    let (mut of_book, mut of_ours) = (Vec::new(), Vec::new());
    for (name, change) in [
        (
            "ten times too much, all of which it now can do",
            Change::CanDoAll,
        ),
        (
            "ten times too much, of which is left what it can do",
            Change::LessIsOffered,
        ),
        ("an outage", Change::OutageIsOver),
    ] {
        let (mut book, mut own) = (Vec::new(), Vec::new());
        for &multiplier in multipliers {
            let formula = |inner| Book::new(multiplier, window).before(inner);
            book.push(lag(formula, change, window));
            own.push(lag(
                |inner| ours(multiplier, window, inner).0,
                change,
                window,
            ));
        }
        if size == Size::Full {
            let cells = [&book[..], &own[..]].concat();
            let cells = cells
                .into_iter()
                .map(|lag| lag.map_or("> 230 s".into(), seconds));
            let row: Vec<_> = std::iter::once(name.to_owned()).chain(cells).collect();
            lags.row(<[String; 5]>::try_from(row).expect("five"));
        }
        let always = |lag: Option<Duration>| lag.unwrap_or(Duration::MAX);
        of_book.extend(book.into_iter().map(always));
        of_ours.extend(own.into_iter().map(always));
    }
    let longest = of_ours.into_iter().max().expect("there are some");
    let shortest = of_book.into_iter().min().expect("there are some");
    let bars = vec![
        Bar {
            measure: "calls refused for each accepted, K = 2 and 1.1, at 2, 5 and 10 times".into(),
            published: "1 and 0.1".into(),
            peers: "-".into(),
            ours: listed.join("; "),
            bar: "within 2 %".into(),
            is_met: farthest <= 0.02,
        },
        Bar {
            measure: "how long calls are refused when there is no reason any more".into(),
            published: "-".into(),
            peers: format!("the formula: {} at least", seconds(shortest)),
            ours: format!("{} at most", seconds(longest)),
            bar: "120 s, a window".into(),
            is_met: longest < window,
        },
    ];
    let text = "A service refuses at once what it would not get done within a second, and a client throttles itself by what it \
        refuses. How many find it overloaded for each that it accepts is the mean over what the throttle might have drawn, with a window of \
        10 s; how long calls are refused for nothing is with the default of 2 min.\n\n\
        With the formula alone, what a client refuses itself goes on counting against a service that is well again. Here the share \
        that passes doubles with each tenth of the window in which all that was sent was accepted.";
    Findings {
        text: text.into(),
        tables: vec![ratios, lags],
        bars,
        charts: vec![],
    }
}

fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs())
}
