//! What limits do to a service that has so much room and no more.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rand::{RngExt as _, SeedableRng, rngs::SmallRng};
use steadfast::{
    Verdict,
    adaptive::{Aimd, Bbr, Correlated, EnvoyGradient, Gradient2, LittlesLaw, Vegas},
    classify::Failure,
    timeout::TimeoutLayer,
};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep},
};
use tower::{Service, ServiceExt};

use super::*;
use crate::support::{Act, Error, secs, send};

/// Serves so many at a time, each for so long, in the order in which they came.
#[derive(Clone)]
struct Server {
    room: Arc<Semaphore>,
    takes: Duration,
}

impl Server {
    fn new(room: usize, takes: Duration) -> Self {
        let room = Arc::new(Semaphore::new(room));
        Self { room, takes }
    }
}

impl Service<()> for Server {
    type Response = ();
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        let Self { room, takes } = self.clone();
        Box::pin(async move {
            let _served = room.acquire_owned().await.unwrap();
            sleep(takes).await;
            Ok(())
        })
    }
}

/// What came of the calls of a load.
#[derive(Clone, Copy, Debug, Default)]
struct Came {
    answered: u32,
    refused: u32,
}

/// Sends so many calls a second, as they come by chance, for so long.
async fn load<S>(service: &S, per_second: f64, lasts: Duration) -> Came
where
    S: Service<(), Response = (), Error = Error> + Clone + Send + 'static,
    S::Future: Send,
{
    let mut rng = SmallRng::seed_from_u64(1);
    let came = Arc::new(Mutex::new(Came::default()));
    let end = Instant::now() + lasts;
    while Instant::now() < end {
        let gap = -(1.0 - rng.random::<f64>()).ln() / per_second;
        sleep(Duration::from_secs_f64(gap)).await;
        let (mut service, came) = (service.clone(), came.clone());
        tokio::spawn(async move {
            let result = service.ready().await.unwrap().call(()).await;
            let mut came = came.lock().unwrap();
            match result {
                Ok(()) => came.answered += 1,
                Err(Error::Rejected(_)) => came.refused += 1,
                Err(_) => {}
            }
        });
    }
    *came.lock().unwrap()
}

fn limited<L: Limit>(algorithm: L, server: Server) -> (Adaptive<Server>, AdaptiveHandle) {
    let layer = AdaptiveLayer::builder()
        .algorithm(algorithm)
        .build()
        .unwrap();
    (layer.layer(server), layer.handle())
}

