//! A server that sheds load and says so, and callers that heed it before they send.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use steadfast::{
    Context, Criticality, Error,
    http::{AnswerRefusalsLayer, EndpointLoadMetrics, HttpClassifier, LoadReportLayer},
    load_shed::LoadShedLayer,
    sim::{self, Fault, Link, Load, Outcome, Report, Server, Times},
    throttle::{Heeding, Mode, ThrottleBuilder, ThrottleLayer},
};
use tokio::time::advance;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn, util::BoxCloneSyncService};

use crate::support::{ms, secs};

type Remote = BoxCloneSyncService<Request<()>, Response<String>, Error<Fault>>;

/// What came in at the server's door, by slots of 100 ms and by criticality.
#[derive(Clone, Default)]
struct Door(Arc<Mutex<BTreeMap<(u64, Criticality), f64>>>);

impl Door {
    fn count(&self) {
        let slot = sim::elapsed().as_millis() as u64 / 100;
        let of = (slot, Context::current().criticality());
        *self.0.lock().unwrap().entry(of).or_default() += 1.0;
    }

    /// How many times what the server can do, between two seconds.
    fn between(&self, from: f64, to: f64) -> f64 {
        let slots = (from * 10.0) as u64..(to * 10.0) as u64;
        let seen = self.0.lock().unwrap();
        let all = seen.iter().filter(|((slot, _), _)| slots.contains(slot));
        all.map(|(_, calls)| calls).sum::<f64>() / (to - from) / CAPACITY
    }
}

/// Calls a second.
const CAPACITY: f64 = 500.0;

/// A server beyond a network.
fn server(door: &Door) -> Remote {
    let work = Server::new(10, Times::exponential(ms(20)));
    let shed = LoadShedLayer::builder().in_flight(20).build().unwrap();
    let network = Link::new().delay(Times::constant(ms(5))).carrying_context();
    let door = door.clone();
    let stack = ServiceBuilder::new()
        .map_err(Error::Inner)
        .layer(network)
        .map_request(move |request: Request<()>| {
            door.count();
            request
        })
        .layer(LoadReportLayer::new(shed.handle()))
        .layer(AnswerRefusalsLayer::new())
        .layer(shed)
        .map_response(|_| Response::new(String::new()))
        .service(work);
    BoxCloneSyncService::new(stack)
}

/// What its caller makes of it: a response that is not 200 is a failure.
fn strict<S>(
    service: S,
) -> impl Service<(), Response = (), Error = Error<Fault>, Future: Send> + Clone + Send
where
    S: Service<Request<()>, Response = Response<String>, Error = Error<Fault>> + Clone + Send,
    S::Future: Send,
{
    ServiceBuilder::new()
        .map_request(Request::new)
        .map_result(
            |result: Result<Response<String>, Error<Fault>>| match result {
                Ok(response) if response.status() == 200 => Ok(()),
                Ok(_) => Err(Error::Inner(Fault::Full)),
                Err(error) => Err(error),
            },
        )
        .service(service)
}

fn throttle() -> ThrottleBuilder<HttpClassifier> {
    ThrottleLayer::builder(HttpClassifier)
}

/// Clients with a throttle each, that offer so many times what the server can do.
async fn offer<L>(door: &Door, clients: usize, layer: impl Fn() -> L, load: Load) -> Report
where
    L: Layer<Remote>,
    L::Service: Service<Request<()>, Response = Response<String>, Error = Error<Fault>, Future: Send>
        + Clone
        + Send
        + 'static,
{
    let server = server(door);
    let services: Vec<_> = (0..clients)
        .map(|_| layer().layer(server.clone()))
        .collect();
    load.each(|arrival| {
        let client = arrival.random as usize % clients;
        let call = strict(services[client].clone()).oneshot(());
        async move { call.await.into() }
    })
    .await
}

/// Nearly all that the server can do for 20 s, so many times as much for as long, and then as before.
fn load(times: f64) -> Load {
    let load = Load::poisson().good_within(ms(500));
    let load = load.rate(0.8 * CAPACITY, secs(20));
    let load = load.rate(times * CAPACITY, secs(20));
    load.rate(0.8 * CAPACITY, secs(20))
}

fn heeding() -> ThrottleLayer<Heeding<HttpClassifier, EndpointLoadMetrics>> {
    let throttle = throttle().heed_load(EndpointLoadMetrics);
    throttle.build().unwrap()
}

fn refused(report: &Report, part: Range<Duration>) -> f64 {
    let part = report.during(part);
    let refused = part.count(|outcome| matches!(outcome, Outcome::Refused(_)));
    refused as f64 / part.offered() as f64
}

