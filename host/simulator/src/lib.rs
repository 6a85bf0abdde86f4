//! A simulated Kubernetes cluster: an in-memory API server and the controllers of the VolSync /
//! Ceph CSI operation-lock incident, run as a deterministic discrete-event simulation.
//!
//! A [`Simulator`] is a `tower` service over plain HTTP types: pass it to `kube::Client::new`, or
//! [`serve`] it on loopback and inspect it with kubectl. It has a virtual clock: every request
//! advances it by a few milliseconds, [`Clock::sleep`] advances it immediately, and nothing waits
//! for the wall clock. The same requests always produce the same exchanges.
//!
//! This crate depends on none of Salve's other crates.

#![forbid(unsafe_code)]

mod actors;
mod api;
mod body;
mod clock;
mod exchange;
mod fault;
mod fields;
mod incident;
mod inner_state;
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

pub use actors::csi::Sidecar;
pub use actors::lock::Operation;
pub use actors::mover::{Failure, Mover};
pub use actors::neighbors::Neighbor;
pub use actors::provision::Refusal;
pub use body::{Body, ConnectionReset};
pub use clock::Clock;
pub use exchange::Exchange;
pub use fault::Fault;
pub use incident::{Incident, UnknownIncident};
pub use inner_state::HeldLock;
pub use remote::Remote;
pub use scenario::installation::Installation;
pub use serve::{kubeconfig, serve};
pub use simulator::{Simulator, UnknownKind};
