//! The decision that sees request and outcome together.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use steadfast::{
    Verdict,
    budget::Budget,
    bulkhead::BulkheadLayer,
    classify::{Failure, Hint},
};
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};

use super::{Opaque, Seen, plain};
use crate::support::{Act, Error, Scripted, Told, send, send_contained};

#[tokio::test(start_paused = true)]
async fn it_sees_the_request_and_the_outcome_together() {
    let seen = Seen::default();
    let service = service_fn(|path: &'static str| {
        seen.note();
        let is_found = path.ends_with("/here");
        async move {
            if is_found {
                Ok(200)
            } else {
                Err(Error::Failed(404))
            }
        }
    });
    let retry_if = |path: &&str, outcome: Result<&u32, &Error>| {
        path.starts_with("/new") && outcome == Err(&Error::Failed(404))
    };
    let layer = plain().retry_if(retry_if).build().unwrap();
    for (path, calls) in [
        ("/new/gone", 3),
        ("/new/here", 1),
        ("/old/gone", 1),
        ("/old/here", 1),
    ] {
        let before = seen.calls();
        let _ = layer.layer(service).oneshot(path).await;
        assert_eq!(seen.calls() - before, calls, "{path}");
    }
}

/// How many calls it takes where each is answered like this and the function says that.
async fn calls(says: bool, verdict: Verdict) -> usize {
    let (service, watch) = Scripted::new();
    let layer = plain()
        .classifier(Told)
        .retry_if(move |_: &Act, _: Result<&u32, &Error>| says)
        .build()
        .unwrap();
    let _ = send(&mut layer.layer(service), Act::Say(verdict)).await;
    watch.calls()
}

#[tokio::test(start_paused = true)]
async fn it_has_its_way_over_the_classifier_but_not_over_what_the_service_said() {
    let failures = [
        Failure::transient(),
        Failure::overload(),
        Failure::timeout(),
    ];
    for failure in failures {
        assert_eq!(calls(true, failure.into()).await, 3);
        assert_eq!(calls(false, failure.into()).await, 1);
    }
    for verdict in [
        Verdict::Success,
        Verdict::Ignored,
        Failure::permanent().into(),
        Failure::timeout().non_retryable().into(),
    ] {
        assert_eq!(calls(true, verdict).await, 3, "{verdict:?}");
        assert_eq!(calls(false, verdict).await, 1, "{verdict:?}");
    }
    for failure in [Failure::transient(), Failure::permanent()] {
        let never = failure.with_hint(Hint::Never);
        assert_eq!(calls(true, never.into()).await, 1);
    }
    assert_eq!(calls(false, Failure::never_sent().into()).await, 1);
}

#[tokio::test(start_paused = true)]
async fn it_is_not_asked_about_refusals_nor_where_there_is_nothing_to_try_again_with() {
    let asked = Arc::new(AtomicUsize::new(0));
    let retry_if = {
        let asked = asked.clone();
        move |_: &Act, _: Result<&u32, &Error>| {
            asked.fetch_add(1, SeqCst);
            true
        }
    };
    let layer = plain().retry_if(retry_if.clone()).build().unwrap();
    let (service, watch) = Scripted::new();
    let refused = ServiceBuilder::new()
        .layer(layer.clone())
        .layer(BulkheadLayer::new(0))
        .service(service.clone());
    refused.oneshot(Act::Succeed).await.unwrap_err().rejected();
    assert_eq!((asked.load(SeqCst), watch.calls()), (0, 0));

    send(&mut layer.layer(service), Act::Fail(1))
        .await
        .unwrap_err();
    assert_eq!(
        (asked.load(SeqCst), watch.calls()),
        (2, 3),
        "not after the last"
    );

    let layer = plain()
        .clone_request(|_: &Opaque| None)
        .retry_if(|_: &Opaque, _: Result<&u32, &Error>| panic!("there is no request"))
        .build()
        .unwrap();
    let service = service_fn(|_: Opaque| async { Err::<u32, _>(Error::Failed(1)) });
    layer.layer(service).oneshot(Opaque).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn what_it_has_tried_again_feeds_no_budget_and_what_it_lets_stand_is_the_classifiers() {
    let budget = Budget::new(1.0).unwrap().with_floor(0);
    budget.deposit();
    budget.deposit();
    let (service, watch) = Scripted::new();
    let until_third = |_: &Act, outcome: Result<&u32, &Error>| outcome != Ok(&3);
    let layer = plain().budget(budget.clone()).retry_if(until_third);
    let mut retry = layer.build().unwrap().layer(service);
    // Three successes, two of which were not good enough: two taken, and one paid in.
    assert_eq!(send(&mut retry, Act::Succeed).await, Ok(3));
    assert_eq!((watch.calls(), budget.balance()), (3, 1.0));
    // One taken; then none is left, and the second success stands.
    assert_eq!(send(&mut retry, Act::Succeed).await, Ok(2));
    assert_eq!((watch.calls(), budget.balance()), (5, 1.0));
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_it_gives_back_what_the_call_holds() {
    let budget = Budget::of_active(1.0).unwrap().with_floor(0);
    let (service, watch) = Scripted::new();
    let panics = |_: &Act, outcome: Result<&u32, &Error>| match outcome {
        Err(Error::Failed(2)) => panic!("at the second failure"),
        _ => true,
    };
    let layer = plain()
        .budget(budget.clone())
        .retry_if(panics)
        .build()
        .unwrap();
    let retry = layer.layer(service);
    send_contained(&retry, Act::FailTimes(9)).await.unwrap_err();
    assert_eq!(watch.calls(), 2);
    assert_eq!(budget.balance(), 0.0, "no call is active");
    let mut call = budget.ticket();
    assert!(
        call.try_retry(steadfast::classify::FailureKind::Transient),
        "and no place taken"
    );
}
