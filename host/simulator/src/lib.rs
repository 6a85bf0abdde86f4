//! A simulated Kubernetes cluster: an in-memory API server and the controllers of the VolSync /
//! Ceph CSI operation-lock incident, run as a deterministic discrete-event simulation.
//!
//! A [`Simulator`] is a `tower` service over plain HTTP types: pass it to `kube::Client::new`, or
//! [`serve`] it on loopback and inspect it with kubectl. It has a virtual clock: every request
//! advances it by a few milliseconds, [`Clock::sleep`] advances it immediately, and nothing waits
//! for the wall clock. The same requests always produce the same exchanges.
//!
//! A cluster is built from a [`Scenario`]: a built-in one, a file, or the output of kubectl.
//!
//! Of Salve's other crates, this one depends only on the one that reads documents.

#![forbid(unsafe_code)]

mod actors;
mod api;
mod body;
mod clock;
mod exchange;
mod fault;
mod fields;
mod inner_state;
mod kind;
mod logs;
mod object;
mod random;
mod remote;
mod scenario;
mod script;
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
pub use inner_state::HeldLock;
pub use remote::Remote;
pub use salve_document::DocumentError;
pub use scenario::document::{Expect, Expected, schema};
pub use scenario::installation::Installation;
pub use scenario::{Incident, Scenario, UnknownIncident};
pub use script::matches as matches_pattern;
pub use serve::{kubeconfig, serve};
pub use simulator::{Simulator, UnknownKind};
