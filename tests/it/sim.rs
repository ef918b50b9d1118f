//! The simulation kit: what it simulates is what theory says, and the same every time.

use std::time::Duration;

use steadfast::{
    Context, Criticality, Reason,
    bulkhead::BulkheadLayer,
    retry::RetryLayer,
    sim::{self, Clients, Link, Load, Outcome, Report, Server, Times, Work},
    timeout::TimeoutLayer,
};
use tower::{Layer, ServiceBuilder, service_fn};

use crate::support::{ms, secs};

fn mean_ms(report: &Report) -> f64 {
    let took = report.calls().iter().map(|call| call.took.as_secs_f64());
    1e3 * took.sum::<f64>() / report.calls().len() as f64
}

/// Sends `rate` calls a second to a server, for `length`.
fn simulate(server: impl FnOnce() -> Server, rate: f64, length: Duration) -> (Report, Work) {
    sim::run(1, async {
        let server = server();
        let load = Load::poisson().rate(rate, length);
        (load.send(server.clone(), |_| ()).await, server.work())
    })
}

#[test]
fn a_queue_is_as_long_as_theory_has_it() {
    let second = Times::constant(secs(1));
    let exponential = Times::exponential(secs(1));
    let half_full = 0.5;
    // M/M/1: 1 / (1 - rho); M/D/1: 1 + rho / 2 (1 - rho); M/G/1 with shared processors: as M/M/1.
    let expected = [
        (
            simulate(
                || Server::new(1, exponential.clone()),
                half_full,
                secs(20_000),
            ),
            2.0,
        ),
        (
            simulate(|| Server::new(1, second.clone()), half_full, secs(20_000)),
            1.5,
        ),
        (
            simulate(
                || Server::new(1, second.clone()).lifo(),
                half_full,
                secs(20_000),
            ),
            1.5,
        ),
        (
            simulate(
                || Server::new(1, second.clone()).sharing(),
                half_full,
                secs(20_000),
            ),
            2.0,
        ),
        // M/M/4 at 0.75: 1 + C / (4 (1 - rho)), where Erlang's C is 0.509.
        (
            simulate(|| Server::new(4, exponential), 3.0, secs(5_000)),
            1.509,
        ),
        // M/D/infinity.
        (
            simulate(|| Server::new(usize::MAX, second), 3.0, secs(20_000)),
            1.0,
        ),
    ];
    for (number, ((report, _), expected)) in expected.into_iter().enumerate() {
        let mean = mean_ms(&report) / 1e3;
        assert!(
            (mean - expected).abs() < 0.08 * expected,
            "{number}: {mean}"
        );
    }
}

#[test]
fn a_bounded_queue_loses_as_many_as_theory_has_it() {
    // M/M/4/4, 3 Erlang: 0.206.
    let bounded = || Server::new(4, Times::exponential(secs(1))).queue(0);
    let (report, work) = simulate(bounded, 3.0, secs(10_000));
    let lost = report.whole().count(|outcome| outcome == Outcome::Failed);
    assert_eq!(work.refused, lost);
    let share = lost as f64 / report.whole().offered() as f64;
    assert!((share - 0.206).abs() < 0.01, "{share}");
}

