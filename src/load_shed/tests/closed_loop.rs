//! What the controller makes of a server under load.

use super::plant::{Outcome, Phase, Sensor, Server, run};
use crate::context::Criticality::{Critical, Sheddable};

/// 1,600 calls a second, in 40 ms each.
const SERVER: Server = Server {
    workers: 64,
    service: 0.04,
    sensor: Sensor::InFlight(128.0),
    interval: 0.02,
    is_random: true,
};

const SENSORS: [Sensor; 2] = [Sensor::InFlight(128.0), Sensor::Delay(0.04)];

/// Half of it is critical, and the rest can be shed.
fn phase(seconds: f64, multiple: f64) -> Phase {
    Phase::new(seconds, [0.1, 0.4, 0.0, multiple - 0.5])
}

/// A calm, so much load, and a calm.
fn storm(server: &Server, seconds: f64, multiple: f64) -> Vec<Outcome> {
    let calm = phase(5.0, 0.5);
    run(server, &[calm, phase(seconds, multiple), calm])
}

fn servers() -> impl Iterator<Item = Server> {
    let each = |sensor| {
        [true, false].map(|is_random| Server {
            sensor,
            is_random,
            ..SERVER
        })
    };
    SENSORS.into_iter().flat_map(each)
}

#[test]
fn what_the_server_can_do_is_not_shed() {
    for server in servers() {
        for multiple in [0.5, 0.9] {
            let outcome = &storm(&server, 20.0, multiple)[1];
            assert_eq!(outcome.shed, [0; 4], "{server:?} {multiple}");
            assert_eq!(outcome.late, [0; 4], "{server:?} {multiple}");
        }
    }
}

#[test]
fn just_enough_is_shed_at_any_load() {
    for server in servers() {
        for multiple in [1.1, 2.0, 5.0, 12.0] {
            let outcome = &storm(&server, 20.0, multiple)[1];
            let used = outcome.goodput() / server.capacity();
            assert!(used >= 0.99, "{server:?} {multiple}: {used}");
            let critical = outcome.success(Critical);
            assert!(critical > 0.997, "{server:?} {multiple}: {critical}");
            // One in a hundred of those that are to be shed passes.
            let needed = (1.0 - 1.0 / multiple) / 0.99;
            let (mean, _) = outcome.steady();
            assert!(
                (mean - needed).abs() < 0.03,
                "{server:?} {multiple}: {mean}"
            );
        }
    }
}

#[test]
fn the_share_settles_within_two_seconds_and_does_not_swing() {
    for sensor in SENSORS {
        for multiple in [1.1, 2.0, 5.0, 12.0] {
            // All is regular, so that whatever moves is the controller's doing.
            let server = Server {
                sensor,
                is_random: false,
                ..SERVER
            };
            let outcome = &storm(&server, 20.0, multiple)[1];
            let (_, deviation) = outcome.steady();
            assert!(deviation < 0.02, "{sensor:?} {multiple}: {deviation}");
            let settled = outcome.settled(0.05);
            assert!(settled <= 2.0, "{sensor:?} {multiple}: {settled}");
            // What chance there is in calls, the share may show, but not more.
            let server = Server {
                is_random: true,
                ..server
            };
            let (_, deviation) = storm(&server, 20.0, multiple)[1].steady();
            assert!(deviation < 0.1, "{sensor:?} {multiple}: {deviation}");
        }
    }
}

#[test]
fn nor_does_it_swing_where_a_queue_fills_within_an_interval() {
    // Two milliseconds of work, looked at every twenty.
    let server = Server {
        sensor: Sensor::Delay(0.002),
        is_random: false,
        ..SERVER
    };
    for multiple in [1.1, 2.0, 5.0] {
        let outcome = &storm(&server, 20.0, multiple)[1];
        let (_, deviation) = outcome.steady();
        assert!(deviation < 0.12, "{multiple}: {deviation}");
        let used = outcome.goodput() / server.capacity();
        assert!(used >= 0.99, "{multiple}: {used}");
    }
}

#[test]
fn it_recovers_within_a_second_of_the_load_however_long_that_lasted() {
    for server in servers() {
        for seconds in [1.0, 20.0] {
            let recovered = storm(&server, seconds, 12.0)[2].last_shed();
            assert!(recovered < 1.0, "{server:?} {seconds}: {recovered}");
        }
    }
}

#[test]
fn it_recovers_within_a_second_of_the_server() {
    let well = phase(5.0, 0.8);
    let ill = Phase {
        slowness: 10.0,
        ..phase(20.0, 0.8)
    };
    for server in servers() {
        let outcomes = run(&server, &[well, ill, well]);
        let (shed, _) = outcomes[1].steady();
        assert!((shed - 0.875).abs() < 0.05, "{server:?}: {shed}");
        let recovered = outcomes[2].last_shed();
        assert!(recovered < 1.0, "{server:?}: {recovered}");
    }
}

#[test]
fn a_signal_that_tells_of_use_alone_keeps_the_queue_short_too() {
    let server = Server {
        sensor: Sensor::Use(0.9),
        ..SERVER
    };
    let outcome = &storm(&server, 20.0, 2.0)[1];
    assert_eq!(outcome.late, [0; 4]);
    let used = outcome.goodput() / server.capacity();
    assert!((0.85..1.0).contains(&used), "{used}");
}

#[test]
fn what_can_be_shed_does_not_starve() {
    for server in servers() {
        let outcome = &storm(&server, 20.0, 12.0)[1];
        let share =
            outcome.in_time[Sheddable as usize] as f64 / outcome.offered[Sheddable as usize] as f64;
        assert!(share >= 0.01, "{server:?}: {share}");
        // All of it is less than what is critical, so there is room for none but those spared.
        let heavy = Phase::new(30.0, [0.0, 1.2, 0.0, 1.0]);
        let outcome = &run(&server, &[heavy])[0];
        let share =
            outcome.in_time[Sheddable as usize] as f64 / outcome.offered[Sheddable as usize] as f64;
        assert!((0.005..0.15).contains(&share), "{server:?}: {share}");
    }
}
