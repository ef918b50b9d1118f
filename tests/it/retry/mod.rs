//! The retry as its users see it.

mod budgets;
mod decisions;
mod handed_back;
mod hints;
mod nested;
mod never_sent;

use std::{
    collections::HashSet,
    num::NonZeroU32,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::Poll,
    time::Duration,
};

use futures_util::future::join_all;
use steadfast::{
    Context, Verdict,
    backoff::{Backoff, Jitter},
    budget::Budget,
    bulkhead::BulkheadLayer,
    circuit_breaker::CircuitBreakerLayer,
    classify::{Failure, Hint},
    retry::{Cloned, Retry, RetryBuilder, RetryLayer},
    timeout::TimeoutLayer,
};
use tokio::time::{Instant, advance};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, limit::ConcurrencyLimitLayer, service_fn};

use crate::support::{Act, Error, Scripted, Told, Watch, ms, poll_once, secs, send};

fn plain() -> RetryBuilder {
    RetryLayer::builder()
        .without_budget()
        .backoff(Backoff::constant(ms(10)).with_jitter(Jitter::None))
}

/// What a service saw at each call: when, with which number, and below a retry that has the say.
#[derive(Clone, Debug, Default)]
struct Seen(Arc<std::sync::Mutex<Vec<(Instant, Context)>>>);

impl Seen {
    fn note(&self) {
        let now = (Instant::now(), Context::current());
        self.0.lock().unwrap().push(now);
    }