#[test]
fn a_server_whose_reports_are_heeded_is_sent_little_more_than_it_can_do() {
    for clients in [1, 4] {
        let (came, report) = sim::run(1, async move {
            let door = Door::default();
            let report = offer(&door, clients, heeding, load(5.0)).await;
            (door, report)
        });
        let (came_without, without) = sim::run(1, async move {
            let door = Door::default();
            let layer = || throttle().build().unwrap();
            let report = offer(&door, clients, layer, load(5.0)).await;
            (door, report)
        });
        assert!(came.between(20.0, 20.1) > 4.0, "it comes as a surprise");
        let times = came.between(21.0, 40.0);
        assert!((1.0..1.3).contains(&times), "{clients}: {times} times");
        let times = came_without.between(21.0, 40.0);
        assert!(times > 3.0, "{clients}: {times} times, if they are not");
        let goodput = |report: &Report| report.during(secs(20)..secs(40)).goodput() / CAPACITY;
        let (good, good_without) = (goodput(&report), goodput(&without));
        assert!(
            good > 0.98 * good_without,
            "{clients}: {good} of {good_without}"
        );
        // The load falls, and within a second all of it is sent.
        assert_eq!(refused(&report, secs(0)..secs(20)), 0.0);
        let late = refused(&report, secs(41)..secs(60));
        assert!(late < 0.001, "{clients}: {late}");
        let late = refused(&without, secs(41)..secs(60));
        assert!(late > 0.1, "{clients}: {late}, if they are not");
    }
}

#[test]
fn a_server_reports_how_many_times_what_it_can_do_it_is_asked_for() {
    for times in [1.5, 3.0, 8.0] {
        let reports = sim::run(1, async move {
            let server = server(&Door::default());
            let reports = Arc::new(Mutex::new(Vec::new()));
            let load = Load::poisson().rate(times * CAPACITY, secs(6));
            let heard = reports.clone();
            load.each(move |_| {
                let call = server.clone().oneshot(Request::new(()));
                let heard = heard.clone();
                async move {
                    let response = call.await.unwrap();
                    let load = EndpointLoadMetrics.load(response.headers()).unwrap();
                    let mut heard = heard.lock().unwrap();
                    heard.push((sim::elapsed(), load.utilization()));
                    Outcome::Good
                }
            })
            .await;
            Arc::into_inner(reports).unwrap().into_inner().unwrap()
        });
        let late = reports.iter().filter(|(at, _)| *at > secs(2));
        let late: Vec<_> = late.map(|(_, utilization)| utilization).collect();
        let mean = late.iter().copied().sum::<f64>() / late.len() as f64;
        assert!((0.9..1.15).contains(&(mean / times)), "{times}: {mean}");
    }
}

#[test]
fn the_least_critical_calls_are_held_back_first() {
    sim::run(1, async {
        let door = Door::default();
        let layer = heeding();
        let server = server(&door);
        let send = |criticality, times| {
            let (layer, server) = (layer.clone(), server.clone());
            let load = Load::poisson().criticality(criticality);
            let load = load.rate(times * CAPACITY, secs(30));
            tokio::spawn(async move {
                let call = strict(layer.layer(server));
                load.send(call, |_| ()).await
            })
        };
        let critical = send(Criticality::Critical, 0.7);
        let sheddable = send(Criticality::Sheddable, 4.3);
        let (critical, sheddable) = (critical.await.unwrap(), sheddable.await.unwrap());
        let of_critical = refused(&critical, secs(1)..secs(30));
        assert!(of_critical < 0.01, "{of_critical}");
        // 0.3 of 4.3 fit.
        let of_sheddable = refused(&sheddable, secs(1)..secs(30));
        assert!((0.85..0.93).contains(&of_sheddable), "{of_sheddable}");
        let times = door.between(1.0, 30.0);
        assert!((1.0..1.3).contains(&times), "{times}");
    });
}

/// Answers with what it is asked to report.
async fn says(report: &'static str) -> Result<Response<()>, Error<Fault>> {
    let response = Response::builder().header("endpoint-load-metrics", report);
    Ok(response.body(()).unwrap())
}

