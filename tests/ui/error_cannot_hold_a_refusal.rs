use std::fmt::Error;

use steadfast::bulkhead::BulkheadLayer;
use tower::{Layer, Service, service_fn};

fn call<S: Service<()>>(_: S) {}

fn main() {
    let service = service_fn(|()| async { Ok::<_, Error>(()) });
    call(BulkheadLayer::new(1).layer(BulkheadLayer::new(1).layer(service)));
}
