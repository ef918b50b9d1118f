//! State by key: which key a request has, and how many keys are kept.
//!
//! A keyed layer keeps a state of its own for each key, such as a host, a tenant or a route. Keys come
//! from requests and so, often, from whoever is on the network. That is why **the number of keys is
//! bounded**, by an argument that has no default, and why keys that nobody uses are forgotten. (The
//! length of a key is not: that is for whoever lets the request in.)
//!
//! **A key in use is never forgotten:** one with calls in flight or waiting. Of the others one is
//! forgotten where
//!
//! - it has not been used for the idle time and its state says nothing worth keeping: two keys are
//!   looked at whenever a new one comes, so all are in the course of about as many new keys; or
//! - a new key comes, the bound is reached, and it is the one to be missed the least: one not used since
//!   it was last looked at, and of those in turn, so that keys that come once do not displace those in
//!   regular use. Only where none will do is it one whose state is worth keeping, such as an open
//!   breaker's, and of those the one not used the longest. At most 64 keys are looked at, so the cost of
//!   a new key does not grow with the number of keys.
//!
//! Where all keys looked at are in use, a new one finds no room; what becomes of its calls is for the
//! layer to say.
//!
//! **Cost.** A call of a known key looks it up, and counts itself in and out on a line of memory that
//! only calls of the same key write. It takes no lock, allocates nothing and reads no clock. A call of a
//! new key allocates its state and takes a lock that only new keys, and handles, take. Keys are hashed
//! by SipHash with a seed of the process, so that nobody can choose keys that collide.
//!
//! # Example
//!
//! ```
//! use steadfast::keyed::{Key, by_ref};
//!
//! struct Request { tenant: u32, host: String }
//! let request = Request { tenant: 7, host: "example.com".to_owned() };
//!
//! /// What a layer does.
//! fn key_of<F: Key<Request>>(key: F, request: &Request) -> F::Owned {
//!     key.with_key(request, |key| key.to_owned())
//! }
//!
//! // By value, where the key is cheap to make.
//! assert_eq!(key_of(|request: &Request| request.tenant, &request), 7);
//! // By reference, where it is not: a call of a known key then makes no `String`.
//! assert_eq!(key_of(by_ref(|request: &Request| request.host.as_str()), &request), "example.com");
//! ```

mod key;
mod map;
mod metrics;
#[cfg(all(test, not(steadfast_loom)))]
mod tests;

pub use key::{ByRef, Key, by_ref};
pub(crate) use map::{Entered, Held, KeyedMap, Rest, Room};
pub(crate) use metrics::KeyMetrics;
