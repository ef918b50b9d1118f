//! The circuit breaker's modes, its ramp, and who is told of its changes.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use steadfast::{
    Reason,
    backoff::{Backoff, Jitter},
    circuit_breaker::{
        Cause, CircuitBreaker, CircuitBreakerBuilder, CircuitBreakerHandle, CircuitBreakerLayer,
        MissedChanges, Mode, Ramp, State, StateChange, Thresholds,
    },
};
use tokio::time::{Instant, advance};
use tower::{Layer, Service, ServiceExt};

use crate::support::{
    Act, CountingWaker, Error, Scripted, Watch, ms, poll_once, secs, send, send_contained,
};

type Breaker = CircuitBreaker<Scripted>;

fn build(builder: CircuitBreakerBuilder) -> (Breaker, CircuitBreakerHandle, Watch) {
    let layer = builder.build().unwrap();
    let (service, watch) = Scripted::new();
    (layer.layer(service), layer.handle(), watch)
}

/// Opens after a failure for exactly one second, then lets one probe pass.
fn brittle() -> CircuitBreakerBuilder {
    CircuitBreakerLayer::builder()
        .name("db")
        .consecutive_failures(1)
        .open_time(Backoff::constant(secs(1)).with_jitter(Jitter::None))
        .half_open_probes(1)
}

/// How many of so many calls reach the inner service.
async fn passed(breaker: &mut Breaker, watch: &Watch, calls: usize, act: Act) -> usize {
    let before = watch.calls();
    for _ in 0..calls {
        let _ = send(breaker, act.clone()).await;
    }
    watch.calls() - before
}

