//! What a service says about when to come back, and what becomes of the backoff.

use steadfast::{
    backoff::{Backoff, Jitter},
    classify::{Failure, Hint},
};

use super::{never_sent::try_again, plain};
use crate::support::{ms, secs};

#[tokio::test(start_paused = true)]
async fn the_backoff_starts_afresh_after_a_hint() {
    let doubling = || Backoff::exponential(ms(100), secs(60)).unwrap();
    let failed = Failure::transient();
    let hinted = Failure::overload().with_hint(Hint::After(ms(7)));
    let failures = [failed, failed, failed, hinted, failed, failed];

    let steady = plain()
        .max_attempts(9)
        .backoff(doubling().with_jitter(Jitter::None));
    let (seen, _) = try_again(steady, failures).await;
    assert_eq!(seen.delays(), [100, 200, 400, 7, 100, 200]);

    // A decorrelated delay is at most three times the one before it.
    for seed in 0..100 {
        let wild = doubling().with_jitter(Jitter::Decorrelated);
        let wild = plain().max_attempts(9).backoff(wild).seed(seed);
        let (seen, _) = try_again(wild, failures).await;
        assert!(seen.delays()[4] <= 300, "{:?}", seen.delays());
    }
}

#[tokio::test(start_paused = true)]
async fn jitter_does_not_touch_a_hint() {
    let hinted = Failure::overload().with_hint(Hint::After(ms(1234)));
    for jitter in [Jitter::Full, Jitter::Equal, Jitter::Decorrelated] {
        for seed in 0..20 {
            let backoff = Backoff::exponential(ms(100), secs(60)).unwrap();
            let retry = plain().backoff(backoff.with_jitter(jitter)).seed(seed);
            let (seen, _) = try_again(retry, [hinted, hinted]).await;
            assert_eq!(seen.delays(), [1234, 1234], "{jitter:?}");
        }
    }
}