#[tokio::test(start_paused = true)]
async fn two_hundred_calls_one_after_another_do_not_raise_the_limit() {
    let algorithms: [(&str, Box<dyn Limit>); 4] = [
        ("aimd", Box::new(Aimd::default())),
        ("vegas", Box::new(Vegas::default().seed(1))),
        ("gradient2", Box::new(Gradient2::default())),
        ("little", Box::new(LittlesLaw::target(secs(1)).unwrap())),
    ];
    for (name, algorithm) in algorithms {
        let (mut service, handle, _) = of(algorithm, |builder| builder);
        for _ in 0..200 {
            send(&mut service, Act::Take(ms(10))).await.unwrap();
        }
        assert!(handle.limit() <= 20, "{name}: {}", handle.limit());
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_drops_what_is_too_much_for_it_is_not_sent_much_more() {
    // Four at a time, and no queue.
    let room = Arc::new(Semaphore::new(4));
    let server = tower::service_fn(move |()| {
        let room = room.clone();
        async move {
            let _served = room.try_acquire_owned().map_err(|_| Error::Failed(503))?;
            sleep(ms(20)).await;
            Ok::<_, Error>(())
        }
    });
    let overload = |result: Result<&(), &Error>| match result {
        Ok(()) => Verdict::Success,
        Err(_) => Failure::overload().into(),
    };
    let layer = AdaptiveLayer::builder()
        .algorithm(Aimd::default())
        .classifier(overload);
    let layer = layer.build().unwrap();
    let service = layer.layer(server);
    load(&service, 1000.0, secs(5)).await;
    let limit = layer.handle().limit();
    assert!((3..=6).contains(&limit), "{limit}");
}

#[tokio::test(start_paused = true)]
async fn where_every_call_ends_at_the_same_timeout_the_limit_falls_to_its_least() {
    let layer = AdaptiveLayer::builder()
        .algorithm(Aimd::default())
        .build()
        .unwrap();
    let timeout = TimeoutLayer::new(ms(100)).unwrap();
    let service = (&layer, &timeout).layer(Server::new(0, ms(1)));
    load(&service, 1000.0, secs(5)).await;
    assert_eq!(layer.handle().limit(), 1);
    // And by one who gives up above it.
    let layer = AdaptiveLayer::builder()
        .algorithm(Aimd::default())
        .build()
        .unwrap();
    let service = (&timeout, &layer).layer(Server::new(0, ms(1)));
    load(&service, 1000.0, secs(5)).await;
    assert_eq!(layer.handle().limit(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_has_become_slower_for_good_is_found_to_be_so() {
    let algorithms: [(&str, Box<dyn Limit>); 2] = [
        ("vegas", Box::new(Vegas::default().seed(1))),
        ("gradient2", Box::new(Gradient2::default())),
    ];
    for (name, algorithm) in algorithms {
        let (fast, slow) = (Server::new(50, ms(1)), Server::new(50, ms(10)));
        let layer = AdaptiveLayer::builder()
            .algorithm(algorithm)
            .build()
            .unwrap();
        load(&layer.layer(fast), 2_000.0, secs(5)).await;
        // Twenty in flight, in the mean.
        load(&layer.layer(slow.clone()), 2_000.0, secs(30)).await;
        let came = load(&layer.layer(slow), 2_000.0, secs(10)).await;
        let share = f64::from(came.refused) / f64::from(came.answered + came.refused);
        assert!(share < 0.1, "{name}: {share}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_baselines_of_all_but_envoys_are_found_without_refusing_a_healthy_service_its_calls() {
    let of = |algorithm: Box<dyn Limit>| async {
        // Five of ten in use, in the mean; fifteen at most by chance.
        let (service, _) = limited(algorithm, Server::new(50, ms(10)));
        load(&service, 500.0, secs(130)).await.refused
    };
    assert_eq!(of(Box::new(Vegas::default().seed(1))).await, 0);
    assert_eq!(of(Box::<Gradient2>::default()).await, 0);
    assert_eq!(of(Box::new(LittlesLaw::target(ms(30)).unwrap())).await, 0);
    assert!(of(Box::new(EnvoyGradient::default().seed(1))).await > 50);
}

#[tokio::test(start_paused = true)]
async fn little_finds_the_limit_at_which_calls_take_as_long_as_they_are_meant_to() {
    // Ten at a time, 20 ms each: with twenty in flight they take 40 ms.
    let target = LittlesLaw::target(ms(40)).unwrap();
    let (service, handle) = limited(target, Server::new(10, ms(20)));
    load(&service, 1_000.0, secs(20)).await;
    let latency = handle.snapshot().sample.unwrap().latency.unwrap();
    assert!((18..=22).contains(&handle.limit()), "{}", handle.limit());
    assert!(latency.abs_diff(ms(40)) < ms(5), "{latency:?}");
}

#[tokio::test(start_paused = true)]
async fn bbr_finds_the_limit_without_a_queue_while_there_is_load_and_has_none_otherwise() {
    let is_loaded = Arc::new(Mutex::new(true));
    let says = is_loaded.clone();
    let algorithm = Bbr::when(move |_| *says.lock().unwrap());
    let (service, handle) = limited(algorithm, Server::new(10, ms(20)));
    load(&service, 1_000.0, secs(20)).await;
    assert!((9..=12).contains(&handle.limit()), "{}", handle.limit());
    *is_loaded.lock().unwrap() = false;
    load(&service, 100.0, secs(1)).await;
    assert_eq!(handle.limit(), 1000);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_gets_less_done_the_more_it_has_to_do_gets_more_done_with_a_guard() {
    /// Takes longer the more are in flight, out of all proportion.
    #[derive(Clone, Default)]
    struct Thrashes(Arc<()>);
    impl Service<()> for Thrashes {
        type Response = ();
        type Error = Error;
        type Future = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
            Poll::Ready(Ok(()))
        }
        fn call(&mut self, (): ()) -> Self::Future {
            let in_flight = self.0.clone();
            Box::pin(async move {
                let together = Arc::strong_count(&in_flight) as f64 / 10.0;
                sleep(Duration::from_secs_f64(0.01 * (1.0 + together.powi(2)))).await;
                Ok(())
            })
        }
    }
    /// Wants ever more.
    struct Greedy;
    impl Limit for Greedy {
        fn next(&mut self, limit: f64, _: &Sample) -> f64 {
            limit + 1.0
        }
    }
    let answered = |algorithm: Box<dyn Limit>| async {
        let layer = AdaptiveLayer::builder()
            .algorithm(algorithm)
            .build()
            .unwrap();
        let service = layer.layer(Thrashes::default());
        load(&service, 2_000.0, secs(60)).await.answered
    };
    let bare = answered(Box::new(Greedy)).await;
    let guarded = answered(Box::new(Correlated::new(Greedy))).await;
    assert!(
        f64::from(guarded) > 1.3 * f64::from(bare),
        "{guarded}, {bare}"
    );
}