#[tokio::test(start_paused = true)]
async fn the_five_modes_are_five() {
    // By mode: of ten failures, how many reach the service; what is counted; and the state after.
    let counted = |handle: &CircuitBreakerHandle| {
        let counts = handle.snapshot().statistics.count_window;
        counts.map(|counts| counts.failed)
    };
    let cases = [
        (Mode::Enabled, 4, None, State::Open),
        (Mode::ObserveOnly, 10, None, State::Open),
        (Mode::ForcedClosed, 10, Some(10), State::ForcedClosed),
        (Mode::ForcedOpen, 0, None, State::ForcedOpen),
        (Mode::Disabled, 10, None, State::Disabled),
    ];
    let rule = || {
        let window = Thresholds::failure_rate(0.5).minimum_calls(4);
        CircuitBreakerLayer::builder().count_window(100, window)
    };
    for (mode, calls, failed, state) in cases {
        let at_build = build(rule().mode(mode));
        let set = build(rule());
        set.1.set_mode(mode);
        for (mut breaker, handle, watch) in [at_build, set] {
            assert_eq!((handle.mode(), handle.snapshot().mode), (mode, mode));
            assert_eq!(passed(&mut breaker, &watch, 10, Act::Fail(1)).await, calls);
            assert_eq!(
                (counted(&handle), handle.state()),
                (failed, state),
                "{mode:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_breaker_built_in_a_mode_can_be_told_otherwise() {
    let (mut breaker, handle, watch) = build(brittle().mode(Mode::ForcedOpen));
    let rejected = send(&mut breaker, Act::Succeed)
        .await
        .unwrap_err()
        .rejected();
    assert_eq!(
        (rejected.reason(), rejected.retry_after()),
        (Reason::CircuitOpen, None)
    );
    assert_eq!(handle.snapshot().cause, None, "it has never changed");
    handle.set_mode(Mode::Enabled);
    assert_eq!(handle.state(), State::HalfOpen, "it probes");
    assert_eq!(send(&mut breaker, Act::Succeed).await, Ok(1));

    handle.set_mode(Mode::Disabled);
    assert_eq!(passed(&mut breaker, &watch, 10, Act::Fail(1)).await, 10);
    handle.set_mode(Mode::Enabled);
    assert_eq!(handle.state(), State::Closed);
    assert_eq!(handle.snapshot().statistics.consecutive_failures, 0);
    assert_eq!(passed(&mut breaker, &watch, 10, Act::Fail(1)).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_runs_while_the_mode_changes_decides_nothing_in_a_mode_it_was_not_let_pass_in()
{
    for mode in [Mode::Disabled, Mode::ForcedClosed, Mode::ForcedOpen] {
        let (mut breaker, handle, _) = build(brittle());
        let mut running = pin!(breaker.ready().await.unwrap().call(Act::FailAfter(ms(1))));
        assert!(poll_once(running.as_mut()).is_pending());
        handle.set_mode(mode);
        let mut inside = pin!(breaker.ready().await.unwrap().call(Act::FailAfter(ms(2))));
        let refused = poll_once(inside.as_mut());
        assert_eq!(refused.is_ready(), mode == Mode::ForcedOpen);
        running.await.unwrap_err();
        assert_eq!(handle.mode(), mode);
        assert_eq!(handle.snapshot().statistics.consecutive_failures, 0);
        handle.reset();
        if refused.is_pending() {
            inside.await.unwrap_err();
        }
        assert_eq!(handle.snapshot().statistics.consecutive_failures, 0);
        assert_eq!(handle.state(), State::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_shadow_tells_what_it_would_have_done_and_does_it_once_enabled() {
    let (mut breaker, handle, watch) = build(brittle().mode(Mode::ObserveOnly));
    let mut changes = handle.state_changes();
    assert_eq!(passed(&mut breaker, &watch, 10, Act::Fail(1)).await, 10);
    let change = changes.next().await.unwrap().unwrap();
    assert_eq!(
        (change.to, change.cause, change.mode),
        (State::Open, Cause::ConsecutiveFailures, Mode::ObserveOnly)
    );
    assert_eq!(handle.snapshot().spared, 9);
    // The probe is the one that the machine lets pass; what is spared beside it decides nothing.
    advance(secs(1)).await;
    let mut probe = pin!(breaker.ready().await.unwrap().call(Act::Take(ms(1))));
    assert!(poll_once(probe.as_mut()).is_pending());
    assert_eq!(passed(&mut breaker, &watch, 5, Act::Fail(1)).await, 5);
    assert_eq!(handle.state(), State::HalfOpen);
    probe.await.unwrap();
    assert_eq!(handle.state(), State::Closed);

    send(&mut breaker, Act::Fail(1)).await.unwrap_err();
    handle.set_mode(Mode::Enabled);
    send(&mut breaker, Act::Succeed)
        .await
        .unwrap_err()
        .rejected();
}

/// Opened, and past its probe.
async fn recovering(ramp: Ramp) -> (Breaker, CircuitBreakerHandle, Watch) {
    let (mut breaker, handle, watch) = build(brittle().ramp(ramp));
    send(&mut breaker, Act::Fail(1)).await.unwrap_err();
    advance(secs(1)).await;
    send(&mut breaker, Act::Succeed).await.unwrap();
    assert_eq!(handle.state(), State::Recovering);
    (breaker, handle, watch)
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_calls_come_back_in_steps() {
    let ramp = Ramp::steps([0.1, 0.25, 0.5], secs(10));
    let (mut breaker, handle, watch) = recovering(ramp).await;
    assert_eq!(handle.snapshot().ends_in, Some(secs(30)));
    for share in [10, 25, 50] {
        assert_eq!(passed(&mut breaker, &watch, 100, Act::Succeed).await, share);
        advance(secs(10)).await;
    }
    assert_eq!(passed(&mut breaker, &watch, 100, Act::Succeed).await, 100);
    assert_eq!(handle.state(), State::Closed);
    assert_eq!(handle.snapshot().cause, Some(Cause::RampOver));
}

#[tokio::test(start_paused = true)]
async fn what_a_ramp_refuses_may_come_back_when_the_step_is_over() {
    let (mut breaker, _, _) = recovering(Ramp::linear(3, secs(30))).await;
    send(&mut breaker, Act::Succeed).await.unwrap();
    advance(secs(4)).await;
    let rejected = send(&mut breaker, Act::Succeed)
        .await
        .unwrap_err()
        .rejected();
    assert_eq!(
        (rejected.reason(), rejected.retry_after()),
        (Reason::CircuitOpen, Some(secs(6)))
    );
}

#[tokio::test(start_paused = true)]
async fn a_failure_in_a_ramp_opens_it_again_for_longer() {
    let open_time = Backoff::exponential(secs(1), secs(60)).unwrap();
    let builder = brittle().open_time(open_time.with_jitter(Jitter::None));
    let (mut breaker, handle, _) = build(builder.ramp(Ramp::linear(9, secs(9))));
    send(&mut breaker, Act::Fail(1)).await.unwrap_err();
    advance(secs(1)).await;
    send(&mut breaker, Act::Succeed).await.unwrap();
    send(&mut breaker, Act::Fail(1)).await.unwrap_err();
    assert_eq!(handle.snapshot().cause, Some(Cause::ConsecutiveFailures));
    assert_eq!(handle.snapshot().ends_in, Some(secs(2)));
}

#[tokio::test(start_paused = true)]
async fn a_call_of_the_outage_decides_nothing_in_the_ramp_after_it() {
    let (mut breaker, handle, _) = build(brittle().ramp(Ramp::linear(1, secs(60))));
    let mut late = pin!(breaker.ready().await.unwrap().call(Act::FailAfter(secs(2))));
    assert!(poll_once(late.as_mut()).is_pending());
    send(&mut breaker, Act::Fail(1)).await.unwrap_err();
    advance(secs(1)).await;
    send(&mut breaker, Act::Succeed).await.unwrap();
    late.await.unwrap_err();
    assert_eq!(handle.state(), State::Recovering);
}

#[test]
fn a_ramp_that_cannot_work_is_refused_by_name() {
    let cases = [
        (Ramp::steps([], secs(1)), "ramp.shares"),
        (Ramp::steps([0.5, 0.2], secs(1)), "ramp.shares"),
        (Ramp::steps([0.5], ms(0)), "ramp.step_duration"),
        (Ramp::linear(0, secs(1)), "ramp.steps"),
        (Ramp::linear(5, ms(0)), "ramp.duration"),
    ];
    for (ramp, setting) in cases {
        let error = brittle().ramp(ramp).build().unwrap_err();
        assert_eq!(error.setting(), setting);
    }
}

/// Keeps what a listener is told.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<StateChange>>>);

impl Told {
    fn listener(&self) -> impl Fn(&StateChange) + Send + Sync + 'static {
        let told = self.clone();
        move |change| told.0.lock().unwrap().push(*change)
    }

    fn states(&self) -> Vec<(u64, State, State)> {
        let told = self.0.lock().unwrap();
        told.iter().map(|it| (it.number, it.from, it.to)).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn every_listener_is_told_of_every_change_and_all_about_it() {
    let (first, second) = (Told::default(), Told::default());
    let builder = brittle()
        .on_state_change(first.listener())
        .on_state_change(second.listener());
    let (mut breaker, handle, _) = build(builder);
    let began = Instant::now();
    send(&mut breaker, Act::Fail(1)).await.unwrap_err();
    advance(secs(1)).await;
    send(&mut breaker, Act::Succeed).await.unwrap();
    handle.force_open_for(secs(9));

    use State::{Closed, ForcedOpen, HalfOpen, Open};
    let expected = [
        (1, Closed, Open),
        (2, Open, HalfOpen),
        (3, HalfOpen, Closed),
        (4, Closed, ForcedOpen),
    ];
    assert_eq!(first.states(), expected);
    let [opened, probing, closed, forced] = first.0.lock().unwrap()[..] else {
        unreachable!("four were told just now");
    };
    assert_eq!(
        (opened.name, opened.mode, opened.at),
        ("db", Mode::Enabled, began)
    );
    assert_eq!(opened.cause, Cause::ConsecutiveFailures);
    assert_eq!((opened.ends_in, opened.open_for), (Some(secs(1)), None));
    assert_eq!((probing.ends_in, probing.open_for), (None, None));
    assert_eq!((closed.ends_in, closed.open_for), (None, Some(secs(1))));
    assert_eq!(closed.at, began + secs(1));
    assert_eq!(
        (forced.mode, forced.ends_in),
        (Mode::ForcedOpen, Some(secs(9)))
    );
    assert_eq!(*second.0.lock().unwrap(), *first.0.lock().unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_listener_may_steer_the_breaker_it_listens_to() {
    let handle: Arc<OnceLock<CircuitBreakerHandle>> = Arc::default();
    let told = Told::default();
    let (listener, steered) = (told.listener(), handle.clone());
    let layer = brittle()
        .on_state_change(move |change| {
            let handle = steered.get().unwrap();
            assert_eq!(handle.snapshot().state, change.to);
            if change.to == State::Open {
                handle.force_closed();
            }
            listener(change);
        })
        .build()
        .unwrap();
    handle.set(layer.handle()).unwrap();
    let mut breaker = layer.layer(Scripted::new().0);
    send(&mut breaker, Act::Fail(1)).await.unwrap_err();
    assert_eq!(layer.handle().state(), State::ForcedClosed);
    // It hears of what it did before it has returned.
    let numbers: Vec<_> = told.states().iter().map(|(number, ..)| *number).collect();
    assert_eq!(numbers, [2, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_panics_harms_neither_the_breaker_nor_the_call_nor_the_others() {
    let told = Told::default();
    let (mut breaker, handle, watch) = build(
        brittle()
            .on_state_change(|_| panic!("a listener's own"))
            .on_state_change(told.listener()),
    );
    assert_eq!(
        send(&mut breaker, Act::Fail(7)).await,
        Err(Error::Failed(7))
    );
    assert_eq!(handle.state(), State::Open);
    assert_eq!(watch.in_flight(), 0);
    advance(secs(1)).await;
    send(&mut breaker, Act::Succeed).await.unwrap();
    assert_eq!((handle.state(), told.states().len()), (State::Closed, 3));
    handle.force_open();
    assert_eq!(told.states().len(), 4);
}

/// Panics when it is dropped.
struct Grenade;

impl Drop for Grenade {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("dropped");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_panics_while_a_call_unwinds_aborts_nothing() {
    let told = Told::default();
    let (breaker, handle, _) = build(
        brittle()
            .on_state_change(|_| panic!("a listener's own"))
            .on_state_change(|_| std::panic::panic_any(Grenade))
            .on_state_change(told.listener()),
    );
    send_contained(&breaker, Act::Panic).await.unwrap_err();
    assert_eq!((handle.state(), told.states().len()), (State::Open, 1));
    // And where nothing else panics, what it panicked with does.
    let reset = catch_unwind(AssertUnwindSafe(|| handle.reset()));
    assert!(reset.is_ok());
    assert_eq!(told.states().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_reader_is_told_of_the_changes_since_it_began_to_read_and_woken_for_them() {
    let (_, handle, _) = build(brittle());
    handle.force_open();
    let mut changes = handle.state_changes();
    let (counter, waker) = CountingWaker::new();
    {
        let mut next = pin!(changes.next());
        let mut cx = std::task::Context::from_waker(&waker);
        assert!(std::future::Future::poll(next.as_mut(), &mut cx).is_pending());
        handle.reset();
        assert_eq!(counter.woken(), 1);
    }
    // What it waited for is not lost with the future.
    let change = changes.next().await.unwrap().unwrap();
    assert_eq!(
        (change.number, change.to, change.cause),
        (2, State::Closed, Cause::Reset)
    );
    assert!(poll_once(pin!(changes.next())).is_pending());
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_is_too_slow_is_told_how_much_it_missed_and_goes_on_from_there() {
    let (_, handle, _) = build(brittle());
    let (mut slow, mut other) = (handle.state_changes(), handle.state_changes());
    for _ in 0..1_000 {
        handle.force_open();
    }
    let Some(Err(MissedChanges { count, .. })) = slow.next().await else {
        panic!("it kept all of them");
    };
    let rest = 1_000 - count;
    assert_eq!(rest, 64);
    for number in count + 1..=1_000 {
        assert_eq!(slow.next().await.unwrap().unwrap().number, number);
    }
    handle.reset();
    assert_eq!(slow.next().await.unwrap().unwrap().number, 1_001);
    assert!(other.next().await.unwrap().is_err(), "each for itself");
}

#[tokio::test(start_paused = true)]
async fn a_reader_learns_that_the_breaker_is_gone() {
    // On a thread of its own, whose pool goes with it.
    let mut changes = std::thread::spawn(|| brittle().build().unwrap().handle().state_changes())
        .join()
        .unwrap();
    assert_eq!(changes.next().await, None);
}

#[test]
fn changes_that_threads_make_at_once_are_each_told_once_with_a_number_of_their_own() {
    let told = Told::default();
    let (_, handle, _) = build(brittle().on_state_change(told.listener()));
    let calls = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..100 {
                    handle.reset();
                    calls.fetch_add(1, SeqCst);
                }
            });
        }
    });
    let mut numbers: Vec<_> = told.states().iter().map(|(number, ..)| *number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=400).collect::<Vec<_>>());
    assert_eq!(calls.into_inner(), 400);
}

#[tokio::test(start_paused = true)]
async fn an_endless_ramp_breaks_nothing() {
    let (mut breaker, handle, watch) = recovering(Ramp::linear(3, Duration::MAX)).await;
    assert_eq!(passed(&mut breaker, &watch, 100, Act::Succeed).await, 25);
    advance(secs(3600 * 24 * 365)).await;
    assert_eq!(passed(&mut breaker, &watch, 100, Act::Succeed).await, 25);
    assert_eq!(handle.state(), State::Recovering);
}