/// How many of a thousand calls pass.
async fn passing<S>(service: &mut S, report: &'static str) -> u32
where
    S: Service<&'static str, Response = Response<()>, Error = Error<Fault>>,
{
    let mut passing = 0;
    for _ in 0..1_000 {
        let call = service.ready().await.unwrap().call(report);
        passing += u32::from(call.await.is_ok());
    }
    passing
}

#[tokio::test(start_paused = true)]
async fn a_hostile_report_holds_back_no_more_than_the_cap_and_no_longer_than_a_second() {
    let hostile = [
        "TEXT application_utilization=999999999999999999999",
        "TEXT application_utilization=2,named_metrics.admitted.critical=0",
        "TEXT cpu_utilization=1000000",
    ];
    for report in hostile {
        let layer = throttle().seed(1).max_probability(0.8);
        let layer = layer.heed_load(EndpointLoadMetrics).build().unwrap();
        let mut service = layer.layer(service_fn(says));
        let probability = || {
            let snapshot = layer.handle().snapshot(Criticality::Critical);
            snapshot.reject_probability
        };
        for _ in 0..100 {
            passing(&mut service, report).await;
            advance(ms(50)).await;
        }
        assert_eq!(probability(), 0.8, "{report}");
        let passing_most = passing(&mut service, report).await;
        assert!((150..250).contains(&passing_most), "{passing_most}");
        advance(secs(1) - Duration::from_nanos(1)).await;
        assert_eq!(probability(), 0.8);
        advance(Duration::from_nanos(1)).await;
        assert_eq!(probability(), 0.0);
        assert_eq!(passing(&mut service, "TEXT mem_utilization=1").await, 1_000);
        // What was held back is no request of the formula's.
        let snapshot = layer.handle().snapshot(Criticality::Critical);
        assert_eq!(snapshot.requests, snapshot.accepts);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_report_of_overload_holds_nothing_back() {
    let harmless = [
        "TEXT application_utilization=1.000",
        "TEXT application_utilization=0.9,named_metrics.admitted.critical=0",
        "TEXT application_utilization=9,application_utilization=9",
        "TEXT application_utilization=-9",
        "TEXT application_utilization=inf",
        "TEXT application_utilization=9e9",
        "TEXT application_utilization=9;",
        "JSON {\"application_utilization\": 9}",
        "application_utilization=9",
        "",
    ];
    for report in harmless {
        let mut service = heeding().layer(service_fn(says));
        for _ in 0..10 {
            assert_eq!(passing(&mut service, report).await, 1_000, "{report}");
            advance(ms(50)).await;
        }
    }
}

#[test]
fn a_report_that_is_too_long_is_not_read() {
    for (padding, is_read) in [(1_000, true), (3_000, false)] {
        let text = format!("{OVERLOADED},x={}", "1".repeat(padding));
        let headers = HeaderMap::from_iter([(
            HeaderName::from_static("endpoint-load-metrics"),
            HeaderValue::from_str(&text).unwrap(),
        )]);
        let load = EndpointLoadMetrics.load(&headers);
        assert_eq!(load.is_some(), is_read, "{padding}");
    }
}

const OVERLOADED: &str = "TEXT application_utilization=5";

#[tokio::test(start_paused = true)]
async fn nothing_is_heeded_unless_it_is_to_be() {
    let mut service = throttle().build().unwrap().layer(service_fn(says));
    for _ in 0..10 {
        assert_eq!(passing(&mut service, OVERLOADED).await, 1_000);
        advance(ms(50)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_throttle_that_only_observes_shows_what_it_would_hold_back() {
    let layer = throttle().heed_load(EndpointLoadMetrics);
    let layer = layer.mode(Mode::ObserveOnly).build().unwrap();
    let mut service = layer.layer(service_fn(says));
    for _ in 0..100 {
        assert_eq!(passing(&mut service, OVERLOADED).await, 1_000);
        advance(ms(50)).await;
    }
    // It sends all, of which a fifth fits, and a tenth more.
    let handle = layer.handle();
    let probability = || handle.snapshot(Criticality::Critical).reject_probability;
    assert!((probability() - 0.78).abs() < 0.001, "{}", probability());
    handle.reset();
    assert_eq!(probability(), 0.0);
}

#[tokio::test(start_paused = true)]
async fn calls_that_are_counted_together_go_by_the_utilization() {
    let layer = throttle().heed_load(EndpointLoadMetrics);
    let layer = layer.by_criticality(false).build().unwrap();
    let mut service = layer.layer(service_fn(says));
    advance(secs(10)).await;
    let report = "TEXT application_utilization=2,named_metrics.admitted.critical_plus=0";
    let call = service.ready().await.unwrap().call(report);
    call.await.unwrap();
    let snapshot = layer.handle().snapshot(Criticality::Sheddable);
    assert!((snapshot.reject_probability - 0.45).abs() < 1e-9);
}

#[tokio::test(start_paused = true)]
async fn each_key_heeds_the_reports_of_its_own_host() {
    let layer = throttle().seed(1).heed_load(EndpointLoadMetrics);
    let layer = layer
        .keyed(10, |report: &&'static str| *report)
        .build()
        .unwrap();
    let mut service = layer.layer(service_fn(says));
    let idle = "TEXT application_utilization=0.5";
    for _ in 0..100 {
        assert_eq!(passing(&mut service, idle).await, 1_000);
        passing(&mut service, OVERLOADED).await;
        advance(ms(10)).await;
    }
    assert_eq!(passing(&mut service, idle).await, 1_000);
    assert!(passing(&mut service, OVERLOADED).await < 300);
}
