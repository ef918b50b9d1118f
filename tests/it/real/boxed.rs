//! Services whose type tower has erased.

use std::time::Duration;

use steadfast::{
    Reason, Rejected, TimedOut, bulkhead::BulkheadLayer, retry::RetryLayer, timeout::TimeoutLayer,
};
use tower::{
    BoxError, ServiceBuilder, ServiceExt, service_fn,
    util::{BoxCloneService, BoxCloneSyncService, BoxService},
};

use super::{breaker, every, ms};

async fn wait(millis: u64) -> Result<u64, BoxError> {
    tokio::time::sleep(ms(millis)).await;
    if millis == 13 {
        return Err("unlucky".into());
    }
    Ok(millis)
}

#[tokio::test(start_paused = true)]
async fn each_layer_fits_a_box_that_can_be_cloned_and_into_another() {
    macro_rules! check {
        ($name:literal, $layer:expr) => {
            let svc = BoxCloneService::new(service_fn(wait));
            let svc = ServiceBuilder::new().layer($layer).service(svc);
            let svc = BoxCloneService::new(svc);
            assert_eq!(svc.clone().oneshot(7).await.unwrap(), 7, $name);
        };
    }
    with_each_layer!(check, retry: RetryLayer::builder().build().unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_makes_no_clone_fits_a_box_that_has_none() {
    macro_rules! check {
        ($name:literal, $layer:expr) => {
            let svc = BoxService::new(service_fn(wait));
            let svc = ServiceBuilder::new().layer($layer).service(svc);
            assert_eq!(BoxService::new(svc).oneshot(7).await.unwrap(), 7, $name);
        };
    }
    with_each_layer!(check);
}

#[tokio::test(start_paused = true)]
async fn the_whole_stack_can_be_boxed_at_any_height() {
    let retry = RetryLayer::builder().backoff(every(ms(1)));
    let svc = ServiceBuilder::new()
        .layer(BoxCloneSyncService::layer())
        .layer(BulkheadLayer::new(1))
        .layer(BoxCloneSyncService::layer())
        .layer(retry.without_budget().build().unwrap())
        .layer(BoxCloneSyncService::layer())
        .layer(breaker(3).build().unwrap())
        .layer(BoxCloneSyncService::layer())
        .layer(TimeoutLayer::new(Duration::from_secs(1)).unwrap())
        .layer(BoxCloneSyncService::layer())
        .service_fn(wait);
    assert_eq!(svc.clone().oneshot(7).await.unwrap(), 7);

    let error = svc.clone().oneshot(9_999).await.unwrap_err();
    assert!(TimedOut::find(&*error).is_some(), "after three attempts");
    // A box in between does not hide who refused: the retry does not repeat what the breaker said.
    let error = svc.oneshot(7).await.unwrap_err();
    assert_eq!(
        Rejected::find(&*error).unwrap().reason(),
        Reason::CircuitOpen
    );
}
