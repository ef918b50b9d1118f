//! A service that stays on its thread and borrows from its stack frame: no layer asks for more than its
//! pattern needs.

use std::{
    cell::Cell,
    convert::Infallible,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use http::Response;
use steadfast::{
    Error, LiftLayer, bulkhead::BulkheadLayer, http::AnswerRefusalsLayer, retry::RetryLayer,
};
use tower::{Service, ServiceBuilder, ServiceExt};

use super::{breaker, every, ms, patience};

/// Neither `Send` nor `'static`.
#[derive(Clone)]
struct Local<'a> {
    calls: &'a Cell<u32>,
    owner: Rc<str>,
}

/// Nor is what it takes.
#[derive(Clone)]
struct Question<'a>(&'a str, Rc<()>);

/// Nor what it gives.
type Answer<'a> = (Rc<str>, &'a str);

impl<'a> Service<Question<'a>> for Local<'a> {
    type Response = Answer<'a>;
    type Error = Error<Rc<str>>;
    type Future = Pin<Box<dyn Future<Output = Result<Answer<'a>, Error<Rc<str>>>> + 'a>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, Question(text, alive): Question<'a>) -> Self::Future {
        self.calls.set(self.calls.get() + 1);
        let owner = Rc::clone(&self.owner);
        Box::pin(async move {
            tokio::task::yield_now().await;
            drop(alive);
            match text {
                "?" => Err(Error::Inner(owner)),
                _ => Ok((owner, text)),
            }
        })
    }
}

#[tokio::test(start_paused = true)]
async fn each_layer_fits_a_service_that_is_neither_send_nor_static() {
    let calls = Cell::new(0);
    let text = String::from("who?");
    let service = Local {
        calls: &calls,
        owner: "me".into(),
    };
    macro_rules! check {
        ($name:literal, $layer:expr) => {
            let svc = ServiceBuilder::new().layer($layer).service(service.clone());
            let question = Question(&text, Rc::new(()));
            let (owner, echo) = svc.oneshot(question).await.unwrap();
            assert_eq!((&*owner, echo), ("me", "who?"), $name);
        };
    }
    with_each_layer!(check, retry: RetryLayer::builder().build().unwrap());
    check!("lift", LiftLayer::new());
    assert_eq!(calls.get(), 7);
}

#[tokio::test(start_paused = true)]
async fn so_does_the_whole_stack() {
    let calls = Cell::new(0);
    let service = Local {
        calls: &calls,
        owner: "me".into(),
    };
    let retry = RetryLayer::builder().backoff(every(ms(1)));
    let svc = ServiceBuilder::new()
        .layer(BulkheadLayer::new(1))
        .layer(retry.without_budget().build().unwrap())
        .layer(breaker(100).build().unwrap())
        .layer(patience())
        .service(service);
    let error = svc.oneshot(Question("?", Rc::new(()))).await.unwrap_err();
    assert_eq!(error.into_inner().unwrap(), "me".into());
    assert_eq!(calls.get(), 3);
}

#[tokio::test(start_paused = true)]
async fn refusals_are_answered_above_it_too() {
    let calls = Cell::new(0);
    let service = Local {
        calls: &calls,
        owner: "me".into(),
    };
    let svc = ServiceBuilder::new()
        .layer(AnswerRefusalsLayer::new())
        .layer(BulkheadLayer::new(0))
        .map_response(|(owner, _): Answer<'_>| Response::new(owner.to_string()))
        .service(service);
    let answer: Result<_, Rc<str>> = svc.oneshot(Question("who?", Rc::new(()))).await;
    assert_eq!(answer.unwrap().status(), 503);
    assert_eq!(calls.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_cannot_be_cloned_takes_the_layers_that_make_no_clone() {
    struct Once<'a>(&'a Cell<u32>);
    impl<'a> Service<()> for Once<'a> {
        type Response = &'a Cell<u32>;
        type Error = Infallible;
        type Future = std::future::Ready<Result<&'a Cell<u32>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, (): ()) -> Self::Future {
            self.0.set(self.0.get() + 1);
            std::future::ready(Ok(self.0))
        }
    }
    let calls = Cell::new(0);
    macro_rules! check {
        ($name:literal, $layer:expr) => {
            let svc = ServiceBuilder::new()
                .layer($layer)
                .layer(LiftLayer::new())
                .service(Once(&calls));
            assert!(std::ptr::eq(svc.oneshot(()).await.unwrap(), &calls), $name);
        };
    }
    with_each_layer!(check);
    assert_eq!(calls.get(), 3);
}
