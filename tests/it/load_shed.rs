//! Load shedding: what is measured, who is refused, and what is told.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context as Cx, Poll, Waker},
    time::Duration,
};

use steadfast::{
    Context, Criticality, Reason,
    bulkhead::BulkheadLayer,
    load_shed::{LoadShedBuilder, LoadShedHandle, LoadShedLayer, Mode},
};
use tokio::time::{Instant, advance};
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::support::{Act, Error, Scripted, ms, poll_once, secs, send, send_and_drop};

/// The default interval between samplings.
const INTERVAL: Duration = ms(20);

/// A number that a test sets, and a layer reads.
#[derive(Clone, Debug, Default)]
struct Dial(Arc<AtomicU64>);

impl Dial {
    fn set(&self, value: f64) {
        self.0.store(value.to_bits(), SeqCst);
    }

    fn get(&self) -> f64 {
        f64::from_bits(self.0.load(SeqCst))
    }

    /// A layer whose load it is.
    fn builder(&self) -> LoadShedBuilder {
        let dial = self.clone();
        LoadShedLayer::builder()
            .gauge("gauge", move || dial.get())
            .seed(1)
            .min_admitted_share(0.0)
    }
}

/// Answers at once with its request.
fn echo<Req: Send>() -> impl Service<Req, Response = Req, Error = Error, Future: Send> + Clone {
    service_fn(|req| async { Ok(req) })
}

/// Makes a call, of a service that is ready.
fn call<S: Service<Req, Error = Error>, Req>(
    service: &mut S,
    req: Req,
) -> Result<S::Response, Error> {
    let cx = &mut Cx::from_waker(Waker::noop());
    assert!(matches!(service.poll_ready(cx), Poll::Ready(Ok(()))));
    match poll_once(pin!(service.call(req))) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("no answer"),
    }
}

fn is_shed<T>(result: &Result<T, Error>) -> bool {
    match result {
        Ok(_) => false,
        Err(Error::Rejected(rejected)) => {
            assert_eq!(rejected.reason(), Reason::Overloaded);
            true
        }
        Err(other) => panic!("{other:?}"),
    }
}

/// Calls of all criticalities, a hundred an interval, for so many intervals. Returns how many of each
/// criticality were shed.
async fn drive(service: &mut impl Service<u32, Error = Error>, intervals: usize) -> [usize; 4] {
    let classes = [
        Criticality::CriticalPlus,
        Criticality::Critical,
        Criticality::SheddablePlus,
        Criticality::Sheddable,
    ];
    let mut shed = [0; 4];
    for _ in 0..intervals {
        for n in 0..25 {
            for (class, shed) in classes.into_iter().zip(&mut shed) {
                let context = Context::new().with_criticality(class);
                *shed += usize::from(is_shed(&context.sync_scope(|| call(service, n))));
            }
        }
        advance(INTERVAL).await;
    }
    shed
}

fn total(shed: [usize; 4]) -> usize {
    shed.iter().sum()
}

#[tokio::test(start_paused = true)]
async fn nothing_is_shed_up_to_the_target_and_something_above_it() {
    let dial = Dial::default();
    let mut service = dial.builder().build().unwrap().layer(echo());
    for load in [0.0, 0.5, 1.0] {
        dial.set(load);
        assert_eq!(drive(&mut service, 50).await, [0; 4], "{load}");
    }
    dial.set(1.01);
    assert!(total(drive(&mut service, 50).await) > 0);
}

#[tokio::test(start_paused = true)]
async fn the_least_critical_are_shed_first() {
    let dial = Dial::default();
    let layer = dial.builder().build().unwrap();
    let mut service = layer.layer(echo());
    drive(&mut service, 50).await;
    dial.set(2.0);
    let handle = layer.handle();
    let mut last = [0; 4];
    while handle.snapshot().shed_share < 0.4 {
        let shed = drive(&mut service, 1).await;
        for pair in shed.windows(2) {
            assert!(
                pair[0] == 0 || pair[1] >= 24,
                "a class goes when the next has gone: {shed:?}"
            );
        }
        last = shed;
    }
    assert_eq!(last[..2], [0, 0]);
    assert_eq!(last[3], 25);
    assert_eq!(handle.admitted_share(Criticality::Critical), 1.0);
    assert_eq!(handle.admitted_share(Criticality::Sheddable), 0.0);
    let some = handle.admitted_share(Criticality::SheddablePlus);
    assert!(some > 0.0 && some < 1.0, "{some}");
}

#[tokio::test(start_paused = true)]
async fn criticality_may_be_read_off_the_request() {
    let dial = Dial::default();
    let by_number = |req: &u32| {
        if req.is_multiple_of(2) {
            Criticality::CriticalPlus
        } else {
            Criticality::Sheddable
        }
    };
    let layer = dial.builder().criticality(by_number).build().unwrap();
    let mut service = layer.layer(echo());
    let mut shed = [0, 0];
    while layer.handle().snapshot().shed_share < 0.4 {
        for req in 0..100_u32 {
            shed[req as usize % 2] += usize::from(is_shed(&call(&mut service, req)));
        }
        advance(INTERVAL).await;
        dial.set(1.5);
    }
    assert!(shed[0] == 0 && shed[1] > 200, "{shed:?}");
}

#[tokio::test(start_paused = true)]
async fn the_load_is_looked_at_once_an_interval_and_by_itself() {
    let looks = Arc::new(AtomicUsize::new(0));
    let counter = looks.clone();
    let gauge = move || {
        counter.fetch_add(1, SeqCst);
        0.0
    };
    let layer = LoadShedLayer::builder()
        .gauge("gauge", gauge)
        .sampling_interval(ms(100))
        .build()
        .unwrap();
    let mut service = layer.layer(echo());
    let calls = |service: &mut _, expected| {
        (0..10).for_each(|req| assert!(call(service, req).is_ok()));
        assert_eq!(looks.load(SeqCst), expected);
    };
    calls(&mut service, 0);
    advance(ms(99)).await;
    calls(&mut service, 0);
    advance(ms(1)).await;
    calls(&mut service, 1);
    advance(ms(100)).await;
    let _ = layer.handle().load(); // whoever looks samples, too
    calls(&mut service, 2);
    advance(secs(1000)).await;
    calls(&mut service, 3);
}