#[test]
fn to_refuse_costs_what_it_is_told_to() {
    // Twice the load. A refusal goes before any call, so a dear one leaves no time for those.
    let work_of = |cost| {
        let server = || {
            Server::new(1, Times::constant(ms(100)))
                .queue(5)
                .rejecting_takes(cost)
        };
        let (report, work) = simulate(server, 20.0, secs(1_000));
        assert_eq!(report.whole().offered(), work.arrived);
        work.answered
    };
    let (free, cheap, dear) = (work_of(ms(0)), work_of(ms(25)), work_of(ms(75)));
    assert!(free.abs_diff(10_000) < 100, "{free}");
    // x + (20 - x) / 4 = 10 a second.
    assert!(cheap.abs_diff(6_667) < 150, "{cheap}");
    assert!(dear < 200, "{dear}");
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_gives_another() {
    let simulate = |seed| {
        sim::run(seed, async {
            let server = Server::new(3, Times::lognormal(ms(20), ms(10))).failing(0.1);
            let link = Link::new().delay(Times::exponential(ms(5)));
            let stack = ServiceBuilder::new()
                .layer(RetryLayer::builder().without_budget().build().unwrap())
                .layer(TimeoutLayer::new(ms(100)).unwrap())
                .layer(link)
                .service(server.clone());
            let load = Load::poisson().ramp(50.0, 250.0, secs(20));
            let report = load.send(stack, |_| ()).await;
            (report, server.work_by_slot())
        })
    };
    let first = simulate(7);
    assert_eq!(simulate(7), first);
    assert_ne!(simulate(8), first);
}

#[test]
fn the_same_load_comes_to_a_stack_that_has_a_layer_more() {
    let arrivals = |retries: bool| {
        sim::run(7, async {
            let stack = ServiceBuilder::new()
                .option_layer(retries.then(|| RetryLayer::builder().build().unwrap()))
                .service(Server::new(3, Times::exponential(ms(20))));
            let report = Load::poisson()
                .rate(50.0, secs(10))
                .send(stack, |_| ())
                .await;
            report
                .calls()
                .iter()
                .map(|call| (call.arrived, call.took))
                .collect::<Vec<_>>()
        })
    };
    assert_eq!(arrivals(true), arrivals(false));
}

#[test]
fn a_server_works_on_for_those_who_have_left_unless_it_heeds_that() {
    let wasted = |heeds: bool| {
        sim::run(1, async {
            let server = Server::new(1, Times::constant(ms(200)));
            let server = if heeds {
                server.heeding_hang_ups()
            } else {
                server
            };
            let stack = TimeoutLayer::new(ms(100)).unwrap().layer(server.clone());
            let load = Load::even().rate(20.0, secs(10));
            let report = load.send(stack, |_| ()).await;
            assert_eq!(
                report.whole().count(|outcome| outcome == Outcome::TimedOut),
                200
            );
            sim::at(secs(100), || ());
            tokio::time::sleep(secs(100)).await;
            server.work()
        })
    };
    let works_on = wasted(false);
    assert_eq!(
        (works_on.wasted, works_on.answered, works_on.stopped),
        (200, 200, 0)
    );
    let heeds = wasted(true);
    assert_eq!((heeds.wasted, heeds.answered, heeds.stopped), (0, 0, 200));
    assert_eq!(heeds.most_waiting, 1, "nobody waits for longer than 100 ms");
}

#[test]
fn expired_calls_are_dropped_at_their_turn_where_that_is_told() {
    let simulate = |drops: bool| {
        sim::run(1, async {
            let server = Server::new(1, Times::constant(ms(100)));
            let server = if drops {
                server.dropping_expired()
            } else {
                server
            };
            // Twice what it can do.
            let load = Load::even()
                .rate(20.0, secs(50))
                .timeout(secs(1))
                .good_within(ms(1_100));
            let report = load.send(server.clone(), |_| ()).await;
            (report.whole().good(), server.work().expired)
        })
    };
    let (good, expired) = simulate(false);
    assert!(good < 50, "{good}: all wait longer and longer");
    assert_eq!(expired, 0);
    let (good, expired) = simulate(true);
    assert!(good > 490, "{good}");
    assert_eq!(good + expired, 1_000);
}

#[test]
fn a_server_changes_while_it_works() {
    sim::run(1, async {
        let server = Server::new(1, Times::constant(secs(10)));
        for (secs, speed) in [(5, 0.0), (100, 0.5)] {
            let server = server.clone();
            sim::at(Duration::from_secs(secs), move || server.set_speed(speed));
        }
        // It comes at half a second: 4.5 s of work, none, and the other 5.5 at half the speed.
        let load = Load::even().rate(1.0, secs(1));
        let report = load.send(server.clone(), |_| ()).await;
        assert_eq!(report.calls()[0].took, ms(110_500));

        server.set_speed(1.0);
        server.set_times(Times::constant(secs(1)));
        server.set_failing(1.0);
        let report = load.send(server.clone(), |_| ()).await;
        assert_eq!(report.calls()[0].outcome, Outcome::Failed);
        assert_eq!(report.calls()[0].took, secs(1));

        server.set_workers(0);
        server.set_failing(0.0);
        let late = server.clone();
        sim::at(sim::elapsed() + secs(50), move || late.set_workers(1));
        let report = load.send(server.clone(), |_| ()).await;
        assert_eq!(report.calls()[0].took, ms(50_500));
    });
}

#[test]
fn a_server_slows_down_with_those_it_works_upon() {
    // As in M. Brooker's simulation of a collapse: 1 s and 10 ms for each other; 40 a second are
    // 40 / (1 - 0.4) at a time.
    let server = || Server::new(usize::MAX, Times::constant(secs(1))).slowed_by(ms(10));
    let (report, work) = simulate(server, 40.0, secs(1_000));
    let mean = mean_ms(&report);
    assert!((mean - 1_667.0).abs() < 20.0, "{mean}");
    assert!(work.most_running > 66);
}

#[test]
fn a_link_holds_what_is_sent_while_it_is_cut() {
    sim::run(1, async {
        let link = Link::new().delay(Times::constant(ms(10)));
        let stack = link.layer(Server::new(1, Times::constant(ms(5))));
        let (cut, mended) = (link.clone(), link.clone());
        sim::at(secs(1), move || cut.cut());
        sim::at(secs(3), move || mended.mend());
        let load = Load::even().rate(4.0, secs(4));
        let report = load.send(stack, |_| ()).await;
        let took: Vec<_> = report
            .calls()
            .iter()
            .map(|call| call.took.as_millis())
            .collect();
        // The requests that were held were served in turn.
        let expected = [
            25, 25, 25, 25, 1_890, 1_645, 1_400, 1_155, 910, 665, 420, 175, 25, 25, 25, 25,
        ];
        assert_eq!(took, expected);
    });
}

#[test]
fn a_link_carries_the_context_and_hang_ups_only_where_told() {
    let seen = |link: fn() -> Link| {
        sim::run(1, async move {
            let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
            let beyond = service_fn(move |()| {
                let tell = tell.clone();
                async move {
                    let context = Context::current();
                    tokio::time::sleep(ms(150)).await;
                    tell.send((context.remaining(), context.criticality()))
                        .unwrap();
                    Ok::<_, steadfast::Error<()>>(())
                }
            });
            let stack = ServiceBuilder::new()
                .layer(TimeoutLayer::new(ms(100)).unwrap())
                .layer(link().delay(Times::constant(ms(10))))
                .service(beyond);
            let load = Load::even()
                .rate(1.0, secs(1))
                .timeout(ms(500))
                .criticality(Criticality::Sheddable);
            let report = load.send(stack, |_| ()).await;
            assert_eq!(report.calls()[0].outcome, Outcome::TimedOut);
            tokio::time::sleep(secs(1)).await;
            told.try_recv().ok()
        })
    };
    assert_eq!(seen(Link::new), Some((None, Criticality::Critical)));
    let carried = Some((Some(ms(350)), Criticality::Sheddable));
    assert_eq!(seen(|| Link::new().carrying_context()), carried);
    assert_eq!(seen(|| Link::new().carrying_hang_ups()), None);
}

#[test]
fn a_load_comes_at_its_rate() {
    sim::run(1, async {
        let nothing = service_fn(|()| async { Ok::<_, steadfast::Error<()>>(()) });
        let load = |load: Load| {
            load.rate(10.0, secs(10))
                .ramp(0.0, 100.0, secs(100))
                .rate(0.0, secs(5))
        };
        let even = load(Load::even()).send(nothing, |_| ()).await;
        assert_eq!(even.length(), secs(115));
        assert_eq!(even.during(secs(0)..secs(10)).offered(), 100);
        assert_eq!(even.during(secs(10)..secs(60)).offered(), 1_250);
        assert_eq!(even.during(secs(60)..secs(110)).offered(), 3_750);
        assert_eq!(even.during(secs(110)..secs(115)).offered(), 0);

        let poisson = load(Load::poisson()).send(nothing, |_| ()).await;
        let offered = poisson.whole().offered();
        assert!(offered.abs_diff(5_100) < 4 * 71, "{offered}");
        // Of the gaps of a Poisson process as many are shorter than the mean as 1 - 1/e.
        let poisson = Load::poisson()
            .rate(1.0, secs(10_000))
            .send(nothing, |_| ())
            .await;
        let gaps = poisson
            .calls()
            .windows(2)
            .map(|pair| pair[1].arrived - pair[0].arrived);
        let short = gaps.filter(|gap| *gap < secs(1)).count() as f64;
        assert!((short / 1e4 - 0.632).abs() < 0.02, "{short}");
    });
}

#[test]
fn a_closed_load_waits_for_its_answers() {
    sim::run(1, async {
        // Ten clients, 90 ms to think and 10 ms to be served: 100 a second, which is what it can do.
        let server = Server::new(1, Times::constant(ms(10)));
        let clients = Clients::new(10, secs(100)).think(Times::exponential(ms(90)));
        let report = clients.send(server.clone(), |client| client).await;
        let rate = report.whole().goodput();
        assert!(
            rate > 75.0 && rate < 90.0,
            "{rate}: as the theory of closed queues has it"
        );
        assert!(server.work().most_waiting < 10);
    });
}

#[test]
fn an_outcome_is_what_the_layers_say() {
    sim::run(1, async {
        let hang = Server::new(usize::MAX, Times::constant(Duration::MAX));
        let stack = ServiceBuilder::new()
            .layer(BulkheadLayer::new(2))
            .layer(TimeoutLayer::new(secs(2)).unwrap())
            .service(hang.clone());
        let load = Load::even().rate(1.0, secs(5));
        let report = load.send(stack, |_| ()).await;
        let outcomes: Vec<_> = report.calls().iter().map(|call| call.outcome).collect();
        let refused = Outcome::Refused(Reason::BulkheadFull);
        assert_eq!(
            outcomes[..3],
            [Outcome::TimedOut, Outcome::TimedOut, Outcome::TimedOut]
        );
        assert!(!outcomes.contains(&refused), "one ends as the third comes");

        // Nothing ends what has no timeout, but patience.
        let load = Load::even().rate(1.0, secs(2)).patience(secs(10));
        let report = load.send(hang, |_| ()).await;
        assert_eq!(report.calls()[0].outcome, Outcome::Pending);
    });
}

#[test]
#[should_panic(expected = "a call of the load panicked")]
fn a_call_that_panics_is_not_overlooked() {
    sim::run(1, async {
        let broken =
            service_fn(|()| async { panic!("as told") as Result<(), steadfast::Error<()>> });
        Load::even().rate(1.0, secs(2)).send(broken, |_| ()).await
    });
}
