//! A simulated Kubernetes cluster at the HTTP seam: an in-memory API server, and the parties of the VolSync / Ceph CSI
//! operation-lock incident, driven as a deterministic discrete-event simulation.
//!
//! A [`Simulator`] is a `tower` service over plain HTTP types: hand it to `kube::Client::new`, or [`serve`] it on
//! loopback and look at it with kubectl. Its time is its own: every request moves it by a few milliseconds,
//! [`Clock::sleep`] moves it at once, and nothing ever waits for a wall clock. The same requests give the same exchanges.
//!
//! It depends on none of Salve's other crates.

#![forbid(unsafe_code)]

mod actors;
mod api;
mod body;
mod clock;
mod exchange;
mod fault;
mod fields;
mod incident;
mod kind;
mod logs;
mod object;
mod random;
mod remote;
mod scenario;
mod serve;
mod service;
mod simulator;
mod store;
mod world;

pub use body::{Body, Dropped};
pub use clock::Clock;
pub use exchange::Exchange;
pub use fault::Fault;
pub use incident::{Incident, UnknownIncident};
pub use remote::Remote;
pub use serve::{kubeconfig, serve};
pub use simulator::{Simulator, UnknownKind};