#[tokio::test(start_paused = true)]
async fn the_most_loaded_signal_decides_and_each_can_be_seen() {
    let (one, other) = (Dial::default(), Dial::default());
    let delay = other.clone();
    let layer = one
        .builder()
        .in_flight(4)
        .queueing_delay(ms(20), move || Duration::from_secs_f64(delay.get()))
        .build()
        .unwrap();
    let mut service = layer.layer(Scripted::new().0);
    let loads = |handle: &LoadShedHandle| {
        let signals = handle.snapshot().signals.into_iter();
        signals
            .map(|signal| (signal.signal, signal.load))
            .collect::<Vec<_>>()
    };
    let handle = layer.handle();
    let names = ["gauge", "in_flight", "queueing_delay"];
    assert_eq!(
        loads(&handle),
        names.map(|name| (name, None)),
        "before the first sampling"
    );

    one.set(0.25);
    other.set(0.005);
    let calls: Vec<_> = (0..3)
        .map(|_| {
            let mut service = service.clone();
            async move { send(&mut service, Act::Hang).await }
        })
        .map(Box::pin)
        .collect();
    let mut calls = calls;
    for call in &mut calls {
        assert!(poll_once(call.as_mut()).is_pending());
    }
    advance(INTERVAL).await;
    let expected = [
        ("gauge", Some(0.25)),
        ("in_flight", Some(0.75)),
        ("queueing_delay", Some(0.25)),
    ];
    assert_eq!(loads(&handle), expected);
    assert_eq!((handle.load(), handle.snapshot().in_flight), (0.75, 3));

    drop(calls);
    other.set(0.05);
    advance(INTERVAL).await;
    assert_eq!((handle.load(), handle.snapshot().in_flight), (2.5, 0));
    one.set(7.0);
    advance(INTERVAL).await;
    assert_eq!(handle.load(), 7.0);
    send(&mut service, Act::Succeed).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_gauge_that_fails_to_say_sheds_nothing_and_harms_nothing() {
    let dial = Dial::default();
    let own = dial.clone();
    let gauge = move || match own.get() {
        99.0 => panic!("as told"),
        load => load,
    };
    let late = || -> Duration { panic!("as told") };
    let layer = LoadShedLayer::builder()
        .gauge("gauge", gauge)
        .queueing_delay(ms(1), late)
        .build()
        .unwrap();
    let mut service = layer.layer(echo());
    for silent in [99.0, f64::NAN, -1.0, f64::NEG_INFINITY] {
        dial.set(silent);
        assert_eq!(drive(&mut service, 20).await, [0; 4], "{silent}");
        assert_eq!(layer.handle().load(), 0.0, "{silent}");
    }
    assert_eq!(layer.handle().snapshot().in_flight, 0);
    dial.set(f64::INFINITY);
    assert!(total(drive(&mut service, 20).await) > 0);
    dial.set(0.0);
    drive(&mut service, 20).await;
    assert_eq!(drive(&mut service, 20).await, [0; 4]);
}

#[tokio::test(start_paused = true)]
async fn a_gauge_may_ask_the_layer_whose_it_is() {
    let handle = Arc::new(std::sync::OnceLock::<LoadShedHandle>::new());
    let own = handle.clone();
    let gauge = move || own.get().map_or(0.0, |handle| handle.load() + 0.25);
    let layer = LoadShedLayer::builder()
        .gauge("gauge", gauge)
        .build()
        .unwrap();
    handle.set(layer.handle()).unwrap();
    advance(INTERVAL).await;
    assert_eq!(layer.handle().load(), 0.25);
    advance(INTERVAL).await;
    assert_eq!(layer.handle().load(), 0.5);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_what_reads_the_request_is_the_callers_and_leaves_nothing_behind() {
    let panics = |req: &Act| -> bool { matches!(req, Act::Panic) && panic!("as told") };
    let layer = LoadShedLayer::builder()
        .in_flight(8)
        .exempt(panics)
        .build()
        .unwrap();
    let mut service = layer.layer(Scripted::new().0);
    for _ in 0..20 {
        let mut ready = service.clone();
        let panicked = catch_unwind(AssertUnwindSafe(|| call(&mut ready, Act::Panic)));
        assert!(panicked.is_err());
    }
    advance(INTERVAL).await;
    send(&mut service, Act::Succeed).await.unwrap();
    advance(INTERVAL).await;
    assert_eq!(layer.handle().snapshot().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_in_flight_is_known_however_calls_end() {
    let layer = LoadShedLayer::builder().in_flight(100).build().unwrap();
    let mut service = layer.layer(Scripted::new().0);
    let mut refusing = layer.layer(BulkheadLayer::new(0).layer(Scripted::new().0));
    for _ in 0..10 {
        send(&mut service, Act::Succeed).await.unwrap();
        send(&mut service, Act::Fail(1)).await.unwrap_err();
        send_and_drop(&mut service, Act::Hang).await;
        for act in [Act::Panic, Act::PanicInCall] {
            let panicked = catch_unwind(AssertUnwindSafe(|| call(&mut service, act)));
            assert!(panicked.is_err());
        }
        send(&mut refusing, Act::Succeed).await.unwrap_err();
    }
    let mut hanging = Box::pin(send(&mut service, Act::Hang));
    assert!(poll_once(hanging.as_mut()).is_pending());
    advance(INTERVAL).await;
    assert_eq!(layer.handle().snapshot().in_flight, 1);
}

/// A server that refuses half of its calls further in gets only the other half done.
#[tokio::test(start_paused = true)]
async fn what_is_refused_further_in_is_not_taken_for_what_can_be_done() {
    let share_of = async |refuses: bool| {
        let dial = Dial::default();
        let layer = dial.builder().build().unwrap();
        let inner = service_fn(move |req: u32| {
            let bulkhead = BulkheadLayer::new(usize::from(!refuses || req.is_multiple_of(2)));
            bulkhead.layer(echo()).oneshot(req)
        });
        let mut service = layer.layer(inner);
        let mut calls = async |intervals| {
            for _ in 0..intervals {
                (0..100).for_each(|req| _ = call(&mut service, req));
                advance(INTERVAL).await;
            }
        };
        calls(50).await;
        dial.set(1.001);
        layer.handle().snapshot().shed_share
    };
    let (all, half) = (share_of(false).await, share_of(true).await);
    assert!(all < 0.01, "{all}");
    assert!((half - 0.5).abs() < 0.01, "{half}");
}

#[tokio::test(start_paused = true)]
async fn when_the_load_has_gone_the_first_call_after_a_pause_passes() {
    let dial = Dial::default();
    let mut service = dial.builder().build().unwrap().layer(echo());
    dial.set(100.0);
    drive(&mut service, 200).await;
    assert!(is_shed(&call(&mut service, 0)));
    dial.set(0.1);
    advance(secs(60)).await;
    assert!(!is_shed(&call(&mut service, 0)));
}

#[tokio::test(start_paused = true)]
async fn some_of_what_would_be_shed_passes_always() {
    let dial = Dial::default();
    let layer = dial.builder().min_admitted_share(0.1).build().unwrap();
    let mut service = layer.layer(echo());
    dial.set(1e9);
    drive(&mut service, 200).await;
    let shed = drive(&mut service, 40).await;
    // Four standard deviations of a thousand.
    assert!(shed.iter().all(|shed| shed.abs_diff(900) < 38), "{shed:?}");
    let share = layer.handle().admitted_share(Criticality::Sheddable);
    assert!((share - 0.1).abs() < 1e-9, "{share}");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_says_when_to_come_back_and_not_the_same_to_all() {
    let dial = Dial::default();
    let delays = async |retry_after| {
        let layer = dial.builder().name("a server").retry_after(retry_after);
        let mut service = layer.build().unwrap().layer(echo());
        dial.set(1e9);
        drive(&mut service, 200).await;
        let delay = |req| {
            let rejected = call(&mut service, req).unwrap_err().rejected();
            assert_eq!(rejected.layer(), "a server");
            rejected.retry_after()
        };
        (0..200).map(delay).collect::<Vec<_>>()
    };
    let told: Vec<_> = delays(ms(500))
        .await
        .into_iter()
        .map(Option::unwrap)
        .collect();
    assert!(told.iter().all(|delay| (ms(500)..ms(1000)).contains(delay)));
    let early = told.iter().filter(|delay| **delay < ms(750)).count();
    assert!((60..140).contains(&early), "{early}");
    assert!(delays(Duration::ZERO).await.iter().all(Option::is_none));
    assert!(
        delays(Duration::MAX)
            .await
            .iter()
            .all(|delay| delay.unwrap() > secs(584 * 365 * 86_400))
    );
}

#[tokio::test(start_paused = true)]
async fn exempt_requests_pass_and_count_for_nothing() {
    let dial = Dial::default();
    let layer = dial
        .builder()
        .exempt(|req: &u32| *req == 7)
        .build()
        .unwrap();
    let mut service = layer.layer(echo());
    dial.set(1e9);
    drive(&mut service, 200).await;
    for _ in 0..100 {
        assert!(!is_shed(&call(&mut service, 7)));
        assert!(is_shed(&call(&mut service, 8)));
    }
    let layer = LoadShedLayer::builder()
        .in_flight(1)
        .exempt(|_: &Act| true)
        .build()
        .unwrap();
    let mut service = layer.layer(Scripted::new().0);
    let mut call = Box::pin(send(&mut service, Act::Hang));
    assert!(poll_once(call.as_mut()).is_pending());
    advance(INTERVAL).await;
    assert_eq!(layer.handle().load(), 0.0);
}

#[tokio::test(start_paused = true)]
async fn modes_can_be_switched_while_it_runs() {
    let dial = Dial::default();
    let layer = dial.builder().mode(Mode::ObserveOnly).build().unwrap();
    let (mut service, handle) = (layer.layer(echo()), layer.handle());
    dial.set(1e9);
    assert_eq!(drive(&mut service, 200).await, [0; 4]);
    assert_eq!(handle.mode(), Mode::ObserveOnly);
    assert!(
        handle.snapshot().shed_share > 0.9,
        "it says what it would do"
    );
    assert_eq!(handle.snapshot().in_flight, 0);

    handle.set_mode(Mode::Enabled);
    assert!(total(drive(&mut service, 10).await) > 900);
    handle.set_mode(Mode::Disabled);
    assert_eq!(drive(&mut service, 10).await, [0; 4]);
    handle.set_mode(Mode::Enabled);
    assert!(total(drive(&mut service, 10).await) > 900);
    assert_eq!(handle.snapshot().mode, Mode::Enabled);
}

/// The users of a thousand of whom a call is shed, and whether all calls of each are treated alike.
async fn users_shed(service: &mut impl Service<u32, Response = u32, Error = Error>) -> Vec<bool> {
    let shed = |service: &mut _| {
        (0..1000)
            .map(|user| is_shed(&call(service, user)))
            .collect()
    };
    let first: Vec<bool> = shed(service);
    let second: Vec<bool> = shed(service);
    // But for the one cohort, of 128, through which the cut goes.
    let unlike = first
        .iter()
        .zip(&second)
        .filter(|(one, other)| one != other)
        .count();
    assert!(unlike < 25, "{unlike}");
    first
}

fn alike(one: &[bool], other: &[bool]) -> usize {
    one.iter()
        .zip(other)
        .filter(|(one, other)| one == other)
        .count()
}

#[tokio::test(start_paused = true)]
async fn users_are_shed_whole_and_others_the_next_hour() {
    let dial = Dial::default();
    let build = |seed| {
        dial.builder()
            .seed(seed)
            .cohort_by(|user: &u32| *user)
            .build()
            .unwrap()
    };
    // Well into an hour, whichever it is.
    let settle = async |layer: &LoadShedLayer<_>| {
        let mut service = layer.layer(echo());
        dial.set(0.0);
        drive_users(&mut service).await;
        dial.set(1.5);
        while layer.handle().snapshot().shed_share < 0.45 {
            drive_users(&mut service).await;
        }
        service
    };
    let layer = build(1);
    let mut service = settle(&layer).await;
    let shed = users_shed(&mut service).await;
    let count = shed.iter().filter(|shed| **shed).count();
    assert!((350..650).contains(&count), "{count}");

    let again = build(1);
    let mut service = settle(&again).await;
    let same = users_shed(&mut service).await;
    assert!(alike(&shed, &same) > 900, "the same seed agrees");
    let mut service = settle(&build(2)).await;
    let other = users_shed(&mut service).await;
    assert!(
        (350..650).contains(&alike(&shed, &other)),
        "another does not"
    );

    advance(secs(3600)).await;
    let mut service = settle(&layer).await;
    let later = users_shed(&mut service).await;
    assert!(
        (350..650).contains(&alike(&shed, &later)),
        "nor does another hour"
    );
}

async fn drive_users(service: &mut impl Service<u32, Response = u32, Error = Error>) {
    (0..1000).for_each(|user| _ = call(service, user));
    advance(INTERVAL).await;
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_not_ready_is_waited_for_by_default() {
    let layer = LoadShedLayer::builder().in_flight(8).build().unwrap();
    let (inner, watch) = Scripted::new();
    let mut service = layer.layer(inner);
    watch.be_unready(3);
    send(&mut service, Act::Succeed).await.unwrap();
    assert_eq!(watch.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn with_no_time_to_wait_a_service_that_is_not_ready_refuses_at_once() {
    let layer = LoadShedLayer::builder()
        .refuse_unready_after(Duration::ZERO)
        .build()
        .unwrap();
    let (inner, watch) = Scripted::new();
    let mut service = layer.layer(inner);
    for _ in 0..5 {
        watch.be_unready(1);
        let rejected = call(&mut service, Act::Succeed).unwrap_err().rejected();
        assert_eq!(rejected.reason(), Reason::Overloaded);
        call(&mut service, Act::Succeed).unwrap();
    }
    assert_eq!(watch.calls(), 5);
}

#[tokio::test(start_paused = true)]
async fn once_a_service_has_not_been_ready_for_too_long_no_call_waits_for_it() {
    let layer = LoadShedLayer::builder()
        .refuse_unready_after(ms(100))
        .build()
        .unwrap();
    let gate = Arc::new(tokio::sync::Semaphore::new(1));
    let held = gate.clone().try_acquire_owned().unwrap();
    let inner = tower::limit::ConcurrencyLimit::with_semaphore(echo::<u32>(), gate.clone());
    let service = layer.layer(inner);
    let begin = Instant::now();
    let send = async |req| {
        let mut service = service.clone();
        service.ready().await?.call(req).await
    };
    let (first, second, _) = tokio::join!(send(1), send(2), async {
        advance(ms(50)).await;
        let late = send(3).await; // began later, and waits no longer than the others
        assert!(is_shed(&late));
        assert!((ms(100)..ms(102)).contains(&begin.elapsed()));
    });
    assert!(is_shed(&first) && is_shed(&second));
    for _ in 0..100 {
        let begin = Instant::now();
        assert!(is_shed(&send(4).await));
        assert_eq!(begin.elapsed(), ms(0));
        advance(ms(1)).await;
    }

    drop(held);
    assert_eq!(send(5).await, Ok(5));
    assert_eq!(send(6).await, Ok(6));

    // From then on it has not been ready anew.
    let held = gate.try_acquire_owned().unwrap();
    let begin = Instant::now();
    assert!(is_shed(&send(7).await));
    assert!(begin.elapsed() >= ms(99));
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn a_service_found_unready_long_ago_is_waited_for_again() {
    let layer = LoadShedLayer::builder()
        .refuse_unready_after(ms(100))
        .build()
        .unwrap();
    let (inner, watch) = Scripted::new();
    let mut service = layer.layer(inner);
    watch.be_unready(1);
    let cx = &mut Cx::from_waker(Waker::noop());
    assert!(service.poll_ready(cx).is_pending());
    advance(secs(3600)).await;
    watch.be_unready(1);
    send(&mut service, Act::Succeed).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_only_observes_waits_for_the_service() {
    let builder = LoadShedLayer::builder().refuse_unready_after(Duration::ZERO);
    for mode in [Mode::ObserveOnly, Mode::Disabled] {
        let layer = builder.clone().mode(mode).build().unwrap();
        let (inner, watch) = Scripted::new();
        let mut service = layer.layer(inner);
        watch.be_unready(3);
        send(&mut service, Act::Succeed).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_not_ready_is_not_called_whatever_becomes_of_the_mode() {
    let layer = LoadShedLayer::builder()
        .refuse_unready_after(Duration::ZERO)
        .build()
        .unwrap();
    let (inner, watch) = Scripted::new();
    let mut service = layer.layer(inner);
    watch.be_unready(1);
    let cx = &mut Cx::from_waker(Waker::noop());
    assert!(service.poll_ready(cx).is_ready());
    layer.handle().set_mode(Mode::Disabled);
    assert!(is_shed(&service.call(Act::Succeed).await));
    // Nor is a clone, which has not asked.
    watch.be_unready(1);
    assert!(service.clone().poll_ready(cx).is_pending());
    assert_eq!(watch.calls(), 0);
}

fn tasks() -> usize {
    tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks()
}

#[tokio::test(start_paused = true)]
async fn the_runtimes_lag_is_measured_while_calls_come_and_no_longer() {
    let layer = LoadShedLayer::builder()
        .runtime_lag(ms(10))
        .build()
        .unwrap();
    let mut service = layer.layer(echo());
    let lag = || layer.handle().snapshot().signals[0].load;
    assert_eq!((tasks(), lag()), (0, None), "not before it is wanted");
    for _ in 0..20 {
        call(&mut service, 0).unwrap();
        tokio::time::sleep(INTERVAL).await;
    }
    assert_eq!(
        (tasks(), lag()),
        (1, Some(0.0)),
        "nothing is late while nothing works"
    );

    // Time passes, and no other task gets its turn: it is late already, and is so when it gets it.
    let busy = poll_once(pin!(advance(ms(45))));
    assert!(busy.is_pending(), "to let the others run");
    let late = lag().unwrap();
    assert!((2.0..=4.5).contains(&late), "{late}");
    tokio::task::yield_now().await;
    assert_eq!(lag(), Some(late));

    drop(service);
    tokio::time::sleep(secs(2)).await;
    assert_eq!(tasks(), 0, "it ends by itself");
}

#[test]
fn the_runtimes_lag_is_measured_anew_in_another_runtime() {
    let layer = LoadShedLayer::builder()
        .runtime_lag(ms(10))
        .build()
        .unwrap();
    let mut service = layer.layer(echo());
    std::thread::sleep(INTERVAL); // no clock of tokio's is paused out here
    call(&mut service, 0).unwrap();
    assert_eq!(
        layer.handle().snapshot().signals[0].load,
        None,
        "no runtime, no lag"
    );
    for _ in 0..2 {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).enable_time().build().unwrap();
        let measured = runtime.block_on(async {
            for _ in 0..500 {
                call(&mut service, 0).unwrap_or_default();
                tokio::time::sleep(ms(5)).await;
                if layer.handle().snapshot().signals[0].load.is_some() {
                    return true;
                }
            }
            false
        });
        assert!(measured);
    }
}

#[test]
fn a_runtime_without_timers_has_no_lag_to_tell_and_calls_pass() {
    let layer = LoadShedLayer::builder()
        .runtime_lag(ms(10))
        .build()
        .unwrap();
    let mut service = layer.layer(echo());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        std::thread::sleep(INTERVAL);
        for _ in 0..3 {
            call(&mut service, 0).unwrap();
            tokio::task::yield_now().await;
            std::thread::sleep(INTERVAL);
        }
        assert_eq!(tasks(), 0);
    });
    assert_eq!(layer.handle().snapshot().signals[0].load, None);
}

#[cfg(all(feature = "cpu", unix))]
#[test]
fn the_use_of_the_processors_is_read() {
    let layer = LoadShedLayer::builder().cpu(0.9).build().unwrap();
    let mut service = layer.layer(echo());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let load = runtime.block_on(async {
        for _ in 0..500 {
            call(&mut service, 0).unwrap_or_default();
            tokio::time::sleep(ms(5)).await;
            let load = layer.handle().snapshot().signals[0].load;
            if load.is_some() {
                return load;
            }
        }
        None
    });
    let load = load.unwrap();
    assert!((0.0..10.0).contains(&load), "{load}");
}

#[test]
fn what_cannot_work_is_refused_when_it_is_built() {
    let refused = |builder: LoadShedBuilder, setting, allowed| {
        let error = builder.build().unwrap_err();
        assert_eq!((error.setting(), error.allowed()), (setting, allowed));
    };
    let new = LoadShedLayer::builder;
    let some = || new().in_flight(1);
    refused(
        new(),
        "signals",
        "at least one, or a bound for what is not ready",
    );
    refused(new().in_flight(0), "in_flight", "at least 1");
    let zero = || new().queueing_delay(Duration::ZERO, || Duration::ZERO);
    refused(zero(), "queueing_delay", "longer than zero");
    refused(zero().in_flight(1), "queueing_delay", "longer than zero");
    refused(new().runtime_lag(ms(1)), "runtime_lag", "at least 2ms");
    for interval in [
        Duration::ZERO,
        Duration::from_nanos(999_999),
        ms(10_001),
        Duration::MAX,
    ] {
        let builder = some().sampling_interval(interval);
        refused(builder, "sampling_interval", "in 1ms..=10s");
    }
    for share in [-0.1, 0.51, 1.0, f64::NAN, f64::INFINITY] {
        refused(
            some().min_admitted_share(share),
            "min_admitted_share",
            "in 0..=0.5",
        );
    }
    #[cfg(feature = "cpu")]
    for target in [0.0, -1.0, 1.01, f64::NAN, f64::INFINITY] {
        refused(new().cpu(target), "cpu", "in 0.01..=1");
    }
    for half_life in [Duration::ZERO, ms(99), secs(3601), Duration::MAX] {
        let users = some().cohort_by(|user: &u32| *user).heaviest_first();
        let error = users.usage_half_life(half_life).build().err().unwrap();
        assert_eq!(error.setting(), "usage_half_life");
        assert_eq!(error.allowed(), "in 100ms..=1h");
    }
    for builder in [
        some().min_admitted_share(0.5).sampling_interval(ms(1)),
        some().min_admitted_share(0.0).sampling_interval(secs(10)),
        some()
            .runtime_lag(Duration::MAX)
            .queueing_delay(Duration::MAX, || Duration::MAX),
        new().refuse_unready_after(Duration::MAX),
    ] {
        assert!(builder.build().is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn a_signal_that_is_given_again_replaces_itself() {
    let layer = LoadShedLayer::builder()
        .gauge("one", || 9.0)
        .gauge("two", || 0.25)
        .gauge("one", || 0.5)
        .in_flight(1)
        .in_flight(2)
        .build()
        .unwrap();
    advance(INTERVAL).await;
    let signals = layer.handle().snapshot().signals;
    let signals: Vec<_> = signals.iter().map(|it| (it.signal, it.load)).collect();
    let expected = [
        ("two", Some(0.25)),
        ("one", Some(0.5)),
        ("in_flight", Some(0.0)),
    ];
    assert_eq!(signals, expected);
}

#[tokio::test(start_paused = true)]
async fn without_a_signal_nothing_is_measured() {
    let layer = LoadShedLayer::builder()
        .refuse_unready_after(ms(1))
        .build()
        .unwrap();
    let mut service = layer.layer(Scripted::new().0);
    for _ in 0..100 {
        send(&mut service, Act::Succeed).await.unwrap();
        send_and_drop(&mut service, Act::Hang).await;
        advance(INTERVAL).await;
        let snapshot = layer.handle().snapshot();
        assert_eq!(
            (snapshot.load, snapshot.shed_share, snapshot.in_flight),
            (0.0, 0.0, 0)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_longest_of_times_do_not_overflow() {
    let layer = LoadShedLayer::builder()
        .queueing_delay(Duration::MAX, || Duration::MAX)
        .runtime_lag(Duration::MAX)
        .refuse_unready_after(Duration::MAX)
        .build()
        .unwrap();
    let (inner, watch) = Scripted::new();
    let mut service = layer.layer(inner);
    advance(INTERVAL).await;
    watch.be_unready(1);
    send(&mut service, Act::Succeed).await.unwrap();
    assert_eq!(layer.handle().load(), 1.0);
}

/// What users asked for, and what of it was answered.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Served {
    asked: f64,
    answered: f64,
}

impl Served {
    fn share(self) -> f64 {
        self.answered / self.asked
    }

    fn of(users: &[Self]) -> Self {
        users.iter().fold(Self::default(), |sum, user| Self {
            asked: sum.asked + user.asked,
            answered: sum.answered + user.answered,
        })
    }
}

/// Four workers of 10 ms, 400 calls a second, and what users ask of them, so many times a second each, for
/// one time after another. Of four runs together, since who is let through goes by chance.
fn serve_users(phases: &[(u64, Vec<f64>)]) -> Vec<Vec<Served>> {
    let runs = (1..=4).map(|seed| steadfast::sim::run(seed, serve(phases.to_vec())));
    let add = |sum: Vec<Vec<Served>>, run: Vec<Vec<Served>>| {
        let both = sum.into_iter().zip(run);
        let of_users = both.map(|(sum, run)| {
            let both = sum.into_iter().zip(run);
            both.map(|(sum, run)| Served::of(&[sum, run])).collect()
        });
        of_users.collect()
    };
    runs.reduce(add).unwrap()
}

async fn serve(phases: Vec<(u64, Vec<f64>)>) -> Vec<Vec<Served>> {
    let workers = Arc::new(tokio::sync::Semaphore::new(4));
    let inner = service_fn(move |user: usize| {
        let workers = workers.clone();
        async move {
            let _worker = workers.acquire().await.unwrap();
            tokio::time::sleep(ms(10)).await;
            Ok::<_, Error>(user)
        }
    });
    let layer = LoadShedLayer::builder()
        .in_flight(12)
        .cohort_by(|user: &usize| *user)
        .heaviest_first()
        .build()
        .unwrap();
    let service = layer.layer(inner);
    let mut dice = 1_u64;
    let mut throw = move || {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (dice >> 11) as f64 / (1_u64 << 53) as f64
    };
    let mut all = Vec::new();
    for (seconds, rates) in phases {
        let answered: Arc<Vec<_>> = rates
            .iter()
            .map(|_| AtomicUsize::new(0))
            .collect::<Vec<_>>()
            .into();
        let mut asked = vec![0; rates.len()];
        for _ in 0..seconds * 1000 {
            for (user, rate) in rates.iter().enumerate() {
                if throw() * 1000.0 < *rate {
                    asked[user] += 1;
                    let (mut service, answered) = (service.clone(), answered.clone());
                    tokio::spawn(async move {
                        if service.call(user).await.is_ok() {
                            answered[user].fetch_add(1, SeqCst);
                        }
                    });
                }
            }
            tokio::time::sleep(ms(1)).await;
        }
        // What is in flight is soon done, and of this phase.
        tokio::time::sleep(ms(100)).await;
        let served = asked
            .iter()
            .zip(answered.iter())
            .map(|(asked, answered)| Served {
                asked: f64::from(*asked),
                answered: answered.load(SeqCst) as f64,
            });
        all.push(served.collect());
    }
    all
}

/// Fifty users of whom the last asks for so many times as much; so many calls a second in all.
fn one_of_fifty(times: f64, all: f64) -> Vec<f64> {
    let mut rates = vec![all / (49.0 + times); 50];
    rates[49] *= times;
    rates
}

#[test]
fn a_user_who_asks_for_too_much_is_shed_and_the_others_are_not() {
    // All that is too much is his: with a tenth more than can be done, and with twice as much.
    for (times, all) in [(10.0, 440.0), (70.0, 800.0)] {
        let heavy = one_of_fifty(times, all);
        let phases = [
            (10, one_of_fifty(1.0, 300.0)),
            (10, heavy.clone()),
            (20, heavy),
        ];
        let served = serve_users(&phases);
        let of_others = served[1..].iter().flat_map(|served| &served[..49]);
        let others: Vec<_> = of_others.copied().collect();
        // Also while it is not yet known, for two half-lives, how heavy he is.
        let share = Served::of(&others).share();
        assert!(share >= 0.99, "{times}: {share}");
        let served = &served[2];
        let (others, heavy) = (Served::of(&served[..49]), served[49]);
        let each = served[..49].iter().map(|user| user.share());
        let least = each.fold(1.0, f64::min);
        // As calls come by chance the share goes past him now and then, to the next.
        assert!(least >= 0.9, "{times}: {least}");
        // He has what is left.
        let done = (others.answered + heavy.answered) / (4.0 * 20.0);
        assert!((385.0..415.0).contains(&done), "{times}: {done}");
    }
}

#[test]
fn where_more_is_too_much_than_the_heaviest_ask_for_they_have_nothing_and_others_go_by_chance() {
    let phases = [
        (10, one_of_fifty(1.0, 300.0)),
        (30, one_of_fifty(10.0, 800.0)),
    ];
    // Of one run: in each it is others who have luck.
    let served = &steadfast::sim::run(1, serve(phases.to_vec()))[1];
    assert!(served[49].share() < 0.05, "{:?}", served[49]);
    let others = Served::of(&served[..49]);
    assert!((0.55..0.65).contains(&others.share()), "{others:?}");
    // All that they ask for, or next to nothing, but for those through whose cohort the cut goes.
    let whole = served[..49]
        .iter()
        .filter(|user| !(0.1..0.9).contains(&user.share()));
    assert!(whole.count() > 30, "{served:?}");
}

#[test]
fn who_has_calmed_down_is_admitted_again_within_some_half_lives() {
    let rates = |of_one: f64| {
        let mut rates = one_of_fifty(40.0, 520.0);
        rates[0] *= of_one;
        rates
    };
    // For 30 s he is the heaviest, then one of many.
    let phases = [(30, rates(80.0)), (20, rates(1.0)), (10, rates(1.0))];
    let served = serve_users(&phases);
    assert!(served[0][0].share() < 0.5, "{:?}", served[0][0]);
    assert!(served[2][0].share() > 0.98, "{:?}", served[2][0]);
}

#[test]
fn users_who_are_named_anew_are_not_those_whose_usage_was_to_count() {
    let heaviest = LoadShedLayer::builder()
        .in_flight(1)
        .cohort_by(|user: &u32| *user % 2)
        .heaviest_first()
        .usage_half_life(Duration::ZERO);
    assert!(heaviest.clone().build().is_err());
    assert!(heaviest.cohort_by(|user: &u32| *user).build().is_ok());
}

#[cfg(feature = "http")]
mod over_http {
    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::Full;
    use steadfast::{
        deadline::{DeadlineLayer, Trust},
        http::{AnswerRefusalsLayer, EndOfBody, EndpointLoadMetrics, LoadReportLayer},
        load_shed::Priorities,
    };
    use tower::ServiceBuilder;

    use super::*;

    /// How many of those calls are shed that say they are critical, until nearly half of all are.
    async fn shed_of_those_who_say_so<T>(deadline: DeadlineLayer<T>) -> usize
    where
        T: Trust<Request<()>> + Clone,
    {
        let dial = Dial::default();
        let layer = dial.builder().build().unwrap();
        let mut service = ServiceBuilder::new()
            .layer(deadline)
            .layer(layer.clone())
            .service(echo::<Request<()>>());
        let mut shed = 0;
        while layer.handle().snapshot().shed_share < 0.45 {
            for n in 0..50 {
                let says_so = n % 2 == 0;
                let criticality = if says_so {
                    "critical_plus"
                } else {
                    "sheddable"
                };
                let request = Request::get("/").header("x-request-criticality", criticality);
                let is_shed = is_shed(&call(&mut service, request.body(()).unwrap()));
                shed += usize::from(says_so && is_shed);
            }
            advance(INTERVAL).await;
            dial.set(1.5);
        }
        shed
    }

    #[tokio::test(start_paused = true)]
    async fn a_criticality_that_anybody_may_write_changes_nothing() {
        let second = || DeadlineLayer::builder(secs(1));
        let of_anybody = shed_of_those_who_say_so(second().build().unwrap()).await;
        let of_friends = second().trust_headers().build().unwrap();
        let of_friends = shed_of_those_who_say_so(of_friends).await;
        assert!(of_anybody > 100, "{of_anybody}");
        assert_eq!(of_friends, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_is_in_flight_until_the_end_of_its_body_where_that_is_said() {
        let layer = LoadShedLayer::builder()
            .in_flight(1)
            .until(EndOfBody)
            .build()
            .unwrap();
        let body = || Full::new(Bytes::from_static(b"all"));
        let mut service = layer.layer(service_fn(move |()| async move {
            Ok::<_, Error>(Response::new(body()))
        }));
        let response = call(&mut service, ()).unwrap();
        advance(INTERVAL).await;
        assert_eq!(layer.handle().snapshot().in_flight, 1);
        drop(response);
        advance(INTERVAL).await;
        assert_eq!(layer.handle().snapshot().in_flight, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn answers_tell_the_load_and_what_would_pass() {
        let dial = Dial::default();
        let layer = dial.builder().build().unwrap();
        let inner = service_fn(|says: Option<&'static str>| async move {
            let mut response = Response::new(String::new());
            if let Some(says) = says {
                let says = http::HeaderValue::from_static(says);
                response.headers_mut().insert("endpoint-load-metrics", says);
            }
            Ok::<_, steadfast::Error<Error>>(response)
        });
        let mut service = ServiceBuilder::new()
            .layer(LoadReportLayer::new(layer.handle()))
            .layer(AnswerRefusalsLayer::new())
            .layer(layer.clone())
            .service(inner);
        let mut report = |says| {
            let response = call(&mut service, says).unwrap();
            let value = response.headers()["endpoint-load-metrics"]
                .to_str()
                .unwrap();
            (response.status().as_u16(), value.to_owned())
        };
        let calm = "TEXT application_utilization=0.000,named_metrics.shed_share=0.000,\
                    named_metrics.load=0.000,named_metrics.admitted.critical_plus=1.000,named_metrics.admitted.critical=1.000,\
                    named_metrics.admitted.sheddable_plus=1.000,named_metrics.admitted.sheddable=1.000";
        assert_eq!(report(None), (200, calm.to_owned()));
        assert_eq!(report(Some("mine")), (200, "mine".to_owned()));

        dial.set(0.5);
        advance(INTERVAL).await;
        let half = "TEXT application_utilization=0.500,named_metrics.shed_share=0.000,\
                    named_metrics.load=0.500,";
        assert!(report(None).1.starts_with(half));

        dial.set(f64::INFINITY);
        let mut last = (0, String::new());
        for _ in 0..200 {
            advance(INTERVAL).await;
            (0..50).for_each(|_| last = report(None));
        }
        assert_eq!(last.0, 503);
        // As the calls go, of which hardly any passes, and not as the signal does.
        let handle = layer.handle();
        let utilization = handle.utilization();
        assert!((utilization * (1.0 - handle.shed_share()) - 1.0).abs() < 1e-9);
        assert!(utilization > 100.0, "{utilization}");
        let told =
            format!("TEXT application_utilization={utilization:.3},named_metrics.shed_share=0.99");
        assert!(last.1.starts_with(&told), "{}", last.1);
        assert!(
            last.1.contains(",named_metrics.load=1000000.000,"),
            "{}",
            last.1
        );
        assert!(last.1.ends_with("admitted.sheddable=0.000"), "{}", last.1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_shed_is_answered_with_503_and_a_time_to_come_back() {
        let dial = Dial::default();
        let inner = service_fn(|_: u32| async {
            Ok::<_, steadfast::Error<Error>>(Response::new(String::new()))
        });
        let mut service = ServiceBuilder::new()
            .layer(AnswerRefusalsLayer::new())
            .layer(dial.builder().build().unwrap())
            .service(inner);
        dial.set(1e9);
        let mut response = None;
        for _ in 0..200 {
            for n in 0..50 {
                response = Some(call(&mut service, n).unwrap());
            }
            advance(INTERVAL).await;
        }
        let response = response.unwrap();
        assert_eq!(response.status(), 503);
        let delay = response.headers()["retry-after"].to_str().unwrap();
        assert!(["1", "2"].contains(&delay), "{delay}");
    }
    /// The layer, with the dial for its load, and sparing nobody.
    fn by_dial<C, K, X, U>(
        builder: LoadShedBuilder<C, K, X, U>,
        dial: &Dial,
    ) -> LoadShedLayer<Priorities<C, K, X>, U> {
        let read = dial.clone();
        let builder = builder.gauge("dial", move || read.get());
        builder.seed(1).min_admitted_share(0.0).build().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn of_http_health_checks_are_exempt_and_the_others_told_when_to_come_back_and_the_load() {
        let dial = Dial::default();
        let layer = by_dial(steadfast::http::load_shed(), &dial);
        let inner = service_fn(|_: Request<()>| async {
            Ok::<_, steadfast::Error<Error>>(Response::new(String::new()))
        });
        let mut service = ServiceBuilder::new()
            .layer(LoadReportLayer::new(layer.handle()))
            .layer(AnswerRefusalsLayer::new())
            .layer(layer.clone())
            .service(inner);
        let mut get = |path: &str| {
            let request = Request::get(path).body(()).unwrap();
            call(&mut service, request).unwrap()
        };
        dial.set(1e9);
        while layer.handle().snapshot().shed_share < 0.99 {
            (0..50).for_each(|_| drop(get("/users")));
            advance(INTERVAL).await;
        }
        for path in ["/users", "/", "/healthz/users", "/Healthz", "/health/"] {
            let responses: Vec<_> = (0..20).map(|_| get(path)).collect();
            let refused = responses.iter().filter(|it| it.status() == 503);
            let refused: Vec<_> = refused.collect();
            assert!(refused.len() > 15, "{path}");
            for response in refused {
                let delay = response.headers()["retry-after"].to_str().unwrap();
                assert!(["1", "2"].contains(&delay), "{delay}");
                let load = EndpointLoadMetrics.load(response.headers()).unwrap();
                assert!(load.utilization() > 1.0, "{load:?}");
            }
        }
        for path in ["/health", "/healthz", "/livez", "/readyz?verbose"] {
            assert!((0..20).all(|_| get(path).status() == 200), "{path}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn of_http_a_call_is_in_flight_until_the_end_of_its_body() {
        let layer = steadfast::http::load_shed().in_flight(1).build().unwrap();
        let body = || Full::new(Bytes::from_static(b"all"));
        let mut service = layer.layer(service_fn(move |_: Request<()>| async move {
            Ok::<_, Error>(Response::new(body()))
        }));
        let response = call(&mut service, Request::new(())).unwrap();
        advance(INTERVAL).await;
        assert_eq!(layer.handle().snapshot().in_flight, 1);
        drop(response);
        advance(INTERVAL).await;
        assert_eq!(layer.handle().snapshot().in_flight, 0);
    }

    #[cfg(feature = "grpc")]
    #[tokio::test(start_paused = true)]
    async fn of_grpc_health_checks_are_exempt_and_the_others_pushed_back_and_told_the_load() {
        use steadfast::grpc;
        use tonic::body::Body;

        let dial = Dial::default();
        let layer = by_dial(grpc::load_shed(), &dial);
        let inner = service_fn(|_: Request<()>| async {
            Ok::<_, steadfast::Error<Error>>(Response::new(Body::empty()))
        });
        let mut service = ServiceBuilder::new()
            .layer(LoadReportLayer::new(layer.handle()))
            .layer(grpc::AnswerRefusalsLayer::new())
            .layer(layer.clone())
            .service(inner);
        let mut ask = |path: &str| {
            let request = Request::post(path).body(()).unwrap();
            call(&mut service, request).unwrap()
        };
        dial.set(1e9);
        while layer.handle().snapshot().shed_share < 0.99 {
            (0..50).for_each(|_| drop(ask("/relay.Relay/Ask")));
            advance(INTERVAL).await;
        }
        let responses: Vec<_> = (0..20).map(|_| ask("/relay.Relay/Ask")).collect();
        let refused = responses
            .iter()
            .filter(|it| it.headers().contains_key("grpc-status"));
        let refused: Vec<_> = refused.collect();
        assert!(refused.len() > 15);
        for response in refused {
            let headers = response.headers();
            assert_eq!(headers["grpc-status"], "14");
            let millis: u64 = headers["grpc-retry-pushback-ms"]
                .to_str()
                .unwrap()
                .parse()
                .unwrap();
            assert!((1_000..=2_000).contains(&millis), "{millis}");
            assert!(headers.contains_key("endpoint-load-metrics"));
        }
        for path in [
            "/grpc.health.v1.Health/Check",
            "/grpc.health.v1.Health/Watch",
        ] {
            let passes = |response: Response<_>| !response.headers().contains_key("grpc-status");
            assert!((0..20).all(|_| passes(ask(path))), "{path}");
        }
    }
}