    fn calls(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn attempts(&self) -> Vec<u32> {
        let seen = self.0.lock().unwrap();
        seen.iter()
            .map(|(_, context)| context.attempt().get())
            .collect()
    }

    /// Milliseconds between the calls.
    fn delays(&self) -> Vec<u128> {
        let seen = self.0.lock().unwrap();
        let pairs = seen.windows(2);
        pairs
            .map(|pair| (pair[1].0 - pair[0].0).as_millis())
            .collect()
    }
}

fn build(builder: RetryBuilder) -> (Retry<Scripted>, Watch) {
    let (service, watch) = Scripted::new();
    (builder.build().unwrap().layer(service), watch)
}

#[tokio::test(start_paused = true)]
async fn out_of_the_box_it_makes_three_attempts_in_all() {
    let (mut retry, watch) = build(RetryLayer::builder().without_budget());
    assert_eq!(send(&mut retry, Act::Fail(7)).await, Err(Error::Failed(7)));
    assert_eq!(watch.calls(), 3);
    assert_eq!(send(&mut retry, Act::FailTimes(2)).await, Ok(3));
    assert_eq!(send(&mut retry, Act::Succeed).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn what_comes_back_in_the_end_is_the_last_real_result() {
    let (mut retry, _) = build(plain());
    // The number of the error is that of the attempt.
    assert_eq!(
        send(&mut retry, Act::FailTimes(99)).await,
        Err(Error::Failed(3))
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_may_have_attempts_of_its_own() {
    let attempts = |act: &Act| match act {
        Act::Fail(n) => NonZeroU32::new(*n),
        _ => None,
    };
    let (service, watch) = Scripted::new();
    let layer = plain().max_attempts_per_request(attempts).build().unwrap();
    let mut retry = layer.layer(service);
    for (act, calls) in [
        (Act::Fail(1), 1),
        (Act::Fail(5), 5),
        (Act::FailTimes(99), 3),
    ] {
        let before = watch.calls();
        send(&mut retry, act).await.unwrap_err();
        assert_eq!(watch.calls() - before, calls);
    }
}

/// How many milliseconds pass before each attempt after the first.
async fn delays(backoff: Backoff, attempts: u32) -> Vec<u128> {
    let seen = Seen::default();
    let service = service_fn({
        let seen = seen.clone();
        move |()| {
            seen.note();
            async { Err::<u32, _>(Error::Failed(0)) }
        }
    });
    let layer = RetryLayer::builder()
        .without_budget()
        .max_attempts(attempts)
        .backoff(backoff);
    layer
        .build()
        .unwrap()
        .layer(service)
        .oneshot(())
        .await
        .unwrap_err();
    seen.delays()
}

#[tokio::test(start_paused = true)]
async fn it_waits_as_its_backoff_says() {
    let none = Jitter::None;
    let constant = Backoff::constant(ms(7)).with_jitter(none);
    assert_eq!(delays(constant, 4).await, [7; 3]);
    let linear = Backoff::linear(ms(10), ms(25)).unwrap().with_jitter(none);
    assert_eq!(delays(linear, 4).await, [10, 20, 25]);
    let exponential = Backoff::exponential(ms(10), ms(60))
        .unwrap()
        .with_jitter(none);
    assert_eq!(delays(exponential.clone(), 5).await, [10, 20, 40, 60]);
    let tripled = exponential.with_factor(3.0).unwrap();
    assert_eq!(delays(tripled, 4).await, [10, 30, 60]);
    let custom = Backoff::from_fn(ms(50), |retry| ms(u64::from(retry * retry) * 10));
    assert_eq!(delays(custom, 4).await, [10, 40, 50]);
}

#[tokio::test(start_paused = true)]
async fn jitter_is_on_by_default_and_first_delays_differ_between_calls_clones_and_layers() {
    let first_delay = |mut retry: Retry<Scripted>| async move {
        let before = Instant::now();
        let _ = send(&mut retry, Act::FailTimes(1)).await;
        before.elapsed()
    };
    let coarse = Backoff::exponential(secs(100), secs(1000)).unwrap();
    let builder = || {
        RetryLayer::builder()
            .without_budget()
            .backoff(coarse.clone())
    };
    let (one, _) = build(builder());
    let of_clones = join_all((0..50).map(|_| first_delay(one.clone()))).await;
    let of_layers = join_all((0..50).map(|_| first_delay(build(builder()).0))).await;
    for drawn in [of_clones, of_layers] {
        assert!(drawn.iter().all(|delay| *delay <= secs(101)));
        assert!(drawn.iter().collect::<HashSet<_>>().len() > 45);
    }
    let of_default = join_all((0..50).map(|_| first_delay(build(RetryLayer::builder()).0))).await;
    assert!(
        of_default.iter().collect::<HashSet<_>>().len() > 5,
        "25 ms, to the millisecond"
    );
}

#[tokio::test(start_paused = true)]
async fn a_seed_repeats_the_delays() {
    let delays = |seed| {
        let (mut retry, _) = build(RetryLayer::builder().without_budget().seed(seed));
        async move {
            let before = Instant::now();
            send(&mut retry, Act::Fail(1)).await.unwrap_err();
            before.elapsed()
        }
    };
    assert_eq!(delays(1).await, delays(1).await);
    assert_ne!(delays(1).await, delays(3).await);
}

#[tokio::test(start_paused = true)]
async fn a_zero_delay_touches_no_timer() {
    let (mut retry, watch) = build(plain().backoff(Backoff::none()));
    let failed = std::thread::spawn(move || {
        // No runtime on this thread: a timer could not even be made.
        let _ = poll_once(pin!(retry.ready()));
        poll_once(pin!(retry.call(Act::Fail(1))))
    });
    assert_eq!(failed.join().unwrap(), Poll::Ready(Err(Error::Failed(1))));
    assert_eq!(watch.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_total_time_bounds_attempts_and_delays_together_and_is_a_deadline_below() {
    let (service, watch) = Scripted::new();
    let mut retry = ServiceBuilder::new()
        .layer(
            plain()
                .max_attempts(1000)
                .total_time(ms(100))
                .build()
                .unwrap(),
        )
        .layer(TimeoutLayer::new(ms(40)).unwrap())
        .service(service);
    let before = Instant::now();
    // 0..40, 50..90, and no third: its delay would end at the deadline.
    let timed_out = send(&mut retry, Act::Hang).await.unwrap_err().timed_out();
    assert_eq!((watch.calls(), before.elapsed()), (2, ms(90)));
    assert_eq!(timed_out.waited(), ms(40));
}

#[tokio::test(start_paused = true)]
async fn no_attempt_is_started_for_which_the_deadline_leaves_no_room() {
    let calls_within = async |deadline, needs| {
        let (mut retry, watch) = build(plain().attempt_needs(needs));
        let before = Instant::now();
        let context = Context::new().with_timeout(deadline);
        let result = context.scope(send(&mut retry, Act::Fail(1))).await;
        assert_eq!(result, Err(Error::Failed(1)), "the last real result");
        (watch.calls(), before.elapsed())
    };
    // Attempts at 0, 10 and 20 ms.
    assert_eq!(calls_within(ms(21), ms(0)).await, (3, ms(20)));
    assert_eq!(calls_within(ms(20), ms(0)).await, (2, ms(10)));
    assert_eq!(
        calls_within(ms(10), ms(0)).await,
        (1, ms(0)),
        "it fails at once, not at the deadline"
    );
    assert_eq!(calls_within(ms(25), ms(5)).await, (2, ms(10)));
    assert_eq!(calls_within(ms(26), ms(5)).await, (3, ms(20)));
}

#[tokio::test(start_paused = true)]
async fn an_answer_can_be_a_failure_and_an_error_can_be_none() {
    let classifier = |result: Result<&u32, &Error>| match result {
        Ok(attempt) if *attempt < 3 => Failure::overload().into(),
        Err(Error::Failed(400)) => Verdict::Success,
        Err(Error::Failed(499)) => Verdict::Ignored,
        Err(Error::Failed(501)) => Failure::permanent().into(),
        Err(_) => Failure::transient().into(),
        Ok(_) => Verdict::Success,
    };
    let (service, watch) = Scripted::new();
    let mut retry = plain()
        .classifier(classifier)
        .build()
        .unwrap()
        .layer(service);
    assert_eq!(send(&mut retry, Act::Succeed).await, Ok(3));
    for not_retried in [400, 499, 501] {
        let before = watch.calls();
        send(&mut retry, Act::Fail(not_retried)).await.unwrap_err();
        assert_eq!(watch.calls() - before, 1, "{not_retried}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_layer_below_refused_is_not_retried_whatever_the_error_type() {
    let (service, watch) = Scripted::new();
    let breaker = CircuitBreakerLayer::builder().build().unwrap();
    breaker.handle().force_open();
    let counted = Arc::new(AtomicUsize::new(0));
    let layer = || {
        let counted = counted.clone();
        tower::util::MapRequestLayer::new(move |act: Act| {
            counted.fetch_add(1, SeqCst);
            act
        })
    };
    let mut retry = ServiceBuilder::new()
        .layer(plain().build().unwrap())
        .layer(layer())
        .layer(breaker)
        .service(service.clone());
    let before = Instant::now();
    send(&mut retry, Act::Succeed).await.unwrap_err().rejected();
    assert_eq!((counted.load(SeqCst), watch.calls()), (1, 0));
    assert_eq!(before.elapsed(), ms(0));

    // The user's own error in a box, and a bulkhead behind a timeout.
    let mut retry = ServiceBuilder::new()
        .layer(plain().build().unwrap())
        .layer(layer())
        .layer(TimeoutLayer::new(secs(1)).unwrap())
        .layer(BulkheadLayer::new(0))
        .map_err(tower::BoxError::from)
        .service(service_fn(|_: Act| async {
            Err::<u32, _>(std::io::Error::other("down"))
        }));
    retry
        .ready()
        .await
        .unwrap()
        .call(Act::Succeed)
        .await
        .unwrap_err();
    assert_eq!(counted.load(SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_follows_a_refusal_is_the_services_own_again() {
    let breaker = CircuitBreakerLayer::builder().build().unwrap();
    let handle = breaker.handle();
    let (service, watch) = Scripted::new();
    let mut retry = ServiceBuilder::new()
        .layer(plain().build().unwrap())
        .layer(breaker)
        .service(service);
    handle.force_open();
    send(&mut retry, Act::Fail(1)).await.unwrap_err().rejected();
    handle.reset();
    send(&mut retry, Act::Fail(1)).await.unwrap_err();
    assert_eq!(watch.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_given_up_by_a_timeout_below_is_a_failure_that_may_be_retried() {
    let (service, watch) = Scripted::new();
    let never_an_error = |_: Result<&u32, &Error>| Verdict::Success;
    let mut retry = ServiceBuilder::new()
        .layer(plain().classifier(never_an_error).build().unwrap())
        .layer(TimeoutLayer::new(ms(100)).unwrap())
        .service(service);
    send(&mut retry, Act::Hang).await.unwrap_err().timed_out();
    assert_eq!(
        watch.calls(),
        3,
        "though the classifier takes every result for a success"
    );
}

#[tokio::test(start_paused = true)]
async fn the_attempt_number_is_readable_below_and_the_rest_of_the_context_is_the_callers() {
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let service = service_fn({
        let seen = seen.clone();
        move |()| {
            let in_call = Context::current();
            let seen = seen.clone();
            async move {
                assert_eq!(Context::current(), in_call);
                seen.lock().unwrap().push(in_call);
                Err::<u32, _>(Error::Failed(1))
            }
        }
    });
    let context = Context::new().with_timeout(secs(60));
    let call = plain().build().unwrap().layer(service).oneshot(());
    context.scope(call).await.unwrap_err();
    let seen = seen.lock().unwrap();
    let attempts: Vec<_> = seen.iter().map(|context| context.attempt().get()).collect();
    assert_eq!(attempts, [1, 2, 3]);
    assert!(
        seen.iter()
            .all(|seen| seen.deadline() == context.deadline())
    );
}

/// Neither `Clone` nor anything else.
struct Opaque;

#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_be_cloned_goes_once_and_that_is_no_error() {
    let calls = AtomicUsize::new(0);
    let service = service_fn(|_: Opaque| {
        calls.fetch_add(1, SeqCst);
        async { Err::<u32, _>(Error::Failed(1)) }
    });
    let layer = plain().clone_request(|_: &Opaque| None).build().unwrap();
    let result = layer.layer(service).oneshot(Opaque).await;
    assert_eq!((result, calls.load(SeqCst)), (Err(Error::Failed(1)), 1));
}

/// Counts its clones.
struct Counted(Arc<AtomicUsize>);

impl Clone for Counted {
    fn clone(&self) -> Self {
        self.0.fetch_add(1, SeqCst);
        Self(self.0.clone())
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_is_not_cloned_where_no_further_attempt_is_possible() {
    let service = service_fn(|_: Counted| async { Err::<u32, _>(Error::Failed(1)) });
    for attempts in 1..=4 {
        let clones = Arc::new(AtomicUsize::new(0));
        let layer = plain().max_attempts(attempts).build().unwrap();
        let request = Counted(clones.clone());
        layer.layer(service).oneshot(request).await.unwrap_err();
        assert_eq!(clones.load(SeqCst) as u32, attempts - 1);
    }
}

#[tokio::test(start_paused = true)]
async fn every_attempt_waits_for_the_service_to_be_ready() {
    // A limit of one that another caller takes between the attempts.
    let (service, watch) = Scripted::new();
    let limited = ServiceBuilder::new()
        .layer(ConcurrencyLimitLayer::new(1))
        .service(service);
    let mut other = limited.clone();
    let mut retry = plain().build().unwrap().layer(limited);
    let before = Instant::now();
    let mut call = pin!(retry.ready().await.unwrap().call(Act::FailTimes(1)));
    assert!(poll_once(call.as_mut()).is_pending());
    let holder = tokio::spawn(async move { send(&mut other, Act::Take(secs(1))).await });
    assert_eq!(call.await, Ok(2));
    assert_eq!((before.elapsed(), watch.calls()), (secs(1), 3));
    holder.await.unwrap().unwrap();
}

fn hinted(hint: Hint) -> Act {
    Act::Say(Failure::overload().with_hint(hint).into())
}

#[tokio::test(start_paused = true)]
async fn a_hint_replaces_the_delay_is_never_shortened_and_is_capped() {
    let told = || plain().classifier(Told).max_attempts(2).max_hint(secs(5));
    let elapsed = async |builder: RetryBuilder<Told, Cloned>, hint, deadline| {
        let (service, watch) = Scripted::new();
        let mut retry = builder.build().unwrap().layer(service);
        let before = Instant::now();
        let context = Context::new().with_timeout(deadline);
        context
            .scope(send(&mut retry, hinted(hint)))
            .await
            .unwrap_err();
        (watch.calls(), before.elapsed())
    };
    let far = secs(3600);
    assert_eq!(
        elapsed(told(), Hint::After(secs(2)), far).await,
        (2, secs(2))
    );
    assert_eq!(elapsed(told(), Hint::After(ms(1)), far).await, (2, ms(1)));
    assert_eq!(elapsed(told(), Hint::After(ms(0)), far).await, (2, ms(0)));
    assert_eq!(
        elapsed(told(), Hint::After(secs(5)), far).await,
        (2, secs(5))
    );
    assert_eq!(
        elapsed(told(), Hint::After(secs(6)), far).await,
        (1, ms(0)),
        "beyond the cap"
    );
    assert_eq!(
        elapsed(told(), Hint::After(secs(2)), secs(2)).await,
        (1, ms(0)),
        "beyond the deadline"
    );
    assert_eq!(elapsed(told(), Hint::Never, far).await, (1, ms(0)));
    let endless = told().max_hint(Duration::MAX);
    assert_eq!(
        elapsed(endless, Hint::After(Duration::MAX), far).await,
        (1, ms(0))
    );
}

#[tokio::test(start_paused = true)]
async fn dropping_the_call_drops_the_attempt_it_is_in() {
    let (mut retry, watch) = build(plain());
    let mut call = Box::pin(retry.ready().await.unwrap().call(Act::Hang));
    assert!(poll_once(call.as_mut()).is_pending());
    assert_eq!(watch.in_flight(), 1);
    drop(call);
    assert_eq!(watch.in_flight(), 0);
    // And in its delay: no further attempt is made.
    let mut call = Box::pin(retry.ready().await.unwrap().call(Act::Fail(1)));
    assert!(poll_once(call.as_mut()).is_pending());
    drop(call);
    advance(secs(60)).await;
    assert_eq!(watch.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn endless_settings_never_panic() {
    let forever = Duration::MAX;
    let (mut retry, _) = build(
        plain()
            .max_attempts(u32::MAX)
            .attempt_needs(forever)
            .total_time(forever)
            .max_hint(forever)
            .backoff(Backoff::exponential(forever, forever).unwrap()),
    );
    assert_eq!(send(&mut retry, Act::Succeed).await, Ok(1));
    let context = Context::new().with_timeout(secs(1));
    context
        .scope(send(&mut retry, Act::Fail(1)))
        .await
        .unwrap_err();
    let waits = tokio::time::timeout(secs(3600), send(&mut retry, Act::Fail(1))).await;
    assert!(waits.is_err(), "for 584 years");
}

#[test]
fn every_wrong_setting_is_refused_by_name() {
    let build = |builder: RetryBuilder| builder.build().unwrap_err().setting();
    assert_eq!(build(RetryLayer::builder().max_attempts(0)), "max_attempts");
    assert_eq!(build(RetryLayer::builder().total_time(ms(0))), "total_time");
    assert_eq!(Budget::new(1.5).unwrap_err().setting(), "budget.ratio");
    assert_eq!(Budget::new(f64::NAN).unwrap_err().setting(), "budget.ratio");
    assert_eq!(
        Budget::default().with_max_balance(0).unwrap_err().setting(),
        "budget.max_balance"
    );
}
