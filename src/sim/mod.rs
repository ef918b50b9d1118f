//! Simulations on a paused clock: load, a network and a service that can break, to find out what a stack of
//! layers does before it has to.
//!
//! [`run`] runs a simulation: an `async` block on one thread, whose clock leaps from one thing to do to the
//! next. Within it are
//!
//! - a [`Server`]: workers, a queue, service times from a distribution; it slows down, fails and stalls;
//! - a [`Link`]: a network, with delays, that can be cut and mended;
//! - a [`Load`], or a number of [`Clients`], that sends calls and gives a [`Report`] of them;
//! - the layers under test, between them; and whatever else runs on tokio.
//!
//! [`at`] a point in time something breaks.
//!
//! # The same again
//!
//! A run is the same every time, call by call, on any machine of 64 bits. For that, all that is random in it comes from
//! its seed: [`random`], what this module draws, and **every layer of this crate that is built within the
//! run** and is given no seed of its own. Each kind of these is apart from the others: the same load comes,
//! call by call, to a stack that has a layer more. The clock on the wall, which dates in headers and cohorts of users go
//! by, begins at the Unix epoch. The same goes for order: timers that are due at once fire in one
//! order, and tasks run in the order in which they were woken. To keep it so, a simulation does without
//!
//! - `tokio::select!` that is not `biased`, and `tokio::sync::watch`: both roll dice of their own;
//! - a `HashMap` whose order shows: std seeds it anew in each process;
//! - other threads, and the real clock.
//!
//! # The clock has a grain
//!
//! Tokio's timers are good to a millisecond, rounded up. What is shorter takes one. A simulation in which
//! that matters is made slower: nothing is lost if a second of it stands for a millisecond, as long as it
//! does everywhere.
//!
//! # Example
//!
//! A breaker, and a server that stands still for ten seconds.
//!
//! ```
//! use std::time::Duration;
//! use steadfast::{
//!     circuit_breaker::CircuitBreakerLayer,
//!     sim::{self, Load, Server, Times},
//!     timeout::TimeoutLayer,
//! };
//! use tower::ServiceBuilder;
//!
//! let (ms, secs) = (Duration::from_millis, Duration::from_secs);
//! let simulate = || {
//!     sim::run(42, async {
//!         // Four workers at 10 ms each: 400 calls a second.
//!         let server = Server::new(4, Times::exponential(ms(10)));
//!         let stack = ServiceBuilder::new()
//!             .layer(CircuitBreakerLayer::builder().consecutive_failures(10).build().unwrap())
//!             .layer(TimeoutLayer::new(ms(500)).unwrap())
//!             .service(server.clone());
//!
//!         let broken = server.clone();
//!         sim::at(secs(10), move || broken.set_speed(0.0));
//!         let mended = server.clone();
//!         sim::at(secs(20), move || mended.set_speed(1.0));
//!
//!         let load = Load::poisson().rate(200.0, secs(60)).good_within(ms(200));
//!         (load.send(stack, |_| ()).await, server.work())
//!     })
//! };
//! let (report, work) = simulate();
//!
//! assert!(report.during(secs(0)..secs(10)).good_share() > 0.99);
//! assert_eq!(report.during(secs(11)..secs(20)).good(), 0);
//! assert!(report.during(secs(35)..secs(60)).good_share() > 0.99);
//! // The breaker kept off the server nearly all of what came while it stood still.
//! assert!(work.wasted < 200);
//!
//! println!("{}", report.table(&[("before", secs(0)..secs(10)), ("after", secs(35)..secs(60))]));
//! assert_eq!(simulate(), (report, work));
//! ```

pub mod laws;
mod link;
mod load;
mod maths;
mod outcome;
mod random;
mod report;
mod run;
mod server;
mod work;
mod workers;
#[cfg(test)]
mod workers_tests;

pub use link::{Link, Linked, LinkedFuture};
pub use load::{Arrival, Clients, Load};
pub use outcome::{Call, Outcome};
pub use random::{Random, Times};
pub use report::{Part, Report};
pub use run::{at, elapsed, random, run};
pub use server::{Answer, Fault, Server, ServerFuture};
pub use work::Work;
